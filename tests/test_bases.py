"""Which base a series is judged on, and what was tried."""

from pathlib import Path

import pytest

from bot.b4 import B4
from bot.bases import Needed, Place, choose, guess_with
from bot.errors import TreeError
from bot.model import AppliedSeries, DoesNotApply, Mail, Series, Tree
from bot.series import assemble, parse_mail, split
from bot.tree import Quarantine, patch_id
from tests.gitrepo import Repo

FILES = {'a.c': b'one\n', 'b.c': b'one\n'}


class History:
    """A repository with a few branches, and patches of it as mails."""

    def __init__(self, folder: Path) -> None:
        self.repo = Repo(folder / 'linux.git')
        self.root = self.commit('root', FILES, ref='old')
        self.middle = self.commit('middle', {**FILES, 'b.c': b'two\n'}, self.root, ref='middle')
        self.tip = self.commit('tip', {'a.c': b'three\n', 'b.c': b'two\n'}, self.middle)

    def commit(
        self, message: str, files: dict[str, bytes], parent: str | None = None, ref: str = 'master'
    ) -> str:
        # A day before the series: b4 asks git for commits until the day that a series was mailed,
        # and git takes that for the time of day that it is now.
        return self.repo.commit(
            self.repo.write(files), message, parent=parent, ref=ref,
            env={'GIT_COMMITTER_DATE': '2026-03-19T12:00:00+0000'},
        )  # fmt: skip

    def series(
        self, start: str, *changes: dict[str, bytes], trailer: str = ''
    ) -> tuple[Series, list[Mail]]:
        last, files = start, dict(FILES)
        for n, change in enumerate(changes):
            files = {**files, **change}
            tree = self.repo.write(change, base=last)
            last = self.repo.commit(tree, f'change {n}\n\n{trailer}', parent=last, ref='x')
        raw = self.repo.git('format-patch', '--stdout', '--thread', f'{start}..{last}')
        mails = [parse_mail(one) for one in split(raw)]
        series = assemble(mails)
        assert isinstance(series, Series)
        return series, mails

    def choose(self, series: Series, *refs: str, **more: object) -> AppliedSeries | DoesNotApply:
        tree = Tree('linux', str(self.repo.path), refs or ('HEAD',))
        with Quarantine(self.repo.path) as quarantine:
            return choose(series, [Place(tree, quarantine)], **more)  # type: ignore[arg-type]  # by name


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def test_the_first_ref_that_takes_all_of_it(history: History) -> None:
    series, _ = history.series(history.middle, {'a.c': b'two\n'}, {'b.c': b'three\n'})
    found = history.choose(series, 'master', 'old', 'middle')
    assert isinstance(found, AppliedSeries)
    assert (found.base.ref, found.base.commit) == ('middle', history.middle)
    tried = [(one.ref, one.n, one.path) for one in found.base.tried]
    assert tried == [('master', 1, 'a.c'), ('old', 2, 'b.c')]
    assert (
        found.base.tried[1].reason == 'hunk at line 16 of the mail does not apply to b.c at line 1'
    )


def test_nothing_fits_and_every_try_is_named(history: History) -> None:
    series, _ = history.series(history.middle, {'a.c': b'two\n'}, {'b.c': b'three\n'})
    found = history.choose(series, 'master', 'old')
    assert isinstance(found, DoesNotApply)
    assert (found.base.ref, found.n) == ('old', 2)
    assert [(one.ref, one.n) for one in found.base.tried] == [('master', 1)]


def test_the_base_commit_that_the_series_names_comes_first(history: History) -> None:
    series, _ = history.series(
        history.root, {'a.c': b'two\n'}, trailer=f'---\nbase-commit: {history.root}\n'
    )
    assert series.base_commit == history.root
    found = history.choose(series, 'middle')
    assert (found.base.commit, found.base.why) == (history.root, 'the series names it')


def test_a_base_commit_that_is_not_there_is_passed_over(history: History) -> None:
    series, _ = history.series(
        history.root, {'a.c': b'two\n'}, trailer=f'---\nbase-commit: {"1" * 40}\n'
    )
    found = history.choose(series, 'middle')
    assert found.base.ref == 'middle'


def test_base_wins(history: History) -> None:
    series, _ = history.series(
        history.root, {'a.c': b'two\n'}, trailer=f'---\nbase-commit: {history.root}\n'
    )
    found = history.choose(series, 'old', wanted='middle')
    assert (found.base.ref, found.base.why) == ('middle', '--base')
    with pytest.raises(TreeError, match="no commit 'nosuch'"):
        history.choose(series, wanted='nosuch')


def test_a_pattern_stands_for_all_that_fit_newest_first(history: History) -> None:
    repo = history.repo
    for number, commit in enumerate((history.root, history.middle, history.tip)):
        date = {'GIT_COMMITTER_DATE': f'2026-0{number + 1}-01T00:00:00Z'}
        made = repo.git('commit-tree', f'{commit}^{{tree}}', stdin=b'x', env=date).decode().strip()
        repo.git('update-ref', f'refs/tags/next-{number}', made)
    series, _ = history.series(history.root, {'a.c': b'two\n'})
    found = history.choose(series, 'next-*')
    assert found.base.ref == 'next-1'
    assert [one.ref for one in found.base.tried] == ['next-2']


def test_no_ref_at_all_is_said(history: History) -> None:
    series, _ = history.series(history.root, {'a.c': b'two\n'})
    with pytest.raises(TreeError, match='none of the refs nosuch is there'):
        history.choose(series, 'nosuch')


def test_prerequisites_go_below_and_are_not_judged(history: History) -> None:
    below, _ = history.series(history.root, {'a.c': b'two\n'})
    above_start = history.commit('below', {**FILES, 'a.c': b'two\n'}, history.root, ref='y')
    series, _ = history.series(above_start, {'a.c': b'four\n'})
    assert isinstance(history.choose(series, 'old'), DoesNotApply)
    found = history.choose(series, 'old', needed=Needed(below.patches))
    assert isinstance(found, AppliedSeries)
    assert [step.n for step in found.steps] == [1]
    assert found.steps[0].pre.read('a.c') == b'two\n'
    assert found.base.on_top == ('change 0',)
    assert found.base.why == 'a ref of linux'


def test_prerequisites_that_the_base_has_already_do_no_harm(history: History) -> None:
    below, _ = history.series(history.root, {'b.c': b'two\n'})
    series, _ = history.series(history.middle, {'a.c': b'two\n'})
    found = history.choose(series, 'middle', needed=Needed(below.patches))
    assert isinstance(found, AppliedSeries)
    assert found.base.on_top == ()


def test_a_prerequisite_that_does_not_apply_is_named(history: History) -> None:
    below, _ = history.series(history.root, {'b.c': b'two\n'})
    series, _ = history.series(history.middle, {'b.c': b'three\n'})
    found = history.choose(series, 'master', 'old', needed=Needed(below.patches, ('x: not there',)))
    assert isinstance(found, AppliedSeries)
    assert found.base.ref == 'master'
    series, _ = history.series(history.middle, {'b.c': b'nine\n'}, {'a.c': b'nine\n'})
    found = history.choose(series, 'master', needed=Needed((), ('x: not there',)))
    assert isinstance(found, DoesNotApply)
    assert found.reason.endswith('(not found: x: not there)')


def test_b4_guesses_from_the_blobs(history: History) -> None:
    series, mails = history.series(history.middle, {'b.c': b'three\n'}, {'a.c': b'two\n'})
    assert isinstance(history.choose(series, 'master'), DoesNotApply)
    found = history.choose(series, 'master', guess=guess_with(B4(), series, mails))
    assert isinstance(found, AppliedSeries)
    assert (found.base.commit, found.base.why) == (history.middle, "b4's best guess")


def test_patch_ids_are_gits_own(history: History) -> None:
    series, _ = history.series(history.root, {'a.c': b'two\n'})
    listed = history.repo.git('patch-id', '--stable', stdin=series.patches[0].diff).split()[0]
    assert patch_id(series.patches[0].diff) == listed.decode()
    assert patch_id(b'words') is None
