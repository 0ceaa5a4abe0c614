"""
A Debian of its own, with systemd as its first process, in namespaces of this machine.

Made by debootstrap from the mirror of the machine's own apt sources. It sees the
machine's loopback (where a test's servers are), its own processes, mounts and
control groups, and can change neither /proc/sys nor /sys. It is ended by its
first process, and with that all of it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.kernel.debian import _mirror, cache

INCLUDED = 'systemd-sysv,dbus,sudo,ca-certificates'
NODES = 'null:3 zero:5 full:7 random:8 urandom:9'
START = r"""
set -e
root=$1
echo $$ >"$2/cgroup.procs"
exec unshare --mount --pid --fork --uts --ipc --cgroup sh -ec '
root=$1
mount --make-rprivate /
mount --bind $root $root
mount -t proc proc $root/proc
mount --bind $root/proc/sys $root/proc/sys
mount -o remount,bind,ro $root/proc/sys
mount -t sysfs -o ro sysfs $root/sys
mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
mount -t tmpfs -o mode=755,nosuid tmpfs $root/dev
for node in $2; do mknod -m 666 $root/dev/${node%:*} c 1 ${node#*:}; done
mknod -m 666 $root/dev/tty c 5 0
mkdir $root/dev/pts $root/dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts $root/dev/pts
ln -s pts/ptmx $root/dev/ptmx
ln -s /proc/self/fd $root/dev/fd
mount -t tmpfs tmpfs $root/dev/shm
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs $root/run
mount -t tmpfs tmpfs $root/tmp
cd $root
mkdir -p .old
pivot_root . .old
umount -l /.old
mount --make-rshared /
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system \
	--log-target=null --show-status=0 systemd.unit=multi-user.target
' sh "$root" "$3"
"""
# What has no place in it: consoles, devices, the machine's clock and settings, jobs by the clock.
MASKED = (
    'console-getty.service', 'getty@tty1.service', 'systemd-logind.service',
    'systemd-udevd.service', 'systemd-timesyncd.service', 'systemd-sysctl.service',
    'apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'e2scrub_all.timer',
    'fstrim.timer', 'sys-kernel-debug.mount', 'sys-kernel-tracing.mount', 'dev-hugepages.mount',
)  # fmt: skip


def unavailable() -> str | None:
    """Say why there can be none here; None where it can."""
    if os.geteuid() != 0:
        return 'a container needs root'
    missing = [one for one in ('debootstrap', 'unshare', 'nsenter') if shutil.which(one) is None]
    if missing:
        return f'not installed: {", ".join(missing)}'
    return None if _groups() is not None else 'no control groups (v2)'


def _groups() -> Path | None:
    for line in Path('/proc/mounts').read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == 'cgroup2':
            return Path(where)
    return None


def debian(folder: Path) -> None:
    """Make a Debian of this machine's release in `folder`; its packages are kept in the cache."""
    release = Path('/etc/os-release').read_text()
    suite = next(
        line.partition('=')[2] for line in release.splitlines() if 'VERSION_CODENAME=' in line
    )
    kept = cache() / f'debootstrap-{suite}'
    kept.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ['debootstrap', '--variant=minbase', f'--include={INCLUDED}', f'--cache-dir={kept}',
         suite, str(folder), _mirror()],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    for name in MASKED:
        (folder / 'etc/systemd/system' / name).symlink_to('/dev/null')


class Container:
    """One that has come up."""

    def __init__(self, root: Path, pid: int) -> None:
        self.root = root
        self.pid = pid

    def run(self, command: str, *, check: bool = True) -> str:
        """Run a command in it, as root; what it printed on both."""
        done = subprocess.run(
            ['nsenter', '-t', str(self.pid), '-m', '-p', '-u', '-i', '-C', '-r', '-w',
             'env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/root', 'LC_ALL=C.UTF-8',
             'DEBIAN_FRONTEND=noninteractive', 'sh', '-c', command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f'{command}: {done.stdout}'
        return done.stdout

    def wait_for(self, command: str, expected: str, seconds: float = 600) -> str:
        """Run a command until it prints what is expected."""
        end = time.monotonic() + seconds
        while expected not in (said := self.run(command, check=False)):
            assert time.monotonic() < end, f'{command}: {said}'
            time.sleep(1)  # waiting for other processes, not for time to pass
        return said


@contextlib.contextmanager
def booted(root: Path) -> Iterator[Container]:
    """Boot what is in `root`, for as long as the context lasts."""
    groups = _groups()
    assert groups is not None
    group = groups / f'vma-bot-test-{os.getpid()}'
    group.mkdir()
    starter = subprocess.Popen(
        ['sh', '-c', START, 'sh', str(root), str(group), NODES],
        stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        container = Container(root, _first(starter.pid))
        container.wait_for('systemctl is-system-running', 'running', 120)
        yield container
    finally:
        with contextlib.suppress(OSError, AssertionError):
            os.kill(_first(starter.pid), signal.SIGKILL)  # the rest of its namespace goes with it
        starter.wait(60)
        for folder in sorted(group.rglob('*'), reverse=True):
            if folder.is_dir():
                folder.rmdir()
        group.rmdir()


def _first(starter: int) -> int:
    """The pid of its first process, on this machine: the child of the one that unshared."""
    end = time.monotonic() + 60
    children = Path(f'/proc/{starter}/task/{starter}/children')
    while not (found := children.read_text().split()):
        assert time.monotonic() < end, 'it did not start'
        time.sleep(0.05)  # waiting for another process, not for time to pass
    return int(found[0])
