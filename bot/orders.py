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
from collections.abc import Iterable, Sequence
from typing import Literal

from bot.envelope import envelope
from bot.headers import header_only, people
from bot.model import NO_KEY, Attestation, Mail
from bot.outgoing import Order

LINE = re.compile(rb'^[ \t]{0,3}vma-bot:[ \t]*(?P<what>[^\r\n]{0,200})', re.M | re.I)
ACK = re.compile(r'ack\s+(?P<rule>[a-z0-9-]{1,60})\b.*', re.I)
DOMAIN = re.compile(r'(?:^|;)\s*d\s*=\s*([^;\s]+)', re.I)
LONGEST = 1 << 13
"""Characters of a signature that are looked at."""
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


def signed_by(raw: bytes) -> frozenset[str]:
    """Return the domains that say they signed a mail, in lower case; nobody has checked it."""
    read = header_only(raw)
    values = [str(value) for name, value in read.raw_items() if name.lower() == 'dkim-signature']
    domains = (DOMAIN.search(value[:LONGEST]) for value in values)
    return frozenset(found[1].lower() for found in domains if found is not None)


def signs_for(domains: Iterable[str], address: str) -> bool:
    """Whether one of these domains is that of an address, or above it."""
    mine = address.lower().rpartition('@')[2]
    return any(_same(domain, mine) for domain in domains)


def standing(mail: Mail, attestations: Sequence[Attestation]) -> Standing:
    """
    Return what the signatures say of the author's address.

    A signature counts where it is of the address' own domain: that of a list's
    host, or of anybody else, says nothing of who wrote a mail. Nor does one
    whose key there is not, or one over another From than the author's.
    """
    mine = mail.author.email.lower()
    senders = [one.email.lower() for one in people(header_only(mail.raw), 'From')]
    if senders != [mine] or not signs_for(signed_by(mail.raw), mine):
        return 'unsigned'
    own = [one for one in attestations if one.kind == 'dkim' and signs_for([one.identity], mine)]
    if any(one.result == 'pass' for one in own):
        return 'pass'
    if any(one.result == 'fail' for one in own):
        return 'fail'
    if any(one.result == 'not-checked' and one.reason != NO_KEY for one in own):
        return 'not-checked'
    return 'unsigned'


def _same(domain: str, mine: str) -> bool:
    """Whether a signing domain is the address' own, or above it."""
    domain = domain.lower()
    return bool(domain) and '.' in domain and (mine == domain or mine.endswith(f'.{domain}'))
