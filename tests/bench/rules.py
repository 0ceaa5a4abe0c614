"""All rules over a series, and the kernel's own checkpatch over the same patches."""

import multiprocessing
import os
import subprocess
from collections.abc import Callable, Iterator
from itertools import islice, zip_longest
from pathlib import Path

from bot.bases import Place, choose
from bot.model import AppliedSeries, Severity, Snapshot, Subject, Tree
from bot.review import run_rules
from bot.tree import Quarantine
from tests.bench.tools import Row, checkout, compare, git, made, series_of
from tests.evaluate import harmless
from tests.evaluate.planting import EVALUATED, Kept
from tests.kernel.conftest import share_words
from tests.kernel.seed import Commit, Seed

PATCHES, ROUNDS = 20, 3
SEED = 1


def rows(kernel: Path, folder: Path) -> tuple[list[Row], list[str]]:
    """20 patches on the full kernel, from the mbox to the findings; and what to say of it."""
    share_words(folder / 'cache')
    with Quarantine(kernel, folder / 'cache') as quarantine:
        commits = tuple(_commits(Kept(quarantine.at(quarantine.resolve('HEAD')))))
    repo, base, mbox = Seed({}, commits).write(kernel, folder)
    tree = checkout(kernel, base, repo, folder)
    git(tree, 'mailsplit', f'-o{made(folder / "mails")}', str(mbox))
    mails = sorted((folder / 'mails').iterdir())
    checkpatch = ['perl', 'scripts/checkpatch.pl', '--quiet', '--no-summary']

    def judge() -> None:
        with Quarantine(repo.path, folder / 'cache') as quarantine:
            place = Place(Tree('x', str(repo.path)), quarantine)
            applied = choose(series_of(mbox), [place], base)
            assert isinstance(applied, AppliedSeries)
            findings, failures = run_rules(EVALUATED, Subject(applied.series, applied))
        assert not [one for one in findings if one.severity > Severity.NOTE], findings
        assert not failures, failures

    def ours() -> None:
        # A process of its own, so that no file is parsed already.
        child = multiprocessing.get_context('fork').Process(target=judge)
        child.start()
        child.join()
        assert child.exitcode == 0

    def theirs() -> None:
        # It ends with 1 where it has something to say.
        subprocess.run([*checkpatch, *mails], cwd=tree, check=False, capture_output=True)

    ours()  # the index of words is made, if it is not there
    row = compare('all rules, 20 patches: checkpatch.pl', ours, theirs, ROUNDS)
    mine, other = _busy(ours), _busy(theirs)
    lines = sum(
        line[:1] in (b'+', b'-') for mail in mails for line in mail.read_bytes().split(b'\n')
    )
    said = (
        f'rules: {lines} lines in {PATCHES} patches; processor time {mine:.2f} s, '
        f'checkpatch.pl {other:.2f} s, {other / mine:.1f}x'
    )
    return [row], [said]


def _commits(tree: Snapshot) -> Iterator[Commit]:
    """Make patches of all kinds that do no harm, in turn, each of files of its own."""
    kinds = [harmless.patches(tree, kind, SEED) for kind in harmless.KINDS]
    touched: set[str] = set()
    found = (one for turn in zip_longest(*kinds) for one in turn if one is not None)
    new = (one.patches[0] for one in found if len(one.patches) == 1)
    for edit in islice((edit for edit in new if touched.isdisjoint(edit.files)), PATCHES):
        touched.update(edit.files)
        yield Commit(edit.message, {path: text or '' for path, text in edit.files.items()})


def _busy(work: Callable[[], object]) -> float:
    """Seconds of processor time that the children of `work` take."""
    before = os.times()
    work()
    after = os.times()
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system
