"""What several commands share: options, exit codes, how wide a report is."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bot import log as logs
from bot.config import load

CLEAN, FINDINGS, USAGE, NOT_CHECKED, INTERRUPTED = 0, 1, 2, 3, 130

configured = click.option('--config', type=click.Path(path_type=Path), help='Configuration file.')


def terminal() -> tuple[int, bool]:
    """How wide a report is, and whether it has colour."""
    terminal = sys.stdout.isatty()
    width = Console().width if terminal else 100
    return min(width, 120), terminal and not os.environ.get('NO_COLOR')


def table_width() -> int:
    """How wide a table is: as the terminal; as it will for a program."""
    return Console().width if sys.stdout.isatty() else 1000


def fail(message: str, code: int) -> int:
    """Say what went wrong, in a line on stderr; the exit code."""
    logs.now()('failed', reason=message)
    return code


def write(text: str) -> None:
    """Write what programs read: UTF-8, whatever the locale."""
    sys.stdout.buffer.write(text.encode())


def service(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command of the service its options: it gets a configuration, and a log."""

    @functools.wraps(command)
    def logging(config: Path | None, log: logs.Format | None, *, verbose: bool, quiet: bool,
                **given: Any) -> int:  # fmt: skip
        found = load(config)
        form = found.log_format if log is None else log
        kept = logs.keep(logs.chosen(form, found.log_level, verbose=verbose, quiet=quiet))
        return command(found, kept, **given)

    served: Callable[..., int] = logging
    for option in reversed(
        (
            configured,
            click.option('--once', is_flag=True, help='Do what there is to do, and end.'),
            click.option('--log', type=click.Choice(['auto', 'text', 'json']),
                         help='What is said on stderr: for people, or one object a line.'),
            click.option('-v', '--verbose', is_flag=True, help='Say more.'),
            click.option('-q', '--quiet', is_flag=True, help='Say what goes wrong alone.'),
        )
    ):  # fmt: skip
        served = option(served)
    return served
