"""Signing mails as their domains do, and what name servers say of the keys."""

import base64
import re
import subprocess
from collections.abc import Sequence
from functools import cache

import dkim
import nacl.signing

from bot.attest import Look, NoAnswerError
from bot.signatures import MIME, ONCE, THREAD, Standing, Worth
from bot.store import Store

DOMAINS = ('example.org', 'example.net', 'evil.example')
KEYS = {name: nacl.signing.SigningKey(bytes([n] * 32)) for n, name in enumerate(DOMAINS, 1)}
KERNEL = ('from', 'to', 'cc', 'subject', 'date', 'in-reply-to', 'references', 'from')
"""What kernel.org signs: no Message-ID, and nothing that says how the body is to be read."""
ALL = frozenset((*ONCE, *THREAD, *MIME, 'to', 'cc', 'message-id'))


@cache
def rsa_key() -> tuple[bytes, bytes]:
    """An RSA key of 2048 bits for all tests of a session: PEM, and the public one in DER."""
    private = subprocess.run(
        ['openssl', 'genrsa', '-traditional', '2048'], capture_output=True, check=True
    ).stdout
    public = subprocess.run(
        ['openssl', 'rsa', '-pubout', '-outform', 'DER'],
        input=private, capture_output=True, check=True,
    ).stdout  # fmt: skip
    return private, public


def signed(
    raw: bytes,
    domain: str = 'example.org',
    heads: Sequence[str] = KERNEL,
    *,
    algorithm: str = 'ed25519',
    selector: str = 'sel',
    length: bool = False,
    body: bytes = b'simple',
    key: nacl.signing.SigningKey | None = None,
) -> bytes:
    """A mail as its domain's server sends it. `heads` that it lacks are left out, as servers do."""
    present = {line.partition(b':')[0].lower() for line in raw.split(b'\n\n')[0].split(b'\n')}
    chosen = [name.encode() for name in heads if name.encode() in present]
    own = base64.b64encode(bytes(key or KEYS[domain]))
    rsa = algorithm == 'rsa'
    header: bytes = dkim.DKIM(raw).sign(
        selector.encode(), domain.encode(), rsa_key()[0] if rsa else own,
        include_headers=chosen, canonicalize=(b'relaxed', body), length=length,
        signature_algorithm=b'rsa-sha256' if rsa else b'ed25519-sha256',
    )  # fmt: skip
    return header.replace(b'\r\n', b'\n') + raw


def tampered(raw: bytes, value: bytes, tag: bytes = b'b') -> bytes:
    """A signed mail with another value in a tag of its signature."""
    head, _, rest = raw.partition(b'\nFrom: ')
    changed = re.sub(rb'(?<=\s' + tag + rb'=)[^;]*', lambda _: value, head)
    return changed + b'\nFrom: ' + rest


def records() -> dict[str, bytes]:
    """What name servers have: `sel` for each domain's ed25519 key, `rsa` for the RSA key."""
    found = {
        f'sel._domainkey.{name}.': b'v=DKIM1; k=ed25519; p='
        + base64.b64encode(bytes(key.verify_key))
        for name, key in KEYS.items()
    }
    for name in DOMAINS:
        found[f'rsa._domainkey.{name}.'] = b'v=DKIM1; k=rsa; p=' + base64.b64encode(rsa_key()[1])
    return found


def published(name: str, _: float) -> bytes | None:
    """Answer as name servers do, of ed25519 keys."""
    key = KEYS.get(name.removeprefix('sel._domainkey.').rstrip('.'))
    if key is None:
        return None
    return b'v=DKIM1; k=ed25519; p=' + base64.b64encode(bytes(key.verify_key))


def down(name: str, seconds: float) -> bytes | None:
    """Answer nothing."""
    raise NoAnswerError('nobody there')


class Names:
    """Name servers that can be taken down. `asked` is what they were asked for."""

    def __init__(self, look: Look = published) -> None:
        self.up = True
        self.asked: list[str] = []
        self._look = look

    def __call__(self, name: str, seconds: float) -> bytes | None:
        self.asked.append(name)
        return (self._look if self.up else down)(name, seconds)


def weigh(store: Store, standing: Standing = 'pass') -> None:
    """Decide on all orders that wait, as if their signatures were worth this."""
    for one in store.unweighed():
        store.weigh(one.mail, Worth(standing, 'x', ALL if standing == 'pass' else frozenset()))
