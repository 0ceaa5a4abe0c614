"""
What people on the list tell the bot: pure.

A line of an answer, not quoted:

    vma-bot: ack RULE       the remark is known, and need not come again
    vma-bot: stop           no more mails of the bot on this series
    vma-bot: opt-out        no more mails of the bot to this author

Unknown words are nobody's order. Whether one is obeyed is said by who wrote it
(`store/orders.py`), and by what his mail's signature is worth.
"""

import re
from collections.abc import Sequence
from typing import Literal

from bot.envelope import envelope
from bot.model import Attestation, Mail
from bot.outgoing import Order

LINE = re.compile(rb'^[ \t]{0,3}vma-bot:[ \t]*(?P<what>[^\r\n]{0,200})', re.M | re.I)
ACK = re.compile(r'ack\s+(?P<rule>[a-z0-9-]{1,60})\b.*', re.I)
SIGNED = re.compile(rb'^dkim-signature:', re.M | re.I)
HEADER_END = re.compile(rb'\r?\n\r?\n')
MOST = 20

Standing = Literal['pass', 'fail', 'unsigned', 'not-checked']
"""What DKIM says of who wrote a mail."""


def orders_of(mail: Mail) -> tuple[Order, ...]:
    """Return the orders of an answer; none of a machine's."""
    lines = [found['what'] for found in LINE.finditer(mail.body)][:MOST]
    if not lines or envelope(mail).machine is not None:
        return ()
    by = mail.author.email.lower()
    found: dict[Order, None] = {}
    for line in lines:
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


def is_signed(raw: bytes) -> bool:
    """Whether a mail has a DKIM signature at all."""
    end = HEADER_END.search(raw)
    return SIGNED.search(raw, 0, end.start() if end else len(raw)) is not None


def standing(mail: Mail, attestations: Sequence[Attestation]) -> Standing:
    """
    Return what the signatures say of the author's address.

    A signature counts where it is of the address' own domain: that of a list's
    host, or of anybody else, says nothing of who wrote a mail.
    """
    if not is_signed(mail.raw):
        return 'unsigned'
    mine = mail.author.email.lower().rpartition('@')[2]
    dkim = [one for one in attestations if one.kind == 'dkim']
    own = [one for one in dkim if _same(one.identity.lower(), mine)]
    if any(one.result == 'pass' for one in own):
        return 'pass'
    if any(one.result == 'fail' for one in own):
        return 'fail'
    if any(one.result == 'not-checked' for one in own) or not dkim:
        return 'not-checked'
    return 'unsigned'


def _same(domain: str, mine: str) -> bool:
    """Whether a signing domain is the address' own, or above it."""
    return bool(domain) and '.' in domain and (mine == domain or mine.endswith(f'.{domain}'))
