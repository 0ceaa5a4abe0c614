"""A git range as a series: its commits are its patches, their trees what is judged."""

import pygit2

from bot.errors import TreeError
from bot.model import AppliedSeries, Author, Base, FileDiff, Patch, Series, Step
from bot.series import trailers_of
from bot.tree.hunks import hunks_of
from bot.tree.quarantine import Quarantine

FLAGS = pygit2.enums.DiffOption.INDENT_HEURISTIC


def range_of(quarantine: Quarantine, name: str, text: str) -> AppliedSeries:
    """
    Return the commits of `A..B` as an applied series on A's side of the fork.

    `A..` ends at HEAD. Raises `TreeError`: no such commit, nothing in the
    range, or a merge in it.
    """
    left, _, right = text.partition('..')
    if right.startswith('.'):
        raise TreeError(f'{text}: a range has two dots, not three')
    repo = quarantine.repo
    first, last = (quarantine.resolve(one or 'HEAD') for one in (left, right))
    walker = repo.walk(last, pygit2.enums.SortMode.TOPOLOGICAL | pygit2.enums.SortMode.REVERSE)
    walker.hide(first)
    commits = list(walker)
    if not commits:
        raise TreeError(f'{text}: no commit in this range')
    for commit in commits:
        if len(commit.parents) != 1:
            what = 'a merge' if commit.parents else 'the root commit'
            raise TreeError(f'{text}: {str(commit.id)[:12]} is {what}: name a linear range')
    base = commits[0].parents[0]
    patches = tuple(_patch(commit, n, len(commits)) for n, commit in enumerate(commits, 1))
    series = Series(
        msgid=None,
        subject=patches[0].subject if len(patches) == 1 else text,
        author=patches[-1].author,
        revision=1,
        patches=patches,
    )
    steps = tuple(
        Step(
            n,
            quarantine.snapshot(commit.parents[0].tree_id),
            quarantine.snapshot(commit.tree_id),
            _files(repo, commit),
            str(commit.tree_id),
        )
        for n, commit in enumerate(commits, 1)
    )
    ref = left or 'HEAD'
    where = Base(name, ref, str(base.id), 'where the range begins')
    return AppliedSeries(series, where, steps, steps[0].pre)


def _patch(commit: pygit2.Commit, n: int, of: int) -> Patch:
    message = commit.raw_message.decode('utf-8', 'replace')
    subject, _, body = message.partition('\n\n')
    author, committer = commit.author, commit.committer
    return Patch(
        n=n,
        of=of,
        msgid=None,
        commit=str(commit.id),
        subject=' '.join(subject.split()),
        author=Author(author.name or '', author.email or ''),
        message=body.strip('\n'),
        notes='',
        diff=b'',
        trailers=trailers_of(body),
        committer=Author(committer.name or '', committer.email or ''),
    )


def _files(repo: pygit2.Repository, commit: pygit2.Commit) -> tuple[FileDiff, ...]:
    before, after = (repo[one].peel(pygit2.Tree) for one in (commit.parents[0].id, commit.id))
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
