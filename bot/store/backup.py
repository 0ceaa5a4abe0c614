"""
A copy of a SQLite database, made while it is used; and a database from a copy.

A copy is one moment's: whatever is written meanwhile is in it whole or not at
all. It is one file, without a log beside it. A restore is one transaction of
SQLite's; it asks first whether the copy is sound and of a version that this
program knows, and it refuses a database that any process has open.

What went out since the copy was made, the copy does not know. So a database
that is restored counts as first used then: nothing older is mailed about.
"""

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from alembic.script import ScriptDirectory
from sqlalchemy import update
from sqlalchemy.engine import make_url

from bot.errors import StoreError, UsageError
from bot.store.database import MIGRATIONS, opened, transaction
from bot.store.tables import FACTS

PATIENCE = 0.0
"""Seconds that a restore waits for others to let go of a database: they have to be stopped."""


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
    number, name = tempfile.mkstemp(prefix=f'.{file.name}-', dir=file.parent)
    os.close(number)
    temporary = Path(name)
    try:
        with _opened(database, 'ro') as source, _opened(temporary, 'rw') as copy:
            source.backup(copy)
            copy.execute('PRAGMA journal_mode = DELETE')
            _sound(copy, database)
        with temporary.open('rb') as written:
            os.fsync(written.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return file.stat().st_size


def restore(file: Path, database: Path, *, force: bool, now: float) -> Path | None:
    """
    Put a copy in a database's place.

    `force`: also where there is one; one that is too damaged to be written over
    is moved away, and its new name returned (`now` is part of it). Raises `StoreError`.
    """
    if not file.exists():
        raise StoreError(f'{file}: there is no such file')
    database.parent.mkdir(parents=True, exist_ok=True)
    there = database.exists()
    with _opened(file, 'ro') as source:
        _sound(source, file)
        _known(source, file)
        if there and not force:
            raise StoreError(f'{database}: is there already: --force puts the copy in its place')
        with _prepared(source, database, now) as ready:
            moved = _aside(database, now) if there and _is_damaged(database) else None
            with _opened(database, 'rwc') as target, _locked(target, database):
                ready.backup(target)
    if not there or moved is not None:
        database.chmod(0o600)
        if os.geteuid() == 0:  # the service, whose folder it is, has to open it
            owner = database.parent.stat()
            os.chown(database, owner.st_uid, owner.st_gid)
    return moved


@contextlib.contextmanager
def _prepared(
    source: sqlite3.Connection, database: Path, now: float
) -> Iterator[sqlite3.Connection]:
    """Make of a copy what is to stand there: of this version, and first used now."""
    with tempfile.TemporaryDirectory(prefix='.restore-', dir=database.parent) as folder:
        path = Path(folder) / 'state.db'
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
            yield ready


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


def _aside(database: Path, now: float) -> Path:
    """Move a damaged database and its log away; its new name."""
    name = f'{database}.damaged-{int(now)}'
    for end in ('-wal', '-shm', ''):
        with contextlib.suppress(FileNotFoundError):
            Path(f'{database}{end}').rename(f'{name}{end}')
    return Path(name)
