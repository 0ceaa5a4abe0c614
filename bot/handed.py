"""
From the one mail that b4 hands to a check, to the series that it is of.

b4 hands each patch, and the cover letter, alone. The rest comes from the
thread that `b4 review` keeps of a series, or from the archive; where neither
has it, the patch is judged alone, and what is said of it says so. The revision
is that of the mail, however many came after it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from liblore.series import PatchSubject

from bot.b4 import B4
from bot.errors import LoreError, MailboxError
from bot.lore import Archive
from bot.model import Incomplete, Mail, Series
from bot.series import parse_mail, patch_of
from bot.subjects import read as read_subject

ENCODING = re.compile(rb'^(?:Content-[\w-]+|MIME-Version):.*\n(?:[ \t].*\n)*', re.M | re.I)
# What is no quoted-printable (a `=` without an escape or a line end behind it), and no base64.
NOT_QUOTED = re.compile(rb'=(?![0-9A-Fa-f]{2}|\n)')
NOT_BASE64 = re.compile(rb'[^A-Za-z0-9+/=\s]')


@dataclass(frozen=True)
class Handed:
    """
    What was found of a mail.

    `n` is its number in `series` (0: the cover letter), `thread` what that came
    from. `alone` says why the rest of the series is not there, None where
    nothing is missing; `posted` is then the number that the patch had.
    """

    n: int
    posted: int
    series: Series | Incomplete
    thread: tuple[Mail, ...]
    alone: str | None = None


def read(raw: bytes) -> Mail:
    """
    Read the mail. b4 has undone its encoding, and left the headers that name it.

    Raises `MailboxError` where it is none.
    """
    raw = raw.replace(b'\r\n', b'\n')
    head, _, body = raw.partition(b'\n\n')
    if not body.strip() or parse_mail(raw).msgid is None:
        raise MailboxError('standard input: no mail with a message-id and a body')
    named = re.search(rb'^Content-Transfer-Encoding:\s*([\w-]+)', head, re.M | re.I)
    encoding = named[1].lower() if named else b'8bit'
    encoded = (encoding == b'quoted-printable' and not NOT_QUOTED.search(body)) or (
        encoding == b'base64' and not NOT_BASE64.search(body)
    )
    multipart = re.search(
        rb'^Content-Type:\s*multipart/[^\n]*(?:\n[ \t][^\n]*)*', head, re.M | re.I
    )
    boundary = re.search(rb'boundary="?([^";\s]+)', multipart[0]) if multipart else None
    if encoded or (boundary is not None and b'--' + boundary[1] in body):
        return parse_mail(raw)
    return parse_mail(ENCODING.sub(b'', head + b'\n') + b'\n' + body)


def find(mail: Mail, kept: Sequence[Mail], archive: Archive, b4: B4) -> Handed:
    """Find the series of a mail: in `kept` (a thread that is at hand), else in the archive."""
    subject = read_subject(mail.subject)
    if subject.counter == subject.expected == 1:
        return Handed(1, 1, _alone(subject, mail), (mail,))
    whole = _in(mail, subject, kept, b4) if kept else 'no thread'
    if isinstance(whole, str):
        try:
            whole = _in(mail, subject, archive.thread(mail.msgid or ''), b4)
        except LoreError as error:
            whole = whole if kept else str(error)
    if isinstance(whole, Handed):
        return whole
    n = min(subject.counter, 1)
    return Handed(n, subject.counter, _alone(subject, mail), (mail,), whole)


def _in(mail: Mail, subject: PatchSubject, thread: Iterable[Mail], b4: B4) -> Handed | str:
    """Return what b4 makes of a thread, or why that is of no use."""
    mails = tuple(thread)
    series = b4.series(mails, mail.msgid, subject.version)
    if isinstance(series, Incomplete):
        return series.reason
    if subject.counter == 0:
        return Handed(0, 0, series, mails)
    n = next((patch.n for patch in series.patches if patch.msgid == mail.msgid), None)
    if n is None:
        return f'v{subject.version} in the thread of this patch is made of others'
    return Handed(n, n, series, mails)


def _alone(subject: PatchSubject, mail: Mail) -> Series | Incomplete:
    patch = replace(patch_of(subject, mail), n=1, of=1)
    if subject.counter == 0 or not patch.diff:
        reason = 'only the cover letter is there' if subject.counter == 0 else 'there is no diff'
        return Incomplete(reason, mail.msgid, subject.title, mail.author, subject.version)
    return Series(
        mail.msgid, subject.title, patch.author, subject.version, (patch,),
        base_commit=mail.base_commit, prerequisites=mail.prerequisites,
    )  # fmt: skip
