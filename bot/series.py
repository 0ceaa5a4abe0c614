"""
Which mails make a series: pure, from bytes to `Series` or `Incomplete`.

Answers: what a mail says (author, subject, message, notes, diff), which of
several mails are the patches of one series, in which order, of which revision.
Refuses: to fetch anything, to follow threads (b4 does), to say whether the
series applies. What `git mailinfo` would take for message and diff, it takes.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from urllib.parse import unquote

from liblore.series import PatchSubject
from liblore.utils import split_mbox_as_bytes

from bot import headers
from bot.mailinfo import DIFF, body_of, cut, decoded
from bot.model import Incomplete, Mail, Patch, Prerequisite, Series
from bot.subjects import is_announcement, may_be_patch, read
from bot.trailers import trailers

PREREQUISITE = re.compile(
    rb'^(?:prerequisite-(?P<kind>patch-id|message-id|change-id)|Depends-on):[ \t]*'
    rb'(?P<value>[\x21-\x7e]{1,900})[ \t]*\r?$',
    re.M | re.I,
)
LINK = re.compile(r'https?://[^/\s]+/(?:r/|[^/\s]+/)?(?P<msgid>[^/\s]*@[^/\s>]+)')
BASE_COMMIT = re.compile(rb'^base-commit:[ \t]*(\S[^\r\n]{0,300}?)[ \t]*\r?$', re.M | re.I)
COMMIT_ID = re.compile(r'(?<![\w.-])[0-9a-f]{7,64}(?![\w.-])')
REF = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_./-]{0,200}')
# No message is longer; a larger one is not searched for trailers.
LONGEST_MESSAGE = 1 << 20
CRLF_HEADER = re.compile(rb'[^\n]*\r\n')
QUOTED = re.compile(rb'^>(>*From )', re.M)
MOST_PREREQUISITES = 1000
SURE = 500
"""Bytes of a diff by which it is found in its mail."""


def split(data: bytes) -> Iterator[bytes]:
    """
    Yield the mails of an mbox (mboxrd, as public-inbox writes it), or the one mail.

    A lone mail without a `From ` line, as an MUA saves it, is one mail.
    """
    for raw in split_mbox_as_bytes(data):
        if raw.strip():
            # liblore finds no end of a header with CRLF, and leaves its body quoted.
            yield QUOTED.sub(rb'\1', raw) if CRLF_HEADER.match(raw) else raw


def parse_mail(raw: bytes) -> Mail:
    """Read one mail. Nothing in it is an error: what is missing is None or empty."""
    msg, unread = headers.parsed(raw)
    try:
        body, charset = body_of(msg)
    except headers.UNREADABLE as error:
        body, charset, unread = b'', '', f'its body: {error}'
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
        base_commit=_base_commit(body),
        charset=charset,
        unread=unread,
    )


def assemble(mails: Iterable[Mail]) -> Series | Incomplete:
    """
    Choose the newest revision among `mails` and put its patches in order.

    Replies are left out. A mail that is there twice with the same content
    counts once. Mails without a `[PATCH]` in the subject count only where no
    mail has one (`git format-patch --no-numbered --subject-prefix=''`).
    """
    known = list(mails)
    chosen = [(subject, mail) for mail in known if (subject := posted(mail)) is not None]
    if not chosen:
        others = [(read(mail.subject), mail) for mail in known]
        chosen = [one for one in others if not one[0].is_reply and DIFF.search(one[1].body)]
    if not chosen:
        return Incomplete('no patch in it')
    revision = max(subject.version for subject, _ in chosen)
    return _one_revision([item for item in chosen if item[0].version == revision], revision)


def numbered(mails: Sequence[Mail]) -> list[Mail]:
    """
    Number patches that `git format-patch -N` left without numbers, as they come.

    Mails that are numbered, or no patches, are as they were.
    """
    parts = [posted(mail) for mail in mails]
    lone = [n for n, one in enumerate(parts) if one is not None and one.counters_inferred]
    if len(lone) < 2 or len(lone) != len(mails):
        return list(mails)
    of = len(mails)
    return [
        replace(mail, subject=f'[PATCH v{one.version} {n}/{of}] {one.title}')
        for n, (mail, one) in enumerate(zip(mails, parts, strict=True), 1)
        if one is not None
    ]


def patch_of(subject: PatchSubject, mail: Mail) -> Patch:
    """Cut a mail into message, notes and diff, as `git mailinfo` would."""
    said = cut(mail.body, mail.charset)
    return Patch(
        n=subject.counter,
        of=subject.expected,
        msgid=mail.msgid,
        commit=None,
        subject=subject.title if said.subject is None else read(said.subject).title,
        author=said.author or mail.author,
        message=said.message,
        notes=said.notes,
        diff=said.diff,
        converted=said.converted,
        trailers=trailers_of(said.message),
        line=_line_of(mail, said.diff),
    )


def _line_of(mail: Mail, diff: bytes) -> int:
    """Return the line of a mail at which its diff begins: of the mail as it is read, decoded."""
    if not diff:
        return 0
    raw = mail.raw.replace(b'\r\n', b'\n') if b'\r\n' in mail.raw[:200] else mail.raw
    start = raw.find(b'\n' + diff[:SURE]) + 1
    if start:
        return mail.before + raw.count(b'\n', 0, start) + 1
    body = mail.body.replace(b'\r\n', b'\n')
    head = mail.before + raw.partition(b'\n\n')[0].count(b'\n') + 2
    inside = max(body.find(diff[:SURE].replace(b'\r\n', b'\n')), 0)
    return head + body.count(b'\n', 0, inside) + 1


def posted(mail: Mail) -> PatchSubject | None:
    """
    Return what a mail is of a series: a patch, or the cover letter (counter 0).

    None where it is neither. `[RFC]` or `[v2]` without a number is a patch only
    where the mail has a diff. The watcher and `bot check` both ask here.
    """
    subject = read(mail.subject)
    if subject.is_reply or is_announcement(mail.subject):
        return None
    if subject.is_patch:
        return subject
    if may_be_patch(mail.subject) and cut(mail.body, mail.charset).diff:
        return replace(subject, is_patch=True)
    return None


def trailers_of(message: str) -> tuple[str, ...]:
    """Return the trailers of a commit message (its last paragraph) as `Name: value`."""
    paragraphs = message[-LONGEST_MESSAGE:].strip().split('\n\n')
    return tuple(f'{name}: {value}' for name, value in trailers(paragraphs[-1]))


def _base_commit(body: bytes) -> str | None:
    """Return the commit that a series names: an id (perhaps short, with words after it), a tag."""
    found = BASE_COMMIT.search(body)
    if found is None:
        return None
    text = found[1].decode('utf-8', 'replace').strip('<>"\'')
    named = COMMIT_ID.search(text)
    if named is not None:
        return named[0]
    ref = REF.match(text)
    return None if ref is None or '..' in ref[0] else ref[0]


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
        cover=decoded(cover.body, cover.charset) if cover else None,
        base_commit=next((mail.base_commit for _, mail in found if mail.base_commit), None),
        prerequisites=tuple(dict.fromkeys(one for _, mail in found for one in mail.prerequisites)),
    )


def _numbers(numbers: Iterable[int], of: int) -> str:
    listed = sorted(numbers)
    shown = ', '.join(str(n) for n in listed[:10]) + (', …' if len(listed) > 10 else '')
    return f'{shown} of {of}'
