"""KTAP, read by the kernel's own parser: tools/testing/kunit of the tree under test."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from bot.output import ktap
from tests.conftest import Bot, Demo
from tests.gitrepo import Repo
from tests.test_ktap import review_of_all_kinds, reviews_that_were_none

KUNIT = 'tools/testing/kunit'
Tree = dict[str, Any]


@pytest.fixture(scope='session')
def kunit(kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel's kunit.py, with what it imports."""
    repo = Repo(kernel, existing=True)
    if not repo.git('ls-tree', 'HEAD', f'{KUNIT}/kunit.py'):
        pytest.skip(f'this kernel has no {KUNIT}')
    folder = tmp_path_factory.mktemp('kunit')
    with tarfile.open(fileobj=io.BytesIO(repo.git('archive', 'HEAD', KUNIT))) as archive:
        archive.extractall(folder, filter='data')
    return folder / KUNIT / 'kunit.py'


def parsed(kunit: Path, text: str, folder: Path) -> tuple[int, str, Tree]:
    """Exit status of `kunit.py parse`, what it prints, and the results as a tree."""
    log, found = folder / 'log', folder / 'found.json'
    log.write_text(text)
    done = subprocess.run(
        [sys.executable, str(kunit), 'parse', f'--json={found}', str(log)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ''
    return done.returncode, done.stdout, tree(json.loads(found.read_text()))


def tree(group: Tree) -> Tree:
    """Names and results of a group, those of its subtests below them."""
    found: Tree = {case['name']: case['status'] for case in group['test_cases']}
    return {**found, **{one['name']: tree(one) for one in group['sub_groups']}}


def test_the_sample_series(bot: Bot, sample: Demo, kunit: Path, tmp_path: Path) -> None:
    said = bot('check', '-q', '--format', 'ktap', '--tree', sample.tree, sample.mbox).out
    code, out, found = parsed(kunit, said, tmp_path)
    assert code == 1
    assert 'Ran 15 tests: passed: 9, failed: 6' in out
    assert 'errors' not in out
    good = {'rules': 'PASS', 'vma': 'PASS'}
    bad = {'rules': 'FAIL', 'vma': 'PASS'}
    assert list(found.values()) == [
        {'applies': 'PASS', **good}, bad, bad, bad, bad, {'rules': 'FAIL', 'vma': 'FAIL'}, good,
    ]  # fmt: skip
    assert list(found)[5] == '5/6 mm/vma: count what is linked'
    assert 'breaks the vma tests at 5/6 (mended at 6/6)' in out


def test_all_kinds_and_a_strangers_words(kunit: Path, tmp_path: Path) -> None:
    code, out, found = parsed(kunit, ktap.render([review_of_all_kinds()]), tmp_path)
    assert code == 1
    assert 'errors' not in out
    assert list(found.items()) == [
        ('0/3 mm: fix Kernel panic - not syncing VFS: SKIP it',
         {'applies': 'PASS', 'rules': 'SKIP', 'vma': 'PASS', 'memblock': 'SKIP'}),
        ('1/3 mm: fix Kernel panic - not syncing VFS: SKIP it',
         {'rules': 'PASS', 'vma': 'PASS', 'memblock': 'SKIP', 'radix': 'SKIP'}),
        ('2/3 rules', {'rules': 'FAIL', 'vma': 'FAIL'}),
        ('3/3 mm: reboot System halted', {'rules': 'SKIP', 'vma': 'FAIL'}),
    ]  # fmt: skip


def test_what_was_not_judged_is_skipped(kunit: Path, tmp_path: Path) -> None:
    code, out, found = parsed(kunit, ktap.render(reviews_that_were_none()), tmp_path)
    assert code == 1  # nothing was run
    assert 'Ran 9 tests: skipped: 9' in out
    assert [list(one) for one in found.values()] == [
        ['applies', 'rules'], ['rules'], ['rules'], ['rules'],
        ['applies', 'rules'], ['applies', 'rules'],
    ]  # fmt: skip


def test_a_clean_series_passes(bot: Bot, sample: Demo, kunit: Path, tmp_path: Path) -> None:
    said = bot('check', '-q', '--format', 'ktap', '--rules', 'vm-ops-null', '--harness', 'none',
               '--tree', sample.tree, sample.mbox).out  # fmt: skip
    code, out, _ = parsed(kunit, said, tmp_path)
    assert code == 0
    assert 'Ran 8 tests: passed: 8' in out
