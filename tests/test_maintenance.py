"""The brake, tidying up, and copies of the database: made while it is written to, and put back."""

import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bot.brake import pull, pulled, release
from bot.store import Store
from bot.store.database import opened
from tests.conftest import Bot, Demo
from tests.lettering import series
from tests.test_daemon import Desk
from tests.test_work import Place, until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


# --- the brake -----------------------------------------------------------------


def test_the_stop_file_says_who_when_and_why(tmp_path: Path) -> None:
    path = tmp_path / 'state' / 'STOP'
    assert pulled(path) is None
    assert not release(path)
    made = pull(path, 'too "loud"\n\x1b[31m', 1_800_000_000.5)
    assert made is not None
    assert pull(path, 'another', 1.0) is None
    found = pulled(path)
    assert found is not None
    assert (found.since, found.by, found.reason) == (1_800_000_000.0, made.by, 'too "loud"')
    assert [one.name for one in path.parent.iterdir()] == ['STOP']
    assert release(path)
    assert pulled(path) is None


@pytest.mark.parametrize(
    'content', ['', 'gone fishing\n', '{"since": 1}', '[1]', '{"since": "x", "by": 1, "reason": 2}']
)
def test_a_stop_file_made_by_hand_counts(tmp_path: Path, content: str) -> None:
    path = tmp_path / 'STOP'
    path.write_text(content)
    os.utime(path, (1000, 1000))
    found = pulled(path)
    assert found is not None
    assert found.since == 1000
    assert found.reason == content.strip()


@pytest.fixture
def place(sample: Demo, tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, sample.tree, 1)
    made.config.write_text(made.config.read_text() + f'[mail]\nstop_file = "{tmp_path}/STOP"\n')
    yield made
    made.stop()


def test_pause_and_resume(place: Place, bot: Bot) -> None:
    place.post('one')
    config = ('--config', place.config)
    assert bot('resume', *config).out == f'was not paused: there is no {place.folder}/STOP\n'
    said = bot('pause', '--reason', 'a rule is wrong', *config)
    assert said.out == f'paused: nothing is sent until bot resume ({place.folder}/STOP)\n'
    notice = re.compile(
        r'paused since \d{4}-\d\d-\d\d \d\d:\d\d UTC by \S+ \(a rule is wrong\)'
        r': nothing is sent until bot resume\n'
    )
    again = bot('pause', *config)
    assert again.out.startswith('already ')
    assert notice.fullmatch(again.out.removeprefix('already '))
    for words in (('status',), ('status', '--json'), ('outbox', 'list')):
        shown = bot(*words, *config)
        assert shown.code == 0
        assert notice.fullmatch(shown.err.removeprefix('bot: ')), shown.err
    # Judging goes on.
    assert bot('work', '--once', *config).code == 0
    assert place.states() == {'mm: one part 1': 'reviewed'}
    assert bot('resume', *config).out.startswith('resumed; it was paused since ')
    assert bot('status', *config).err == ''


# --- prune -------------------------------------------------------------------


def test_prune_says_what_went(place: Place, bot: Bot, tmp_path: Path) -> None:
    place.post('one')
    assert bot('work', '--once', '--config', place.config).code == 0
    kept = bot('prune', '--config', place.config)
    assert kept.out == (
        'database: 0 mails of series older than 365 days went\ncache: 0 files, 0.0 MB went\n'
    )
    assert place.states() != {}
    with closing(sqlite3.connect(place.database)) as db, db:
        db.execute('UPDATE series SET since = 1000, posted = 1000')
    (tmp_path / 'cache' / 'threads').mkdir(parents=True)
    (tmp_path / 'cache' / 'threads' / 'x').write_bytes(b'x' * (3 << 20))
    os.utime(tmp_path / 'cache' / 'threads' / 'x', (1000, 1000))
    text = place.config.read_text().replace('[state]\n', '[state]\ncache_size = "2M"\n')
    place.config.write_text(text)
    assert bot('prune', '--config', place.config).out == (
        'database: 1 mails of series older than 365 days went\ncache: 1 files, 3.0 MB went\n'
    )
    assert place.states() == {}


# --- copies ------------------------------------------------------------------


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All that is in a database, by table."""
    with closing(sqlite3.connect(path)) as db:
        tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        return {
            name: sorted(db.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr)
            for (name,) in sorted(tables)
            if not name.startswith('sqlite_')
        }


def forgetful(found: dict[str, list[tuple[object, ...]]]) -> dict[str, list[tuple[object, ...]]]:
    """But for when the database was first used."""
    return {**found, 'facts': [one for one in found['facts'] if one[0] != 'started']}


def test_what_is_restored_is_what_was_there(place: Place, bot: Bot, tmp_path: Path) -> None:
    config = ('--config', place.config)
    place.post('one', 'two')
    assert bot('work', '--once', *config).code == 0
    before = rows(place.database)
    copy = tmp_path / 'copies' / 'a b?.db'
    copy.parent.mkdir()
    assert bot('backup', copy, *config).code == 0
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert rows(copy) == before
    assert [one.name for one in copy.parent.iterdir()] == [copy.name]  # and no log beside it
    refused = bot('backup', copy, *config)
    assert (refused.code, 'is there already' in refused.err) == (3, True)
    assert bot('backup', '--force', copy, *config).code == 0
    # Another database in its place, and one where there was none.
    place.post('three')
    refused = bot('restore', copy, *config)
    assert refused.err == (
        f'bot: {place.database}: is there already: --force puts the copy in its place\n'
    )
    assert 'mm: three part 1' in place.states()
    assert bot('restore', '--force', copy, *config).code == 0
    assert forgetful(rows(place.database)) == forgetful(before)
    for path in tmp_path.glob('state.db*'):
        path.unlink()
    start = int(time.time())
    done = bot('restore', copy, *config)
    assert (done.code, done.out) == (0, f'{place.database}: restored from {copy}\n')
    assert forgetful(rows(place.database)) == forgetful(before)
    # Nobody knows what went since: nothing older is mailed about.
    ((started,),) = [one[1:] for one in rows(place.database)['facts'] if one[0] == 'started']
    assert int(str(started)) >= start
    assert not list(tmp_path.glob('.restore*'))
    place.post('three')
    assert bot('work', '--once', *config).code == 0
    assert set(place.states().values()) == {'reviewed'}


def test_a_copy_during_writes_is_of_one_moment(bot: Bot, tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.post(series('x', 1))
    config = tmp_path / 'config.toml'
    config.write_text(f'[state]\nurl = "sqlite:///{tmp_path}/state.db"\n')
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        store = Store(opened(f'sqlite:///{tmp_path}/state.db'), time.time)
        while not stop.is_set():
            written += 1
            desk_of(store, f'n{written}')
        store.close()

    def desk_of(store: Store, name: str) -> None:
        from bot.assembly import letter
        from tests.test_daemon import SCOPE

        letters = [letter(one.raw, SCOPE) for one in series(name, 3)]
        store.take_in('l', (one for one in letters if one), None)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        counts = []
        for number in range(4):
            until(lambda number=number: written > 3 * number)  # type: ignore[misc]  # mypy knows no lambda's defaults
            copy = tmp_path / f'copy{number}.db'
            assert bot('backup', copy, '--config', config).code == 0
            with closing(sqlite3.connect(copy)) as db:
                assert db.execute('PRAGMA integrity_check').fetchone() == ('ok',)
                patches = db.execute('SELECT count(*) FROM patches').fetchone()[0]
            counts.append(patches)
    finally:
        stop.set()
        writer.join()
    assert all((count - 1) % 3 == 0 for count in counts)
    assert counts == sorted(set(counts))
    desk.store.close()


def test_a_database_in_use_is_not_written_over(place: Place, bot: Bot, tmp_path: Path) -> None:
    config = ('--config', place.config)
    place.post('waits')
    copy = tmp_path / 'copy.db'
    worker = place.start('run')
    until(lambda: place.seen())
    assert bot('backup', copy, *config).code == 0
    refused = bot('restore', '--force', copy, *config)
    assert refused.code == 3
    assert refused.err == f'bot: {place.database}: is in use: stop every bot on it first\n'
    worker.terminate()
    worker.communicate()
    assert set(place.states().values()) == {'pending'}
    assert bot('restore', '--force', copy, *config).code == 0
    assert set(place.states().values()) == {'working'}


def test_what_can_not_be_restored(place: Place, bot: Bot, tmp_path: Path) -> None:
    config = ('--config', place.config)
    place.post('one')
    copy = tmp_path / 'copy.db'
    assert bot('backup', copy, *config).code == 0

    def refused(said: str) -> None:
        before = rows(place.database)
        done = bot('restore', '--force', copy, *config)
        assert done.code == 3
        assert re.search(said, done.err), done.err
        assert rows(place.database) == before

    whole = copy.read_bytes()
    copy.write_bytes(whole[: len(whole) // 2])
    refused('is damaged')
    copy.write_bytes(whole[:4096] + os.urandom(8192) + whole[12288:])
    refused('is damaged')
    copy.write_bytes(b'Hello, I am no database at all. ' * 200)
    refused('no database')
    copy.write_bytes(whole)
    with closing(sqlite3.connect(copy)) as db, db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    refused(r'made by a later version of the bot \(9999\)')
    copy.unlink()
    with closing(sqlite3.connect(copy)) as db, db:
        db.execute('CREATE TABLE x (y)')
    refused('is no database of the bot')
    copy.unlink()
    refused('there is no such file')


def test_a_damaged_database_is_moved_away(place: Place, bot: Bot, tmp_path: Path) -> None:
    config = ('--config', place.config)
    place.post('one')
    copy = tmp_path / 'copy.db'
    assert bot('backup', copy, *config).code == 0
    for path in tmp_path.glob('state.db*'):
        path.unlink()
    place.database.write_bytes(b'nonsense ' * 1000)
    done = bot('restore', '--force', copy, *config)
    assert done.code == 0, done.err
    assert re.match(rf'{place.database}: was damaged, and is now \S+\.damaged-\d+\n', done.out)
    assert place.states() == {'mm: one part 1': 'pending'}
    assert len(list(tmp_path.glob('state.db.damaged-*'))) == 1


def test_an_older_copy_is_brought_up_to_date(place: Place, bot: Bot, tmp_path: Path) -> None:
    from sqlalchemy import create_engine

    from bot.store.database import upgrade

    engine = create_engine(f'sqlite:///{tmp_path}/old.db')
    upgrade(engine, '0001')
    engine.dispose()
    done = bot('restore', tmp_path / 'old.db', '--config', place.config)
    assert done.code == 0, done.err
    assert json.loads(bot('status', '--json', '--config', place.config).out or '[]') == []


def test_postgresql_has_its_own_means(place: Place, bot: Bot) -> None:
    text = place.config.read_text()
    place.config.write_text(
        text.replace(f'sqlite:///{place.database}', 'postgresql://bot:secret@127.0.0.1:9/x')
    )
    for command in ('backup', 'restore'):
        done = bot(command, 'x.db', '--config', place.config)
        assert done.code == 2
        assert done.err == (
            'bot: postgresql is backed up by its own means: '
            'pg_dump --format=custom, and pg_restore\n'
        )


# --- what docs/maintenance.md says --------------------------------------------


def test_completion_as_the_document_says(tmp_path: Path) -> None:
    if shutil.which('bash') is None:
        pytest.skip('no bash')
    page = (ROOT / 'docs' / 'maintenance.md').read_text()
    commands = re.findall(r'^ {4}(_BOT_COMPLETE=.*)$', page, re.M)
    assert [re.findall(r'=(\w+)_source', one) for one in commands] == [['bash'], ['zsh'], ['fish']]
    bin_ = tmp_path / 'bin'
    bin_.mkdir()
    (bin_ / 'bot').symlink_to(ROOT / '.venv' / 'bin' / 'bot')
    environment = {**os.environ, 'HOME': str(tmp_path), 'PATH': f'{bin_}:/usr/bin:/bin'}
    for command in commands:
        target = command.partition('>')[2].strip().replace('~', str(tmp_path))
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(['bash', '-c', command], check=True, env=environment)
        assert '_BOT_COMPLETE=' in Path(target).read_text()
    script = commands[0].partition('>')[2].strip()
    asked = (
        f'source {script}; COMP_WORDS=(bot out); COMP_CWORD=1; _bot_completion bot; '
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ['bash', '-c', asked], check=True, env=environment, capture_output=True, text=True
    )
    assert done.stdout == 'outbox\n', done.stderr
