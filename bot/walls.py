"""
What keeps a stranger's code in: bubblewrap's words, and what stands before them.

Answers with which words to start a cage, and whether one works here
(`SandboxError` where not). Which system calls it may make is `seccomp.py`'s,
running something in it `sandbox.py`'s.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bot import seccomp
from bot.errors import SandboxError

INSTALL = 'apt install bubblewrap, or --no-sandbox for code that you trust'
FORMAT = 3
"""Of these walls: part of what a result is known by."""

# A session keyring of its own, then no descriptor from `from` on: nothing that the bot was
# started with, or has open. Kernels and containers without keyctl have nothing to leave.
CUT_OFF = """
my ($keyctl, $close_range, $from) = map { $_ + 0 } splice @ARGV, 0, 3;
syscall($keyctl, 1, 0) >= 0 or $! == 38 or $! == 1 or die "no session keyring of its own: $!\n";
syscall($close_range, $from, 4294967295, 0) == 0 or die "descriptors cannot be closed: $!\n";
exec { $ARGV[0] } @ARGV or die "$ARGV[0]: $!\n";
"""
# In root's cage the nodes of /dev are root's own: their modes could be changed.
ROOTS_DEVICES = (
    *('unshare', '--mount', '--propagation', 'private', '/bin/sh', '-c'),
    'mount --bind /dev /dev && mount -o remount,bind,ro /dev && exec "$@"',
    'sh',
)
SHOWN = """
buddyinfo cgroups config.gz consoles cpuinfo crypto devices diskstats dma execdomains fb
filesystems iomem ioports loadavg meminfo misc mounts mtrr net partitions pressure schedstat
self softirqs stat sysvipc thread-self tty uptime vmstat zoneinfo
"""
"""
What of /proc is shown, beside the processes: what builds read, and what says nothing of a machine
but how it is made. (Each cover costs a quarter of a millisecond.)
"""
LOCAL = ('include', 'lib', 'lib64')
"""What of /usr/local is shown: the rest is what an administrator put there for himself."""


@dataclass(frozen=True)
class Bind:
    """A folder of the machine, and where it stands in the cage."""

    host: Path
    cage: str
    writable: bool = False


def words(
    disk: int,
    room: str,
    binds: Sequence[Bind],
    environment: Mapping[str, str],
    calls: int,
) -> list[str]:
    """
    Return the words that stand before a command to run it in a cage.

    It starts in `room`, a file system of `disk` bytes, as are /tmp and
    /dev/shm; all else is read only. `calls` is the descriptor that the filter
    of system calls can be read from; it is the last that is passed on.
    """
    size = ['--size', str(disk), '--tmpfs']
    said = [*_walls(calls), *size, room, *size, '/tmp', *size, '/dev/shm', '--remount-ro', '/dev']
    for bind in binds:
        said += ['--bind' if bind.writable else '--ro-bind', str(bind.host), bind.cage]
    said += ['--remount-ro', '/', '--chdir', room, '--clearenv']
    for name, value in environment.items():
        said += ['--setenv', name, value]
    return said


@cache
def probe() -> str:
    """Return what the cage is made of; `SandboxError` where it is missing or does not work."""
    for program, package in (('bwrap', INSTALL), ('perl', 'apt install perl-base')):
        if shutil.which(program) is None:
            called = 'bubblewrap' if program == 'bwrap' else program
            raise SandboxError(f'{called} is not installed: {package}')
    with tempfile.TemporaryFile() as file:
        file.write(seccomp.program())
        file.seek(0)
        number = file.fileno()
        tried = subprocess.run(
            [*_walls(number), '/bin/true'],
            capture_output=True,
            check=False,
            timeout=30,
            pass_fds=[number],
        )
    if tried.returncode:
        said = tried.stderr.decode('utf-8', 'replace').strip().splitlines()
        reason = said[-1] if said else f'status {tried.returncode}'
        raise SandboxError(f'bubblewrap does not work here ({reason}): see docs/harness.md')
    version = subprocess.run(['bwrap', '--version'], capture_output=True, check=True)
    calls = hashlib.sha256(seccomp.program()).hexdigest()[:8]
    return f'{version.stdout.decode().strip()}, walls {FORMAT}, calls {calls}'


def _walls(calls: int) -> list[str]:
    """What every cage has: nothing of the machine but its programs, read only."""
    said = ['perl', '-e', CUT_OFF, str(seccomp.number('keyctl'))]
    said += [str(seccomp.number('close_range')), str(calls + 1)]
    if os.geteuid() == 0:
        said += ROOTS_DEVICES
    said += ['bwrap', '--unshare-all', '--unshare-user', '--disable-userns', '--die-with-parent']
    said += ['--new-session', '--cap-drop', 'ALL', '--uid', '65534', '--gid', '65534']
    # The first process in there is the command's shell: bubblewrap's own memory and words, which
    # hold paths of the machine, stay outside.
    said += ['--as-pid-1', '--seccomp', str(calls), '--hostname', 'sandbox']
    # Root's settings in /proc/sys belong to root, who in its cage is that user too.
    said += ['--proc', '/proc', *_hidden(), '--remount-ro', '/proc']
    # No build needs a terminal.
    said += ['--dev', '/dev', '--tmpfs', '/dev/pts', '--remount-ro', '/dev/pts']
    said += ['--ro-bind', '/usr', '/usr']
    if Path('/usr/local').is_dir():
        said += ['--tmpfs', '/usr/local']
        for name in LOCAL:
            said += ['--ro-bind-try', f'/usr/local/{name}', f'/usr/local/{name}']
        said += ['--remount-ro', '/usr/local']
    for name in ('/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32'):
        path = Path(name)
        if path.is_symlink():
            said += ['--symlink', str(path.readlink()), name]
        elif path.exists():
            said += ['--ro-bind', name, name]
    for name in ('/etc/alternatives', '/etc/ld.so.cache'):
        if Path(name).exists():
            said += ['--ro-bind', name, name]
    return said


def _hidden() -> list[str]:
    """Cover what /proc has beside the processes: a folder with none, a file with a closed one."""
    said, shown = [], SHOWN.split()
    with os.scandir('/proc') as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.name.isdigit() or entry.name in shown:
                continue
            if entry.is_dir(follow_symlinks=False):
                said += ['--tmpfs', entry.path, '--remount-ro', entry.path]
            else:
                said += ['--ro-bind', '/dev/null', entry.path]
    return said
