"""
The machines fail, the processes must not: databases, networks, clocks, archives, certificates.

`bot watch`, several `bot work` and `bot send` run all the while and are never
killed: one that ends was stopped by a fault, and counts. Series stream in
meanwhile, each patch of which is worth a mail; the witness for those is the
mail server. Once the faults are over, each series has one review, and each
patch its one mail, or a human has it to decide on, with the reason.
"""

import contextlib
import logging
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from bot import demo
from tests.mailserver import Received
from tests.services.faults import Fault, Proxy, failing
from tests.services.postgres import Postgres
from tests.services.publicinbox import PublicInbox, serving
from tests.torture import thread
from tests.torture.campaign import TRACEBACK, WORKERS, children
from tests.torture.certificates import BAD, Authority, Kind
from tests.torture.processes import EMBARGO, Processes, Server, configured
from tests.torture.stream import Series, chatter, patch_of, patches
from tests.torture.wire import BREAKS, Wire, wired

MINUTE, HOUR, DAY = 60, 3600, 86_400
JUMPS = (365 * DAY, 40 * DAY, 5 * HOUR, -20 * MINUTE, -3 * DAY, -400 * DAY)
ARCHIVE: tuple[Fault, ...] = ('500', 'cut', 'drop', 'garbage')
LONGEST = 240.0
"""Seconds for all to come to its end once nothing fails any more."""
HELD = ('it may have gone: ',)


@dataclass(frozen=True)
class Result:
    """What came of it. `problems` are what was lost and so on, by name, and what else is wrong."""

    backend: str
    faults: int
    series: int
    mails: int
    held: int
    thread: str
    lost: int
    twice: int
    stopped: int
    seed: int
    problems: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not (self.lost or self.twice or self.stopped or self.problems)

    def __str__(self) -> str:
        line = (
            f'campaign=machines backend={self.backend} faults={self.faults} series={self.series} '
            f'mails={self.mails} held={self.held} {self.thread} lost={self.lost} '
            f'twice={self.twice} stopped={self.stopped} seed={self.seed}'
        )
        return '\n'.join([*self.problems, line])


def campaign(
    backend: str,
    faults: int,
    seed: int,
    folder: Path,
    say: Callable[[str], None],
    answers: int = 50_000,
) -> Result:
    """Run one; the folder is the caller's to remove. `answers` is how long the long thread is."""
    choose = random.Random(seed)
    logging.getLogger('mail.log').setLevel(logging.CRITICAL)  # aiosmtpd's: refusals are the point
    tree, _ = demo.write(folder / 'demo')
    authority = Authority(folder / 'authority')
    with contextlib.ExitStack() as stack:
        database = Postgres() if backend == 'postgresql' else None
        wire = None
        if database is not None:
            stack.callback(database.stop)
            url = true_url = database.create('machines')
            wire = stack.enter_context(wired(database.port))
            url = url.replace(f':{database.port}/', f':{wire.port}/')
        else:
            url = true_url = f'sqlite:///{folder / "state.db"}'
        archive = stack.enter_context(serving(folder / 'archive', [chatter('first').raw]))
        proxy = stack.enter_context(failing(archive.url, lambda _: 'none'))
        archive_tls = _certified(authority)
        proxy.socket = archive_tls.wrap_socket(
            proxy.socket, server_side=True, do_handshake_on_connect=False
        )
        mail_tls = _certified(authority)
        server = Server(tls=mail_tls)
        stack.callback(server.stop)
        engine = create_engine(true_url.replace('postgresql:', 'postgresql+psycopg:'))
        stack.callback(engine.dispose)
        config = configured(folder, url, proxy.url, tree, server.port, authority.path)
        bot = Processes(config, folder, authority=authority.path, workers=WORKERS[backend])
        stack.callback(bot.end)
        storm = _Storm(
            choose, bot, archive, proxy, server, engine, authority, archive_tls, mail_tls, say,
            database, wire,
        )  # fmt: skip
        bot.begin()
        storm.blow(faults)
        storm.calm()
        said = storm.long_thread(thread.Thread(answers, choose))
        storm.calm()
        bot.look()
        bot.end()
        return _counted(backend, storm, said, seed)


def _certified(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.chains['good'])
    return context


@dataclass
class _Storm:
    """Series come in while one thing after the other fails."""

    choose: random.Random
    bot: Processes
    archive: PublicInbox
    proxy: Proxy
    server: Server
    engine: Engine
    authority: Authority
    archive_tls: ssl.SSLContext
    mail_tls: ssl.SSLContext
    say: Callable[[str], None]
    database: Postgres | None
    wire: Wire | None
    series: list[Series] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    epoch: int = 0
    _chatter: list[bytes] = field(default_factory=list)
    _archived: int = 0
    _long: bool = False

    def blow(self, faults: int) -> None:
        """Have so many faults, each at least once where there are enough."""
        kinds: dict[str, Callable[[], None]] = {
            'epoch begun': self._epoch,
            'epoch rewritten': self._rewrite,
            'archive failed': self._archive,
            'archive certificate': self._archive_certificate,
            'mail certificate': self._mail_certificate,
            'clock jumped': self._clock,
            'clock jumped again': self._clock,
        }
        if self.database is not None:
            kinds |= {
                'database died': partial(self._restart, 'immediate'),
                'database restarted': partial(self._restart, 'fast'),
                **{f'wire {how}': partial(self._break, how) for how in BREAKS},
            }
        self.post(3)
        order: list[str] = []
        for count in range(1, faults + 1):
            if not order:
                order = self.choose.sample(sorted(kinds), len(kinds))
            name = order.pop()
            self.post(self.choose.randint(1, 2))
            self._live(0.2, 1.5)
            kinds[name]()
            self.hits[name.removesuffix(' again')] += 1
            self._live(0.2, 1.0)
            if count % 10 == 0 or count == faults:
                self.say(f'{count} of {faults} faults: {self}')

    def __str__(self) -> str:
        hits = ', '.join(f'{count} {name}' for name, count in sorted(self.hits.items()))
        return f'{hits}; {len(self.series)} series, {len(self.server.received)} mails'

    def _live(self, least: float, most: float) -> None:
        # Time that processes are given to live in, not time that a test waits for something.
        time.sleep(self.choose.uniform(least, most))
        self.bot.look()

    def post(self, count: int) -> None:
        """Have series come to the list, and mails that are none of the bot's business."""
        mails = []
        for _ in range(count):
            one = Series(f's{len(self.series)}', self.choose.choice((1, 1, 2, 3)))
            self.series.append(one)
            mails += [mail.raw for mail in patches(one)]
        noise = [chatter(f'c{self.archive.mails}.{n}').raw for n in range(2)]
        self._chatter += noise
        self.archive.add([noise[0], *mails, noise[1]], self.epoch)
        self._archive_ours()

    def _archive_ours(self) -> None:
        """Have the list's archive get what the list got."""
        new = self.server.received[self._archived :]
        self._archived += len(new)
        if new and not self._long:  # its index would take longer than all the rest
            self.archive.add((_as_archived(one) for one in new), self.epoch)

    # --- what fails ---

    def _restart(self, how: 'str') -> None:
        assert self.database is not None
        self.database.halt('fast' if how == 'fast' else 'immediate')
        self._live(0.0, 3.0)
        self.database.start()

    def _break(self, how: str) -> None:
        assert self.wire is not None
        self.wire.fault(next(one for one in BREAKS if one == how))
        self._live(0.5, 4.0)
        self.wire.mend()

    def _clock(self) -> None:
        for jump in self.choose.sample(JUMPS, 2):
            self.bot.set_clock(jump)
            self.post(1)
            self._live(1.0, 4.0)
        self.bot.set_clock(0)

    def _epoch(self) -> None:
        self.epoch += 1
        self.post(1)

    def _rewrite(self) -> None:
        # The last one among them: then the mail that was read last is gone.
        self.archive.purge(self.choose.choice(self._chatter[-6:]))
        self._live(0.0, 1.5)
        self.post(1)

    def _archive(self) -> None:
        self.proxy.choose = lambda _: self.choose.choice((*ARCHIVE, 'none'))
        self._live(1.0, 4.0)
        self.proxy.choose = lambda _: 'none'

    def _archive_certificate(self) -> None:
        with self._bad(self.archive_tls) as kind:
            self.post(1)
            self._refused('watch', kind)

    def _mail_certificate(self) -> None:
        with self._bad(self.mail_tls) as kind:
            self.post(2)
            self._refused('send', kind, before=self._pass_time)
            # One dialogue at a time: all that begin from here on see the bad certificate.
            there = len(self.server.received)
            self._pass_time()
            self._live(1.0, 2.0)
            if len(self.server.received) != there:
                self.problems.append(f'a mail went to a server whose certificate is {kind}')
        self._pass_time()

    @contextlib.contextmanager
    def _bad(self, context: ssl.SSLContext) -> Iterator[Kind]:
        kind = self.choose.choice(BAD)
        context.load_cert_chain(*self.authority.chains[kind])
        try:
            yield kind
        finally:
            context.load_cert_chain(*self.authority.chains['good'])

    def _refused(self, name: str, kind: Kind, before: Callable[[], None] = lambda: None) -> None:
        """Wait until a process says, in one line, what is wrong with a certificate."""
        start = len(self.bot.log(name))
        end = time.monotonic() + 90
        while b'certificate' not in self.bot.log(name)[start:]:
            if time.monotonic() > end:
                self.problems.append(f'{name} says nothing of a certificate that is {kind}')
                return
            before()
            self._live(0.2, 0.3)

    def _pass_time(self) -> None:
        """Let the waits of mails and series that are tried again be over; not the embargo."""
        with contextlib.suppress(SQLAlchemyError), self.engine.begin() as db:
            old = int(time.time()) - EMBARGO - 1
            db.execute(
                text(
                    "UPDATE replies SET not_before = 0 WHERE state = 'ready' AND series IN"
                    ' (SELECT id FROM series WHERE posted < :old)'
                ),
                {'old': old},
            )
            db.execute(text("UPDATE work SET not_before = 0 WHERE reason <> ''"))

    # --- the end ---

    def long_thread(self, long: thread.Thread) -> str:
        """Have a thread that has no end, with a series in its middle; what it cost."""
        began = time.monotonic()
        self._long = True
        self.series += long.series
        self.archive.write(long.mails(), self.epoch)
        watcher = self.bot.running['watch'].pid
        workers = [self.bot.running[one].pid for one in self.bot.names if one.startswith('work')]
        most = 0
        while not self._reviewed(long.series):
            if time.monotonic() > began + thread.LONGEST:
                self.problems.append(f'the thread was not done within {thread.LONGEST:g} s')
                break
            most = max([most, *(thread.memory(one) for pid in workers for one in children(pid))])
            self._live(0.2, 0.3)
        return (
            f'thread={long.answers} seconds={time.monotonic() - began:.0f} '
            f'watch={thread.peak(watcher)}MB work={most}MB'
        )

    def _reviewed(self, series: list[Series]) -> bool:
        rows = {row.msgid: row.state for row in self.rows()}
        return all(rows.get(patch_of(one, 1)) == 'reviewed' for one in series)

    def calm(self) -> None:
        """Wait until all is done, now that nothing fails."""
        end = time.monotonic() + LONGEST
        while time.monotonic() < end:
            self._pass_time()
            self._archive_ours()
            self._live(0.5, 0.6)
            states = Counter(row.state for row in self.rows())
            with self.engine.begin() as db:
                open_ = db.execute(
                    text("SELECT count(*) FROM replies WHERE state IN ('ready','claimed','unsure')")
                ).scalar_one()
            done = sum(states.values()) >= len(self.series) and set(states) == {'reviewed'}
            if done and not open_:
                break

    def rows(self) -> list['_Row']:
        """All series that have their first patch."""
        with self.engine.begin() as db:
            rows = db.execute(
                text(
                    'SELECT patches.msgid, series.state, reviews.series AS review'
                    ' FROM series JOIN patches ON patches.series = series.id AND patches.n = 1'
                    ' LEFT JOIN reviews ON reviews.series = series.id'
                )
            ).all()
        return [_Row(row.msgid, row.state, row.review is not None) for row in rows]


class _Row(NamedTuple):
    """A series: the message-id of its first patch, its state, and whether it has a review."""

    msgid: str
    state: str
    reviewed: bool


def _as_archived(one: Received) -> bytes:
    return one.content.replace(b'\r\n', b'\n')


def _counted(backend: str, storm: _Storm, thread: str, seed: int) -> Result:
    problems = [*storm.problems, *storm.bot.stopped]
    rows = storm.rows()
    made = Counter(row.msgid for row in rows)
    state_of = {row.msgid: row for row in rows}
    with storm.engine.begin() as db:
        replies = db.execute(text('SELECT parent, msgid, state, why FROM replies')).all()
    came: dict[str, list[float]] = {}
    for one, at in zip(storm.server.received, storm.server.at, strict=True):
        came.setdefault(_header(one, b'In-Reply-To'), []).append(at)
    lost = held = 0
    twice = sum(count > 1 for count in made.values())
    for posted in storm.series:
        row = state_of.get(patch_of(posted, 1))
        if row is None or not row.reviewed:
            lost += 1
            problems.append(
                f'{posted.name} is {row.state if row else "not there"}, without a review'
            )
            continue
        for n in range(1, posted.of + 1):
            patch = patch_of(posted, n)
            mine = [(reply.state, reply.why) for reply in replies if reply.parent == patch]
            times = came.get(patch, [])
            if len(times) > 1:
                twice += 1
                problems.append(f'{patch} was answered {len(times)} times')
            if times and times[0] < posted.posted + EMBARGO - 1:
                problems.append(
                    f'{patch} was answered {times[0] - posted.posted:.1f} s after it came'
                )
            if times:
                continue
            explained = bool(mine) and mine[0][0] == 'held' and mine[0][1].startswith(HELD)
            held += explained
            lost += not explained
            if not explained:
                problems.append(f'{patch} was not answered: {mine}')
    if storm.server.clear:
        problems.append(f'{storm.server.clear} mails went unencrypted')
    problems += [said.decode() for said in TRACEBACK.findall(storm.bot.logs())]
    return Result(
        backend, storm.hits.total(), len(storm.series), len(storm.server.received), held, thread,
        lost, twice, len(storm.bot.stopped), seed, tuple(problems),
    )  # fmt: skip


def _header(one: Received, name: bytes) -> str:
    for line in one.content.split(b'\r\n'):
        if line.lower().startswith(name.lower() + b':'):
            return line.partition(b':')[2].strip(b' <>').decode()
    return ''
