"""
Every test runs without the user's settings and without a network beyond loopback.

Fixtures that many tests share: the sample kernel, golden files, and the
program as a user runs it.
"""

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from bot import demo
from tests.gitrepo import ENV, Repo
from tests.services.postgres import Postgres, programs

NUMBERS = itertools.count()

# A shell's background job ignores Ctrl-C, and hands that on: what tests start must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Examples start git a few times each; `make test` asks for the thorough profile.
settings.register_profile('quick', max_examples=25, deadline=None)
settings.register_profile('thorough', max_examples=100, deadline=None)
settings.load_profile('quick')


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp('home')
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('HOME', str(home))
    monkeypatch.setenv('XDG_CACHE_HOME', str(home / 'cache'))
    monkeypatch.setenv('XDG_CONFIG_HOME', str(home / 'config'))
    monkeypatch.setenv('XDG_STATE_HOME', str(home / 'state'))
    monkeypatch.delenv('VMA_BOT_CONFIG', raising=False)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX:
            host = address[0] if isinstance(address, tuple) else address
            assert host in ('127.0.0.1', '::1', 'localhost'), f'the network was asked for {host}'
        connect(self, address)  # type: ignore[arg-type]  # socket's own address type is private

    monkeypatch.setattr(socket.socket, 'connect', guarded)


@dataclass(frozen=True)
class Demo:
    """The sample kernel, and the mbox of its series."""

    tree: Path
    mbox: Path

    @property
    def repo(self) -> Repo:
        """The sample kernel, to make more commits in (work on a copy)."""
        return Repo(self.tree, existing=True)


@pytest.fixture(scope='session')
def sample(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The sample kernel: read only, shared by all tests."""
    return Demo(*demo.write(tmp_path_factory.mktemp('sample')))


@pytest.fixture
def own_sample(tmp_path: Path) -> Demo:
    """A sample kernel of one's own, to commit to."""
    return Demo(*demo.write(tmp_path / 'sample'))


@dataclass(frozen=True)
class Result:
    """What a run of the program gave."""

    code: int
    out: str
    err: str


Bot = Callable[..., Result]


def start_bot(*words: object, env: Mapping[str, str] = {}) -> 'subprocess.Popen[bytes]':
    """Start the program, as a user does."""
    return subprocess.Popen(
        [sys.executable, '-P', '-m', 'bot', *(str(word) for word in words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **env},
        start_new_session=True,
    )


@pytest.fixture(autouse=True)
def own_umask() -> Iterator[None]:
    """Give the tests' own process its umask back: the program, called in it, takes it away."""
    before = os.umask(0)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope='session')
def bot() -> Bot:
    """Run the program and wait for it."""

    def run(*words: object, stdin: bytes = b'', env: Mapping[str, str] = {}) -> Result:
        process = start_bot(*words, env=env)
        out, err = process.communicate(stdin, timeout=600)
        assert b'Traceback' not in err, err.decode()
        return Result(process.returncode, out.decode(), err.decode())

    return run


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with tests/golden/NAME; --write-goldens writes it instead."""

    def compare(name: str, text: str) -> None:
        path = Path(__file__).parent / 'golden' / name
        if request.config.getoption('--write-goldens'):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert text == path.read_text(), f'differs from {path.name}: --write-goldens accepts it'

    return compare


@pytest.fixture(scope='session')
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the session, where Debian's package is installed."""
    if programs() is None:
        pytest.skip('no PostgreSQL: apt install postgresql')
    server = Postgres()
    yield server
    server.stop()


@pytest.fixture(params=['sqlite', pytest.param('postgresql', marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == 'sqlite':
        return f'sqlite:///{tmp_path / "state.db"}'
    server: Postgres = request.getfixturevalue('postgres')
    return server.create(f'test_{next(NUMBERS)}')


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our own options."""
    parser.addoption('--write-goldens', action='store_true', help='accept what comes out now')
