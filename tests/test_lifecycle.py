"""A series among others: what is less well attested takes nothing from what is better."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, get_args

from hypothesis import given
from hypothesis import strategies as st

from bot.lifecycle import (
    ENDED,
    JUDGED,
    LEAST,
    STANDS,
    Attested,
    Part,
    Related,
    Revision,
    another,
    as_good,
    better,
    chosen,
    holds,
    relate,
    twin,
    weakest,
)

ATTESTED = st.sampled_from(get_args(Attested))
KNOWN: st.SearchStrategy[Attested] = st.sampled_from(('pass', 'loose', 'unsigned'))
FORGED = st.sampled_from(('unsigned', 'unknown', 'off'))
NUMBERS = st.integers(1, 1000)


def parts(
    attested: st.SearchStrategy[str], machine: st.SearchStrategy[bool]
) -> st.SearchStrategy[list[Part]]:
    made = st.builds(Part, NUMBERS, st.integers(0, 3), attested, machine)
    return st.lists(made, max_size=8, unique_by=lambda one: one.id)


def revisions(attested: st.SearchStrategy[str]) -> st.SearchStrategy[list[Revision]]:
    made = st.builds(
        Revision, NUMBERS, st.integers(1, 99), attested, st.booleans(), st.booleans(), st.booleans()
    )
    return st.lists(made, max_size=6, unique_by=lambda one: one.id)


SIGNED = st.builds(Revision, st.just(0), st.integers(1, 99), st.just('pass'))


@given(SIGNED, revisions(FORGED))
def test_nothing_forged_silences_what_is_signed(mine: Revision, forged: list[Revision]) -> None:
    assert relate(mine, forged).by is None
    assert twin(mine, forged) is None
    for one in forged:
        found = relate(one, [mine])
        assert mine.id not in found.ends
        assert found.before is None


@given(SIGNED, revisions(st.just('pass')), revisions(FORGED))
def test_forged_revisions_change_nothing_between_signed_ones(
    mine: Revision, honest: list[Revision], forged: list[Revision]
) -> None:
    honest = [replace(one, machine=False) for one in honest]
    there = {one.id for one in honest}
    forged = [one for one in forged if one.id not in there]
    among, alone = relate(mine, honest + forged), relate(mine, honest)
    assert among.by == alone.by
    assert set(among.ends) & there == set(alone.ends)
    assert twin(mine, honest + forged) == twin(mine, honest)


@given(parts(st.just('pass'), st.just(False)), parts(FORGED, st.booleans()))
def test_forged_mails_take_no_place_from_signed_ones(
    honest: Sequence[Part], forged: Sequence[Part]
) -> None:
    there = {one.id for one in honest}
    forged = [one for one in forged if one.id not in there]
    found = chosen([*forged, *honest])
    for n, one in chosen(honest).items():
        assert found[n] == one
    # A cover letter alone that is forged does not make a signed series less than it is.
    if any(one.n for one in honest) and {one.n for one in forged} <= {0, *(x.n for x in honest)}:
        patches = [one for n, one in found.items() if n]
        assert weakest(one.attested for one in patches) == 'pass'
        assert weakest(one.attested for one in found.values()) == 'pass'


@given(parts(KNOWN, st.booleans()), st.randoms())
def test_what_counts_does_not_depend_on_the_order_in_which_it_is_told(
    there: list[Part], random: object
) -> None:
    mixed = list(there)
    random.shuffle(mixed)  # type: ignore[attr-defined]  # hypothesis' own Random
    assert chosen(mixed) == chosen(there)


@given(parts(KNOWN, st.booleans()))
def test_for_each_place_the_best_counts(there: list[Part]) -> None:
    found = chosen(there)
    for one in there:
        if one.n:
            assert not better(one, found[one.n])
    assert {n for n in found if n} == {one.n for one in there if one.n}


@given(ATTESTED, ATTESTED, st.booleans(), st.booleans())
def test_better_is_never_said_where_it_is_not_known(
    one: Attested, other: Attested, one_is: bool, other_is: bool
) -> None:
    a, b = Part(1, 1, one, one_is), Part(2, 1, other, other_is)
    assert not (better(a, b) and better(b, a))
    if as_good(a, b) and one != 'unknown':
        assert not better(b, a)
    if one == 'unknown' and one_is == other_is:
        assert not better(a, b)
        assert as_good(a, b) is (other in ('unsigned', 'off'))


@given(st.lists(ATTESTED, min_size=1), ATTESTED)
def test_a_series_is_worth_what_its_weakest_mail_is(there: list[Attested], more: Attested) -> None:
    order = ('unsigned', 'off', 'unknown', 'loose', 'pass')
    assert order.index(weakest([*there, more])) <= order.index(weakest(there))
    assert weakest(there) in there


def test_the_newest_of_equals_replaces_the_others() -> None:
    for attested in ('pass', 'loose', 'unsigned', 'off'):
        one, two, three = (Revision(n, n, attested) for n in (1, 2, 3))
        found = relate(two, [one, three])
        assert (found.before, found.ends, found.by) == (1, (1,), 3)
        assert relate(replace(two, open=False), [one, three]).by is None
        assert relate(three, [replace(one, open=False), two]).ends == (2,)


def test_a_copy_is_what_came_later() -> None:
    one, two = Revision(1, 1, 'pass'), Revision(2, 1, 'pass')
    assert twin(two, [one]) == 1
    assert twin(one, [two]) is None
    assert twin(one, [Revision(2, 1, 'unsigned')]) is None
    assert twin(Revision(1, 1, 'unsigned'), [two]) == 2
    assert twin(two, [replace(one, silent=True)]) is None
    assert twin(two, [replace(one, machine=True)]) is None


# --- no content goes unjudged ---


@dataclass(frozen=True)
class Posting:
    """One posting of a series by one author, and what becomes of it when it is looked at."""

    revision: int
    again: bool
    attested: Attested
    content: str
    whole: bool
    silent: bool


POSTINGS = st.lists(
    st.builds(
        Posting, st.integers(1, 3), st.booleans(), KNOWN, st.sampled_from('xy'), st.booleans(),
        st.booleans(),
    ),
    min_size=1, max_size=6,
)  # fmt: skip


class Lives:
    """The store in little: it loads, asks what lifecycle says, and writes."""

    def __init__(self, postings: Sequence[Posting]) -> None:
        self.postings = postings
        self.state: dict[int, str] = {}
        self.by: dict[int, int] = {}
        self.told: set[int] = set()

    def value(self, n: int) -> Revision:
        one, state = self.postings[n], self.state[n]
        return Revision(
            n, one.revision, one.attested, False, state in ENDED, n in self.told,
            state in STANDS, state in JUDGED, one.again, 0, one.content,
        )  # fmt: skip

    def to(self, n: int, state: str, by: int | None = None) -> None:
        self.state[n] = state
        self.by.pop(n, None)
        if by is not None:
            self.by[n] = by
        for other in sorted(one for one, stands in self.by.items() if stands == n):
            assert self.state[other] in ('superseded', 'resent')
            how: Literal['superseded', 'resent'] = (
                'superseded' if self.state[other] == 'superseded' else 'resent'
            )
            if self.by.get(other) == n and not holds(self.value(other), self.value(n), how):
                self.decide(other)

    def decide(self, n: int) -> None:
        self.to(n, 'assembling')
        others = [self.value(one) for one in self.state if one != n]
        found = relate(self.value(n), others)
        for one in found.ends:
            self.to(one, 'superseded', n)
        if found.by is not None:
            self.to(n, 'superseded', found.by)
            return
        if not self.postings[n].whole:
            self.to(n, 'incomplete')
            return
        same = [one for one in others if one.content == self.postings[n].content]
        other = twin(self.value(n), [self.value(one.id) for one in same])
        self.to(n, 'pending' if other is None else 'resent', other)

    def judge(self, n: int) -> None:
        if self.postings[n].silent:
            self.told.add(n)
        self.to(n, 'reviewed')


@given(POSTINGS, st.randoms(use_true_random=False))
def test_each_series_is_judged_or_what_stands_for_it_is(
    postings: list[Posting], choose: Random
) -> None:
    lives = Lives(postings)
    order = list(range(len(postings)))
    choose.shuffle(order)
    for n in order:
        lives.decide(n)
        due = [one for one, state in lives.state.items() if state == 'pending']
        if due and choose.random() < 0.4:
            lives.judge(choose.choice(due))
    while due := [one for one, state in lives.state.items() if state == 'pending']:
        lives.judge(choose.choice(due))
    for n, one in enumerate(postings):
        state, at = lives.state[n], n
        while state in ('superseded', 'resent'):
            before, at = at, lives.by[at]
            assert LEAST[postings[at].attested] >= LEAST[one.attested]
            if state == 'superseded':
                assert postings[at].revision > postings[before].revision
            else:
                assert postings[at].content == postings[before].content
            state = lives.state[at]
        assert state == 'reviewed' if one.whole or at != n else state == 'incomplete'


def test_what_was_posted_before_is_no_later_revision() -> None:
    old, new = Revision(1, 2, 'pass', posted=10**9), Revision(2, 1, 'pass', posted=10**9 + 10**7)
    assert relate(new, [old]) == Related()
    assert relate(old, [new]) == Related()
    assert relate(replace(new, posted=0), [old]).by == 1


def test_what_comes_to_nothing_replaces_nothing() -> None:
    one, two = Revision(1, 1, 'pass'), Revision(2, 2, 'pass', stands=False)
    assert relate(one, [two]).by is None
    assert relate(two, [one]).ends == ()
    assert relate(two, [one]).before == 1


def test_what_is_sent_again_ends_nothing_and_knows_what_it_repeats() -> None:
    one, again = Revision(1, 1, 'pass'), Revision(2, 1, 'pass', again=True)
    assert relate(again, [one]) == Related(before=1)
    assert relate(one, [again]) == Related()


def test_two_postings_in_one_thread() -> None:
    def part(number: int, n: int, answers: str = '', attested: Attested = 'off') -> Part:
        return Part(number, n, attested, False, f'{number}@x', answers)

    mixed = [part(1, 1, 'root'), part(2, 2, '4@x'), part(3, 2, '1@x'), part(4, 1, 'root')]
    assert {one.id for one in another(mixed, 2)} == {2, 4}
    flat = [part(1, 1), part(2, 2), part(3, 1), part(4, 2)]
    assert {one.id for one in another(flat, 2)} == {3, 4}
    assert another(flat[:3], 2) == ()
    assert another(flat, 3) == ()
    # Signed mails are not left to what came first; nor does what is forged, and no whole, count.
    signed = [part(1, 1), part(2, 2), part(3, 1, '', 'pass'), part(4, 2, '3@x', 'pass')]
    assert another([replace(one, msgid='a@x') for one in flat], 2) == ()
    assert another(signed, 2) == ()
