"""What `bot doctor` shows: a line for each part, and how to mend it. Pure."""

import io
import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Console
from rich.text import Text

from bot.plain import one_line

Level = Literal['ok', 'off', 'warning', 'error']
COLOURS = {'ok': 'green', 'off': 'dim', 'warning': 'yellow', 'error': 'bold red'}


@dataclass(frozen=True)
class Part:
    """A part that the bot relies on. `off`: it is not configured. `mend` says what to do."""

    name: str
    level: Level
    text: str
    mend: str = ''


def render(parts: Sequence[Part], width: int, *, colour: bool) -> str:
    """Return the parts as lines, and at last how many are wrong."""
    buffer = io.StringIO()
    console = Console(
        file=buffer, width=max(width, 40), highlight=False, markup=False, emoji=False,
        force_terminal=colour, color_system='standard' if colour else None,
    )  # fmt: skip
    column = max((len(one.name) for one in parts), default=0)
    for one in parts:
        lines = _wrapped(one.text, width - column - 11)
        if one.mend and one.level in ('warning', 'error'):
            lines.append(f'→ {one_line(one.mend, 500)}')
        for number, line in enumerate(lines):
            shown = Text()
            shown.append(f'{one.level if not number else "":<9}', COLOURS[one.level])
            shown.append(f'{one.name if not number else "":<{column}}  {line}')
            console.print(shown, soft_wrap=True)
    counts = {level: sum(one.level == level for one in parts) for level in COLOURS}
    console.print(f'\n{_many(counts["error"], "error")}, {_many(counts["warning"], "warning")}')
    return ''.join(f'{line.rstrip()}\n' for line in buffer.getvalue().splitlines())


def as_json(parts: Sequence[Part]) -> str:
    """Return the parts, one object a line."""
    return ''.join(
        json.dumps({**asdict(one), 'text': one_line(one.text, 500)}, ensure_ascii=False) + '\n'
        for one in parts
    )


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(one_line(text, 500), max(width, 20), break_on_hyphens=False) or ['']


def _many(count: int, what: str) -> str:
    return f'{count} {what}{"" if count == 1 else "s"}'
