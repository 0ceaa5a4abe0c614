"""
Who a mail is to, and what kind of mail it is: read from its headers. Pure.

Answers which addresses it went to, and whether a machine wrote it. A header
that can't be read counts as not there; nothing in a mail is an error.
"""

import re
from dataclasses import dataclass
from email.message import Message

from bot import headers
from bot.model import Author, Mail

# Of one header: policy holds back what goes to more, all in all.
MOST = 101
ADDRESS = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+"
)
BOUNCES = re.compile(r'(?:mailer-daemon|postmaster|bounce[s+=-].*|.*-bounces?)@', re.I)


@dataclass(frozen=True)
class Envelope:
    """
    `sender`, `to` and `cc` as people wrote them; only addresses that can be mailed to.

    `machine` says why this is no person's mail ('Auto-Submitted', 'Precedence:
    bulk', 'a bounce'), None where it is.
    """

    sender: Author
    to: tuple[Author, ...]
    cc: tuple[Author, ...]
    machine: str | None


def envelope(mail: Mail) -> Envelope:
    """Read the envelope of a mail."""
    read = headers.header_only(mail.raw)
    return Envelope(mail.author, _people(read, 'To'), _people(read, 'Cc'), _machine(mail, read))


def machine(mail: Mail) -> str | None:
    """Say why a mail is no person's, None where it is."""
    return _machine(mail, headers.header_only(mail.raw))


def is_address(text: str) -> bool:
    """Whether something can be mailed to: a plain address, in ASCII."""
    return ADDRESS.fullmatch(text) is not None


def _people(read: Message, name: str) -> tuple[Author, ...]:
    found: dict[str, Author] = {}
    for one in headers.people(read, name):
        if is_address(one.email):
            found.setdefault(one.email.lower(), one)
    return tuple(found.values())[:MOST]


def _machine(mail: Mail, read: Message) -> str | None:
    submitted = re.split(r'[\s;(]', headers.text(read, 'Auto-Submitted').lower())[0]
    if submitted not in ('', 'no'):
        return f'Auto-Submitted: {submitted}'
    precedence = headers.text(read, 'Precedence').lower()
    # Lists set "list" or "bulk" on what people send through them, with a List-Id.
    bulk = precedence == 'bulk' and not headers.has(read, 'List-Id')
    if precedence in ('junk', 'auto_reply') or bulk:
        return f'Precedence: {precedence}'
    if headers.has(read, 'X-Auto-Response-Suppress'):
        return 'X-Auto-Response-Suppress'
    if headers.text(read, 'Return-Path') == '<>' or BOUNCES.match(mail.author.email):
        return 'a bounce'
    return None
