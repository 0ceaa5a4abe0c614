"""
The headers of a mail, whatever a stranger wrote into them. Pure.

Answers what a header says: its text decoded and on one line, the addresses in
it, its message-ids. Nothing here raises: Python's own reading of structured
headers does, over line ends in encoded names for one, and a list's archive has
all that anybody ever sent. What can't be decoded stays as it is written. Encoded
words are decoded here, since a header chooses its codec: only those of mails are
taken, and none that makes surrogates, fails, or takes time that grows with more
than the length.
"""

import binascii
import itertools
import re
from email.errors import MessageError
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from email.policy import compat32
from email.utils import getaddresses
from typing import Any

from bot.model import Author
from bot.plain import storable

MSGID = re.compile(r'<([^<>\s\x00-\x1f\x7f]{1,998})>')
WORD = re.compile(
    r'=\?(?P<charset>[^\s?*]{1,40})(?:\*[^\s?]{0,40})?\?(?P<how>[bq])\?(?P<text>[^?]*)\?=', re.I
)
CHARSET = re.compile(
    r'(?:us-)?ascii|utf-?8|iso-?8859-\d{1,2}|latin-?\d|(?:windows-|cp)\d{3,4}|koi8-[rtu]|gb2312|gbk'
    r'|gb18030|big5(?:-?hkscs)?|euc-(?:jp|kr)|iso-2022-(?:jp|kr)(?:-\d)?|shift[_-]jis'
    r'|ks_c_5601-1987|tis-620',
    re.I,
)
"""The codecs that a header may ask for; with any other it is read as UTF-8."""
ESCAPED = re.compile(rb'=([0-9a-f]{2})', re.I)
NESTS = re.compile(rb'(?:\A|[\r\n])content-type:\s*"?(?:multipart|message)\s*/', re.I)
MOST_PARTS = 1000
MOST_NESTS = 50
"""Parts with parts in them; Python's parser goes down a few calls with each."""
DEEPEST = 20
"""Comments in comments of an address."""
LONGEST = 1 << 16
"""Characters of a header that are looked at."""
LONGEST_TEXT = 2000
LONGEST_TYPE = 4000
LONGEST_NAME = 200
LONGEST_ADDRESS = 320
MOST = 500
"""Addresses of a header that are looked at."""
NOBODY = Author('(nobody)', '')
UNREADABLE = (
    MessageError, ValueError, LookupError, AttributeError, TypeError, AssertionError,
    RecursionError,
)  # fmt: skip
"""What Python's own parsers raise over a stranger's text."""


def parsed(raw: bytes) -> tuple[Message, str | None]:
    """Return a mail with its body's parts, or its header alone and why they can't be read."""
    # Counted cheaply first: nearly all mails have one, or none.
    often = raw.lower().count(b'content-type') > MOST_NESTS
    if often and sum(1 for _ in NESTS.finditer(raw)) > MOST_NESTS:
        return header_only(raw), f'it has more than {MOST_NESTS} parts that have parts in them'
    count = itertools.count(1)

    def part(**words: Any) -> Message:
        if next(count) > MOST_PARTS:
            raise ValueError(f'it has more than {MOST_PARTS} parts')
        return _Part(**words)

    try:
        return BytesParser(part, policy=compat32).parsebytes(raw), None
    except UNREADABLE as error:
        return header_only(raw), str(error) or type(error).__name__


class _Part(Message):
    """A part whose boundary is looked for only where that takes no time to speak of."""

    def get_boundary(self, failobj: Any = None) -> Any:
        # What Python takes for the parameters of a header grows with the square of it.
        if len(str(self.get('Content-Type', ''))) > LONGEST_TYPE:
            raise ValueError(f'it has a Content-Type of more than {LONGEST_TYPE} characters')
        return super().get_boundary(failobj)


def header_only(raw: bytes) -> Message:
    """Return a mail of which only the header is read."""
    return BytesHeaderParser(policy=compat32).parsebytes(raw)


def text(mail: Message, name: str) -> str:
    """Return a header, decoded and on one line; '' where there is none."""
    return storable(decoded(_raw(mail, name)), LONGEST_TEXT)


def has(mail: Message, name: str) -> bool:
    """Whether there is such a header."""
    return any(one.lower() == name.lower() for one in mail)


def people(mail: Message, name: str) -> tuple[Author, ...]:
    """Return the addresses of all headers of a name, with the names before them."""
    left = LONGEST
    values = []
    for value in _values(mail, name):
        values.append(_bytes_read(value[:left])[:left])
        left -= len(values[-1])
        if left <= 0:
            break
    return addresses(*values)


def addresses(*values: str) -> tuple[Author, ...]:
    """Return the addresses in these texts, as headers have them; none where they can't be read."""
    # Names are decoded after the parsing: an encoded one may hold commas and brackets.
    if any(_depth(value) > DEEPEST for value in values):
        return ()
    try:
        found = getaddresses(list(values))
    except UNREADABLE:
        return ()
    return tuple(
        Author(storable(decoded(title), LONGEST_NAME), storable(address))
        for title, address in found[:MOST]
        if '@' in address and len(address) <= LONGEST_ADDRESS
    )


def _depth(value: str) -> int:
    """How deep comments are nested; `a:` opens a group, which may nest, too."""
    deepest = depth = 0
    for sign in value if '(' in value else '':
        depth += (sign == '(') - (sign == ')')
        deepest = max(deepest, depth)
    return max(deepest, value.count(':') // 5)


def author(mail: Message) -> Author:
    """Return who a mail is from; lists that rewrite From keep it in X-Original-From."""
    for name in ('X-Original-From', 'From'):
        found = people(mail, name)
        if found:
            whole = person(_raw(mail, name))
            # A name with a comma that nobody quoted; the address is the list's to say.
            return whole if whole is not None and whole.email == found[0].email else found[0]
    return NOBODY


def msgids(mail: Message, name: str) -> tuple[str, ...]:
    """Return the message-ids of a header, as they are written, without brackets."""
    return tuple(MSGID.findall(_raw(mail, name)))


def _values(mail: Message, name: str) -> list[str]:
    return [str(value) for one, value in mail.raw_items() if one.lower() == name.lower()]


def _raw(mail: Message, name: str) -> str:
    values = _values(mail, name)
    return _bytes_read(values[0][:LONGEST]) if values else ''


def _bytes_read(value: str) -> str:
    """Read the bytes of a header that is not ASCII as UTF-8, as most are."""
    return value.encode('utf-8', 'surrogateescape').decode('utf-8', 'replace')


def decoded(value: str) -> str:
    """Return a header's text with its encoded words decoded, on one line."""
    value = value[:LONGEST]
    if '=?' not in value:
        return ' '.join(value.split())
    parts: list[tuple[str, bytes]] = []  # charset ('' for what is not encoded) and bytes
    end = 0
    for found in WORD.finditer(value):
        data = _data(found['how'], found['text'])
        if data is None:
            continue
        between = value[end : found.start()]
        if between.strip() or not parts:
            parts.append(('', between.encode('utf-8', 'replace')))
        charset = found['charset'].lower() if CHARSET.fullmatch(found['charset']) else 'utf-8'
        if parts[-1][0] == charset:  # a character may be cut in two
            data = parts.pop()[1] + data
        parts.append((charset, data))
        end = found.end()
    parts.append(('', value[end:].encode('utf-8', 'replace')))
    return ' '.join(''.join(_text(charset, data) for charset, data in parts).split())


def _data(how: str, text: str) -> bytes | None:
    """Undo the encoding of a word; None where it is none."""
    if how.lower() == 'q':
        plain = text.encode('utf-8', 'replace').replace(b'_', b' ')
        return ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), plain)
    try:
        return binascii.a2b_base64(text.rstrip('=') + '=' * (-len(text.rstrip('=')) % 4))
    except ValueError:
        return None


def _text(charset: str, data: bytes) -> str:
    try:
        return data.decode(charset or 'utf-8', 'replace')
    except (LookupError, ValueError):
        return data.decode('utf-8', 'replace')


PERSON = re.compile(r'(?P<name>.*?)\s*<\s*(?P<address>[^<>\s]+@[^<>\s]+)\s*>(?P<rest>.*)')
BARE = re.compile(r'(?P<address>[^<>\s()]+@[^<>\s()]+)')


def person(value: str) -> Author | None:
    """
    Read `Name <address>` as git does: a comma is part of the name, quotes are not.

    The words are decoded after the parsing. None where there is no address.
    """
    text = ' '.join(value[:LONGEST].split())[:LONGEST_TEXT]
    found = PERSON.fullmatch(text)
    if found is not None:
        name = f'{found["name"]} {found["rest"]}'.strip()
    else:
        found = BARE.search(text)
        if found is None:
            return None
        name = f'{text[: found.start()]} {text[found.end() :]}'.strip().strip('()')
    if len(found['address']) > LONGEST_ADDRESS:
        return None
    return Author(storable(_unquoted(decoded(name)), LONGEST_NAME), storable(found['address']))


def _unquoted(name: str) -> str:
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r'\\(.)', r'\1', name[1:-1])
    return ' '.join(name.split())


def parameter(part: Message, name: str) -> str:
    """Return a parameter of Content-Type in lower case, '' where there is none."""
    if len(str(part.get('Content-Type', ''))) > LONGEST_TYPE:
        return ''
    try:
        value = part.get_param(name)
    except UNREADABLE:
        return ''
    if isinstance(value, tuple):
        value = value[2]
    return str(value).strip().lower() if value else ''


def file_name(part: Message) -> str:
    """Return the name that an attachment has, '' where it has none."""
    for header in ('Content-Type', 'Content-Disposition'):
        if len(str(part.get(header, ''))) > LONGEST_TYPE:
            return ''
    try:
        return part.get_filename() or ''
    except UNREADABLE:
        return ''
