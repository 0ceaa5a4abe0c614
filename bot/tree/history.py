"""What the gate asks of a repository's history: commits by abbreviated id, where a push begins."""

import re
from collections.abc import Iterable, Iterator, Sequence

import pygit2

from bot.errors import TreeError
from bot.tree.quarantine import Quarantine

NONE = '0' * 40
"""How git writes that there is no commit: a new ref, or a deleted one."""
ABBREVIATED = re.compile(r'[0-9a-f]{5,40}')


def subjects(quarantine: Quarantine, ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the subjects of the commits that each abbreviated id may stand for."""
    return {one: tuple(_subjects(quarantine, one)) for one in dict.fromkeys(ids)}


def whole(quarantine: Quarantine) -> bool:
    """Whether all of the history is here: neither a shallow nor a partial clone."""
    common = quarantine.source.common
    return not (common / 'shallow').exists() and not quarantine.source.partial


def beginning(quarantine: Quarantine, new: str, known: Sequence[str]) -> str | None:
    """
    Return the commit that what `new` brings is on top of; None where it brings nothing.

    `known` are commits that were there before. Raises `TreeError` where there
    is nothing below: a root commit.
    """
    repo = quarantine.repo
    walker = repo.walk(new, pygit2.enums.SortMode.TOPOLOGICAL | pygit2.enums.SortMode.REVERSE)
    for one in dict.fromkeys(known):
        if one in repo:
            walker.hide(one)
    first = next(iter(walker), None)
    if first is None:
        return None
    if not first.parents:
        raise TreeError(f'{new[:12]}: begins with a root commit: nothing to compare it with')
    return str(first.parents[0].id)


def count(quarantine: Quarantine, old: str, new: str, most: int) -> int:
    """Count the commits of `old..new`, but no further than `most` + 1."""
    walker = quarantine.repo.walk(new)
    walker.hide(old)
    return sum(1 for _, _ in zip(walker, range(most + 1), strict=False))


def _subjects(quarantine: Quarantine, short: str) -> Iterator[str]:
    if not ABBREVIATED.fullmatch(short):
        return
    repo = quarantine.repo
    try:
        found = [repo.get(short)]
    except ValueError:  # several objects begin so, and only commits count
        found = [repo.get(one) for one in quarantine.source.beginning_with(short)]
    for one in found:
        try:
            commit = one.peel(pygit2.Commit) if one is not None else None
        except (pygit2.GitError, ValueError):
            continue  # a tree or a blob
        if commit is not None:
            message = commit.raw_message.decode('utf-8', 'replace')
            yield ' '.join(message.partition('\n\n')[0].split())
