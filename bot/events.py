"""
What a running bot tells: the name of each event, how grave it is, and its sentence. Pure.

One table for the logs (`log.py`), the metrics (`metrics.py`) and the tests. Who
tells an event gives its values by name; the sentence, for people, shows some of
them. A stranger wrote some of the values: here they are made plain, and short.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from bot.plain import one_line
from bot.shown import shown

Level = Literal['debug', 'info', 'warning', 'error']
LEVELS: tuple[Level, ...] = ('debug', 'info', 'warning', 'error')
LONGEST = 600
"""Characters of one value."""
MOST = 100
"""Values of a list that are kept."""


class Tell(Protocol):
    """Takes what happens: an event's name, and its values."""

    def __call__(self, event: str, /, **values: object) -> None:
        """Tell an event."""


@dataclass(frozen=True)
class Kind:
    """One kind of event. `reason`: its sentence ends with the value of that name, if any."""

    level: Level
    sentence: str
    reason: bool = False


EVENTS: Mapping[str, Kind] = {
    'started': Kind('info', '{command}: started, version {version}'),
    'metrics': Kind('debug', 'metrics: {where}'),
    'failed': Kind('error', '{reason}'),
    'trying-again': Kind('warning', '{reason}: trying again'),
    'clock-jumped': Kind(
        'warning',
        'the clock jumped by {seconds} s: not believed unless it lasts for an hour',
    ),
    'library': Kind('warning', '{logger}: {reason}'),
    # watching
    'polled': Kind(
        'debug',
        '{list}: {mails} mails seen, {new} of them matter, {unread} not read, {seconds} s',
    ),
    'passed-over': Kind(
        'warning', '{list}: {unread} mails could not be read (bot status --unread shows them)'
    ),
    'lookup-failed': Kind(
        'warning', 'series {series}: its prerequisites can not be looked up: {reason}'
    ),
    'news': Kind('info', '{list}: {new} mails that matter'),
    'poll-failed': Kind('warning', '{list}: {reason}'),
    'epoch-gone': Kind('warning', '{list}/{epoch}: the archive no longer offers this epoch'),
    'archive': Kind('warning', '{reason}'),
    # judging
    'judging': Kind('info', 'series {series}: judging "{title}" v{revision}'),
    'step': Kind('debug', 'series {series}: {what}'),
    'building': Kind('debug', 'series {series}: {harness}: building (patch {patch}/{of})'),
    'going': Kind('debug', 'series {series}: {harness}: a build goes on'),
    'note': Kind('warning', 'series {series}: {harness}: {reason}'),
    'judged': Kind('info', 'series {series}: {verdict}, {findings} findings, {seconds} s'),
    'incomplete': Kind('info', 'series {series}: {reason}'),
    'judged-twice': Kind('info', 'series {series}: a review is there already; this one is dropped'),
    'does-not-apply': Kind('info', 'series {series}: {reason}'),
    'try-failed': Kind('warning', 'series {series}: try {tries} failed: {reason}'),
    'could-not-run': Kind(
        'warning', 'series {series}: kept without a build, after {tries} tries: {reason}'
    ),
    'process-died': Kind('warning', 'series {series}: the process that judged it died'),
    'unparked': Kind('info', '{count} series are tried anew'),
    # sending
    'in-doubt': Kind('warning', 'mail {mail}: may have gone or not: asking the archive'),
    'no-answer': Kind(
        'warning', 'mail {mail}: the archive does not say whether it is there: {reason}'
    ),
    'found': Kind('info', 'mail {mail}: the archive has it'),
    'given-up': Kind('warning', 'mail {mail}: held: the archive does not have it'),
    'stopped': Kind('warning', 'stopped: the stop file is there'),
    'unsendable': Kind('warning', 'mail {mail}: can not be sent: {reason}'),
    'withheld': Kind('info', 'mail {mail}: not sent: {reason}'),
    'sent': Kind('info', 'mail {mail} to {author}: {state}', reason=True),
    'not-sent': Kind('warning', 'mail {mail} to {author}: {state}', reason=True),
}


def sentence(event: str, values: Mapping[str, object]) -> str:
    """Say an event in words. Raises `KeyError`: no such event, or a value is missing."""
    kind = EVENTS[event]
    said = {name: cleaned(value) for name, value in values.items()}
    end = f' ({said["reason"]})' if kind.reason and said.get('reason') else ''
    return one_line(kind.sentence.format_map(said), 2 * LONGEST) + end


def cleaned(value: object) -> object:
    """Make all text in a value plain and short; lists and mappings are gone through."""
    match value:
        case str():
            return one_line(shown(value), LONGEST)  # before it is cut: a password may have no end
        case bool() | int() | float() | None:
            return value
        case dict():
            return {one_line(str(name), 100): cleaned(one) for name, one in value.items()}
        case list() | tuple():
            return [cleaned(one) for one in value[:MOST]]
        case _:
            return one_line(shown(str(value)), LONGEST)
