"""A thread without an end: every mail answers the one before, and series are in it."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

from tests.torture.stream import Series, answer, patch_of, patches

LONGEST = 1800.0
"""Seconds within which it is watched and judged, whatever else the machine does."""
SHOWN = 10
"""Message-ids in References: the root, and the last ones, as mail programs shorten them."""


class Thread:
    """
    A cover letter and its patches, `answers` below it, and another series in their middle.

    Half of the answers are a chain, each to the one before; the others answer any mail.
    """

    def __init__(self, answers: int, choose: random.Random) -> None:
        self.answers = answers
        self.series = [Series('root', 3), Series('middle', 2)]
        self._choose = choose

    def mails(self) -> Iterator[bytes]:
        """The bytes of all, in the order in which they come."""
        first, middle = self.series
        root = patch_of(first, 0)
        subject = f'[PATCH 0/{first.of}] mm: {first.name}'
        chain = [root]
        yield patches(first)[0].raw
        for n in range(self.answers):
            if n == self.answers // 2:
                yield from (one.raw for one in patches(middle, root, chain[-1]))
                yield from (one.raw for one in patches(first)[1:])
            deep = n % 2 == 0
            parents = chain[-SHOWN:] if deep else [self._choose.choice(chain)]
            if parents[0] != root:
                parents.insert(0, root)
            yield answer(f'deep{n}', subject, first.posted, *parents)
            if deep:
                chain.append(f'deep{n}@x')


def peak(pid: int) -> int:
    """The most memory that a process has had, in MB."""
    return _figure(pid, 'VmHWM')


def memory(pid: int) -> int:
    """The most memory that a process has had that may be gone by now, in MB."""
    try:
        return peak(pid)
    except (OSError, LookupError):
        return 0


def _figure(pid: int, name: str) -> int:
    found = re.search(rf'{name}:\s+(\d+) kB', Path(f'/proc/{pid}/status').read_text())
    if found is None:
        raise LookupError(name)
    return int(found[1]) // 1024
