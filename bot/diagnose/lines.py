"""
What all readers of an output share: its lines, and places in the tree.

Answers how an output is cut into lines that are safe to match and to show, how
many diagnostics are kept, and where in the kernel tree a path lies. Leaves what
a line says to `builds`, `flags`, `runs`, `glibc`, `ktap` and `sanitizers`.
"""

import posixpath
import re
from collections.abc import Iterable

from bot.model import Diagnostic
from bot.plain import one_line, plain

ROOT = '/build/'
"""Where the tree lies inside the cage."""

WIDTH = 4000
"""Longer lines are nobody's diagnostic."""

MOST = 1000
"""Diagnostics of one kind that are kept."""

WHERE = re.compile(r'^(?P<path>[^\s:]+):(?P<line>\d{1,9})(?::\d+)?$')
"""A place in a file."""


def relative(path: str, folder: str) -> str | None:
    """Return a path from an output relative to the tree, None where it lies outside."""
    absolute = posixpath.normpath(posixpath.join(ROOT, folder, path))
    return absolute.removeprefix(ROOT) if absolute.startswith(ROOT) else None


def lines_of(output: str, *, cut: bool = False) -> list[str]:
    """Split, without colours and what hides text; a line that is too long is emptied, or cut."""
    return [
        (line if line.isprintable() else plain(line, WIDTH)).rstrip()
        for line in (
            whole if len(whole) <= WIDTH else whole[:WIDTH] if cut else ''
            for whole in output.split('\n')
        )
    ]


def each_once(found: Iterable[Diagnostic], most: int = MOST) -> tuple[Diagnostic, ...]:
    """Return what was found without repetitions, in its order, and not more than `most`."""
    kept: dict[Diagnostic, None] = {}
    for one in found:
        kept[one] = None
        if len(kept) == most:
            break
    return tuple(kept)


def straight_quotes(text: str) -> str:
    """Return a message as one line, with the quotes that it has in the C locale's ASCII."""
    return one_line(text.replace('`', "'").replace('\u2018', "'").replace('\u2019', "'"))
