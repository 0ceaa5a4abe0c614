"""
Outgoing mail, as values: what policy, replies, the store and the sender pass on.

Addresses are lower case where they are compared (`opt_out`, `lists`, …), and
as they were written where they are mailed to. Times are seconds since 1970.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bot.lifecycle import Attested
from bot.model import Severity

Mode = Literal['off', 'hold', 'send']
"""Nothing is composed; a human approves each mail; they go by themselves."""

DAY = 86_400.0


@dataclass(frozen=True)
class ListPolicy:
    """What `[[mail.policy]]` says of the lists that the glob `list` fits. None: as `[mail]`."""

    list: str
    mode: Mode | None = None
    severity: Severity | None = None
    embargo: float | None = None
    daily: int | None = None


@dataclass(frozen=True)
class Policy:
    """
    What may be mailed, and to whom: `[mail]`.

    `address` is the bot's own; without it nothing is mailed. `lists` are those
    that consented. `recipients`: the author alone, or the thread's people and
    consented lists. `embargo` is how long humans go first, `max_age` how old a
    series may be, in seconds. `per_list` and `per_author` are mails in 24
    hours. `opt_out` and `bots` are globs of addresses.
    """

    mode: Mode = 'hold'
    address: str = ''
    lists: tuple[str, ...] = ()
    recipients: Literal['author', 'thread'] = 'thread'
    severity: Severity = Severity.WARNING
    embargo: float = 0.0
    max_age: float = 3 * DAY
    per_list: int = 20
    per_author: int = 5
    opt_out: tuple[str, ...] = ()
    bots: tuple[str, ...] = ()
    by_list: tuple[ListPolicy, ...] = ()


@dataclass(frozen=True)
class Letterhead:
    """
    What every mail of ours has: who it is from, where a human reads answers.

    `documentation` is an address (URL), `contact` a person or list. `templates`
    are Jinja2 texts by name (`patch`, `summary`, `signature`).
    """

    address: str = ''
    name: str = 'VMA review bot'
    reply_to: str = ''
    documentation: str = ''
    contact: str = ''
    templates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Smtp:
    """
    The server that takes our mail. Without `host` nothing can be sent.

    `encryption` as git's sendemail.smtpEncryption: 'tls' is STARTTLS, 'ssl'
    TLS from the start. The password is read when it is needed, from a file, a
    command's output, or git's credential helpers; `password` itself is there
    only where git's configuration has it. `ca_file` may be a folder. `timeout`
    is for each answer of the server, seconds. `envelope` is the sender that
    bounces go to; '' for the bot's own address. `hello` is the name given at
    EHLO; '' for the domain of the sender.
    """

    host: str = ''
    port: int = 25
    encryption: Literal['none', 'tls', 'ssl'] = 'none'
    user: str = ''
    password_file: str = ''
    password_command: str = ''
    password: str = field(default='', repr=False)
    git_credentials: bool = False
    ca_file: str = ''
    timeout: float = 60.0
    envelope: str = ''
    hello: str = ''


@dataclass(frozen=True)
class Asked:
    """A finding that a mail of ours spoke of; `revision` is that of the series."""

    revision: int
    fingerprint: str
    rule: str
    path: str | None
    symbol: str | None


@dataclass(frozen=True)
class Reply:
    """
    One mail of ours, whole.

    `n` is the patch that it answers (0: the series), `parent` the message-id
    that it answers, `recipients` all envelope addresses, `lists` the consented
    lists among them. `raw` has line feeds alone.
    """

    n: int
    msgid: str
    parent: str
    subject: str
    recipients: tuple[str, ...]
    lists: tuple[str, ...]
    raw: bytes
    asked: tuple[Asked, ...] = ()


@dataclass(frozen=True)
class Outgoing:
    """
    A reply as the store keeps it, and how far it got.

    `author` is the address that it answers; `refused` are recipients that the
    server did not take, and why. `broken` says why its row can't be read: it has no
    recipients then.
    """

    id: int
    series: int
    n: int
    msgid: str
    author: str
    subject: str
    recipients: tuple[str, ...]
    lists: tuple[str, ...]
    raw: bytes
    state: str
    why: str
    since: int
    not_before: int
    tries: int
    approved: bool
    refused: Mapping[str, str]
    broken: str = ''


@dataclass(frozen=True)
class Post:
    """It may go, from `not_before` on."""

    reason: str
    not_before: float = 0.0


@dataclass(frozen=True)
class Hold:
    """A human has to approve it."""

    reason: str
    not_before: float = 0.0


@dataclass(frozen=True)
class Silent:
    """Nothing is said."""

    reason: str


Decision = Post | Hold | Silent


@dataclass(frozen=True)
class Order:
    """
    A line `vma-bot: …` of an answer on the list.

    `rule` is there for 'ack'. `by` is the address that the mail is from.
    """

    kind: Literal['ack', 'stop', 'opt-out']
    by: str
    rule: str = ''


@dataclass(frozen=True)
class History:
    """
    What is known of a series besides its mails.

    `started` is when the bot first started with this database, `posted` when
    the series was (0: its date can't be believed). `asked` is what sent mails
    on earlier revisions spoke of. `acked` are rules that its author, or a
    maintainer, answered with `vma-bot: ack`; `stopped` that they said stop.
    `below_ours`: it answers a mail of ours that is about something else.
    `attested` is what its signatures say, `signs` that its author's own domain
    is known to sign his mails.
    """

    now: float
    started: float
    posted: float
    asked: tuple[Asked, ...] = ()
    acked: frozenset[str] = frozenset()
    stopped: bool = False
    opted_out: frozenset[str] = frozenset()
    superseded: bool = False
    below_ours: bool = False
    attested: Attested = 'off'
    signs: bool = False


@dataclass(frozen=True)
class Traffic:
    """Mails of the last 24 hours: by list, by author of what they answer."""

    by_list: Mapping[str, int] = field(default_factory=dict)
    by_author: Mapping[str, int] = field(default_factory=dict)


# --- what became of an attempt to send ----------------------------------------


@dataclass(frozen=True)
class Accepted:
    """The server took it. `refused` are recipients that it did not take, and why."""

    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TryLater:
    """
    It did not go, and may later (4xx, no connection, log-in refused).

    `unusable`: it is the server or our settings, not this mail; no other mail
    would go just now either.
    """

    reason: str
    unusable: bool = False


@dataclass(frozen=True)
class Refused:
    """It did not go, and never will as it is (5xx)."""

    reason: str
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Unsure:
    """The whole mail was handed over, and no answer came: it may have gone or not."""

    reason: str


Delivery = Accepted | TryLater | Refused | Unsure
