"""
Which mails make a series: pure, from bytes to `Series` or `Incomplete`.

Answers: what a mail says (author, subject, message, notes, diff), which of
several mails are the patches of one series, in which order, of which revision.
Refuses: to fetch anything, to follow threads (b4 does), to say whether the
series applies. What `git mailinfo` would take for message and diff, it takes.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from email.message import Message
from itertools import islice
from urllib.parse import unquote

from liblore.series import PatchSubject, parse_patch_subject
from liblore.utils import split_mbox_as_bytes

from bot import headers
from bot.model import Incomplete, Mail, Patch, Prerequisite, Series
from bot.plain import storable
from bot.trailers import trailers

# Where git mailinfo ends the message: a `---` alone, or the first line of a diff.
BREAK = re.compile(rb'^(?:---[ \t]*$|diff -|Index: |--- \S.*\n\+\+\+ )', re.M)
DIFF = re.compile(rb'^(?:diff -|Index: |--- \S.*\n\+\+\+ )', re.M)
INBODY = re.compile(r'\A(?:(From|Subject|Date): (.*)\n)', re.I)
PREREQUISITE = re.compile(
    rb'^(?:prerequisite-(?P<kind>patch-id|message-id|change-id)|Depends-on):[ \t]*'
    rb'(?P<value>[\x21-\x7e]{1,900})[ \t]*\r?$',
    re.M | re.I,
)
LINK = re.compile(r'https?://[^/\s]+/(?:r/|[^/\s]+/)?(?P<msgid>[^/\s]*@[^/\s>]+)')
BASE_COMMIT = re.compile(rb'^base-commit: ([0-9a-f]{40,64})\s*$', re.M)
# No message is longer; a larger one is not searched for trailers.
LONGEST_MESSAGE = 1 << 20
MOST_PREREQUISITES = 1000
MOST_INBODY = 20
"""Headers at the beginning of a body that are looked at."""
ABSURD = 999_999_999
"""The revision that stands for all that are too large to be one."""
TOO_MANY_DIGITS = re.compile(r'v\d{9,}', re.I)


def split(data: bytes) -> Iterator[bytes]:
    """
    Yield the mails of an mbox (mboxrd, as public-inbox writes it), or the one mail.

    A lone mail without a `From ` line, as an MUA saves it, is one mail.
    """
    yield from (raw for raw in split_mbox_as_bytes(data) if raw.strip())


def parse_mail(raw: bytes) -> Mail:
    """Read one mail. Nothing in it is an error: what is missing is None or empty."""
    msg, unread = headers.parsed(raw)
    try:
        body = _body(msg)
    except headers.UNREADABLE as error:
        body, unread = b'', f'its body: {error}'
    base = BASE_COMMIT.search(body)
    return Mail(
        msgid=next(iter(headers.msgids(msg, 'Message-ID')), None),
        subject=headers.text(msg, 'Subject'),
        author=headers.author(msg),
        date=headers.text(msg, 'Date'),
        in_reply_to=next(iter(headers.msgids(msg, 'In-Reply-To')), None),
        references=headers.msgids(msg, 'References'),
        body=body,
        raw=raw,
        prerequisites=tuple(islice(_prerequisites(body), MOST_PREREQUISITES)),
        base_commit=base[1].decode() if base else None,
        unread=unread,
    )


def subject_of(text: str) -> PatchSubject:
    """Read a subject that is decoded; a revision without end is `ABSURD`. Nothing is an error."""
    text = text[: headers.LONGEST_TEXT].replace('=?', '= ?')  # what it decodes to is not decoded
    front, end, title = text.rpartition(']')
    return parse_patch_subject(TOO_MANY_DIGITS.sub(f'v{ABSURD}', front) + end + title)


def assemble(mails: Iterable[Mail]) -> Series | Incomplete:
    """
    Choose the newest revision among `mails` and put its patches in order.

    Replies are left out. A mail that is there twice with the same content
    counts once. Mails without a `[PATCH]` in the subject count only where no
    mail has one (`git format-patch --no-numbered --subject-prefix=''`).
    """
    read = [(subject_of(mail.subject), mail) for mail in mails]
    posted = [(subject, mail) for subject, mail in read if not subject.is_reply]
    chosen = [item for item in posted if item[0].is_patch]
    if not chosen:
        chosen = [item for item in posted if DIFF.search(item[1].body)]
    if not chosen:
        return Incomplete('no patch in it')
    revision = max(subject.version for subject, _ in chosen)
    return _one_revision([item for item in chosen if item[0].version == revision], revision)


def patch_of(subject: PatchSubject, mail: Mail) -> Patch:
    """Cut a mail into message, notes and diff, as `git mailinfo` would."""
    message, notes, diff = _cut(mail.body)
    text = message.decode('utf-8', 'replace')
    author, title = mail.author, subject.title
    for _ in range(MOST_INBODY):
        header = INBODY.match(text)
        if header is None:
            break
        text = text[header.end() :]
        if header[1].lower() == 'from':
            author = next(iter(headers.addresses(header[2][: headers.LONGEST])), author)
        elif header[1].lower() == 'subject':
            title = storable(headers.decoded(header[2]), headers.LONGEST_TEXT)
    return Patch(
        n=subject.counter,
        of=subject.expected,
        msgid=mail.msgid,
        commit=None,
        subject=title,
        author=author,
        message=text.strip('\n'),
        notes=notes.decode('utf-8', 'replace').strip('\n'),
        diff=diff,
        trailers=trailers_of(text),
    )


def trailers_of(message: str) -> tuple[str, ...]:
    """Return the trailers of a commit message (its last paragraph) as `Name: value`."""
    paragraphs = message[-LONGEST_MESSAGE:].strip().split('\n\n')
    return tuple(f'{name}: {value}' for name, value in trailers(paragraphs[-1]))


def _prerequisites(body: bytes) -> Iterator[Prerequisite]:
    seen = set()
    for found in PREREQUISITE.finditer(body):
        kind = (found['kind'] or b'').decode().lower()
        value = found['value'].decode('utf-8', 'replace')
        link = LINK.match(value.strip('<>'))
        one: Prerequisite | None = None
        if kind == 'patch-id' and re.fullmatch(r'[0-9a-f]{40}', value):
            one = Prerequisite('patch-id', value)
        elif kind == 'change-id':
            one = Prerequisite('change-id', value)
        elif link is not None:
            one = Prerequisite('message-id', unquote(link['msgid']))
        elif '@' in value:
            one = Prerequisite('message-id', value.strip('<>'))
        if one is not None and one not in seen:
            seen.add(one)
            yield one


def _one_revision(found: list[tuple[PatchSubject, Mail]], revision: int) -> Series | Incomplete:
    cover: Mail | None = None
    title = ''
    patches: dict[int, Patch] = {}
    twice: set[int] = set()
    for subject, mail in found:
        if subject.counter == 0:
            cover, title = mail, subject.title
            continue
        patch = patch_of(subject, mail)
        known = patches.get(patch.n)
        if known is None:
            patches[patch.n] = patch
        elif (known.subject, known.diff, known.of) != (patch.subject, patch.diff, patch.of):
            twice.add(patch.n)

    if all(subject.counters_inferred for subject, _ in found) and len(found) > 1:
        # Several unnumbered patches are as many series; nobody said which comes first.
        return Incomplete(f'{len(found)} unnumbered patches: name one series', revision=revision)
    of = max(subject.expected for subject, _ in found)
    missing = tuple(n for n in range(1, of + 1) if n not in patches)
    ordered = tuple(patches[n] for n in sorted(patches))
    first = cover or found[0][1]
    reason = None
    empty = [patch.n for patch in ordered if not patch.diff]
    if twice:
        reason = f'patch {_numbers(twice, of)} is there twice, and the two differ'
    elif not ordered:
        reason = f'no patch in it, only the cover letter of {of}'
    elif missing:
        reason = f'patch {_numbers(missing, of)} is missing'
    elif max(patches) > of:
        reason = f'patch {max(patches)} of {of}: the numbers in the subjects do not fit'
    elif empty:
        reason = f'patch {_numbers(empty, of)} has no diff'
    if reason is not None:
        return Incomplete(
            reason,
            msgid=first.msgid,
            subject=title or (ordered[0].subject if ordered else None),
            author=first.author,
            revision=revision,
            patches=ordered,
            missing=missing,
        )
    ordered = tuple(replace(patch, of=of) for patch in ordered)
    return Series(
        msgid=first.msgid,
        subject=title or ordered[0].subject,
        author=cover.author if cover else ordered[0].author,
        revision=revision,
        patches=ordered,
        cover=cover.body.decode('utf-8', 'replace') if cover else None,
        base_commit=next((mail.base_commit for _, mail in found if mail.base_commit), None),
        prerequisites=tuple(dict.fromkeys(one for _, mail in found for one in mail.prerequisites)),
    )


def _numbers(numbers: Iterable[int], of: int) -> str:
    listed = sorted(numbers)
    shown = ', '.join(str(n) for n in listed[:10]) + (', …' if len(listed) > 10 else '')
    return f'{shown} of {of}'


def _cut(body: bytes) -> tuple[bytes, bytes, bytes]:
    found = BREAK.search(body)
    if found is None:
        return body, b'', b''
    message, rest = body[: found.start()], body[found.start() :]
    diff = DIFF.search(rest)
    if diff is None:
        return message, rest, b''
    notes = rest[: diff.start()]
    return message, notes.removeprefix(b'---').lstrip(b' \t'), _plain_ends(rest[diff.start() :])


def _plain_ends(diff: bytes) -> bytes:
    """
    Undo CRLF that the transport added (base64 mails).

    A diff of a CRLF file has CR at the end of its content only; when git's own
    lines (`diff --git`, `@@`) have it too, every line got one on the way.
    """
    end = diff.find(b'\n')
    if end > 0 and diff[end - 1 : end] == b'\r':
        return diff.replace(b'\r\n', b'\n')
    return diff


def _body(msg: Message) -> bytes:
    """Join the text parts, transfer encoding undone, in the bytes that were sent."""
    parts = []
    for part in _walked(msg):
        if part.is_multipart() or part.get_content_maintype() != 'text':
            continue
        if part.get_content_subtype() == 'html':
            continue
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes):
            # The line end before a MIME boundary is the boundary's.
            parts.append(payload if payload.endswith(b'\n') else payload + b'\n')
    return b'\n'.join(parts)


def _walked(msg: Message) -> Iterator[Message]:
    """Yield a mail's parts, the outer ones first; `walk()` calls itself."""
    left = [msg]
    while left:
        part = left.pop()
        yield part
        if part.is_multipart():
            left += reversed([one for one in part.get_payload() if isinstance(one, Message)])
