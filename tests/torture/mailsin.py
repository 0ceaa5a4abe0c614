"""
Mails in: a list of mutated mails, among them good ones, through watch, store, judge and send.

The archive, the watcher, the sender, the databases and the mail server are
real; series are judged by the rules alone, in a pool of this campaign's, one in
ten with b4 in its child. Then every mail of the archive is read again: what is
a letter has to be in the database, and what can't be read among the unread.
"""

import contextlib
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pygit2
from sqlalchemy import select

from bot import demo
from bot.assembly import letter
from bot.b4 import B4
from bot.config import load
from bot.daemon import Worker
from bot.model import Incomplete, Mail, Scope, Series
from bot.series import assemble
from bot.session import Choice, Session
from bot.store import Store
from bot.store.database import opened
from bot.store.tables import MAILS, REPLIES, SERIES, UNREAD
from tests.fuzzing import FINDS, bases, mutated, single, with_id
from tests.gitrepo import ENV
from tests.lettering import post
from tests.services import opensmtpd
from tests.services.postgres import Postgres
from tests.services.publicinbox import PublicInbox, serving

LIST = 'linux-mm@kvack.org'
BOT = 'vma-bot@bot.example'
MAILS_IN = 100_000
JUDGED = 50
"""One mail in so many is judged, as far as there are series."""
SENT = 500
CHUNK = 5000
GOOD = 50
"""One mail in so many is good, and one in ten finds fault."""
WITH_B4 = 10


@dataclass(frozen=True)
class Result:
    """What came of it. `problems` are other things that should not be."""

    backend: str
    mails: int
    unread: int
    judged: int
    sent: int
    stopped: int
    lost: int
    seed: int
    problems: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not (self.lost or self.stopped or self.problems)

    def __str__(self) -> str:
        line = (
            f'campaign=mails-in backend={self.backend} mails={self.mails} unread={self.unread} '
            f'judged={self.judged} sent={self.sent} stopped={self.stopped} lost={self.lost} '
            f'seed={self.seed}'
        )
        return '\n'.join([*self.problems, line])


def campaign(
    backend: str, kills: int, seed: int, folder: Path, say: Callable[[str], None]
) -> Result:
    """Run one with `MAILS` mails; nothing is killed here."""
    del kills
    count = int(os.environ.get('MAILS') or MAILS_IN)
    tree, _ = demo.write(folder / 'demo')
    database = Postgres() if backend == 'postgresql' else None
    try:
        url = database.create('mailsin') if database else f'sqlite:///{folder / "state.db"}'
        store = Store(opened(url), time.time)
        store.first_start(0)
        first = post('first@x', 'hello', 'x\n').raw
        with (
            contextlib.closing(store),
            serving(folder / 'archive', [first]) as archive,
            opensmtpd.serving() as server,
        ):
            config = _config(folder, archive.url, tree, url, server.port)
            bot = _Bot(config, folder)
            began = time.monotonic()

            def told(what: str) -> None:
                say(f'{backend}: {what} ({time.monotonic() - began:.0f} s)')

            for part in _parts(list(range(count)), CHUNK):
                _write(archive, [_mail(seed, number) for number in part])
                bot.once('watch')
                told(f'{part[-1] + 1} of {count} mails were watched')
            chosen = store.due()
            random.Random(seed).shuffle(chosen)
            chosen = chosen[: max(count // JUDGED, 1)]
            outcomes = _judged(config, chosen)
            told(f'{len(chosen)} series were judged: {_listed(outcomes)}')
            bot.once('send')
            return _counted(backend, count, seed, archive, store, bot, outcomes, told)
    finally:
        if database is not None:
            database.stop()


class _Bot:
    """The program, run to its end."""

    def __init__(self, config: Path, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self.stopped: list[str] = []

    def once(self, command: str) -> None:
        done = subprocess.run(
            [sys.executable, '-P', '-m', 'bot', command, '--once', '--config', str(self.config)],
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
            env={**os.environ, **ENV, 'HOME': str(self.folder), 'XDG_CACHE_HOME': str(self.folder)},
        )  # fmt: skip
        said = done.stderr.decode('utf-8', 'replace')
        if done.returncode or 'Traceback' in said:
            self.stopped.append(f'{command} ended with {done.returncode}: {said[-1000:]}')


def _mail(seed: int, number: int) -> bytes:
    """Mail `number` of a campaign: good, at fault, or mutated."""
    choose = random.Random(f'{seed} {number}')
    if number % GOOD == 0:
        name = f'good{number}'
        return single(f'{name}@x', f'mm/vma_{name}.c', 'int x;\n', f'{name}@x.org', f'mm: {name}')
    if number % 10 == 1:
        name = f'finds{number}'
        text = FINDS.replace('poison', f'poison{number}')
        raw = single(
            f'{name}@x', f'mm/vma_{name}.c', text, f'fuzz{number % 97}@x.org', f'mm: {name}'
        )
        if number % 20 == 1:
            return raw
    else:
        raw = with_id(choose.choice(_bases()), number)
    return mutated(choose, raw, _bases())


_BASES: list[bytes] = []


def _bases() -> list[bytes]:
    if not _BASES:
        _BASES.extend(bases())
    return _BASES


def _parts(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _write(archive: PublicInbox, mails: Sequence[bytes]) -> None:
    """Put mails into the first epoch; an index is nothing to who fetches it."""
    now = int(time.time())
    stream = b''.join(
        b'commit refs/heads/master\n'
        b'author A <a@example.org> %d +0000\ncommitter A <a@example.org> %d +0000\n'
        b'data 4\nmail\n%sM 100644 inline m\ndata %d\n%s\n'
        % (now, now, b'' if n else b'from refs/heads/master^0\n', len(raw), raw)
        for n, raw in enumerate(mails)
    )
    repository = archive.inbox / 'git' / '0.git'
    subprocess.run(
        ['git', '-C', str(repository), 'fast-import', '--quiet'], input=stream, check=True
    )


def _config(folder: Path, archive: str, tree: Path, url: str, port: int) -> Path:
    config = folder / 'config.toml'
    config.write_text(
        f'[lore]\nurl = "{archive}"\nsince = "36500d"\n[[tree]]\nname = "demo"\npath = "{tree}"\n'
        '[attestation]\ncheck = false\n'
        f'[state]\nurl = "{url}"\ncache = "{folder / "cache"}"\nkeep = "36500d"\n'
        f'[mail]\nfrom = "{BOT}"\nlists = ["{LIST}"]\nmode = "send"\n'
        'per_list = 1000000\nper_author = 1000000\n'
        f'[smtp]\nhost = "127.0.0.1"\nport = {port}\nencryption = "none"\n'
    )
    return config


# --- judging, in processes of the campaign's own ------------------------------------


class _Quick(B4):
    """Puts most threads together by our own means: b4's child takes half a second for each."""

    def series(
        self, thread: Sequence[Mail], msgid: str | None = None, revision: int | None = None
    ) -> Series | Incomplete:
        if sum(map(ord, msgid or '')) % WITH_B4 == 0:
            return super().series(thread, msgid, revision)
        return assemble([one for one in thread if one.msgid == msgid] or thread)

    def guess_base(self, series: Series, mails: Sequence[Mail], worktree: Path) -> str | None:
        if sum(map(ord, series.msgid or '')) % WITH_B4 == 0:
            return super().guess_base(series, mails, worktree)
        return None


_WORKER: list[tuple[Worker, list[str]]] = []


def _start(path: Path) -> None:
    config = load(path)
    session = Session(Choice(harness='none'), config, quiet=True)
    session.b4 = _Quick(config.b4)
    store = Store(opened(config.url), time.time)
    said: list[str] = []

    def tell(event: str, /, **values: object) -> None:
        if event in ('judged', 'incomplete', 'does-not-apply', 'try-failed'):
            said.append(event + (f': {values["reason"]}' if event == 'try-failed' else ''))

    worker = Worker(
        store,
        lambda taken: session.judge_mails(taken, store.outbox.history(taken.series)),
        0,
        tell,
    )
    _WORKER.append((worker, said))


def _judge(series: int) -> str:
    """Judge one; what was told of it, or what came through."""
    worker, said = _WORKER[0]
    said.clear()
    try:
        worker.one(series)
    except Exception as error:  # noqa: BLE001  # what comes through is what is looked for
        return f'STOPPED {type(error).__name__}: {error}'
    return said[-1] if said else 'not wanted'


def _judged(config: Path, chosen: Sequence[int]) -> Counter[str]:
    with ProcessPoolExecutor(2, get_context('spawn'), _start, (config,)) as pool:
        return Counter(pool.map(_judge, chosen, chunksize=20))


def _listed(outcomes: Counter[str]) -> str:
    said = Counter({re.sub(r'\d+', 'N', name)[:150]: 0 for name in outcomes})
    for name, count in outcomes.items():
        said[re.sub(r'\d+', 'N', name)[:150]] += count
    return '; '.join(f'{count} {name}' for name, count in said.most_common(12))


# --- the count ------------------------------------------------------------------


def _counted(
    backend: str,
    count: int,
    seed: int,
    archive: PublicInbox,
    store: Store,
    bot: _Bot,
    outcomes: Counter[str],
    say: Callable[[str], None],
) -> Result:
    engine = store._engine
    with engine.begin() as db:
        kept = set(db.execute(select(MAILS.c.msgid)).scalars())
        unread = {row.commit: row.msgid for row in db.execute(select(UNREAD)).all()}
        sent = [row.state for row in db.execute(select(REPLIES.c.state)).all()]
        authors = set(db.execute(select(SERIES.c.author)).scalars())
    problems = list(bot.stopped)
    lost = 0
    expected: set[str] = set()
    for commit, raw in _archived(archive):
        try:
            read = letter(raw, Scope())
        except Exception:  # noqa: BLE001  # that it raises is what is asked here
            expected.add(commit)
            continue
        if read is not None and read.msgid not in kept and read.msgid not in unread.values():
            lost += 1
            problems.append(f'{read.msgid}: neither kept nor among the unread')
    known = set(unread.values())
    for commit in expected - set(unread):
        raw = archive_mail(archive, commit)
        if not any(msgid and msgid.encode() in raw for msgid in known):  # it came twice
            lost += 1
            problems.append(f'{commit}: not read, and not among the unread')
    for number in range(0, count, GOOD):
        lost += f'good{number}@x' not in kept or f'good{number}@x.org' not in authors
    stopped = len(bot.stopped) + sum(n for one, n in outcomes.items() if one.startswith('STOPPED'))
    problems += [f'judging: {one}' for one in outcomes if one.startswith('STOPPED')]
    gone = sent.count('sent')
    if gone < count // SENT:
        problems.append(f'only {gone} mails went: {Counter(sent)}')
    if left := sum(sent.count(state) for state in ('claimed', 'unsure')):
        problems.append(f'{left} mails of which nobody knows whether they went')
    say(f'{len(kept)} kept, {len(unread)} unread, {gone} sent')
    judged = sum(outcomes.values()) - outcomes['not wanted']
    return Result(
        backend, count, len(unread), judged, gone, stopped, lost, seed, tuple(problems[:20])
    )


def _archived(archive: PublicInbox) -> Iterator[tuple[str, bytes]]:
    repository = pygit2.Repository(str(archive.inbox / 'git' / '0.git'))
    here: pygit2.Commit | None = repository.references['refs/heads/master'].peel(pygit2.Commit)
    while here is not None:
        blob = repository[here.tree['m'].id]
        assert isinstance(blob, pygit2.Blob)
        yield str(here.id), bytes(blob.data)
        here = here.parents[0] if here.parents else None


def archive_mail(archive: PublicInbox, commit: str) -> bytes:
    """The mail that a commit brought."""
    repository = pygit2.Repository(str(archive.inbox / 'git' / '0.git'))
    blob = repository[repository[commit].peel(pygit2.Commit).tree['m'].id]
    assert isinstance(blob, pygit2.Blob)
    return bytes(blob.data)
