"""All rules over a series, and the kernel's own checkpatch over the same patches."""

import subprocess
from pathlib import Path

from bot.bases import Place, choose
from bot.model import AppliedSeries, Subject, Tree
from bot.review import run_rules
from bot.tree import Quarantine
from rules import ALL
from tests.bench.tools import TOUCHED, Row, checkout, compare, git, made, series_of, series_on

PATHS = (*TOUCHED, 'drivers/uio/uio.c', 'drivers/hv/vmbus_drv.c', 'fs/ext4/file.c')


def rows(kernel: Path, folder: Path) -> list[Row]:
    """20 patches on the full kernel, from the mbox to the findings; indexes are warm."""
    repo, base, mbox = series_on(kernel, folder, [PATHS[n % len(PATHS)] for n in range(20)])
    tree = checkout(kernel, base, repo, folder)
    git(tree, 'mailsplit', f'-o{made(folder / "mails")}', str(mbox))
    mails = sorted((folder / 'mails').iterdir())
    checkpatch = ['perl', 'scripts/checkpatch.pl', '--quiet', '--no-summary']

    def ours() -> None:
        with Quarantine(repo.path, folder / 'cache') as quarantine:
            place = Place(Tree('x', str(repo.path)), quarantine)
            applied = choose(series_of(mbox), [place], base)
            assert isinstance(applied, AppliedSeries)
            findings, failures = run_rules(ALL, Subject(applied.series, applied))
        assert not findings, findings
        assert not failures, failures

    def theirs() -> None:
        # It ends with 1 where it has something to say.
        subprocess.run([*checkpatch, *mails], cwd=tree, check=False, capture_output=True)

    ours()
    return [compare('all rules, 20 patches: checkpatch.pl', ours, theirs, 3)]
