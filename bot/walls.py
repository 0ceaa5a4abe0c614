"""
What keeps a stranger's code in: bubblewrap's words, and the calls that are refused.

Answers with which words to start a cage, and whether one works here
(`SandboxError` where not). Running something in it is `sandbox.py`'s.
"""

import os
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bot.errors import SandboxError

INSTALL = 'apt install bubblewrap, or --no-sandbox for code that you trust'
FORMAT = 2
"""Of these walls: part of what a result is known by."""

# In root's cage the nodes of /dev are root's own: their modes could be changed.
ROOTS_DEVICES = (
    *('unshare', '--mount', '--propagation', 'private', '/bin/sh', '-c'),
    'mount --bind /dev /dev && mount -o remount,bind,ro /dev && exec "$@"',
    'sh',
)
# (architecture, memfd_create, memfd_secret, shmget) as the kernel numbers them.
CALLS = {
    'x86_64': (0xC000003E, 319, 447, 29),
    'aarch64': (0xC00000B7, 279, 447, 194),
}
X32 = 0x40000000
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # of classic BPF
ALLOW, REFUSE = 0x7FFF0000, 0x00050001  # the latter with EPERM
NUMBER, ARCHITECTURE = 0, 4  # offsets in struct seccomp_data


@dataclass(frozen=True)
class Bind:
    """A folder of the machine, and where it stands in the cage."""

    host: Path
    cage: str
    writable: bool = False


def words(
    disk: int, room: str, binds: Sequence[Bind], environment: Mapping[str, str], refusals: int
) -> list[str]:
    """
    Return the words that stand before a command to run it in a cage.

    It starts in `room`, a file system of `disk` bytes, as are /tmp and
    /dev/shm; all else is read only. `refusals` is the descriptor that
    `refused()` can be read from.
    """
    size = ['--size', str(disk), '--tmpfs']
    said = [*_walls(), *size, room, *size, '/tmp', *size, '/dev/shm', '--remount-ro', '/dev']
    for bind in binds:
        said += ['--bind' if bind.writable else '--ro-bind', str(bind.host), bind.cage]
    said += ['--remount-ro', '/', '--chdir', room, '--clearenv']
    for name, value in environment.items():
        said += ['--setenv', name, value]
    if refused():
        said += ['--seccomp', str(refusals)]
    return said


@cache
def probe() -> str:
    """Return what the cage is made of; `SandboxError` where it is missing or does not work."""
    if shutil.which('bwrap') is None:
        raise SandboxError(f'bubblewrap is not installed: {INSTALL}')
    tried = subprocess.run([*_walls(), '/bin/true'], capture_output=True, check=False, timeout=30)
    if tried.returncode:
        said = tried.stderr.decode('utf-8', 'replace').strip().splitlines()
        reason = said[-1] if said else f'status {tried.returncode}'
        raise SandboxError(f'bubblewrap does not work here ({reason}): see docs/harness.md')
    version = subprocess.run(['bwrap', '--version'], capture_output=True, check=True)
    return f'{version.stdout.decode().strip()}, walls {FORMAT}'


@cache
def refused() -> bytes:
    """
    Return the filter (seccomp, classic BPF) of calls that the cage refuses.

    Memory that no process shows would escape the watcher: memfd_create,
    memfd_secret, shmget. Calls of another architecture are refused with them.
    Empty on machines whose numbers are not known.
    """
    known = CALLS.get(os.uname().machine)
    if known is None:
        return b''
    architecture, *calls = known
    last = len(calls) + 3  # instructions between the first test and the refusal
    code = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 0, last, architecture),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, last - 2, 0, X32),
        *((EQUAL, len(calls) - n, 0, call) for n, call in enumerate(calls)),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
    return b''.join(struct.pack('<HBBI', *one) for one in code)


def _walls() -> list[str]:
    """What every cage has: nothing of the machine but its programs, read only."""
    said = list(ROOTS_DEVICES) if os.geteuid() == 0 else []
    said += ['bwrap', '--unshare-all', '--unshare-user', '--disable-userns', '--die-with-parent']
    said += ['--new-session', '--cap-drop', 'ALL', '--uid', '65534', '--gid', '65534']
    # Root's settings in /proc/sys belong to root, who in its cage is that user too.
    said += ['--hostname', 'cage', '--dev', '/dev', '--proc', '/proc', '--remount-ro', '/proc']
    said += ['--ro-bind', '/usr', '/usr']
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
