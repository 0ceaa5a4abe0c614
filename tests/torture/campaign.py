"""One campaign: a real archive, real processes, `kill -9`, and the count afterwards."""

import contextlib
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select, text

from bot import demo
from bot.store.database import opened
from bot.store.tables import SERIES
from tests.gitrepo import ENV
from tests.lettering import DIFF, Post, answer, post
from tests.services.faults import Fault, failing
from tests.services.postgres import Postgres
from tests.services.publicinbox import PublicInbox, serving

WORKERS = {'sqlite': 1, 'postgresql': 3}
LONGEST_LIFE = 4.0
"""Seconds after which a process is killed, be it still starting, at the latest."""
LONGEST_WAIT = 60.0
"""The same for a worker that is to be killed while it judges, if there is anything to judge."""
AIMED = 0.7
"""Seconds after something has begun within which it is interrupted."""
WELL: Fault = 'none'
FAULTS: tuple[Fault, ...] = (*(WELL,) * 17, '500', 'cut', 'drop')
JUDGED = re.compile(rb'series (\d+): (?:clean|findings|could-not-check),')
ENDED = re.compile(
    rb'series (\d+): (?:clean|findings|could-not-check,|try|does not apply|the process that)'
)
TRACEBACK = re.compile(rb'^Traceback \(most recent call last\)(?:.*\n)+?(?=bot: |\Z)', re.M)


@dataclass(frozen=True)
class Result:
    """What came of it. `problems` are other things that should not be."""

    backend: str
    kills: int
    series: int
    lost: int
    twice: int
    seed: int
    problems: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not (self.lost or self.twice or self.problems)

    def __str__(self) -> str:
        line = (
            f'backend={self.backend} kills={self.kills} series={self.series} '
            f'lost={self.lost} twice={self.twice} seed={self.seed}'
        )
        return '\n'.join([*self.problems, line])


@dataclass
class Stage:
    """The processes of a campaign. `killed` are all that should have gone with their parents."""

    config: Path
    folder: Path
    running: dict[str, 'subprocess.Popen[bytes]'] = field(default_factory=dict)
    killed: list[int] = field(default_factory=list)

    def start(self, name: str, command: str) -> None:
        with (self.folder / f'{name}.log').open('ab') as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, '-P', '-m', 'bot', command, '--config', str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                start_new_session=True,
            )

    def judges(self, name: str) -> list[int]:
        """The processes that a worker judges with."""
        return [pid for pid in children(self.running[name].pid) if b'spawn_main' in words_of(pid)]

    def kill(self, name: str) -> None:
        """Kill a process alone: what it has started is its own business."""
        self.killed += self.judges(name)
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def once(self, command: str) -> None:
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, '-P', '-m', 'bot', command, '--once', '--config', str(self.config)],
            capture_output=True,
            check=False,
            env=self.environment(),
        )
        with (self.folder / f'{command}-once.log').open('ab') as log:
            log.write(done.stderr)
        assert done.returncode == 0, done.stderr.decode()

    def environment(self) -> dict[str, str]:
        return {**os.environ, **ENV, 'HOME': str(self.folder), 'XDG_CACHE_HOME': str(self.folder)}

    def log(self, name: str) -> bytes:
        path = self.folder / f'{name}.log'
        return path.read_bytes() if path.exists() else b''


def children(pid: int) -> list[int]:
    """The processes that a process has started, from whatever thread."""
    found = []
    for path in Path(f'/proc/{pid}/task').glob('*/children'):
        with contextlib.suppress(OSError):
            found += [int(one) for one in path.read_text().split()]
    return found


def words_of(pid: int) -> bytes:
    """What a process was started with, nothing where it has gone."""
    try:
        return Path(f'/proc/{pid}/cmdline').read_bytes()
    except OSError:
        return b''


def campaign(
    backend: str, kills: int, seed: int, folder: Path, say: Callable[[str], None]
) -> Result:
    """Run one; the folder is the caller's to remove."""
    choose = random.Random(seed)
    tree, _ = demo.write(folder / 'demo')
    server = Postgres() if backend == 'postgresql' else None
    try:
        url = server.create('torture') if server else f'sqlite:///{folder / "state.db"}'
        posted = list(_stream(choose, max(kills // 3, 4)))
        faults = random.Random(seed)
        with (
            serving(folder / 'archive', [posted[0].raw]) as archive,
            failing(archive.url, lambda _: faults.choice(FAULTS)) as proxy,
        ):
            stage = Stage(_config(folder, proxy.url, tree, url), folder)
            done = _Storm(stage, archive, posted[1:], choose, url, say).blow(
                kills, WORKERS[backend]
            )
            proxy.choose = lambda _: 'none'
            for _ in range(60):
                stage.once('watch')
                stage.once('work')
                if not _states(url, 'pending', 'working'):
                    break
        return _counted(backend, done, seed, posted, url, stage)
    finally:
        if server is not None:
            server.stop()


class _Storm:
    """Mails come in while processes are killed and the archive fails."""

    def __init__(
        self,
        stage: Stage,
        archive: PublicInbox,
        posts: list[Post],
        choose: random.Random,
        url: str,
        say: Callable[[str], None],
    ) -> None:
        self.stage = stage
        self.archive = archive
        self.left = list(posts)
        self.choose = choose
        self.url = url
        self.say = say
        self.ends: dict[str, float] = {}
        self.began: dict[str, int] = {}
        self.hits: Counter[str] = Counter()

    def blow(self, kills: int, workers: int) -> int:
        """Kill as often as wanted; how often that was."""
        names = {'watch': 'watch', **{f'work{n}': 'work' for n in range(workers)}}
        of = len(self.left)
        self._post(of // 3)  # so that there is something to judge from the beginning
        each = max(len(self.left) * 2 // max(kills, 1), 1)
        count = 0
        try:
            while count < kills:
                for name, command in names.items():
                    if name not in self.stage.running:
                        self._start(name, command)
                name = self._next()
                count += 1
                self._kill(name)
                if self.left and self.choose.random() < 0.5:
                    self._post(each)
                if count % 50 == 0 or count == kills:
                    self.say(f'{count} kills, {of - len(self.left)} of {of} mails; {self}')
        finally:
            for name in list(self.stage.running):
                self.stage.kill(name)
        self._post(len(self.left))
        return count

    def __str__(self) -> str:
        kept = len(_states(self.url, 'reviewed'))
        hits = ', '.join(f'{count} {name}' for name, count in sorted(self.hits.items()))
        return f'{kept} reviews kept; killed: {hits}'

    def _start(self, name: str, command: str) -> None:
        self.stage.start(name, command)
        self.began[name] = len(self.stage.log(name))
        self.ends[name] = time.monotonic() + self._life(name)

    def _life(self, name: str) -> float:
        if name == 'watch':
            return self.choose.uniform(0.1, 3 * LONGEST_LIFE)
        if self.choose.random() < 0.3:
            return self.choose.uniform(0.1, LONGEST_LIFE)
        return LONGEST_WAIT  # until it is seen to judge

    def _next(self) -> str:
        """Wait for the next process to kill, and name it."""
        looked = time.monotonic()
        while True:
            now = time.monotonic()
            for name in self.ends:
                aimed = name != 'watch' and self.ends[name] > now + LONGEST_LIFE
                if aimed and self._is_judging(name):
                    self.ends[name] = now + self.choose.uniform(0, AIMED)
                elif aimed and now > looked + 1 and not _states(self.url, 'pending', 'working'):
                    self.ends[name] = now + self.choose.uniform(0, LONGEST_LIFE)
            if now > looked + 1:
                looked = now
            name = min(self.ends, key=lambda one: self.ends[one])
            if self.ends[name] <= now:
                return name
            # Time that processes are given to live in, not time that a test waits for something.
            time.sleep(0.02)

    def _is_judging(self, name: str) -> bool:
        said = self.stage.log(name)[self.began[name] :]
        return said.count(b': judging') > len(ENDED.findall(said))

    def _kill(self, name: str) -> None:
        judging = name != 'watch' and self._is_judging(name)
        judges = self.stage.judges(name) if judging and self.choose.random() < 0.3 else []
        what = 'watchers' if name == 'watch' else 'workers while judging' if judging else 'workers'
        if judges:
            os.kill(self.choose.choice(judges), signal.SIGKILL)
            self.hits['processes of a worker while judging'] += 1
            self.began[name] = len(self.stage.log(name))
            self.ends[name] = time.monotonic() + self._life(name)
            return
        self.hits[what] += 1
        self.stage.kill(name)
        del self.ends[name]

    def _post(self, count: int) -> None:
        """Bring mails to the archive; half of the times the watcher dies while it reads them."""
        if self.choose.random() < 0.1:
            self.archive.stop()
            self.archive.start()
        self.archive.add(one.raw for one in self.left[:count])
        self.left = self.left[count:]
        if self.choose.random() < 0.5 and 'watch' in self.ends:
            self.ends['watch'] = time.monotonic() + self.choose.uniform(0, AIMED)


def _stream(choose: random.Random, count: int) -> list[Post]:
    """Mails of many series, some in disorder, as they would reach an archive."""
    queues = []
    for number in range(count):
        of = choose.choice((1, 1, 2, 3))
        mails = mails_of(f's{number}', of, 1)
        if choose.random() < 0.3:
            choose.shuffle(mails)
        if choose.random() < 0.3:
            mails.append(answer(mails[-1], f'answer{number}'))
        if choose.random() < 0.2:
            mails += mails_of(f's{number}', of, 2)
        if choose.random() < 0.2:
            mails.append(choose.choice(mails))
        queues.append(mails)
    stream = []
    while queues:
        queue = choose.choice(queues[:4])
        stream.append(queue.pop(0))
        if not queue:
            queues.remove(queue)
    return stream


def mails_of(name: str, of: int, revision: int) -> list[Post]:
    """A series that applies to the sample kernel, each patch a new file."""
    mails = []
    root: tuple[str, ...] = ()
    version = '' if revision == 1 else f' v{revision}'
    ids = f'{name}v{revision}'
    if of > 1:
        mails.append(post(f'{ids}.0@x', f'[PATCH{version} 0/{of}] mm: {name}', 'Hello.\n'))
        root = (f'{ids}.0@x',)
    for n in range(1, of + 1):
        tag = f' {n}/{of}' if of > 1 else ''
        body = 'Because.\n\nSigned-off-by: A Developer <dev@example.org>\n---\n'
        path = f'mm/vma_{name}_{n}.c'
        diff = DIFF.format(path=path, what=10 * revision + n)
        diff = diff.replace(f'--- a/{path}', '--- /dev/null')
        diff = diff.replace('index 1111111', 'new file mode 100644\nindex 0000000')
        diff = diff.replace('@@ -1 +1,2 @@\n int x;\n', '@@ -0,0 +1 @@\n')
        mails.append(
            post(f'{ids}.{n}@x', f'[PATCH{version}{tag}] mm: {name} part {n}', body + diff, *root)
        )
    return mails


def _config(folder: Path, archive: str, tree: Path, url: str) -> Path:
    config = folder / 'config.toml'
    config.write_text(
        f'[lore]\nurl = "{archive}"\npoll = "1s"\nsince = "36500d"\nsettle = "1h"\n'
        f'[[tree]]\nname = "demo"\npath = "{tree}"\n[attestation]\ncheck = false\n'
        f'[state]\nurl = "{url}"\ncache = "{folder / "cache"}"\nkeep = "36500d"\n'
    )
    return config


def _states(url: str, *states: str) -> list[int]:
    """The series that are in one of these states."""
    engine = opened(url)
    with engine.begin() as db:
        wanted = select(SERIES.c.id).where(SERIES.c.state.in_(states))
        found = list(db.execute(wanted).scalars())
    engine.dispose()
    return found


def _counted(
    backend: str, kills: int, seed: int, posted: list[Post], url: str, stage: Stage
) -> Result:
    names = {one.msgid.split('.')[0] for one in posted if not one.msgid.startswith('answer')}
    engine = opened(url)
    with engine.begin() as db:
        rows = db.execute(
            text(
                'SELECT patches.msgid, series.id, series.state, reviews.series AS review'
                ' FROM series JOIN patches ON patches.series = series.id AND patches.n = 1'
                ' LEFT JOIN reviews ON reviews.series = series.id'
            )
        ).all()
    engine.dispose()
    made: Counter[str] = Counter()
    found: set[str] = set()
    problems = []
    for row in rows:
        name = row.msgid.split('.')[0]
        made[name] += 1
        later = name.replace('v1', 'v2')
        if row.review is not None or (row.state == 'superseded' and later in names - {name}):
            found.add(name)
        if row.state not in ('reviewed', 'superseded'):
            problems.append(f'{name} is {row.state}')
    # A second judgement would be thrown away: the workers' own words are the witness.
    logs = b''.join(path.read_bytes() for path in stage.folder.glob('work*.log'))
    judged = Counter(JUDGED.findall(logs))
    twice = sum(count > 1 for count in made.values()) + sum(count > 1 for count in judged.values())
    logs += stage.log('watch') + stage.log('watch-once')
    problems += [said.decode() for said in TRACEBACK.findall(logs)]
    left = [pid for pid in stage.killed if Path(f'/proc/{pid}/exe').exists()]
    if left:
        problems.append(f'outlived their workers: {left}')
    if backend == 'sqlite':
        with sqlite3.connect(url.removeprefix('sqlite:///')) as db:
            said = db.execute('PRAGMA integrity_check').fetchone()[0]
        if said != 'ok':
            problems.append(f'PRAGMA integrity_check: {said}')
    lost = len(names - found)
    return Result(backend, kills, len(names), lost, twice, seed, tuple(problems))
