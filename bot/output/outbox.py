"""What `bot outbox` shows: a table of mails, and one of them whole. Pure."""

import io
from collections.abc import Sequence
from email.utils import formatdate

from rich.console import Console
from rich.table import Table

from bot.outgoing import Outgoing
from bot.plain import one_line, plain

COLUMNS = ('id', 'state', 'since', 'to', 'subject', 'why')


def listing(mails: Sequence[Outgoing], width: int) -> str:
    """Return the mails as a table, or a line that says there are none."""
    if not mails:
        return 'no mails\n'
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


def whole(mail: Outgoing) -> str:
    """Return a mail as it will go, below what is known of it."""
    lines = [f'mail {mail.id}: {mail.state} since {_time(mail.since)}: {one_line(mail.why, 500)}']
    lines.append(f'goes to: {", ".join(mail.recipients)}')
    lines += [f'refused: {address}: {one_line(why)}' for address, why in mail.refused.items()]
    text = '\n'.join(plain(line, 2000) for line in mail.raw.decode('utf-8', 'replace').split('\n'))
    return '\n'.join(lines) + f'\n\n{text}'


def _time(seconds: int) -> str:
    return formatdate(seconds)[5:22]
