"""Which signatures can count at all, and what they fix."""

from pathlib import Path

import pytest

from bot.series import parse_mail, split
from bot.signatures import (
    can_be_looked_up,
    claims,
    fingerprint,
    fixes_its_place,
    literal_body,
    names_its_thread,
    parents,
    seal,
)
from tests.attesting import signed
from tests.lettering import post

CORPUS = Path(__file__).parent.parent.parent / 'shared' / 'corpus'
RAW = post('a@x', 'Re: [PATCH] x', 'Thanks.\n', 'root@x', 'parent@x').raw
HEAD = b'DKIM-Signature: v=1; a=rsa-sha256; d=%s; s=%s; h=%s; bh=eA==; b=eA==%s\n'


def claimed(
    domain: bytes = b'example.org', selector: bytes = b's', heads: bytes = b'from:subject:date',
    more: bytes = b'', raw: bytes = RAW,
) -> bool:  # fmt: skip
    return bool(claims(parse_mail(HEAD % (domain, selector, heads, more) + raw)).signatures)


def test_what_can_count() -> None:
    assert claimed()
    assert claimed(raw=RAW.replace(b'dev@example.org', b'dev@mail.example.org'))
    assert claimed(heads=b' From : Subject\n : date:from')


@pytest.mark.parametrize(
    'selector',
    [b's' * 64, b'a..b', b'', b'.', b'a.', '\xe4'.encode(), b'a b', b'.'.join([b'x' * 50] * 5)],
)
def test_a_name_that_can_not_be_looked_up(selector: bytes) -> None:
    """It is no temporary failure: no name server will ever have it."""
    assert not claimed(selector=selector)


@pytest.mark.parametrize(
    ('name', 'can'),
    [
        ('s._domainkey.example.org', True),
        ('s._domainkey.example.org.', True),
        ('20260320-x._domainkey.a-b.example.org', True),
        (f'{"s" * 63}.x', True),
        (f'{"s" * 64}.x', False),
        ('.'.join(['x' * 50] * 5), False),
        ('a..b', False),
        ('-a.x', False),
        ('ä.x', False),
        ('a\0.x', False),
        ('', False),
    ],
)
def test_names(name: str, can: bool) -> None:
    assert can_be_looked_up(name) is can


@pytest.mark.parametrize(
    'made',
    [
        lambda: claimed(domain=b'evil.example'),
        lambda: claimed(domain=b'org'),
        lambda: claimed(domain=b'evil-example.org'),
        lambda: claimed(more=b'; l=5'),
        lambda: claimed(more=b'; l=99999999'),
        lambda: claimed(heads=b'from:subject'),
        lambda: claimed(heads=b'from:date'),
        lambda: claimed(heads=b''),
        lambda: claimed(more=b'; b=again'),
        lambda: claimed(more=b'=' * 5000),
        lambda: claimed(raw=b'Subject: another\n' + RAW),
        lambda: claimed(raw=b'From: Eve <eve@evil.example>\n' + RAW),
        lambda: claimed(raw=b'Date: Fri, 20 Mar 2020 09:46:40 +0000\n' + RAW),
        lambda: claimed(raw=b'In-Reply-To: <other@x>\n' + RAW),
        lambda: claimed(raw=b'References: <other@x>\n' + RAW),
        lambda: claimed(raw=b'Message-ID: <other@x>\n' + RAW),
        lambda: claimed(raw=b'X-A: b\rIn-Reply-To: <other@x>\n' + RAW),
        lambda: claimed(raw=b'X-A: b\0c\n' + RAW),
        lambda: claimed(raw=b'Subject : another\n' + RAW),
        lambda: claimed(raw=b'X-Original-From: Eve <eve@evil.example>\n' + RAW),
    ],
)
def test_what_can_not_count(made: object) -> None:
    assert callable(made)
    assert not made()


def test_what_is_fixed() -> None:
    (one,) = claims(parse_mail(signed(RAW))).signatures
    assert one.covers >= {'from', 'subject', 'date', 'in-reply-to', 'references'}
    assert 'message-id' not in one.covers
    mail = parse_mail(RAW)
    assert parents(mail, one.covers) == ('parent@x', 'root@x')
    assert parents(mail, one.covers - {'references'}) == ('parent@x',)
    assert parents(mail, one.covers - {'in-reply-to'}) == ('parent@x', 'root@x')
    assert parents(mail, frozenset()) == ()
    assert fixes_its_place(mail, one.covers)
    assert not fixes_its_place(mail, one.covers - {'references'})
    assert not names_its_thread(frozenset({'from', 'subject', 'date'}))


def test_a_field_that_is_there_twice_is_fixed_only_where_it_is_signed_as_often() -> None:
    raw = b'To: one@x\nTo: two@x\n' + RAW
    for heads, fixed in ((b'from:subject:date:to', False), (b'from:subject:date:to:to', True)):
        (one,) = claims(parse_mail(HEAD % (b'example.org', b's', heads, b'') + raw)).signatures
        assert ('to' in one.covers) is fixed


def test_the_same_mail_has_the_same_seal_and_print() -> None:
    """Another list's lines, or another way to write a signature, make no other mail."""
    first = parse_mail(signed(RAW))
    again = parse_mail(b'Received: by x\nList-Id: <y>\n' + signed(RAW).replace(b'\n', b'\r\n'))
    assert seal(first) == seal(again) == seal(parse_mail(RAW.replace(b'a@x', b'b@x')))
    assert seal(first) != seal(parse_mail(RAW.replace(b'Thanks', b'No')))
    assert fingerprint(first, None) != fingerprint(first, 'Auto-Submitted: yes')
    assert fingerprint(first, None) != fingerprint(parse_mail(RAW), None)
    raw = signed(RAW)
    plain = fingerprint(parse_mail(raw), None)
    assert plain == fingerprint(parse_mail(b'Received: by x\nList-Id: <y>\n' + raw), None)
    for other in (b'Thanks', b'parent@x', b'Re: [PATCH]', b'20 Mar'):
        assert plain != fingerprint(parse_mail(raw.replace(other, b'19 Mar', 1)), None)
    assert plain != fingerprint(parse_mail(b'To: eve@x\n' + raw), None)


def test_the_signed_body_is_the_bytes_below_the_header() -> None:
    assert literal_body(b'A: b\r\n\r\none\r\ntwo\r\n') == b'one\ntwo\n'
    assert literal_body(b'A: b\n') == b''
    assert literal_body(b'\nx') == b'x'


@pytest.mark.skipif(not CORPUS.is_dir(), reason='no corpus beside the project')
def test_how_real_mails_are_signed(capsys: pytest.CaptureFixture[str]) -> None:
    """What real servers sign is enough for us."""
    count = threads = 0
    for path in sorted(CORPUS.glob('*.mbox')):
        for raw in split(path.read_bytes()):
            mail = parse_mail(raw)
            found = claims(mail)
            count += 1
            assert found.signatures, (found.address, found.why)
            if mail.in_reply_to is not None:
                threads += any(names_its_thread(one.covers) for one in found.signatures)
    with capsys.disabled():
        print(f'\n{count} real mails: all can count; of {threads} the thread is signed, too')
    assert threads >= 45
