"""Every test runs without the user's settings and without a network beyond loopback."""

import socket
from pathlib import Path

import pytest
from hypothesis import settings

from tests.gitrepo import ENV

# Examples start git a few times each; `make test` asks for the thorough profile.
settings.register_profile('quick', max_examples=25, deadline=None)
settings.register_profile('thorough', max_examples=200, deadline=None)
settings.load_profile('quick')


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp('home')
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('HOME', str(home))
    monkeypatch.setenv('XDG_CACHE_HOME', str(home / 'cache'))
    monkeypatch.setenv('XDG_CONFIG_HOME', str(home / 'config'))
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


@pytest.fixture
def here() -> Path:
    """The folder that the tests lie in."""
    return Path(__file__).parent
