"""
What people on the list tell the bot: pure.

A line of an answer, not quoted, at the start of a line:

    vma-bot: ack RULE       the remark is known, and need not come again
    vma-bot: stop           no more mails of the bot on this series
    vma-bot: opt-out        no more mails of the bot to this author

Unknown words are nobody's order. Whether one is obeyed is said by who wrote it
(`store/orders.py`), and by what his mail's signature is worth (`signatures.py`):
it has to be in the words that were signed, as they were signed.
"""

import re
from collections.abc import Iterable
from email.message import Message
from typing import Any

from bot.envelope import machine
from bot.headers import parsed
from bot.model import Mail
from bot.outgoing import Order
from bot.signatures import MIME, literal_body

# Indented lines are quotes too, and some signatures let white space be changed.
LINE = re.compile(rb'^vma-bot:[ \t]*(?P<what>[^\r\n]{0,200})', re.M | re.I)
ACK = re.compile(r'ack\s+(?P<rule>[a-z0-9-]{1,60})\b.*', re.I)
SOFT = re.compile(rb'=[ \t]*\Z')
MOST = 20
DEEPEST = 5


def orders_of(mail: Mail) -> tuple[Order, ...]:
    """Return the orders of an answer, of its first text; none of a machine's, or attached."""
    if LINE.search(mail.body) is None or machine(mail) is not None:
        return ()
    return _orders(mail, _first_text(parsed(mail.raw)[0]).split(b'\n'))


def orders_under(mail: Mail, covers: frozenset[str]) -> tuple[Order, ...]:
    """
    Return those orders of a mail that its signature covers.

    Where it leaves out how the body is to be read (Content-Type and the like,
    as kernel.org's does) anybody can have it read in another way: then a line
    counts that is one however it is read. It stands in the signed bytes as it
    is, before anything that may be a part's boundary, and not next to what may
    be a line's soft end.
    """
    found = orders_of(mail)
    if all(name in covers for name in MIME):
        return found
    plain: list[bytes] = []
    before = b''
    for line in literal_body(mail.raw).split(b'\n'):
        if line.startswith(b'--'):
            break
        if not SOFT.search(line) and not SOFT.search(before):
            plain.append(line)
        before = line
    literal = set(_orders(mail, plain))
    return tuple(one for one in found if one in literal)


def _orders(mail: Mail, lines: Iterable[bytes]) -> tuple[Order, ...]:
    by = mail.author.email.lower()
    said = [match['what'] for line in lines if (match := LINE.match(line))][:MOST]
    found: dict[Order, None] = {}
    for line in said:
        text = line.decode('utf-8', 'replace').strip()
        word = text.lower().rstrip('.!')
        ack = ACK.fullmatch(text)
        if ack is not None:
            found[Order('ack', by, ack['rule'].lower())] = None
        elif word == 'stop':
            found[Order('stop', by)] = None
        elif word in ('opt-out', 'opt out', 'optout'):
            found[Order('opt-out', by)] = None
    return tuple(found)


def _first_text(mail: Message) -> bytes:
    """Return what the writer of a mail wrote into it: its first part, where that is plain text."""
    part: Any = mail
    for _ in range(DEEPEST):
        inner = part.get_payload()
        if part.get_content_maintype() != 'multipart' or not isinstance(inner, list) or not inner:
            break
        part = inner[0]
    attached = part.get_content_disposition() == 'attachment'
    if part.get_content_type() != 'text/plain' or attached or part.is_multipart():
        return b''
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b''
