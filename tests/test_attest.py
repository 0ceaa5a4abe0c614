"""Signatures: pass, fail, and what can't be checked."""

import base64
from pathlib import Path

import dkim
import nacl.signing
import patatt
import pytest

from bot.attest import Attester, NoAnswerError
from bot.model import Attestation
from bot.series import parse_mail

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
