"""
What one mail of a list is to the bot: part of a series, an answer to one, or nothing.

Pure, and cheap for the many mails that are nothing. Which mails make a series
together is found out as they arrive (`store/`), by what is read here: author,
revision, how many patches there are, and what the mail answers. The last word
on a series is b4's, when it is judged.
"""

import fnmatch
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from itertools import islice
from typing import Literal

from liblore.series import PatchSubject

from bot import headers
from bot.envelope import machine
from bot.errors import LetterError
from bot.lifecycle import Attested
from bot.model import Mail, Scope
from bot.orders import orders_of
from bot.outgoing import Order
from bot.plain import storable
from bot.series import parse_mail, patch_of
from bot.signatures import claims, fingerprint
from bot.subjects import ABSURD
from bot.subjects import read as read_subject

SUBJECT = re.compile(rb'^Subject:[ \t]*((?:[^\n]|\n[ \t])*)', re.M | re.I)
# What may be a patch, or an answer to one; encoded words can't be told before they are read.
MAYBE = re.compile(rb'PATCH|RFC|=\?', re.I)
HEADER_END = re.compile(rb'\r?\n\r?\n')
FILE = re.compile(rb'^(?:\+\+\+ b/|--- a/|rename (?:from|to) )([^\t\r\n]+)', re.M)
CHANGE_ID = re.compile(rb'^change-id: (\S{1,200})\s*$', re.M)
NOT_CONTENT = re.compile(rb'^(?:index [0-9a-f]+\.\.[0-9a-f]+.*|@@ .*|-- ?|\d+\.\d[.\w-]*)$', re.M)
MOST_PARENTS = 20
LONGEST_ID = 998
"""Bytes of a message-id that a database has to find it by: PostgreSQL's index takes 2704 a row."""
LARGEST = 32 << 20
"""Bytes of a mail; lists take far less."""
LONGEST_HEADER = 1 << 20
MOST_PATHS = 20_000
LATEST = 1 << 37
"""Seconds since 1970; no calendar has later ones."""


@dataclass(frozen=True)
class Letter:
    """
    A mail that matters.

    All its text can be stored, and its numbers are bounded. `commit` is the archive's that brought
    it, '' for none.

    `author` is an address in lower case; `date` seconds since 1970 as the mail
    says; `parents` what it answers, nearest first. `content` tells whether two
    patches are the same; '' where it has none. `orders` are what it tells the
    bot. `needs`: it names prerequisites. `digest` tells apart mails of one
    Message-ID, `machine` that no person sent it, `attested` what is known of its
    signature yet.
    """

    msgid: str
    kind: Literal['cover', 'patch', 'answer']
    author: str
    name: str
    revision: int
    n: int
    of: int
    title: str
    date: int
    parents: tuple[str, ...]
    resend: bool
    in_scope: bool
    change_id: str | None
    content: str
    raw: bytes
    orders: tuple[Order, ...] = ()
    needs: bool = False
    commit: str = ''
    digest: str = ''
    machine: bool = False
    attested: Attested = 'off'


def letter(raw: bytes, scope: Scope, *, attest: bool = False) -> Letter | None:
    """
    Read a mail; None where it is neither part of a series nor an answer to one.

    `attest`: signatures are checked, though not here. Raises `LetterError`
    where it is one, and can't be meant.
    """
    found = HEADER_END.search(raw)
    end = found.start() if found else len(raw)
    subject = SUBJECT.search(raw, 0, min(end, LONGEST_HEADER))
    if subject is None or not MAYBE.search(subject[1]):
        if subject is None and end > LONGEST_HEADER:
            raise LetterError(f'its header does not end within {LONGEST_HEADER} bytes')
        return None
    if len(raw) > LARGEST:
        raise LetterError(f'it has {len(raw)} bytes: no mail of a list has more than {LARGEST}')
    if end > LONGEST_HEADER:
        raise LetterError(f'its header does not end within {LONGEST_HEADER} bytes')
    mail = parse_mail(raw)
    read = read_subject(mail.subject)
    if not read.is_patch or mail.msgid is None:
        if len(mail.subject) >= headers.LONGEST_TEXT and 'PATCH' in mail.subject.upper():
            raise LetterError(f'its subject has more than {headers.LONGEST_TEXT} characters')
        return None
    if mail.unread is not None:
        raise LetterError(mail.unread)
    if read.version >= ABSURD:
        raise LetterError('its revision is no number that a series has')
    if not _is_short(mail.msgid):
        raise LetterError(f'its message-id has more than {LONGEST_ID} bytes')
    return _letter(mail, read, scope, attest=attest)


def _is_short(msgid: str) -> bool:
    return len(msgid.encode('utf-8', 'replace')) <= LONGEST_ID


def _letter(mail: Mail, read: PatchSubject, scope: Scope, *, attest: bool) -> Letter | None:
    assert mail.msgid is not None
    diff = b'' if read.is_reply else patch_of(read, mail).diff
    kind: Literal['cover', 'patch', 'answer'] = 'answer'
    if not read.is_reply:
        kind = 'cover' if read.counter == 0 else 'patch'
    if kind == 'patch' and not diff:
        return None
    by_machine = machine(mail)
    attested: Attested = 'off'
    if attest and kind != 'answer':
        attested = 'unknown' if claims(mail).signatures else 'unsigned'
    change = CHANGE_ID.search(mail.body) if kind != 'answer' else None
    parents = dict.fromkeys(
        one
        for one in (mail.in_reply_to, *reversed(mail.references))
        if one is not None and _is_short(one)
    )
    return Letter(
        msgid=mail.msgid,
        kind=kind,
        author=mail.author.email.lower(),
        name=mail.author.name,
        revision=read.version,
        n=read.counter,
        of=read.expected,
        title=storable(read.title, headers.LONGEST_TEXT),
        date=_seconds(mail.date),
        parents=tuple(parents)[:MOST_PARENTS],
        resend=any('RESEND' in prefix.upper() for prefix in read.prefixes),
        in_scope=kind != 'answer' and _in_scope(read.title, diff, scope),
        change_id=change[1].decode('ascii', 'replace') if change else None,
        content=_content(read.title, diff) if diff else '',
        raw=mail.raw,
        orders=orders_of(mail) if kind == 'answer' else (),
        needs=kind != 'answer' and bool(mail.prerequisites),
        digest=fingerprint(mail, by_machine),
        machine=by_machine is not None,
        attested=attested,
    )


def _in_scope(title: str, diff: bytes, scope: Scope) -> bool:
    if any(re.search(pattern, title) for pattern in scope.subjects):
        return True
    if any(fnmatch.fnmatchcase(path, glob) for path in _paths(diff) for glob in scope.paths):
        return True
    words = b'|'.join(re.escape(word.encode()) for word in scope.symbols)
    if not words:
        return False
    return re.search(rb'^[-+].*\b(?:' + words + rb')\b', diff, re.M) is not None


def _paths(diff: bytes) -> Iterator[str]:
    for found in islice(FILE.finditer(diff), MOST_PATHS):
        yield found[1].decode('utf-8', 'replace')


def _content(title: str, diff: bytes) -> str:
    """Hash what a patch does, without where: a resend on another base is the same."""
    said = title.encode('utf-8', 'replace') + b'\0' + NOT_CONTENT.sub(b'', diff).strip()
    return hashlib.sha256(said).hexdigest()[:32]


def _seconds(date: str) -> int:
    """Return a Date header's seconds since 1970, 0 where it can't be read or is absurd."""
    try:
        parsed = parsedate_tz(date)
        seconds = mktime_tz(parsed) if parsed is not None else 0
    except (*headers.UNREADABLE, OverflowError):
        return 0
    return int(seconds) if 0 < seconds < LATEST else 0
