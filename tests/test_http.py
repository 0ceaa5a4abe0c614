"""Servers that send too much, too slowly, or too deep: an error in time, and no memory."""

import gzip
import json
import resource
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bot.errors import LoreError
from bot.http import Client, unpacked
from bot.lore import Archive
from bot.mirror import Mirror, _fingerprints
from bot.model import Lore

OK = b'HTTP/1.1 200 OK\r\nConnection: close\r\n'
MEMORY = 1 << 30
"""Bytes of address space that a child may take: what it reads is bounded far below."""
READING = """
import sys
from pathlib import Path
from bot.errors import LoreError
from bot.mirror import _fingerprints
try:
    _fingerprints(Path(sys.argv[1]).read_bytes(), 'http://x/l')
except LoreError as error:
    print(error)
"""
Serve = Callable[[socket.socket, threading.Event], None]


@contextmanager
def serving(serve: Serve) -> Iterator[str]:
    """A server of one's own on loopback, whatever it says."""
    stop = threading.Event()
    with socket.create_server(('127.0.0.1', 0)) as door:

        def going() -> None:
            while not stop.is_set():
                try:
                    taken, _ = door.accept()
                except OSError:
                    return
                threading.Thread(target=answering, args=(taken,), daemon=True).start()

        def answering(taken: socket.socket) -> None:
            with taken:
                taken.recv(1 << 16)
                try:
                    serve(taken, stop)
                except OSError:
                    return  # the client has had enough

        threading.Thread(target=going, daemon=True).start()
        try:
            yield f'http://127.0.0.1:{door.getsockname()[1]}'
        finally:
            stop.set()
            door.shutdown(socket.SHUT_RDWR)


def trickling(head: bytes, piece: bytes) -> Serve:
    """A server that is never at its end, and never silent for long."""

    def serve(taken: socket.socket, stop: threading.Event) -> None:
        taken.sendall(head)
        while not stop.wait(0.05):
            taken.sendall(piece)

    return serve


def whole(answer: bytes) -> Serve:
    """A server that sends this."""
    return lambda taken, _: taken.sendall(answer)


TRICKLES = {
    'status': (b'HTTP/1.1 2', b'0'),
    'header': (OK, b'X: y\r\n'),
    'one header': (OK + b'X: ', b'y'),
    'body': (OK + b'\r\n', b'x'),
    'chunk': (OK + b'Transfer-Encoding: chunked\r\n\r\n', b'1\r\nx\r\n'),
    'chunk size': (OK + b'Transfer-Encoding: chunked\r\n\r\n', b'0'),
    'trailer': (OK + b'Transfer-Encoding: chunked\r\n\r\n0\r\n', b'X: y\r\n'),
    'continue': (b'', b'HTTP/1.1 100 Continue\r\n\r\n'),
}


@pytest.mark.parametrize('name', TRICKLES)
def test_a_trickle_comes_to_an_end(name: str, tmp_path: Path) -> None:
    with serving(trickling(*TRICKLES[name])) as url:
        with pytest.raises(LoreError):
            Mirror(url, 'l', tmp_path, 1).epochs()
        with pytest.raises(LoreError):
            Archive(Lore((url,), (), 1.0)).thread('a@x')


def test_redirects_come_to_an_end(tmp_path: Path) -> None:
    again = b'HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 99999999999\r\n\r\n'
    with serving(whole(again)) as url, pytest.raises(LoreError, match='redirects'):
        Client().ask(url, largest=100, seconds=20)


@pytest.mark.parametrize('length', ['', 'Content-Length: 3000\r\n'])
def test_more_than_asked_for_is_refused(length: str) -> None:
    answer = OK + length.encode() + b'\r\n' + b'x' * 3000
    with serving(whole(answer)) as url, pytest.raises(LoreError, match='more than 1000 bytes'):
        Client().ask(url, largest=1000, seconds=20)


def test_content_is_not_decoded_on_its_way() -> None:
    packed = gzip.compress(b'x' * 1000)
    head = b'Content-Encoding: gzip, gzip, gzip\r\nContent-Length: %d\r\n\r\n' % len(packed)
    with serving(whole(OK + head + packed)) as url:
        assert Client().ask(url, largest=1000, seconds=20).body == packed


def test_half_of_it_is_none() -> None:
    answer = OK + b'Content-Length: 100\r\n\r\nx'
    with serving(whole(answer)) as url, pytest.raises(LoreError, match='cut short'):
        Client().ask(url, largest=1000, seconds=20)


BOMBS: dict[str, Callable[[], bytes]] = {
    'gzip': lambda: gzip.compress(b'[' + b'0,' * (8 << 20) + b'0]', 1),
    'deep': lambda: b'[' * 900_000,
    'deep objects': lambda: b'{"a":' * 150_000,
    'digits': lambda: b'{"/0": {"fingerprint": ' + b'9' * 900_000 + b'}}',
    'fingerprint': lambda: b'{"/0": {"fingerprint": "' + b'9' * 900_000 + b'"}}',
    'no text': lambda: b'{"/0": {"fingerprint": [[]]}}',
    'no names': lambda: b'[]',
    'surrogates': lambda: b'{"/0": {"fingerprint": 1}}',
    'members': lambda: gzip.compress(b'') * 20_000,
}


@pytest.mark.parametrize('name', BOMBS)
def test_a_manifest_is_an_error_at_most(name: str) -> None:
    with pytest.raises(LoreError):
        _fingerprints(BOMBS[name](), 'http://x/l')


def test_a_manifest_that_unpacks_to_much_takes_no_memory(tmp_path: Path) -> None:
    """1.5 MB took 3 GB: with half of one to have, it is an error and not the end."""
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(b'{"a":[' + b'0,' * (1 << 19)) for _ in range(900)]
    packed = b''.join([*parts, packer.flush()])
    path = tmp_path / 'packed'
    path.write_bytes(packed)
    done = subprocess.run(
        [
            sys.executable, '-P', '-c',
            READING,
            str(path),
        ],
        capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),  # one thread
    )  # fmt: skip
    assert 'unpacks to more than 8 MB' in done.stdout, done.stderr


def test_what_is_honest_is_read() -> None:
    said = json.dumps({'/l/git/0.git': {'fingerprint': 'ab'}, '/l/git/1.git': {'fingerprint': 'c'}})
    assert _fingerprints(gzip.compress(said.encode()), 'http://x/l') == {0: 'ab', 1: 'c'}
    assert unpacked(gzip.compress(b'a') + gzip.compress(b'b'), 10, 'x') == b'ab'
    with pytest.raises(LoreError, match='cut short'):
        unpacked(gzip.compress(b'abc')[:-3], 10, 'x')


def test_a_fetch_comes_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a byte now and then, below every time-out of a socket."""
    monkeypatch.setattr('bot.mirror.LONGEST_FETCH', 3)
    head = OK + b'Content-Type: application/x-git-upload-pack-advertisement\r\n\r\n'
    with serving(trickling(head + b'001e# service=git-upload-pack\n', b'0')) as url:
        mirror = Mirror(url, 'l', tmp_path, 60)
        with pytest.raises(LoreError, match=r'not all of it came within 3 s|git'):
            mirror.fetch(0, since=0)
