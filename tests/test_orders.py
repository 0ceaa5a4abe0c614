"""What people tell the bot on the list, and who they are."""

from collections.abc import Sequence

import pytest

from bot.orders import orders_of, orders_under
from bot.outgoing import Order
from tests.replying import mail

BY = 'ann@example.org'


def said(body: str, **more: str) -> tuple[Order, ...]:
    return orders_of(mail('a@x', 'Re: [PATCH] x', body, **more))


@pytest.mark.parametrize(
    ('body', 'orders'),
    [
        ('vma-bot: ack vma-test-drift\n', [Order('ack', BY, 'vma-test-drift')]),
        ('VMA-Bot:ACK Const-Cast, on purpose\n', [Order('ack', BY, 'const-cast')]),
        ('vma-bot: stop\n', [Order('stop', BY)]),
        ('vma-bot: Stop.\n', [Order('stop', BY)]),
        ('vma-bot: opt-out\r\n', [Order('opt-out', BY)]),
        (
            'vma-bot: stop\nvma-bot: stop\nvma-bot: ack x\n',
            [Order('stop', BY), Order('ack', BY, 'x')],
        ),
        ('> vma-bot: stop\n', []),
        (' vma-bot: stop\n', []),
        ('On Monday vma-bot: stop\n', []),
        ('vma-bot: stop it, please\n', []),
        ('vma-bot: ack\n', []),
        ('vma-bot: delete everything\n', []),
        ('"vma-bot: opt-out" all my mails\n', []),
        ('vma-bot: ignore const-cast -- x\n', []),
        ('', []),
    ],
)
def test_orders(body: str, orders: Sequence[Order]) -> None:
    assert said(body) == tuple(orders)


def test_a_machine_gives_none() -> None:
    assert said('vma-bot: stop\n', more='Auto-Submitted: auto-replied') == ()


def test_our_own_signature_is_no_order() -> None:
    from tests.replying import LETTERHEAD

    assert said(LETTERHEAD.templates['signature']) == ()


MULTIPART = 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"'
STOP = 'vma-bot: stop\n'


@pytest.mark.parametrize(
    ('body', 'more', 'counts'),
    [
        (f'--b\n\n{STOP}--b--\n', MULTIPART, True),
        (f'--b\n\nSee below.\n--b\n\n{STOP}--b--\n', MULTIPART, False),
        (
            f'--b\nContent-Disposition: attachment\n\n{STOP}--b--\n', MULTIPART, False,
        ),
        (
            f'--b\nContent-Type: message/rfc822\n\nSubject: x\n\n{STOP}--b--\n', MULTIPART, False,
        ),
        (f'--b\nContent-Type: text/html\n\n{STOP}--b--\n', MULTIPART, False),
        ('dm1hLWJvdDogc3RvcAo=\n', 'Content-Transfer-Encoding: base64', True),
    ],
    ids=['first', 'second', 'attached', 'forwarded', 'html', 'base64'],
)  # fmt: skip
def test_only_what_its_writer_wrote(body: str, more: str, counts: bool) -> None:
    """What is attached, or forwarded, somebody else may have written."""
    assert (said(body, more=more) != ()) is counts


PLAIN = frozenset({'from', 'subject', 'date', 'in-reply-to'})
WHOLE = PLAIN | {'content-type', 'content-transfer-encoding'}


@pytest.mark.parametrize(
    ('body', 'more', 'covers', 'counts'),
    [
        (STOP, '', PLAIN, True),
        (f'Thanks.\n\n{STOP}-- \nAnn\n', '', PLAIN, True),
        # The signed text has an attachment, and somebody had it read as plain text.
        (f'--b\nContent-Type: message/rfc822\n\n{STOP}', '', PLAIN, False),
        # The signed text has two parts, and somebody named another boundary.
        (f'--x\n\nThanks.\n--b\n\n{STOP}--b--\n', MULTIPART, PLAIN, False),
        # The signed text was base64, or went on from the line before.
        ('dm1hLWJvdDogc3RvcAo=\n', 'Content-Transfer-Encoding: base64', PLAIN, False),
        ('dm1hLWJvdDogc3RvcAo=\n', 'Content-Transfer-Encoding: base64', WHOLE, True),
        (f'Somebody wrote =\n{STOP}', '', PLAIN, False),
        ('vma-bot: ack x=\n-y\n', '', PLAIN, False),
        ('x=0Avma-bot: stop\n', 'Content-Transfer-Encoding: quoted-printable', PLAIN, False),
    ],
)  # fmt: skip
def test_what_a_signature_covers_of_a_body(
    body: str, more: str, covers: frozenset[str], counts: bool
) -> None:
    """Most servers do not sign how a body is to be read: then it counts however it is read."""
    assert (orders_under(mail('a@x', 'Re: [PATCH] x', body, more=more), covers) != ()) is counts
