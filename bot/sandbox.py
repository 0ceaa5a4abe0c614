"""
The cage: running a stranger's Makefile without harm.

Answers: what a few shell commands print and how they end, over files that are
handed in, with no network, no capabilities, no home, and limits on time,
memory, processes, disk and output. Nothing of it is left behind: the files
live in a tmpfs of the cage, and its processes die with it. Without bubblewrap
there is no cage (`SandboxError`), never a build outside of one unless the
local user asks for that (`Cage(open_=True)`).
"""

import contextlib
import fcntl
import io
import os
import selectors
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bot.diagnose import ROOT
from bot.errors import SandboxError
from bot.model import Limits
from bot.scratch import scratch

PATH = '/usr/bin:/bin'
ENVIRONMENT = {'PATH': PATH, 'LC_ALL': 'C', 'HOME': ROOT.rstrip('/'), 'TMPDIR': '/tmp'}
WATCH_EVERY = 0.1  # seconds
GRACE = 1.0  # seconds for pipes to run dry
INSTALL = 'apt install bubblewrap, or --no-sandbox for code that you trust'

File = tuple[str, int, bytes]
"""Path, git mode, bytes (a symlink's target)."""


@dataclass(frozen=True)
class Phase:
    """One command of a run, and how it went. `status` is None where it did not end."""

    name: str
    status: int | None
    output: str


@dataclass(frozen=True)
class Ran:
    """A run: its phases as far as they got, the limit that ended it, wall seconds."""

    phases: tuple[Phase, ...]
    limit: str | None
    seconds: float
    complaint: str = ''


class Cage:
    """Runs commands in bubblewrap, or, `open_`, in a temporary folder without it."""

    def __init__(self, limits: Limits, *, open_: bool = False) -> None:
        self.limits = limits
        self.open = open_
        if not open_:
            _probe()

    @property
    def version(self) -> str:
        """What keeps the code in: part of a result's key."""
        return 'none' if self.open else _probe()

    def run(self, files: Iterable[File], folder: str, commands: Sequence[tuple[str, str]]) -> Ran:
        """
        Lay out `files`, and run `commands` ((name, shell text), …) in `folder`.

        A command that fails ends the run; its output and status are there all
        the same. What fails on our side is `Ran.complaint`.
        """
        archive = _archive(files)
        if not self.open:
            argv = [*self._bwrap(), _script(ROOT, folder, commands, self.limits)]
            return _Running(argv, {}, archive, commands, self.limits).finish()
        with scratch() as root:
            argv = ['/bin/sh', '-c', _script(f'{root}/', folder, commands, self.limits)]
            environment = {**ENVIRONMENT, 'HOME': str(root)}
            return _Running(argv, environment, archive, commands, self.limits).finish()

    def _bwrap(self) -> list[str]:
        size = str(self.limits.disk)
        words = [*_walls(), '--size', size, '--tmpfs', ROOT.rstrip('/')]
        words += ['--size', size, '--tmpfs', '/tmp', '--chdir', ROOT, '--clearenv']
        for name, value in ENVIRONMENT.items():
            words += ['--setenv', name, value]
        return [*words, '/bin/sh', '-c']


def _walls() -> list[str]:
    """What every cage has: nothing of the machine but its programs, read only."""
    words = ['bwrap', '--unshare-all', '--unshare-user', '--disable-userns', '--die-with-parent']
    words += ['--new-session', '--cap-drop', 'ALL', '--uid', '65534', '--gid', '65534']
    words += ['--hostname', 'cage', '--dev', '/dev', '--proc', '/proc', '--ro-bind', '/usr', '/usr']
    for name in ('/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32'):
        path = Path(name)
        if path.is_symlink():
            words += ['--symlink', str(path.readlink()), name]
        elif path.exists():
            words += ['--ro-bind', name, name]
    for name in ('/etc/alternatives', '/etc/ld.so.cache'):
        if Path(name).exists():
            words += ['--ro-bind', name, name]
    return words


@cache
def _probe() -> str:
    """Return bubblewrap's version; `SandboxError` where it is missing or does not work."""
    if shutil.which('bwrap') is None:
        raise SandboxError(f'bubblewrap is not installed: {INSTALL}')
    tried = subprocess.run([*_walls(), '/bin/true'], capture_output=True, check=False, timeout=30)
    if tried.returncode:
        said = tried.stderr.decode('utf-8', 'replace').strip().splitlines()
        reason = said[-1] if said else f'status {tried.returncode}'
        raise SandboxError(f'bubblewrap does not work here ({reason}): see docs/harness.md')
    version = subprocess.run(['bwrap', '--version'], capture_output=True, check=True)
    return version.stdout.decode().strip()


def _archive(files: Iterable[File]) -> bytes:
    buffer = io.BytesIO()
    # GNU format: a path of any length, and no time or owner of ours in it.
    with tarfile.open(fileobj=buffer, mode='w', format=tarfile.GNU_FORMAT) as tar:
        for path, mode, content in files:
            info = tarfile.TarInfo(path)
            if mode == 0o120000:
                info.type = tarfile.SYMTYPE
                info.linkname = content.decode('utf-8', 'surrogateescape')
                tar.addfile(info)
            else:
                info.mode = mode & 0o777
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _script(where: str, folder: str, commands: Sequence[tuple[str, str]], limits: Limits) -> str:
    """
    Fd 3 takes the statuses, fd 4 and on each command's output.

    A command gets neither the status pipe nor another's output pipe. The
    limits are belts; the watcher outside is the braces.
    """
    lines = [
        'ulimit -c 0',
        f'ulimit -f {max(limits.disk // 512, 1)} 2>/dev/null',
        f'ulimit -t {max(int(limits.time), 1)} 2>/dev/null',
        f"tar -xf - --no-same-owner -C '{where}' || exit 120",
        'exec </dev/null',
        f"cd '{where}{_quoted(folder)}' || exit 121",
    ]
    for number, (name, command) in enumerate(commands):
        mine = 4 + number
        closed = ' '.join(f'{fd}>&-' for fd in range(3, 4 + len(commands)))
        lines.append(f'( {command}\n) >&{mine} 2>&1 {closed}')
        lines.append(f'status=$?; echo "{name} $status" >&3; [ $status = 0 ] || exit 0')
    return '\n'.join(lines)


def _quoted(text: str) -> str:
    return text.replace("'", "'\\''")


class _Running:
    """One run: feeds the archive, reads the pipes, watches the limits."""

    def __init__(
        self,
        argv: list[str],
        environment: dict[str, str],
        archive: bytes,
        commands: Sequence[tuple[str, str]],
        limits: Limits,
    ) -> None:
        self.commands = commands
        self.limits = limits
        self.started = time.monotonic()
        pipes = [os.pipe() for _ in range(3 + len(commands))]
        # stdin, stderr, the statuses (fd 3), and an output for each command (fd 4, …).
        (from_us, self.stdin), (self.stderr, stderr), *others = pipes
        self.readers = [reader for reader, _ in others]
        self.pid = _spawn(argv, environment, [from_us, -1, stderr, *(w for _, w in others)])
        for fd in (from_us, stderr, *(writer for _, writer in others)):
            os.close(fd)
        self.archive = archive
        self.limit: str | None = None
        self.alive = self.started
        self.ended = False

    def finish(self) -> Ran:
        feeder = threading.Thread(target=self._feed, daemon=True)
        feeder.start()
        buffers = {fd: bytearray() for fd in (*self.readers, self.stderr)}
        try:
            self._read(buffers)
        finally:
            self.kill()
            feeder.join()
            for fd in (*self.readers, self.stderr):
                os.close(fd)
        statuses = dict(
            line.rsplit(' ', 1)
            for line in buffers[self.readers[0]].decode('ascii', 'replace').splitlines()
            if ' ' in line
        )
        phases = []
        for (name, _), fd in zip(self.commands, self.readers[1:], strict=True):
            status = int(statuses[name]) if statuses.get(name, '').isdigit() else None
            output = bytes(buffers[fd]).decode('utf-8', 'replace')
            if status is not None or output:
                phases.append(Phase(name, status, output))
        complaint = bytes(buffers[self.stderr]).decode('utf-8', 'replace').strip()
        return Ran(tuple(phases), self.limit, time.monotonic() - self.started, complaint)

    def _feed(self) -> None:
        with contextlib.suppress(OSError), os.fdopen(self.stdin, 'wb') as pipe:
            pipe.write(self.archive)

    def _read(self, buffers: dict[int, bytearray]) -> None:
        total = 0
        with selectors.DefaultSelector() as selector:
            for fd in buffers:
                selector.register(fd, selectors.EVENT_READ)
            watched = self.started
            while selector.get_map():
                for key, _ in selector.select(timeout=WATCH_EVERY):
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fd)
                    buffers[key.fd] += data
                    total += len(data)
                now = time.monotonic()
                if total > self.limits.output:
                    self.limit = f'{self.limits.output} bytes of output'
                elif now - self.started > self.limits.time:
                    self.limit = f'{self.limits.time:g} s of time'
                elif now - watched > WATCH_EVERY:
                    watched = now
                    self._watch()
                if self.limit is not None or self._over(now):
                    return

    def _over(self, now: float) -> bool:
        """Whether the command ended, and only something that it left behind holds the pipes."""
        if not self.ended and os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            self.alive = now
        else:
            self.ended = True
        return now - self.alive > GRACE

    def _watch(self) -> None:
        count = memory = 0
        for pid in _descendants(self.pid):
            count += 1
            memory += _resident(pid)
        if memory > self.limits.memory:
            self.limit = f'{self.limits.memory >> 20} MB of memory'
        elif count > self.limits.processes:
            self.limit = f'{self.limits.processes} processes'

    def kill(self) -> None:
        """End all of it: in the cage the namespace's first process takes the rest along."""
        if not self.ended:
            for pid in _descendants(self.pid):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.ended = True
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)


def _spawn(argv: list[str], environment: dict[str, str], fds: list[int]) -> int:
    """Start a session with `fds` as 0, 1, 2, … (-1: /dev/null) and no other; its pid."""
    actions: list[tuple[int, int, int]] = []
    nowhere = os.open(os.devnull, os.O_RDWR)
    moved = [fcntl.fcntl(fd if fd >= 0 else nowhere, fcntl.F_DUPFD_CLOEXEC, 64) for fd in fds]
    try:
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(moved)]
        return os.posix_spawnp(
            argv[0], argv, {'PATH': PATH, **environment}, file_actions=actions, setsid=True
        )
    finally:
        for fd in (*moved, nowhere):
            os.close(fd)


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError, ValueError):
            for task in Path(f'/proc/{parent}/task').iterdir():
                found += [int(child) for child in (task / 'children').read_text().split()]
    return found[1:] + found[:1]


def _resident(pid: int) -> int:
    """Return a process's resident bytes; shared pages count for each."""
    try:
        return int(Path(f'/proc/{pid}/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except (OSError, ValueError, IndexError):
        return 0
