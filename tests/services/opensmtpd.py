"""
A real OpenSMTPD on loopback: a mail server as lists run it.

It takes mail for anybody and puts it into one maildir an address. Its control
socket and queue have fixed places, so it runs in a mount namespace of its own,
where these are below a temporary folder; several may run at a time, beside the
system's own. It needs root, and looks nothing up in DNS. Debian 12's can't do
TLS (it was written for an older OpenSSL), and takes no log-in without.
"""

import os
import pwd
import shutil
import signal
import smtplib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.services.publicinbox import PublicInbox, free_port

NOBODY = 'nobody-here@example.org'
"""The one address that it refuses."""
TRACE = (b'return-path', b'delivered-to', b'received')
CONFIGURATION = """\
listen on 127.0.0.1 port {port} hostname mx.test
action "keep" maildir "{mails}/%{{rcpt}}" virtual {{ "@" = "nobody" }}
match from any for rcpt-to "{nobody}" reject
match from any for any action "keep"
"""
START = """\
mount --bind "$1/run" /run &&
mount --bind "$1/spool" /var/spool &&
mount --bind "$1/resolv.conf" /etc/resolv.conf &&
exec smtpd -d -f "$1/smtpd.conf"
"""


def unavailable() -> str | None:
    """Say why there can be none here; None where it can."""
    if os.geteuid() != 0:
        return 'OpenSMTPD needs root'
    missing = [name for name in ('smtpd', 'unshare') if shutil.which(name) is None]
    if missing:
        return f'not installed: {", ".join(missing)}'
    allowed = subprocess.run(
        ['unshare', '--mount', 'mount', '--bind', '/tmp', '/tmp'], capture_output=True, check=False
    )
    return None if allowed.returncode == 0 else 'no mount namespaces here'


class OpenSmtpd:
    """A server that is up."""

    def __init__(self) -> None:
        # Not below pytest's folders: those are closed to nobody, as whom it delivers.
        self.folder = Path(tempfile.mkdtemp(prefix='opensmtpd-'))
        self.folder.chmod(0o711)
        self.mails = self.folder / 'mails'
        for name in ('run', 'spool', 'mails'):
            self._open_folder(name)
        self._open_folder('spool/smtpd')
        os.chown(self.mails, pwd.getpwnam('nobody').pw_uid, -1)
        (self.folder / 'resolv.conf').write_text('lookup file\n')
        self.port = free_port()
        configuration = CONFIGURATION.format(port=self.port, mails=self.mails, nobody=NOBODY)
        (self.folder / 'smtpd.conf').write_text(configuration)
        with (self.folder / 'log').open('wb') as log:
            self._server = subprocess.Popen(
                ['unshare', '--mount', 'sh', '-c', START, 'sh', self.folder],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd='/',
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _open_folder(self, name: str) -> None:
        # The server asks for just these rights, and a umask would take some away.
        path = self.folder / name
        path.mkdir()
        path.chmod(0o711)

    def stop(self) -> None:
        """End the server; its folder goes too."""
        self._server.send_signal(signal.SIGTERM)
        try:
            self._server.wait(10)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def log(self) -> str:
        """What the server said."""
        return (self.folder / 'log').read_text(errors='replace')

    def delivered(self, address: str) -> list[bytes]:
        """
        All mails for an address, without the server's own headers, once its queue is empty.

        They are in no particular order.
        """
        self._settle()
        files = sorted((self.mails / address).glob('[nc][eu][wr]/*'))
        return [untraced(path.read_bytes()) for path in files]

    def addresses(self) -> list[str]:
        """Whoever got a mail, once the queue is empty."""
        self._settle()
        return sorted(path.name for path in self.mails.iterdir())

    def archive(self, archive: PublicInbox, address: str) -> list[bytes]:
        """Put what is new for a list's address into its archive, as the list's archiver would."""
        self._settle()
        files = sorted((self.mails / address / 'new').glob('*'))
        mails = [untraced(path.read_bytes()) for path in files]
        if mails:
            archive.add(mails)
        for path in files:
            path.rename(path.parent.parent / 'cur' / path.name)
        return mails

    def empty(self) -> None:
        """Forget all mails."""
        self._settle()
        for folder in self.mails.iterdir():
            shutil.rmtree(folder)

    def _settle(self) -> None:
        """Wait until all that was taken is delivered: the server answers before that."""
        queue = self.folder / 'spool' / 'smtpd' / 'queue'
        end = time.monotonic() + 20
        while _is_anything(queue):
            assert time.monotonic() < end, f'mails stay in the queue: {self.log}'
            time.sleep(0.01)  # waiting for another process, not for time to pass

    def _wait(self) -> None:
        for _ in range(600):
            with (
                suppress(OSError, smtplib.SMTPException),
                smtplib.SMTP('127.0.0.1', self.port, local_hostname='tests', timeout=5),
            ):
                return
            assert self._server.poll() is None, self.log
            time.sleep(0.01)  # waiting for another process, not for time to pass
        raise AssertionError(f'OpenSMTPD does not come up: {self.log}')


def _is_anything(queue: Path) -> bool:
    try:
        return any(queue.glob('*/*/*'))
    except FileNotFoundError:  # a folder went while it was looked at
        return True


def untraced(raw: bytes) -> bytes:
    """Take away the headers that a mail server puts above a mail on its way."""
    lines = raw.split(b'\n')
    while lines:
        name = lines[0].partition(b':')[0].lower()
        if name not in TRACE:
            break
        del lines[0]
        while lines and lines[0][:1] in (b' ', b'\t'):
            del lines[0]
    return b'\n'.join(lines)


@contextmanager
def serving() -> Iterator[OpenSmtpd]:
    """Serve for as long as the context lasts."""
    server = OpenSmtpd()
    try:
        yield server
    finally:
        server.stop()
