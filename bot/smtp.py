"""
A connection to a mail server, of which everything has an end.

smtplib's, with reading and writing of our own: each answer has a limit in
bytes and in time, a trickling one too, and so has the dialogue as a whole. An
answer that nobody asked for ends it: it would be taken for that to a later
command. TLS is checked, certificate and name; a password goes only over TLS,
or to this machine itself.
"""

import binascii
import contextlib
import ipaddress
import re
import smtplib
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable

from bot.errors import MailError
from bot.outgoing import Smtp
from bot.plain import one_line

ANSWER = re.compile(rb'([2-5]\d\d)(?:([ -])(.*))?', re.S)
LARGEST = 1 << 16
"""Bytes of one answer, all its lines together."""
PATIENCE = 10
"""How many time-outs a dialogue may take, and the answer to a mail."""


class LostError(Exception):
    """The connection is of no use any more: lost, too slow, or not SMTP."""


def loopback(address: str) -> bool:
    """Say whether an address is this machine itself."""
    try:
        read = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = read.ipv4_mapped if isinstance(read, ipaddress.IPv6Address) else None
    return (mapped or read).is_loopback


class Connection(smtplib.SMTP):
    """
    One connection, for `hello` at EHLO; `where` names its server in messages.

    `clock` is monotonic, in seconds.
    """

    def __init__(self, smtp: Smtp, hello: str, clock: Callable[[], float]) -> None:
        super().__init__(local_hostname=hello, timeout=smtp.timeout)
        self.where = f'{smtp.host}:{smtp.port}'
        self._smtp = smtp
        self._clock = clock
        self._patience = smtp.timeout
        self._end = clock() + PATIENCE * smtp.timeout
        self._read = bytearray()
        self.command_encoding = 'utf-8'

    def open(self, context: ssl.SSLContext | None) -> None:
        """Connect, greet, encrypt. Raises MailError, LostError."""
        smtp = self._smtp
        try:
            self.sock = socket.create_connection((smtp.host, smtp.port), smtp.timeout)
        except TimeoutError as error:
            raise LostError(f'does not answer within {smtp.timeout:g} s') from error
        except (OSError, UnicodeError) as error:
            raise LostError(f'can not be reached: {reason_of(error)}') from error
        if context is not None and smtp.encryption == 'ssl':
            self._encrypt(context)
        self._expect(220, 'the connection', *self.getreply())
        self._expect(250, 'EHLO', *self.ehlo())
        if context is not None and smtp.encryption == 'tls':
            if not self.has_extn('starttls'):
                raise MailError(
                    f'{self.where} offers no STARTTLS: encryption = "ssl" is TLS from the start, '
                    'usually on port 465'
                )
            self._expect(220, 'STARTTLS', *self.docmd('STARTTLS'))
            self._nothing_more()  # what came unencrypted is not for the encrypted part
            self._encrypt(context)
            self._expect(250, 'EHLO', *self.ehlo())

    def _encrypt(self, context: ssl.SSLContext) -> None:
        assert self.sock is not None
        try:
            self.sock = context.wrap_socket(self.sock, server_hostname=self._smtp.host)
        except ssl.SSLCertVerificationError as error:
            how = (
                'host must be a name that the certificate is for'
                if 'mismatch' in error.verify_message
                else 'ca_file names an authority to trust'
            )
            said = one_line(error.verify_message.rstrip('.'))
            raise LostError(f'has no valid certificate: {said}; {how}') from error
        except TimeoutError as error:
            raise LostError(f'does not begin TLS within {self._smtp.timeout:g} s') from error
        except OSError as error:
            raise LostError(f'does not begin TLS: {reason_of(error)}') from error

    def log_in(self, secret: str) -> None:
        """Log in with a password. Raises MailError, LostError."""
        assert self.sock is not None
        user = self._smtp.user
        try:
            peer = self.sock.getpeername()[0]
        except OSError as error:
            raise LostError(f'lost the connection: {reason_of(error)}') from error
        if not isinstance(self.sock, ssl.SSLSocket) and not loopback(peer):
            raise MailError(
                f'{self.where}: the password would go unencrypted: set encryption = "tls" or "ssl"'
            )
        if not user.isascii() or not user.isprintable():
            raise MailError(f'{self.where}: user: one line of ASCII is expected')
        try:
            self.login(user, secret)
        except smtplib.SMTPAuthenticationError as error:
            # A server may say back what it was told.
            words = [secret, *(_base64(text) for text in (secret, f'\0{user}\0{secret}'))]
            text = error.smtp_error
            said = text.decode('utf-8', 'replace') if isinstance(text, bytes) else text
            for word in words:
                said = said.replace(word, '…')
            said = one_line(f'{error.smtp_code} {said}')
            raise MailError(f'{self.where} does not log {user} in: {said}') from None
        except (smtplib.SMTPException, binascii.Error):
            raise MailError(
                f'{self.where} offers no way to log in that is known here (PLAIN, LOGIN, CRAM-MD5)'
            ) from None

    def extend(self, *, answer: bool = False) -> None:
        """Allow the time of a whole dialogue from now on; for one `answer` too."""
        self._end = self._clock() + PATIENCE * self._smtp.timeout
        if answer:
            self._patience = PATIENCE * self._smtp.timeout

    def leave(self) -> None:
        """Say QUIT, and wait for nothing."""
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.settimeout(min(1.0, self._smtp.timeout))
                self.sock.sendall(b'QUIT\r\n')

    # --- what smtplib calls -----------------------------------------------------

    def send(self, s: object) -> None:
        """Write. Raises LostError."""
        data = s if isinstance(s, bytes) else str(s).encode(self.command_encoding)
        assert self.sock is not None
        try:
            self.sock.settimeout(self._left(self._clock() + self._patience))
            self.sock.sendall(data)
        except TimeoutError as error:
            raise LostError(f'takes nothing for {self._patience:g} s') from error
        except OSError as error:
            raise LostError(f'lost the connection: {reason_of(error)}') from error

    def putcmd(self, cmd: str, args: str = '') -> None:
        """Give a command, to a server that waits for one. Raises LostError."""
        self._nothing_more()
        super().putcmd(cmd, args)

    def _nothing_more(self) -> None:
        """No answer in reserve: it would be taken for that to the next command."""
        if self._read:
            raise LostError(f'says more than it was asked: {plainly(self._line(self._end))}')

    def getreply(self) -> tuple[int, bytes]:
        """Read an answer: code and text. Raises LostError."""
        end = self._clock() + self._patience
        lines: list[bytes] = []
        size = 0
        while True:
            line = self._line(end)
            size += len(line)
            match = ANSWER.fullmatch(line.rstrip(b'\r\n'))
            if match is None:
                raise LostError(f'does not speak SMTP: {plainly(line)}')
            if size > LARGEST:
                raise LostError('answers without an end')
            lines.append((match[3] or b'').strip())
            if match[2] != b'-':
                return int(match[1]), b'\n'.join(lines)

    def _line(self, end: float) -> bytes:
        while (found := self._read.find(b'\n')) < 0:
            if len(self._read) > LARGEST:
                raise LostError('answers without an end')
            self._more(self._left(end))
        line = bytes(self._read[: found + 1])
        del self._read[: found + 1]
        return line

    def _more(self, timeout: float) -> None:
        assert self.sock is not None
        try:
            self.sock.settimeout(timeout)
            data = self.sock.recv(4096)
        except TimeoutError as error:
            raise LostError(f'does not answer within {self._patience:g} s') from error
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            raise LostError(f'lost the connection: {reason_of(error)}') from error
        if not data:
            raise LostError('closed the connection')
        self._read += data

    def early(self) -> tuple[int, bytes] | None:
        """Return an answer that came before it was due; None where there is none."""
        if not self._read:
            self._more(0)
        return self.getreply() if self._read else None

    def _left(self, end: float) -> float:
        now = self._clock()
        if now >= self._end:
            raise LostError(f'was not done within {PATIENCE * self._smtp.timeout:g} s')
        if now >= end:
            raise LostError(f'does not answer within {self._patience:g} s')
        return min(end, self._end) - now

    def _expect(self, wanted: int, what: str, code: int, text: bytes) -> None:
        if code != wanted:
            raise LostError(f'answers {answered(code, text)} to {what}')


def answered(code: int, text: bytes) -> str:
    """Return an answer as one plain line."""
    return f'{code} {plainly(text)}'.rstrip()


def plainly(text: bytes) -> str:
    """Return what a server said as one plain line."""
    return one_line(text.decode('utf-8', 'replace'))


def reason_of(error: OSError | UnicodeError) -> str:
    """Say why a system call or TLS failed, in one line."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace('_', ' ')
    return one_line(str(getattr(error, 'strerror', None) or error))


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()
