"""
A copy in the VMA tests follows the kernel only with a later patch, or comes before it.

The definitions in tools/testing/vma/include/dup.h are to be kept in sync with
the kernel's. A series that changes one in patch 2 and the other in patch 4
leaves two patches at which the tests test something that the kernel does not
run: who bisects there gets a result that means nothing.

Reported, once for each pair of patches, are copies that were the same as the
kernel's, differ after patch i, and are the same again at patch j of the
series; and copies that patch i adds while their original comes with patch j.
A note: the tip is right. What is still not the same at the end is
vma-test-drift's or vma-test-copy's. Silent where the VMA tests break between
the two patches, since vma-test-build says so; where the original alone goes
and comes back; and where the series does not touch the copies.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from bot.csyntax import Definition, changed_line, parse
from bot.model import (
    Build,
    BuildFailed,
    BuildOutcome,
    Diagnostic,
    Evidence,
    Hit,
    Passed,
    Severity,
    Snapshot,
    Step,
    Subject,
    TestsFailed,
)
from bot.rule import Case, Edit, Rule
from rules import _copies as copies

SHOWN = 3


def check(subject: Subject) -> Iterator[Hit]:
    steps = subject.steps
    if len(steps) < 2 or all(step.file(copies.COPIES) is None for step in steps):
        return
    named = (path for step in steps for diff in step.files for path in (diff.old_path, diff.path))
    touched = sorted({path for path in named if path and copies.is_kernel_code(path)})
    paths = tuple(path for path in touched if copies.is_original(path))
    if not paths:
        return
    moments = [_Moment(tree, paths) for tree in (steps[0].pre, *(step.post for step in steps))]
    gaps: dict[tuple[int, int, str], list[_Gap]] = {}
    for key in moments[-1].mine:
        gap = _gap(moments, key)
        if gap is None or _broken(subject, gap):
            continue
        if gap.how != 'copy added' or not _only_moved(steps[gap.opened - 1], touched, gap):
            gaps.setdefault((gap.opened, gap.closed, gap.how), []).append(gap)
    for together in gaps.values():
        yield from _hit(subject, moments, together)


@dataclass(frozen=True)
class _Moment:
    """The copies and the originals that the series touches, before or after a patch."""

    tree: Snapshot
    paths: tuple[str, ...]

    @cached_property
    def mine(self) -> Mapping[copies.Key, Sequence[Definition]]:
        return copies.by_key_in(self.tree.read(copies.COPIES))

    @cached_property
    def files(self) -> dict[str, Mapping[copies.Key, Sequence[Definition]]]:
        return {path: copies.by_key_in(self.tree.read(path)) for path in self.paths}

    def originals(self, key: copies.Key) -> list[Definition]:
        return [found for file in self.files.values() for found in file.get(key, [])]

    def same(self, key: copies.Key) -> bool | None:
        """Whether all copies are as an original is; None where there is no copy or original."""
        originals, mine = self.originals(key), self.mine.get(key, [])
        if not originals or not mine:
            return None
        return all(copies.is_copy(copy, originals) for copy in mine)

    def tokens(self, key: copies.Key, *, copied: bool = False) -> tuple[tuple[str, ...], ...]:
        found = self.mine.get(key, []) if copied else self.originals(key)
        return tuple(definition.tokens for definition in found)


@dataclass(frozen=True)
class _Gap:
    """Copy and original differ from the patch at `opened` on, until the one at `closed`."""

    key: copies.Key
    opened: int
    closed: int
    how: Literal['kernel first', 'copy first', 'copy added']


def _gap(moments: list[_Moment], key: copies.Key) -> _Gap | None:
    """Return the first time that the two part, if what stays behind follows later."""
    states = [moment.same(key) for moment in moments]
    if not states[-1] or all(states):
        return None
    for at in range(1, len(states)):
        before, now = moments[at - 1], moments[at]
        added = states[at] is None and key not in before.mine and key in now.mine
        if not added and not (states[at - 1] and states[at] is False):
            continue
        closed = next(later for later in range(at, len(states)) if states[later])
        kernel_first = not added and before.tokens(key) != now.tokens(key)
        ending = moments[closed - 1 : closed + 1]
        if len({moment.tokens(key, copied=kernel_first) for moment in ending}) == 1:
            return None  # what went ahead comes back
        if kernel_first:
            return _Gap(key, at, closed, 'kernel first')
        return _Gap(key, at, closed, 'copy added' if added else 'copy first')
    return None


def _only_moved(step: Step, files: list[str], gap: _Gap) -> bool:
    """Whether an added copy was in the tests before, or its original elsewhere in the series."""
    name = gap.key[1]
    return name in copies.names_in_tests(step.pre) or bool(copies.in_code(step.post, {name}, files))


def _broken(subject: Subject, gap: _Gap) -> bool:
    """Whether the VMA tests break while the gap is open."""
    failing = {
        build.n
        for build in subject.builds
        if build.dir == copies.TESTS.rstrip('/')
        and isinstance(build.outcome, BuildFailed | TestsFailed)
    }
    opened, closed = (subject.steps[at - 1].n for at in (gap.opened, gap.closed))
    return opened - 1 not in failing and any(opened <= n < closed for n in failing)


def _hit(subject: Subject, moments: list[_Moment], gaps: list[_Gap]) -> Iterator[Hit]:
    first = gaps[0]
    step = subject.steps[first.opened - 1]
    now, then = moments[first.opened], moments[first.closed]
    placed = [(gap, *place) for gap in gaps if (place := _place(step, now, gap)) is not None]
    if not placed:
        return
    _, path, number, side = placed[0]
    names = [copies.shown(then.mine[gap.key][0]) for gap, *_ in placed]
    more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
    what, many = ', '.join(names[:SHOWN]) + more, len(names) > 1
    patch = f'patch {subject.steps[first.closed - 1].n}'
    verb = 'come' if first.how == 'copy added' else 'change'
    if first.how == 'kernel first' and many:
        said = f'{what} change here, their copies in {copies.COPIES} only with {patch}'
    elif first.how == 'kernel first':
        said = f'{what} changes here, its copy in {copies.COPIES} only with {patch}'
    elif many:
        said = f'the copies of {what} {verb} here, the originals only with {patch}'
    else:
        said = f'the copy of {what} {verb}s here, the original only with {patch}'
    yield Hit(
        step.n,
        path,
        number,
        said,
        'Could both be in one patch, so that the tests test the code of each?',
        side=side,
        symbol=', '.join(gap.key[1] for gap, *_ in placed),
        evidence=tuple(_other(then, gap) for gap, *_ in placed[:SHOWN]),
    )


def _place(step: Step, now: _Moment, gap: _Gap) -> tuple[str, int, Literal['new', 'old']] | None:
    """Return the changed line of the definition that goes ahead."""
    ahead = (
        [(path, found) for path, file in now.files.items() for found in file.get(gap.key, [])]
        if gap.how == 'kernel first'
        else [(copies.COPIES, found) for found in now.mine.get(gap.key, [])]
    )
    for path, found in ahead:
        where = changed_line(step, path, found.start, found.end)
        if where is not None:
            return path, *where
    return None


def _other(then: _Moment, gap: _Gap) -> Evidence:
    """Return the definition that comes later, as it is then."""
    found = [(copies.COPIES, one) for one in then.mine[gap.key]]
    if gap.how != 'kernel first':
        found = [(path, one) for path, file in then.files.items() for one in file.get(gap.key, [])]
    path, one = found[0]
    return Evidence(path, one.start, parse(then.tree.read(path) or b'').line(one.start))


UTIL, HEADER, FS, OTHER = 'mm/util.c', 'include/linux/mm.h', 'include/linux/fs.h', 'mm/vma.c'
OLD = 'int span(struct range *r)\n{\n\treturn r->end - r->start;\n}\n'
NEW = OLD.replace(';\n}', ' + 1;\n}')
STATIC = 'static inline '
TREE = {UTIL: OLD, copies.COPIES: STATIC + OLD}
NEW_UTIL, NEW_COPY = Edit({UTIL: NEW}), Edit({copies.COPIES: STATIC + NEW})
STRUCT = 'struct range {\n\tint start, end;\n};\n'
BOTH = {FS: STRUCT, UTIL: OLD, copies.COPIES: STRUCT + STATIC + OLD}
LONGER = STRUCT.replace('end;', 'end, step;')
NO_COPY = {HEADER: 'int keep;\n', copies.COPIES: '\n'}
TWO = '#ifdef A\n#define B 1\n#else\n#define B 2\n#endif\n'
ALIKE = TWO.replace('2', '1')
DIR = copies.TESTS.rstrip('/')
FAILED = BuildFailed((Diagnostic('error', "no member named 'step'", OTHER, 2),))


def _builds(*outcomes: BuildOutcome) -> tuple[Build, ...]:
    return tuple(Build('vma', n, outcome, DIR) for n, outcome in enumerate(outcomes))


RULE = Rule(
    id='vma-test-order',
    severity=Severity.NOTE,
    check=check,
    bad=(
        Case(TREE, (NEW_UTIL, NEW_COPY), expect=(1,)),
        # The copy goes ahead; a patch lies between.
        Case(TREE, (NEW_COPY, Edit({OTHER: 'int x;\n'}), NEW_UTIL), expect=(1,)),
        # The copy is added first.
        Case(
            NO_COPY,
            (
                Edit({copies.COPIES: STATIC + OLD}),
                Edit({HEADER: 'int keep;\n' + STATIC + OLD}),
            ),
            expect=(1,),
        ),
        # Two at once are one finding; two pairs of patches are two.
        Case(
            BOTH,
            (
                Edit({FS: LONGER, UTIL: NEW}),
                Edit({copies.COPIES: LONGER + STATIC + NEW}),
            ),
            expect=(1,),
        ),
        Case(
            BOTH,
            (
                Edit({FS: LONGER}),
                Edit({UTIL: NEW}),
                Edit({copies.COPIES: LONGER + STATIC + NEW}),
            ),
            expect=(1, 2),
        ),
        # One of two under #if.
        Case(
            {UTIL: TWO, copies.COPIES: TWO},
            (
                Edit({UTIL: TWO.replace('B 1', 'B 3')}),
                Edit({copies.COPIES: TWO.replace('B 1', 'B 3')}),
            ),
            expect=(1,),
        ),
        # The other one is still what the copy is.
        Case(
            {UTIL: ALIKE, copies.COPIES: ALIKE},
            (
                Edit({UTIL: ALIKE.replace('B 1', 'B 3', 1)}),
                Edit({copies.COPIES: ALIKE.replace('B 1', 'B 3', 1)}),
            ),
            expect=(1,),
        ),
        # A token is removed: what is quoted is the line that goes.
        Case(
            {HEADER: LONGER, copies.COPIES: LONGER},
            (Edit({HEADER: STRUCT}), Edit({copies.COPIES: STRUCT})),
            expect=(1,),
        ),
        # The tests pass, or were broken anyway.
        Case(TREE, (NEW_UTIL, NEW_COPY), _builds(Passed(27), Passed(27), Passed(27)), expect=(1,)),
        Case(TREE, (NEW_UTIL, NEW_COPY), _builds(FAILED, FAILED, Passed(27)), expect=(1,)),
    ),
    good=(
        Case(TREE, (Edit({UTIL: NEW, copies.COPIES: STATIC + NEW}), Edit({OTHER: 'int x;\n'}))),
        # Never followed: vma-test-drift. Follows wrongly: still that.
        Case(TREE, (NEW_UTIL, Edit({copies.COPIES: '\n' + STATIC + OLD}))),
        Case(TREE, (NEW_UTIL, Edit({copies.COPIES: STATIC + NEW.replace('1', '2')}))),
        # It goes and comes back, on either side.
        Case(TREE, (NEW_UTIL, Edit({UTIL: OLD, copies.COPIES: f'/* span */\n{STATIC}{OLD}'}))),
        Case(TREE, (NEW_COPY, Edit({UTIL: '\n' + OLD, copies.COPIES: STATIC + OLD}))),
        # It was different before.
        Case({UTIL: OLD, copies.COPIES: STATIC + NEW.replace('1', '2')}, (NEW_UTIL, NEW_COPY)),
        # The original first, its copy later: nothing was untrue in between.
        Case({UTIL: '\n'}, (Edit({UTIL: OLD}), Edit({copies.COPIES: STATIC + OLD}))),
        # The original was there; it moves, from a file that is not looked through, too.
        Case(
            {UTIL: OLD, HEADER: '\n'},
            (Edit({copies.COPIES: STATIC + OLD}), Edit({UTIL: '\n', HEADER: STATIC + OLD})),
        ),
        Case(
            {'include/linux/sched/mm.h': OLD, HEADER: '\n'},
            (
                Edit({copies.COPIES: STATIC + OLD}),
                Edit({'include/linux/sched/mm.h': '\n', HEADER: STATIC + OLD}),
            ),
        ),
        # The build breaks in between, and vma-test-build says so.
        Case(TREE, (NEW_UTIL, NEW_COPY), _builds(Passed(27), FAILED, Passed(27))),
    ),
)
