"""A proxy of the tests' own before an archive: it fails as the network and servers do."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import requests

Fault = Literal['none', '304', '500', 'cut', 'drop', 'garbage']
"""
As it is; not modified, where that was asked; status 500; half of the body; no answer at all; a body
that is something else.
"""
Choose = Callable[[str], Fault]
"""The fault of a request, by its path."""
KEPT = ('content-type', 'last-modified', 'etag')


class Proxy(ThreadingHTTPServer):
    """Passes requests on to `upstream`, with the faults that `choose` says."""

    daemon_threads = True

    def __init__(self, upstream: str, choose: Choose) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.upstream = upstream
        self.choose = choose
        self.asked: list[tuple[str, Fault]] = []
        self.url = f'http://127.0.0.1:{self.server_address[1]}'

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is nothing to speak of."""


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        self._pass(None)

    def do_POST(self) -> None:
        if self.headers.get('Transfer-Encoding') == 'chunked':
            body = b''.join(self._chunks())
        else:
            body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        self._pass(body)

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().strip() or b'0', 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _pass(self, body: bytes | None) -> None:
        fault = self.server.choose(self.path)
        self.server.asked.append((self.path, fault))
        self.close_connection = True
        if fault == 'drop':
            return
        if fault == '304' and 'If-Modified-Since' in self.headers:
            self.send_response(304)
            self.end_headers()
            return
        if fault == '500':
            self.send_error(500)
            return
        given = {
            name: value
            for name, value in self.headers.items()
            if name.lower() in ('content-type', 'content-encoding', 'accept', 'git-protocol')
        }
        try:
            answer = requests.request(
                'GET' if body is None else 'POST', self.server.upstream + self.path,
                data=body, headers={**given, 'Accept-Encoding': 'identity'}, timeout=60,
            )  # fmt: skip
        except requests.RequestException:
            self.send_error(502)
            return
        content = answer.content
        self.send_response(answer.status_code)
        for name in KEPT:
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        if fault == 'garbage':
            content = bytes(255 - byte for byte in content)
        self.wfile.write(content[: len(content) // 2] if fault == 'cut' else content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def failing(upstream: str, choose: Choose) -> Iterator[Proxy]:
    """Have a proxy for as long as the context lasts."""
    proxy = Proxy(upstream, choose)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={'poll_interval': 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
