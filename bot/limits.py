"""
What a build uses, and whether that is too much: counted from outside, ten times a second.

Answers which of the limits a build has hit, or what the machine has run out
of. Where a control group holds a limit, the group is asked; the rest is counted
over the build's processes: the memory that they hold, with their page tables,
what no process shows (files in memory, sockets), their cpu time, with that of
those that have gone. Nothing that a process can do to itself hides it: a
process without a first thread is seen by another, and one that nobody can
trace is counted by what the kernel says of it to all.
"""

import contextlib
import os
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from bot.cgroup import Group, made, memory_limit, process_limit
from bot.machine import Machine, Turn, meminfo
from bot.model import Limits

TICKS = os.sysconf('SC_CLK_TCK')
CORES = len(os.sched_getaffinity(0))
PLACES = ('build', 'tmp', 'dev/shm')
"""The file systems of a sandbox: in memory, where nothing is bound there."""
INODE = 1280
"""Bytes of the kernel's that a file, a link or a folder in memory takes, without its content."""
TASK = 24 << 10
"""And that a thread takes: its stack in the kernel, and its descriptor."""
FREED = 1.0
"""Seconds that the kernel may take to free what an ended build has held."""
FIRST = '1000'
"""The oom_score_adj of builds: where memory runs out, the kernel ends them first."""
EACH = {'nofile': 1024, 'msgqueue': 0, 'sigpending': 1024, 'memlock': 64 << 10}
"""What each process may have: descriptors, bytes of queued messages, signals, locked bytes."""
MORE = 16
SIZES = re.compile(rb'^(?:VmPTE|VmSwap|RssAnon|RssShmem):\s+(\d+) kB$', re.M)
TABLES = re.compile(rb'^VmPTE:\s+(\d+) kB$', re.M)
THREADS = re.compile(rb'^Threads:\s+(\d+)$', re.M)
SHARES = re.compile(rb'^(?:Pss_Anon|Pss_Shmem|SwapPss):\s+(\d+) kB$', re.M)
SHARED = re.compile(rb'^\S+ \S\S\Ss .*\(deleted\)$', re.M)
"""A shared mapping of no file: memory that stays when the process no longer shows it."""


class Watch:
    """
    Looks after one build: `pid` and all that descends from it.

    `limit` names the limit that was hit; `lack` says what our own side ran
    short of. A sandbox's own file systems (`places`, of `PLACES`) are counted, too.
    """

    def __init__(self, pid: int, limits: Limits, places: Collection[str]) -> None:
        self.limit: str | None = None
        self.lack: str | None = None
        self._pid = pid
        self._limits = limits
        self._places = places
        self._machine = Machine()
        self._turn = Turn()
        self._group: Group | None = made(limits)
        self._inside: _Inside | None = None
        self._cpu = CpuTime()
        self._shared = meminfo().get('Shmem', 0)
        self._before = 0

    @property
    def holds(self) -> frozenset[str]:
        """The limits that the kernel keeps."""
        return self._group.holds if self._group is not None else frozenset()

    def start(self) -> None:
        """Take in all that there is, before anything of a stranger's runs."""
        seen: set[int] = set()
        while fresh := [pid for pid in descendants(self._pid) if pid not in seen]:
            # What is started from then on is in; what was meanwhile, is found next.
            for pid in fresh:
                with contextlib.suppress(OSError):
                    Path(f'/proc/{pid}/oom_score_adj').write_text(FIRST)
            if self._group is not None:
                try:
                    self._group.take(fresh)
                except OSError:
                    self._group.close()
                    self._group = None
            seen.update(fresh)

    def look(self) -> bool:
        """Count everything once; whether it is over."""
        if self._inside is None and self._places:
            self._inside = _Inside.of(descendants(self._pid), self._places)
        self.limit = self._over()
        if self.limit is None:
            self.lack = self._machine.short()
            if self.lack is not None and not self._turn.mine():
                self.lack = None
        return self.limit is not None or self.lack is not None

    def ending(self) -> None:
        """Say that all processes will be ended now."""
        self._before = self._machine.left()

    def ended(self) -> None:
        """
        Say that all processes are gone.

        Where memory was short, and the end of this build gave back more than it
        may have, it was to blame: that is its limit then.
        """
        if self.lack is not None and self._gave_back():
            self.limit, self.lack = memory_limit(self._limits), None
        if self._group is not None:
            self.limit = self._group.close() or self.limit
        if self._inside is not None:
            self._inside.close()
        self._turn.over()

    def _gave_back(self) -> bool:
        until = time.monotonic() + FREED
        while self._machine.left() - self._before <= self._limits.memory:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)  # the kernel frees it bit by bit
        return True

    def _over(self) -> str | None:
        limits = self._limits
        group = self._group
        if group is not None and (hit := group.hit()) is not None:
            return hit
        inside = self._inside.used() if self._inside is not None else Used()
        if inside.files > limits.disk:
            return f'{limits.disk >> 20} MB of disk'
        cpu = group.cpu() if group is not None else None
        tasks: dict[int, _Task] = {}
        if not self.holds >= {'memory', 'processes'} or cpu is None:
            tasks = {pid: _Task.of(pid) for pid in descendants(self._pid)}
        if 'processes' not in self.holds:
            count = sum(one.threads for one in tasks.values())
            if count > limits.processes:
                return process_limit(limits)
        if 'memory' not in self.holds and self._memory(tasks, inside) > limits.memory:
            return memory_limit(limits)
        if cpu is None:
            cpu = self._cpu.seen(list(tasks), time.monotonic())
        return f'{limits.cpu:g} s of cpu time' if cpu > limits.cpu else None

    def _memory(self, tasks: dict[int, '_Task'], inside: 'Used') -> int:
        """Return the bytes that a build holds, or where that is within the limit, a few more."""
        most = self._limits.memory
        fixed = inside.files + inside.kernel + sum(one.threads for one in tasks.values()) * TASK
        fixed += sum(one.tables for one in tasks.values())
        if fixed > most:
            return fixed
        # Shared pages count for each that has them: quickly read, and mostly enough to know.
        shown = sum(one.resident for one in tasks.values())
        if fixed + shown > most:
            shown = sum(one.share() for one in tasks.values())
        # Memory that is shared without a file may be shown by no process at all.
        grown = meminfo().get('Shmem', 0) - self._shared - inside.files
        if grown > shown and fixed + grown > most and any(one.shares() for one in tasks.values()):
            shown = grown
        return fixed + shown


def each(limits: Limits) -> list[str]:
    """
    Return the limits that the kernel keeps for each process, as words of prlimit(1).

    The number of processes is counted for a sandbox alone since Linux 5.14;
    before, all that a user has would count. For root it does not hold.
    """
    words = [f'--{name}={value}' for name, value in EACH.items()]
    release = re.match(r'(\d+)\.(\d+)', os.uname().release)
    if release is not None and (int(release[1]), int(release[2])) >= (5, 14):
        # A few more, so that the one who counts them sees it, and names the limit.
        words.append(f'--nproc={limits.processes + MORE}')
    return words


def keeps_processes(limits: Limits, shown: str) -> bool:
    """Whether the kernel keeps the number of processes, as /proc/self/limits there says."""
    return os.geteuid() != 0 and bool(
        re.search(rf'^Max processes +{limits.processes + MORE} ', shown, re.M)
    )


@dataclass(frozen=True)
class Used:
    """Bytes in the file systems of a sandbox, and of the kernel's for them and for sockets."""

    files: int = 0
    kernel: int = 0


class _Inside:
    """A sandbox's file systems and its network, by way of one of its processes."""

    def __init__(self, pid: int, rooms: list[int]) -> None:
        self._pid = pid
        self._rooms = rooms
        self._socket = 2 * max(_setting('core/wmem_max'), _setting('core/rmem_max'))
        self._stream = _setting('ipv4/tcp_wmem') + _setting('ipv4/tcp_rmem')

    @classmethod
    def of(cls, pids: list[int], places: Collection[str]) -> '_Inside | None':
        """Look for a process that has the sandbox's root; None while there is none."""
        for pid in pids:
            rooms: list[int] = []
            with contextlib.suppress(OSError):
                if Path(f'/proc/{pid}/ns/mnt').readlink() == Path('/proc/self/ns/mnt').readlink():
                    continue
                root = f'/proc/{pid}/root'
                around = Path(root).stat().st_dev
                flags = os.O_PATH | os.O_DIRECTORY
                rooms.extend(os.open(f'{root}/{place}', flags) for place in places)
                # While it is being set up, some are only folders of what is above.
                devices = {os.fstat(room).st_dev for room in rooms}
                if len(devices) == len(places) and around not in devices:
                    return cls(pid, rooms)
            for room in rooms:
                os.close(room)
        return None

    def used(self) -> Used:
        files = inodes = 0
        for room in self._rooms:
            said = os.fstatvfs(room)
            files += (said.f_blocks - said.f_bfree) * said.f_frsize
            inodes += said.f_files - said.f_ffree
        return Used(files, inodes * INODE + self._sockets())

    def _sockets(self) -> int:
        """Return the bytes that all sockets may hold, whoever has them, or nobody."""
        try:
            said = Path(f'/proc/{self._pid}/net/sockstat').read_text()
        except OSError:
            return 0
        found = re.search(r'sockets: used (\d+)\nTCP: inuse (\d+)', said)
        if found is None:
            return 0
        return int(found[1]) * self._socket + int(found[2]) * self._stream

    def close(self) -> None:
        for room in self._rooms:
            os.close(room)
        self._rooms = []


@dataclass(frozen=True)
class _Task:
    """A process as the kernel shows it to all: threads, bytes resident, bytes of page tables."""

    folder: str
    threads: int = 1
    resident: int = 0
    tables: int = 0

    @classmethod
    def of(cls, pid: int) -> '_Task':
        folder = f'/proc/{pid}'
        said = _read(f'{folder}/status')
        count = THREADS.search(said)
        threads = int(count[1]) if count is not None else 1
        if threads > 1 and TABLES.search(said) is None:
            # Its first thread has ended: the others have its memory.
            for one in _threads(pid):
                other = _read(f'{one}/status')
                if TABLES.search(other) is not None:
                    folder, said = one, other
                    break
        tables = TABLES.search(said)
        held = sum(int(size) for size in SIZES.findall(said)) << 10
        own = int(tables[1]) << 10 if tables is not None else 0
        return cls(folder, threads, held - own, own)

    def share(self) -> int:
        """Return its bytes, where those that several have are divided among them."""
        said = _read(f'{self.folder}/smaps_rollup')
        found = SHARES.findall(said)
        return sum(int(size) for size in found) << 10 if found else self.resident

    def shares(self) -> bool:
        """Whether it has memory that is shared and no file's; so too where that can't be seen."""
        try:
            said = Path(f'{self.folder}/maps').read_bytes()
        except PermissionError:
            return True
        except OSError:
            return False
        return SHARED.search(said) is not None


class CpuTime:
    """
    The cpu time of processes, with that of those that have gone.

    A process hands its time to its parent when that waits for it; a parent
    that does not want to know loses it. What goes and is nowhere handed on is
    kept here. One that comes and goes between two looks is seen by chance: so
    the processes that run at each look are counted as well, as a profiler
    does, and half of that is believed.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[int, int], tuple[float, float]] = {}
        self._lost = 0.0
        self._sampled = 0.0
        self._when: float | None = None

    def seen(self, pids: list[int], now: float) -> float:
        """Return the seconds that were used so far."""
        living: dict[tuple[int, int], tuple[float, float]] = {}
        running = 0
        known = {pid for pid, _ in self._last}
        for pid in dict.fromkeys((*pids, *known)):
            read = _times(pid)
            if read is not None:
                started, own, waited, runs = read
                # One that is known, and was only overlooked by a list made in haste, goes on.
                if pid in pids or (pid, started) in self._last:
                    living[pid, started] = own, waited
                    running += runs
        gone = sum(sum(one) for key, one in self._last.items() if key not in living)
        handed = sum(
            waited - self._last.get(key, (0.0, 0.0))[1] for key, (_, waited) in living.items()
        )
        self._lost += max(gone - handed, 0.0)
        if self._when is not None:
            self._sampled += min(running, CORES) * (now - self._when)
        self._last, self._when = living, now
        total = sum(sum(one) for one in living.values()) + self._lost
        return max(total, self._sampled / 2)


def descendants(pid: int) -> list[int]:
    """Return a process and all that it has started, itself at last."""
    found = [pid]
    seen = {pid}
    for parent in found:
        for task in _threads(parent):
            for child in map(int, _read(f'{task}/children').split()):
                if child not in seen:
                    seen.add(child)
                    found.append(child)
    return found[1:] + found[:1]


def _threads(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from map(str, Path(f'/proc/{pid}/task').iterdir())


def _times(pid: int) -> tuple[int, float, float, bool] | None:
    """Return when a process started, its seconds, those it waited for, and whether it runs."""
    fields = _read(f'/proc/{pid}/stat').rpartition(b')')[2].split()
    if len(fields) < 20:
        return None
    own, waited = (sum(int(one) for one in fields[n : n + 2]) / TICKS for n in (11, 13))
    return int(fields[19]), own, waited, fields[0] == b'R'


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b''


def _setting(name: str) -> int:
    """Return a number of the network's, the last of several: a default where it can't be read."""
    said = _read(f'/proc/sys/net/{name}').split()
    return int(said[-1]) if said else 1 << 20
