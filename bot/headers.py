"""
The headers of a mail, whatever a stranger wrote into them. Pure.

Answers what a header says: its text decoded and on one line, the addresses in
it, its message-ids. Nothing here raises: Python's own reading of structured
headers does, over line ends in encoded names for one, and a list's archive has
all that anybody ever sent. What can't be decoded stays as it is written.
"""

import re
from email.errors import MessageError
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from email.policy import compat32
from email.utils import getaddresses

from liblore.utils import clean_header

from bot.model import Author

MSGID = re.compile(r'<([^<>\s]{1,998})>')
LONGEST = 1 << 16
"""Characters of a header that are looked at."""
MOST = 500
"""Addresses of a header that are looked at."""
NOBODY = Author('(nobody)', '')


def parsed(raw: bytes) -> Message:
    """Return a mail, with its body's parts."""
    return BytesParser(policy=compat32).parsebytes(raw)


def header_only(raw: bytes) -> Message:
    """Return a mail of which only the header is read."""
    return BytesHeaderParser(policy=compat32).parsebytes(raw)


def text(mail: Message, name: str) -> str:
    """Return a header, decoded and on one line; '' where there is none."""
    return _decoded(_raw(mail, name))


def has(mail: Message, name: str) -> bool:
    """Whether there is such a header."""
    return any(one.lower() == name.lower() for one in mail)


def people(mail: Message, name: str) -> tuple[Author, ...]:
    """Return the addresses of all headers of a name, with the names before them."""
    # Names are decoded behind the parsing: an encoded one may hold commas and brackets.
    values = [_bytes_read(value)[:LONGEST] for value in _values(mail, name)]
    try:
        found = getaddresses(values)
    except (ValueError, IndexError, AttributeError, TypeError):
        return ()
    return tuple(
        Author(_decoded(title), address) for title, address in found[:MOST] if '@' in address
    )


def author(mail: Message) -> Author:
    """Return who a mail is from; lists that rewrite From keep it in X-Original-From."""
    for name in ('X-Original-From', 'From'):
        found = people(mail, name)
        if found:
            return found[0]
    return NOBODY


def msgids(mail: Message, name: str) -> tuple[str, ...]:
    """Return the message-ids of a header, as they are written, without brackets."""
    return tuple(MSGID.findall(_raw(mail, name)))


def _values(mail: Message, name: str) -> list[str]:
    return [str(value) for one, value in mail.raw_items() if one.lower() == name.lower()]


def _raw(mail: Message, name: str) -> str:
    values = _values(mail, name)
    return _bytes_read(values[0])[:LONGEST] if values else ''


def _bytes_read(value: str) -> str:
    """Read the bytes of a header that is not ASCII as UTF-8, as most are."""
    return value.encode('utf-8', 'surrogateescape').decode('utf-8', 'replace')


def _decoded(value: str) -> str:
    try:
        return ' '.join(clean_header(value).split())
    except (MessageError, ValueError, LookupError, AttributeError, TypeError):
        return ' '.join(value.split())
