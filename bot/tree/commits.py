"""A git range as a series: its commits are its patches, their trees what is judged."""

import re
from collections.abc import Sequence

import pygit2

from bot.errors import TreeError
from bot.model import AppliedSeries, Author, Base, FileDiff, Patch, Series, Step
from bot.series import trailers_of
from bot.tree.hunks import hunks_of
from bot.tree.quarantine import Quarantine

BELOW = re.compile(r'^---[ \t]*$', re.M)
TRACKING = b'--- b4-submit-tracking ---'
FLAGS = pygit2.enums.DiffOption.INDENT_HEURISTIC


def range_of(quarantine: Quarantine, name: str, text: str, old: str, new: str) -> AppliedSeries:
    """
    Return the commits after `old` up to `new` as an applied series on the side of the fork.

    `text` is what a user calls them. The cover letter that b4 prep keeps as a
    commit is none of the patches. Raises `TreeError`: no such commit, nothing
    in the range, or a merge in it.
    """
    repo = quarantine.repo
    first, last = quarantine.resolve(old), quarantine.resolve(new)
    walker = repo.walk(last, pygit2.enums.SortMode.TOPOLOGICAL | pygit2.enums.SortMode.REVERSE)
    walker.hide(first)
    commits = [commit for commit in walker if not is_cover(commit)]
    if not commits:
        raise TreeError(f'{text}: no commit in this range')
    for commit in commits:
        if len(commit.parents) != 1:
            what = 'a merge' if commit.parents else 'the root commit'
            how = 'bot gate judges merges, topic by topic' if commit.parents else 'begin after it'
            raise TreeError(f'{text}: {str(commit.id)[:12]} is {what}: {how}')
    base = commits[0].parents[0]
    series = series_of(
        text,
        [
            patch_from(commit, n, len(commits), quarantine.source.note(str(commit.id)))
            for n, commit in enumerate(commits, 1)
        ],
    )
    steps = tuple(
        Step(
            n,
            quarantine.snapshot(commit.parents[0].tree_id),
            quarantine.snapshot(commit.tree_id),
            files_between(repo, commit.parents[0].tree_id, commit.tree_id),
            str(commit.tree_id),
        )
        for n, commit in enumerate(commits, 1)
    )
    where = Base(name, old, str(base.id), 'where the range begins')
    return AppliedSeries(series, where, steps, steps[0].pre)


def is_cover(commit: pygit2.Commit) -> bool:
    """Whether a commit is the cover letter of `b4 prep`: empty, with its notes on the series."""
    return (
        len(commit.parents) == 1
        and commit.parents[0].tree_id == commit.tree_id
        and TRACKING in commit.raw_message
    )


def series_of(text: str, patches: Sequence[Patch]) -> Series:
    """Return commits as a series; `text` is what a user calls them."""
    return Series(
        msgid=None,
        subject=patches[0].subject if len(patches) == 1 else text,
        author=patches[-1].author,
        revision=1,
        patches=tuple(patches),
    )


def patch_from(commit: pygit2.Commit, n: int, of: int, note: str = '') -> Patch:
    """
    Return a commit as a patch without a diff.

    What is below a `---` of its message, and `note` (git notes), is no part of the message.
    """
    message = commit.raw_message.decode('utf-8', 'replace')
    subject, _, body = message.partition('\n\n')
    cut = BELOW.search(body)
    notes = body[cut.end() :] if cut is not None else ''
    body = body[: cut.start()] if cut is not None else body
    author, committer = commit.author, commit.committer
    return Patch(
        n=n,
        of=of,
        msgid=None,
        commit=str(commit.id),
        subject=' '.join(subject.split()),
        author=Author(author.name or '', author.email or ''),
        message=body.strip('\n'),
        notes='\n'.join(one.strip('\n') for one in (notes, note) if one.strip()),
        diff=b'',
        trailers=trailers_of(body),
        committer=Author(committer.name or '', committer.email or ''),
        merge=len(commit.parent_ids) > 1,
    )


def files_between(
    repo: pygit2.Repository, old: pygit2.Oid, new: pygit2.Oid
) -> tuple[FileDiff, ...]:
    """Return what differs between two trees."""
    before, after = (repo[one].peel(pygit2.Tree) for one in (old, new))
    diff = before.diff_to_tree(after, flags=FLAGS, context_lines=3)
    diff.find_similar()
    return tuple(_file(patch) for patch in diff if patch is not None)


def _file(patch: pygit2.Patch) -> FileDiff:
    delta = patch.delta
    created = delta.status == pygit2.enums.DeltaStatus.ADDED
    deleted = delta.status == pygit2.enums.DeltaStatus.DELETED
    return FileDiff(
        None if created else delta.old_file.path,
        None if deleted else delta.new_file.path,
        old_mode=None if created else int(delta.old_file.mode),
        new_mode=None if deleted else int(delta.new_file.mode),
        hunks=hunks_of(patch),
    )
