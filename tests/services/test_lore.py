"""The archive when it misbehaves: a clear message, within the time."""

import gzip
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bot import __version__
from bot.errors import LoreError
from bot.lore import Archive, message_id
from bot.model import Lore
from tests.conftest import Bot, Demo
from tests.services.publicinbox import PublicInbox, free_port, serving
from tests.services.threads import diff, mail

ONE = b'From mboxrd@z Thu Jan  1 00:00:00 1970\n' + mail(
    'one@example.org', '[PATCH] mm: x', patch=diff('x')
)
Answer = Callable[[http.server.BaseHTTPRequestHandler, int], None]


@contextmanager
def host(answer: Answer) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that answers as told; its address, and what was asked of it."""
    asked: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append({'path': self.path, 'agent': self.headers['User-Agent']})
            answer(self, len(asked))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f'http://127.0.0.1:{server.server_address[1]}', asked
        finally:
            server.shutdown()
            thread.join()


def send(
    handler: http.server.BaseHTTPRequestHandler, code: int, body: bytes, length: int | None = None
) -> None:
    handler.send_response(code)
    handler.send_header('Content-Type', 'application/gzip')
    handler.send_header('Content-Length', str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def good(handler: http.server.BaseHTTPRequestHandler, _: int) -> None:
    send(handler, 200, gzip.compress(ONE))


def archive(
    *urls: str, cache: Path | None = None, timeout: float = 2.0, largest: int = 1 << 20
) -> Archive:
    return Archive(Lore(urls, ('linux-mm',), timeout, largest, 600.0), cache)


def refused(wanted: Archive, msgid: str = 'one@example.org') -> LoreError:
    started = time.monotonic()
    with pytest.raises(LoreError) as error:
        wanted.thread(msgid)
    assert time.monotonic() - started < 3.5, 'not within the configured time'
    assert '\n' not in str(error.value)
    return error.value


def test_a_thread_is_fetched_with_our_name_and_kept(tmp_path: Path) -> None:
    with host(good) as (url, asked):
        for _ in range(2):
            (found,) = archive(url, cache=tmp_path).thread('one@example.org')
            assert found.msgid == 'one@example.org'
        assert len(asked) == 1
        assert asked[0] == {
            'path': '/all/one@example.org/t.mbox.gz', 'agent': f'vma-review-bot/{__version__}',
        }  # fmt: skip


def test_a_list_that_a_link_names_is_asked_first() -> None:
    with host(good) as (url, asked):
        archive(url).thread('a%b@example.org', 'linux-hyperv')
        assert asked[0]['path'] == '/linux-hyperv/a%25b@example.org/t.mbox.gz'


def test_nobody_listens() -> None:
    port = free_port()
    error = refused(archive(f'http://127.0.0.1:{port}'))
    assert f'127.0.0.1:{port} can not be reached' in str(error)
    assert 'refused' in str(error)


def test_no_such_message() -> None:
    with host(lambda handler, _: send(handler, 404, b'')) as (url, asked):
        error = refused(archive(url))
        assert error.missing
        assert 'message one@example.org: there is no such message on' in str(error)
        assert [one['path'].split('/')[1] for one in asked] == ['all', 'linux-mm']


def test_a_server_error_is_tried_again() -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler, count: int) -> None:
        if count < 3:
            send(handler, 503, b'')
        else:
            good(handler, count)

    with host(answer) as (url, asked):
        assert len(archive(url).thread('one@example.org')) == 1
        assert len(asked) == 3


def test_server_errors_without_end() -> None:
    with host(lambda handler, _: send(handler, 502, b'')) as (url, asked):
        assert 'answers 502' in str(refused(archive(url)))
        assert len(asked) == 3


def test_another_refusal_is_not_tried_again() -> None:
    with host(lambda handler, _: send(handler, 403, b'')) as (url, asked):
        assert 'answers 403' in str(refused(archive(url)))
        assert len(asked) == 1


def test_a_body_cut_short() -> None:
    whole = gzip.compress(ONE)
    with host(lambda handler, _: send(handler, 200, whole[:200], len(whole))) as (url, _):
        assert 'was cut short' in str(refused(archive(url)))
    with host(lambda handler, _: send(handler, 200, whole[:200])) as (url, _):
        assert 'was cut short' in str(refused(archive(url)))


def test_what_is_no_gzip() -> None:
    with host(lambda handler, _: send(handler, 200, b'\x1f\x8b' + b'junk' * 50)) as (url, _):
        assert 'not readable as gzip' in str(refused(archive(url)))


def test_a_gzip_bomb() -> None:
    bomb = gzip.compress(b'\0' * (64 << 20))
    with host(lambda handler, _: send(handler, 200, bomb)) as (url, _):
        assert 'unpacks to more than 16 MB' in str(refused(archive(url)))


def test_a_body_without_end() -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b'x' * (1 << 16))

    with host(answer) as (url, _):
        assert 'more than 1 MB' in str(refused(archive(url)))


def test_a_body_that_trickles() -> None:
    done = threading.Event()

    def answer(handler: http.server.BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not done.wait(0.2):
            try:
                handler.wfile.write(b'x' * (1 << 16))
            except OSError:
                return

    with host(answer) as (url, _):
        said = str(refused(archive(url, timeout=1.0, largest=1 << 30)))
        done.set()
    assert 'not all of it came within 1 s' in said


def test_a_host_that_accepts_and_never_answers() -> None:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        server.listen()
        port = server.getsockname()[1]
        assert 'accepts, but does not answer within 2 s' in str(
            refused(archive(f'http://127.0.0.1:{port}'))
        )


def test_the_next_host_is_asked() -> None:
    with host(good) as (url, asked):
        found = archive(f'http://127.0.0.1:{free_port()}', url).thread('one@example.org')
        assert len(found) == len(asked) == 1


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('a@b', ('a@b', None)),
        ('<a@b>', ('a@b', None)),
        ('https://lore.kernel.org/linux-mm/a@b/', ('a@b', 'linux-mm')),
        ('https://lore.kernel.org/all/a@b/T/#t', ('a@b', None)),
        ('https://lore.kernel.org/r/a%2Bc@b', ('a+c@b', None)),
        ('https://patch.msgid.link/a@b', ('a@b', None)),
        ('https://lore.kernel.org/linux-mm/', None),
        ('no message-id', None),
        ('a@b c', None),
    ],
)
def test_message_ids(text: str, expected: tuple[str, str | None] | None) -> None:
    assert message_id(text) == expected


def test_errors_as_a_user_sees_them(
    bot: Bot, sample: Demo, tmp_path: Path, archive: PublicInbox
) -> None:
    config = tmp_path / 'config.toml'
    config.write_text(f'[lore]\nurl = "{archive.url}"\n')
    result = bot('check', '-q', '--config', config, '--tree', sample.tree, 'nosuch@example.org')
    assert (result.code, result.out) == (3, '')
    assert result.err == (
        f'bot: message nosuch@example.org: there is no such message on 127.0.0.1:{archive.port}\n'
    )
    config.write_text(f'[lore]\nurl = "http://127.0.0.1:{free_port()}"\ntimeout = "1s"\n')
    result = bot('check', '-q', '--config', config, '--tree', sample.tree, 'nosuch@example.org')
    assert result.code == 3
    assert 'can not be reached' in result.err


def test_a_mail_of_20_mb_in_the_archive(bot: Bot, sample: Demo, tmp_path: Path) -> None:
    lines = ''.join(f'+int x{n:07}; /* {"y" * 80} */\n' for n in range(200_000))
    head = 'diff --git a/big.c b/big.c\nnew file mode 100644\n--- /dev/null\n+++ b/big.c\n'
    big = mail('big@example.org', '[PATCH] mm: big', patch=f'{head}@@ -0,0 +1,200000 @@\n{lines}')
    with serving(tmp_path / 'archive', [big]) as served:
        config = tmp_path / 'config.toml'
        config.write_text(f'[lore]\nurl = "{served.url}"\n[b4]\ntime = "2s"\n')
        result = bot('check', '-q', '--config', config, '--tree', sample.tree, 'big@example.org')
    assert result.code == 3
    assert 'b4 does not come to an end with this thread (2 s)' in ' '.join(result.out.split())
