"""
Control groups: limits on memory and processes that the kernel keeps, and cpu time that it counts.

Answers where we may make a group, makes it, and says which limit was hit.
Version 2 where a group is delegated to us; version 1 where we may make one
below our own, as root may. Where there is none, `limits.py` counts itself.
"""

import contextlib
import itertools
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from bot.model import Limits

CGROUPS = Path('/sys/fs/cgroup')
OWN = Path('/proc/self/cgroup')
NUMBERS = itertools.count()
WANTED = {'memory', 'pids'}
"""The controllers that keep our limits."""
OURS = re.compile(r'vma-bot-(\d+)-\d+')


def memory_limit(limits: Limits) -> str:
    """Name the limit on memory."""
    return f'{limits.memory >> 20} MB of memory'


def process_limit(limits: Limits) -> str:
    """Name the limit on processes."""
    return f'{limits.processes} processes'


class Group:
    """A group of our own. `holds` are the limits that the kernel keeps: memory, processes, cpu."""

    holds: frozenset[str] = frozenset()
    version = 0

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.name = f'vma-bot-{os.getpid()}-{next(NUMBERS)}'

    def take(self, pids: Iterable[int]) -> None:
        """Put processes in; what they start is in as well."""
        raise NotImplementedError

    def hit(self) -> str | None:
        """Return the limit that was hit, if one was."""
        raise NotImplementedError

    def cpu(self) -> float | None:
        """Return the cpu seconds of all that is or was in it; None where that is not counted."""
        raise NotImplementedError

    def close(self) -> str | None:
        """End what is left, remove the group; the limit that was hit, if one was."""
        raise NotImplementedError


class ControlGroup(Group):
    """A control group (v2) of our own below `parent`. Raises `OSError` where we may not."""

    holds = frozenset({'memory', 'processes', 'cpu'})
    version = 2

    def __init__(self, parent: Path, limits: Limits) -> None:
        super().__init__(limits)
        sweep(parent)
        self.path = parent / self.name
        self.path.mkdir()
        try:
            # The watcher stays; the group is what a sudden burst runs into.
            write(self.path / 'memory.max', str(limits.memory))
            write(self.path / 'pids.max', str(limits.processes))
            write(self.path / 'memory.oom.group', '1')
            with contextlib.suppress(OSError):  # a kernel without swap accounting
                write(self.path / 'memory.swap.max', '0')
        except OSError:
            self.path.rmdir()
            raise

    def take(self, pids: Iterable[int]) -> None:
        """Put processes in; what they start is in as well."""
        _take((self.path,), pids)

    def hit(self) -> str | None:
        """Return the limit that was hit, if one was."""
        events = self.path / 'memory.events'
        # Only where it was this group that was full: the machine may run out, too.
        if _counted(events, 'oom_kill') and _counted(events, 'oom'):
            return memory_limit(self.limits)
        if _counted(self.path / 'pids.events', 'max'):
            return process_limit(self.limits)
        return None

    def cpu(self) -> float | None:
        """Return the cpu seconds of all that is or was in it."""
        used = _counted(self.path / 'cpu.stat', 'usage_usec')
        return used / 1e6 if used is not None else None

    def close(self) -> str | None:
        """End what is left, remove the group; the limit that was hit, if one was."""
        hit = self.hit()
        with contextlib.suppress(OSError):
            write(self.path / 'cgroup.kill', '1')
        _remove(self.path)
        return hit


class OldGroup(Group):
    """
    Control groups (v1) of our own below those that we are in.

    Raises `OSError` where there is none for memory, the limit that nothing
    else keeps as well.
    """

    version = 1

    def __init__(self, limits: Limits, root: Path = CGROUPS, own: Path = OWN) -> None:
        super().__init__(limits)
        made: dict[str, Path] = {}
        try:
            for controller, files in {
                'memory': {'memory.limit_in_bytes': limits.memory},
                'pids': {'pids.max': limits.processes},
                'cpuacct': {},
            }.items():
                with contextlib.suppress(OSError):
                    made[controller] = self._made(controller, files, root, own)
            if 'memory' not in made:
                raise OSError('no control group (v1) for memory')
        except OSError:
            for folder in made.values():
                _remove(folder)
            raise
        with contextlib.suppress(OSError):  # a kernel without swap accounting
            write(made['memory'] / 'memory.memsw.limit_in_bytes', str(limits.memory))
        self.paths = made
        names = {'memory': 'memory', 'pids': 'processes', 'cpuacct': 'cpu'}
        self.holds = frozenset(names[one] for one in made)

    def _made(self, controller: str, files: dict[str, int], root: Path, own: Path) -> Path:
        parent = old_group(controller, root, own)
        if parent is None:
            raise OSError(f'no control group (v1) for {controller}')
        sweep(parent)
        folder = parent / self.name
        folder.mkdir()
        try:
            for name, value in files.items():
                write(folder / name, str(value))
        except OSError:
            _remove(folder)
            raise
        return folder

    def take(self, pids: Iterable[int]) -> None:
        """Put processes in; what they start is in as well."""
        _take(tuple(self.paths.values()), pids)

    def hit(self) -> str | None:
        """Return the limit that was hit, if one was."""
        memory = self.paths['memory']
        # Only where it was this group that was full: the machine may run out, too.
        # (failcnt says nothing in newer kernels.)
        full = _number(memory / 'memory.max_usage_in_bytes') >= self.limits.memory * 15 // 16
        if full and _counted(memory / 'memory.oom_control', 'oom_kill'):
            return memory_limit(self.limits)
        if 'pids' in self.paths and _counted(self.paths['pids'] / 'pids.events', 'max'):
            return process_limit(self.limits)
        return None

    def cpu(self) -> float | None:
        """Return the cpu seconds of all that is or was in it; None where that is not counted."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            return int((self.paths['cpuacct'] / 'cpuacct.usage').read_text()) / 1e9
        return None

    def close(self) -> str | None:
        """Remove the groups; the limit that was hit, if one was."""
        hit = self.hit()
        for folder in self.paths.values():
            _remove(folder)
        return hit


def made(limits: Limits) -> Group | None:
    """Make a group for one build, of whatever version; None where we may not."""
    parent = delegated()
    ways: list[Callable[[], Group]] = [lambda: OldGroup(limits)]
    if parent is not None:
        ways.insert(0, lambda: ControlGroup(parent, limits))
    for way in ways:
        with contextlib.suppress(OSError):
            return way()
    return None


def write(path: Path, value: str) -> None:
    """Write to one of the kernel's files."""
    with path.open('w') as file:
        file.write(value)


def sweep(parent: Path) -> None:
    """Remove the groups of bots that were killed. One that is in use can't be removed."""
    with contextlib.suppress(OSError):
        for folder in parent.iterdir():
            found = OURS.fullmatch(folder.name)
            if found is not None and not Path(f'/proc/{found[1]}').exists():
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _take(folders: Iterable[Path], pids: Iterable[int]) -> None:
    for pid in pids:
        for folder in folders:
            with contextlib.suppress(ProcessLookupError):
                write(folder / 'cgroup.procs', str(pid))


def _remove(folder: Path) -> None:
    for _ in range(50):
        try:
            folder.rmdir()
            return
        except OSError:
            time.sleep(0.01)


def _counted(file: Path, name: str) -> int | None:
    try:
        lines = file.read_text().split('\n')
        return next(int(line.split()[1]) for line in lines if line.startswith(f'{name} '))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _number(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0


def own_group(root: Path = CGROUPS, own: Path = OWN) -> Path | None:
    """Return the folder of the control group (v2) that we are in."""
    return _of('', root, own)


def old_group(controller: str, root: Path = CGROUPS, own: Path = OWN) -> Path | None:
    """Return the folder of the control group (v1) of a controller that we are in."""
    return _of(controller, root / controller, own)


def _of(controller: str, root: Path, own: Path) -> Path | None:
    try:
        lines = own.read_text().split('\n')
    except OSError:
        return None
    for line in lines:
        _, colon, rest = line.partition(':')
        names, _, path = rest.partition(':')
        if colon and controller in names.split(','):
            return root / path.lstrip('/')
    return None


def delegated(root: Path = CGROUPS, own: Path = OWN) -> Path | None:
    """
    Return the control group (v2) in which we may make others with limits.

    That is our own group's parent where a service manager put us into a
    subgroup (`DelegateSubgroup=`), or our own where nothing is in it.
    """
    here = own_group(root, own)
    if here is None:
        return None
    return next((group for group in (here, here.parent) if _ours(group) and _limits(group)), None)


def _limits(group: Path) -> bool:
    """Whether groups below this one may have limits; what it was given, it can hand on."""
    control = group / 'cgroup.subtree_control'
    try:
        if set(control.read_text().split()) >= WANTED:
            return True
        if not set((group / 'cgroup.controllers').read_text().split()) >= WANTED:
            return False
        # systemd gives them to a service, and leaves to the service what is below.
        control.write_text(' '.join(f'+{name}' for name in sorted(WANTED)))
    except OSError:
        return False
    return True


def _ours(group: Path) -> bool:
    """Whether a group was handed to us. Root may write in all of them, but not all are its own."""
    if os.geteuid():
        return os.access(group, os.W_OK)
    for name in ('user.delegate', 'trusted.delegate'):
        with contextlib.suppress(OSError):
            return os.getxattr(group, name) == b'1'
    return False
