"""`bot work` as a service: its processes die, are killed and are stopped, and nothing is lost."""

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bot.assembly import letter
from bot.model import Scope
from bot.store import Store
from bot.store.database import opened
from tests.conftest import Bot, Demo, start_bot
from tests.torture.campaign import children, mails_of

pytestmark = pytest.mark.slow

SCOPE = Scope(paths=('mm/vma*',), symbols=(), subjects=())
RULE = '''
"""Waits, dies or says nothing, as the test wants it."""

import os
from pathlib import Path

from bot.rule import Case, Edit, Rule
from bot.model import Severity

HERE = Path({folder!r})


def check(subject):
    name = subject.series.subject
    with (HERE / 'seen').open('a') as seen:
        seen.write(name + '\\n')
    if 'dies' in name and (HERE / 'seen').read_text().count(name) <= 2:
        os.kill(os.getpid(), 9)
    if 'waits' in name:
        (HERE / 'fifo').read_bytes()
    return iter(())


RULE = Rule(id='test-only', severity=Severity.NOTE, check=check, bad=(), good=())
'''
SECONDS = 60


class Place:
    """A database with series, and a configuration whose one rule does as it is told."""

    def __init__(self, folder: Path, tree: Path, processes: int) -> None:
        self.folder = folder
        self.database = folder / 'state.db'
        os.mkfifo(folder / 'fifo')
        (folder / 'rules').mkdir()
        (folder / 'rules' / 'test_only.py').write_text(RULE.format(folder=str(folder)))
        self.config = folder / 'config.toml'
        self.config.write_text(
            f'[[tree]]\nname = "demo"\npath = "{tree}"\n[attestation]\ncheck = false\n'
            f'[rules]\npaths = ["{folder / "rules"}"]\n[state]\nurl = "sqlite:///{self.database}"\n'
            f'cache = "{folder / "cache"}"\n[work]\nprocesses = {processes}\n'
            '[lore]\nurl = "http://127.0.0.1:9"\n'
        )
        self.running: list[subprocess.Popen[bytes]] = []

    def post(self, *names: str) -> None:
        store = Store(opened(f'sqlite:///{self.database}'), time.time)
        letters = [letter(one.raw, SCOPE) for name in names for one in mails_of(name, 1, 1)]
        store.take_in('l', (one for one in letters if one), None)
        store.close()

    def start(self, command: str = 'work') -> 'subprocess.Popen[bytes]':
        process = start_bot(command, '--config', self.config)
        self.running.append(process)
        return process

    def states(self) -> dict[str, str]:
        with closing(sqlite3.connect(self.database)) as db:
            return dict(db.execute('SELECT title, state FROM series ORDER BY id').fetchall())

    def work(self) -> list[tuple[int, ...]]:
        with closing(sqlite3.connect(self.database)) as db:
            return db.execute('SELECT series, tries, kills FROM work').fetchall()

    def seen(self) -> list[str]:
        path = self.folder / 'seen'
        return path.read_text().splitlines() if path.exists() else []

    def stop(self) -> None:
        for process in self.running:
            process.kill()
            process.communicate()


def until(what: Callable[[], object]) -> None:
    """Wait for another process."""
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end, 'it does not come'
        time.sleep(0.02)


@pytest.fixture
def place(sample: Demo, tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, sample.tree, 2)
    yield made
    made.stop()


def gone(pid: int) -> bool:
    return not Path(f'/proc/{pid}/exe').exists()


def test_what_dies_of_a_series_takes_no_other_with_it(place: Place, bot: Bot) -> None:
    place.post('one', 'dies', 'two')
    done = bot('work', '--once', '--config', place.config)
    assert done.code == 0
    assert done.err.count('series 2: the process that judged it died') == 2
    assert set(place.states().values()) == {'reviewed'}
    assert sorted(place.seen()) == sorted(
        f'mm: {name} part 1' for name in ('one', 'two', *['dies'] * 3)
    )


def test_the_pool_dies_with_its_parent(place: Place, bot: Bot) -> None:
    place.post('waits')
    worker = place.start()
    until(lambda: place.seen())
    pool = children(worker.pid)
    assert pool
    again = bot('work', '--once', '--config', place.config)
    assert (again.code, 'another bot work is running' in again.err) == (3, True)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    until(lambda: all(gone(pid) for pid in pool))
    assert place.states() == {'mm: waits part 1': 'working'}
    (place.folder / 'fifo').unlink()
    (place.folder / 'fifo').touch()
    assert bot('work', '--once', '--config', place.config).code == 0
    assert place.states() == {'mm: waits part 1': 'reviewed'}
    assert len(place.seen()) == 2


@pytest.mark.parametrize(
    ('command', 'asked', 'code'),
    [
        ('work', signal.SIGTERM, 0),
        ('work', signal.SIGINT, 130),
        ('run', signal.SIGINT, 130),
    ],
)
def test_what_is_in_hand_is_put_back(
    place: Place, command: str, asked: signal.Signals, code: int
) -> None:
    place.post('waits', 'waits-2', 'third')
    worker = place.start(command)
    until(lambda: len(place.seen()) >= 2)
    pool = children(worker.pid)
    # A terminal's ^C goes to all of them.
    os.killpg(worker.pid, asked) if asked == signal.SIGINT else worker.send_signal(asked)
    _, err = worker.communicate(timeout=SECONDS)
    assert worker.returncode == code
    assert b'Traceback' not in err, err.decode()
    assert all(gone(pid) for pid in pool)
    assert set(place.states().values()) == {'pending'}
    assert place.work() == [(1, 0, 0), (2, 0, 0), (3, 0, 0)], err.decode()


def test_a_wrong_configuration_is_said_at_once(place: Place, bot: Bot) -> None:
    text = place.config.read_text()
    place.config.write_text(text.replace('[rules]', '[rules]\ndisable = ["nonsense"]'))
    done = bot('work', '--once', '--config', place.config)
    assert (done.code, 'there is no rule "nonsense"' in done.err) == (2, True)


def test_what_was_parked_is_tried_anew(place: Place, bot: Bot) -> None:
    place.post('one')
    place.states()
    with sqlite3.connect(place.database) as db:
        db.execute("UPDATE series SET state = 'parked'")
        db.execute('UPDATE work SET tries = 3')
    assert bot('work', '--once', '--config', place.config).err == ''
    done = bot('work', '--once', '--parked', '--config', place.config)
    assert '1 series are tried anew' in done.err
    assert place.states() == {'mm: one part 1': 'reviewed'}


def test_status_says_what_waits_and_why(place: Place, bot: Bot) -> None:
    place.post('one')
    said = bot('status', '--json', '--config', place.config).out
    row = json.loads(said)
    assert row['since'] > 1_700_000_000
    assert {key: row[key] for key in row if key != 'since'} == {
        'series': 1,
        'list': 'l',
        'title': 'mm: one part 1',
        'author': 'A Developer',
        'revision': 1,
        'patches': '1/1',
        'state': 'pending',
        'why': '',
    }


def test_an_archive_that_is_down_keeps_nobody_from_judging(place: Place, bot: Bot) -> None:
    place.post('one')
    done = bot('run', '--once', '--config', place.config)
    assert done.code == 3
    assert 'http://127.0.0.1:9/linux-mm' in done.err
    assert place.states() == {'mm: one part 1': 'reviewed'}
