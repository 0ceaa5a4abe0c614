"""
A mutator of mails: real ones, and our own, with what strangers put into them.

Whatever chooses (a seeded `Random`, or hypothesis') decides everything, so that
a seed repeats a mail.
"""

import os
import re
from collections.abc import Callable, Sequence
from email.utils import formatdate
from pathlib import Path
from random import Random

from bot.series import split
from tests.lettering import DIFF, answer, post, series

CORPUS = Path(os.environ.get('VMA_BOT_CORPUS', Path(__file__).parents[2] / 'shared' / 'corpus'))
LIST = 'linux-mm@kvack.org'
CHARSETS = (
    b'utf-8', b'us-ascii', b'iso-8859-1', b'utf-7', b'utf-16', b'utf-32', b'idna', b'punycode',
    b'undefined', b'unicode_escape', b'raw_unicode_escape', b'rot13', b'hex', b'zlib', b'bz2',
    b'base64', b'uu', b'mbcs', b'a\0b', b'iso-2022-jp-2004', b'hz', b'cp65001', b'x' * 300, b'',
)  # fmt: skip
NASTY: tuple[bytes, ...] = (
    b'\0', b'\xff\xfe', b'\xed\xa0\x80', b'\xc2\x85', b'\xe2\x80\xa8', b'\xf4\x90\x80\x80', b'\r',
    b'\x1b[2J', b'\xe2\x80\xae', b'(' * 1500, b'[' * 300, b'"', b'\\', b'<' * 3000, b'@' * 500,
    b'a:' * 2000, b'9' * 5000, b'v99999999999999999999', b'[PATCH v4294967296 1/1] ',
    b'[PATCH 0/9999] ', b'[PATCH 9999/9999] ', b'[PATCH v0] ', b'Re: ' * 500, b'\n\n', b'\n \n',
    b'=?', b'?=', b'vma-bot: stop\n', b'vma-bot: ack \xff\0\n', b'Depends-on: <\0@\xff>\n',
    b'prerequisite-patch-id: ' + b'a' * 40 + b'\n', b'base-commit: ' + b'0' * 40 + b'\n',
    b'change-id: ' + b'\xff' * 100 + b'\n', b'diff --git a/mm/vma.c b/mm/vma.c\n',
    b'--- a/mm/vma\0.c\n+++ b/mm/../../vma.c\n', b'@@ -1,999999999999999999999 +1 @@\n',
    b'@@ -0,0 +1,1 @@\n', b'GIT binary patch\nliteral 99999999999\n', b'\n-- \n', b'\n---\n',
    b'From: =?utf-7?Q?+2AA-?= <x@y.org>\n', b'Fixes: ' + b'f' * 3000 + b' ("x")\n',
)  # fmt: skip
HEADERS = (
    b'Subject', b'From', b'To', b'Cc', b'Date', b'Message-ID', b'In-Reply-To', b'References',
    b'Content-Type', b'Content-Transfer-Encoding', b'X-Original-From', b'DKIM-Signature',
    b'X-Developer-Signature', b'Auto-Submitted', b'Precedence', b'List-Id', b'Return-Path',
)  # fmt: skip
VALUES: tuple[bytes, ...] = (
    b'multipart/mixed; boundary="b"', b'multipart/digest; boundary=', b'message/rfc822',
    b'message/external-body', b'text/plain; charset="a\0b"', b'text/html', b'text',
    b'multipart/mixed; boundary*0*=utf-7\'\'%2b; boundary*99999999999=x', b'quoted-printable',
    b'base64', b'x-uuencode', b'8bit', b'Fri, 99 Foo 99999999999 99:99:99 +99999999999',
    b'1 Jan 0001 00:00:00 -9999', b'<' + b'a' * 5000 + b'@x>', b'<\0@\xff>', b'<a@b> ' * 3000,
    b'v=1; a=ed25519-sha256; d=example.org; s=a..b; h=from; bh=x; b=y', b'i=\xff; b=',
    b'"\\"" <a@b>', b'A (b(c)) <d@e>', b'undisclosed:;', b'a@b,' * 5000, b'<@a,@b:c@d>', b'',
)  # fmt: skip
FINDS = """static int poison_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vm_area_desc desc;
	int err;

	err = poison_prepare(&desc);
	return __compat_vma_mmap(&desc, vma);
}
"""
"""What applies to any kernel, and is found fault with."""


def added(path: str, text: str) -> str:
    """A diff that adds a file."""
    lines = text.splitlines()
    return (
        f'diff --git a/{path} b/{path}\nnew file mode 100644\nindex 0000000..1111111\n'
        f'--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{len(lines)} @@\n'
    ) + ''.join(f'+{line}\n' for line in lines)


def single(msgid: str, path: str, text: str, author: str, subject: str) -> bytes:
    """A patch that adds a file, posted to the list just now."""
    body = f'Because.\n\nSigned-off-by: A Developer <{author}>\n---\n' + added(path, text)
    made = post(msgid, f'[PATCH] {subject}', body, author=author, date=formatdate())
    return made.raw.replace(b'\nSubject:', f'\nTo: {LIST}\nSubject:'.encode(), 1)


def bases() -> list[bytes]:
    """The mails to begin with: real ones where they are there, and ours."""
    found = [one.raw for name in 'abc' for one in series(name, 3, author='fuzz@example.org')]
    found += [answer(series('a', 3)[1], 'r', 'vma-bot: stop\nvma-bot: ack compat-pair\n').raw]
    found += [post('plain@x', '[PATCH] mm: x', DIFF.format(path='mm/vma.c', what='x')).raw]
    for path in sorted(CORPUS.glob('*.mbox')) if CORPUS.is_dir() else ():
        found += [raw for raw in split(path.read_bytes()) if len(raw) < 1 << 16]
    return found


def with_id(raw: bytes, number: int) -> bytes:
    """The same mail by another name and author, in a thread that it shares with a few others."""
    head, gap, body = raw.partition(b'\n\n')
    head = re.sub(
        rb'(?mi)^(?:In-Reply-To|References):.*(?:\n[ \t].*)*',
        lambda found: found[0].replace(b'<', b'<%d.' % (number // 500)),
        head,
    )
    msgid = b'Message-ID: <fuzz%d@x>' % number
    head = re.sub(rb'(?mi)^Message-ID:.*', lambda _: msgid, head, count=1)
    author = b'.%d@' % (number // 500)
    head = re.sub(rb'(?mi)^From:.*', lambda found: found[0].replace(b'@', author), head, count=1)
    return head + gap + body


def mutated(choose: Random, raw: bytes, others: Sequence[bytes]) -> bytes:
    """Change a mail in one place to four."""
    for _ in range(choose.randint(1, 4)):
        raw = choose.choice(MUTATIONS)(choose, raw, others)[: 1 << 18]
    return raw


Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]


def _inserted(choose: Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    at = choose.randint(0, len(raw))
    return raw[:at] + choose.choice(NASTY) + raw[at:]


def _flipped(choose: Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    changed = bytearray(raw)
    for _n in range(choose.randint(1, 8) if changed else 0):
        changed[choose.randrange(len(changed))] = choose.randrange(256)
    return bytes(changed)


def _cut(choose: Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    start = choose.randint(0, len(raw))
    return raw[:start] + raw[start + choose.randint(0, 400) :]


def _repeated(choose: Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    start = choose.randint(0, len(raw))
    piece = raw[start : start + choose.randint(0, 200)]
    return raw[:start] + piece * choose.choice((2, 3, 300)) + raw[start:]


def _spliced(choose: Random, raw: bytes, others: Sequence[bytes]) -> bytes:
    other = choose.choice(others)
    return raw[: choose.randint(0, len(raw))] + other[choose.randint(0, len(other)) :]


def _headed(choose: Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    """A header of another value: put in its place, or before all others."""
    name = choose.choice(HEADERS)
    value = choose.choice((*VALUES, *NASTY, _word(choose)))
    pattern = re.compile(rb'^' + name + rb':.*', re.M | re.I)
    if choose.random() < 0.5 and pattern.search(raw):
        return pattern.sub(lambda _: name + b': ' + value, raw, count=1)
    return name + b': ' + value + b'\n' + raw


def _worded(choose: Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    """An encoded word in a header, or before one in the body."""
    places = [one.end() for one in re.finditer(rb'(?mi)^(?:Subject|From|To|Cc): ', raw)]
    at = choose.choice(places) if places else 0
    return raw[:at] + _word(choose) + b' ' + raw[at:]


def _word(choose: Random) -> bytes:
    texts = (b'+2AA-', b'=5Cud800', b'=FF=FE=00', b'a', b'_' * 100, b'=3D=3Futf-7=3FQ=3Fa', b'4pi6')
    how = choose.choice((b'Q', b'B', b'q', b'X'))
    return b'=?' + choose.choice(CHARSETS) + b'?' + how + b'?' + choose.choice(texts) + b'?='


def _nested(choose: Random, raw: bytes, __: Sequence[bytes]) -> bytes:
    """A mail in parts in parts."""
    depth = choose.choice((2, 20, 49, 60, 900))
    parts = b''.join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n) for n in range(depth)
    )
    head, _, body = raw.partition(b'\n\n')
    return head + b'\n' + parts + b'Content-Type: text/plain\n\n' + body


def _ended(choose: Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    """Other line ends."""
    return raw.replace(b'\n', choose.choice((b'\r\n', b'\r', b'\n\n', b'\x0b\n')))


MUTATIONS: tuple[Mutation, ...] = (
    _inserted, _inserted, _flipped, _cut, _repeated, _spliced, _headed, _headed, _worded, _nested,
    _ended,
)  # fmt: skip
