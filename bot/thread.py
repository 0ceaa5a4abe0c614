"""
Which mails of a thread b4 is shown, and in which form: pure.

b4 chooses a series by subjects and bodies as git format-patch writes them, and
takes every mail with a diff for a patch. So a patch is shown to it with its
subject in the usual form (`subjects`), as one plain text in UTF-8, without
characters that it refuses; and what is of another series in the same thread is
left out: a follow-up `[PATCH]` in a numbered series, what a maintainer's tree
announces (`[tip: …]`), a patch that was sent again.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from email.header import Header

from liblore.series import PatchSubject

from bot.mailinfo import DIFF, cut, decoded
from bot.model import Mail
from bot.series import posted
from bot.subjects import read, usual

FROM = b'From mboxrd@z Thu Jan  1 00:00:00 1970\n'
ESCAPED = re.compile(rb'^(>*From )', re.M)
REPLACED = re.compile(
    rb'^(?:Subject|Content-[\w-]+|MIME-Version):[^\n]*\n(?:[ \t][^\n]*\n)*', re.M | re.I
)
# What b4 takes for a diff; a pure rename of a name with blanks is none to it.
SEEN_AS_DIFF = re.compile(r'^(?:---.*\n\+\+\+|GIT binary patch|diff --git \w/\S+ \w/\S+)', re.M)
STAND_IN = '--- a/x\n+++ b/x\n'


def of_one_series(thread: Iterable[Mail], msgid: str | None) -> list[Mail]:
    """
    Return the mails that are of one series in all its revisions, and the answers.

    The series is the one that `msgid` is a mail of, else the one with the most
    patches. Mails without a message-id are left out: b4 can't tell them apart.
    Of several with the same one, as an mbox has that was put together from
    two, the first counts.
    """
    by_id: dict[str, Mail] = {}
    for mail in thread:
        if mail.msgid is not None:
            by_id.setdefault(mail.msgid, mail)
    mails = list(by_id.values())
    parts = {mail.msgid: subject for mail in mails if (subject := posted(mail)) is not None}
    wanted = _wanted(mails, parts, msgid)
    sent_again = _sent_again(mails, parts, msgid)
    return [mail for mail in mails if _of_it(mail, parts, wanted) and mail.msgid not in sent_again]


def mbox(mails: Iterable[Mail]) -> bytes:
    """Write mails as an mboxrd, patches in the form that b4 reads."""
    return b''.join(_lines(mail) for mail in mails)


def _wanted(
    mails: Sequence[Mail], parts: dict[str | None, PatchSubject], msgid: str | None
) -> tuple[bool, str]:
    """Return whether the series is numbered, and the title of one that is not."""
    named = parts.get(msgid)
    if named is None:
        by_id = {mail.msgid: mail for mail in mails}
        above = by_id[msgid].in_reply_to if msgid in by_id else None
        named = parts.get(above)
    if named is None:
        named = max(
            parts.values(), key=lambda one: (not one.counters_inferred, one.expected), default=None
        )
    if named is None or not named.counters_inferred:
        return True, ''
    return False, named.title


def _of_it(mail: Mail, parts: dict[str | None, PatchSubject], wanted: tuple[bool, str]) -> bool:
    subject = parts.get(mail.msgid)
    if subject is None:
        return read(mail.subject).is_reply or DIFF.search(mail.body) is None
    numbered, title = wanted
    if numbered:
        return not subject.counters_inferred or all(one.counters_inferred for one in parts.values())
    return subject.counters_inferred and subject.title == title


def _sent_again(
    mails: Sequence[Mail], parts: dict[str | None, PatchSubject], msgid: str | None
) -> set[str | None]:
    """Return the patches that another mail of the same author says again: the later one counts."""
    said: dict[tuple[object, ...], Mail] = {}
    left: set[str | None] = set()
    for mail in mails:
        subject = parts.get(mail.msgid)
        if subject is None:
            continue
        key = (
            mail.author.email.lower(), subject.version, subject.counter, subject.expected,
            subject.title,
        )  # fmt: skip
        other = said.get(key)
        if other is None:
            said[key] = mail
        elif _is_resend(subject) and other.msgid != msgid:
            left.add(other.msgid)
            said[key] = mail
        elif _is_resend(subject) or mail.body.rstrip() == other.body.rstrip():
            left.add(mail.msgid)
    return left


def _is_resend(subject: PatchSubject) -> bool:
    return any('RESEND' in one.upper() for one in subject.prefixes)


def _lines(mail: Mail) -> bytes:
    raw = mail.raw.replace(b'\r\n', b'\n') if b'\r\n' in mail.raw[:200] else mail.raw
    head, _, body = raw.partition(b'\n\n')
    if posted(mail) is not None:
        subject = Header(usual(mail.subject), 'utf-8', header_name='Subject').encode()
        head = (
            REPLACED.sub(b'', head + b'\n').rstrip(b'\n')
            + (
                f'\nSubject: {subject}\nMIME-Version: 1.0\n'
                'Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit'
            ).encode()
        )
        body = _text(mail).encode('utf-8', 'replace')
    return FROM + head + b'\n\n' + ESCAPED.sub(rb'>\1', body).rstrip(b'\n') + b'\n\n'


def _text(mail: Mail) -> str:
    text = decoded(mail.body, mail.charset)
    if not text.isascii():
        text = ''.join(_shown(text))
    if not SEEN_AS_DIFF.search(text) and cut(mail.body, mail.charset).diff:
        text = f'{text}\n{STAND_IN}'
    return text


def _shown(text: str) -> Iterator[str]:
    """Leave out what is not to be seen: b4 refuses a thread for it."""
    return (one for one in text if one.isascii() or unicodedata.category(one) != 'Cf')
