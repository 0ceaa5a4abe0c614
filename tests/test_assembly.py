"""What one mail is to the bot."""

from email.charset import QP, Charset
from email.header import Header

import pytest

from bot.assembly import letter, sorted_out
from bot.model import Scope
from bot.series import parse_mail, posted
from tests.lettering import DIFF, answer, post, series

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


# --- one definition of a patch ---

PARTS = (
    ('[RFC v3 0/2] mm: x', 'cover', 3, 0, 2),
    ('[RFC v3 1/2] mm: x', 'patch', 3, 1, 2),
    ('[RESEND,PATCH v2 1/2] mm: x', 'patch', 2, 1, 2),
    ('[RESEND v2 2/2] mm: x', 'patch', 2, 2, 2),
    ('[RFC] mm: x', 'patch', 1, 1, 1),
    ('[rfc, v2] mm: x', 'patch', 2, 1, 1),
    ('[v4] mm: x', 'patch', 4, 1, 1),
    ('PATCH 1/2: mm: x', 'patch', 1, 1, 2),
    ('RFC PATCH v2 2/2: mm: x', 'patch', 2, 2, 2),
    ('[v2,1/2] mm: x', 'patch', 2, 1, 2),
    ('[mm-unstable,v2,1/2] mm: x', 'patch', 2, 1, 2),
    ('[1/2] mm: x', 'patch', 1, 1, 2),
    ('[ 1 of 2 ] mm: x', 'patch', 1, 1, 2),
    ('[PATCH1/2] mm: x', 'patch', 1, 1, 2),
    ('[PATCH  v2  1/2]  mm: x', 'patch', 2, 1, 2),
)
ANSWERS = (
    'Re: [RFC] mm: x',
    'RE: Re: [v2] mm: x',
    'Re: PATCH 1/2: mm: x',
    'Re: [v2,1/2] mm: x',
    'Re: [PATCH] mm: x',
    'Aw: [RFC v3 0/2] mm: x',
    'Re[2]: [RFC] mm: x',
    '回复: [PATCH] mm: x',
    '回复\uff1a[RFC] mm: x',
)


def as_sent(subject: str, how: str) -> str:
    """A subject as mailers write it."""
    match how:
        case 'base64':
            return str(Header(subject, 'utf-8', maxlinelen=60).encode())
        case 'quoted':
            charset = Charset('utf-8')
            charset.header_encoding = QP
            return str(Header(subject, charset, maxlinelen=50).encode())
        case 'folded':
            return subject.replace(' ', '\n ', 1)
    return subject


@pytest.mark.parametrize('how', ['plain', 'base64', 'quoted', 'folded'])
@pytest.mark.parametrize('part', PARTS, ids=lambda part: part[0])
def test_the_watcher_takes_what_bot_check_takes(
    part: tuple[str, str, int, int, int], how: str
) -> None:
    subject, kind, revision, n, of = part
    text = 'Hello.\n' if kind == 'cover' else f'Why.\n---\n{DIFF.format(path="mm/vma.c", what=1)}'
    raw = post('x@x', as_sent(subject, how), text).raw
    found = letter(raw, SCOPE)
    assert found is not None
    assert (found.kind, found.revision, found.n, found.of) == (kind, revision, n, of)
    assert found.in_scope is (kind == 'patch')
    said = posted(parse_mail(raw))
    assert said is not None
    assert (said.version, said.counter, said.expected, said.title) == (revision, n, of, found.title)


@pytest.mark.parametrize('how', ['plain', 'base64', 'quoted'])
@pytest.mark.parametrize('subject', ANSWERS)
def test_answers_to_all_of_these(subject: str, how: str) -> None:
    text = f'Acked-by: B <b@x.org>\n\n{DIFF.format(path="mm/vma.c", what=1)}'
    found = letter(post('x@x', as_sent(subject, how), text, 'p@x').raw, SCOPE)
    assert found is not None
    assert (found.kind, found.parents) == ('answer', ('p@x',))


@pytest.mark.parametrize(
    ('raw', 'reason'),
    [
        (post('x@x', 'hello', 'hello').raw, 'other'),
        (post('x@x', 'Re: hello', 'hello').raw, 'other'),
        (post('x@x', '[RFC] hello', 'hello').raw, 'other'),
        (post('x@x', '[ANNOUNCE] hello', DIFF).raw, 'other'),
        (b'', 'other'),
        (b'Subject: [PATCH] no id\n\ndiff --git a/x b/x\n', 'no-message-id'),
        (b'Subject: Re: [RFC] no id\n\nhello\n', 'no-message-id'),
        (post('x@x', '[PATCH 1/2] no diff', 'hello').raw, 'no-diff'),
        (post('x@x', 'hello 1/2 [v2]', 'hello').raw, 'other'),
        (post('x@x', '[tip: mm/urgent] mm: x', f'x\n---\n{DIFF}', 'p@x').raw, 'announcement'),
        (post('x@x', '[tip: mm/v2] mm: x', f'x\n---\n{DIFF}', 'p@x').raw, 'announcement'),
        (post('x@x', '[tip:mm/urgent] [PATCH] x', f'x\n---\n{DIFF}', 'p@x').raw, 'announcement'),
        (post('x@x', '[merged mm-stable] x.patch removed', f'{DIFF}').raw, 'announcement'),
        (post('x@x', 'Re: [tip: mm/urgent] mm: x', 'Hm.\n', 'p@x').raw, 'other'),
    ],
)
def test_what_is_dropped_has_a_reason(raw: bytes, reason: str) -> None:
    assert sorted_out(raw, SCOPE) == reason


@pytest.mark.parametrize(
    ('prefix', 'expected'),
    [
        ('PATCH AUTOSEL 6.1 1/5', True),
        ('PATCH AUTOSEL 6.17-6.1', True),
        ('PATCH 6.1 001/200', True),
        ('PATCH 6.17 000/849', True),
        ('PATCH 6.12.y v2', True),
        ('6.12.y,v2,1/2', True),
        ('PATCH stable 6.6 1/2', True),
        ('PATCH 5.15 5.10', True),
        ('PATCH 6.6/6.1 1/2', True),
        ('PATCH 5.10-stable', True),
        ('PATCH stable/linux-6.1.y', True),
        ('PATCH for 6.1.y', True),
        ('RESEND PATCH 6.12.y', True),
        ('PATCH 4/3', True),
        ('PATCH hotfix 6.18 1/8', False),
        ('PATCH for 6.19 1/2', False),
        ('PATCH mm-hotfixes v3', False),
        ('PATCH mm-unstable v3 1/2', False),
        ('RFC PATCH v6 1/2', False),
        ('PATCH', False),
    ],
)
def test_what_is_not_for_the_list_to_judge(prefix: str, expected: bool) -> None:
    found = letter(post('x@x', f'[{prefix}] mm: x', f'Why.\n---\n{DIFF}').raw, SCOPE)
    assert found is not None
    assert bool(found.aside) is expected


# --- what is the same ---


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        (b'Because.', b'Because of it.'),
        (b'Signed-off-by: A Developer', b'Signed-off-by: B Developer'),
        (b'mm: a part 1', b'mm: another part 1'),
        (b'\n---\n', b'\n---\nvma-bot: ignore compat-pair -- why\n'),
        (b'Because.', b'From: B <b@example.org>\n\nBecause.'),
        (b'+int y', b'+int z'),
        (b'Because.\n', b'Because.\n\nFixes: 123456789012 ("x")\n'),
    ],
)
def test_all_that_rules_look_at_is_content(old: bytes, new: bytes) -> None:
    raw = series('a', 1)[0].raw
    one, two = letter(raw, SCOPE), letter(raw.replace(old, new), SCOPE)
    assert one is not None
    assert two is not None
    assert raw != raw.replace(old, new)
    assert one.content != two.content


def test_a_changelog_is_no_content() -> None:
    raw = series('a', 1)[0].raw
    one, two = letter(raw, SCOPE), letter(raw.replace(b'\n---\n', b'\n---\nv2: resent\n'), SCOPE)
    assert one is not None
    assert two is not None
    assert one.content == two.content
