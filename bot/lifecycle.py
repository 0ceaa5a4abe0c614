"""
What becomes of a series among others, as pure decisions: values in, an answer out.

Whoever writes a mail may write any address into its From. So of two mails that
claim the same (the same patch of a series, the same series again, a later
revision of it) the better attested counts, and what is less well attested than
another never takes anything from it: both are judged, neither silences the
other. A machine's copy counts less than any person's mail, as it is not answered.

No content goes unjudged: where a series is not judged itself, another one (a
later revision, or one of the same content) is or will be judged instead of it.
Where that one turns out not to be, the series is decided again
(`holds()`): whatever changes, the store asks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Attested = Literal['pass', 'loose', 'unsigned', 'unknown', 'off']
"""
What the signatures of a series' mails say, the weakest of them. `loose`: they do not say what the
mails answer. `unknown`: the name servers have not answered yet. `off`: nobody asks.
"""
LEAST: dict[Attested, int] = {'pass': 2, 'loose': 1, 'unsigned': 0, 'unknown': 0, 'off': 0}
MOST: dict[Attested, int] = {**LEAST, 'unknown': 2}
OPEN = ('assembling', 'incomplete', 'pending', 'skipped')
"""States in which a mail that arrives may still change whether a series is judged."""
ENDED = (*OPEN, 'parked')
"""States that a later revision ends."""
STANDS = ('assembling', 'pending', 'working', 'parked', 'reviewed', 'superseded')
"""
States of a series that is judged, or may be yet, or instead of which another one is: it may replace
an earlier revision. One that comes to nothing (*incomplete*, *skipped*) replaces nothing.
"""
JUDGED = ('pending', 'working', 'parked', 'reviewed')
"""States of a series that is judged itself: others of the same content are only copies."""
SLACK = 3600
"""Seconds by which the dates of two mails of one author may be wrong."""


@dataclass(frozen=True)
class Part:
    """One mail that claims place `n` of a series; 0 is its cover letter. `answers` is a msgid."""

    id: int
    n: int
    attested: Attested
    machine: bool = False
    msgid: str = ''
    answers: str = ''


@dataclass(frozen=True)
class Revision:
    """
    One revision of a series. `open`: what comes may still change whether it is judged.

    `silent`: it was judged, something was found, and nobody is told. `stands`,
    `judged`: what its state says (`STANDS`, `JUDGED`). `again`: it says RESEND.
    `posted` is the date of its mails in seconds since 1970, 0 where that is not
    known; `content` what it says and changes, '' likewise.
    """

    id: int
    revision: int
    attested: Attested
    machine: bool = False
    open: bool = True
    silent: bool = False
    stands: bool = True
    judged: bool = True
    again: bool = False
    posted: int = 0
    content: str = ''


@dataclass(frozen=True)
class Related:
    """
    What one revision is to the others: the one that it replaces, and those whose judging it ends.

    `by`: the one that ends its own.
    """

    before: int | None = None
    ends: tuple[int, ...] = ()
    by: int | None = None


def as_good(one: Part | Revision, other: Part | Revision) -> bool:
    """Whether `one` is surely attested as well as `other`, whatever is still to be found out."""
    if one.machine != other.machine:
        return other.machine
    return LEAST[one.attested] >= MOST[other.attested]


def better(one: Part, other: Part) -> bool:
    """Whether `one` is known to be attested better than `other`."""
    if one.machine != other.machine:
        return other.machine
    return LEAST[one.attested] > LEAST[other.attested]


def chosen(parts: Sequence[Part]) -> dict[int, Part]:
    """
    Return the mail that counts for each place: the best attested, of several the first.

    A cover letter that is attested less well than every patch is anybody's, and is left out.
    """
    found: dict[int, Part] = {}
    for one in sorted(parts, key=lambda one: one.id):
        there = found.get(one.n)
        if there is None or better(one, there):
            found[one.n] = one
    patches = [one for n, one in found.items() if n]
    cover = found.get(0)
    if cover and patches and all(better(one, cover) for one in patches):
        del found[0]
    return found


def another(parts: Sequence[Part], of: int) -> tuple[Part, ...]:
    """
    Return the mails that are a whole posting of their own, () where there is none.

    Who sends a series twice in one thread, and writes no v2, has two postings of
    one revision that cannot be told apart one by one: all that is there of one
    place is kept as claims to it. Where one posting answers itself (patches
    below their cover letter, or below the first) or what is left makes up a
    whole series, it is judged by itself. What is less well attested, and left, is not.
    """
    msgids: dict[int, set[str]] = {}
    for one in parts:
        msgids.setdefault(one.n, set()).add(one.msgid)
    if any(len(msgids.get(n, ())) < 2 for n in range(1, of + 1)):
        return ()
    whole = [one for one in _threads(parts) if _is_whole(one, of)]
    if len(whole) > 1:
        first = max(whole, key=lambda one: (_worth(one), -min(part.id for part in one)))
        return next(one for one in whole if one is not first)
    taken = chosen(parts)
    known = {one.msgid for one in taken.values()}
    left = tuple(
        one
        for one in sorted(parts, key=lambda one: one.id)
        if one.msgid not in known and (one.n not in taken or as_good(one, taken[one.n]))
    )
    return left if _is_whole(left, of) else ()


def _is_whole(parts: Iterable[Part], of: int) -> bool:
    return {one.n for one in parts} >= set(range(1, of + 1))


def _worth(parts: Sequence[Part]) -> tuple[bool, int]:
    return not any(one.machine for one in parts), min(LEAST[one.attested] for one in parts)


def _threads(parts: Sequence[Part]) -> list[tuple[Part, ...]]:
    """Return the mails that answer each other in order: what is below comes after it."""
    first: dict[str, Part] = {}
    for one in sorted(parts, key=lambda one: one.id):
        first.setdefault(one.msgid, one)
    found: dict[str, list[Part]] = {}
    for one in parts:
        top = one
        # Ever smaller numbers: it comes to an end.
        while (above := first.get(top.answers)) is not None and above.n < top.n:
            top = above
        found.setdefault(top.msgid, []).append(one)
    return [tuple(one) for one in found.values()]


def weakest(attested: Iterable[Attested]) -> Attested:
    """Return what a series is worth by what its mails are; nothing at all is unsigned."""
    every = set(attested)
    order: tuple[Attested, ...] = ('unsigned', 'off', 'unknown', 'loose', 'pass')
    return next((one for one in order if one in every), 'unsigned')


def later(one: Revision, other: Revision) -> bool:
    """
    Whether `one` is a later revision than `other`, or the same one sent again.

    Two series of one title may be years apart: what was posted first is not later.
    """
    if (one.revision, one.again) <= (other.revision, other.again):
        return False
    return not (one.posted and other.posted) or one.posted + SLACK >= other.posted


def replaces(one: Revision, other: Revision) -> bool:
    """Whether a revision is judged instead of another one: what is only sent again is not."""
    return (
        one.stands and one.revision > other.revision and later(one, other) and as_good(one, other)
    )


def relate(mine: Revision, others: Sequence[Revision]) -> Related:
    """Return what one revision of a series is to the other ones."""
    older = [one for one in others if later(mine, one) and as_good(mine, one)]
    newer = [one for one in others if replaces(one, mine)]
    before = max(older, key=_rank, default=None)
    last = max(newer, key=_rank, default=None)
    return Related(
        before.id if before else None,
        tuple(one.id for one in older if one.open and replaces(mine, one)),
        last.id if last and mine.open else None,
    )


def _rank(one: Revision) -> tuple[int, bool, int]:
    return one.revision, one.again, one.id


def twin(mine: Revision, same: Sequence[Revision]) -> int | None:
    """
    Return the series of which this one is only a copy, None where it is to be judged.

    `same` are those of the same author and content. Of equals the first is the
    one to judge. One that is not judged itself does not count, nor does one
    whose findings nobody is told of (it went nowhere, or was dated wrong).
    """
    found = [
        one.id
        for one in same
        if one.judged
        and not one.silent
        and as_good(one, mine)
        and (one.id < mine.id or not as_good(mine, one))
    ]
    return min(found, default=None)


def holds(mine: Revision, other: Revision, how: Literal['superseded', 'resent']) -> bool:
    """Whether another series is still judged instead of this one, as was decided once."""
    if how == 'superseded':
        return replaces(other, mine)
    same = other.content == mine.content
    return same and other.judged and not other.silent and as_good(other, mine)
