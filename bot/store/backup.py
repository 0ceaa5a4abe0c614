"""
A copy of a SQLite database, made while it is used; and a database from a copy.

A copy is one moment's: whatever is written meanwhile is in it whole or not at
all. It is one file, without a log beside it. A restore asks first whether the
copy is sound and of a version that this program knows, and it refuses a
database that any process has open. It is one transaction of SQLite's; where
the database is too damaged for one, a new file takes its name, owner and mode,
in one step, after the damaged one's log was moved away: read into the new
file, that would spoil it.

What went out since the copy was made, the copy does not know. So a database
that is restored counts as first used then: nothing older is mailed about.
"""

import contextlib
import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from alembic.script import ScriptDirectory
from sqlalchemy import update
from sqlalchemy.engine import make_url

from bot import files
from bot.errors import StoreError, UsageError
from bot.store.database import MIGRATIONS, opened, transaction
from bot.store.tables import FACTS

PATIENCE = 0.0
"""Seconds that a restore waits for others to let go of a database: they have to be stopped."""
LOCKS = 0x4000_0000, 512
"""Where SQLite locks a database's file, and how many bytes: whoever has it open holds some."""


def file_of(url: str, instead: str) -> Path:
    """Return the file of a SQLite database. `UsageError` for others: what to do `instead`."""
    parsed = make_url(url)
    if parsed.get_backend_name() != 'sqlite' or not parsed.database:
        raise UsageError(f'{parsed.get_backend_name()} is backed up by its own means: {instead}')
    return Path(parsed.database)


def backup(database: Path, file: Path, *, force: bool) -> int:
    """
    Copy a database to `file`, in one step and on the disk; its size in bytes.

    Raises `StoreError`.
    """
    if not database.exists():
        raise StoreError(f'{database}: there is no database to copy')
    if file.exists() and not force:
        raise StoreError(f'{file}: is there already: another name, or --force')
    files.sweep(file.parent, files.PREFIX, f'.{file.name}-')
    with (
        files.whole(file, mode=0o600) as temporary,
        _opened(database, 'ro') as source,
        _opened(temporary, 'rwc') as copy,
    ):
        source.backup(copy)
        copy.execute('PRAGMA journal_mode = DELETE')
        _sound(copy, database)
    return file.stat().st_size


def restore(file: Path, database: Path, *, force: bool, now: float) -> Path | None:
    """
    Put a copy in a database's place.

    `force`: also where there is one; one that is too damaged to be written over
    is moved away, and its new name returned (`now` is part of it). Raises `StoreError`.
    """
    if not file.exists():
        raise StoreError(f'{file}: there is no such file')
    files.folder(database.parent)
    there = database.exists()
    with _opened(file, 'ro') as source:
        _sound(source, file)
        _known(source, file)
        if there and not force:
            raise StoreError(f'{database}: is there already: --force puts the copy in its place')
        with _prepared(source, database, now) as ready:
            if there and not _is_damaged(database):
                with (
                    _opened(ready, 'ro') as copy,
                    _opened(database, 'rw') as target,
                    _locked(target, database),
                ):
                    copy.backup(target)
                files.close(database)
                return None
            if not there:
                for end in ('-wal', '-shm', '-journal'):
                    Path(f'{database}{end}').unlink(missing_ok=True)
                ready.chmod(files.mode_in(database.parent))
                files.give(ready, database.parent)
                _placed(ready, database)
                return None
            with _alone(database):
                _given(ready, database)
                moved = _aside(database, now)
                _placed(ready, database)
                return moved


@contextlib.contextmanager
def _prepared(source: sqlite3.Connection, database: Path, now: float) -> Iterator[Path]:
    """Make of a copy what is to be there, beside it: of this version, and first used now."""
    files.sweep(database.parent, files.PREFIX, '.restore-')
    with files.temporary(database.parent) as folder:
        path = folder / 'state.db'
        with _opened(path, 'rwc') as copy:
            source.backup(copy)
        engine = opened(f'sqlite:///{path}')
        try:
            with transaction(engine) as db:
                started = FACTS.c.name == 'started'
                db.execute(update(FACTS).where(started).values(value=str(int(now))))
        finally:
            engine.dispose()
        with _opened(path, 'rw') as ready:
            ready.execute('PRAGMA journal_mode = DELETE').fetchone()
        files.sync(path)
        yield path


@contextlib.contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    uri = f'file:{quote(str(path.absolute()))}?mode={mode}'
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE)) as connection:
            connection.isolation_level = None
            yield connection
    except sqlite3.Error as error:
        raise StoreError(f'{path}: {error}') from error


def _sound(connection: sqlite3.Connection, path: Path) -> None:
    for what in ('integrity_check(1)', 'foreign_key_check'):
        try:
            said = connection.execute(f'PRAGMA {what}').fetchone()
        except sqlite3.DatabaseError as error:
            raise StoreError(f'{path}: is damaged, or no database: {error}') from error
        if said not in (None, ('ok',)):
            raise StoreError(f'{path}: is damaged: {said[0]}')


def _known(connection: sqlite3.Connection, path: Path) -> None:
    """Whether this program can use a database (an older one is brought up to date later)."""
    known = {one.revision for one in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}
    try:
        row = connection.execute('SELECT version_num FROM alembic_version').fetchone()
    except sqlite3.OperationalError:
        row = None
    if row is None:
        raise StoreError(f'{path}: is no database of the bot')
    if row[0] not in known:
        raise StoreError(f'{path}: made by a later version of the bot ({row[0]})')


@contextlib.contextmanager
def _locked(target: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Hold a database alone. Its log can only be ended where no other process has it open."""
    try:
        target.execute('PRAGMA locking_mode = EXCLUSIVE')
        target.execute('PRAGMA journal_mode = DELETE').fetchone()
        target.execute('BEGIN EXCLUSIVE')
        target.execute('COMMIT')
    except sqlite3.OperationalError as error:
        if 'locked' not in str(error):
            raise
        raise StoreError(f'{path}: is in use: stop every bot on it first') from error
    yield


def _is_damaged(database: Path) -> bool:
    try:
        with _opened(database, 'rw') as connection:
            connection.execute('SELECT count(*) FROM sqlite_schema').fetchone()
    except StoreError as error:
        return isinstance(error.__cause__, sqlite3.DatabaseError) and not isinstance(
            error.__cause__, sqlite3.OperationalError
        )
    return False


@contextlib.contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Hold a file that SQLite can't read, as SQLite would. `StoreError` where others have it."""
    with database.open('rb+') as file:
        start, length = LOCKS
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
        except OSError as error:
            raise StoreError(f'{database}: is in use: stop every bot on it first') from error
        yield


def _given(ready: Path, database: Path) -> None:
    """Let a new file have the owner, the group and the mode of the database that is there."""
    was = database.stat()
    try:
        try:
            os.chown(ready, was.st_uid, was.st_gid)
        except PermissionError:
            # Another user of the group that shares it: the group is what lets the others in.
            if not was.st_mode & 0o020:
                raise
            os.chown(ready, -1, was.st_gid)
    except PermissionError as error:
        raise StoreError(
            f'{database}: is of user {was.st_uid}, group {was.st_gid}: restore as that user or root'
        ) from error
    ready.chmod(stat.S_IMODE(was.st_mode))
    files.close(ready)


def _aside(database: Path, now: float) -> Path:
    """Keep a damaged database and its log under another name; that name."""
    name = f'{database}.damaged-{int(now)}'
    Path(name).unlink(missing_ok=True)
    Path(name).hardlink_to(database)
    files.close(Path(name))
    for end in ('-wal', '-shm', '-journal'):
        with contextlib.suppress(FileNotFoundError):
            Path(f'{database}{end}').rename(f'{name}{end}')
    files.sync(database.parent)
    return Path(name)


def _placed(ready: Path, database: Path) -> None:
    ready.replace(database)
    files.sync(database.parent)
