"""
KTAP, and the kinds of TAP around it, kselftest's among them.

Answers how many results there are, which of them failed and why, and whether
every plan was kept. Leaves the exit status and the judgement to `runs`.
"""

import re
from dataclasses import dataclass, replace

from bot.diagnose.glibc import assertion
from bot.diagnose.lines import MOST, relative, straight_quotes
from bot.model import Diagnostic
from bot.plain import one_line

# kselftest shows what a test printed, its subtests among that, behind a `# `.
RESULT = re.compile(
    r'^(?P<depth>[ \t#]*)(?P<word>ok|not ok)[ \t]+(?P<number>\d{1,9})(?P<rest>(?:\s.*)?)$'
)
PLAN = re.compile(r'^(?P<depth>[ \t#]*)1\.\.(?P<count>\d{1,9})(?:\s.*)?$')
VERSION = re.compile(r'^(?P<depth>[ \t#]*)K?TAP version \d+$')
BAIL = re.compile(r'^[ \t#]*Bail out!(?P<why>.*)$')
DIRECTIVE = re.compile(r'(?:^|\s)#(?: |(?=(?i:skip|todo)))')
EXPECTED = re.compile(
    r'^[ \t#]*(?P<path>[^\s:#]+\.[ch]):(?P<line>\d{1,9}):(?P<test>[^\s:]+):(?P<text>Expected .*)$'
)


@dataclass
class _Result:
    """A failed result, and the assertion that says why, once one is known."""

    name: str
    directive: str
    said: Diagnostic | None = None

    def diagnostic(self) -> Diagnostic:
        if self.said is not None:
            return replace(self.said, symbol=self.name)
        return Diagnostic('assert', self.directive or 'no assertion was printed', symbol=self.name)


@dataclass
class _Block:
    """The results of one depth, and how many were planned."""

    results: int = 0
    plan: int | None = None


class Ktap:
    """
    Reads KTAP and the kinds of TAP around it, line by line.

    A parent's result follows the deeper ones of its subtests. A plan is for
    the results of its depth, up to a shallower result or the next version line.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.seen = 0  # leaves
        self.ran = 0  # leaves that were not skipped
        self._failed: list[_Result | Diagnostic] = []
        self._blocks: dict[int, _Block] = {}
        self._waiting: list[tuple[int, int]] = []  # subtests: depth, failures before them
        self._why: str | None = None
        self._last: _Result | None = None  # the result before, if it failed
        self._expected: Diagnostic | None = None
        self._abort: Diagnostic | None = None  # waits for the result that it is of

    def read(self, line: str) -> None:
        """Take in the next line of the output."""
        if said := assertion(line, self.folder):
            # Whatever stands before it in its line is a piece of what stdout still held.
            self._settle()
            last, self._abort = self._last, said
            if last is not None and said.symbol in re.findall(r'\w+', last.name):
                self._settle()
        elif found := RESULT.match(line):
            self._result(found)
        elif found := PLAN.match(line):
            self._plan(len(found['depth']), int(found['count']))
        elif found := VERSION.match(line):
            self._close(len(found['depth']))
        elif found := BAIL.match(line):
            self._why = self._why or f'it bails out: {straight_quotes(found["why"])}'.rstrip(': ')
        elif found := EXPECTED.match(line):
            path, text = relative(found['path'], self.folder), straight_quotes(found['text'])
            self._expected = self._expected or Diagnostic('assert', text, path, int(found['line']))

    def failures(self) -> tuple[Diagnostic, ...]:
        """What failed, in the order of the output."""
        self._settle()
        return tuple(
            one if isinstance(one, Diagnostic) else one.diagnostic() for one in self._failed
        )

    def broken(self) -> str | None:
        """Return which plan is not kept, or why it gave up; None where all is well."""
        self._close(0)
        return self._why

    def _result(self, found: re.Match[str]) -> None:
        depth, bad = len(found['depth']), found['word'] == 'not ok'
        name, directive = _name(found['rest'], found['number'])
        todo, skipped = (directive[:4].upper() == word for word in ('TODO', 'SKIP'))
        self._close(depth + 1)
        block = self._blocks.get(depth, _Block())
        if found['number'] == '1' and block.results == block.plan:  # the next program's
            block = _Block()
        block.results += 1
        self._blocks[depth] = block
        start, parent = len(self._failed), False
        while self._waiting and self._waiting[-1][0] > depth:
            parent, start = True, self._waiting.pop()[1]
        if depth:
            self._waiting.append((depth, start))
        self.seen += not parent
        self.ran += not parent and not skipped
        if parent and todo:
            del self._failed[start:]
        if not bad or todo:
            self._settle()
            self._last = None
        elif len(self._failed) == start < MOST:
            self._last = _Result(name, directive, self._abort or self._expected)
            self._failed.append(self._last)
            self._abort = None
        self._expected = None

    def _settle(self) -> None:
        """Hand an assertion that no result followed to the failure before it, or let it stand."""
        if self._abort is not None and self._last is not None and self._last.said is None:
            self._last.said = self._abort
        elif self._abort is not None:
            self._failed.append(self._abort)
        self._abort = None

    def _plan(self, depth: int, count: int) -> None:
        self._close(depth + 1)
        block = self._blocks.get(depth, _Block())
        if block.plan is not None:  # the next program's
            self._close(depth)
            block = _Block()
        self._blocks[depth] = _Block(block.results, count)

    def _close(self, depth: int) -> None:
        for one in [one for one in self._blocks if one >= depth]:
            block = self._blocks.pop(one)
            if block.plan not in (None, block.results):
                said = f'{block.results} of {block.plan} planned results are there'
                self._why = self._why or said


def _name(rest: str, number: str) -> tuple[str, str]:
    """Return what a result is of, and its directive (`SKIP why`, `TODO`, `exit=1`)."""
    name, *directive = DIRECTIVE.split(rest, maxsplit=1)
    # memblock's tests say in words what `ok` has said already.
    name = one_line(name.strip().lstrip(':- ').removesuffix(': failed').removesuffix(': passed'))
    return name or f'#{number}', one_line(directive[0]) if directive else ''
