"""The gate before a push: 10 commits of which 2 touch the harness; against git rebase --exec."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bot.config import VMA
from tests.bench.harness import OTHERS
from tests.bench.tools import Row, checkout, compare, git, series_on
from tests.gitrepo import ENV
from tests.kernel.conftest import WORDS

PATHS = [*OTHERS[:4], 'mm/vma.c', *OTHERS[4:7], 'mm/vma.h', OTHERS[7]]
ROUNDS = 3
TEST = f'cd {VMA.dir} && make clean >/dev/null && make >/dev/null 2>&1 && ./vma >/dev/null'


def rows(kernel: Path, folder: Path) -> list[Row]:
    """Gate a push, whose base is known and whose commits are not; and the same again."""
    repo, base, _ = series_on(kernel, folder, PATHS)
    tip = repo.git('rev-parse', 'series').decode().strip()
    tree = checkout(kernel, base, repo, folder)
    cache = folder / 'cache'
    cache.mkdir()
    (cache / 'words').symlink_to(WORDS)
    config = folder / 'config.toml'
    config.write_text(f'[state]\ncache = "{cache}"\n')
    repo.git('update-ref', 'refs/remotes/origin/master', base)

    def push() -> None:
        done = subprocess.run(
            [sys.executable, '-P', '-m', 'bot', 'gate', '-q', '--config', str(config), '--rules',
             '*', '--tree', str(repo.path), '--hook', 'pre-push', 'origin', 'url'],
            input=f'refs/heads/series {tip} refs/heads/series {base}\n'.encode(),
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 1), done.stderr

    def new_commits() -> None:
        shutil.rmtree(cache / 'results', ignore_errors=True)
        push()

    def rebase() -> None:
        git(tree, 'checkout', '-q', '--detach', tip)
        subprocess.run(
            ['git', 'rebase', '-q', '--force-rebase', '--exec', TEST, base],
            cwd=tree, check=True, capture_output=True, env={**os.environ, **ENV},
        )  # fmt: skip

    push()  # what is known of the base, from now on
    return [
        compare('gate 10 commits, 2 touch inputs: rebase --exec', new_commits, rebase, ROUNDS),
        compare('gate the same again: rebase --exec', push, rebase, 1),
    ]
