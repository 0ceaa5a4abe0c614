"""
A real public-inbox on loopback: what lore.kernel.org runs.

Mails are written straight into the epochs with `git fast-import`, indexed, and
served by public-inbox-httpd on a free port. It is stopped by its pid.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests

PROGRAMS = ('public-inbox-init', 'public-inbox-index', 'public-inbox-httpd')
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]
LIST = 'linux-mm'


class PublicInbox:
    """One list, `linux-mm`, of a public-inbox below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f'http://127.0.0.1:{self.port}'
        self.inbox = folder / LIST
        self.mails = 0
        self._pid: int | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._run(
            'public-inbox-init', '-V2', '-L', 'full', '--ng', 'org.kvack.linux-mm', LIST,
            str(self.inbox), f'{self.url}/{LIST}', 'linux-mm@kvack.org',
        )  # fmt: skip

    def add(self, mails: Iterable[bytes], epoch: int = 0) -> None:
        """Put mails into an epoch, index them, and let the server know."""
        self.write(mails, epoch)
        self._run('public-inbox-index', '-L', 'full', '--jobs=1', str(self.inbox))
        if self._pid is not None:
            os.kill(self._pid, signal.SIGHUP)

    def write(self, mails: Iterable[bytes], epoch: int = 0) -> None:
        """Put mails into an epoch; without an index, as who fetches it needs none."""
        repository = self.inbox / 'git' / f'{epoch}.git'
        if not repository.exists():
            subprocess.run(
                ['git', 'init', '-q', '--bare', '-b', 'master', str(repository)], check=True
            )
        stream = []
        for raw in mails:
            self.mails += 1
            stream.append(_commit(raw, self.mails))
        self._import(repository, b''.join(stream))

    def purge(self, raw: bytes) -> None:
        """Remove a mail for good: its epoch's history is rewritten, as for a takedown."""
        self._run('public-inbox-purge', str(self.inbox), stdin=raw)
        if self._pid is not None:
            os.kill(self._pid, signal.SIGHUP)

    def start(self) -> None:
        """Serve; returns when it answers."""
        pid = self.folder / 'pid'
        self._run(
            'public-inbox-httpd', '-D', '-l', f'127.0.0.1:{self.port}', '-W', '1',
            '-1', str(self.folder / 'out'), '-2', str(self.folder / 'err'), '--pid-file', str(pid),
        )  # fmt: skip
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with contextlib.suppress(OSError, ValueError, requests.RequestException):
                self._pid = int(pid.read_text())
                if requests.get(f'{self.url}/{LIST}/', timeout=5).ok:
                    return
            time.sleep(0.05)  # waiting for another process, not for time to pass
        raise AssertionError(f'public-inbox-httpd does not answer: {self.folder / "err"}')

    def stop(self) -> None:
        """End the server that `start` started."""
        if self._pid is None:
            return
        os.kill(self._pid, signal.SIGTERM)
        end = time.monotonic() + 10
        while Path(f'/proc/{self._pid}').exists() and time.monotonic() < end:
            time.sleep(0.02)  # waiting for another process, not for time to pass
        self._pid = None

    def _import(self, repository: Path, stream: bytes) -> None:
        head = subprocess.run(
            ['git', '-C', str(repository), 'rev-parse', '-q', '--verify', 'refs/heads/master'],
            capture_output=True, check=False,
        )  # fmt: skip
        if head.returncode == 0:
            first, line, rest = stream.partition(b'from-here\n')
            stream = first + b'from ' + head.stdout.strip() + b'\n' + rest if line else stream
        stream = stream.replace(b'from-here\n', b'')
        subprocess.run(
            ['git', '-C', str(repository), 'fast-import', '--quiet'], input=stream, check=True
        )

    def _run(self, *words: str, stdin: bytes = b'') -> None:
        environment = {
            'PATH': '/usr/sbin:/usr/bin:/sbin:/bin',
            'HOME': str(self.folder),
            'PI_CONFIG': str(self.folder / 'config'),
            'GIT_CONFIG_GLOBAL': os.devnull,
            'GIT_CONFIG_NOSYSTEM': '1',
            'LC_ALL': 'C.UTF-8',
        }
        done = subprocess.run(
            words,
            env=environment,
            input=stdin,
            capture_output=True,
            check=False,
            cwd=self.folder,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr.decode()


def _commit(raw: bytes, number: int) -> bytes:
    found = re.search(rb'^Date: (.*)$', raw, re.M | re.I)
    seconds = 1774000000 + number
    with contextlib.suppress(TypeError, ValueError):
        seconds = int(parsedate_to_datetime(found[1].decode()).timestamp()) if found else seconds
    return (
        b'commit refs/heads/master\n'
        b'author A <a@example.org> %d +0000\ncommitter A <a@example.org> %d +0000\n'
        b'data 4\nmail\n%sM 100644 inline m\ndata %d\n%s\n'
        % (seconds, seconds, b'from-here\n', len(raw), raw)
    )


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(folder: Path, mails: Iterable[bytes]) -> Iterator[PublicInbox]:
    """Serve mails for as long as the context lasts."""
    served = PublicInbox(folder)
    served.add(mails)
    served.start()
    try:
        yield served
    finally:
        served.stop()
