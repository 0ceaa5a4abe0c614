"""A patch that is not mailed yet, found again among the commits it was made from (`b4 prep`)."""

import pygit2

from bot.model import AppliedSeries
from bot.tree.commits import is_cover, range_of
from bot.tree.patchid import patch_id
from bot.tree.quarantine import Quarantine

MOST = 1000
"""Commits below HEAD that are looked through."""


def prepared(
    quarantine: Quarantine, name: str, title: str, diff: bytes, n: int, of: int
) -> AppliedSeries | None:
    """
    Return the series that ends at HEAD and has a patch as its `n`th of `of` commits.

    None where it does not: another branch is checked out, or the patch is
    another by now. The cover letter that b4 keeps as a commit does not count.
    """
    head = quarantine.source.resolve('HEAD')
    if head is None or not 1 <= n <= of:
        return None
    commits: list[pygit2.Commit] = []
    walker = quarantine.repo.walk(head, pygit2.enums.SortMode.TOPOLOGICAL)
    for commit, _ in zip(walker, range(MOST), strict=False):
        if len(commit.parent_ids) != 1:
            break
        if not is_cover(commit):
            commits.append(commit)
        if len(commits) == of:
            break
    if len(commits) < of:
        return None
    own = commits[of - n]
    said = own.raw_message.decode('utf-8', 'replace').partition('\n\n')[0]
    if ' '.join(said.split()) != title or patch_id(diff) != patch_id(_diff(own)):
        return None
    return range_of(quarantine, name, 'HEAD', str(commits[-1].parent_ids[0]), head)


def _diff(commit: pygit2.Commit) -> bytes:
    before = commit.parents[0].peel(pygit2.Tree)
    diff = before.diff_to_tree(commit.peel(pygit2.Tree), context_lines=3)
    diff.find_similar()
    return (diff.patch or '').encode('utf-8', 'surrogateescape')
