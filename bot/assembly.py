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
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from typing import Literal, get_args

from liblore.series import PatchSubject

from bot import headers
from bot.envelope import machine
from bot.errors import LetterError
from bot.lifecycle import Attested
from bot.model import Mail, Patch, Scope
from bot.orders import orders_of
from bot.outgoing import Order
from bot.paths import paths_in
from bot.plain import storable
from bot.series import parse_mail, patch_of, posted
from bot.signatures import claims, fingerprint
from bot.subjects import ABSURD, aside, is_announcement, is_answer
from bot.subjects import read as read_subject

SUBJECT = re.compile(rb'^Subject:[ \t]*((?:[^\n]|\n[ \t])*)', re.M | re.I)
# What may be a patch, or an answer to one; encoded words can't be told before they are read.
MAYBE = re.compile(rb'PATCH|RFC|RESEND|=\?|\[[^\]]{0,200}?(?:\bv\d|\d\s*/\s*\d|\d\s+of\s+\d)', re.I)
HEADER_END = re.compile(rb'\r?\n\r?\n')
CHANGE_ID = re.compile(rb'^change-id: (\S{1,200})\s*$', re.M)
NOT_CONTENT = re.compile(rb'^(?:index [0-9a-f]+\.\.[0-9a-f]+.*|@@ .*|-- ?|\d+\.\d[.\w-]*)$', re.M)
MOST_PARENTS = 20
LONGEST_ID = 998
"""Bytes of a message-id that a database has to find it by: PostgreSQL's index takes 2704 a row."""
LARGEST = 32 << 20
"""Bytes of a mail; lists take far less."""
LONGEST_HEADER = 1 << 20
ORDER = re.compile(r'^\s*vma-bot:.*$', re.M | re.I)
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
    patches, or two cover letters, say and change the same; '' where it has none.
    `aside` says why it is not reviewed, '' where it is. `orders` are what it tells the
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
    aside: str = ''


Reason = Literal['other', 'announcement', 'no-message-id', 'no-diff']
"""
Why a mail is nothing to the bot: it is neither patch nor answer to one; a maintainer's tree or its
robot announces a patch with it; it says it is a patch, and has no Message-ID or no diff.
"""
REASONS: tuple[Reason, ...] = get_args(Reason)


def letter(raw: bytes, scope: Scope, *, attest: bool = False) -> Letter | None:
    """Read a mail as `sorted_out()` does; None where it is dropped."""
    found = sorted_out(raw, scope, attest=attest)
    return found if isinstance(found, Letter) else None


def sorted_out(raw: bytes, scope: Scope, *, attest: bool = False) -> Letter | Reason:
    """
    Read a mail; why it is dropped where it is neither part of a series nor an answer to one.

    `attest`: signatures are checked, though not here. Raises `LetterError`
    where it is one, and can't be meant.
    """
    found = HEADER_END.search(raw)
    end = found.start() if found else len(raw)
    subject = SUBJECT.search(raw, 0, min(end, LONGEST_HEADER))
    if subject is None or not MAYBE.search(subject[1]):
        if subject is None and end > LONGEST_HEADER:
            raise LetterError(f'its header does not end within {LONGEST_HEADER} bytes')
        return _nothing(subject[1].decode('latin-1') if subject is not None else '')
    if len(raw) > LARGEST:
        raise LetterError(f'it has {len(raw)} bytes: no mail of a list has more than {LARGEST}')
    if end > LONGEST_HEADER:
        raise LetterError(f'its header does not end within {LONGEST_HEADER} bytes')
    mail = parse_mail(raw)
    part = posted(mail)
    if part is None and not _answers(mail):
        if len(mail.subject) >= headers.LONGEST_TEXT and 'PATCH' in mail.subject.upper():
            raise LetterError(f'its subject has more than {headers.LONGEST_TEXT} characters')
        return _nothing(mail.subject)
    if mail.msgid is None:
        return 'no-message-id'
    read = part or read_subject(mail.subject)
    if mail.unread is not None:
        raise LetterError(mail.unread)
    if read.version >= ABSURD:
        raise LetterError('its revision is no number that a series has')
    if not _is_short(mail.msgid):
        raise LetterError(f'its message-id has more than {LONGEST_ID} bytes')
    return _letter(mail, part, scope, attest=attest) or 'no-diff'


def _nothing(subject: str) -> Reason:
    return 'announcement' if is_announcement(subject) else 'other'


def _answers(mail: Mail) -> bool:
    read = read_subject(mail.subject)
    return (read.is_reply and read.is_patch) or is_answer(mail.subject)


def _is_short(msgid: str) -> bool:
    return len(msgid.encode('utf-8', 'replace')) <= LONGEST_ID


def _letter(mail: Mail, part: PatchSubject | None, scope: Scope, *, attest: bool) -> Letter | None:
    """Return what a mail is as `part` of a series; as an answer where it is none."""
    assert mail.msgid is not None
    read = part or read_subject(mail.subject)
    patch = patch_of(read, mail) if part is not None else None
    diff = patch.diff if patch is not None else b''
    kind: Literal['cover', 'patch', 'answer'] = 'answer'
    if part is not None:
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
        content=_content(read.title, patch) if patch is not None else '',
        raw=mail.raw,
        orders=orders_of(mail) if kind == 'answer' else (),
        needs=kind != 'answer' and bool(mail.prerequisites),
        digest=fingerprint(mail, by_machine),
        machine=by_machine is not None,
        attested=attested,
        aside=aside(read) if part is not None else '',
    )


def _in_scope(title: str, diff: bytes, scope: Scope) -> bool:
    if any(re.search(pattern, title) for pattern in scope.subjects):
        return True
    if any(fnmatch.fnmatchcase(path, glob) for path in paths_in(diff) for glob in scope.paths):
        return True
    words = b'|'.join(re.escape(word.encode()) for word in scope.symbols)
    if not words:
        return False
    return re.search(rb'^[-+].*\b(?:' + words + rb')\b', diff, re.M) is not None


def _content(title: str, patch: Patch) -> str:
    """
    Hash what a mail says and does, without where: a resend on another base is the same.

    All that rules look at counts: who wrote it, the message, and what the notes ask of the bot.
    """
    said = (
        title, patch.subject, patch.author.name, patch.author.email, patch.message.strip(),
        *ORDER.findall(patch.notes),
    )  # fmt: skip
    text = '\0'.join(said).encode('utf-8', 'replace')
    if patch.n == 0:  # all of a cover letter is message
        text += b'\0' + patch.notes.encode('utf-8', 'replace')
    done = text + b'\0' + NOT_CONTENT.sub(b'', patch.diff).strip()
    return hashlib.sha256(done).hexdigest()[:32]


def _seconds(date: str) -> int:
    """Return a Date header's seconds since 1970, 0 where it can't be read or is absurd."""
    try:
        parsed = parsedate_tz(date)
        seconds = mktime_tz(parsed) if parsed is not None else 0
    except (*headers.UNREADABLE, OverflowError):
        return 0
    return int(seconds) if 0 < seconds < LATEST else 0
