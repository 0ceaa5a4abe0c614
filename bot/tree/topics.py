"""
A history with merges, in parts that can be judged: topics and merges.

Answers how the commits of a range fall into runs without a merge, each in its
own order on its own parent, and what a merge itself brings: what its author
wrote, beyond what git merges by itself. A maintainer's tree is topics, merged.
"""

from dataclasses import dataclass

import pygit2

from bot.errors import TreeError
from bot.model import AppliedSeries, Base, Step
from bot.patch import REGULAR
from bot.tree.commits import patch_from, series_of
from bot.tree.quarantine import Quarantine
from bot.tree.snapshot import FOLDER


@dataclass(frozen=True)
class Run:
    """Commits after `old` up to `new`, none of them a merge; or `new`, a merge onto `old`."""

    old: str
    new: str
    count: int
    merge: bool = False


def runs(quarantine: Quarantine, old: str, new: str, most: int) -> tuple[Run, ...]:
    """
    Return the parts of `old..new`, in an order in which each comes after what it is on.

    None has more than `most` commits. Raises `TreeError` for a root commit.
    """
    walker = quarantine.repo.walk(
        new, pygit2.enums.SortMode.TOPOLOGICAL | pygit2.enums.SortMode.REVERSE
    )
    walker.hide(old)
    parts: list[list[pygit2.Commit]] = []
    at: dict[pygit2.Oid, list[pygit2.Commit]] = {}
    for commit in walker:
        if not commit.parents:
            raise TreeError(f'{str(commit.id)[:12]} is a root commit: nothing to compare it with')
        before = at.get(commit.parent_ids[0])
        if len(commit.parent_ids) > 1 or before is None or len(before) >= most:
            part = [commit]
            parts.append(part)
        else:
            part = before
            part.append(commit)
            del at[commit.parent_ids[0]]  # another topic that begins there is one of its own
        if len(commit.parent_ids) == 1:
            at[commit.id] = part
    return tuple(_run(part) for part in parts)


def _run(part: list[pygit2.Commit]) -> Run:
    first, last = part[0], part[-1]
    merge = len(first.parent_ids) > 1
    return Run(str(first.parent_ids[0]), str(last.id), len(part), merge)


def merge_of(
    quarantine: Quarantine, name: str, text: str, commit: str
) -> tuple[AppliedSeries, AppliedSeries]:
    """
    Return a merge as a series of one: what its author wrote, and what it brings as a whole.

    The first is the difference from what a merge of the parents gives by
    itself, with its own side where they conflict: that is for the rules. The
    second goes from the first parent to the merge, and names the files of the
    first: that is to be built. A merge that nobody edited has no files.
    """
    merge = quarantine.repo[commit].peel(pygit2.Commit)
    first = merge.parents[0]
    alone = _merged(quarantine, merge)
    files = quarantine.difference(alone, merge.tree_id)
    series = series_of(text, [patch_from(merge, 1, 1)])
    base = Base(name, str(first.id), str(first.id), 'the first parent of the merge')
    written, whole = (
        AppliedSeries(series, base, (step,), step.pre)
        for step in (
            Step(1, quarantine.snapshot(pre), quarantine.snapshot(merge.tree_id), files,
                 str(merge.tree_id))
            for pre in (alone, first.tree_id)
        )
    )  # fmt: skip
    return written, whole


def _merged(quarantine: Quarantine, merge: pygit2.Commit) -> pygit2.Oid:
    """Return the tree that a merge of the parents gives, its own side where they conflict."""
    repo = quarantine.repo
    ours = merge.parents[0].id
    tree = merge.parents[0].tree_id
    for parent in merge.parents[1:]:
        fork = repo.merge_base(ours, parent.id)
        base = repo[fork].peel(pygit2.Commit).tree_id if fork is not None else None
        tree = _Merging(quarantine).folder(base, tree, parent.tree_id)
    return tree


class _Merging:
    """
    Merges trees, entry by entry, and files that both sides changed by their lines.

    Nothing is written: libgit2's and git's own merges touch objects of the user.
    """

    def __init__(self, quarantine: Quarantine) -> None:
        self._quarantine = quarantine
        self._objects = quarantine.objects

    def folder(self, base: pygit2.Oid | None, ours: pygit2.Oid, theirs: pygit2.Oid) -> pygit2.Oid:
        """Return the merge of three folders."""
        if ours == theirs or base == theirs:
            return ours
        if base == ours:
            return theirs
        before, mine, other = (
            self._objects.folder(one) if one is not None else {} for one in (base, ours, theirs)
        )
        entries: dict[str, tuple[int, pygit2.Oid]] = {}
        for name in {**mine, **other}:
            found = self._entry(before.get(name), mine.get(name), other.get(name))
            if found is not None:
                entries[name] = found
        return self._objects.add_folder(entries)

    def _entry(
        self,
        base: tuple[int, pygit2.Oid] | None,
        ours: tuple[int, pygit2.Oid] | None,
        theirs: tuple[int, pygit2.Oid] | None,
    ) -> tuple[int, pygit2.Oid] | None:
        if ours == theirs or base == theirs:
            return ours
        if base == ours:
            return theirs
        if ours is None or theirs is None:
            return ours or theirs  # one side removed what the other changed: kept
        if ours[0] == theirs[0] == FOLDER:
            below = base[1] if base is not None and base[0] == FOLDER else None
            merged = self.folder(below, ours[1], theirs[1])
            return (FOLDER, merged) if self._objects.folder(merged) else None
        if all(one is not None and one[0] in REGULAR for one in (base, ours, theirs)):
            assert base is not None
            contents = [self._objects.blob(one[1]) for one in (ours, base, theirs)]
            lines = self._quarantine.merge_lines(*contents)
            return (ours[0], self._objects.add_blob(lines))
        return ours
