"""The paths of a diff are those of the tree, whatever stands before or after them."""

from pathlib import Path

import pytest

from bot.assembly import letter
from bot.model import Scope
from bot.paths import paths_in
from tests.gitrepo import File, Repo
from tests.lettering import post

OLD: dict[str, File] = {
    'mm/vma.c': b'one\n',
    'fs/mm/vma.c': b'one\n',
    'mm/with space.c': b'one\n',
    'mm/caf\u00e9.c': b'one\n',
    'mm/renamed me.c': b'a\nb\nc\nd\ne\nf\n',
    'mm/mode.sh': b'one\n',
    'mm/gone.c': b'one\n',
    'a/b.c': b'one\n',
}
NEW: dict[str, File] = {
    'mm/vma.c': b'two\n',
    'fs/mm/vma.c': b'two\n',
    'mm/with space.c': b'two\n',
    'mm/caf\u00e9.c': b'two\n',
    'mm/renamed to.c': b'a\nb\nc\nd\ne\nf\n',
    'mm/mode.sh': (0o100755, b'one\n'),
    'mm/new.c': b'two\n',
    'mm/binary': b'\0\1',
    'mm/empty.c': b'',
    'a/b.c': b'two\n',
}
PREFIXES = (
    (),
    ('-c', 'diff.mnemonicPrefix=true'),
    ('--src-prefix=old/', '--dst-prefix=new/'),
    ('--src-prefix=linux.orig/', '--dst-prefix=linux/'),
    ('--src-prefix=i/', '--dst-prefix=w/'),
    ('--src-prefix=1/', '--dst-prefix=2/'),
    ('-R',),
)


@pytest.mark.parametrize('words', PREFIXES, ids=' '.join)
@pytest.mark.parametrize('more', [(), ('-M',), ('--binary', '-M')], ids=' '.join)
def test_git_says_the_same(tmp_path: Path, words: tuple[str, ...], more: tuple[str, ...]) -> None:
    repo = Repo(tmp_path / 'r')
    trees = (repo.write(OLD), repo.write(NEW))
    settings = words if words[:1] == ('-c',) else ()
    options = () if settings else words
    diff = repo.git(*settings, 'diff', *options, *more, *trees)
    names = repo.git('diff', '--name-only', '--no-renames', '-z', *trees).decode().split('\0')
    assert set(paths_in(diff)) == {one for one in names if one}


def test_without_any_prefix(tmp_path: Path) -> None:
    repo = Repo(tmp_path / 'r')
    left, right = ({k: v for k, v in one.items() if k != 'a/b.c'} for one in (OLD, NEW))
    trees = (repo.write(left), repo.write(right))
    diff = repo.git('diff', '--no-prefix', '-M', *trees)
    names = repo.git('diff', '--name-only', '--no-renames', '-z', *trees).decode().split('\0')
    assert set(paths_in(diff)) == {one for one in names if one}


HUNK = '@@ -1 +1 @@\n-one\n+two\n'
OTHERS = {
    'quilt': 'Index: linux/mm/vma.c\n===\n--- linux.orig/mm/vma.c\n+++ linux/mm/vma.c\n',
    'quilt-p0': 'Index: b/mm/vma.c\n===\n--- a/mm/vma.c\n+++ b/mm/vma.c\n',
    'dates': '--- linux.orig/mm/vma.c\t2026-03-20 09:46:40.000000000 +0000\n'
    '+++ linux/mm/vma.c\t2026-03-20 09:46:41.000000000 +0000\n',
    'dates-blank': '--- old/mm/vma.c 2026-03-20 09:46:40.1 +0000\n'
    '+++ new/mm/vma.c 2026-03-20 09:46:41.1 +0000\n',
    'akpm': '--- a/mm/vma.c~mm-fix-the-thing\n+++ a/mm/vma.c\n',
    'akpm-index': 'diff -puN mm/vma.c~name mm/vma.c\n--- a/mm/vma.c~name\n+++ a/mm/vma.c\n',
    'orig': '--- mm/vma.c.orig\n+++ mm/vma.c\n',
    'crlf': '--- i/mm/vma.c\r\n+++ w/mm/vma.c\r\n',
    'new': 'diff --git c/mm/vma.c i/mm/vma.c\nnew file mode 100644\n--- /dev/null\n'
    '+++ i/mm/vma.c\n',
    'new-custom': 'diff --git old/mm/vma.c new/mm/vma.c\nnew file mode 100644\n--- /dev/null\n'
    '+++ new/mm/vma.c\n',
}  # fmt: skip


@pytest.mark.parametrize('name', OTHERS)
def test_what_git_does_not_write(name: str) -> None:
    assert 'mm/vma.c' in set(paths_in((OTHERS[name] + HUNK).encode()))


@pytest.mark.parametrize('name', OTHERS)
def test_the_scope_of_the_watcher(name: str) -> None:
    diff = OTHERS[name] + HUNK
    for path, expected in (('mm/vma*', True), ('vma*', False), ('*/mm/vma*', False)):
        scope = Scope(paths=(path,), symbols=(), subjects=())
        found = letter(post('x@x', '[PATCH] x', f'Why.\n---\n{diff}').raw, scope)
        assert found is not None
        assert found.in_scope is expected


@pytest.mark.parametrize('text', ['--- "a/x\n+++ "b/x\n', '--- \n+++ \n', '--- a\n+++ b\n', ''])
def test_what_is_no_name(text: str) -> None:
    assert {'', '/'}.isdisjoint(paths_in(text.encode()))
