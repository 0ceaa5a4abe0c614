"""
A wire of the tests' own to a server on loopback, which can be cut.

Connections go through it byte by byte. `fault` breaks them all. *cut* resets
them, and each that comes while it lasts; *hang* lets them be, and no byte goes
through; *half-open* resets the client's ends alone, as when a machine has gone:
new connections are made, while the server keeps the old sessions, and all that
they hold, until the fault ends.
"""

import contextlib
import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Literal, get_args

Break = Literal['cut', 'hang', 'half-open']
BREAKS: tuple[Break, ...] = get_args(Break)
LINGER = struct.pack('ii', 1, 0)
CHUNK = 1 << 16


class Wire:
    """Before the server at port `upstream`."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._fault: Break | None = None
        self._well = threading.Event()
        self._well.set()
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._kept: list[socket.socket] = []
        self._listener = socket.create_server(('127.0.0.1', 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections, and end those that are there."""
        self.mend()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        self._thread.join(10)
        self.fault('cut')
        self.mend()

    def fault(self, how: Break) -> int:
        """Break it; how many connections there were."""
        with self._lock:
            self._fault = how
            if how == 'hang':
                self._well.clear()
            pairs, self._pairs = self._pairs, self._pairs if how == 'hang' else []
            for client, server in pairs:
                if how == 'hang':
                    continue
                _reset(client)
                if how == 'cut':
                    _reset(server)
                else:
                    self._kept.append(server)
        return len(pairs)

    def mend(self) -> None:
        """Let bytes through again."""
        with self._lock:
            self._fault = None
            for one in self._kept:
                _reset(one)
            self._kept.clear()
        self._well.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self._fault == 'cut':
            _reset(client)
            return
        self._well.wait()
        try:
            server = socket.create_connection(('127.0.0.1', self._upstream), 10)
        except OSError:
            _reset(client)
            return
        pair = (client, server)
        with self._lock:
            self._pairs.append(pair)
        with contextlib.suppress(OSError, ValueError):
            self._pump(client, server)
        with self._lock:
            if pair in self._pairs:
                self._pairs.remove(pair)
                _reset(client)
                _reset(server)

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in ready.select(1.0):
                    assert isinstance(key.fileobj, socket.socket)
                    self._well.wait()
                    data = key.fileobj.recv(CHUNK)
                    if not data:
                        return
                    key.data.sendall(data)
                if client.fileno() < 0 or (client, server) not in self._pairs:
                    return


def _reset(one: socket.socket) -> None:
    """Close a connection so that its other end gets a reset."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        one.shutdown(socket.SHUT_RDWR)  # wakes who reads it
    one.close()


@contextlib.contextmanager
def wired(upstream: int) -> Iterator[Wire]:
    """Have a wire for as long as the context lasts."""
    wire = Wire(upstream)
    try:
        yield wire
    finally:
        wire.stop()
