"""
Exactly once: `bot send` is killed at random, and the mails that came are counted.

Half of the kills strike at a stage of the SMTP dialogue (`door.Stage`), the
others at any moment of the process' life. Meanwhile the server fails, the
archive fails, and mails reach it late. Public-inbox drops what it knows by its
Message-ID: the witness is the mail server, which has a file for each delivery.
"""

import contextlib
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

from sqlalchemy import Engine, select, text

from bot.assembly import letter
from bot.model import Scope
from bot.outgoing import Post, Reply
from bot.respond import Response
from bot.store import Store
from bot.store.database import opened
from bot.store.tables import REPLIES
from tests.gitrepo import ENV
from tests.lettering import DIFF, post
from tests.services import opensmtpd
from tests.services.faults import Fault as ArchiveFault
from tests.services.faults import Proxy, failing
from tests.services.opensmtpd import OpenSmtpd
from tests.services.postgres import Postgres
from tests.services.publicinbox import PublicInbox, serving
from tests.torture.campaign import TRACEBACK
from tests.torture.door import LARGE, STAGES, Door, Fault
from tests.torture.door import opened as door_before

LIST = 'linux-mm@kvack.org'
AUTHOR = 'dev@example.org'
BOT = 'vma-bot@bot.example'
SCOPE = Scope(paths=('mm/vma*',), symbols=(), subjects=())
LONGEST_LIFE = 3.5
"""Seconds after which a process is killed that is to die at a moment like any other."""
LONGEST_WAIT = 30.0
"""The same for one that is to die at a stage of the dialogue, and does not come to it."""
TOLD = 0.02
"""Seconds after the server's answer within which the sender is killed while it keeps it."""
GRACE = 2
FAULTS: tuple[Fault, ...] = (
    *('none',) * 40, '421', '421', '450', '450', '451', '451', 'reset', 'reset', 'lost',
    'unanswered',
)  # fmt: skip
RESTS = ('held', 'failed')
UNCERTAIN = 'it may have gone: '


@dataclass(frozen=True)
class Result:
    """What came of it. `problems` are other things that should not be."""

    backend: str
    mails: int
    kills: int
    dialogue: int
    sent: int
    held: int
    lost: int
    twice: int
    seed: int
    problems: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not (self.lost or self.twice or self.problems)

    def __str__(self) -> str:
        line = (
            f'backend={self.backend} mails={self.mails} kills={self.kills} '
            f'dialogue={self.dialogue} sent={self.sent} held={self.held} '
            f'lost={self.lost} twice={self.twice} seed={self.seed}'
        )
        return '\n'.join([*self.problems, line])


def campaign(
    backend: str, kills: int, seed: int, folder: Path, say: Callable[[str], None]
) -> Result:
    """Run one; the folder is the caller's to remove."""
    choose = random.Random(seed)
    faults = random.Random(seed + 1)
    database = Postgres() if backend == 'postgresql' else None
    try:
        url = database.create('mails') if database else f'sqlite:///{folder / "state.db"}'
        first = post('first@x', 'hello', 'x\n').raw
        with (
            serving(folder / 'archive', [first]) as archive,
            failing(archive.url, lambda _: 'none') as proxy,
            opensmtpd.serving() as server,
            door_before(server.port, lambda: faults.choice(FAULTS)) as door,
            _archiving(server, archive, random.Random(seed + 2)) as archiver,
        ):
            bot = _Bot(_config(folder, url, proxy.url, door.port), folder)
            stock = _Stock(url, choose)
            try:
                storm = _Storm(bot, stock, door, proxy, choose, say)
                storm.blow(kills)
                door.fault = lambda: 'none'
                proxy.choose = lambda _: 'none'
                door.settle()
                archiver.stop()
                server.archive(archive, LIST)
                _to_the_end(bot, stock)
                return _counted(backend, storm, seed, stock, server, bot)
            finally:
                stock.close()
    finally:
        if database is not None:
            database.stop()


@dataclass
class _Bot:
    """The processes of a campaign."""

    config: Path
    folder: Path

    def start(self) -> 'subprocess.Popen[bytes]':
        with self.log.open('ab') as log:
            return subprocess.Popen(
                [*self._words, '--config', str(self.config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment,
                start_new_session=True,
            )  # fmt: skip

    def once(self) -> None:
        """Run it to its end."""
        with self.log.open('ab') as log:
            done = subprocess.run(
                [*self._words, '--once', '--config', str(self.config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False,
                env=self._environment, timeout=120,
            )  # fmt: skip
        assert done.returncode == 0, self.log.read_text()[-2000:]

    @property
    def log(self) -> Path:
        return self.folder / 'send.log'

    @property
    def _words(self) -> list[str]:
        return [sys.executable, '-P', '-m', 'bot', 'send']

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, **ENV, 'HOME': str(self.folder), 'XDG_STATE_HOME': str(self.folder)}


class _Stock:
    """The mails that are to go, as judged series leave them in the database."""

    def __init__(self, url: str, choose: random.Random) -> None:
        self.engine: Engine = opened(url)
        self.store = Store(self.engine, time.time)
        self.choose = choose
        self.msgids: list[str] = []
        self.series = 0

    def close(self) -> None:
        self.store.close()

    def fill(self, least: int) -> None:
        """Have so many mails that may go now."""
        self.pass_time()
        while len(self.store.outbox.ready()) < least:
            self._judge()

    def pass_time(self) -> None:
        """Let the waits of mails that are tried again be over."""
        with self.engine.begin() as db:
            db.execute(text("UPDATE replies SET not_before = 0 WHERE state = 'ready'"))

    def _judge(self) -> None:
        self.series += 1
        name = f's{self.series}'
        body = 'Because.\n\nSigned-off-by: A Developer <dev@example.org>\n---\n'
        diff = DIFF.format(path=f'mm/vma_{name}.c', what=name)
        patch = post(f'{name}@x', f'[PATCH] mm: {name}', body + diff, date=formatdate())
        read = letter(patch.raw, SCOPE)
        assert read is not None
        self.store.take_in('linux-mm', [read], None)
        (number,) = self.store.due()
        assert self.store.take(number, most_kills=25) is not None
        replies = tuple(self._reply(name, n) for n in range(self.choose.randint(1, 3)))
        response = Response(Post('it may go'), replies)
        assert self.store.finish(number, 1.0, 'findings', '{}', (), response)

    def _reply(self, name: str, n: int) -> Reply:
        msgid = f'vma-bot-{name}-{n}@bot.example'
        self.msgids.append(msgid)
        lines = 20_000 if self.choose.random() < 0.4 else 20
        body = ''.join(f'> +int {name}_{line};\n' for line in range(lines))
        raw = (
            f'From: VMA review bot <{BOT}>\nTo: {AUTHOR}\nCc: {LIST}\n'
            f'Subject: Re: [PATCH] mm: {name}\nDate: {formatdate()}\nMessage-ID: <{msgid}>\n'
            f'In-Reply-To: <{name}@x>\n\n{body}\n..\n.\nIs that meant?\n'
        ).encode()
        assert lines == 20 or len(raw) > LARGE
        return Reply(n, msgid, f'{name}@x', f'Re: [PATCH] mm: {name}', (AUTHOR, LIST), (LIST,), raw)

    def rows(self) -> list[tuple[str, str, str]]:
        """(message-id, state, why) of all."""
        with self.engine.begin() as db:
            found = db.execute(select(REPLIES.c.msgid, REPLIES.c.state, REPLIES.c.why)).all()
        return [(row.msgid, row.state, row.why) for row in found]


@dataclass
class _Storm:
    """Senders live and die."""

    bot: _Bot
    stock: _Stock
    door: Door
    archive: Proxy
    choose: random.Random
    say: Callable[[str], None]
    hits: Counter[str] = field(default_factory=Counter)

    @property
    def kills(self) -> int:
        return sum(self.hits.values())

    @property
    def dialogue(self) -> int:
        return self.kills - self.hits['any moment'] - self.hits['no dialogue']

    def blow(self, kills: int) -> None:
        """Kill so often, at least half of it in a dialogue."""
        while self.kills < kills or self.dialogue * 2 < kills:
            self.stock.fill(4)
            down = self.choose.random() < 0.15
            self.archive.choose = self._fails if down else lambda _: 'none'
            if self.choose.random() < 0.55:
                self._in_dialogue()
            else:
                self._at_any_moment()
            if self.kills % 25 == 0:
                hits = ', '.join(f'{count} {name}' for name, count in sorted(self.hits.items()))
                self.say(f'{self.kills} of {kills} kills: {hits}')

    def _fails(self, _: str) -> ArchiveFault:
        return self.choose.choice(('500', 'drop', 'cut'))

    def _in_dialogue(self) -> None:
        stage = self.choose.choice(STAGES)
        self.door.watch_for(stage)
        with self._living():
            reached = self.door.reached(LONGEST_WAIT)
            if stage == 'told':
                self.door.go_on()
                # The time that a sender is given to live in, not one that a test waits for.
                time.sleep(self.choose.uniform(0, TOLD))
        self.hits[stage if reached else 'no dialogue'] += 1
        self.door.go_on()

    def _at_any_moment(self) -> None:
        with self._living():
            # As above.
            time.sleep(self.choose.uniform(0, LONGEST_LIFE))
        self.hits['any moment'] += 1

    @contextlib.contextmanager
    def _living(self) -> Iterator[None]:
        """Have a sender, rarely two, killed at the end."""
        processes = [self.bot.start() for _ in range(2 if self.choose.random() < 0.05 else 1)]
        try:
            yield
        finally:
            for one in processes:
                one.kill()
            for one in processes:
                one.wait()


class _Archiver:
    """Brings what the list got to its archive, most of it at once, some late."""

    def __init__(self, server: OpenSmtpd, archive: PublicInbox, choose: random.Random) -> None:
        self._new = server.mails / LIST / 'new'
        self._archive = archive
        self._choose = choose
        self._due: dict[Path, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)

    def _go(self) -> None:
        while not self._stop.wait(0.2):
            now = time.monotonic()
            for path in self._new.glob('*'):
                late = self._choose.uniform(0, 3 * GRACE) if self._choose.random() < 0.3 else 0.0
                self._due.setdefault(path, now + late)
            ripe = [path for path, due in self._due.items() if due <= now]
            if ripe:
                self._archive.add(opensmtpd.untraced(path.read_bytes()) for path in ripe)
            for path in ripe:
                path.rename(path.parent.parent / 'cur' / path.name)
                del self._due[path]


@contextlib.contextmanager
def _archiving(
    server: OpenSmtpd, archive: PublicInbox, choose: random.Random
) -> Iterator[_Archiver]:
    archiver = _Archiver(server, archive, choose)
    try:
        yield archiver
    finally:
        archiver.stop()


def _config(folder: Path, url: str, archive: str, port: int) -> Path:
    config = folder / 'config.toml'
    config.write_text(
        f'[lore]\nurl = "{archive}"\npoll = "0.2s"\ntimeout = "5s"\n[state]\nurl = "{url}"\n'
        f'[mail]\nfrom = "{BOT}"\nlists = ["{LIST}"]\nmode = "send"\ngrace = "{GRACE}s"\n'
        'per_list = 1000000\nper_author = 1000000\n'
        f'[smtp]\nhost = "127.0.0.1"\nport = {port}\nencryption = "none"\n'
    )
    return config


def _to_the_end(bot: _Bot, stock: _Stock) -> None:
    """Send what is left, now that all is well."""
    for _ in range(60):
        stock.pass_time()
        bot.once()
        if all(state in ('sent', *RESTS) for _, state, _ in stock.rows()):
            return


def _counted(
    backend: str, storm: _Storm, seed: int, stock: _Stock, server: OpenSmtpd, bot: _Bot
) -> Result:
    came: dict[str, int] = {}
    for address in (LIST, AUTHOR):
        ids = [_msgid(raw) for raw in server.delivered(address)]
        for msgid, count in Counter(ids).items():
            came[msgid] = max(came.get(msgid, 0), count)
    problems = [f'{msgid} came, and is none of ours' for msgid in set(came) - set(stock.msgids)]
    states: Counter[str] = Counter()
    rows = {msgid: (state, why) for msgid, state, why in stock.rows()}
    lost = 0
    for msgid in stock.msgids:
        state, why = rows[msgid]
        states[state] += 1
        if msgid in came and state != 'sent':
            problems.append(f'{msgid} came, and is {state}: {why}')
        elif msgid not in came:
            explained = state in RESTS and why.startswith((UNCERTAIN, 'tried '))
            lost += not explained
            if not explained:
                problems.append(f'{msgid} did not come, and is {state}: {why}')
    problems += [said.decode() for said in TRACEBACK.findall(bot.log.read_bytes())]
    return Result(
        backend, len(stock.msgids), storm.kills, storm.dialogue, states['sent'],
        sum(states[one] for one in RESTS), lost, sum(count > 1 for count in came.values()), seed,
        tuple(problems),
    )  # fmt: skip


def _msgid(raw: bytes) -> str:
    found = re.search(rb'^Message-ID: <([^>]*)>', raw, re.M)
    return found[1].decode() if found else ''
