"""What the benchmarks share: timing, and series on a real kernel with a work tree beside it."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bot.mailbox import read
from bot.model import Series
from bot.series import assemble
from tests.gitrepo import ENV, Repo
from tests.kernel.seed import Commit, Seed, borrowing

TOUCHED = ('mm/vma.c', 'mm/util.c', 'mm/vma.h', 'mm/memory.c', 'include/linux/mm.h')


class Row(NamedTuple):
    """What was done, against what; our seconds and theirs; the median ratio of pairs."""

    name: str
    ours: float
    theirs: float
    ratio: float


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(
    name: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> Row:
    """Run both sides in turn; medians over the rounds."""
    pairs = [(timed(ours), timed(theirs)) for _ in range(rounds)]
    mine = statistics.median(one for one, _ in pairs)
    other = statistics.median(two for _, two in pairs)
    return Row(name, mine, other, statistics.median(two / one for one, two in pairs))


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


def made(folder: Path) -> Path:
    """Make a folder."""
    folder.mkdir()
    return folder
