"""
Control groups (v2): limits on memory and processes that the kernel keeps.

Answers where we may make a group, makes it, and says which limit was hit.
Where there is none (version 1, nothing delegated), `sandbox.py` watches.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Iterable
from pathlib import Path

from bot.model import Limits

CGROUPS = Path('/sys/fs/cgroup')
NUMBERS = itertools.count()
WANTED = {'memory', 'pids'}
"""The controllers that keep our limits."""


def memory_limit(limits: Limits) -> str:
    """Name the limit on memory."""
    return f'{limits.memory >> 20} MB of memory'


def process_limit(limits: Limits) -> str:
    """Name the limit on processes."""
    return f'{limits.processes} processes'


class ControlGroup:
    """A control group (v2) of our own below `parent`. Raises `OSError` where we may not."""

    def __init__(self, parent: Path, limits: Limits) -> None:
        self.limits = limits
        self.path = parent / f'vma-bot-{os.getpid()}-{next(NUMBERS)}'
        self.path.mkdir()
        try:
            # The watcher stays; the group is what a sudden burst runs into.
            self._write('memory.max', str(limits.memory))
            self._write('pids.max', str(limits.processes))
            self._write('memory.oom.group', '1')
            with contextlib.suppress(OSError):  # a kernel without swap accounting
                self._write('memory.swap.max', '0')
        except OSError:
            self.path.rmdir()
            raise

    def take(self, pids: Iterable[int]) -> None:
        """Put processes in; what they start is in as well."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                self._write('cgroup.procs', str(pid))

    def close(self) -> str | None:
        """End what is left, remove the group; the limit that was hit, if one was."""
        hit = None
        # What is killed without this group's limit being hit was the machine's want of memory.
        oom = ('oom', 'oom_kill')
        if all(self._counted('memory.events', name) for name in oom):
            hit = memory_limit(self.limits)
        elif self._counted('pids.events', 'max'):
            hit = process_limit(self.limits)
        with contextlib.suppress(OSError):
            self._write('cgroup.kill', '1')
        for _ in range(50):
            try:
                self.path.rmdir()
                break
            except OSError:
                time.sleep(0.01)
        return hit

    def _write(self, name: str, value: str) -> None:
        with (self.path / name).open('w') as file:
            file.write(value)

    def _counted(self, file: str, name: str) -> bool:
        try:
            lines = (self.path / file).read_text().split('\n')
        except OSError:
            return False
        return any(line.startswith(f'{name} ') and line.split()[1] != '0' for line in lines)


def delegated(root: Path = CGROUPS, own: Path = Path('/proc/self/cgroup')) -> Path | None:
    """
    Return the control group (v2) in which we may make others with limits.

    That is our own group's parent where a service manager put us into a
    subgroup (`DelegateSubgroup=`), or our own where nothing is in it.
    """
    try:
        lines = own.read_text().split('\n')
    except OSError:
        return None
    mine = next((line[3:] for line in lines if line.startswith('0::')), None)
    if mine is None:
        return None
    here = root / mine.lstrip('/')
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
