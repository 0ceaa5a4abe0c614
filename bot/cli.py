"""
The command line: arguments in, reports on stdout, an exit code.

Every error of its user's is one line on stderr; exit codes are those of DESIGN:
0 clean, 1 findings, 2 wrong usage or configuration, 3 could not check, 130
interrupted. The commands themselves are in `commands/`; a command's module is
imported when it is called for, so that `bot check` waits for no database.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click

from bot import __version__, files
from bot.commands.common import CLEAN, INTERRUPTED, NOT_CHECKED, USAGE, fail
from bot.errors import BotError, ConfigError, RuleLoadError, UsageError

WHERE = {
    'check': 'judging', 'gate': 'judging', 'rules': 'rules',
    'watch': 'serving', 'work': 'serving', 'run': 'serving', 'send': 'serving',
    'status': 'serving', 'outbox': 'outbox', 'orders': 'orders',
    'doctor': 'machine', 'tree': 'machine',
    'pause': 'maintenance', 'resume': 'maintenance', 'prune': 'maintenance',
    'backup': 'maintenance', 'restore': 'maintenance',
}  # fmt: skip


class Commands(click.Group):
    """Commands by name, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name them, in the order of the alphabet."""
        return sorted(WHERE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one; None where there is none of that name."""
        if cmd_name not in WHERE:
            return None
        found: click.Command = getattr(import_module(f'bot.commands.{WHERE[cmd_name]}'), cmd_name)
        return found


@click.command(cls=Commands, context_settings={'help_option_names': ['-h', '--help']})
@click.version_option(__version__, prog_name='bot')
def bot() -> None:
    """Review kernel patch series that touch the VMA code."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; its exit code."""
    files.keep_private()
    try:
        code = bot.main(
            args=list(arguments) if arguments is not None else None,
            prog_name='bot',
            standalone_mode=False,
        )
        sys.stdout.flush()
    except (UsageError, ConfigError, RuleLoadError) as error:
        return fail(str(error), USAGE)
    except BotError as error:
        return fail(str(error), NOT_CHECKED)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return USAGE
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else 'bot'
        return fail(f'{error.format_message()} (see {where} --help)', USAGE)
    except (KeyboardInterrupt, click.exceptions.Abort):
        return fail('interrupted', INTERRUPTED)
    except BrokenPipeError:
        # The reader of stdout has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_CHECKED
    except OSError as error:
        name = f'{error.filename}: ' if error.filename else ''
        return fail(f'{name}{error.strerror or error}', NOT_CHECKED)
    except Exception as error:  # noqa: BLE001  # ours; python's own exit code would say "findings"
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = f'{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})'
        return fail(f'a fault of the bot itself, please report it: {said}', NOT_CHECKED)
    return code if isinstance(code, int) else CLEAN
