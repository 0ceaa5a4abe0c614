"""Trees as people have them."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from bot.errors import TreeError
from bot.tree import Quarantine, Source
from tests.conftest import Bot, Demo
from tests.gitrepo import ENV
from tests.test_repository import fingerprint

pytestmark = pytest.mark.slow


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ['git', *words], cwd=folder, check=True, capture_output=True, text=True,
        env={**os.environ, **ENV},
    ).stdout.strip()  # fmt: skip


@pytest.fixture
def clone(sample: Demo, tmp_path: Path) -> Path:
    git(tmp_path, 'clone', '-q', str(sample.tree), 'clone')
    return tmp_path / 'clone'


def judged(bot: Bot, sample: Demo, tree: Path) -> None:
    """The sample series is judged on `tree` as on the sample, and nothing is written there."""
    before = fingerprint(tree)
    result = bot('check', '-q', '--harness', 'none', '--tree', tree, sample.mbox)
    plain = bot('check', '-q', '--harness', 'none', '--tree', sample.tree, sample.mbox)
    assert result.code == 1, result.err
    assert result.out.split('\n')[3:] == plain.out.split('\n')[3:]
    assert fingerprint(tree) == before


def test_a_clone_a_folder_in_it_and_its_git_dir(bot: Bot, sample: Demo, clone: Path) -> None:
    for path in (clone, clone / 'mm', clone / '.git'):
        judged(bot, sample, path)


def test_a_worktree(bot: Bot, sample: Demo, clone: Path, tmp_path: Path) -> None:
    git(clone, 'worktree', 'add', '-q', str(tmp_path / 'tree'))
    judged(bot, sample, tmp_path / 'tree')


def test_a_clone_that_borrows_objects(bot: Bot, sample: Demo, clone: Path, tmp_path: Path) -> None:
    git(tmp_path, 'clone', '-q', '--shared', str(clone), 'borrows')
    judged(bot, sample, tmp_path / 'borrows')


def test_a_shallow_clone(bot: Bot, sample: Demo, clone: Path, tmp_path: Path) -> None:
    git(clone, 'commit', '-q', '--allow-empty', '-m', 'x')
    git(tmp_path, 'clone', '-q', '--depth=1', f'file://{clone}', 'shallow')
    assert (tmp_path / 'shallow' / '.git' / 'shallow').exists()
    judged(bot, sample, tmp_path / 'shallow')


def test_in_the_middle_of_a_rebase(bot: Bot, sample: Demo, clone: Path) -> None:
    (clone / 'mm' / 'x.c').write_text('x\n')
    git(clone, 'add', '.')
    git(clone, 'commit', '-q', '-m', 'x')
    subprocess.run(
        ['git', 'rebase', '-q', '-x', 'false', 'HEAD~1'], cwd=clone, check=False,
        capture_output=True, env={**os.environ, **ENV},
    )  # fmt: skip
    assert (clone / '.git' / 'rebase-merge').exists()
    judged(bot, sample, clone)


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give a folder away')
def test_a_repository_of_somebody_else(bot: Bot, sample: Demo, clone: Path) -> None:
    for path in [clone, *clone.rglob('*')]:
        os.lchown(path, 65534, 65534)
    judged(bot, sample, clone)


def test_settings_of_the_clone_run_nothing(
    bot: Bot, sample: Demo, clone: Path, tmp_path: Path
) -> None:
    mark = tmp_path / 'ran'
    script = tmp_path / 'script'
    script.write_text(f'#!/bin/sh\ntouch {mark}\n')
    script.chmod(0o755)
    for key in ('core.fsmonitor', 'core.hooksPath', 'b4.am-perpatch-check-cmd', 'core.sshCommand'):
        git(clone, 'config', key, str(script))
    (clone / '.b4-config').write_text(f'[b4]\n\tam-perpatch-check-cmd = {script}\n')
    git(clone, 'config', 'apply.whitespace', 'error')
    judged(bot, sample, clone)
    assert not mark.exists()


def test_a_partial_clone_without_a_blob_says_what_to_run(
    bot: Bot, sample: Demo, clone: Path, tmp_path: Path
) -> None:
    git(clone, 'config', 'uploadpack.allowFilter', 'true')
    git(tmp_path, 'clone', '-q', '--bare', '--filter=blob:none', f'file://{clone}', 'partial.git')
    partial = tmp_path / 'partial.git'
    result = bot('check', '-q', '--harness', 'none', '--tree', partial, sample.mbox)
    assert result.code == 3
    assert re.search(
        rf'{partial} is a partial clone without object [0-9a-f]{{12}}; run: git -C {partial} fetch '
        '--refetch --no-filter$', result.err.strip(),
    )  # fmt: skip
    git(partial, 'fetch', '-q', '--refetch', '--no-filter')
    judged(bot, sample, partial)


def test_sha256_is_refused_clearly(tmp_path: Path) -> None:
    git(tmp_path, 'init', '-q', '--object-format=sha256', 'new')
    with pytest.raises(TreeError, match='is a SHA-256 repository: only SHA-1 ones can be read'):
        Source(tmp_path / 'new')


def test_a_format_that_nobody_here_knows_is_refused_clearly(clone: Path) -> None:
    git(clone, 'config', 'core.repositoryformatversion', '1')
    git(clone, 'config', 'extensions.refstorage', 'nosuch')
    with Quarantine(clone) as quarantine, pytest.raises(TreeError) as error:
        quarantine.resolve('HEAD')
    assert 'git is too old' in str(error.value) or 'no commit' in str(error.value)


def test_a_git_range_is_judged_as_its_mails_are(
    bot: Bot, sample: Demo, clone: Path, tmp_path: Path
) -> None:
    git(clone, 'am', '-q', str(sample.mbox))
    mbox = tmp_path / 'range.mbox'
    mbox.write_text(git(clone, 'format-patch', '--stdout', 'HEAD~6..HEAD') + '\n')
    import json

    form = ('--format', 'json', '-q')
    commits = bot('check', *form, '--tree', clone, 'HEAD~6..HEAD')
    mails = bot('check', *form, '--tree', clone, '--base', 'HEAD~6', mbox)
    assert commits.code == mails.code == 1
    ours, theirs = json.loads(commits.out), json.loads(mails.out)
    assert ours['applied'] == theirs['applied']
    assert len(ours['findings']) == 6
    for one in (*ours['findings'], *theirs['findings']):
        del one['msgid']
    assert ours['findings'] == theirs['findings']
    listed = git(clone, 'rev-list', '--reverse', 'HEAD~6..HEAD').split()
    assert [patch['commit'] for patch in ours['series']['patches']] == listed
    assert [patch['subject'] for patch in ours['series']['patches']] == [
        patch['subject'] for patch in theirs['series']['patches']
    ]
    outcomes = [[(one['n'], one['outcome']) for one in r['builds']] for r in (ours, theirs)]
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ('text', 'code', 'said'),
    [
        ('HEAD..HEAD', 3, 'no commit in this range'),
        ('nosuch..HEAD', 2, "no commit 'nosuch'"),
        ('HEAD~1...HEAD', 2, 'three dots name what is on either side of the fork'),
        ('HEAD~1..HEAD', 3, 'is a merge: bot gate judges merges'),
    ],
)
def test_ranges_that_can_not_be_judged(
    bot: Bot, clone: Path, text: str, code: int, said: str
) -> None:
    git(clone, 'checkout', '-q', '-b', 'side')
    git(clone, 'commit', '-q', '--allow-empty', '-m', 'x')
    git(clone, 'checkout', '-q', 'master')
    git(clone, 'merge', '-q', '--no-ff', '-m', 'merge', 'side')
    result = bot('check', '-q', '--tree', clone, text)
    assert result.code == code
    assert said in result.err


def test_tree_sync_fetches_only_where_it_may(
    bot: Bot, clone: Path, sample: Demo, tmp_path: Path
) -> None:
    config = tmp_path / 'config.toml'
    upstream = tmp_path / 'upstream'
    git(tmp_path, 'clone', '-q', str(sample.tree), str(upstream))
    git(clone, 'remote', 'set-url', 'origin', str(upstream))
    git(upstream, 'commit', '-q', '--allow-empty', '-m', 'new')
    new = git(upstream, 'rev-parse', 'HEAD')
    config.write_text(f'[[tree]]\nname = "linux"\npath = "{clone}"\n')
    result = bot('tree', 'sync', '--config', config)
    assert (result.code, result.err) == (2, 'bot: no [[tree]] has fetch = true\n')
    config.write_text(f'[[tree]]\nname = "linux"\npath = "{clone}"\nfetch = true\n')
    result = bot('tree', 'sync', '--config', config)
    assert (result.code, result.out) == (0, 'linux: updated\n')
    assert git(clone, 'rev-parse', 'origin/master') == new
    assert bot('tree', 'sync', '--config', config, 'nosuch').code == 2
