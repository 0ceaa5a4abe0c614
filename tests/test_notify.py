"""What the service manager hears: a real socket, and the program as it is started by a unit."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot import notify
from tests.conftest import Demo, start_bot


class Manager:
    """The socket that a service manager listens on."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind('\0' + address[1:] if address.startswith('@') else address)
        self._socket.settimeout(60)

    def next(self) -> str:
        return self._socket.recv(4096).decode()

    def all(self) -> list[str]:
        """What was said so far."""
        self._socket.setblocking(False)
        heard = []
        try:
            while True:
                heard.append(self.next())
        except BlockingIOError:
            return heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    monkeypatch.chdir(tmp_path)
    address = f'{tmp_path}/notify'
    monkeypatch.setenv('NOTIFY_SOCKET', address)
    made = Manager(address)
    yield made
    made.close()


def test_it_is_said_on_the_socket(manager: Manager) -> None:
    notify.ready()
    notify.alive()
    notify.stopping()
    assert manager.all() == ['READY=1', 'WATCHDOG=1', 'STOPPING=1']


def test_a_socket_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f'@vma-bot-test-{tmp_path}'
    manager = Manager(address)
    monkeypatch.setenv('NOTIFY_SOCKET', address)
    notify.ready()
    assert manager.all() == ['READY=1']
    manager.close()
    notify.ready()  # nobody listens any more


@pytest.mark.parametrize('address', ['', 'relative', '/nowhere/at/all'])
def test_without_a_manager_nothing_is_said(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('NOTIFY_SOCKET', address)
    notify.ready()


def test_a_manager_that_does_not_read_holds_nobody_up(manager: Manager) -> None:
    for _ in range(2000):
        notify.alive()
    assert set(manager.all()) == {'WATCHDOG=1'}


@pytest.mark.parametrize(
    ('usec', 'every'), [('20000000', 10), ('', 60), ('0', 60), ('soon', 60)]
)  # fmt: skip
def test_signs_of_life_come_twice_as_often_as_they_must(
    usec: str, every: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('WATCHDOG_USEC', usec)
    assert notify.every() == every


def test_who_waits_is_alive(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('WATCHDOG_USEC', '20000000')
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return False

    assert notify.waiting(wait)(25) is False
    assert waited == [10, 10, 5]
    assert manager.all() == ['WATCHDOG=1'] * 3


def test_who_is_asked_to_stop_waits_no_longer(manager: Manager) -> None:
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return True

    assert notify.waiting(wait)(1000) is True
    assert waited == [60]
    assert manager.all() == ['WATCHDOG=1']


@pytest.mark.parametrize('command', ['watch', 'work', 'send'])
def test_a_service_says_that_it_is_ready_and_that_it_stops(
    command: str, manager: Manager, sample: Demo, tmp_path: Path
) -> None:
    config = tmp_path / 'config.toml'
    config.write_text(
        '[lore]\nurl = "http://127.0.0.1:9"\n'
        f'[[tree]]\nname = "demo"\npath = "{sample.tree}"\n'
        f'[state]\nurl = "sqlite:///{tmp_path}/state.db"\n'
        '[mail]\nfrom = "bot@example.org"\n[smtp]\nhost = "127.0.0.1"\nport = 9\n'
        'encryption = "none"\n'
    )
    process = start_bot(command, '--config', config)
    assert manager.next() == 'READY=1'
    assert manager.next() == 'WATCHDOG=1'  # its first step has ended
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert manager.all() == ['STOPPING=1']
