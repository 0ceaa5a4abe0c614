"""`bot orders`: what people on the list told the bot, and nobody can vouch for."""

from collections.abc import Callable
from pathlib import Path

import click

from bot.commands.common import CLEAN, configured
from bot.config import load
from bot.errors import UsageError
from bot.service import orders_of, store_of


@click.group()
def orders() -> None:
    """Look at the orders from the list that were not obeyed, and say which are to be."""


def of_orders(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the orders that it is about."""
    command = configured(command)
    return click.argument('ids', metavar='ID…', nargs=-1, required=True, type=int)(command)


@orders.command('list')
@configured
def list_orders(config: Path | None) -> int:
    """List the orders that were not obeyed: id, state, and why."""
    with store_of(load(config)) as store:
        print(orders_of(store.said()), end='')
    return CLEAN


@orders.command()
@of_orders
def honour(ids: tuple[int, ...], config: Path | None) -> int:
    """Obey orders: you know that they are from whom they say."""
    with store_of(load(config)) as store:
        for number in ids:
            if not store.honour(number):
                raise UsageError(f'there is no order {number} to obey: see bot orders list')
            print(f'order {number}: honoured')
    return CLEAN


@orders.command()
@of_orders
def refuse(ids: tuple[int, ...], config: Path | None) -> int:
    """Turn orders down."""
    with store_of(load(config)) as store:
        for number in ids:
            if not store.refuse(number):
                raise UsageError(f'there is no order {number} to turn down: see bot orders list')
            print(f'order {number}: refused')
    return CLEAN
