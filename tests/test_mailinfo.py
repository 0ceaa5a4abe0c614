"""What git mailinfo reads from a mail, compared with git mailinfo."""

import base64
import quopri
import subprocess
from email.header import Header
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.mailinfo import is_scissors
from bot.model import Patch
from bot.series import parse_mail, patch_of
from bot.subjects import read

DIFF = (
    'diff --git a/x.c b/x.c\nindex 257cc56..5716ca5 100644\n--- a/x.c\n+++ b/x.c\n'
    '@@ -1 +1 @@\n-foo\n+bar\n'
)
STAT = '---\n x.c | 2 +-\n 1 file changed, 1 insertion(+), 1 deletion(-)\n\n'
HEAD = 'From: Ann Author <ann@example.org>\nSubject: [PATCH] mm: x\n'


def mail(body: str, *, head: str = HEAD, charset: str = 'utf-8', encoding: str = '8bit') -> bytes:
    content = body.encode(charset)
    if encoding == 'base64':
        content = base64.encodebytes(content)
    elif encoding == 'quoted-printable':
        content = quopri.encodestring(content)
    kind = f'Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: {encoding}\n'
    return f'{head}MIME-Version: 1.0\n{kind}\n'.encode() + content


def ours(raw: bytes) -> Patch:
    found = parse_mail(raw)
    return patch_of(read(found.subject), found)


def gits(raw: bytes, folder: Path) -> tuple[str, str, str, str, bytes]:
    """(author, address, subject, message, patch) as git has them."""
    message, patch = folder / 'message', folder / 'patch'
    ran = subprocess.run(
        ['git', 'mailinfo', '--scissors', '--encoding=UTF-8', str(message), str(patch)],
        input=raw, capture_output=True, check=True, cwd=folder,
        env={'PATH': '/usr/bin:/bin', 'LC_ALL': 'C.UTF-8', 'HOME': str(folder)},
    )  # fmt: skip
    said = dict(line.split(': ', 1) for line in ran.stdout.decode().split('\n') if ': ' in line)
    return (
        said.get('Author', ''), said.get('Email', ''), said.get('Subject', ''),
        message.read_text(), patch.read_bytes(),
    )  # fmt: skip


def same(raw: bytes, folder: Path) -> None:
    author, address, subject, message, patch = gits(raw, folder)
    found = ours(raw)
    assert (found.author.name, found.author.email) == (author, address)
    assert found.subject == ' '.join(subject.split())
    assert lines(found.message) == lines(message)
    assert patch.rstrip().endswith(found.diff.rstrip())


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().split('\n')]


@pytest.mark.parametrize(
    'body',
    [
        f'Why.\n\nSigned-off-by: A <a@b>\n{STAT}{DIFF}',
        f'Why.\n{DIFF}',
        f'\n\nFrom: Bea Other <bea@example.org>\n\nWhy.\n{STAT}{DIFF}',
        f'From: Bea Long\n Other <bea@example.org>\n\nWhy.\n{STAT}{DIFF}',
        f'From: Bea <bea@example.org>\nSubject: mm: another\n subject\n\nWhy.\n{STAT}{DIFF}',
        f'From: Bea <bea@example.org>\nFrom: C <c@d>\n\nWhy.\n{STAT}{DIFF}',
        f'Date: Fri, 20 Mar 2026 09:46:40 +0000\n\nWhy.\n{STAT}{DIFF}',
        f'Subject: [PATCH] mm: y\n\nWhy.\n{STAT}{DIFF}',
        f'[PATCH] mm: z\n\nWhy.\n{STAT}{DIFF}',
        f'Chatter.\n\n-- >8 --\nFrom: Bea <bea@example.org>\n\nWhy.\n{STAT}{DIFF}',
        f'Chatter.\n---8<---\nSubject: mm: cut\n\nWhy.\n{STAT}{DIFF}',
        f'Why.\n\nFrom: no header <here@x>\n{STAT}{DIFF}',
        f'Why --- not.\n--- \nnotes\n{DIFF}',
        f'Why.\n--- a note\n{DIFF}',
        f'Why.\n---- no end\n{STAT}{DIFF}',
        f'Index: of things\n{DIFF}',
        f'{STAT}{DIFF}',
        'Only words.\n',
        '',
    ],
)
def test_bodies_as_git(body: str, tmp_path: Path) -> None:
    same(mail(body), tmp_path)


@pytest.mark.parametrize(
    'name',
    [
        'Ann Author',
        'Doe, Jane',
        '"Doe, Jane"',
        'Ann (at work) Author',
        'Jörg Müller',
        'A. N. Other',
    ],
)
@pytest.mark.parametrize('inbody', [False, True])
def test_names(name: str, inbody: bool) -> None:
    written = name if name.isascii() else Header(name, 'utf-8').encode()
    line = f'From: {written} <x@example.org>\n'
    head = HEAD if inbody else HEAD.replace('From: Ann Author <ann@example.org>\n', line)
    found = ours(mail((line + '\n' if inbody else '') + f'Why.\n{STAT}{DIFF}', head=head))
    assert found.author.name == name.strip('"')
    assert found.author.email == 'x@example.org'


@pytest.mark.parametrize('encoding', ['8bit', 'base64', 'quoted-printable'])
@pytest.mark.parametrize('charset', ['utf-8', 'iso-8859-1', 'windows-1252'])
def test_charsets(charset: str, encoding: str) -> None:
    diff = DIFF.replace('bar', 'Größe')
    raw = mail(f'From: Jörg <j@x.org>\n\nGrüße.\n{STAT}{diff}', charset=charset, encoding=encoding)
    found = ours(raw)
    assert (found.author.name, found.message) == ('Jörg', 'Grüße.')
    assert found.diff == diff.encode(charset)
    assert (found.converted or found.diff) == diff.encode()


@pytest.mark.parametrize('charset', ['utf-16', 'utf-16-le', 'utf-32'])
def test_charsets_that_are_not_like_ascii(charset: str) -> None:
    found = ours(mail(f'Grüße.\n{STAT}{DIFF}', charset=charset, encoding='base64'))
    assert (found.message, found.diff) == ('Grüße.', DIFF.encode())


def test_a_charset_that_is_none() -> None:
    raw = mail(f'Grüße.\n{STAT}{DIFF}').replace(b'charset=utf-8', b'charset=nosuch')
    assert ours(raw).message == 'Grüße.'


def test_flowed(tmp_path: Path) -> None:
    flowed = DIFF.replace('\n ', '\n  ')
    body = f'Why it is a\nlong one and \ngoes on.\n{STAT}{flowed}-- \n2.39\n'
    raw = mail(body).replace(b'charset=utf-8', b'charset=utf-8; format=flowed')
    same(raw, tmp_path)
    assert 'long one and goes on.' in ours(raw).message


@pytest.mark.parametrize('kind', ['octet-stream', 'x-patch', 'x-diff'])
def test_attached(kind: str) -> None:
    content = base64.encodebytes(DIFF.encode()).decode()
    raw = (
        f'{HEAD}MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n'
        f'--b\nContent-Type: text/plain\n\nWhy.\n--b\n'
        f'Content-Type: application/{kind}; name="1.patch"\n'
        f'Content-Transfer-Encoding: base64\n\n{content}--b--\n'
    ).encode()
    found = ours(raw)
    assert (found.message, found.diff.strip()) == ('Why.', DIFF.encode().strip())
    assert not ours(raw.replace(b'1.patch', b'1.png')).diff


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('-- >8 --', True),
        ('8< - - cut here - - 8<', True),
        ('---- >8 ---- cut', True),
        ('>8', False),
        ('-- 8 --', False),
        ('scissors >8 and a long line of words that are none -', False),
    ],
)
def test_scissors(line: str, expected: bool, tmp_path: Path) -> None:
    assert is_scissors(line) is expected
    same(mail(f'Chatter.\n{line}\nWhy.\n{STAT}{DIFF}'), tmp_path)


LINES = st.sampled_from(
    ['Why.', '', ' ', 'From: Bea <bea@example.org>', ' folded', 'Subject: mm: other', '---',
     '-- >8 --', '[PATCH] mm: q', 'Index: x', '>From the top', 'Date: today', 'a: b', '--', '-- ']
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, max_size=8))
def test_any_message_as_git(tmp_path: Path, message: list[str]) -> None:
    same(mail('\n'.join([*message, STAT + DIFF])), tmp_path)
