"""
Which commit a series is judged on, and why that one.

`--base` if it was given; else the `base-commit:` that the series names, where
a tree has it; else each configured ref, in order, that all of it applies to;
else, where a ref has the series already, the parent of the commit that took it
up; else the base that b4 guesses from the blobs that the patches name. What the
series says that it needs (`prerequisite-…:`, `Depends-on:`) is fetched and
goes onto a base first; it is not judged. Every try is made in memory.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from bot.b4 import B4
from bot.errors import LoreError, TreeError
from bot.lookup import Lookup
from bot.model import (
    AppliedSeries,
    Base,
    DoesNotApply,
    Incomplete,
    Mail,
    Patch,
    Prerequisite,
    Series,
    Tree,
    Tried,
)
from bot.series import patch_of
from bot.subjects import read as read_subject
from bot.tree import Quarantine, parent_of, patch_id, taker

Tell = Callable[[str], None]
MOST_PREREQUISITES = 200
"""Patches. A series that needs more is not judged on them."""


@dataclass(frozen=True)
class Place:
    """A configured tree, opened."""

    tree: Tree
    quarantine: Quarantine


@dataclass(frozen=True)
class Needed:
    """The patches that go below a series, and what could not be found of them."""

    patches: tuple[Patch, ...] = ()
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    place: Place
    ref: str
    commit: str
    why: str


def choose(
    series: Series,
    places: Sequence[Place],
    wanted: str | None = None,
    needed: Needed = Needed(),  # frozen
    guess: Callable[[Place, dict[str, str]], str | None] | None = None,
    tell: Tell = lambda _: None,
    without: Collection[str] = (),
) -> AppliedSeries | DoesNotApply:
    """
    Apply `series` to the first base that takes all of it, no commit of `without`.

    Raises `TreeError` where there is no base to try at all. The result's base
    names what was tried before; where nothing fits it is the base that took
    the most patches.
    """
    failed: list[DoesNotApply] = []
    unknown = _unknown(series, places) if wanted is None else ()
    several = len(places) > 1
    for candidate in _candidates(series, places, wanted, guess, failed):
        if candidate.commit in without:
            continue
        tell(f'trying {candidate.ref} {candidate.commit[:12]} of {candidate.place.tree.name}')
        missed: DoesNotApply | None = None
        for on_top in (needed.patches, ()) if needed.patches else ((),):
            result = _try(series, candidate, on_top)
            if isinstance(result, AppliedSeries):
                base = replace(result.base, tried=(*unknown, *_tried(failed, several)))
                return vouched(replace(result, base=base), candidate.place, wanted)
            missed = _since(candidate.place, result) if result.there else result
        if missed and not any(one.base.commit == candidate.commit for one in failed):
            failed.append(missed)
    if not failed:
        names = ', '.join(ref for place in places for ref in place.tree.refs)
        raise TreeError(f'no base to try: none of the refs {names} is there; name one with --base')
    best = max(failed, key=lambda one: one.n)
    others = [one for one in failed if one is not best]
    reason = best.reason
    if needed.lacking:
        reason += f' (not found: {"; ".join(needed.lacking[:3])})'
    tried = (*unknown, *_tried(others, several))
    return replace(best, base=replace(best.base, tried=tried), reason=reason)


def vouched(applied: AppliedSeries, place: Place, named: str | None = None) -> AppliedSeries:
    """
    Leave `applied` its ground only where a configured ref has the base's commit.

    So does a ref that the user `named`. A mail may name any commit that the
    repository happens to have, and that may be a stranger's, fetched to be
    looked at.
    """
    refs = (*place.tree.refs, named) if named else place.tree.refs
    if place.quarantine.source.holds(refs, applied.base.commit):
        return applied
    return replace(applied, ground=None)


def prerequisites(series: Series, archive: Lookup | None, b4: B4, tell: Tell) -> Needed:
    """Fetch what `series` says that it needs, in the order in which it says so."""
    patches: list[Patch] = []
    lacking: list[str] = []
    for one in series.prerequisites:
        if archive is None:
            lacking.append(f'{one} (no archive to look in)')
            continue
        tell(f'fetching {one}')
        try:
            found = _fetch(one, archive, b4)
        except LoreError as error:
            lacking.append(f'{one}: {error}')
            continue
        if isinstance(found, Incomplete):
            lacking.append(f'{one}: {found.reason}')
            continue
        known = {patch.msgid for patch in patches}
        patches += [patch for patch in found if patch.msgid not in known]
        if len(patches) > MOST_PREREQUISITES:
            return Needed((), (f'more than {MOST_PREREQUISITES} prerequisite patches',))
    return Needed(tuple(patches), tuple(lacking))


def guess_with(
    b4: B4, series: Series, thread: Sequence[Mail]
) -> Callable[[Place, dict[str, str]], str | None]:
    """Return a guess, by b4, among a tree's refs."""

    def guess(place: Place, refs: dict[str, str]) -> str | None:
        numbered = {f'ref{n}': commit for n, commit in enumerate(refs.values())}
        if not numbered:
            return None
        found = b4.guess_base(series, thread, place.quarantine.worktree(numbered))
        if found is None:
            return None
        # Only our own repository knows `heads/ref0`.
        return place.quarantine.resolve_guess(found)

    return guess


def _candidates(
    series: Series,
    places: Sequence[Place],
    wanted: str | None,
    guess: Callable[[Place, dict[str, str]], str | None] | None,
    failed: Sequence[DoesNotApply],
) -> Iterator[_Candidate]:
    """Yield the bases to try; `failed` grows meanwhile by what did not fit."""
    if wanted is not None:
        for place in places:
            commit = place.quarantine.source.resolve(wanted)
            if commit is not None:
                yield _Candidate(place, wanted, commit, '--base')
                return
        paths = ', '.join(place.tree.path for place in places)
        raise TreeError(f'no commit {wanted!r} in {paths}: name one with --base')
    if series.base_commit is not None:
        for place in places:
            commit = place.quarantine.source.resolve(series.base_commit)
            if commit is not None:
                yield _Candidate(place, 'base-commit', commit, 'the series names it')
                break
    refs: dict[str, dict[str, str]] = {}
    for place in places:
        for pattern in place.tree.refs:
            for ref, commit in place.quarantine.source.matching(pattern):
                refs.setdefault(place.tree.name, {})[ref] = commit
                yield _Candidate(place, ref, commit, f'a ref of {place.tree.name}')
    for one in [one for one in failed if one.there]:
        place = next(place for place in places if place.tree.name == one.base.tree)
        took = _taker(place, one)
        commit = parent_of(place.quarantine, took) if took is not None else None
        if took is not None and commit is not None:
            why = f'before {took[:12]}, which took patch {one.n} into {one.base.ref}'
            yield _Candidate(place, f'{took[:12]}^', commit, why)
    for place in places if guess is not None else ():
        assert guess is not None
        commit = guess(place, refs.get(place.tree.name, {}))
        if commit is not None:
            yield _Candidate(place, 'guess', commit, "b4's best guess")


def _unknown(series: Series, places: Sequence[Place]) -> tuple[Tried, ...]:
    """Say that the base which a series names is in no tree."""
    named = series.base_commit
    if named is None or any(place.quarantine.source.resolve(named) for place in places):
        return ()
    return (Tried('base-commit', named, 0, None, 'the series names it, and no tree here has it'),)


def _since(place: Place, missed: DoesNotApply) -> DoesNotApply:
    """Say since which commit a base has a patch already."""
    took = _taker(place, missed)
    if took is None:
        return missed
    return replace(
        missed, reason=f'{missed.base.ref} has patch {missed.n} already, since {took[:12]}'
    )


def _taker(place: Place, missed: DoesNotApply) -> str | None:
    patch = next(one for one in missed.series.patches if one.n == missed.n)
    return taker(place.quarantine, missed.base.commit, patch)


def _try(
    series: Series, candidate: _Candidate, on_top: Sequence[Patch]
) -> AppliedSeries | DoesNotApply:
    base = Base(candidate.place.tree.name, candidate.ref, candidate.commit, candidate.why)
    return candidate.place.quarantine.apply(series, base, on_top)


def _tried(failed: Sequence[DoesNotApply], several: bool) -> tuple[Tried, ...]:
    return tuple(
        Tried(
            f'{one.base.tree}/{one.base.ref}' if several else one.base.ref,
            one.base.commit,
            one.n,
            one.path,
            one.reason,
        )
        for one in failed
    )


def _fetch(one: Prerequisite, archive: Lookup, b4: B4) -> tuple[Patch, ...] | Incomplete:
    match one.kind:
        case 'message-id':
            thread = archive.thread(one.value)
            named = [mail for mail in thread if mail.msgid == one.value]
            revision = read_subject(named[0].subject).version if named else None
            found = b4.series(thread, one.value, revision)
        case 'change-id':
            change, _, version = one.value.partition(':')
            mails = archive.search(f'nq:"change-id: {change}"')
            said = f'change-id: {change}'.encode()
            wanted = version.removeprefix('v')
            for mail in mails:
                of = str(read_subject(mail.subject).version)
                if said in mail.body and mail.msgid and wanted in ('', of):
                    number = int(wanted) if wanted.isdigit() else None
                    found = b4.series(archive.thread(mail.msgid), mail.msgid, number)
                    break
            else:
                return Incomplete('not in the archive')
        case 'patch-id':
            for mail in archive.search(f'patchid:{one.value}'):
                patch = patch_of(read_subject(mail.subject), mail)
                if patch.diff and patch_id(patch.diff) == one.value:
                    return (patch,)
            return Incomplete('not in the archive')
    return found if isinstance(found, Incomplete) else found.patches
