"""A database that is locked when a service starts is waited for, and said."""

import sqlite3
from pathlib import Path

import pytest

from bot.errors import StoreError
from bot.store import database as databases
from bot.store.database import opened
from tests.conftest import start_bot
from tests.lettering import series
from tests.services import publicinbox
from tests.services.publicinbox import serving
from tests.services.test_poison import config_of


@pytest.mark.skipif(bool(publicinbox.MISSING), reason='no public-inbox')
def test_a_service_comes_up_once_the_lock_is_gone(tmp_path: Path) -> None:
    path = tmp_path / 'state.db'
    opened(f'sqlite:///{path}').dispose()
    with serving(tmp_path / 'archive', [one.raw for one in series('a', 1)]) as archive:
        config = config_of(tmp_path, archive.url, f'sqlite:///{path}')
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute('BEGIN IMMEDIATE')
        process = start_bot('watch', '--once', '--config', config)
        assert process.stderr is not None
        said = process.stderr.readline()
        while said and b'locked' not in said:
            said = process.stderr.readline()
        assert b'trying again' in said
        holder.execute('ROLLBACK')
        holder.close()
        _, rest = process.communicate(timeout=300)
        assert process.returncode == 0, rest.decode()


def test_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'state.db'
    opened(f'sqlite:///{path}').dispose()
    monkeypatch.setattr(databases, 'BUSY', 50)
    monkeypatch.setattr(databases, 'PAUSE', 0)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute('BEGIN IMMEDIATE')
    said: list[str] = []
    with pytest.raises(StoreError, match='locked'):
        opened(f'sqlite:///{path}', waiting=said.append)
    assert len(said) == databases.TRIES - 1
    holder.execute('ROLLBACK')
    opened(f'sqlite:///{path}', waiting=said.append).dispose()
    holder.close()
