"""A series among others: what is less well attested takes nothing from what is better."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from bot.lifecycle import (
    Attested,
    Part,
    Revision,
    as_good,
    better,
    chosen,
    relate,
    twin,
    weakest,
)

ATTESTED = st.sampled_from(get_args(Attested))
KNOWN = st.sampled_from(('pass', 'loose', 'unsigned'))
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
