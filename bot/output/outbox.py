"""What `bot outbox` shows: a table of mails, and one of them whole. Pure."""

import io
import textwrap
from collections.abc import Sequence
from email.utils import formatdate

from rich.console import Console
from rich.table import Table

from bot.outgoing import Outgoing
from bot.plain import one_line, plain

COLUMNS = ('id', 'state', 'since', 'to', 'subject', 'why')
NARROW = 120
"""Columns of a terminal that the table wants; in fewer, each mail has some lines of its own."""


def listing(mails: Sequence[Outgoing], width: int) -> str:
    """Return the mails as a table, or a line that says there are none."""
    if not mails:
        return 'no mails\n'
    if width < NARROW:
        return ''.join(_lines(one, width) for one in mails)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in COLUMNS:
        table.add_column(column, no_wrap=column != 'why', overflow='ellipsis')
    for one in mails:
        table.add_row(
            str(one.id), one.state, _time(one.since), one_line(one.author, 40),
            one_line(one.subject, 70), one_line(one.why, 200),
        )  # fmt: skip
    buffer = io.StringIO()
    Console(file=buffer, width=width, highlight=False, markup=False, emoji=False).print(table)
    return ''.join(f'{line.rstrip()}\n' for line in buffer.getvalue().splitlines())


def _lines(mail: Outgoing, width: int) -> str:
    first = f'{mail.id:<4}{mail.state:<9} {_time(mail.since)}  {one_line(mail.author, 60)}'
    said = [one_line(mail.subject, 200), *textwrap.wrap(one_line(mail.why, 400), width - 4)]
    return '\n'.join([_cut(first, width), *(_cut(f'    {line}', width) for line in said)]) + '\n'


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f'{line[: width - 1]}…'


def whole(mail: Outgoing) -> str:
    """Return a mail as it will go, below what is known of it."""
    lines = [f'mail {mail.id}: {mail.state} since {_time(mail.since)}: {one_line(mail.why, 500)}']
    lines.append(f'goes to: {", ".join(mail.recipients)}')
    lines += [f'refused: {address}: {one_line(why)}' for address, why in mail.refused.items()]
    text = '\n'.join(plain(line, 2000) for line in mail.raw.decode('utf-8', 'replace').split('\n'))
    return '\n'.join(lines) + f'\n\n{text}'


def _time(seconds: int) -> str:
    return formatdate(seconds)[5:22]
