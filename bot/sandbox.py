"""
The cage: running a stranger's Makefile without harm.

Answers: what a few shell commands print and how they end, over files that are
handed in, with no network, no capabilities, no home, and limits on time,
memory, processes, disk and output. Nothing of it is left behind: the files
live in a tmpfs of the cage, and its processes die with it. Without bubblewrap
there is no cage (`SandboxError`), never a build outside of one unless the
local user asks for that (`Cage(open_=True)`).

Limits on time and output are held here, all others by `limits.py`: by the
kernel where that can, otherwise by looking every tenth of a second.
"""

import contextlib
import fcntl
import io
import os
import random
import re
import selectors
import signal
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bot.diagnose import ROOT
from bot.limits import PLACES, Watch, descendants, each
from bot.model import Limits
from bot.scratch import scratch
from bot.seccomp import program
from bot.walls import Bind, probe
from bot.walls import words as walls

PATH = '/usr/bin:/bin'
ENVIRONMENT = {'PATH': PATH, 'LC_ALL': 'C', 'HOME': ROOT.rstrip('/'), 'TMPDIR': '/tmp'}
WATCH_EVERY = 0.1  # seconds
STATUS = re.compile(r'[0-9]{1,3}')
SIGN = 10.0  # seconds between signs of life
GRACE = 1.0  # seconds for pipes to run dry

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
    """
    A run: its phases as far as they got, the limit that ended it, wall seconds.

    `lack` says what our own side ran short of, where that ended it.
    """

    phases: tuple[Phase, ...]
    limit: str | None
    seconds: float
    complaint: str = ''
    lack: str | None = None

    @property
    def stopped(self) -> str | None:
        """What ended it before its commands did, whoever's fault; None for nothing."""
        return self.limit or self.lack


class Cage:
    """Runs commands in bubblewrap, or, `open_`, in a temporary folder without it."""

    def __init__(self, limits: Limits, *, open_: bool = False) -> None:
        self.limits = limits
        self.open = open_
        self._going: set[_Running] = set()
        if not open_:
            probe()

    @property
    def version(self) -> str:
        """What keeps the code in: part of a result's key."""
        return 'none' if self.open else probe()

    def run(
        self,
        files: Iterable[File],
        folder: str,
        commands: Sequence[tuple[str, str]],
        *,
        binds: Sequence[Bind] = (),
        environment: Mapping[str, str] = {},
        seconds: float | None = None,
        going: Callable[[], None] = lambda: None,
    ) -> Ran:
        """
        Lay out `files`, and run `commands` ((name, shell text), …) in `folder`.

        A command that fails ends the run; its output and status are there all
        the same. What fails on our side is `Ran.complaint`. An open cage has
        no `binds`. `seconds` are fewer than the limits allow. `going` is
        called while it runs, every `SIGN` seconds.
        """
        limits = self.limits
        if seconds is not None:
            limits = replace(limits, time=min(seconds, limits.time))
        around = {**ENVIRONMENT, **environment}
        if not self.open:
            script = _script(ROOT, folder, commands, limits)
            calls = 4 + len(commands)
            words = walls(self.limits.disk, ROOT.rstrip('/'), binds, around, calls)
            argv = [*words, '/bin/sh', '-c', script]
            # What is bound from outside is as full as its disk: not what this run has used.
            bound = {bind.cage.strip('/') for bind in binds}
            own = [place for place in PLACES if place not in bound]
            return self._run(_Running(argv, {}, files, commands, limits, going, own, program()))
        with scratch() as root:
            argv = ['/bin/sh', '-c', _script(f'{root}/', folder, commands, limits)]
            around['HOME'] = str(root)
            return self._run(_Running(argv, around, files, commands, limits, going))

    def stop(self) -> None:
        """End all that runs now, in whatever thread."""
        for running in tuple(self._going):
            running.limit = 'interrupted'

    def _run(self, running: '_Running') -> Ran:
        self._going.add(running)
        try:
            return running.finish()
        finally:
            self._going.discard(running)


def _pack(files: Iterable[File], pipe: io.BufferedIOBase) -> None:
    # GNU format: a path of any length, and no time or owner of ours in it.
    with tarfile.open(fileobj=pipe, mode='w|', format=tarfile.GNU_FORMAT) as tar:
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


def _script(where: str, folder: str, commands: Sequence[tuple[str, str]], limits: Limits) -> str:
    """
    Fd 3 takes the statuses, fd 4 and on each command's output.

    A command gets neither the status pipe nor another's output pipe; by way of
    /proc it can reach what this shell has open, and so is not believed for
    what it writes there (a number), any more than for what it prints. The
    limits are those that the kernel keeps for each process (see `limits.py`).
    """
    lines = [
        'ulimit -c 0',
        f'ulimit -f {max(limits.disk // 512, 1)} 2>/dev/null',
        f'ulimit -t {max(int(limits.cpu), 1)} 2>/dev/null',
    ]
    if where == ROOT:
        lines.append(f'prlimit --pid $$ {" ".join(each(limits))} 2>/dev/null')
    lines += [
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
        files: Iterable[File],
        commands: Sequence[tuple[str, str]],
        limits: Limits,
        going: Callable[[], None],
        places: Sequence[str] = (),
        calls: bytes = b'',
    ) -> None:
        self.files = files
        self.commands = commands
        self.limits = limits
        self.going = going
        self.started = time.monotonic()
        pipes = [os.pipe() for _ in range(3 + len(commands))]
        # stdin, stderr, the statuses (fd 3), an output for each command (fd 4, …), the filter.
        (from_us, self.stdin), (self.stderr, stderr), *others = pipes
        self.readers = [reader for reader, _ in others]
        theirs = [from_us, -1, stderr, *(writer for _, writer in others), _written(calls)]
        self.pid = _spawn(argv, environment, theirs)
        for fd in theirs[:1] + theirs[2:]:
            os.close(fd)
        self.watch = Watch(self.pid, limits, places)
        self.limit: str | None = None
        self.alive = self.started
        self.ended = False

    def finish(self) -> Ran:
        # Nothing of the stranger's runs before the files are there.
        self.watch.start()
        feeder = threading.Thread(target=self._feed, daemon=True)
        feeder.start()
        buffers = {fd: bytearray() for fd in (*self.readers, self.stderr)}
        try:
            self._read(buffers)
        finally:
            self.watch.ending()
            self.kill()
            feeder.join()
            self.watch.ended()
            self.limit = self.watch.limit or self.limit
            for fd in (*self.readers, self.stderr):
                os.close(fd)
        statuses = dict(
            line.rsplit(' ', 1)
            for line in buffers[self.readers[0]].decode('ascii', 'replace').splitlines()
            if ' ' in line
        )
        phases = []
        for (name, _), fd in zip(self.commands, self.readers[1:], strict=True):
            said = statuses.get(name, '')
            status = int(said) if STATUS.fullmatch(said) else None
            output = bytes(buffers[fd]).decode('utf-8', 'replace')
            if status is not None or output:
                phases.append(Phase(name, status, output))
        complaint = bytes(buffers[self.stderr]).decode('utf-8', 'replace').strip()
        seconds = time.monotonic() - self.started
        return Ran(tuple(phases), self.limit, seconds, complaint, self.watch.lack)

    def _feed(self) -> None:
        with contextlib.suppress(OSError), os.fdopen(self.stdin, 'wb') as pipe:
            _pack(self.files, pipe)

    def _read(self, buffers: dict[int, bytearray]) -> None:
        total = 0
        with selectors.DefaultSelector() as selector:
            for fd in buffers:
                selector.register(fd, selectors.EVENT_READ)
            watched, wait, signed = self.started, 0.0, self.started
            while selector.get_map():
                for key, _ in selector.select(timeout=WATCH_EVERY):
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fd)
                    buffers[key.fd] += data
                    total += len(data)
                now = time.monotonic()
                if now - signed > SIGN:
                    signed = now
                    self.going()
                if total > self.limits.output:
                    self.limit = f'{self.limits.output} bytes of output'
                elif now - self.started > self.limits.time:
                    self.limit = f'{self.limits.time:g} s of time'
                elif now - watched > wait:
                    watched = now
                    # Not quite as regular as something could be that hides from it.
                    wait = WATCH_EVERY * random.uniform(0.5, 1.2)
                    if self.watch.look():
                        return
                if self.limit is not None or self._over(now):
                    return

    def _over(self, now: float) -> bool:
        """Whether the command ended, and only something that it left behind holds the pipes."""
        if not self.ended and os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            self.alive = now
        else:
            self.ended = True
        return now - self.alive > GRACE

    def kill(self) -> None:
        """End all of it: in the cage the namespace's first process takes the rest along."""
        if not self.ended:
            for pid in descendants(self.pid):
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


def _written(content: bytes) -> int:
    """Return a descriptor to read `content` from."""
    # Not a pipe: one of a user who has many holds 4096 bytes.
    file = os.memfd_create('calls')
    os.write(file, content)
    os.lseek(file, 0, os.SEEK_SET)
    return file
