"""`bot outbox`: the mails that wait for a human's word."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

from bot.commands.common import CLEAN, configured, table_width
from bot.commands.maintenance import warn
from bot.config import load
from bot.errors import UsageError
from bot.mail import unfit
from bot.outgoing import Outgoing
from bot.output import outbox as outbox_output
from bot.service import store_of
from bot.store import Store

WAITING = ('held', 'ready', 'claimed', 'unsure', 'failed')


@click.group()
def outbox() -> None:
    """Look at the mails that the bot would send, and say which may go."""


def of_outbox(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the mails that it is about."""
    command = configured(command)
    return click.argument('ids', metavar='ID…', nargs=-1, required=True, type=int)(command)


@outbox.command('list')
@click.option('--all', 'every', is_flag=True, help='Also those that are done with.')
@configured
def list_mails(every: bool, config: Path | None) -> int:
    """List the mails that wait: id, state, and why."""
    found = load(config)
    with store_of(found) as store:
        mails = store.outbox.rows(() if every else WAITING)
    warn(found)
    print(outbox_output.listing(mails, table_width()), end='')
    return CLEAN


@outbox.command()
@of_outbox
def show(ids: tuple[int, ...], config: Path | None) -> int:
    """Show mails whole, as they will go."""
    with store_of(load(config)) as store:
        for mail in _mails(store, ids):
            print(outbox_output.whole(mail))
    return CLEAN


@outbox.command()
@of_outbox
def edit(ids: tuple[int, ...], config: Path | None) -> int:
    """Edit what held mails say, in $EDITOR; their headers stay."""
    with store_of(load(config)) as store:
        for mail in _mails(store, ids):
            if mail.state != 'held':
                raise UsageError(f'mail {mail.id} is {mail.state}: only a held one can be edited')
            head, _, body = mail.raw.partition(b'\n\n')
            before = body.decode('utf-8', 'replace')
            try:
                text = click.edit(before, extension='.eml')
            except click.ClickException as error:
                raise UsageError(f'mail {mail.id}: as it was: {error.message}') from error
            if text is None or text == before or not text.strip():
                print(f'mail {mail.id}: as it was')
                continue
            raw = head + b'\n\n' + text.rstrip('\n').encode('utf-8', 'replace') + b'\n'
            if reason := unfit(raw, head.count(b'\n') + 2):
                raise UsageError(f'mail {mail.id}: as it was: {reason}')
            if not store.outbox.edit(mail.id, raw):
                raise UsageError(f'mail {mail.id}: as it was: it is no longer held')
            print(f'mail {mail.id}: changed')
    return CLEAN


@outbox.command()
@of_outbox
def approve(ids: tuple[int, ...], config: Path | None) -> int:
    """Let held mails go."""
    with store_of(load(config)) as store:
        for mail in _mails(store, ids):
            if not store.outbox.approve(mail.id):
                raise UsageError(f'mail {mail.id} is {mail.state}: it can not be approved')
            print(f'mail {mail.id}: ready')
    return CLEAN


@outbox.command()
@of_outbox
@click.option('--reason', required=True, help='Why; it is kept.')
def reject(ids: tuple[int, ...], config: Path | None, reason: str) -> int:
    """Turn mails down."""
    with store_of(load(config)) as store:
        for mail in _mails(store, ids):
            if not store.outbox.reject(mail.id, reason):
                raise UsageError(f'mail {mail.id} is {mail.state}: it can not be turned down')
            print(f'mail {mail.id}: rejected')
    return CLEAN


def _mails(store: Store, ids: Sequence[int]) -> Iterator[Outgoing]:
    for number in ids:
        mail = store.outbox.get(number)
        if mail is None:
            raise UsageError(f'there is no mail {number}: see bot outbox list')
        yield mail
