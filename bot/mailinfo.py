"""
What `git mailinfo` reads from a mail: author, subject, message, notes, diff. Pure.

Answers what git am would commit: in-body `From:`, `Subject:` and `Date:` count
(folded, encoded, with blank lines before them), what is above scissors does
not, the message is text by the mail's charset, and the diff is the mail's own
bytes. b4 cuts at scissors as well, and so does this. Leaves the mail's own
headers to `headers`, and what the subject says to `subjects`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message

from bot import headers
from bot.model import Author
from bot.plain import storable

# Where git ends the message: a `---` alone or with a file's name, or the first line of a diff.
BREAK = re.compile(r'(?:diff -|Index: |--- \S|---\s*$)')
DIFF = re.compile(rb'^(?:diff -|Index: |--- \S.*\n\+\+\+ )', re.M)
STARTS = re.compile(rb'^(?:diff -|Index: |--- \S|---[ \t\r]*$)', re.M)
INBODY = re.compile(r'(From|Subject|Date):[ \t]*(.*)', re.I)
SCISSORS = ('>8', '8<', '>%', '%<')
PATCH_NAME = re.compile(r'.*\.(?:patch|diff|mbox|eml)', re.I | re.S)
ATTACHED = ('octet-stream', 'x-patch', 'x-diff', 'patch', 'diff')
"""Subtypes of application/… that people attach patches as, where the name says so."""
SIGNATURE = b'-- '
CHARSET = re.compile(rf'{headers.CHARSET.pattern}|utf-?(?:16|32)(?:-?[bl]e)?', re.I)
"""The codecs that a body may ask for; UTF-7 and the like make characters that are none."""


@dataclass(frozen=True)
class Cut:
    """
    A mail's body, cut as git does.

    `author` and `subject` are what the body says, None where it says nothing.
    `diff` are the bytes that were sent; `converted` is the diff in UTF-8 where
    that is another, b'' where it is not.
    """

    author: Author | None
    subject: str | None
    message: str
    notes: str
    diff: bytes
    converted: bytes


def cut(body: bytes, charset: str) -> Cut:
    """Cut a body into message, notes and diff."""
    text = decoded(body, charset)
    author, subject, message, rest = _message(text.split('\n'))
    notes, _, said = _parted(rest.encode('utf-8', 'surrogateescape'))
    raw = STARTS.search(body)
    _, found, diff = _parted(body[raw.start() :] if raw is not None else b'')
    if not found:
        diff = said  # a charset in which not even `diff` is ASCII
    return Cut(
        author,
        subject,
        message,
        notes.decode('utf-8', 'replace').strip('\n'),
        diff,
        said if said != diff else b'',
    )


def decoded(body: bytes, charset: str) -> str:
    """Return a body as text, by its charset; without one as UTF-8, else as Latin-1, as git does."""
    body = body.replace(b'\r\n', b'\n')
    for name in (charset, 'utf-8') if charset else ('utf-8',):
        try:
            return body.decode(name).replace('\r\n', '\n')
        except (UnicodeError, LookupError, ValueError):
            continue
    return body.decode('utf-8' if charset else 'latin-1', 'replace')


def body_of(mail: Message) -> tuple[bytes, str]:
    """
    Return a mail's text and its charset: transfer encoding undone, and format=flowed.

    The text parts follow each other, without HTML; attached patches count as
    text. Parts of another charset than the first's are converted to that.
    """
    parts: list[bytes] = []
    charset = ''
    for part in _walked(mail):
        if not _is_text(part):
            continue
        payload = part.get_payload(decode=True)
        if not isinstance(payload, bytes):
            continue
        own = _charset(part)
        if not _like_ascii(own):  # UTF-16: not even its line ends are
            payload, own = _converted(payload, own, 'utf-8'), 'utf-8'
        if 'flowed' in _parameter(part, 'format'):
            payload = _unflowed(payload, delsp='yes' in _parameter(part, 'delsp'))
        if not parts:
            charset = own
        elif own not in ('', charset) and part.get_content_maintype() == 'text':
            payload = _converted(payload, own, charset)
        # The line end before a MIME boundary is the boundary's.
        parts.append(payload if payload.endswith(b'\n') else payload + b'\n')
    return b'\n'.join(parts), charset


def _walked(mail: Message) -> Iterator[Message]:
    """Yield a mail's parts, the outer ones first; `walk()` calls itself."""
    left = [mail]
    while left:
        part = left.pop()
        yield part
        if part.is_multipart():
            left += reversed([one for one in part.get_payload() if isinstance(one, Message)])


def _is_text(part: Message) -> bool:
    if part.is_multipart():
        return False
    kind, sub = part.get_content_maintype(), part.get_content_subtype()
    if kind == 'text':
        return sub != 'html'
    if kind != 'application' or sub not in ATTACHED:
        return False
    return PATCH_NAME.fullmatch(headers.file_name(part)) is not None


def _charset(part: Message) -> str:
    """Return the codec that a part asks for, if any; instead of one of no mail it is UTF-8."""
    said = _parameter(part, 'charset')
    return said if not said or CHARSET.fullmatch(said) else 'utf-8'


def _parameter(part: Message, name: str) -> str:
    return headers.parameter(part, name)


def _like_ascii(charset: str) -> bool:
    """Whether ASCII is written in a charset as it is; said of one that is not known, too."""
    try:
        return 'diff -\n'.encode(charset or 'ascii') == b'diff -\n'
    except (UnicodeError, LookupError, ValueError):
        return True


def _converted(payload: bytes, own: str, wanted: str) -> bytes:
    try:
        return payload.decode(own).encode(wanted or 'utf-8')
    except (UnicodeError, LookupError, ValueError):
        return payload


def _unflowed(payload: bytes, *, delsp: bool) -> bytes:
    """Undo format=flowed (RFC 3676): stuffed blanks go, lines that end in one are joined."""
    lines: list[bytes] = []
    open_: list[bytes] = []
    for full in payload.split(b'\n'):
        line = full.removesuffix(b'\r')
        if line == SIGNATURE:
            lines += [b''.join(open_), line] if open_ else [line]
            open_ = []
            continue
        line = line[1:] if line.startswith(b' ') else line
        if line.endswith(b' '):
            open_.append(line[:-1] if delsp else line)
        else:
            lines.append(b''.join((*open_, line)))
            open_ = []
    if open_:
        lines.append(b''.join(open_))
    return b'\n'.join(lines)


# --- the message --------------------------------------------------------------


def _message(lines: list[str]) -> tuple[Author | None, str | None, str, str]:
    """Return (author, subject, message, what follows it)."""
    author: Author | None = None
    subject: str | None = None
    said: dict[str, str] = {}
    message: list[str] = []
    place = 0
    top = True  # in-body headers may still come
    within = False  # the line before was one: a blank line ends them
    while place < len(lines):
        line = lines[place]
        if is_scissors(line):
            said, message, top, within = {}, [], True, False
            place += 1
            continue
        if top:
            if not line.strip('\r'):
                top, within = not within, False
                place += 1
                continue
            taken = _inbody(lines, place, said)
            if taken:
                within = INBODY.match(line) is not None
                place += taken
                continue
            top = False
        if BREAK.match(line):
            break
        message.append(line)
        place += 1
    if 'from' in said:
        author = headers.person(said['from'])
    if 'subject' in said:
        subject = storable(headers.decoded(said['subject']), headers.LONGEST_TEXT)
    return author, subject, '\n'.join(message).strip('\n'), '\n'.join(lines[place:])


def _inbody(lines: list[str], place: int, said: dict[str, str]) -> int:
    """Read an in-body header at a line into `said`; how many lines it takes."""
    line = lines[place]
    if line.startswith('>From ') and len(line) > 60:
        return 1  # how an mbox quotes the line before a format-patch mail
    if re.match(r'\[PATCH\]\s', line):
        said['subject'] = line
        return 1
    found = INBODY.match(line)
    if found is None or found[1].lower() in said:
        return 0
    value, taken = [found[2].strip()], 1
    for further in lines[place + 1 :]:
        if not further.startswith((' ', '\t')) or is_scissors(further):
            break
        value.append(further.strip())
        taken += 1
    said[found[1].lower()] = ' '.join(value)
    return taken


def is_scissors(line: str) -> bool:
    """Whether a line says "cut here" as git reads it: `-- >8 --`, `8< - - cut - -`."""
    text = line.strip()
    if len(text) < 8 or not any(one in text for one in SCISSORS):
        return False
    perforation = gaps = 0
    inside = False
    place = 0
    while place < len(text):
        if text[place].isspace():
            if inside:
                perforation += 1
                gaps += 1
        elif text[place] == '-':
            inside = True
            perforation += 1
        elif text[place : place + 2] in SCISSORS:
            inside = True
            perforation += 2
            place += 1
        else:
            inside = False
        place += 1
    return len(text) < perforation * 3 and gaps * 2 < perforation


def _parted(rest: bytes) -> tuple[bytes, bool, bytes]:
    """Part what follows the message: (notes, whether there is a diff, the diff)."""
    diff = DIFF.search(rest)
    if diff is None:
        return rest.removeprefix(b'---').lstrip(b' \t'), False, b''
    notes = rest[: diff.start()]
    return notes.removeprefix(b'---').lstrip(b' \t'), True, _plain_ends(rest[diff.start() :])


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
