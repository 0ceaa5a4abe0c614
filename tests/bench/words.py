"""The index of words: made, made again after one folder changed, and looked up in."""

import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from bot.tree import GitSnapshot, Quarantine
from bot.tree.lexicon import build
from tests.bench.tools import timed
from tests.gitrepo import Repo
from tests.kernel.seed import borrowing

KNOWN = ('mmap_action_complete', 'vm_area_struct', 'folio_test_large', 'READ_ONCE', 'i_mmap_rwsem')
UNKNOWN = ('mmap_action_compleet', 'vm_area_strcut', 'folio_tets_large', 'nothing_like_it_at_all')
ROUNDS = 50


def rows(kernel: Path, folder: Path) -> list[str]:
    """Lines for people: seconds, bytes, microseconds."""
    repo = borrowing(kernel, folder / 'repo.git')
    base = Repo(kernel, existing=True).git('rev-parse', 'HEAD').decode().strip()
    cache = folder / 'cache'
    before = os.times()
    cold = _made(repo, base, cache)
    busy = os.times().children_user - before.children_user
    size = _size(cache, 'words'), _size(cache, 'shard')
    changed = repo.write({'mm/brand_new.c': b'int brand_new_name;\n'}, base)
    warm = _made(repo, repo.commit(changed, 'next', base, 'next'), cache)
    files = len(repo.git('ls-tree', '-r', '--name-only', base).splitlines())
    cores = len(os.sched_getaffinity(0))
    lines = [
        f'index of {files} files: {cold:.1f} s on {cores} cores, {busy:.0f} s of processor',
        f'{size[0] / 1e6:.0f} MB, and {size[1] / 1e6:.0f} MB of shards',
        f'after one folder changed: {warm:.1f} s',
    ]
    with Quarantine(repo.path, cache) as quarantine:
        tree = quarantine.at(base)
        opened = timed(lambda: tree.knows('page'))
        knows = _each(tree.knows, (*KNOWN, *UNKNOWN))
        near = [_near(quarantine, base, word) for word in UNKNOWN]
        lines.append(
            f'opened in {opened * 1e3:.1f} ms; knows() {knows * 1e6:.0f} µs, '
            f'near() {statistics.median(near) * 1e3:.0f} ms (slowest {max(near) * 1e3:.0f} ms)'
        )
    return lines


def _made(repo: Repo, commit: str, cache: Path) -> float:
    with Quarantine(repo.path) as quarantine:
        tree = quarantine.at(commit)
        started = time.perf_counter()
        build(quarantine.dir / 'git', str(tree.id), cache / 'words', quarantine.dir)
        return time.perf_counter() - started


def _size(cache: Path, kind: str) -> int:
    return sum(path.stat().st_size for path in cache.rglob(f'*.{kind}'))


def _each(look: Callable[[str], object], words: tuple[str, ...]) -> float:
    """Seconds that one look-up takes."""
    return statistics.median(
        timed(lambda: [look(word) for word in words]) / len(words) for _ in range(ROUNDS)
    )


def _near(quarantine: Quarantine, base: str, word: str) -> float:
    """Seconds of `near()`, asked of a view that has not seen the word (it keeps answers)."""

    def fresh() -> GitSnapshot:
        return quarantine.at(base)

    found = fresh().near(word)
    assert all(re.fullmatch(r'\w+', one) for one in found)
    return statistics.median(timed(lambda: fresh().near(word)) for _ in range(5))
