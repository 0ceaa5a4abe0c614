"""
The assertions of glibc, which any program may fail.

Answers what a line of `assert()` says, and where. Leaves which test it stopped
to `ktap`, and what it makes of the run to `runs`.
"""

from collections.abc import Iterator

from bot.diagnose.lines import WHERE, relative
from bot.model import Diagnostic
from bot.plain import one_line


def assertions(lines: list[str], folder: str) -> Iterator[Diagnostic]:
    """Yield the assertions that failed, in the order of the output."""
    for line in lines:
        if found := assertion(line, folder):
            yield found


def assertion(line: str, folder: str) -> Diagnostic | None:
    """
    Read glibc's `PROGRAM: PATH:LINE: FUNCTION: Assertion `TEXT' failed.`

    What a program had printed before may stand in the same line.
    """
    before, _, text = line.partition(': Assertion `')
    if not text.endswith("' failed."):
        return None
    before, _, function = before.rpartition(': ')
    found = WHERE.match(before.rpartition(' ')[2])
    if not found:
        return None
    text, path = one_line(text.removesuffix("' failed.")), relative(found['path'], folder)
    # glibc may be handed the function's whole declaration.
    name = function.partition('(')[0].rpartition(' ')[2].lstrip('*')
    return Diagnostic('assert', text, path, int(found['line']), one_line(name) or None)
