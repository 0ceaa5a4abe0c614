"""Applying: in memory, and as `git am` does it in a work tree."""

import statistics
from pathlib import Path

from bot.bases import Place, choose
from bot.model import AppliedSeries, Tree
from bot.tree import Quarantine
from tests.bench.tools import TOUCHED, Row, checkout, git, series_of, series_on, timed


def rows(kernel: Path, folder: Path) -> list[Row]:
    """20 patches onto the full kernel."""
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
    ratio = statistics.median(b / a for a, b in pairs)
    return [Row('apply 20 patches: git am', mine, other, ratio)]
