"""`bot pause`, `resume`, `prune`, `backup` and `restore`: what an operator does now and then."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from bot.brake import Stop, pull, pulled, release
from bot.commands.common import configured
from bot.config import Config, load
from bot.harness.results import prune as prune_cache
from bot.plain import one_line
from bot.store import Store
from bot.store import backup as copies
from bot.store.database import opened

DUMP = 'pg_dump --format=custom, and pg_restore'
forced = click.option('--force', is_flag=True, help='Also where there is one already.')


@click.command()
@click.option('--reason', default='', help='Why; bot status shows it.')
@configured
def pause(reason: str, config: Path | None) -> int:
    """
    Stop all mails at once, until bot resume.

    Series are watched and judged as before; their mails wait.
    """
    path = load(config).stop_file
    made = pull(path, reason, time.time())
    if made is None:
        print(f'already {notice(path)}')
    else:
        print(f'paused: nothing is sent until bot resume ({path})')
    return 0


@click.command()
@configured
def resume(config: Path | None) -> int:
    """Let mails go again after bot pause."""
    path = load(config).stop_file
    before = pulled(path)
    if release(path) and before is not None:
        print(f'resumed; it was {_said(before)}')
    else:
        print(f'was not paused: there is no {path}')
    return 0


def notice(path: Path) -> str | None:
    """Return a line that says that nothing is sent, and why; None where mails may go."""
    stop = pulled(path)
    return None if stop is None else f'{_said(stop)}: nothing is sent until bot resume'


def warn(config: Config) -> None:
    """Say on stderr that nothing is sent, where that is so."""
    said = notice(config.stop_file)
    if said is not None:
        print(f'bot: {said}', file=sys.stderr, flush=True)


def _said(stop: Stop) -> str:
    when = datetime.fromtimestamp(stop.since, UTC).strftime('%Y-%m-%d %H:%M')
    why = f' ({one_line(stop.reason, 300)})' if stop.reason else ''
    return f'paused since {when} UTC by {stop.by}{why}'


@click.command()
@configured
def prune(config: Path | None) -> int:
    """
    Forget what is old, as bot watch does with each poll, and say what went.

    Series that nothing has happened to for `[state] keep`, with their mails,
    reviews and replies; and of the cache what was not used for longest, down
    to four fifths of `[state] cache_size` where it holds more.
    """
    settings = load(config)
    store = Store(opened(settings.url), time.time)
    try:
        gone = store.prune(settings.keep)
    finally:
        store.close()
    print(f'database: {gone} mails of series older than {_days(settings.keep)} went')
    files, size = prune_cache(settings.cache, settings.cache_size)
    print(f'cache: {files} files, {_megabytes(size)} went')
    return 0


@click.command()
@click.argument('file', type=click.Path(path_type=Path))
@forced
@configured
def backup(file: Path, force: bool, config: Path | None) -> int:
    """
    Copy the database to FILE, whatever runs meanwhile.

    The copy is one moment's, one file, and readable by its owner alone: it
    holds mails and addresses. PostgreSQL has pg_dump.
    """
    database = copies.file_of(load(config).url, DUMP)
    size = copies.backup(database, file, force=force)
    print(f'{file}: {_megabytes(size)}')
    return 0


@click.command()
@click.argument('file', type=click.Path(path_type=Path))
@forced
@configured
def restore(file: Path, force: bool, config: Path | None) -> int:
    """
    Put the copy FILE in the database's place.

    The copy has to be sound, and no bot may run on the database. What came
    since the copy was made is fetched and judged again, but nothing that was
    posted before now is mailed about: nobody knows what went since the copy.
    """
    database = copies.file_of(load(config).url, DUMP)
    moved = copies.restore(file, database, force=force, now=time.time())
    if moved is not None:
        print(f'{database}: was damaged, and is now {moved}')
    print(f'{database}: restored from {file}')
    return 0


def _days(seconds: float) -> str:
    return f'{seconds / 86400:g} days'


def _megabytes(size: int) -> str:
    return f'{size / (1 << 20):.1f} MB'
