"""Who may read what the bot writes, and what a kill at any moment leaves of it."""

import contextlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bot import files
from bot.store import backup as copies
from bot.store.database import opened
from tests.conftest import Bot, Demo
from tests.test_work import Place

ROOT = Path(__file__).parent.parent
NOBODY = 65534


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- whole files --------------------------------------------------------------


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / 'x'
    files.write(path, b'one')
    with contextlib.suppress(KeyError), files.whole(path) as new:
        new.write_bytes(b'half')
        raise KeyError
    assert path.read_bytes() == b'one'
    with pytest.raises(FileExistsError), files.whole(path, new=True) as new:
        new.write_bytes(b'two')
    assert path.read_bytes() == b'one'
    files.write(path, b'two', durable=False)
    assert path.read_bytes() == b'two'
    assert [one.name for one in tmp_path.iterdir()] == ['x']


HOLDER = """
import sys
from pathlib import Path
from bot import files
with files.temporary(Path(sys.argv[1])) as room:
    (room / 'new').write_text('x')
    print(room, flush=True)
    sys.stdin.read()
"""


def test_leftovers_of_the_killed_go_and_no_others(tmp_path: Path) -> None:
    held = subprocess.Popen(
        [sys.executable, '-c', HOLDER, tmp_path],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert held.stdout is not None
    room = Path(held.stdout.readline().strip())
    (tmp_path / '.vma-bot-a-file').touch()
    (tmp_path / '.vma-bot-link').symlink_to(ROOT)
    old = tmp_path / '.state.db-abcd_123'
    for path in (old, tmp_path / '.state.db-backup', tmp_path / 'mine-abcd_123'):
        path.touch()
        os.utime(path, (1000, 1000))
    (tmp_path / '.state.db-new_1234').touch()
    files.sweep(tmp_path, files.PREFIX, '.state.db-')
    assert room.exists()
    assert not old.exists()
    held.kill()
    held.communicate()
    assert room.exists()
    files.sweep(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        '.state.db-backup', '.state.db-new_1234', '.vma-bot-a-file', '.vma-bot-link',
        'mine-abcd_123',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('place', 'there', 'made'),
    [
        (0o755, None, 0o600),  # a umask made it
        (0o700, None, 0o600),
        (0o750, None, 0o640),  # a group of readers
        (0o2750, None, 0o640),
        (0o2770, None, 0o660),
        (0o2775, None, 0o660),
        (0o1777, None, 0o600),
        (0o755, 0o644, 0o600),
        (0o755, 0o640, 0o640),
        (0o2770, 0o600, 0o600),
    ],
)  # fmt: skip
def test_a_group_reads_what_an_operator_gave_it(
    place: int, there: int | None, made: int, tmp_path: Path
) -> None:
    folder = tmp_path / 'place'
    folder.mkdir()
    folder.chmod(place)
    path = folder / 'x'
    if there is not None:
        path.touch()
        path.chmod(there)
    files.write(path, b'')
    assert mode(path) == made
    assert mode(folder) == place


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root')
def test_another_group_of_a_folder_reads_nothing(tmp_path: Path) -> None:
    """Without setgid a new file is of the process's own group: that is not the folder's."""
    os.chown(tmp_path, 0, 54321)
    tmp_path.chmod(0o750)
    files.write(tmp_path / 'x', b'')
    assert mode(tmp_path / 'x') == 0o600


def test_what_an_earlier_version_left_open_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / 'vma-review-bot'
    folder.mkdir()
    folder.chmod(0o755)
    database = folder / 'state.db'
    opened(f'sqlite:///{database}').dispose()
    folder.chmod(0o755)
    database.chmod(0o644)
    opened(f'sqlite:///{database}').dispose()
    assert (mode(folder), mode(database)) == (0o700, 0o600)
    # What an operator chose stays; a folder of another name is not ours to change.
    folder.chmod(0o750)
    database.chmod(0o640)
    tmp_path.chmod(0o755)
    opened(f'sqlite:///{database}').dispose()
    opened(f'sqlite:///{tmp_path}/other.db').dispose()
    assert (mode(folder), mode(database), mode(tmp_path)) == (0o750, 0o640, 0o755)
    assert mode(tmp_path / 'other.db') == 0o600


@pytest.mark.slow
def test_whatever_the_umask_nobody_else_reads_it(sample: Demo, tmp_path: Path) -> None:
    """The whole of it as processes: judged, copied, paused; builds, caches, metrics, locks."""
    home = tmp_path / 'home'
    home.mkdir()
    place = Place(home, sample.tree, 1)
    place.config.write_text(
        place.config.read_text().replace(f'{place.database}', f'{home}/s/vma-review-bot/state.db')
        + f'[metrics]\nfile = "{home}/metrics.prom"\n[mail]\nstop_file = "{home}/stop/STOP"\n'
    )
    given = set(home.rglob('*'))
    env = {
        **os.environ,
        'XDG_STATE_HOME': f'{home}/state',
        'XDG_CACHE_HOME': f'{home}/cache',
        'TMPDIR': str(tmp_path),
    }

    def run(*words: object) -> None:
        done = subprocess.run(
            [sys.executable, '-P', '-m', 'bot', *map(str, words), '--config', str(place.config)],
            env=env, umask=0, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 1, 3), done.stderr

    run('status')
    run('work', '--once')
    run('watch', '--once')
    run('check', '--tree', sample.tree, sample.mbox)
    run('pause')
    run('backup', home / 'copy.db')
    made = sorted(set(home.rglob('*')) - given)
    names = {one.name for one in made}
    assert {'state.db', 'copy.db', 'STOP', 'metrics-work.prom', 'results', 'state.db.lock'} <= names
    open_ = [one for one in made if mode(one) & 0o077 and not one.is_symlink()]
    # Who pauses is not always who sends: the stop file says no more than why.
    assert open_ == [home / 'stop' / 'STOP']
    assert mode(home / 'stop') == 0o700
    assert [one.name for one in tmp_path.iterdir()] == ['home']


def test_doctor_says_what_others_may_read(tmp_path: Path) -> None:
    from bot.config import load
    from bot.doctor import CHECKS

    config = tmp_path / 'config.toml'
    config.write_text(
        f'[state]\nurl = "sqlite:///{tmp_path}/state.db"\ncache = "{tmp_path}/cache"\n'
        '[lore]\nurl = "https://u:secret@lore.example"\n'
    )
    config.chmod(0o600)
    tmp_path.chmod(0o755)
    (tmp_path / 'state.db').touch(0o600)
    (part,) = CHECKS['privacy'](load(config))
    assert part.level == 'ok'
    for path in (tmp_path / 'state.db', config):
        path.chmod(0o644)
    (part,) = CHECKS['privacy'](load(config))
    assert part.level == 'warning'
    assert part.mend == f'chmod go-rwx {tmp_path}/state.db {config}'


# --- copies that are killed, and whose they are --------------------------------

DRIVER = r"""
import json, os, random, shutil, signal, sqlite3, sys
from contextlib import closing
from pathlib import Path
from bot.store import backup as copies

what, file, database, user, template, first, last = sys.argv[1:]
STEPS = ('os.rename', 'os.remove', 'os.link', 'os.chmod', 'os.chown', 'os.mkdir', 'os.rmdir',
         'shutil.', 'sqlite3.connect', 'fcntl.', 'tempfile.')

def do():
    if what == 'backup':
        copies.backup(Path(database), Path(file), force=True)
    else:
        copies.restore(Path(file), Path(database), force=True, now=1.8e9)

def copied(kill, alarm=0.0):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if int(user):
        os.setgroups([])
        os.setgid(int(user))
        os.setuid(int(user))
    seen = 0
    def hook(event, _):
        nonlocal seen
        if event.startswith(STEPS):
            seen += 1
            if seen == kill:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    if alarm:
        signal.setitimer(signal.ITIMER_REAL, alarm)  # nobody handles it: it ends the process
    do()
    os._exit(0)

def mark(path):
    if not os.path.exists(path):
        return 'none'
    if Path(path).read_bytes()[:8] == b'nonsense':
        return 'damaged'
    with closing(sqlite3.connect(path)) as db:
        assert db.execute('PRAGMA integrity_check').fetchone() == ('ok',)
        return db.execute("SELECT value FROM facts WHERE name = 'mark'").fetchone()[0]

def tried(**how):
    if template:
        place = Path(database).parent
        shutil.rmtree(place)
        shutil.copytree(template, place)
    ended = copied(**how)
    left = sorted(os.listdir(Path(database).parent))
    print(json.dumps([ended, mark(file), mark(database), left]))
    return ended

kill = int(first)
while tried(kill=kill) != 0 and kill < int(last):
    kill += 1
if template:
    random.seed(1)
    for _ in range(20):
        tried(kill=0, alarm=random.uniform(0.0005, 0.2))
    copied(0)
    print(json.dumps([copied(0), '', '', sorted(os.listdir(Path(database).parent))]))
"""
Outcome = tuple[int, str, str, list[str]]


def driven(
    what: str,
    file: Path,
    database: Path,
    user: int = 0,
    template: Path | str = '',
    kills: tuple[int, int] = (0, 0),
) -> list[Outcome]:
    """
    Copy in processes of their own; how each ended, the marks of copy and database, and all names.

    `kills`: each is killed at one of these steps; with a `template` of what is
    there before, also at moments by chance, and not at the last.
    """
    words = [what, file, database, user, template, *kills]
    done = subprocess.run(
        [sys.executable, '-c', DRIVER, *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def marked(path: Path, mark: str) -> None:
    opened(f'sqlite:///{path}').dispose()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT OR REPLACE INTO facts VALUES ('mark', ?)", (mark,))


def mark_of(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute('PRAGMA integrity_check').fetchone() == ('ok',)
        return str(db.execute("SELECT value FROM facts WHERE name = 'mark'").fetchone()[0])


def wreck(database: Path) -> None:
    """Damage a database whose log, read into another one, would spoil that."""
    with closing(sqlite3.connect(database)) as db:
        db.execute('PRAGMA journal_mode = WAL')
        db.execute('PRAGMA wal_autocheckpoint = 0')
        with db:
            db.execute("INSERT OR REPLACE INTO facts VALUES ('mark', 'poison')")
        log = Path(f'{database}-wal').read_bytes()
    database.write_bytes(b'nonsense ' * 1000)
    Path(f'{database}-wal').write_bytes(log)
    Path(f'{database}-shm').write_bytes(b'\0' * 32768)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of a database, marked "old"."""
    marked(tmp_path / 'first.db', 'old')
    copies.backup(tmp_path / 'first.db', tmp_path / 'copy.db', force=False)
    return tmp_path / 'copy.db'


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every user may enter: those of pytest are their user's alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root')
@pytest.mark.parametrize('whose', [0, NOBODY], ids=['root', 'the service user'])
@pytest.mark.parametrize('damaged', [False, True], ids=['whole', 'damaged'])
def test_a_restored_file_is_whose_the_old_one_was(
    whose: int, *, damaged: bool, copy: Path, reachable: Path
) -> None:
    copy = copy.rename(reachable / 'copy.db')
    copy.chmod(0o644)
    place = reachable / 'state'
    place.mkdir()
    database = place / 'state.db'
    marked(database, 'new')
    if damaged:
        wreck(database)
    for path in (place, *place.iterdir()):
        os.chown(path, NOBODY, NOBODY if whose else 54321)
        path.chmod(0o2770 if path == place else 0o660)
    before = database.stat()
    assert driven('restore', copy, database, whose)[0][0] == 0
    after = database.stat()
    assert (after.st_uid, after.st_gid, mode(database)) == (before.st_uid, before.st_gid, 0o660)
    assert mark_of(database) == 'old'
    names = sorted(one.name for one in place.iterdir())
    moved = [f'state.db.damaged-1800000000{end}' for end in ('', '-shm', '-wal')]
    assert names == (['state.db', *moved] if damaged else ['state.db'])


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root')
def test_without_a_database_it_is_the_folders(copy: Path, tmp_path: Path) -> None:
    place = tmp_path / 'state'
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    (place / 'state.db-wal').write_bytes(b'of another one')
    assert driven('restore', copy, place / 'state.db')[0][0] == 0
    there = (place / 'state.db').stat()
    assert (there.st_uid, there.st_gid, there.st_mode & 0o777) == (NOBODY, NOBODY, 0o600)
    assert mark_of(place / 'state.db') == 'old'


@pytest.mark.slow
@pytest.mark.parametrize('what', ['backup', 'restore', 'restore over a damaged one'])
def test_killed_at_every_step(what: str, copy: Path, tmp_path: Path) -> None:
    """A copy is the old one or the new one; nothing stays behind once the next has come."""
    template = tmp_path / 'template'
    template.mkdir()
    marked(template / 'state.db', 'new')
    shutil.copy(copy, template / 'copy.db')
    if what.endswith('damaged one'):
        wreck(template / 'state.db')
    place = tmp_path / 'state'
    shutil.copytree(template, place)
    *ends, last = driven(
        what.split()[0], place / 'copy.db', place / 'state.db', 0, template, (1, 200)
    )
    assert sum(end == -9 for end, *_ in ends) >= 10
    assert any(end == 0 for end, *_ in ends)
    possible = {
        'backup': {('old', 'new'), ('new', 'new')},
        'restore': {('old', 'new'), ('old', 'old')},
        'restore over a damaged one': {('old', 'damaged'), ('old', 'old')},
    }[what]
    assert {(of_copy, of_database) for _, of_copy, of_database, _ in ends} == possible
    # What a killed one left goes with the next; a damaged database is kept, once.
    assert last[0] == 0
    logs = {'state.db-shm', 'state.db-wal'} if what == 'backup' else set()  # of the one in use
    left = {one for one in last[3] if '.damaged-' not in one}
    assert left - logs == {'copy.db', 'state.db'}


@pytest.mark.slow
def test_leftovers_of_a_killed_copy_go_with_the_next_start(
    copy: Path, tmp_path: Path, bot: Bot
) -> None:
    database = tmp_path / 'state.db'
    marked(database, 'new')
    driven('restore', copy, database, 0, '', (8, 12))
    assert list(tmp_path.glob('.vma-bot-*'))
    config = tmp_path / 'config.toml'
    config.write_text(f'[state]\nurl = "sqlite:///{database}"\n')
    assert bot('status', '--config', config).code == 0
    assert not list(tmp_path.glob('.vma-bot-*'))
