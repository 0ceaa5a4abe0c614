"""
`make bench`: how fast, as ratios of two ways to do the same, in one run.

Every figure is the median of a few rounds, in each of which both sides run in
turn, so that a machine whose speed drifts does not favour one.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bot.bases import Place, choose
from bot.config import load
from bot.harness import Workshop
from bot.mailbox import read
from bot.model import AppliedSeries, Series, Tree
from bot.review import review
from bot.sandbox import Cage
from bot.series import assemble
from bot.tree import Quarantine
from rules import ALL
from tests.gitrepo import ENV, Repo
from tests.kernel.conftest import kernels
from tests.kernel.seed import Commit, Seed, borrowing

HARNESS = 'tools/testing/vma'
TOUCHED = ('mm/vma.c', 'mm/util.c', 'mm/vma.h', 'mm/memory.c', 'include/linux/mm.h')


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(
    name: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[str, float, float, float]:
    """(name, our seconds, their seconds, ratio), medians over the rounds."""
    pairs = [(timed(ours), timed(theirs)) for _ in range(rounds)]
    mine = statistics.median(one for one, _ in pairs)
    other = statistics.median(two for _, two in pairs)
    return name, mine, other, statistics.median(two / one for one, two in pairs)


def series_on(kernel: Path, folder: Path, paths: list[str]) -> tuple[Repo, str, Path]:
    """Commit a small edit of each path in turn, as a series; repository, base, mbox."""
    repo = Repo(kernel, existing=True)
    texts: dict[str, str] = {}
    commits = []
    for n, path in enumerate(paths):
        text = texts.get(path) or repo.git('cat-file', 'blob', f'HEAD:{path}').decode('latin-1')
        lines = text.split('\n')
        at = len(lines) * (n + 1) // (len(paths) + 2)
        while at < len(lines) - 1 and lines[at] != '':
            at += 1
        lines.insert(at, f'/* a comment of patch {n + 1} */')
        texts[path] = '\n'.join(lines)
        commits.append(Commit(f'mm: change {path} ({n + 1})\n', {path: texts[path]}))
    return Seed({}, tuple(commits)).write(kernel, folder)


def checkout(kernel: Path, base: str, repo: Repo, folder: Path) -> Path:
    """A work tree of the base, for the plain way."""
    tree = folder / 'worktree'
    borrowed = borrowing(kernel, folder / 'plain.git')
    with (borrowed.path / 'objects' / 'info' / 'alternates').open('a') as alternates:
        alternates.write(f'{repo.path / "objects"}\n')
    borrowed.git('worktree', 'add', '-q', '--detach', str(tree), base)
    return tree


def git(tree: Path, *words: str) -> None:
    """Run git in a work tree."""
    subprocess.run(
        ['git', *words],
        cwd=tree,
        check=True,
        capture_output=True,
        env={**os.environ, **ENV},
    )


def series_of(mbox: Path) -> Series:
    """The series of an mbox."""
    found = assemble(read(str(mbox)))
    assert isinstance(found, Series)
    return found


def applying(kernel: Path, folder: Path) -> tuple[str, float, float, float]:
    """20 patches onto the full kernel: in memory, and `git am` in a work tree."""
    repo, base, mbox = series_on(kernel, folder, [TOUCHED[n % 5] for n in range(20)])
    tree = checkout(kernel, base, repo, folder)

    def ours() -> None:
        series = series_of(mbox)
        with Quarantine(repo.path) as quarantine:
            place = Place(Tree('x', str(repo.path)), quarantine)
            assert isinstance(choose(series, [place], base), AppliedSeries)

    def theirs() -> None:
        git(tree, 'am', '-q', str(mbox))

    def again() -> None:
        git(tree, 'reset', '-q', '--hard', base)

    pairs = []
    for _ in range(5):
        pairs.append((timed(ours), timed(theirs)))
        again()
    mine = statistics.median(one for one, _ in pairs)
    other = statistics.median(two for _, two in pairs)
    return 'apply 20 patches: git am', mine, other, statistics.median(b / a for a, b in pairs)


def checking(kernel: Path, folder: Path) -> list[tuple[str, float, float, float]]:
    """10 patches of which 4 touch what the harness reads: all of it, and the plain loop."""
    inputs = ('mm/vma.c', 'mm/vma.h', 'mm/vma.c', f'{HARNESS}/tests/merge.c')
    others = ('mm/util.c', 'mm/memory.c', 'mm/mmap.c', 'fs/exec.c', 'kernel/fork.c', 'mm/ksm.c')
    paths = [path for pair in zip(others[:4], inputs, strict=True) for path in pair]
    repo, base, mbox = series_on(kernel, folder, [*paths, *others[4:]])
    tree = checkout(kernel, base, repo, folder)
    (harness,) = load().harnesses
    cache = folder / 'cache'

    def ours() -> None:
        series = series_of(mbox)
        with Quarantine(repo.path) as quarantine:
            place = Place(Tree('x', str(repo.path)), quarantine)
            applied = choose(series, [place], base)
            workshop = Workshop(Cage(load().limits), cache, jobs=2)
            found = review(applied, ALL, [harness], workshop)
        assert found.verdict == 'clean', found.findings
        assert sum(not build.reused for build in found.builds) == 5

    def cold() -> None:
        shutil.rmtree(cache, ignore_errors=True)
        ours()

    def plain(*make: str) -> None:
        git(tree, 'reset', '-q', '--hard', base)
        mails = folder / 'mails'
        shutil.rmtree(mails, ignore_errors=True)
        git(tree, 'mailsplit', f'-o{_made(mails)}', str(mbox))
        for mail in sorted(mails.iterdir()):
            git(tree, 'am', '-q', str(mail))
            for command in (['make', 'clean'], list(make), ['./vma']):
                subprocess.run(command, cwd=tree / HARNESS, check=True, capture_output=True)

    return [
        compare('check 10, nothing learnt: loop of make', cold, lambda: plain('make'), 1),
        compare('check 10, inputs known: loop of make', ours, lambda: plain('make'), 1),
        compare('check 10, inputs known: loop of make -j2', ours, lambda: plain('make', '-j2'), 1),
    ]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> int:
    """Print the table."""
    found = kernels()
    if not found:
        print('bench: no real kernel: make kernel, or KERNEL=/path/to/linux', file=sys.stderr)
        return 1
    name, kernel = found[0]
    print(f'on Linux {name}; seconds are medians, ratios of pairs run in turn\n')
    print(f'{"what, and against what":52} {"ours":>8} {"theirs":>8} {"ratio":>8}')
    with tempfile.TemporaryDirectory(prefix='bench-') as temporary:
        folder = Path(temporary)
        rows = [applying(kernel, _made(folder / 'apply'))]
        rows += checking(kernel, _made(folder / 'check'))
    for what, mine, other, ratio in rows:
        print(f'{what:52} {mine:7.2f}s {other:7.2f}s {ratio:7.1f}x')
    return 0


if __name__ == '__main__':
    sys.exit(main())
