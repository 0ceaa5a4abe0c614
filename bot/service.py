"""`bot watch`, `work`, `run` and `status`, put together from their parts."""

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table
from sqlalchemy.engine import make_url

from bot import __version__, notify
from bot.assembly import Reason
from bot.attest import Attester
from bot.b4 import B4
from bot.bases import prerequisites
from bot.clock import Clock
from bot.config import Config
from bot.daemon import Crew, Watcher, Worker, alone
from bot.errors import BotError, ConfigError
from bot.events import Tell
from bot.harness import Event
from bot.log import Log, take_over
from bot.lookup import Kept, Recorder
from bot.lore import Archive
from bot.mail import Mailer
from bot.metrics import measured
from bot.mirror import Mirror
from bot.model import Incomplete, Mail, Review
from bot.plain import one_line
from bot.pool import Pool
from bot.progress import Progress
from bot.respond import Response
from bot.sendemail import from_git
from bot.sender import Sender
from bot.series import parse_mail
from bot.session import ATTEST_SECONDS, Choice, Session
from bot.signatures import Worth
from bot.store import Store, Taken
from bot.store.database import opened, patience
from bot.store.orders import Said

LOOK = 5.0
"""Seconds between looks for work, where nobody calls."""
GRACE = 5.0
"""Seconds for a poll to come to its end."""

DROPPED: Mapping[Reason, str] = {
    'other': 'without a patch',
    'announcement': 'that announce what a tree took',
    'no-message-id': 'without a Message-ID',
    'no-diff': 'without a diff',
}
"""Why mails were dropped, in the words of `bot status`."""


@contextmanager
def store_of(
    config: Config, tell: Tell | None = None, clock: Callable[[], float] = time.time
) -> Iterator[Store]:
    """Open the configured database; who is told of it waits for one that is locked."""

    def waiting(reason: str) -> None:
        if tell is not None:
            tell('trying-again', reason=reason)

    store = Store(opened(config.url, waiting=waiting if tell is not None else None), clock)
    try:
        yield store
    finally:
        store.close()


def watcher_of(config: Config, store: Store, tell: Tell, clock: Clock) -> Watcher:
    """Put the watcher of all configured lists together."""
    lore = config.lore
    mirrors = [Mirror(lore.urls[0], name, config.mirror, lore.timeout) for name in lore.lists]
    return Watcher(
        store, mirrors, config.scope, config.since, config.settle, config.keep, clock, tell,
        _weigher(config), _asker(config), clock.heard,
    )  # fmt: skip


def _asker(config: Config) -> Callable[[Taken], Kept | None]:
    """Return what asks the archive for a series' prerequisites."""
    archive, b4 = Archive(config.lore), B4(config.b4)

    def ask(taken: Taken) -> Kept | None:
        thread = [parse_mail(raw) for raw in taken.mails]
        series = b4.series(thread, taken.msgid, taken.revision)
        if isinstance(series, Incomplete):
            return {}
        recorder = Recorder(archive)
        prerequisites(series, recorder, b4, lambda _: None)
        return recorder.kept if recorder.whole else None

    return ask


def _weigher(config: Config) -> Callable[[Mail], Worth] | None:
    """Return what says whether a mail is from whom it says; None where nobody asks."""
    if not config.attest:
        return None
    # One for all polls: it remembers what the name servers said.
    return Attester(ATTEST_SECONDS, config.keyrings, servers=config.name_servers).own


class _Steps(Progress):
    """Tells the steps of a judgement, of the series that is in hand, as events."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(quiet=True)
        self._tell = tell
        self.series = 0

    def __call__(self, what: str) -> None:
        self._tell('step', series=self.series, what=what)

    def build(self, event: Event, of: int) -> None:
        match event.kind:
            case 'note':
                self._tell('note', series=self.series, harness=event.harness, reason=event.text)
            case 'started':
                self._tell(
                    'building', series=self.series, harness=event.harness, patch=event.n, of=of
                )
            case 'going':
                self._tell('going', series=self.series, harness=event.harness)
            case 'learning':
                self(f'{event.harness}: learning what it reads')


def worker_of(config: Config, store: Store, tell: Tell) -> Worker:
    """Put a worker together. Raises `ConfigError` and `UsageError`: no tree, no such rule."""
    choice = Choice(jobs=max(len(os.sched_getaffinity(0)) // config.processes, 1))
    steps = _Steps(tell)
    session = Session(choice, config, progress=steps)

    def judge(taken: Taken) -> tuple[Review, Response]:
        steps.series = taken.series
        history = store.outbox.history(taken.series)
        return session.judge_mails(taken, history)

    return Worker(store, judge, config.patience, tell)


@contextmanager
def judging(config: Config, offset: float, tell: Tell) -> Iterator[Callable[[int], bool]]:
    """
    Judge, in a process of the pool; what happens there is told to its parent.

    `offset` is that of the parent's clock.
    """
    take_over(tell)
    clock = Clock(offset)
    with store_of(config, tell, clock) as store:
        worker = worker_of(config, store, tell)

        def judge(series: int) -> bool:
            clock.heard(store.figures.latest())
            return worker.one(series)

        yield judge


@contextmanager
def _serving(
    command: str, config: Config, log: Log, *, once: bool
) -> Iterator[tuple[Store, Tell, Clock]]:
    """Open the database for a command of the service, and have told and counted what it does."""
    clock = Clock()
    with store_of(config, log, clock) as store, measured(command, config, store, log) as tell:
        take_over(tell)
        clock.not_before(store.figures.latest())
        clock.told = lambda seconds: tell('clock-jumped', seconds=round(seconds))
        if not once:
            tell('started', command=command, version=__version__)
        yield store, tell, clock


def watch(config: Config, log: Log, *, once: bool) -> None:
    """Read lists into the store."""
    with _serving('watch', config, log, once=once) as (store, tell, clock):
        watcher = watcher_of(config, store, tell, clock)
        if once:
            watcher.once()
            return
        notify.ready()
        watcher.loop(config.poll, _stopper())


def work(config: Config, log: Log, *, once: bool, parked: bool = False) -> None:
    """Judge what is pending: alone on SQLite, or one of many on PostgreSQL."""
    with (
        _serving('work', config, log, once=once) as (store, tell, clock),
        _crew(config, store, tell, clock) as crew,
    ):
        if parked:
            tell('unparked', count=store.unpark())
        _work(config, crew, once=once)


def send(config: Config, log: Log, *, once: bool) -> None:
    """Send what is ready: the only one to do so on a database."""
    with (
        _serving('send', config, log, once=once) as (store, tell, clock),
        store.alone('send') as keep,
    ):
        step = _sending(sender_of(config, store, tell, clock), store, clock, keep)
        if once:
            step()
            return
        notify.ready()
        _each(step, config.poll, _stopper(), tell)


def _sending(
    sender: Sender, store: Store, clock: Clock, keep: Callable[[], None]
) -> Callable[[], object]:
    """
    Return the sender's step: with the lock held, and the clock compared.

    The first that succeeds takes up what a killed one has left.
    """
    begun = False

    def step() -> None:
        nonlocal begun
        keep()
        clock.heard(store.figures.latest())
        if not begun:
            sender.recover()
            begun = True
        sender.once()

    return step


def sender_of(config: Config, store: Store, tell: Tell, clock: Clock) -> Sender:
    """Put the sender together: `[smtp]`, or else git's own sendemail settings."""
    smtp, address = config.smtp, None
    if smtp is None:
        smtp, address = from_git(config.identity)
    if not smtp.host:
        raise ConfigError('no server to send with: [smtp] host, or git config sendemail.smtpServer')
    policy = config.mail
    if not policy.address:
        raise ConfigError(
            'no address to send from: [mail] from' + (f' = "{address}"' if address else '')
        )
    archive = Archive(config.lore)
    return Sender(
        store.outbox, Mailer(smtp), smtp, policy, archive.has, config.grace, clock,
        config.stop_file.exists, tell,
    )  # fmt: skip


def _each(
    step: Callable[[], object], poll: float, wait: Callable[[float], bool], tell: Tell
) -> None:
    """Do a step again and again, until `wait` says to stop; what fails is said, and tried again."""
    while True:
        try:
            step()
        except BotError as error:
            tell('trying-again', reason=str(error))
        if wait(poll * random.uniform(0.9, 1.1)):
            return


def run(config: Config, log: Log, *, once: bool) -> None:
    """Watch, work and send in one process."""
    with (
        _serving('run', config, log, once=once) as (store, tell, clock),
        _crew(config, store, tell, clock) as crew,
        _posting(config, store, tell, clock) as posting,
    ):
        watcher = watcher_of(config, store, tell, clock)
        if once:
            try:
                watcher.once()
            finally:  # an archive that is down keeps nobody from judging
                _work(config, crew, once=True)
            if posting is not None:
                posting()
            return
        with _beside(lambda wait: watcher.loop(config.poll, wait), 'watch'), ExitStack() as stack:
            if posting is not None:
                stack.enter_context(
                    _beside(lambda wait: _each(posting, config.poll, wait, tell), 'send')
                )
            _work(config, crew, once=False)


@contextmanager
def _beside(loop: Callable[[Callable[[float], bool]], None], name: str) -> Iterator[None]:
    """Run a loop in a thread; what ends it ends the process, and is raised here."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def going() -> None:
        try:
            loop(stop.wait)
        except BaseException as error:  # noqa: BLE001  # it is raised again, in the main thread
            failed.append(error)
            os.kill(os.getpid(), signal.SIGTERM)

    # Each of its steps is one transaction: what is left half done is done again.
    thread = threading.Thread(target=going, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(GRACE)
        if failed:
            raise failed[0]


@contextmanager
def _posting(
    config: Config, store: Store, tell: Tell, clock: Clock
) -> Iterator[Callable[[], object] | None]:
    """Have a sender's step, where there is something to send with."""
    if not config.mail.address or not config.mail.lists:
        yield None
        return
    sender = sender_of(config, store, tell, clock)
    with store.alone('send') as keep:
        yield _sending(sender, store, clock, keep)


@contextmanager
def _crew(config: Config, store: Store, tell: Tell, clock: Clock) -> Iterator[Crew]:
    """Have processes to judge with; on SQLite nobody else has."""
    worker_of(config, store, tell)  # what is wrong with the configuration is said here and now
    with ExitStack() as stack:
        lock = None if _is_postgresql(config) else stack.enter_context(alone(_lock(config)))
        make = partial(judging, config, clock.offset)
        pool = stack.enter_context(Pool(config.processes, make, tell, lock))

        def alive() -> None:
            # A process that has said nothing for too long is worth a new start of all.
            if pool.silent() < notify.every():
                notify.alive()

        yield Crew(store, pool, tell, alive, notify.every())


def _work(config: Config, crew: Crew, *, once: bool) -> None:
    if _is_postgresql(config):
        _work_by_queue(config, crew, once=once)
    elif once:
        crew.recover(killed=True)
        crew.all()
    else:
        notify.ready()
        crew.loop(LOOK, _interrupting())


def _work_by_queue(config: Config, crew: Crew, *, once: bool) -> None:
    from bot import queue  # here: without PostgreSQL its packages need not be there

    def waiting() -> list[int]:
        return [*crew.store.due(), *crew.store.begun()]

    def failed(reason: str) -> None:
        crew.tell('trying-again', reason=reason)

    queue.work(
        config.url,
        crew.one,
        waiting,
        config.processes,
        crew.alive,
        wait=not once,
        failed=failed,
        given=patience(make_url(config.url)),
    )


def status(config: Config, *, as_json: bool) -> str:
    """Return what `bot status` prints: the series, then the orders that were not obeyed."""
    with store_of(config) as store:
        rows = list(store.rows())
        unread = store.unread.count()
        said = store.said()
        dropped = store.figures.left_out()
    if as_json:
        return _lines([*rows, *said])
    table = _table('series', 'state', 'since', 'patches', 'title', 'why')
    for row in rows:
        title = one_line(row.title, 60) + (f' v{row.revision}' if row.revision > 1 else '')
        since = _when(row.since)
        table.add_row(str(row.series), row.state, since, row.patches, title, one_line(row.why, 200))
    text = _printed(table) if rows else 'nothing yet\n'
    if said:
        text += f'\n{orders_of(said)}'
    if unread:
        mails = '1 mail' if unread == 1 else f'{unread} mails'
        text += f'{mails} could not be read (bot status --unread shows them)\n'
    if dropped:
        counted = (f'{dropped[one]} {words}' for one, words in DROPPED.items() if one in dropped)
        text += f'mails that are no part of a series: {", ".join(counted)}\n'
    return text


def unread(config: Config, *, as_json: bool) -> str:
    """Return what `bot status --unread` prints: the mails that were passed over, and why."""
    with store_of(config) as store:
        rows = store.unread.rows()
    if as_json:
        return _lines(rows)
    table = _table('list', 'commit', 'at', 'message-id', 'why')
    for row in rows:
        where = f'{row.list}/{row.epoch}'
        msgid = one_line(row.msgid, 60) or '-'
        table.add_row(where, row.commit[:12], _when(row.at), msgid, one_line(row.reason, 200))
    return _printed(table) if rows else 'no mail was passed over\n'


def _lines(rows: Iterable[object]) -> str:
    return ''.join(f'{json.dumps(vars(row), ensure_ascii=False)}\n' for row in rows)


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime('%Y-%m-%d %H:%M')


def orders_of(said: Sequence[Said]) -> str:
    """Return the orders that were not obeyed, as `bot status` and `bot orders` print them."""
    table = _table('order', 'state', 'since', 'series', 'from', 'what', 'why')
    for one in said:
        about = '' if one.series is None else str(one.series)
        table.add_row(
            str(one.order), one.state, _when(one.at), about, one_line(one.by, 60),
            one_line(f'{one.kind} {one.rule}', 60), one_line(one.why, 200),
        )  # fmt: skip
    return _printed(table) if said else 'no orders\n'


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=column != 'why', overflow='ellipsis')
    return table


def _printed(table: Table) -> str:
    console = Console(highlight=False, markup=False, emoji=False)
    if not sys.stdout.isatty():
        console = Console(width=200, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    return ''.join(f'{line.rstrip()}\n' for line in captured.get().splitlines())


def _is_postgresql(config: Config) -> bool:
    return make_url(config.url).get_backend_name() == 'postgresql'


def _lock(config: Config) -> Path:
    """The lock of the one worker: beside the database."""
    database = make_url(config.url).database
    return Path(f'{database}.lock')


def _stopper() -> Callable[[float], bool]:
    """Return a wait that SIGTERM and ^C end: a poll is finished, unless they come again."""
    stop = threading.Event()

    def ask(_: int, __: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        notify.stopping()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return notify.waiting(stop.wait)


def _interrupting() -> Callable[[float], bool]:
    """Return a wait; SIGTERM and ^C interrupt what is in hand, and it is put back."""

    def ask(_: int, __: FrameType | None) -> None:
        notify.stopping()
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, ask)
    return notify.waiting(threading.Event().wait)
