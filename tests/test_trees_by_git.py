"""Whatever a patch does to a tree, the result is git's: generated trees and real git."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bot.model import Base, DoesNotApply, Series
from bot.series import assemble, parse_mail, split
from bot.tree import Quarantine
from tests.gitrepo import File, Repo

# A name may be a file, a folder, a link or a submodule, and become another of these.
NAMES = ('a', 'a/b', 'a/b/c', 'b', 'b/x', 'c d', 'c d/e f', '.gitmodules')
SUBMODULE = 0o160000
CONTENT = st.sampled_from(
    [b'one\n', b'one\ntwo\n', b'', b'no end', b'\x00\x01binary\n', b'x\n' * 9]
)


def entries() -> st.SearchStrategy[dict[str, File]]:
    file = st.one_of(
        CONTENT,
        st.tuples(
            st.sampled_from([0o100755, 0o120000]), CONTENT.filter(lambda one: b'\0' not in one)
        ),
    )
    return st.dictionaries(st.sampled_from(NAMES), file, min_size=1, max_size=5).map(_fitting)


def _fitting(files: dict[str, File]) -> dict[str, File]:
    """Leave out what lies below a file."""
    return {path: file for path, file in files.items()
            if not any(path.startswith(f'{other}/') for other in files)}  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=entries(), after=entries(), module=st.booleans())
def test_any_change_gives_gits_tree(
    tmp_path_factory: pytest.TempPathFactory,
    before: dict[str, File],
    after: dict[str, File],
    module: bool,
) -> None:
    assume(before != after)
    repo = Repo(tmp_path_factory.mktemp('repo'))
    old, new = repo.write(before), repo.write(after)
    if module:
        new = _with_module(repo, new)
    assume(old != new)
    base = repo.commit(old, 'base\n')
    tip = repo.commit(new, 'mm: change\n', parent=base)
    raw = repo.git('format-patch', '--stdout', '--binary', '--full-index', f'{base}..{tip}')
    series = assemble(parse_mail(one) for one in split(raw))
    assert isinstance(series, Series), series
    with Quarantine(repo.path) as quarantine:
        found = quarantine.apply(series, Base('x', 'master', base, 'test'))
    if isinstance(found, DoesNotApply):
        assert not _applies(repo, old, raw)  # git's own: a link is renamed to what is below it
    else:
        assert found.steps[0].tree == new


def _applies(repo: Repo, tree: str, patch: bytes) -> bool:
    index = {'GIT_INDEX_FILE': str(repo.path / 'applying-index')}
    repo.git('read-tree', tree, env=index)
    try:
        repo.git('apply', '--cached', stdin=patch, env=index)
    except subprocess.CalledProcessError:
        return False
    return True


def _with_module(repo: Repo, tree: str) -> str:
    index = {'GIT_INDEX_FILE': str(repo.path / 'module-index')}
    repo.git('read-tree', tree, env=index)
    line = f'160000 {"1" * 40}\tmodule\n'.encode()
    repo.git('update-index', '--index-info', stdin=line, env=index)
    return repo.git('write-tree', env=index).decode().strip()


def test_a_patch_that_is_there_changes_nothing_and_is_not_applied(tmp_path: Path) -> None:
    repo = Repo(tmp_path / 'linux.git')
    base = repo.commit(repo.write({'a.c': b'one\ntwo\nthree\n'}), 'base\n')
    tip = repo.commit(repo.write({'a.c': b'one\n2\nthree\n'}), 'mm: two\n', parent=base)
    series = assemble(
        parse_mail(one)
        for one in split(repo.git('format-patch', '--stdout', '--full-index', f'{base}..{tip}'))
    )
    assert isinstance(series, Series)
    with Quarantine(repo.path) as quarantine:
        found = quarantine.apply(series, Base('x', 'master', tip, 'test'))
    assert isinstance(found, DoesNotApply)
    assert found.there
    assert 'already' in found.reason
