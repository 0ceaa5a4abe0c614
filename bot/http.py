"""
Answers of an HTTP server, and no more of them than could be honest.

Bounded are the bytes that come, what they unpack to, and the time from the
request to the last byte: its tries, redirects and header included. A server
that sends a byte now and then stays below any time-out of a socket, so when the
time is over, the connection is cut from a thread beside. Not bounded is the
look-up of the server's name, which is the resolver's. Content is never decoded
on its way: one header can ask for five times gzip.
"""

import os
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util.retry import Retry

from bot import __version__
from bot.errors import LoreError
from bot.plain import one_line
from bot.shown import host_of

AGENT = f'vma-review-bot/{__version__}'
CHUNK = 1 << 16
MEMBER = 1 << 12
"""Bytes that are unpacked at a time: what comes after a member's end is copied for each."""
MOST_MEMBERS = 10_000
MOST_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
GZIP = b'\x1f\x8b'


@dataclass(frozen=True)
class Answer:
    """A status, its words, the header, and the body of a 200 (else nothing), as it came."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Asks servers, by user and password where they are `known`. For one thread at a time."""

    def __init__(self, retry: Retry | int = 0, known: tuple[str, str] | None = None) -> None:
        self._known = known
        self._session = requests.Session()
        self._session.headers['User-Agent'] = AGENT
        self._session.headers['Accept-Encoding'] = 'identity'
        for scheme in ('http://', 'https://'):
            self._session.mount(scheme, _Adapter(max_retries=retry))

    def ask(
        self,
        url: str,
        *,
        largest: int,
        seconds: float,
        share: tuple[float, float] | None = None,
        post: bool = False,
        headers: Mapping[str, str] = {},
    ) -> Answer:
        """
        Ask for something of `largest` bytes at most, within `seconds`.

        `share` is what connecting, and each read, may take of these. Raises `LoreError` at a
        limit, and what requests raises.
        """
        host = host_of(url)
        with _within(seconds, host, url):
            for _ in range(MOST_REDIRECTS):
                ask = self._session.post if post else self._session.get
                with ask(
                    url, timeout=share or seconds, stream=True, headers=dict(headers),
                    # Another host than the one that was asked first does not get it.
                    auth=self._known if host_of(url) == host else None,
                    allow_redirects=False,  # requests would read what comes with one, all of it
                ) as answer:  # fmt: skip
                    status, where = answer.status_code, answer.headers.get('Location')
                    if status in REDIRECTS and where:
                        url = urljoin(url, where)
                        post = post and status in (307, 308)
                        continue
                    body = _body(answer, largest, url) if status == 200 else b''
                    return Answer(status, one_line(answer.reason or '', 100), answer.headers, body)
        raise LoreError(f'{host}: more than {MOST_REDIRECTS} redirects: {url}')


def _body(answer: requests.Response, largest: int, url: str) -> bytes:
    host = host_of(url)
    parts, size = [], 0
    try:
        while part := answer.raw.read(CHUNK, decode_content=False):
            size += len(part)
            if size > largest:
                raise LoreError(f'{host}: more than {_size(largest)}: {url}')
            parts.append(part)
    except ReadTimeoutError as error:
        raise LoreError(f'{host}: the answer stopped coming: {url}') from error
    except (HTTPError, OSError) as error:
        raise LoreError(f'{host}: the answer was cut short: {url}') from error
    return b''.join(parts)


def unpacked(data: bytes, largest: int, url: str) -> bytes:
    """Unpack gzip to `largest` bytes at most; what is none is left as it is. Raises `LoreError`."""
    if not data.startswith(GZIP):
        return data
    parts, size, at, members = [], 0, 0, 1
    unpacker = zlib.decompressobj(wbits=31)
    try:
        while at < len(data):
            if unpacker.eof:
                unpacker = zlib.decompressobj(wbits=31)
                members += 1
            chunk = data[at : at + MEMBER]
            part = unpacker.decompress(chunk, largest + 1 - size)
            at += len(chunk) - len(unpacker.unused_data)
            parts.append(part)
            size += len(part)
            if size > largest:
                raise LoreError(f'unpacks to more than {_size(largest)}: {url}')
            if members > MOST_MEMBERS:
                raise LoreError(f'has more than {MOST_MEMBERS} gzip members: {url}')
    except zlib.error as error:
        raise LoreError(f'not readable as gzip ({error}): {url}') from error
    if not unpacker.eof:
        raise LoreError(f'the answer was cut short: {url}')
    return b''.join(parts)


def _size(limit: int) -> str:
    return f'{limit >> 20} MB' if limit >= 1 << 20 else f'{limit} bytes'


# --- the end of time -------------------------------------------------------------


class _Watch:
    """What is connected to while the time runs; it is cut when the time is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._twins: list[socket.socket] = []
        self.over = False

    def add(self, connected: socket.socket) -> None:
        # By a number of its own: http.client lets go of a socket whose answer is still read.
        twin = socket.socket(fileno=os.dup(connected.fileno()))
        with self._lock:
            self._twins.append(twin)
            if self.over:
                _cut(twin)

    def end(self) -> None:
        with self._lock:
            self.over = True
            for one in self._twins:
                _cut(one)

    def close(self) -> None:
        with self._lock:
            for one in self._twins:
                one.close()
            self._twins.clear()


def _cut(connected: socket.socket) -> None:
    with suppress(OSError):  # the server was quicker
        connected.shutdown(socket.SHUT_RDWR)


_HERE = threading.local()


class _Watched(HTTPConnection):
    """A connection that another thread can cut, whatever it waits for: TLS's handshake, too."""

    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        self._watch(made)
        return made

    def request(self, *words: Any, **named: Any) -> None:
        if self.sock is not None:  # it was kept from another request
            self._watch(self.sock)
        super().request(*words, **named)

    def _watch(self, connected: socket.socket) -> None:
        watch: _Watch | None = getattr(_HERE, 'watch', None)
        if watch is not None:
            watch.add(connected)


class _WatchedTls(_Watched, HTTPSConnection):
    """The same, encrypted."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched


class _PoolTls(HTTPSConnectionPool):
    ConnectionCls = _WatchedTls


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *words: Any, **named: Any) -> None:
        super().init_poolmanager(*words, **named)
        self.poolmanager.pool_classes_by_scheme = {'http': _Pool, 'https': _PoolTls}

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **named)
        manager.pool_classes_by_scheme = {'http': _Pool, 'https': _PoolTls}
        return manager


@contextmanager
def _within(seconds: float, host: str, url: str) -> Iterator[None]:
    """Cut what this thread connects to when the time is over. Raises `LoreError` then."""
    watch = _Watch()
    timer = threading.Timer(seconds, watch.end)
    timer.daemon = True
    began = time.monotonic()
    _HERE.watch = watch
    timer.start()
    late = LoreError(f'{host}: not all of it came within {seconds:g} s: {url}')
    try:
        yield
    except (LoreError, requests.RequestException, HTTPError, OSError, ValueError) as error:
        if watch.over and not _is_limit(error):
            raise late from error
        raise
    finally:
        timer.cancel()
        _HERE.watch = None
        watch.close()
    if watch.over or time.monotonic() - began > seconds:
        raise late


def _is_limit(error: Exception) -> bool:
    return isinstance(error, LoreError) and 'more than' in str(error)
