"""One campaign: a real archive, real processes, `kill -9`, and the count afterwards."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from bot import demo
from bot.store.database import opened
from tests.gitrepo import ENV
from tests.lettering import DIFF, Post, post
from tests.services.postgres import Postgres
from tests.services.publicinbox import PublicInbox, serving

WORKERS = {'sqlite': 1, 'postgresql': 3}
LONGEST_LIFE = 4.0
"""Seconds that a process lives at most before it is killed."""


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
    """The processes of a campaign."""

    config: Path
    folder: Path
    running: dict[str, 'subprocess.Popen[bytes]'] = field(default_factory=dict)

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

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def once(self, command: str) -> None:
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, '-P', '-m', 'bot', command, '--once', '--config', str(self.config)],
            capture_output=True,
            check=False,
            env=self.environment(),
        )
        assert done.returncode == 0, done.stderr.decode()

    def environment(self) -> dict[str, str]:
        return {**os.environ, **ENV, 'HOME': str(self.folder), 'XDG_CACHE_HOME': str(self.folder)}


def campaign(
    backend: str, kills: int, seed: int, folder: Path, say: Callable[[str], None]
) -> Result:
    """Run one; the folder is the caller's to remove."""
    choose = random.Random(seed)
    tree, _ = demo.write(folder / 'demo')
    server = Postgres() if backend == 'postgresql' else None
    try:
        url = server.create('torture') if server else f'sqlite:///{folder / "state.db"}'
        posted = list(_stream(choose, max(kills // 5, 6)))
        with serving(folder / 'archive', [posted[0].raw]) as archive:
            stage = Stage(_config(folder, archive, tree, url), folder)
            done = _storm(stage, archive, posted[1:], choose, kills, WORKERS[backend], say)
            for _ in range(20):
                stage.once('watch')
                stage.once('work')
                if not _waiting(url):
                    break
        return _counted(backend, done, seed, posted, url)
    finally:
        if server is not None:
            server.stop()


def _storm(
    stage: Stage,
    archive: PublicInbox,
    posts: list[Post],
    choose: random.Random,
    kills: int,
    workers: int,
    say: Callable[[str], None],
) -> int:
    """Kill as often as wanted, while the mails come in; how often that was."""
    names = {'watch': 'watch', **{f'work{n}': 'work' for n in range(workers)}}
    ends: dict[str, float] = {}
    each = max(len(posts) * 2 // max(kills, 1), 1)
    count = 0
    left = list(posts)
    try:
        while count < kills:
            for name, command in names.items():
                if name not in stage.running:
                    stage.start(name, command)
                    ends[name] = time.monotonic() + choose.uniform(0.1, LONGEST_LIFE)
            name = min(ends, key=lambda one: ends[one])
            # Time that processes are given to live in, not time that a test waits for something.
            time.sleep(max(ends[name] - time.monotonic(), 0))
            stage.kill(name)
            del ends[name]
            count += 1
            if left and choose.random() < 0.5:
                archive.add(one.raw for one in left[:each])
                left = left[each:]
            if count % 50 == 0:
                say(f'{count} kills, {len(posts) - len(left)} of {len(posts)} mails')
    finally:
        for name in list(stage.running):
            stage.kill(name)
    archive.add(one.raw for one in left)
    return count


def _stream(choose: random.Random, count: int) -> list[Post]:
    """Mails of many series, some in disorder, as they would reach an archive."""
    queues = []
    for number in range(count):
        of = choose.choice((1, 1, 2, 3))
        name = f's{number}'
        mails = []
        root: tuple[str, ...] = ()
        if of > 1:
            mails.append(post(f'{name}.0@x', f'[PATCH 0/{of}] mm: {name}', 'Hello.\n'))
            root = (f'{name}.0@x',)
        for n in range(1, of + 1):
            tag = f' {n}/{of}' if of > 1 else ''
            body = 'Because.\n\nSigned-off-by: A Developer <dev@example.org>\n---\n'
            diff = DIFF.format(path=f'mm/vma_{name}_{n}.c', what=n).replace(
                f'--- a/mm/vma_{name}_{n}.c', '--- /dev/null'
            )
            diff = diff.replace('index 1111111', 'new file mode 100644\nindex 0000000')
            diff = diff.replace('@@ -1 +1,2 @@\n int x;\n', '@@ -0,0 +1 @@\n')
            mails.append(
                post(f'{name}.{n}@x', f'[PATCH{tag}] mm: {name} part {n}', body + diff, *root)
            )
        if choose.random() < 0.3:
            choose.shuffle(mails)
        queues.append(mails)
    stream = []
    while queues:
        queue = choose.choice(queues[:4])
        stream.append(queue.pop(0))
        if not queue:
            queues.remove(queue)
    return stream


def _config(folder: Path, archive: PublicInbox, tree: Path, url: str) -> Path:
    config = folder / 'config.toml'
    config.write_text(
        f'[lore]\nurl = "{archive.url}"\npoll = "1s"\nsince = "36500d"\nsettle = "1h"\n'
        f'[[tree]]\nname = "demo"\npath = "{tree}"\n[attestation]\ncheck = false\n'
        f'[state]\nurl = "{url}"\ncache = "{folder / "cache"}"\nkeep = "36500d"\n'
    )
    return config


def _waiting(url: str) -> bool:
    engine = opened(url)
    with engine.begin() as db:
        found = db.execute(
            text("SELECT count(*) FROM series WHERE state IN ('pending', 'working')")
        ).scalar_one()
    engine.dispose()
    return bool(found)


def _counted(backend: str, kills: int, seed: int, posted: list[Post], url: str) -> Result:
    names = {one.msgid.split('.')[0] for one in posted}
    engine = opened(url)
    with engine.begin() as db:
        rows = db.execute(
            text(
                'SELECT patches.msgid, series.id, reviews.series FROM series'
                ' JOIN patches ON patches.series = series.id AND patches.n = 1'
                ' LEFT JOIN reviews ON reviews.series = series.id'
            )
        ).all()
        parked = db.execute(
            text("SELECT id, state, why FROM series WHERE state <> 'reviewed'")
        ).all()
    engine.dispose()
    reviewed = Counter(msgid.split('.')[0] for msgid, _, review in rows if review is not None)
    made = Counter(msgid.split('.')[0] for msgid, _, _ in rows)
    problems = [f'series {one.id} is {one.state}: {one.why}' for one in parked]
    if backend == 'sqlite':
        with sqlite3.connect(url.removeprefix('sqlite:///')) as db:
            said = db.execute('PRAGMA integrity_check').fetchone()[0]
        if said != 'ok':
            problems.append(f'PRAGMA integrity_check: {said}')
    return Result(
        backend,
        kills,
        len(names),
        sum(reviewed[name] == 0 for name in names),
        sum(max(reviewed[name], made[name]) > 1 for name in names),
        seed,
        tuple(problems),
    )
