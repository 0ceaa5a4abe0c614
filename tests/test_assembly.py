"""What one mail is to the bot."""

import pytest

from bot.assembly import letter
from bot.model import Scope
from tests.lettering import answer, post, series

SCOPE = Scope(paths=('mm/vma*',), symbols=('vm_area_desc',), subjects=(r'\bvma\b',))


def test_a_patch_a_cover_letter_and_an_answer() -> None:
    cover, first, *_ = series('a', 3, 2)
    found = letter(cover.raw, SCOPE)
    assert found is not None
    assert (found.kind, found.n, found.of, found.revision) == ('cover', 0, 3, 2)
    found = letter(first.raw, SCOPE)
    assert found is not None
    assert (found.kind, found.n, found.parents) == ('patch', 1, ('a.2.0@x',))
    assert found.in_scope
    found = letter(answer(first, 'r').raw, SCOPE)
    assert found is not None
    assert (found.kind, found.parents, found.in_scope) == ('answer', ('a.2.1@x',), False)


@pytest.mark.parametrize(
    'raw',
    [
        b'',
        b'Subject: hello\n\nhello',
        b'Subject: [PATCH] no id\n\ndiff --git a/x b/x\n',
        post('x@x', 'about PATCH', 'hello').raw,
        post('x@x', '[PATCH 1/2] no diff', 'hello').raw,
        b'\0\xff' * 1000,
        b'Subject: [PATCH' + b'\n ' * 10_000 + b'\n\nx',
    ],
    ids=['empty', 'other', 'no-msgid', 'word', 'no-diff', 'binary', 'folded'],
)
def test_what_is_nothing(raw: bytes) -> None:
    assert letter(raw, SCOPE) is None


@pytest.mark.parametrize(
    ('path', 'title', 'line', 'expected'),
    [
        ('mm/vma_init.c', 'x', '+y', True),
        ('mm/slab.c', 'mm: the vma of', '+y', True),
        ('mm/slab.c', 'mm: the vmas of', '+y', False),
        ('fs/x.c', 'x', '+\tstruct vm_area_desc d;', True),
        ('fs/x.c', 'x', '-\tstruct vm_area_desc d;', True),
        ('fs/x.c', 'x', ' \tstruct vm_area_desc d;', False),
        ('fs/x.c', 'x', '+\tstruct vm_area_descs d;', False),
    ],
)
def test_scope(path: str, title: str, line: str, expected: bool) -> None:
    diff = f'diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n{line}\n'
    found = letter(post('x@x', f'[PATCH] {title}', f'Why.\n---\n{diff}').raw, SCOPE)
    assert found is not None
    assert found.in_scope == expected


def test_a_resend_has_the_same_content() -> None:
    one = letter(series('a', 1)[0].raw, SCOPE)
    again = series('a', 1, prefix='PATCH RESEND')[0].raw.replace(b'index 1111111', b'index 3333333')
    two = letter(again.replace(b'@@ -1 +1,2 @@', b'@@ -9 +9,2 @@'), SCOPE)
    other = letter(series('b', 1)[0].raw, SCOPE)
    assert one is not None
    assert two is not None
    assert other is not None
    assert (two.resend, one.resend) == (True, False)
    assert one.content == two.content
    assert one.content != other.content


@pytest.mark.parametrize(
    ('date', 'expected'),
    [
        ('Fri, 20 Mar 2026 09:46:40 +0000', 1774000000),
        ('yesterday', 0),
        ('Fri, 20 Mar 99999 09:46:40 +0000', 0),
        ('', 0),
    ],
)
def test_dates(date: str, expected: int) -> None:
    found = letter(
        series('a', 1)[0].raw.replace(b'Fri, 20 Mar 2026 09:46:40 +0000', date.encode()), SCOPE
    )
    assert found is not None
    assert found.date == expected
