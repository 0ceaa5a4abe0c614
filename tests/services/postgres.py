"""A PostgreSQL of the tests' own: in a temporary folder, as an ordinary user, on a free port."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Literal


def programs() -> Path | None:
    """Where Debian puts the server's programs, the newest version's."""
    found = sorted(Path('/usr/lib/postgresql').glob('*/bin/postgres'))
    return found[-1].parent if found else None


class Postgres:
    """A server on loopback, and on `addresses` of the tests' own; it trusts who comes there."""

    def __init__(self, *addresses: str) -> None:
        binaries = programs()
        assert binaries is not None
        self._user = 'nobody' if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix='postgres-'))
        if self._user:
            owner = pwd.getpwnam(self._user)
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        data = self._folder / 'data'
        self._run(
            binaries / 'initdb', '-D', data, '-U', 'bot', '-A', 'trust', '-E', 'UTF8',
            '--locale=C', '--no-sync',
        )  # fmt: skip
        with (data / 'pg_hba.conf').open('a') as trusted:
            trusted.writelines(f'host all all {one}/24 trust\n' for one in addresses)
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.port = int(probe.getsockname()[1])
        self._binaries = binaries
        self._addresses = ('127.0.0.1', *addresses)
        self.start()

    def start(self) -> None:
        """Start the server, for the first time or again; returns when it answers."""
        with (self._folder / 'log').open('ab') as log:
            self._server = subprocess.Popen(
                [
                    self._binaries / 'postgres', '-D', self._folder / 'data',
                    '-h', ','.join(self._addresses), '-p', str(self.port),
                    '-k', self._folder, '-c', 'fsync=off',
                ],
                user=self._user,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                cwd='/',
            )  # fmt: skip
        self._wait()

    def halt(self, how: Literal['fast', 'immediate']) -> None:
        """Stop the server, which may be started again: in order, or as if it died."""
        self._server.send_signal(signal.SIGINT if how == 'fast' else signal.SIGQUIT)
        self._server.wait(60)

    def create(self, name: str) -> str:
        """Make an empty database; its URL."""
        self._run(
            self._binaries / 'createdb', '-h', '127.0.0.1', '-p', self.port, '-U', 'bot', name
        )
        return f'postgresql://bot@127.0.0.1:{self.port}/{name}'

    def ask_passwords_of(self, role: str) -> None:
        """Trust a role no more: from now on it needs its password."""
        trusted = self._folder / 'data' / 'pg_hba.conf'
        trusted.write_text(f'host all {role} all scram-sha-256\n{trusted.read_text()}')
        self._server.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End the server and all that is left of it."""
        self._server.send_signal(signal.SIGINT)
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, *words: object) -> None:
        subprocess.run(
            [str(word) for word in words], check=True, user=self._user, cwd='/', capture_output=True
        )

    def _wait(self) -> None:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(('127.0.0.1', self.port)) == 0:
                    ready = subprocess.run(
                        [self._binaries / 'pg_isready', '-q', '-h', '127.0.0.1', '-p',
                         str(self.port)],
                        check=False,
                    )  # fmt: skip
                    if ready.returncode == 0:
                        return
            assert self._server.poll() is None, (self._folder / 'log').read_text()
            time.sleep(0.05)
        raise AssertionError('PostgreSQL does not come up')
