"""Other harnesses of a real kernel, and the check of what they are thought to read."""

import json
import os
from pathlib import Path

import pytest

from tests.conftest import Bot
from tests.gitrepo import Repo
from tests.kernel.seed import Commit, Seed

MEMBLOCK = 'mm/memblock.c'


def test_memblock_is_built_where_a_patch_touches_it(bot: Bot, kernel: Path, tmp_path: Path) -> None:
    repo = Repo(kernel, existing=True)
    text = repo.git('cat-file', 'blob', f'HEAD:{MEMBLOCK}').decode('latin-1')
    spaced = f'{text}\n/* the end */\n'
    broken = f'{spaced}\nint nosuch(void);\nint memblock_broken(void)\n{{\n\treturn nosuch();\n}}\n'
    seed = Seed(
        {},
        (
            Commit('mm/memblock: say where it ends\n', {MEMBLOCK: spaced}),
            Commit('mm/memblock: break it\n', {MEMBLOCK: broken}),
        ),
    )
    made, base, mbox = seed.write(kernel, tmp_path)
    result = bot('check', '-q', '--format', 'json', '--tree', made.path, '--base', base, mbox)
    review = json.loads(result.out)
    builds = [one for one in review['builds'] if one['harness'] == 'memblock']
    assert [one['outcome'] for one in builds] == ['passed', 'passed', 'build-failed']
    assert builds[0]['tests']['run'] > 100
    (found,) = [one for one in review['findings'] if one['rule'] == 'vma-test-build']
    assert (found['n'], found['path'], found['symbol']) == (2, MEMBLOCK, 'nosuch')
    assert 'the memblock tests' in found['message']


# Each lays out the whole tree on a disk, which takes minutes on a slow one.
TWICE = ['vma', 'memblock'] if os.environ.get('ALL_KERNELS') else ['vma']


@pytest.mark.parametrize('name', TWICE)
def test_what_a_harness_reads_is_what_it_is_given(bot: Bot, kernel: Path, name: str) -> None:
    result = bot('doctor', '-q', '--harness', name, '--tree', kernel)
    assert [line.split()[:2] for line in result.out.splitlines()] == [['ok:', name]]
    assert result.code == 0
