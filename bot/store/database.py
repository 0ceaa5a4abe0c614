"""Opening the database: SQLite's settings, and the migrations (Alembic)."""

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    ProgrammingError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as NoConnectionError

from bot import files
from bot.errors import StoreError
from bot.plain import storable

MIGRATIONS = Path(__file__).parent / 'migrations'
NAME = 'vma-review-bot'
"""Of the folder that the database has by default: the bot's own."""
BUSY = 30_000  # milliseconds to wait for another process's transaction
IDLE = 60_000  # milliseconds that a transaction may do nothing: its machine has gone
OF_THE_VALUES = ('21', '22', '23', '54')
"""PostgreSQL's classes of errors that values cause: wrong, not unique, too large for an index."""
TRIES = 5
"""Times that a service tries to open a database; on SQLite each of them waits `BUSY`."""
PAUSE = 2.0
PASSES = re.compile(
    r'is locked|is busy|starting up|shutting down|in recovery|refused|too many clients|timeout',
    re.I,
)
LOCK = 8_317_036  # any number that is the same in all our processes
WIRE = {
    'connect_timeout': 10,
    'keepalives_idle': 10,
    'keepalives_interval': 5,
    'keepalives_count': 4,
    'tcp_user_timeout': 30_000,
}
"""
How soon a connection to PostgreSQL counts as lost when its machine no longer answers: seconds, and
milliseconds for the last. What the URL itself says comes first.
"""


def opened(
    url: str, *, migrate: bool = True, waiting: Callable[[str], None] | None = None
) -> Engine:
    """
    Open the database at `url`, and bring it up to date.

    One that is locked, or whose server is only starting, is tried again `TRIES` times where
    somebody is to be told of it (`waiting`). Raises `StoreError`: no such server, no right
    to write, a database of a later version.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(f'[state] url: {error}') from error
    if parsed.drivername == 'postgresql':
        parsed = parsed.set(drivername='postgresql+psycopg')
    if parsed.drivername not in ('sqlite', 'postgresql+psycopg'):
        raise StoreError(f'[state] url: {parsed.drivername} is neither sqlite nor postgresql')
    if parsed.drivername == 'sqlite' and parsed.database:
        _made_private(Path(parsed.database))
    try:
        engine = create_engine(parsed, pool_pre_ping=True, connect_args=patience(parsed))
        if engine.dialect.name == 'sqlite':
            event.listen(engine, 'connect', _settings)
            event.listen(engine, 'begin', _begin)
        else:
            event.listen(engine, 'connect', _patience)
            event.listen(engine, 'begin', _begin_alone)
        event.listen(engine, 'before_cursor_execute', _storable, retval=True)
        try:
            if migrate and waiting is not None:
                _migrate_patiently(engine, waiting)
            elif migrate:
                _migrate(engine)
        except BaseException:
            engine.dispose()
            raise
    except (SQLAlchemyError, ImportError) as error:
        raise StoreError(f'{named(parsed)}: {_first_line(error)}') from error
    return engine


def _made_private(path: Path) -> None:
    """
    Have a SQLite file that others can't read: the logs beside it get its mode.

    Left-overs of killed copies are removed. Where that can't be done, opening says why.
    """
    with suppress(OSError):
        if path.parent.name == NAME:
            files.ours(path.parent)
        place = files.folder(path.parent)
        files.sweep(place)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            path.chmod(files.mode_in(place))
            files.give(path, place)
        for end in ('', '-wal', '-shm', '-journal'):
            files.close(Path(f'{path}{end}'))


def patience(url: URL) -> dict[str, int]:
    """Return `WIRE`, less what the URL says itself; nothing for SQLite."""
    if url.get_backend_name() != 'postgresql':
        return {}
    return {name: value for name, value in WIRE.items() if name not in url.query}


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Do all of it or nothing. `StoreError` where the database can't: no space, no server."""
    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        if not is_down(error):
            raise
        raise StoreError(f'{named(engine.url)}: {_first_line(error)}') from error


def is_down(error: BaseException) -> bool:
    """
    Whether it is the database that failed, and not the values that it was given.

    It is gone, full, locked, damaged, or not set up as it should be. In doubt it
    is: what was to be written is then written later, and nothing is passed over.
    """
    if isinstance(error, NoConnectionError):
        return True
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, 'sqlstate', None)
        if error.connection_invalidated:
            return True
        if state is not None:
            return state[:2] not in OF_THE_VALUES
        return not isinstance(error, DataError | IntegrityError | ProgrammingError)
    return isinstance(error, SQLAlchemyError) and not isinstance(error, StatementError)


def version(engine: Engine) -> tuple[str | None, str | None]:
    """Return the database's revision, and the one that this program knows as the latest."""
    with engine.connect() as connection:
        mine = MigrationContext.configure(connection).get_current_revision()
    return mine, ScriptDirectory(str(MIGRATIONS)).get_current_head()


@contextmanager
def only(engine: Engine, what: str) -> Iterator[Callable[[], None]]:
    """
    Hold the lock of the one `what` of a database; it goes with the process.

    A file beside a SQLite database, an advisory lock on PostgreSQL. Raises
    `StoreError` where another process has it. PostgreSQL forgets the lock with
    the connection: what this gives is to be called before each step, and takes
    the lock again where it is lost. It raises `StoreError` where that fails.
    """
    busy = StoreError(f'{named(engine.url)}: another bot {what} is running on this database')
    if engine.dialect.name == 'postgresql':
        lock = _Advisory(engine, what, busy)
        lock.keep()
        try:
            yield lock.keep
        finally:
            lock.drop()
        return
    path = Path(f'{engine.url.database}.{what}.lock')
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise busy from error
    try:
        yield lambda: None
    finally:
        os.close(file)


def _migrate_patiently(engine: Engine, waiting: Callable[[str], None]) -> None:
    for left in reversed(range(TRIES)):
        try:
            _migrate(engine)
            return
        except DBAPIError as error:
            if not left or not _will_pass(error):
                raise
            waiting(f'{named(engine.url)}: {_first_line(error)}')
            time.sleep(PAUSE)


def _will_pass(error: DBAPIError) -> bool:
    """Whether a database only has to be waited for."""
    return PASSES.search(str(error.orig)) is not None


class _Advisory:
    """An advisory lock of PostgreSQL, on a connection of its own."""

    def __init__(self, engine: Engine, what: str, busy: StoreError) -> None:
        self._engine = engine
        self._busy = busy
        digest = hashlib.sha256(f'vma-bot {what}'.encode()).digest()
        self._number = int.from_bytes(digest[:7], 'big')
        self._connection: Connection | None = None

    def keep(self) -> None:
        """See that it is held."""
        if self._connection is not None:
            try:
                self._connection.execute(select(1))
                self._connection.commit()
            except SQLAlchemyError:
                self.drop()
            else:
                return
        try:
            self._connection = self._engine.connect()
            got = self._connection.execute(select(func.pg_try_advisory_lock(self._number))).scalar()
            self._connection.commit()
        except SQLAlchemyError as error:
            self.drop()
            raise StoreError(f'{named(self._engine.url)}: {_first_line(error)}') from error
        if not got:
            self.drop()
            raise self._busy

    def drop(self) -> None:
        """Close the connection, and so let go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.invalidate()
            with suppress(SQLAlchemyError):
                connection.close()


def _migrate(engine: Engine) -> None:
    mine, latest = version(engine)
    if mine == latest:
        return
    known = {one.revision for one in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}
    if mine is not None and mine not in known:
        raise StoreError(f'{named(engine.url)}: made by a later version of the bot ({mine})')
    upgrade(engine, 'head')


def upgrade(engine: Engine, revision: str) -> None:
    """Bring the database to a revision, in one transaction."""
    config = Config()
    config.set_main_option('script_location', str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes['connection'] = connection
        command.upgrade(config, revision)


def _settings(connection: Any, _: Any) -> None:
    # We say ourselves where a transaction begins.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f'PRAGMA busy_timeout = {BUSY}')
    cursor.execute('PRAGMA journal_mode = WAL')
    # A mail that is claimed has to be so after a power cut too, or it goes twice.
    cursor.execute('PRAGMA synchronous = FULL')
    cursor.execute('PRAGMA foreign_keys = ON')
    cursor.close()


def _begin(connection: Any) -> None:
    # A transaction that reads first and then writes could not wait for another's write.
    connection.exec_driver_sql('BEGIN IMMEDIATE')


def _patience(connection: Any, _: Any) -> None:
    connection.execute(f'SET idle_in_transaction_session_timeout = {IDLE}')
    connection.commit()


def _begin_alone(connection: Any) -> None:
    # One transaction at a time, as on SQLite: what one has read, no other changes meanwhile.
    connection.exec_driver_sql(f'SELECT pg_advisory_xact_lock({LOCK})')


def _storable(_: Any, __: Any, statement: str, given: Any, *___: Any) -> tuple[str, Any]:
    # PostgreSQL's text can't hold a NUL, no text a lone surrogate, and a stranger's mail may.
    return statement, _cleaned(given)


def _cleaned(given: Any) -> Any:
    if isinstance(given, str):
        return storable(given)
    if isinstance(given, dict):
        return {name: _cleaned(value) for name, value in given.items()}
    if isinstance(given, list | tuple):
        return type(given)(_cleaned(value) for value in given)
    return given


def named(url: URL) -> str:
    """Return what errors call a database: no password, and no options, which may have one."""
    return url.set(query={}).render_as_string(hide_password=True)


def _first_line(error: Exception) -> str:
    return str(error.__cause__ or error).strip().split('\n')[0]
