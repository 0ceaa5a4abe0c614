"""What people tell the bot on the list, and who they are."""

from collections.abc import Sequence
from typing import Literal

import pytest

from bot.model import NO_KEY, Attestation
from bot.orders import Standing, orders_of, standing
from bot.outgoing import Order
from tests.replying import mail

BY = 'ann@example.org'


def said(body: str, **more: str) -> tuple[Order, ...]:
    return orders_of(mail('a@x', 'Re: [PATCH] x', body, **more))


@pytest.mark.parametrize(
    ('body', 'orders'),
    [
        ('vma-bot: ack vma-test-drift\n', [Order('ack', BY, 'vma-test-drift')]),
        ('  VMA-Bot:ACK Const-Cast, on purpose\n', [Order('ack', BY, 'const-cast')]),
        ('vma-bot: stop\n', [Order('stop', BY)]),
        ('vma-bot: Stop.\n', [Order('stop', BY)]),
        ('vma-bot: opt-out\r\n', [Order('opt-out', BY)]),
        (
            'vma-bot: stop\nvma-bot: stop\nvma-bot: ack x\n',
            [Order('stop', BY), Order('ack', BY, 'x')],
        ),
        ('> vma-bot: stop\n', []),
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


SIGNATURE = 'DKIM-Signature: v=1; d=example.org; b=x'


def dkim(
    domain: str, result: Literal['pass', 'fail', 'not-checked'], reason: str = ''
) -> Attestation:
    return Attestation('dkim', domain, result, reason)


@pytest.mark.parametrize(
    ('found', 'worth'),
    [
        ([dkim('example.org', 'pass')], 'pass'),
        ([dkim('list.example', 'pass')], 'unsigned'),
        ([dkim('example.org', 'fail'), dkim('list.example', 'pass')], 'fail'),
        ([dkim('example.org', 'fail'), dkim('example.org', 'pass')], 'pass'),
        ([dkim('example.org', 'not-checked')], 'not-checked'),
        ([dkim('org', 'pass')], 'unsigned'),
        ([dkim('', 'not-checked')], 'unsigned'),
        ([dkim('example.org', 'not-checked', NO_KEY)], 'unsigned'),
        ([], 'unsigned'),
    ],
)
def test_what_a_signature_is_worth(found: Sequence[Attestation], worth: Standing) -> None:
    assert standing(mail('a@x', 'Re: x', more=SIGNATURE), found) == worth


def test_a_domain_above_signs_too() -> None:
    sent = mail('a@x', 'Re: x', more=SIGNATURE, author='a@mail.example.org')
    assert standing(sent, [dkim('example.org', 'pass')]) == 'pass'
    sent = mail('a@x', 'Re: x', more=SIGNATURE, author='a@evil-example.org')
    assert standing(sent, [dkim('example.org', 'pass')]) == 'unsigned'


@pytest.mark.parametrize(
    'more',
    [
        f'X-Original-From: {BY}\n{SIGNATURE}',  # anybody at the same host may write that
        f'From: Other <other@example.org>\n{SIGNATURE}',
    ],
)
def test_it_is_the_from_line_that_is_signed(more: str) -> None:
    author = 'Other <other@example.org>' if more.startswith('X-') else BY
    sent = mail('a@x', 'Re: x', more=more, author=author)
    assert sent.author.email == BY
    assert standing(sent, [dkim('example.org', 'pass')]) == 'unsigned'


def test_a_signature_in_the_body_is_none() -> None:
    assert standing(mail('a@x', 'Re: x', f'{SIGNATURE}\n'), []) == 'unsigned'
