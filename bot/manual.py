"""
The manual page, bot(1): the same text as `--help` has, as troff.

    python -m bot.manual >docs/bot.1

Every command and option comes from click, so that none can be forgotten; what
a page has besides (files, environment, examples) stands here.
"""

import inspect
import re
import sys
from collections.abc import Iterator

import click

from bot import __version__
from bot.cli import bot

SECTIONS = {
    'EXIT STATUS': """
        0: Clean: no finding at or above --fail-on.
        1: Findings at or above --fail-on.
        2: Wrong usage or configuration; the line on standard error says what, and where.
        3: Could not check: the series does not apply or is incomplete, there is no base, an archive
           or a database does not answer, a build could not run.
        130: Interrupted.
    """,
    'ENVIRONMENT': """
        VMA_BOT_CONFIG: The configuration file, where --config names none.
        XDG_CONFIG_HOME: Where the configuration is looked for; default: ~/.config.
        XDG_STATE_HOME: Where the database and the mirrors of lists are kept, unless [state] url
            says otherwise; default: ~/.local/state.
        XDG_CACHE_HOME: Where what can be made again is kept, unless [state] cache says otherwise;
            default: ~/.cache.
        TMPDIR: Where temporary folders are made; each is removed at the end.
        NO_COLOR: Set to anything: no colour.
        EDITOR: What bot outbox edit starts.
        NOTIFY_SOCKET, WATCHDOG_USEC: Set by systemd, which is told that a service is ready, alive,
            and stopping.
    """,
    'FILES': """
        /etc/vma-review-bot/config.toml: The configuration, where neither --config nor
            VMA_BOT_CONFIG names one and the user has none. It is never taken from the working
            directory or a kernel tree. The commented sample comes with the package.
        ~/.config/vma-review-bot/config.toml: The user's own, in its place.
        ~/.local/state/vma-review-bot/: state.db (the database), mirror/ (the lists), and STOP:
            while that file is there, nothing is sent.
        ~/.cache/vma-review-bot/: Results of builds, threads, objects. It may be removed at any
            time.
        /var/lib/vma-review-bot/, /var/cache/vma-review-bot/: The same for the services of the
            Debian package.
    """,
    'EXAMPLES': """
        bot check 20260320.1@example.org: A series of a list, by its message-id, in a kernel tree.
        bot check HEAD~3..: Your own commits, before you send them.
        bot gate --hook pre-push "$@": In .git/hooks/pre-push: what is about to be pushed.
        bot outbox show 7: A mail that waits for approval.
    """,
}


def page() -> str:
    """Return the page."""
    lines = [
        f'.TH BOT 1 "" "vma-review-bot {__version__}" "User Commands"',
        '.SH NAME',
        r'bot \- ' + _plain(_summary(bot)),
        '.SH SYNOPSIS',
        '.B bot',
        r'.RI [ OPTIONS ] " COMMAND " [ ARGUMENTS ]\|.\|.\|.',
        '.SH DESCRIPTION',
        'Applies a series in memory, runs rules that know mmap_prepare, struct vm_area_desc and',
        'the copies in the VMA tests, builds and runs tools/testing/vma for every patch in a',
        'sandbox, and says what the series breaks, and at which patch. What was wrong before is',
        'not reported. Your repository is only ever read.',
        '.PP',
        'Results go to standard output, progress and logs to standard error.',
    ]
    context = click.Context(bot, info_name='bot')
    lines += _options(bot, context)
    lines.append('.SH COMMANDS')
    for command, words in _commands(bot, context):
        lines += _command(command, words)
    for title, text in SECTIONS.items():
        lines.append(f'.SH {title}')
        for name, said in _entries(text):
            lines += ['.TP', f'.B {_plain(name)}', _plain(said)]
    lines += ['.SH SEE ALSO', r'.BR git\-send\-email (1),', '.BR bwrap (1),', '.BR systemd (1)']
    return '\n'.join(lines) + '\n'


def _commands(
    group: click.Group, context: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    """Yield all commands, those of groups after them."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        if command.hidden:
            continue
        yield command, inner
        if isinstance(command, click.Group):
            yield from _commands(command, inner)


def _command(command: click.Command, context: click.Context) -> list[str]:
    pieces = command.collect_usage_pieces(context)
    lines = [f'.SS {_plain(" ".join([context.command_path, *pieces]))}']
    text = inspect.cleandoc(command.help or '')
    for number, paragraph in enumerate(re.split(r'\n\s*\n', text)):
        if number:
            lines.append('.PP')
        lines.append(_plain(' '.join(paragraph.replace('\b', '').split())))
    return lines + _options(command, context)


def _options(command: click.Command, context: click.Context) -> list[str]:
    lines = []
    for one in command.params:
        record = one.get_help_record(context) if isinstance(one, click.Option) else None
        if record is not None:
            lines += ['.TP', f'.B {_plain(record[0])}', _plain(record[1]) or r'\&']
    return lines


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """Yield `name: what it is` of a section; what is indented further goes on."""
    for entry in re.split(r'\n(?! )', inspect.cleandoc(text)):
        name, _, said = entry.partition(': ')
        yield name, ' '.join(said.split())


def _summary(command: click.Command) -> str:
    first = inspect.cleandoc(command.help or '').split('\n\n')[0]
    text = ' '.join(first.split()).rstrip('.')
    return text[:1].lower() + text[1:]


def _plain(text: str) -> str:
    """Say a text in troff, as it is."""
    text = text.replace('\\', r'\e').replace('-', r'\-').replace('~', r'\(ti').replace('^', r'\(ha')
    text = text.replace('`', '').replace("'", r'\(aq').replace('"', r'\(dq')
    text = ''.join(one if one.isascii() else f'\\[u{ord(one):04X}]' for one in text)
    return re.sub(r'^(?=\.)', r'\\&', text, flags=re.M)


if __name__ == '__main__':
    sys.stdout.write(page())
