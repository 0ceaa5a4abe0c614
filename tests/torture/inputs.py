"""
Inputs: generated patches and threads, judged by git, by b4, by `bot check`, by the watcher.

Of each case the tree, or that there is none, is compared: `git am -3` of the
mails that are meant, `b4 am | git am -3` of the thread, what `bot check` makes
of it and what the watcher does. Each difference has a reason in `reasons`, or
the run fails. One case in so many is checked by the program itself as well.
"""

import gc
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tests.torture import reasons, threads
from tests.torture.verdicts import Desk, Said

CASES = 5000
PROGRAM = 50
MOST_TOLD = 30
BATCH = 25


@dataclass(frozen=True)
class Found:
    """What came of one case. `reasons` explain differences; `unexplained` says those without."""

    number: int
    same: bool
    refused: bool
    reasons: tuple[str, ...]
    unexplained: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """What came of it."""

    cases: int
    same: int
    refused: int
    explained: int
    unexplained: int
    seed: int
    reasons: tuple[tuple[str, int], ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not self.unexplained

    def __str__(self) -> str:
        line = (
            f'campaign=inputs cases={self.cases} same={self.same} refused={self.refused} '
            f'explained={self.explained} unexplained={self.unexplained} seed={self.seed}'
        )
        counted = [f'  {count:5} {name}: {reasons.SAID[name]}' for name, count in self.reasons]
        return '\n'.join([*self.problems, line, *counted])


def campaign(
    backend: str, kills: int, seed: int, folder: Path, say: Callable[[str], None]
) -> Result:
    """Run one with `CASES` cases; nothing is killed, and the backend is SQLite."""
    del backend, kills
    count = int(os.environ.get('CASES') or CASES)
    same = refused = explained = 0
    told: list[str] = []
    counted: Counter[str] = Counter()
    unexplained = 0
    done = 0
    with ProcessPoolExecutor(2, get_context('spawn'), _start, (str(folder), seed)) as pool:
        parts = [range(at, min(at + BATCH, count)) for at in range(0, count, BATCH)]
        for batch in pool.map(_batch, parts):
            for one in batch:
                counted.update(one.reasons)
                unexplained += bool(one.unexplained)
                explained += bool(one.reasons and not one.unexplained)
                if not one.reasons and not one.unexplained:
                    same, refused = same + one.same, refused + one.refused
                told += one.unexplained
            done += len(batch)
            if done % 250 == 0:
                say(f'{done} of {count} cases, {unexplained} unexplained')
    return Result(
        count, same, refused, explained, unexplained, seed, tuple(counted.most_common()),
        tuple(told[:MOST_TOLD]),
    )  # fmt: skip


_DESK: list[tuple[Desk, int]] = []


def _start(folder: str, seed: int) -> None:
    _DESK.append((Desk(Path(folder) / f'desk-{os.getpid()}'), seed))
    gc.freeze()  # else each fork copies what it never uses


def _batch(numbers: range) -> list[Found]:
    desk, seed = _DESK[0]
    return [judged(desk, seed, number) for number in numbers]


def judged(desk: Desk, seed: int, number: int) -> Found:
    """Judge one case by all four."""
    case = threads.case(desk.repo, desk.git, seed, number)
    asked = reasons.Asked.of(desk, case)
    names: list[str] = []
    told: list[str] = []
    for pair, why in _differences(desk, asked):
        name = reasons.reason(pair, asked)
        if name is not None:
            names.append(name)
        else:
            told.append(f'case {number} ({", ".join(sorted(case.did))}): {pair}: {why}')
    found = asked.check.tree is not None
    return Found(number, found, not found, tuple(dict.fromkeys(names)), tuple(told))


def _differences(desk: Desk, asked: reasons.Asked) -> Iterator[tuple[str, str]]:
    check, case = asked.check, asked.case
    if check.tree != asked.git.tree:
        yield 'git', f'git am: {_said(asked.git)}; bot check: {_said(check)}'
    elif check.tree is not None and check.texts != asked.git.texts:
        git, bot = asked.git.texts, check.texts
        yield 'text', f'git am: {_other(git, bot)}; bot check: {_other(bot, git)}'
    if check.tree != asked.b4.tree:
        yield 'b4', f'b4 am: {_said(asked.b4)}; bot check: {_said(check)}'
    if check.tree != asked.watch.tree:
        yield 'watch', f'bot check: {_said(check)}; watcher: {_said(asked.watch)}'
    if case.number % PROGRAM == 0 and not case.files:
        code, tree = desk.program(case)
        if tree != check.tree or (code == 3) != (check.tree is None):
            yield 'program', f'bot check: {_said(check)}; the program: {code} {tree}'


def _said(one: Said) -> str:
    return one.tree[:10] if one.tree else f'none, {" / ".join(one.why.split(chr(10)))[:600]}'


def _other(texts: tuple[tuple[str, ...], ...], others: tuple[tuple[str, ...], ...]) -> str:
    left = [one for one, two in zip(texts, others, strict=False) if one != two]
    return str(left[:1])[:400]
