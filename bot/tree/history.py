"""What the gate asks of a repository's history: commits by abbreviated id, where a push begins."""

import re
from collections.abc import Iterable, Iterator, Sequence

import pygit2

from bot.errors import TreeError
from bot.model import Patch
from bot.tree.quarantine import Quarantine

MOST_TAKERS = 50_000
"""Commits that are looked through for the one that took a patch up: half a year of Linux."""
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


def taker(quarantine: Quarantine, tip: str, patch: Patch) -> str | None:
    """
    Return the first commit below `tip` that took a patch up; None where none is found.

    That is one with its subject, and its author or its message-id in a `Link:`.
    """
    found: str | None = None
    title = ' '.join(patch.subject.split())
    walker = quarantine.repo.walk(tip, pygit2.enums.SortMode.TIME)
    for commit, _ in zip(walker, range(MOST_TAKERS), strict=False):
        message = commit.raw_message.decode('utf-8', 'replace')
        if ' '.join(message.partition('\n\n')[0].split()) != title:
            continue
        mailed = patch.msgid is not None and patch.msgid in message
        if mailed or patch.author.email in (commit.author.email, commit.author.name):
            found = str(commit.id)
    return found


def parent_of(quarantine: Quarantine, commit: str) -> str | None:
    """Return the first parent of a commit; None for a root, or where it is not here."""
    try:
        parents = quarantine.repo[commit].peel(pygit2.Commit).parent_ids
    except KeyError:
        return None
    return str(parents[0]) if parents and parents[0] in quarantine.repo else None


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
