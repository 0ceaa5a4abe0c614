"""A history with merges: what is judged of it, against git."""

import random
import subprocess
from pathlib import Path

import pytest

from bot.tree import Quarantine, merge_of, runs
from tests.gitrepo import ENV, Repo

FILES = {f'{folder}/{name}.c': b''.join(b'line %d\n' % n for n in range(40))
         for folder in ('mm', 'fs') for name in 'abc'}  # fmt: skip


class Maintainer:
    """A repository with topics and merges, made by git with a seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.choose = random.Random(seed)
        self.repo = Repo(folder / 'linux.git')
        self.work = folder / 'work'
        self.base = self.repo.commit(self.repo.write(FILES), 'base\n')
        self.git('clone', '-q', str(self.repo.path), str(self.work), at=folder)

    def git(self, *words: str, at: Path | None = None, ok: bool = True) -> str:
        done = subprocess.run(
            ['git', *words], cwd=at or self.work, capture_output=True, text=True, check=ok,
            env={'PATH': '/usr/bin:/bin', 'HOME': str(self.repo.path), **ENV},
        )  # fmt: skip
        return done.stdout.strip()

    def change(self, message: str) -> None:
        path = self.work / self.choose.choice(sorted(FILES))
        lines = path.read_text().split('\n')
        lines.insert(self.choose.randrange(len(lines)), f'/* {message} */')
        path.write_text('\n'.join(lines))
        self.git('commit', '-q', '-a', '-m', message)

    def topic(self, number: int, commits: int) -> None:
        start = self.choose.choice(['master', self.base])
        self.git('checkout', '-q', '-b', f'topic{number}', start)
        for one in range(commits):
            self.change(f'topic {number}: {one}')
        self.git('checkout', '-q', 'master')

    def merge(self, number: int) -> None:
        self.git('merge', '-q', '--no-ff', '-m', f'Merge {number}', f'topic{number}', ok=False)
        for path in sorted(FILES):
            text = (self.work / path).read_text()
            if '<<<<<<<' in text:
                kept = [
                    one
                    for one in text.split('\n')
                    if one[:7] not in ('<<<<<<<', '=======', '>>>>>>>')
                ]
                (self.work / path).write_text('\n'.join([*kept, '/* by hand */']))
        self.git('commit', '-q', '-a', '-m', f'Merge {number}', ok=False)
        self.git('push', '-q', 'origin', 'master')


@pytest.mark.parametrize('seed', range(4))
def test_parts_are_all_commits_each_on_its_parent(seed: int, tmp_path: Path) -> None:
    tree = Maintainer(tmp_path, seed)
    for number in range(6):
        tree.topic(number, tree.choose.randrange(1, 5))
        tree.merge(number)
    with Quarantine(tree.repo.path) as quarantine:
        new = quarantine.resolve('master')
        parts = runs(quarantine, tree.base, new, 3)
        listed: list[str] = []
        for part in parts:
            if part.merge:
                assert part.count == 1
                listed.append(part.new)
                assert tree.git('rev-parse', f'{part.new}^1') == part.old
                continue
            assert part.count <= 3
            own = tree.git('rev-list', '--reverse', f'{part.old}..{part.new}').split()
            assert len(own) == part.count
            for commit, before in zip(own, [part.old, *own], strict=False):
                assert tree.git('rev-parse', f'{commit}^@') == before
            listed += own
        everything = tree.git('rev-list', f'{tree.base}..{new}').split()
        assert sorted(listed) == sorted(everything)
        assert len(set(listed)) == len(listed)
        seen = {tree.base}
        for part in parts:  # each comes after what it is on
            assert part.old in seen
            seen |= set(tree.git('rev-list', f'{part.old}..{part.new}').split())


@pytest.mark.parametrize('seed', range(4))
def test_what_a_merge_brings(seed: int, tmp_path: Path) -> None:
    """A merge that git makes alone has no files; one by hand has those that were edited."""
    tree = Maintainer(tmp_path, seed)
    for number in range(4):
        tree.topic(number, 3)
    for number in range(4):
        tree.merge(number)
    with Quarantine(tree.repo.path) as quarantine:
        for part in runs(quarantine, tree.base, quarantine.resolve('master'), 200):
            if not part.merge:
                continue
            written, whole = merge_of(quarantine, 'linux', 'x', part.new)
            alone = tree.git(
                'merge-tree', '--write-tree', f'{part.new}^1', f'{part.new}^2', ok=False
            )
            files = {diff.path for step in written.steps for diff in step.files}
            edited = tree.git('diff', '--name-only', f'{part.new}^1', part.new).split()
            assert files <= set(edited)
            if 'CONFLICT' not in alone:
                assert not files
                assert alone.split()[0] == whole.steps[0].tree
            else:
                by_hand = [
                    path
                    for path in edited
                    if '/* by hand */' in tree.git('show', f'{part.new}:{path}')
                ]
                assert files & set(by_hand)
            assert whole.steps[0].tree == tree.git('rev-parse', f'{part.new}^{{tree}}')
