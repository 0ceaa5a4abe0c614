"""
A pytest plug-in for the tests of hostile series: who runs them, and before which court.

A test module names it in `pytest_plugins`.
"""

import inspect
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import ConfigLevel

from bot import demo
from bot.model import BuildFailed, Passed
from bot.walls import probe
from tests.conftest import Demo
from tests.court import HONEST, MARKED, USER, Bait, Court, Seen, seen
from tests.judging import Judge


@pytest.fixture(scope='session')
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seen]:
    """A folder with a sample kernel and a cache, and what the honest series gave."""
    folder = tmp_path_factory.mktemp('honest')
    judge = Judge(Demo(*demo.write(folder)), folder / 'cache')
    expected = seen(judge(*HONEST))
    assert [type(outcome) for _, outcome, _, _ in expected] == [Passed, Passed, BuildFailed]
    return folder, expected


@pytest.fixture(params=[0, USER], ids=['root', 'user'])
def user(request: pytest.FixtureRequest) -> int:
    """Who runs a test that asks for this: its body is run in a process of his."""
    number: int = request.param
    if number and os.geteuid():
        pytest.skip('only root may become another user')
    return number


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the body of a test as the `user` that it asks for."""
    number = pyfuncitem.funcargs.get('user')
    if not number:
        return None
    assert isinstance(number, int)
    names = inspect.signature(pyfuncitem.obj).parameters
    words = {name: pyfuncitem.funcargs[name] for name in names}
    failed = by(number, lambda: pyfuncitem.obj(**words))
    assert not failed, failed
    return True


def by(user: int, work: Callable[[], object]) -> str:
    """Do `work` in a process of `user`; the traceback where it raised, else ''."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            probe.cache_clear()
            os.chdir('/')
            for level in (ConfigLevel.XDG, ConfigLevel.GLOBAL, ConfigLevel.SYSTEM):
                pygit2.settings.search_path[level] = ''  # libgit2 remembers root's
            work()
        finally:
            if sys.exc_info()[0] is not None:
                os.write(writer, traceback.format_exc()[-30000:].encode('utf-8', 'replace'))
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, errors='replace') as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


@pytest.fixture
def room(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A folder of the `user`, and his home; pytest's own are for root alone."""
    number = request.getfixturevalue('user') if 'user' in request.fixturenames else 0
    if not number:
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix='vma-court-'))
    folder.chmod(0o755)
    os.chown(folder, number, number)
    for name in ('HOME', 'XDG_CACHE_HOME', 'XDG_CONFIG_HOME', 'XDG_STATE_HOME'):
        monkeypatch.setenv(name, str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def court(judged: tuple[Path, Seen], room: Path) -> Court:
    folder = room / 'court'
    shutil.copytree(judged[0], folder, symlinks=True)
    if room.stat().st_uid:
        for path in (folder, *folder.rglob('*')):
            os.chown(path, room.stat().st_uid, room.stat().st_gid, follow_symlinks=False)
    sample = Demo(folder / 'linux.git', folder / 'series.mbox')
    return Court(Judge(sample, folder / 'cache'), judged[1])


@pytest.fixture
def bait(room: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bait]:
    token = f'{MARKED}{secrets.token_hex(8)}'
    key, config = Path.home() / '.ssh' / 'id_ed25519', room / 'config.toml'
    key.parent.mkdir()
    for path in (key, config):
        path.write_text(f'# {token}\n')
    monkeypatch.setenv('VMA_BOT_SECRET', token)
    monkeypatch.setenv('VMA_BOT_CONFIG', str(config))
    words = [sys.executable, '-c', 'import time; print(flush=True); time.sleep(600)', token]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=key.parent) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield Bait(token, key, config, process.pid)
        assert process.poll() is None
        process.kill()
