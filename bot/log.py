"""
Logs: one line an event on stderr, for people, or as JSON.

On a terminal, and wherever else nobody asks for more, an event is its sentence.
Where systemd has connected stderr to its journal, or with `--log json`, it is
an object: `time`, `level`, `event`, `text` (the sentence), and the event's own
values. No mail's body and no secret is ever among those (`events.py`).

The journal also gets each line's priority, so that `journalctl -p warning` works.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from bot.events import EVENTS, Level, Tell, cleaned, sentence

Format = Literal['auto', 'text', 'json']
# As syslog and the journal number them, and as Python's own logging does.
PRIORITIES = {'debug': 7, 'info': 6, 'warning': 4, 'error': 3}
NUMBERS = {'debug': 10, 'info': 20, 'warning': 30, 'error': 40}


@dataclass(frozen=True)
class Log:
    """
    Writes events from `level` on. It may be handed to other processes.

    `journal`: with systemd's priority before each line.
    """

    json: bool = False
    level: Level = 'info'
    journal: bool = False

    def __call__(self, event: str, /, **values: object) -> None:
        """Write one event."""
        level = EVENTS[event].level
        logger = structlog.wrap_logger(
            structlog.WriteLogger(sys.stderr),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt='iso', utc=True, key='time'),
                self._rendered,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(self.level),
        )
        # A log that can't be written (no space, nobody reads it) stops nothing.
        with contextlib.suppress(OSError, ValueError):
            logger.log(NUMBERS[level], event, values=values)

    def _rendered(self, _: Any, __: str, said: MutableMapping[str, Any]) -> str:
        text = sentence(said['event'], said['values'])
        if not self.json:
            return f'bot: {text}'
        values = {name: cleaned(value) for name, value in said['values'].items()}
        whole = {
            'time': said['time'], 'level': said['level'], 'event': said['event'],
            'text': text, **values,
        }  # fmt: skip
        line = json.dumps(whole, ensure_ascii=False)
        return f'<{PRIORITIES[said["level"]]}>{line}' if self.journal else line


def chosen(form: Format, level: Level, *, verbose: bool = False, quiet: bool = False) -> Log:
    """Return the log of a form and a level; -v and -q count for more than `level`."""
    level = 'debug' if verbose else 'warning' if quiet else level
    journal = _is_journal()
    as_json = journal if form == 'auto' else form == 'json'
    return Log(as_json, level, journal and as_json)


def _is_journal() -> bool:
    """Whether stderr is the journal: systemd says which file that is, since others inherit it."""
    said = os.environ.get('JOURNAL_STREAM', '')
    try:
        there = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return said == f'{there.st_dev}:{there.st_ino}'


_KEPT: list[Log] = []


def keep(log: Log) -> Log:
    """Have the program's own end be said by this log too."""
    _KEPT[:] = [log]
    return log


def now() -> Log:
    """Return the log that was kept last; before any, one for people."""
    return _KEPT[-1] if _KEPT else Log()


class _Library(logging.Handler):
    """What libraries warn of, as events."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        reason = record.getMessage() + (f': {error}' if error is not None else '')
        self._tell('library', logger=record.name, reason=reason)


def take_over(tell: Tell) -> None:
    """Tell what libraries warn of in the same form."""
    root = logging.getLogger()
    for one in root.handlers[:]:
        if isinstance(one, _Library):
            root.removeHandler(one)
    root.addHandler(_Library(tell))
