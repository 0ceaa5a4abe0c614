"""Through a real mail server: mails arrive as they were, once, and come back by the archive."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import requests

from bot.mail import Mailer
from bot.outgoing import Accepted, Delivery, Refused, Smtp, TryLater
from tests.services import publicinbox
from tests.services.opensmtpd import NOBODY, OpenSmtpd
from tests.services.publicinbox import LIST, PublicInbox

BOT, AUTHOR, KVACK = 'bot@example.org', 'dev@example.org', 'linux-mm@kvack.org'


def mail(name: str, body: bytes) -> bytes:
    return (
        b'From: VMA review bot <bot@example.org>\n'
        b'To: =?utf-8?q?J=C3=B6rg?= <dev@example.org>\n'
        b'Cc: linux-mm@kvack.org,\n\tsomeone@example.org\n'
        b'Subject: Re: [PATCH v2 1/3] mm: a subject that is long enough to be\n folded once\n'
        b'Date: Fri, 20 Mar 2026 12:00:00 +0000\n'
        b'Message-ID: <' + name.encode() + b'@vma-bot.example.org>\n'
        b'In-Reply-To: <1@example.org>\n'
        b'References: <0@example.org>\n <1@example.org>\n'
        b'Auto-Submitted: auto-generated\n'
        b'MIME-Version: 1.0\n'
        b'Content-Type: text/plain; charset=utf-8\n'
        b'Content-Transfer-Encoding: 8bit\n'
        b'\n' + body
    )


BODIES = {
    'plain': b'> +\tvma->vm_ops = &ops;\n\nA sentence.\n\n-- \nbot\n',
    'dots': b'.\n..\n.x\n...\nFrom here on.\n.\n',
    'eight-bit': 'J\u00f6rg \u2026 \u4f60\u597d\n'.encode() + b'\xff\xfe not UTF-8\n',
    'wide': b'x' * 998 + b'\n' + b'.' * 998 + b'\n',
    'blanks': b'\n\n trailing \t \n\n\n',
    'big': b'+\tif (x)\n' * 100_000,
}


def send(
    server: OpenSmtpd, raw: bytes, recipients: Sequence[str] = (KVACK,), *, claimed: bool = True
) -> Delivery:
    mailer = Mailer(Smtp('127.0.0.1', server.port, timeout=20))
    return mailer.send(BOT, recipients, raw, lambda: claimed)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[PublicInbox]:
    if publicinbox.MISSING:
        pytest.skip(f'not installed: {", ".join(publicinbox.MISSING)}')
    with publicinbox.serving(tmp_path / 'archive', [mail('first', b'x\n')]) as served:
        yield served


@pytest.mark.parametrize('name', BODIES)
def test_a_mail_arrives_as_it_was_and_once(name: str, mail_server: OpenSmtpd) -> None:
    raw = mail(name, BODIES[name])
    assert send(mail_server, raw, (AUTHOR, KVACK)) == Accepted()
    assert mail_server.addresses() == [AUTHOR, KVACK]
    assert mail_server.delivered(KVACK) == [raw]
    assert mail_server.delivered(AUTHOR) == [raw]


def test_nothing_arrives_without_a_claim(mail_server: OpenSmtpd) -> None:
    raw = mail('unclaimed', BODIES['plain'])
    assert send(mail_server, raw, claimed=False) == TryLater('no longer wanted')
    fence = mail('fence', BODIES['plain'])
    assert send(mail_server, fence) == Accepted()
    assert mail_server.delivered(KVACK) == [fence]


def test_a_server_refuses_a_recipient(mail_server: OpenSmtpd) -> None:
    raw = mail('refused', BODIES['plain'])
    refused = {NOBODY: '550 Invalid recipient: <nobody-here@example.org>'}
    assert send(mail_server, raw, (NOBODY, KVACK)) == Accepted(refused)
    assert mail_server.addresses() == [KVACK]
    assert mail_server.delivered(KVACK) == [raw]
    alone = send(mail_server, raw, (NOBODY,))
    assert isinstance(alone, Refused)
    assert alone.refused == refused


def test_what_a_list_got_comes_back_by_its_archive(
    mail_server: OpenSmtpd, archive: PublicInbox
) -> None:
    raw = mail('comes-back', BODIES['eight-bit'])
    assert send(mail_server, raw) == Accepted()
    assert mail_server.archive(archive, KVACK) == [raw]
    assert mail_server.archive(archive, KVACK) == []
    url = f'{archive.url}/{LIST}/comes-back@vma-bot.example.org/raw'
    shown = requests.get(url, timeout=20).content
    # public-inbox shows mails as an mbox does.
    assert shown.partition(b'\n')[2].rstrip(b'\n').endswith(BODIES['eight-bit'].rstrip(b'\n'))
    assert mail_server.delivered(KVACK) == [raw]
