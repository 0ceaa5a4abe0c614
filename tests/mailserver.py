"""
Mail servers that answer as they are told: on loopback, in this process.

`Scripted` is aiosmtpd, which does what a server does, but where its script
says otherwise: `{'RCPT a@example.org': '550 5.1.1 unknown', 'DATA': HANG}`.
`Raw` says bytes, whatever they are, one portion for each line that it is told, or
for a whole mail after 354.
"""

import asyncio
import contextlib
import enum
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from tests.services.publicinbox import free_port


class Then(enum.Enum):
    """What a server does instead of going on."""

    HANG = 'hang'
    DROP = 'drop'
    RESET = 'reset'


HANG, DROP, RESET = Then
Step = str | Then | tuple[str | Then, ...]


@dataclass(frozen=True)
class Received:
    """A mail that came whole: its envelope, and its bytes (CRLF, dots undone)."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


class Scripted:
    """
    A server with a script, by stage; it may be changed between mails.

    Stages: `connect`, `EHLO`, `STARTTLS`, `AUTH`, `MAIL`, `RCPT`, `RCPT
    ADDRESS`, `DATA`, `end` (of the mail). `received` is what it got whole,
    whatever it answered; `said` the commands; `ended` is set when it drops or
    resets a connection.
    """

    def __init__(
        self,
        script: Mapping[str, Step] = {},
        *,
        tls: ssl.SSLContext | None = None,
        from_the_start: bool = False,
        users: Mapping[str, str] = {},
        international: bool = True,
        largest: int = 1 << 25,
    ) -> None:
        self.script = dict(script)
        self.received: list[Received] = []
        self.said: list[str] = []
        self.ended = threading.Event()
        self.users = users
        self.port = free_port()
        self._controller = _Controller(
            self,
            hostname='127.0.0.1',
            port=self.port,
            server_hostname='mx.test',
            ssl_context=tls if from_the_start else None,
            tls_context=None if from_the_start else tls,
            enable_SMTPUTF8=international,
            data_size_limit=largest,
            authenticator=self._known if users else None,
            auth_require_tls=False,
        )
        self._controller.servers = []
        script_of_connect = self.script.pop('connect', None)
        self._controller.start()
        self.said.clear()
        if script_of_connect is not None:
            self.script['connect'] = script_of_connect

    def _known(
        self, server: SMTP, session: object, envelope: object, mechanism: str, told: object
    ) -> AuthResult:
        assert isinstance(told, LoginPassword)
        right = self.users.get(told.login.decode()) == told.password.decode()
        return AuthResult(success=right, handled=False)

    async def handle_DATA(self, server: '_Server', session: object, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        self.received.append(
            Received(envelope.mail_from, tuple(envelope.rcpt_tos), bytes(envelope.content))
        )
        return '' if await server.scripted('end') else '250 2.0.0 taken'

    def stop(self) -> None:
        """End, with all connections."""
        asyncio.run_coroutine_threadsafe(self._close(), self._controller.loop).result(10)
        self._controller.stop()

    async def _close(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=5) if others else None
        for server in self._controller.servers:
            for transport in (server.transport, server._original_transport):
                if transport is not None:
                    transport.abort()  # type: ignore[attr-defined]  # a transport that writes
        await asyncio.sleep(0)
        await asyncio.sleep(0)


class _Controller(Controller):
    def factory(self) -> SMTP:
        self.servers.append(_Server(self.handler, **self.SMTP_kwargs))
        return self.servers[-1]

    servers: 'list[_Server]'


class _Server(SMTP):
    """aiosmtpd's, asking the script first."""

    event_handler: Scripted
    greeted = False

    async def scripted(self, *stages: str) -> bool:
        script = self.event_handler.script
        step = next((script[stage] for stage in stages if stage in script), None)
        if step is None:
            return False
        for part in step if isinstance(step, tuple) else (step,):
            match part:
                case str():
                    await super().push(part)
                case Then.HANG:
                    await asyncio.Event().wait()
                case _:
                    self._end(part)
        return True

    def _end(self, how: Then) -> None:
        assert self.transport is not None
        if how is RESET:
            linger = struct.pack('ii', 1, 0)
            self.transport.get_extra_info('socket').setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
        closed = self.transport.abort  # type: ignore[attr-defined]  # a transport that writes
        closed()
        asyncio.get_running_loop().call_soon(self.event_handler.ended.set)
        raise asyncio.CancelledError

    async def push(self, status: Any) -> None:
        if not self.greeted:
            self.greeted = True
            if await self.scripted('connect'):
                return
        if status:
            await super().push(status)

    async def _told(self, word: str, arg: str | None) -> bool:
        self.event_handler.said.append(f'{word} {arg}' if arg else word)
        address = (arg or '').partition('<')[2].partition('>')[0]
        return await self.scripted(f'{word} {address}', word)

    async def smtp_EHLO(self, hostname: str) -> None:  # noqa: N802  # aiosmtpd's name
        if not await self._told('EHLO', hostname):
            await super().smtp_EHLO(hostname)

    async def smtp_STARTTLS(self, arg: str) -> None:  # noqa: N802  # aiosmtpd's name
        if not await self._told('STARTTLS', arg):
            await super().smtp_STARTTLS(arg)

    async def smtp_AUTH(self, arg: str) -> None:  # noqa: N802  # aiosmtpd's name
        if not await self._told('AUTH', arg):
            await super().smtp_AUTH(arg)

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802  # aiosmtpd's name
        if not await self._told('MAIL', arg):
            await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802  # aiosmtpd's name
        if not await self._told('RCPT', arg):
            await super().smtp_RCPT(arg)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802  # aiosmtpd's name
        if not await self._told('DATA', arg):
            await super().smtp_DATA(arg)


class Raw:
    """
    Says `portions` in turn: the first at once, each further one for a line that it is told.

    After one that begins with 354 it reads a mail to its end.
    """

    def __init__(self, portions: Sequence[bytes]) -> None:
        self._portions = portions
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port = int(self._listener.getsockname()[1])
        self.told: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            with connection, connection.makefile('rb') as lines:
                for portion in self._portions:
                    connection.sendall(portion)
                    line = lines.readline()
                    self.told.append(line)
                    if not line:
                        return
                    while portion.startswith(b'354') and line not in (b'.\r\n', b''):
                        line = lines.readline()
                        self.told.append(line)
                lines.read()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        self._thread.join(10)


@contextlib.contextmanager
def scripted(script: Mapping[str, Step] = {}, **words: Any) -> Iterator[Scripted]:
    """Serve for as long as the context lasts."""
    server = Scripted(script, **words)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def raw(*portions: bytes) -> Iterator[Raw]:
    """Serve one connection."""
    server = Raw(portions)
    try:
        yield server
    finally:
        server.stop()


@dataclass(frozen=True)
class Certificate:
    """A certificate that is its own authority."""

    path: Path
    context: ssl.SSLContext


def certificate(folder: Path, names: str) -> Certificate:
    """Make one for `names`, as openssl writes them: `DNS:localhost,IP:127.0.0.1`."""
    folder.mkdir(exist_ok=True)
    key, path = folder / 'key.pem', folder / 'cert.pem'
    subprocess.run(
        [
            'openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1',
            '-nodes', '-keyout', key, '-out', path, '-days', '2', '-subj', '/CN=mx.test',
            '-addext', f'subjectAltName={names}',
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return Certificate(path, context)
