"""
What the machine has left, read from the kernel's own count.

Answers how many bytes of memory remain before the kernel ends processes, for
the machine and for the control groups that the bot itself is in, and whether
that is too little to go on with a build. What a build uses is `limits.py`'s.
"""

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from bot.cgroup import CGROUPS, OWN, old_group, own_group

MEMINFO = Path('/proc/meminfo')
MOST_SPARE = 1 << 30
SPARE = 16
"""The part of the memory that is left to the others: one sixteenth, a gigabyte at most."""
UNLIMITED = 1 << 60
PATIENCE = 3.0
"""Seconds that builds wait for each other, where several could be to blame."""


class Machine:
    """The memory of this machine, and of the groups that we are in."""

    def __init__(self, root: Path = CGROUPS, own: Path = OWN) -> None:
        self._groups = list(_limited(root, own))

    def left(self) -> int:
        """Return the bytes that are left, wherever there are fewest."""
        return min(left for _, left in self._rooms())

    def short(self) -> str | None:
        """Say that there is too little left, in a few words; None where there is enough."""
        for total, left in self._rooms():
            if left < min(total // SPARE, MOST_SPARE):
                return f'this machine has {max(left, 0) >> 20} MB of memory left'
        return None

    def _rooms(self) -> Iterator[tuple[int, int]]:
        said = meminfo()
        if 'MemAvailable' in said:
            yield said.get('MemTotal', 0), said['MemAvailable']
        for most, group in self._groups:
            with contextlib.suppress(OSError, ValueError):
                yield most, most - group.used()
        yield UNLIMITED, UNLIMITED


def meminfo() -> dict[str, int]:
    """Return the kernel's figures on memory, in bytes."""
    try:
        said = MEMINFO.read_text()
    except OSError:
        return {}
    return {name: int(kilo) << 10 for name, kilo in re.findall(r'^(\w+): +(\d+) kB$', said, re.M)}


class _Group:
    """A group that we are in, and its files."""

    def __init__(self, folder: Path, current: str, prefix: str) -> None:
        self._current = folder / current
        self._stat = folder / 'memory.stat'
        self._prefix = prefix

    def used(self) -> int:
        """Return the bytes that it holds and that can't be taken back at once."""
        used = int(self._current.read_text())
        for line in self._stat.read_text().splitlines():
            name, _, value = line.partition(' ')
            if name in (f'{self._prefix}inactive_file', f'{self._prefix}active_file'):
                used -= int(value)
        return used


def _limited(root: Path, own: Path) -> Iterator[tuple[int, _Group]]:
    """Yield the groups with a limit on memory that we are in: ours and those above."""
    for here, most, current, prefix in (
        (own_group(root, own), 'memory.max', 'memory.current', ''),
        (old_group('memory', root, own), 'memory.limit_in_bytes', 'memory.usage_in_bytes',
         'total_'),
    ):  # fmt: skip
        if here is None:
            continue
        for folder in (here, *here.parents):
            with contextlib.suppress(OSError, ValueError):
                limit = int((folder / most).read_text())
                if limit < UNLIMITED:
                    yield limit, _Group(folder, current, prefix)
            if folder == root:
                break


class Turn:
    """
    The right to be the next build that is ended, where memory is short.

    One at a time on this machine, so that what an end has freed can be told
    apart. Held by a socket without a file, so that it goes with its holder.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._since: float | None = None

    def mine(self) -> bool:
        """Whether it is ours now; who has waited long enough goes without."""
        if self._socket is not None:
            return True
        self._since = self._since or time.monotonic()
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            held.bind(f'\0vma-review-bot-{os.geteuid()}-memory')
        except OSError:
            held.close()
            return time.monotonic() - self._since > PATIENCE
        self._socket = held
        return True

    def over(self) -> None:
        """Let the next one have it."""
        self._since = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
