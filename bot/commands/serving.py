"""`bot watch`, `work`, `run`, `send` and `status`: what runs for ever, and where it stands."""

from pathlib import Path

import click

from bot import service as services
from bot.commands.common import CLEAN, configured, service
from bot.commands.maintenance import warn
from bot.config import Config, load
from bot.log import Log


@click.command()
@service
def watch(config: Config, log: Log, once: bool) -> int:
    """Watch the configured lists: keep each series that matters, whole, to be judged."""
    services.watch(config, log, once=once)
    return CLEAN


@click.command()
@service
@click.option('--parked', is_flag=True, help='Try what is parked anew: its cause was mended.')
def work(config: Config, log: Log, once: bool, parked: bool) -> int:
    """
    Judge the series that were kept, one review each.

    On SQLite one of these at a time; on PostgreSQL any number, on any number
    of machines.
    """
    services.work(config, log, once=once, parked=parked)
    return CLEAN


@click.command()
@service
def run(config: Config, log: Log, once: bool) -> int:
    """Watch and work in one process, for a laptop."""
    services.run(config, log, once=once)
    return CLEAN


@click.command()
@service
def send(config: Config, log: Log, once: bool) -> int:
    """
    Send the mails that are ready to go.

    One process at a time. Nothing is sent twice: a mail of which nobody knows
    whether it went is looked up in the archive, and else left to a human.
    """
    services.send(config, log, once=once)
    return CLEAN


@click.command()
@configured
@click.option('--json', 'as_json', is_flag=True, help='One object a line.')
@click.option('--unread', is_flag=True, help='List the mails that could not be read, and why.')
def status(config: Path | None, as_json: bool, unread: bool) -> int:
    """List the series: state, since when, and why."""
    found = load(config)
    warn(found)
    show = services.unread if unread else services.status
    print(show(found, as_json=as_json), end='')
    return CLEAN
