"""What a worker makes of a review: the last word, one to wait for, or our own fault."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bot.assembly import letter
from bot.daemon import MOST_TRIES, TREES_MOVE, Worker
from bot.errors import TreeError
from bot.model import (
    AppliedSeries,
    Author,
    Base,
    Build,
    BuildOutcome,
    CouldNotRun,
    DoesNotApply,
    Failure,
    Finding,
    Hit,
    Incomplete,
    Passed,
    Review,
    Scope,
    Series,
    Severity,
)
from bot.store import Row, Store, Taken
from bot.store.database import opened
from tests.lettering import QUIET, Post, series, telling

SCOPE = Scope(paths=('mm/vma*',), symbols=(), subjects=())
SERIES = Series('a.1.1@x', 'mm: a', Author('A', 'a@x'), 1, ())
BASE = Base('t', 'HEAD', 'c', 'x')
APPLIED = AppliedSeries(SERIES, BASE, ())
REFUSED = Review(SERIES, DoesNotApply(SERIES, BASE, 1, 'hunk 1 does not match'))
DAY = 86_400.0


def built(outcome: BuildOutcome) -> Review:
    return Review(SERIES, APPLIED, builds=(Build('vma', 1, outcome),))


class Desk:
    """A store with one series, and a worker whose judgement is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_800_000_000.0
        self.said: list[str] = []
        self.store = Store(opened(f'sqlite:///{folder / "state.db"}'), lambda: self.now)
        self.judge: Callable[[Taken], Review] = lambda _: Review(SERIES, APPLIED)
        self.worker = Worker(
            self.store, lambda taken: (self.judge(taken), QUIET), DAY, telling(self.said)
        )

    def post(self, posts: Sequence[Post]) -> None:
        found = [letter(one.raw, SCOPE) for one in posts]
        self.store.take_in('l', (one for one in found if one), None)

    def work(self, review: Review | None = None) -> list[int]:
        """Judge what is due; which that was."""
        if review is not None:
            self.judge = lambda _: review
        due = self.store.due()
        for one in due:
            assert self.worker.one(one)
        return due

    def row(self, number: int = 1) -> Row:
        return next(row for row in self.store.rows() if row.series == number)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.post(series('a', 1))
    yield made
    made.store.close()


@pytest.mark.parametrize(
    ('review', 'why'),
    [
        (Review(SERIES, APPLIED), 'clean: 0 patches, 0 rules, no tests'),
        (built(Passed(5)), 'clean: 0 patches, 0 rules, vma tests'),
        (
            built(CouldNotRun('stopped at a limit: time', 'time')),
            'could-not-check: vma at patch 1 could not run: stopped at a limit: time',
        ),
    ],
    ids=['clean', 'passed', 'limit'],
)
def test_the_last_word(desk: Desk, review: Review, why: str) -> None:
    assert desk.work(review) == [1]
    assert (desk.row().state, desk.row().why) == ('reviewed', why)
    assert desk.store.report(1) is not None


@pytest.mark.parametrize(
    ('review', 'why'),
    [
        (built(CouldNotRun('bwrap is not there')), 'vma at patch 1: bwrap is not there'),
        (built(CouldNotRun('stopped', 'interrupted')), 'vma at patch 1: stopped'),
    ],
    ids=['build', 'interrupted'],
)
def test_our_own_fault_is_tried_again_and_then_parked(desk: Desk, review: Review, why: str) -> None:
    for _ in range(MOST_TRIES):
        assert desk.work(review) == [1]
        assert desk.work() == []
        desk.now += 3600
    assert desk.work() == []
    assert (desk.row().state, desk.row().why) == ('parked', f'tried 3 times: {why}')
    assert desk.store.report(1) is None
    # Its cause was mended.
    assert desk.store.unpark() == 1
    assert desk.work(Review(SERIES, APPLIED)) == [1]
    assert desk.row().state == 'reviewed'


def test_a_rule_that_crashes_each_time_keeps_back_nothing_else(desk: Desk) -> None:
    """A series may make it crash: what the other rules found is said all the same."""
    review = Review(SERIES, APPLIED, failures=(Failure('rule', 'KeyError: x'),))
    for n in range(MOST_TRIES):
        assert desk.row().state == 'pending', n
        assert desk.work(review) == [1]
        desk.now += 3600
    assert (desk.row().state, desk.row().why) == ('reviewed', 'could-not-check: rule: KeyError: x')


FORGED = built(CouldNotRun('killed by signal 9', began=True))
FOUND = Finding('rule', Severity.ERROR, 'f', Hit(1, None, None, 'x'))


def test_a_build_that_is_killed_each_time_keeps_back_nothing_else(desk: Desk) -> None:
    """The series may do it itself: it is not retried for ever, and not silenced by that."""
    for n in range(MOST_TRIES):
        assert desk.work(replace(FORGED, findings=(FOUND,))) == [1]
        assert desk.work() == []
        assert desk.row().state == ('reviewed' if n == MOST_TRIES - 1 else 'pending')
        desk.now += 3600
    assert desk.work() == []
    assert (desk.row().state, desk.row().why) == (
        'reviewed',
        'could-not-check: vma at patch 1 could not run: killed by signal 9',
    )
    report = json.loads(desk.store.report(1) or '')
    assert [one['message'] for one in report['findings']] == ['x']
    assert report['builds'][0]['outcome'] == 'could-not-run'
    said = 'series 1: kept without a build, after 3 tries: vma at patch 1: killed by signal 9'
    assert said in desk.said


def test_a_build_that_is_killed_once_is_tried_again(desk: Desk) -> None:
    desk.work(FORGED)
    desk.now += 3600
    assert desk.work(Review(SERIES, APPLIED)) == [1]
    assert (desk.row().state, desk.row().why) == ('reviewed', 'clean: 0 patches, 0 rules, no tests')


def test_a_machine_without_a_sandbox_is_not_taken_for_the_series_doing(desk: Desk) -> None:
    builds = (*FORGED.builds, Build('memblock', 1, CouldNotRun('bwrap is not there')))
    for _ in range(MOST_TRIES):
        desk.work(replace(FORGED, builds=builds))
        desk.now += 3600
    assert desk.row().state == 'parked'
    assert desk.row().why == 'tried 3 times: memblock at patch 1: bwrap is not there'


def test_what_raises_is_our_own_fault_too(desk: Desk) -> None:
    def raising(_: Taken) -> Review:
        raise [TreeError('no base to try'), ValueError('x')][len(desk.said) > 2]

    desk.judge = raising
    desk.work()
    assert desk.row().why == 'tried 1 times: no base to try'
    desk.now += 3600
    desk.work()
    assert desk.row().why == 'tried 2 times: ValueError: x'
    assert desk.row().state == 'pending'


def test_what_does_not_apply_is_tried_again_for_a_day(desk: Desk) -> None:
    tries = 0
    while desk.row().state == 'pending':
        tries += len(desk.work(REFUSED))
        if desk.row().state == 'pending':
            assert desk.row().why == 'does not apply yet: patch 1: hunk 1 does not match'
            assert desk.work() == []
            desk.now += TREES_MOVE
    assert tries == DAY / TREES_MOVE + 1
    assert (desk.row().state, desk.row().why) == (
        'reviewed',
        'could-not-check: apply: patch 1: hunk 1 does not match',
    )
    assert desk.store.report(1) is not None


def test_what_applies_after_all_is_kept(desk: Desk) -> None:
    desk.work(REFUSED)
    desk.now += TREES_MOVE
    desk.work(Review(SERIES, APPLIED))
    assert (desk.row().state, desk.row().why) == ('reviewed', 'clean: 0 patches, 0 rules, no tests')


def test_what_does_not_apply_is_superseded_as_any_other(desk: Desk) -> None:
    desk.work(REFUSED)
    desk.post(series('a', 1, 2))
    assert desk.row().state == 'superseded'


def test_a_revision_that_comes_while_the_old_is_judged(desk: Desk) -> None:
    def judge(_: Taken) -> Review:
        desk.post(series('a', 1, 2))
        return REFUSED

    desk.judge = judge
    desk.work()
    assert (desk.row().state, desk.row().why) == ('superseded', 'by v2 (series 2)')
    assert desk.work(Review(SERIES, APPLIED)) == [2]


def test_what_b4_misses_a_patch_of_waits_for_it(desk: Desk) -> None:
    posts = series('b', 2, 2)
    desk.work()
    desk.post([*series('b', 2), *posts[:2]])
    desk.now += 100
    desk.store.settle(50)
    lacking = Review(Incomplete('patch 2 of 2 is missing', missing=(2,)))
    assert desk.work(lacking) == [3]
    assert (desk.row(3).state, desk.row(3).why) == ('incomplete', 'patch 2 of 2 is missing')
    desk.post(posts[2:])
    assert desk.row(3).state == 'pending'
    assert desk.work(Review(SERIES, APPLIED)) == [3]


def test_a_patch_that_comes_while_b4_misses_it(desk: Desk) -> None:
    posts = series('b', 2, 2)
    desk.work()
    desk.post([*series('b', 2), *posts[:2]])
    desk.now += 100
    desk.store.settle(50)

    def judge(_: Taken) -> Review:
        desk.post(posts[2:])
        return Review(Incomplete('patch 2 of 2 is missing', missing=(2,)))

    desk.judge = judge
    desk.work()
    assert desk.work(Review(SERIES, APPLIED)) == [3]
    assert desk.row(3).state == 'reviewed'


def test_what_b4_makes_nothing_of_is_kept_as_incomplete(desk: Desk) -> None:
    for _ in range(MOST_TRIES):
        assert desk.work(Review(Incomplete('b4 does not come to an end'))) == [1]
        desk.now += 3600
    assert desk.row().state == 'incomplete'
    assert desk.row().why == 'tried 3 times: b4 does not come to an end'


def test_a_worker_that_is_killed_each_time(desk: Desk) -> None:
    """Where nobody puts back what it left: as with many workers on PostgreSQL."""
    for _ in range(3):
        assert desk.store.take(1, most_kills=3) is not None or desk.row().state == 'parked'
    assert desk.row().state == 'working'
    assert desk.store.take(1, most_kills=3) is None
    assert (desk.row().state, desk.row().why) == ('parked', 'its worker died 3 times')


# --- a clock that jumps back ---


def test_nothing_waits_for_a_clock_that_has_jumped_back(desk: Desk) -> None:
    desk.work(built(CouldNotRun('no space left')))
    desk.now -= 365 * DAY
    assert desk.work(Review(SERIES, APPLIED)) == [1]
    assert desk.row().state == 'reviewed'


def test_a_settle_time_begins_again_when_the_clock_jumps_back(desk: Desk) -> None:
    desk.work()
    desk.post(series('b', 2)[:2])
    desk.now -= 365 * DAY
    assert desk.store.settle(3600) == 0
    desk.now += 3600
    assert desk.store.settle(3600) == 1
    assert desk.row(2).state == 'incomplete'


def test_what_does_not_apply_is_kept_when_the_clock_jumps_back(desk: Desk) -> None:
    desk.work(REFUSED)
    desk.now -= 365 * DAY
    assert desk.work() == [1]
    assert desk.row().state == 'reviewed'
