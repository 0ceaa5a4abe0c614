"""Why a patch does not apply: our words, and the line of the mail that git does not know."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.model import Base, DoesNotApply, Series
from bot.series import assemble, parse_mail
from bot.tree import Quarantine
from tests.gitrepo import Repo

LINES = b''.join(b'line %d\n' % n for n in range(1, 200))
HEAD = b'From: A <a@example.org>\nSubject: [PATCH 2/2] mm: x\nMessage-ID: <2@x>\n'
FIRST = b'From: A <a@example.org>\nSubject: [PATCH 1/2] mm: y\nMessage-ID: <1@x>\n\n---\n'


@pytest.fixture(scope='module')
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    made = Repo(tmp_path_factory.mktemp('repo') / 'linux.git')
    tree = made.write({'mm/vma.c': LINES, 'mm/x.bin': b'\0\1', 'mm/gone.c': b'int x;\n'})
    made.commit(tree, 'base\n')
    return made


def diff_of(repo: Repo, *words: str, **files: bytes) -> bytes:
    """The diff from the base to a tree with other files, as git writes it."""
    tree = repo.write({name.replace('__', '/').replace('_c', '.c'): one
                       for name, one in files.items()}, 'master')  # fmt: skip
    return repo.git('diff', '--full-index', '--binary', *words, 'master', tree)


def refused(repo: Repo, diff: bytes, wire: Callable[[bytes], bytes] = lambda one: one) -> str:
    raw = wire(HEAD + b'\nBecause.\n\nSigned-off-by: A <a@example.org>\n---\n' + diff)
    first = FIRST + diff_of(repo, mm__first_c=b'int first;\n')
    series = assemble([parse_mail(first), parse_mail(raw)])
    assert isinstance(series, Series)
    base = repo.git('rev-parse', 'master').decode().strip()
    with Quarantine(repo.path) as quarantine:
        found = quarantine.apply(series, Base('x', 'master', base, 'test'))
    assert isinstance(found, DoesNotApply)
    assert found.n == 2
    return found.reason


def line_in(raw: bytes, text: bytes) -> int:
    return raw[: raw.index(text)].count(b'\n') + 1


def encoded(raw: bytes) -> bytes:
    head, _, body = raw.partition(b'\n\n')
    how = b'\nContent-Transfer-Encoding: base64\n\n'
    return head + how + base64.encodebytes(body)


def test_the_hunk_is_named_by_the_line_of_the_mail(repo: Repo) -> None:
    other = LINES.replace(b'line 20\n', b'x\n').replace(b'line 120\n', b'y\n')
    diff = diff_of(repo, mm__vma_c=other).replace(b' line 119\n', b' line of another tree\n')
    raw = HEAD + b'\nBecause.\n\nSigned-off-by: A <a@example.org>\n---\n' + diff
    line = line_in(raw, b'@@ -117,7')
    said = f'hunk at line {line} of the mail does not apply to mm/vma.c at line 117'
    assert refused(repo, diff) == said
    assert refused(repo, diff, lambda one: one.replace(b'\n', b'\r\n')) == said
    coded = f'hunk at line {line + 1} of the mail does not apply to mm/vma.c at line 117'
    assert refused(repo, diff, encoded) == coded  # as it is read, its header has a line more


def test_the_hunk_is_named_where_git_has_judged_it(repo: Repo) -> None:
    """A copy is none of the fast path's."""
    other = LINES.replace(b'line 120\n', b'y\n')
    diff = diff_of(repo, '-C', '--find-copies-harder', mm__vma_c=LINES, mm__copy_c=other)
    assert b'copy from' in diff
    diff = diff.replace(b' line 119\n', b' line of another tree\n')
    diff = diff.replace(
        diff[diff.index(b'index ') : diff.index(b'\n--- ')], b'index 1111111..2222222'
    )
    raw = HEAD + b'\nBecause.\n\nSigned-off-by: A <a@example.org>\n---\n' + diff
    assert refused(repo, diff) == (
        f'hunk at line {line_in(raw, b"@@ -117,7")} of the mail does not apply to '
        'mm/vma.c at line 117'
    )


def test_a_wrapped_line_is_named(repo: Repo) -> None:
    diff = diff_of(repo, mm__vma_c=LINES.replace(b'line 20\n', b'long and wrapped\n'))
    diff = diff.replace(b'+long and wrapped', b'+long and\nwrapped')
    raw = HEAD + b'\nBecause.\n\nSigned-off-by: A <a@example.org>\n---\n' + diff
    at = line_in(raw, b'\nwrapped') + 1
    assert refused(repo, diff) == (
        f'line {at} of the mail: not a line of a hunk: it is wrapped, or the hunk is cut short '
        'or edited'
    )


@pytest.mark.parametrize('name', ['mm__vma_c', 'mm__new_c'])
def test_no_prefix_is_said(repo: Repo, name: str) -> None:
    """A new file would be made in another folder, by git too."""
    diff = diff_of(repo, '--no-prefix', **{name: b'int y;\n' + LINES})
    said = refused(repo, diff)
    assert said.startswith('line 9 of the mail: made with --no-prefix')


def test_other_prefixes_are_prefixes(repo: Repo) -> None:
    diff = diff_of(
        repo, '--src-prefix=linux/', '--dst-prefix=linux/', mm__vma_c=b'int y;\n' + LINES
    )
    series = assemble([parse_mail(HEAD.replace(b'2/2', b'1/1') + b'\nx\n---\n' + diff)])
    assert isinstance(series, Series)
    base = repo.git('rev-parse', 'master').decode().strip()
    with Quarantine(repo.path) as quarantine:
        assert not isinstance(quarantine.apply(series, Base('x', 'm', base, 't')), DoesNotApply)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ((b'mm/vma.c', b'mm/no.c'), 'mm/no.c: does not exist in the tree'),
        ((b'mm/vma.c', b'mm/x\t\n.c'), 'of the mail: '),
    ],
)
def test_other_refusals(repo: Repo, change: tuple[bytes, bytes], said: str) -> None:
    diff = diff_of(repo, mm__vma_c=b'int y;\n' + LINES).replace(*change)
    assert said in refused(repo, diff)


def test_what_is_deleted_or_renamed_already_is_there(tmp_path: Path) -> None:
    """git apply --3way has no words for it."""
    made = Repo(tmp_path / 'linux.git')
    base = made.commit(made.write({'a.c': LINES, 'b.c': b'int x;\n'}), 'base\n')
    tree = made.write({'moved.c': LINES})
    tip = made.commit(tree, 'tip\n', base)
    raw = made.git('format-patch', '--stdout', f'{base}..{tip}')
    assert b'rename from' in raw
    assert b'deleted file' in raw
    series = assemble([parse_mail(raw.partition(b'\n')[2])])
    assert isinstance(series, Series)
    with Quarantine(made.path) as quarantine:
        found = quarantine.apply(series, Base('x', 'master', tip, 'test'))
    assert isinstance(found, DoesNotApply)
    assert (found.there, found.reason) == (True, 'master has it already')
