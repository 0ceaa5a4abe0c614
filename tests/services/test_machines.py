"""
Workers on several machines: network namespaces, each with a wire to the one database.

They have no other network; the database is reached over the wire's address.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.assembly import letter
from bot.model import Scope
from bot.store import Store
from bot.store.database import opened
from tests.conftest import Demo
from tests.services.postgres import Postgres, programs
from tests.torture.campaign import JUDGED, mails_of

MACHINES = 2
SERIES = 8
SECONDS = 120


def ip(*words: str) -> None:
    subprocess.run(['ip', *words], check=True, capture_output=True)


@contextlib.contextmanager
def machine(number: int) -> Iterator[tuple[str, str]]:
    """A namespace, and the address at which it finds this machine."""
    name, subnet = f'bot{os.getpid()}x{number}', f'10.231.{os.getpid() % 100 + number * 100}'
    here, there = f'h{os.getpid()}x{number}', f't{os.getpid()}x{number}'
    if shutil.which('ip') is None:
        pytest.skip('no network namespaces: apt install iproute2')
    with contextlib.ExitStack() as stack:
        try:
            ip('netns', 'add', name)
            stack.callback(ip, 'netns', 'del', name)
            ip('link', 'add', here, 'type', 'veth', 'peer', 'name', there, 'netns', name)
            stack.callback(ip, 'link', 'del', here)
            ip('addr', 'add', f'{subnet}.1/24', 'dev', here)
            ip('link', 'set', here, 'up')
            ip('-n', name, 'addr', 'add', f'{subnet}.2/24', 'dev', there)
            ip('-n', name, 'link', 'set', there, 'up')
            ip('-n', name, 'link', 'set', 'lo', 'up')
        except subprocess.CalledProcessError as error:
            pytest.skip(f'no network namespaces here: {error.stderr.decode().strip()}')
        yield name, f'{subnet}.1'


def test_workers_on_two_machines_share_the_work(sample: Demo, tmp_path: Path) -> None:
    if programs() is None:
        pytest.skip('no PostgreSQL: apt install postgresql')
    with contextlib.ExitStack() as stack:
        machines = [stack.enter_context(machine(number)) for number in range(MACHINES)]
        server = Postgres(*(address for _, address in machines))
        stack.callback(server.stop)
        url = server.create('machines')
        store = Store(opened(url), time.time)
        stack.callback(store.close)
        scope = Scope(paths=('mm/vma*',), symbols=(), subjects=())
        found = [letter(one.raw, scope) for n in range(SERIES) for one in mails_of(f's{n}', 1, 1)]
        store.take_in('l', (one for one in found if one), None)
        logs = []
        for name, address in machines:
            config = tmp_path / f'{name}.toml'
            config.write_text(
                f'[[tree]]\nname = "demo"\npath = "{sample.tree}"\n[attestation]\ncheck = false\n'
                f'[state]\nurl = "{url.replace("127.0.0.1", address)}"\n'
                f'cache = "{tmp_path / name}"\n[work]\nprocesses = 1\n'
            )
            logs.append(tmp_path / f'{name}.log')
            stack.callback(started(name, config, logs[-1]))
        end = time.monotonic() + SECONDS
        while not all(row.state == 'reviewed' for row in store.rows()):
            assert time.monotonic() < end, b'\n'.join(one.read_bytes() for one in logs).decode()
            time.sleep(0.1)  # waiting for other processes
        judged = [JUDGED.findall(one.read_bytes()) for one in logs]
        assert all(judged), 'one machine did all of it'
        assert sum(len(one) for one in judged) <= SERIES
        assert all(store.report(row.series) is not None for row in store.rows())


def started(name: str, config: Path, log: Path) -> 'Stop':
    """Start a worker on a machine; what stops it."""
    words = [sys.executable, '-P', '-m', 'bot', 'work', '--config', str(config)]
    with log.open('wb') as said:
        return Stop(
            subprocess.Popen(
                ['ip', 'netns', 'exec', name, *words],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        )


class Stop:
    """Asks a worker to end, and waits for that."""

    def __init__(self, process: 'subprocess.Popen[bytes]') -> None:
        self.process = process

    def __call__(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
