"""Which mails make a series, and what one mail says."""

import base64
import quopri
from pathlib import Path

import pytest

from bot.model import Incomplete, Series
from bot.series import assemble, parse_mail, split

CORPUS = Path(__file__).parent.parent.parent / 'shared' / 'corpus' / 'seed-v4.mbox'
DIFF = 'diff --git a/x.c b/x.c\n--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-a\n+b\n'


def mail(subject: str, diff: str = DIFF, *, headers: str = '', body: str = 'Why.\n') -> bytes:
    return (
        f'From: A Developer <dev@example.org>\nSubject: {subject}\n{headers}\n'
        f'{body}---\n x.c | 2 +-\n\n{diff}-- \n2.39\n'
    ).encode()


def series(*mails: bytes) -> Series | Incomplete:
    return assemble(parse_mail(one) for one in mails)


def complete(*mails: bytes) -> Series:
    found = series(*mails)
    assert isinstance(found, Series), found
    return found


def test_order_is_that_of_the_brackets() -> None:
    found = complete(
        mail('[PATCH v2 2/2] mm: second'),
        mail('[PATCH v2 0/2] both', ''),
        mail('[PATCH v2 1/2] mm: first'),
    )
    assert [patch.subject for patch in found.patches] == ['mm: first', 'mm: second']
    assert (found.subject, found.revision) == ('both', 2)


def test_the_newest_revision_is_taken() -> None:
    found = complete(
        mail('[PATCH] mm: old'), mail('[PATCH v3] mm: new'), mail('[PATCH v2] mm: mid')
    )
    assert (found.subject, found.revision) == ('mm: new', 3)


def test_replies_are_no_patches() -> None:
    assert len(complete(mail('[PATCH] mm: x'), mail('Re: [PATCH] mm: x')).patches) == 1


@pytest.mark.parametrize(
    ('mails', 'reason', 'missing'),
    [
        ((), 'no patch in it', ()),
        ((mail('Re: [PATCH] x'),), 'no patch in it', ()),
        ((mail('[PATCH 2/3] x'),), 'patch 1, 3 of 3 is missing', (1, 3)),
        ((mail('[PATCH 0/2] x', ''),), 'no patch in it, only the cover letter of 2', (1, 2)),
        (
            (mail('[PATCH 1/2] x'), mail('[PATCH 1/2] y'), mail('[PATCH 2/2] z')),
            'patch 1 of 2 is there twice, and the two differ',
            (),
        ),
        ((mail('[PATCH 1/2] x'), mail('[PATCH 2/2] y', '')), 'patch 2 of 2 has no diff', ()),
        ((mail('[PATCH] x'), mail('[PATCH] y')), '2 unnumbered patches: name one series', ()),
        ((mail('[PATCH 1/1] x'), mail('[PATCH 2/1] y')), 'patch 2 of 1: the numbers in the', ()),
    ],
)
def test_what_is_incomplete_says_why(
    mails: tuple[bytes, ...], reason: str, missing: tuple[int, ...]
) -> None:
    found = series(*mails)
    assert isinstance(found, Incomplete)
    assert found.reason.startswith(reason)
    assert found.missing == missing


def test_the_same_mail_twice_counts_once() -> None:
    assert len(complete(mail('[PATCH 1/1] x'), mail('[PATCH 1/1] x')).patches) == 1


@pytest.mark.parametrize(
    ('subject', 'title', 'revision'),
    [
        ('[PATCH RFC net-next v3 1/1] mm: x', 'mm: x', 3),
        ('[RFC][PATCHv2] mm: x', 'mm: x', 2),
        ('=?utf-8?q?=5BPATCH=5D_mm=3A_na=C3=AFve?=', 'mm: naïve', 1),
        ('[PATCH]\n mm: folded', 'mm: folded', 1),
        ('mm: no brackets at all', 'mm: no brackets at all', 1),
    ],
)
def test_subjects(subject: str, title: str, revision: int) -> None:
    found = complete(mail(subject))
    assert (found.patches[0].subject, found.revision) == (title, revision)


def test_the_body_names_author_subject_and_base() -> None:
    body = (
        'From: B Developer <b@example.org>\n\nWhy.\n\n'
        'Fixes: 0123456789ab ("x")\nAcked-by: C <c@example.org>\n'
    )
    base = 'a' * 40
    found = complete(mail('[PATCH] mm: x', f'{DIFF}\nbase-commit: {base}\n', body=body))
    patch = found.patches[0]
    assert str(patch.author) == 'B Developer <b@example.org>'
    assert patch.message.startswith('Why.')
    assert patch.trailers == ('Fixes: 0123456789ab ("x")', 'Acked-by: C <c@example.org>')
    assert patch.notes == ' x.c | 2 +-'
    assert found.base_commit == base


@pytest.mark.parametrize('encoding', ['base64', 'quoted-printable'])
@pytest.mark.parametrize('end', ['\n', '\r\n'])
def test_transfer_encodings_are_undone(encoding: str, end: str) -> None:
    raw = f'Why.\n---\n{DIFF}'.replace('\n', end).encode()
    encoded = base64.encodebytes(raw) if encoding == 'base64' else quopri.encodestring(raw)
    head = f'Subject: [PATCH] x\nContent-Transfer-Encoding: {encoding}\n\n'.encode()
    assert complete(head + encoded).patches[0].diff == DIFF.encode()


def test_bytes_of_the_diff_are_the_senders_own() -> None:
    raw = mail('[PATCH] x').replace(b'+b', b'+na\xefve\r')
    assert b'+na\xefve\r\n' in complete(raw).patches[0].diff


def test_an_attachment_and_html_beside_the_text() -> None:
    raw = (
        'Subject: [PATCH] x\nContent-Type: multipart/mixed; boundary=B\n\n'
        f'--B\nContent-Type: text/plain\n\nWhy.\n--B\nContent-Type: text/html\n\n<p>\n'
        f'--B\nContent-Type: text/x-patch\n\n{DIFF}--B--\n'
    ).encode()
    assert complete(raw).patches[0].diff == DIFF.encode()


def test_an_mbox_is_split_and_unescaped() -> None:
    one = mail('[PATCH 1/2] x', body='>From here on\n')
    two = mail('[PATCH 2/2] y')
    line = b'From a@b Fri Mar 20 22:39:44 2026\n'
    mails = list(split(line + one + b'\n' + line + two))
    found = complete(*mails)
    assert found.patches[0].message == 'From here on'


def test_no_message_id_and_no_headers_at_all() -> None:
    assert parse_mail(b'\n').msgid is None
    assert parse_mail(b'').subject == ''
    assert parse_mail(b'Subject: =?nosuch?q?x?=\n\n').subject


@pytest.mark.skipif(not CORPUS.exists(), reason='no corpus beside the project')
def test_the_seed_series() -> None:
    found = assemble(parse_mail(raw) for raw in split(CORPUS.read_bytes()))
    assert isinstance(found, Series)
    assert (found.revision, len(found.patches)) == (4, 21)
    assert found.patches[16].msgid == (
        '24aac3019dd34740e788d169fccbe3c62781e648.1774045440.git.ljs@kernel.org'
    )
