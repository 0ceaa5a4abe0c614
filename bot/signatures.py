"""
What the signatures of a mail claim, before anybody has checked them. Pure.

A DKIM signature fixes the header fields that its `h=` names, read from the
bottom, and the body. It can count only where we and the verifier read the same
mail: one From, one Subject, one Date, and no line that one of two parsers takes
for a header and the other does not. Whether a signature is good is `attest.py`'s
to say; what follows from that, `orders.py`'s and `lifecycle.py`'s.

patatt (X-Developer-Signature) is shown in reports and proves nothing here: it
covers neither Date nor the thread, and an `l=` of its own ends the signed text.
"""

import binascii
import hashlib
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import dkim
from dkim.util import InvalidTagValueList, parse_tag_value

from bot import headers
from bot.model import Mail

Standing = Literal['pass', 'fail', 'unsigned', 'pending', 'not-checked']
"""
What DKIM says of who wrote a mail. `pending`: the name servers did not answer, and are asked again.
`not-checked`: nobody asked.
"""

HEADER_END = re.compile(rb'(?:\A|\r?\n)\r?\n')
LABEL = re.compile(r'[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?')
ONCE = ('from', 'subject', 'date')
AT_MOST_ONCE = ('in-reply-to', 'references', 'message-id')
MIME = ('content-type', 'content-transfer-encoding')
THREAD = ('in-reply-to', 'references')
ALGORITHMS = (b'rsa-sha256', b'ed25519-sha256')
LONGEST_NAME = 253
LONGEST_SIGNATURE = 1 << 12
"""Bytes of a signature. The verifier's patterns take time by the square of it."""
MOST_SIGNATURES = 100
"""Signatures of a mail that are read at all."""


@dataclass(frozen=True)
class Signature:
    """
    One DKIM-Signature that can count: `index` is its place among all, the topmost first.

    `covers` are the names of the header fields that it fixes, in lower case: as
    they are in the mail, or as absent.
    """

    index: int
    domain: str
    covers: frozenset[str]


@dataclass(frozen=True)
class Worth:
    """What a mail's own domain says of it. `covers` is what the good signature fixes."""

    standing: Standing
    why: str = ''
    covers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Claims:
    """
    The signatures of the author's own domain that can count; `why` there are none.

    `malformed` tells signatures of that domain that were left out from no signature at all.
    """

    address: str
    signatures: tuple[Signature, ...] = ()
    why: str = 'it has no DKIM signature of the domain in its From'


# Several questions are asked of one mail, one after the other.
_header = lru_cache(maxsize=2)(headers.header_only)


def claims(mail: Mail) -> Claims:
    """Return which signatures of a mail are of its author's own domain, and can count."""
    address = mail.author.email.lower()
    fields = read_once(mail.raw)
    if fields is None:
        return Claims(address, (), 'its header can be read in two ways')
    senders = [one.email.lower() for one in headers.people(_header(mail.raw), 'From')]
    if senders != [address]:
        return Claims(address, (), 'it is not from whom it says it is')
    there = Counter(name for name, _ in fields)
    signatures = [value for name, value in fields if name == 'dkim-signature'][:MOST_SIGNATURES]
    found, why = [], Claims(address).why
    for index, value in enumerate(signatures):
        read = _read(value)
        if read is None or not signs_for(read['d'], address):
            continue
        if reason := _unfit(read):
            why = reason
            continue
        named = Counter(one.strip().lower() for one in read['h'].split(':'))
        covers = frozenset(name for name, count in named.items() if there[name] <= count)
        if lacking := [name for name in ONCE if name not in covers]:
            why = f'its DKIM signature does not cover {lacking[0].title()}'
            continue
        found.append(Signature(index, read['d'].lower(), covers))
    return Claims(address, tuple(found), '' if found else why)


def names_its_thread(covers: frozenset[str]) -> bool:
    """Whether what is fixed says what the mail answers."""
    return any(name in covers for name in THREAD)


def fixes_its_place(mail: Mail, covers: frozenset[str]) -> bool:
    """Whether what a mail answers, if anything, is fixed: nobody can put it elsewhere."""
    read = _header(mail.raw)
    return all(name in covers or not headers.has(read, name) for name in THREAD)


def parents(mail: Mail, covers: frozenset[str]) -> tuple[str, ...]:
    """Return what a mail answers, nearest first, by the fixed fields alone."""
    read = _header(mail.raw)
    found: list[str] = []
    if 'in-reply-to' in covers:
        found += headers.msgids(read, 'In-Reply-To')[:1]
    if 'references' in covers:
        found += reversed(headers.msgids(read, 'References'))
    return tuple(dict.fromkeys(found))


def signs_for(domain: str, address: str) -> bool:
    """Whether a domain is that of an address, or above it."""
    domain, mine = domain.lower(), address.lower().rpartition('@')[2]
    return '.' in domain and (mine == domain or mine.endswith(f'.{domain}'))


def can_be_looked_up(name: str) -> bool:
    """Whether a name can be in DNS at all: labels of 1 to 63 plain characters, 253 in all."""
    labels = name.lower().rstrip('.').split('.')
    return len(name) <= LONGEST_NAME and all(LABEL.fullmatch(one) for one in labels)


def literal_body(raw: bytes) -> bytes:
    """Return the body as it was signed, byte for byte: no part cut out, nothing decoded."""
    end = HEADER_END.search(raw)
    return raw[end.end() :].replace(b'\r\n', b'\n') if end else b''


def seal(mail: Mail) -> str:
    """
    Return what tells one signed mail from another, whatever was added to it on its way.

    Of what every signature that counts has to cover: the same From, Subject,
    Date and body are the same mail, under whichever of its signatures, each of
    which could be written in other ways (base64, leading zeros).
    """
    read = _header(mail.raw)
    parts = [mail.author.email.lower()]
    parts += [' '.join(headers.text(read, name).split()) for name in ('Subject', 'Date')]
    words = b' '.join(literal_body(mail.raw).split())
    return hashlib.sha256('\0'.join(parts).encode('utf-8', 'replace') + b'\0' + words).hexdigest()


def fingerprint(mail: Mail, machine: str | None) -> str:
    """
    Return what tells copies of a mail that differ where it matters to us.

    Two lists bring the same mail with other Received and List-Id lines; that is
    one mail. Another text, thread, addressee or signature under the same
    Message-ID is another mail.
    """
    read = _header(mail.raw)
    names = ('Subject', 'Date', 'In-Reply-To', 'References', 'To', 'Cc')
    parts = [mail.author.email.lower(), machine or '']
    parts += [' '.join(headers.text(read, name).split()) for name in names]
    whole = '\0'.join(parts).encode('utf-8', 'replace') + b'\0'
    fields = read_once(mail.raw) or ()
    mine = [_read(value) for name, value in fields if name == 'dkim-signature'][:MOST_SIGNATURES]
    own = sorted(
        ''.join(one.get('b', '').split())
        for one in mine
        if one is not None and signs_for(one['d'], mail.author.email)
    )
    whole += '\0'.join(own).encode('utf-8', 'replace') + b'\0' + mail.body.rstrip()
    return hashlib.sha256(whole).hexdigest()


@lru_cache(maxsize=2)
def read_once(raw: bytes) -> tuple[tuple[str, bytes], ...] | None:
    """
    Return the header fields, names in lower case, as the verifier reads them.

    None where it and we read something else, where a field is missing that
    every mail has, or where one is there twice of which we would read either.
    """
    end = HEADER_END.search(raw)
    head = raw[: end.start()] if end else raw
    if b'\0' in head or b'\r' in head.replace(b'\r\n', b'\n'):
        return None
    try:
        read, _ = dkim.rfc822_parse(head)
    except (dkim.DKIMException, IndexError):
        return None
    fields = tuple((name.decode('ascii').lower(), bytes(value)) for name, value in read)
    there = Counter(name for name, _ in fields)
    if any(there[name] != 1 for name in ONCE) or any(there[name] > 1 for name in AT_MOST_ONCE):
        return None
    named = {*ONCE, *AT_MOST_ONCE, *MIME, 'dkim-signature'}
    ours = [
        (name.lower(), str(value).encode('ascii', 'surrogateescape').split())
        for name, value in _header(raw).raw_items()
        if name.lower() in named
    ]
    theirs = [(name, value.split()) for name, value in fields if name in named]
    return fields if ours == theirs else None


def _read(value: bytes) -> dict[str, str] | None:
    """Return the tags of a signature; None where it is none."""
    if len(value) > LONGEST_SIGNATURE:
        return None
    try:
        tags = parse_tag_value(value)
    except (InvalidTagValueList, IndexError):
        return None
    read = {name.decode('latin-1'): part.decode('ascii', 'replace') for name, part in tags.items()}
    return read if {'d', 's', 'h', 'a', 'b'} <= set(read) else None


def _unfit(tags: Mapping[str, str]) -> str:
    """Say why a signature can not count whatever its key says, '' where it can."""
    if 'l' in tags:
        return 'its DKIM signature covers only part of the text (l=)'
    if tags['a'].encode() not in ALGORITHMS:
        return 'its DKIM signature is of a kind that proves nothing'
    if not can_be_looked_up(f'{tags["s"]}._domainkey.{tags["d"]}'):
        return 'its DKIM signature names a key that can not be in DNS'
    try:
        b64decode(''.join(tags['b'].split()), validate=True)
    except (binascii.Error, ValueError):
        return 'its DKIM signature is malformed'
    return ''
