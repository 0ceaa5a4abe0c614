"""
A mail server's door: every byte goes through it, and it says how far a dialogue is.

Passes a client's lines on to the real server behind it, and the answers back.
At the stage that is asked for it stops and calls; what it has read goes on to
the server afterwards, be the client dead or not, as it would on a wire. And it
fails as servers and networks do.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO, Literal, get_args

Stage = Literal['RCPT', '354', 'bytes', 'dot', 'lost dot', '250', 'told']
"""
Before the client knows of the answer to RCPT, to DATA, to the whole mail (250);
within the mail's bytes; behind its dot, which reaches the server or not; and
when the client has been told that its mail is taken.
"""
STAGES: tuple[Stage, ...] = get_args(Stage)
Fault = Literal['none', '421', '450', '451', 'reset', 'lost', 'unanswered']
"""
Too busy; no recipient just now; not this mail just now; a connection that
breaks before the mail, before its dot reaches the server, before its answer
reaches the client.
"""
LARGE = 200_000
"""Bytes of a mail that can't be on its way all at once."""
BUFFER = 4096


class Door:
    """Before the server at port `upstream`. `fault` is asked for each dialogue."""

    def __init__(self, upstream: int, fault: Callable[[], Fault]) -> None:
        self._upstream = upstream
        self.fault = fault
        self._plan: Stage | None = None
        self._lock = threading.Lock()
        self._reached = threading.Event()
        self._go = threading.Event()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._listener.bind(('127.0.0.1', 0))
        self._listener.listen(16)
        self.port = int(self._listener.getsockname()[1])
        self._dialogues: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections."""
        self._go.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        self._thread.join(10)

    def watch_for(self, stage: Stage) -> None:
        """Stop the next dialogue at a stage."""
        with self._lock:
            self._reached.clear()
            self._go.clear()
            self._plan = stage

    def reached(self, seconds: float) -> bool:
        """Wait until a dialogue is there; whether it is."""
        return self._reached.wait(seconds)

    def go_on(self) -> None:
        """Let a dialogue that was stopped go on, and stop none any more."""
        with self._lock:
            self._plan = None
        self._go.set()

    def settle(self) -> None:
        """Wait until all that clients said has reached the server, dead as they may be."""
        for one in self._dialogues:
            one.join(60)
            assert not one.is_alive()

    def _at(self, *stages: Stage) -> bool:
        """Stop here, if that is wanted; whether it was."""
        with self._lock:
            if self._plan not in stages:
                return False
            self._plan = None
        self._reached.set()
        self._go.wait(60)
        return True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            dialogue = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._dialogues = [one for one in self._dialogues if one.is_alive()]
            self._dialogues.append(dialogue)
            dialogue.start()

    def _serve(self, client: socket.socket) -> None:
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection(('127.0.0.1', self._upstream), 30) as server,
        ):
            _Dialogue(client, server, self.fault(), self._at).go()


class _Dialogue:
    """One connection, from the greeting to its end."""

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        fault: Fault,
        at: Callable[..., bool],
    ) -> None:
        self.client = client
        self.server = server
        self.told: BinaryIO = client.makefile('rb')
        self.answers: BinaryIO = server.makefile('rb')
        self.fault = fault
        self.at = at
        self.large = False

    def go(self) -> None:
        greeting = self._answer()
        if self.fault == '421':
            self._say(b'421 4.3.2 too busy\r\n')
            return
        self._say(greeting)
        while line := self.told.readline():
            word = line[:4].upper()
            self.large |= _size(line) > LARGE
            self.server.sendall(line)
            answer = self._answer()
            if word == b'RCPT':
                if self.fault == 'reset':
                    self._reset()
                    return
                self.at('RCPT')
                if self.fault == '450':
                    answer = b'450 4.2.1 not just now\r\n'
            if word == b'DATA' and answer.startswith(b'354'):
                self.at('354')
                if not self._mail(answer):
                    return
                continue
            self._say(answer)

    def _mail(self, answer: bytes) -> bool:
        """Pass a mail on; False where the connection ends with it."""
        self._say(answer)
        content = bytearray()
        if self.large:
            content += self.client.recv(BUFFER)
            self.at('bytes')
        while not content.endswith(b'\r\n.\r\n'):
            data = self.told.read1(1 << 16)  # type: ignore[attr-defined]  # a buffered reader's
            content += data
            if not data:
                self.server.sendall(content)  # half a mail, and then nothing
                return False
        if self.fault == '451':
            self._say(b'451 4.3.0 not just now\r\n')
            return False
        if self.fault == 'lost':
            self._reset()
            return False
        self.at('dot')
        if self.at('lost dot'):
            return False
        self.server.sendall(content)
        taken = self._answer()
        if self.fault == 'unanswered':
            self._reset()
            return False
        self.at('250')
        self._say(taken)
        self.at('told')
        return True

    def _answer(self) -> bytes:
        lines = b''
        while line := self.answers.readline():
            lines += line
            if line[3:4] != b'-':
                break
        return lines

    def _say(self, text: bytes) -> None:
        # The server is told all that the client said, whether that still listens or not.
        with contextlib.suppress(OSError):
            self.client.sendall(text)

    def _reset(self) -> None:
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))


def _size(line: bytes) -> int:
    """How large a client says that its mail is."""
    found = line.upper().partition(b' SIZE=')[2].split()
    return int(found[0]) if found and found[0].isdigit() else 0


@contextlib.contextmanager
def opened(upstream: int, fault: Callable[[], Fault]) -> Iterator[Door]:
    """Have a door for as long as the context lasts."""
    door = Door(upstream, fault)
    try:
        yield door
    finally:
        door.stop()
