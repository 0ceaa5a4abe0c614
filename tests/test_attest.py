"""Signatures: pass, fail, and what can't be checked."""

import base64
import re
import time
from pathlib import Path

import dkim
import nacl.signing
import patatt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import attest
from bot.attest import Attester, NoAnswerError, resolving
from bot.model import Attestation
from bot.series import parse_mail
from tests import attesting
from tests.lettering import post

RAW = b'From: A Developer <dev@example.org>\r\nSubject: [PATCH] x\r\nDate: x\r\n\r\nWhy.\r\n'
KEY = nacl.signing.SigningKey(bytes(range(32)))
PUBLIC = base64.b64encode(bytes(KEY.verify_key))


def signed(raw: bytes = RAW) -> bytes:
    header: bytes = dkim.sign(
        raw, b'sel', b'example.org', base64.b64encode(bytes(KEY)),
        signature_algorithm=b'ed25519-sha256', include_headers=[b'from', b'subject'],
    )  # fmt: skip
    return header + raw


def published(name: str, _: float) -> bytes | None:
    return b'v=DKIM1; k=ed25519; p=' + PUBLIC if name == 'sel._domainkey.example.org.' else None


def silent(_: str, __: float) -> bytes | None:
    raise NoAnswerError('nobody there')


def no_key(_: str, __: float) -> bytes | None:
    return None


@pytest.mark.parametrize(
    ('raw', 'look', 'result', 'reason'),
    [
        (signed(), published, 'pass', ''),
        (signed().replace(b'Why.', b'Why not.'), published, 'fail', None),
        (signed(), silent, 'not-checked', 'no answer from DNS'),
        (signed(), no_key, 'not-checked', 'no key in DNS'),
    ],
    ids=['pass', 'fail', 'silent', 'no-key'],
)
def test_dkim(raw: bytes, look: object, result: str, reason: str | None) -> None:
    assert callable(look)
    (found,) = Attester(5, look=look).check(parse_mail(raw))
    assert (found.kind, found.identity, found.result) == ('dkim', 'example.org', result)
    assert reason is None or found.reason == reason


def test_a_mail_without_a_signature_says_nothing() -> None:
    assert Attester(5, look=silent).check(parse_mail(RAW)) == ()


def test_a_signature_that_is_no_signature() -> None:
    raw = b'DKIM-Signature: junk\r\n' + RAW
    (found,) = Attester(5, look=published).check(parse_mail(raw))
    assert found.result == 'fail'


def test_names_are_looked_up_once_and_not_beyond_the_time() -> None:
    asked: list[str] = []

    def look(name: str, seconds: float) -> bytes | None:
        asked.append(name)
        return published(name, seconds)

    attester = Attester(5, look=look)
    for _ in range(3):
        attester.check(parse_mail(signed()))
    assert len(asked) == 1
    assert Attester(0, look=look).check(parse_mail(signed()))[0].reason == 'no answer from DNS'
    assert len(asked) == 1


def test_patatt(tmp_path: Path) -> None:
    raw = patatt.sign_message(
        RAW.replace(b'\r\n', b'\n'),
        'ed25519',
        base64.b64encode(bytes(KEY)),
        'dev@example.org',
        'me',
    )
    (found,) = Attester(5, look=silent).check(parse_mail(raw))
    assert (found.kind, found.result, found.reason) == ('patatt', 'not-checked', 'no key at hand')
    folder = tmp_path / 'ed25519' / 'example.org' / 'dev'
    folder.mkdir(parents=True)
    (folder / 'me').write_bytes(PUBLIC)
    attester = Attester(5, [tmp_path], silent)
    (found,) = attester.check(parse_mail(raw))
    assert (found.identity, found.result) == ('ed25519/dev@example.org', 'pass')
    (found,) = attester.check(parse_mail(raw.replace(b'Why.', b'Why not.')))
    assert found.result == 'fail'


def test_other_kinds_of_keys_run_no_program() -> None:
    raw = b'X-Developer-Signature: v=1; a=openpgp-sha256; l=5; h=from; bh=x; b=y\n' + RAW
    assert Attester(5, look=silent).check(parse_mail(raw)) == (
        Attestation('patatt', 'openpgp or openssh', 'not-checked', 'no ed25519 key'),
    )


# --- what its own domain says of a mail ---------------------------------------

ORDER = post('o@x', 'Re: [PATCH] x', 'vma-bot: stop\n', 'a@x').raw


def own(raw: bytes, look: attest.Look = attesting.published) -> tuple[str, str]:
    worth = Attester(20, look=look).own(parse_mail(raw))
    return worth.standing, worth.why


@pytest.mark.parametrize('algorithm', ['ed25519', 'rsa'])
def test_own(algorithm: str) -> None:
    records = attesting.records()
    selector = 'rsa' if algorithm == 'rsa' else 'sel'
    raw = attesting.signed(ORDER, algorithm=algorithm, selector=selector)

    def look(name: str, _: float) -> bytes | None:
        return records.get(name)

    assert own(raw, look) == ('pass', '')
    assert own(raw.replace(b'stop', b'opt-out'), look)[0] == 'fail'
    assert own(raw, attesting.down) == ('pending', 'no answer from DNS')
    assert own(raw, no_key)[0] == 'unsigned'


def test_a_signature_has_its_time() -> None:
    """Before its time, and after it: nothing counts. The verifier gives clocks some hours."""
    now = int(time.time())
    raw = attesting.signed(ORDER)
    for tag, value in (('x', now - 2 * DAY), ('t', now + 2 * DAY)):
        late = b'DKIM-Signature: %s=%d;' % (tag.encode(), value)
        changed = re.sub(rb' t=\d+;', b'', raw).replace(b'DKIM-Signature:', late, 1)
        standing, why = own(changed)
        assert standing == 'fail'
        assert 'past' in why or 'future' in why


DAY = 86_400


@pytest.mark.parametrize('value', [b'eA==', b'AAAA' * 16, b'=' * 4, b'A' * 88, b'!!!!', b''])
def test_a_signature_of_the_wrong_kind(value: bytes) -> None:
    """The library below raises errors of its own; here it is a signature that does not fit."""
    assert own(attesting.tampered(attesting.signed(ORDER), value))[0] in ('fail', 'unsigned')


@pytest.mark.parametrize(
    'key',
    [
        b'', b'v=DKIM1', b'v=DKIM1; k=ed25519', b'v=DKIM1; k=ed25519; p=', b'v=DKIM2; p=AAAA',
        b'v=DKIM1; k=ed25519; p=\xff\xfe', b'v=DKIM1; k=ed25519; p=AAAA', b'k=rsa; p=!!!',
        b'k=rsa; p=AAAA', b'k=dsa; p=AAAA', b'\xff', b';;;', b'p', b'k=rsa; p=' + b'MIIB' * 200,
    ],
)  # fmt: skip
def test_a_key_that_is_none(key: bytes) -> None:
    def look(name: str, _: float) -> bytes:
        return key

    assert own(attesting.signed(ORDER), look)[0] in ('fail', 'unsigned')


@given(st.binary(max_size=300), st.binary(max_size=300), st.sampled_from(list(range(9))))
def test_whatever_is_signed_and_published(head: bytes, key: bytes, tag: int) -> None:
    """Nothing that a stranger writes into a mail, or into DNS, raises."""
    name = [b'b', b'bh', b'h', b'a', b's', b'd', b'c', b't', b'v'][tag]
    value = head.replace(b'\n', b'')
    for raw in (
        attesting.tampered(attesting.signed(ORDER), value, name),
        b'DKIM-Signature: ' + head + b'\n' + ORDER,
        head + b'\n' + attesting.signed(ORDER),
        b'X-Developer-Signature: a=ed25519-sha256; i=' + head + b'\n' + ORDER,
    ):
        attester = Attester(5, look=lambda _, __: key)
        assert attester.own(parse_mail(raw)).standing in ('fail', 'unsigned')
        for one in attester.check(parse_mail(raw)):
            assert one.result != 'pass'


def test_a_patatt_identity_that_is_no_text() -> None:
    raw = b'X-Developer-Signature: v=1; a=ed25519-sha256; i=\xff\xfe; s=x; h=from; b=x\n' + RAW
    (found,) = Attester(5, look=silent).check(parse_mail(raw))
    assert (found.kind, found.result) == ('patatt', 'not-checked')


def test_foreign_signatures_do_not_use_up_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr('bot.attest.time.monotonic', lambda: clock[0])

    def look(name: str, seconds: float) -> bytes | None:
        if 'slow' in name:
            clock[0] += seconds
            raise NoAnswerError('too slow')
        return attesting.published(name, seconds)

    slow = b'DKIM-Signature: v=1; a=rsa-sha256; d=slow.example; s=s; h=from; bh=eA==; b=eA==\n'
    raw = slow * 9 + attesting.signed(ORDER)
    results = [one.result for one in Attester(20, look=look).check(parse_mail(raw))]
    assert results == ['pass'] + ['not-checked'] * 4
    assert clock[0] <= 20


def test_what_name_servers_said_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr('bot.attest.time.monotonic', lambda: clock[0])
    names = attesting.Names()
    attester = Attester(20, look=names)
    mail = parse_mail(attesting.signed(ORDER))
    for when, asked in ((0, 1), (3000, 1), (3700, 2)):
        clock[0] = when
        assert attester.own(mail).standing == 'pass'
        assert len(names.asked) == asked
    names.up = False
    for when, asked in ((8000, 3), (8030, 3), (8061, 4)):
        clock[0] = when
        assert attester.own(mail).standing == 'pending'
        assert len(names.asked) == asked


@pytest.mark.parametrize('name', ['a' * 64 + '.x', 'a..b', '.'.join(['x' * 60] * 5), '\udcff.x'])
def test_a_name_that_is_none_is_not_asked_for(name: str) -> None:
    assert resolving(['127.0.0.1:9'])(name, 0.2) is None
