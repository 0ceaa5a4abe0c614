"""Passwords in addresses: whatever fails, and whoever says so, they are not shown."""

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bot.errors import BotError
from bot.events import sentence
from bot.shown import bare, host_of, is_clear, shown
from tests.conftest import Demo
from tests.gitrepo import Repo
from tests.services.postgres import Postgres

SECRET = 'S3ntinel'
PASSWORDS = st.text(st.characters(codec='ascii', exclude_categories=['Cc']), min_size=1).map(
    lambda text: f'{SECRET}{text}{SECRET}'
)


@given(PASSWORDS, st.sampled_from(['https', 'postgresql', 'postgresql+psycopg', 'ssh', 'git+http']))
def test_a_password_goes_and_the_rest_stays(password: str, scheme: str) -> None:
    url = f'{scheme}://user:{quote(password, safe="")}@host.example:8/p/m@x.org/?q=1'
    assert is_clear(url.replace('m@x', 'm%40x'))
    hidden = f'{scheme}://…@host.example:8/p/m@x.org/?q=1'
    assert shown(url) == hidden
    assert shown(f"cannot reach '{url}': no") == f"cannot reach '{hidden}': no"
    assert str(BotError(f'{url}: gone')) == f'{hidden}: gone'
    assert SECRET not in sentence('failed', {'reason': 'x' * 590 + url})
    assert bare(url) == (f'{scheme}://host.example:8/p/m@x.org/?q=1', ('user', password))
    assert host_of(url) == 'host.example:8'


@given(PASSWORDS)
@example(f'{SECRET}@?{SECRET}')
@example(f'{SECRET}@/{SECRET}')
@example(f'{SECRET}@0#{SECRET}')
@example(f'{SECRET}@0/x/{SECRET}')
def test_a_password_that_is_not_encoded_is_hidden_or_refused(password: str) -> None:
    url = f'https://user:{password}@host.example/'
    assert SECRET not in shown(url) or not is_clear(url)


@pytest.mark.parametrize(
    'text',
    [
        f'postgresql:///db?user=x&password={SECRET}&sslmode=require',
        f'https://h/?api_token={SECRET}',
        f'https://h/x?a=1;auth={SECRET}#f',
        f"connection failed: host=h password={SECRET} dbname='x'",
        f"host=h password = '{SECRET} {SECRET}\\' {SECRET}'",
    ],
)
def test_named_ones(text: str) -> None:
    assert SECRET not in shown(text)
    assert '…' in shown(text)


@pytest.mark.parametrize(
    'text',
    [
        'https://lore.kernel.org/linux-mm/20260320-x@example.org/t.mbox.gz: 404',
        'set password_file = "/etc/x"', 'a@b.org', 'x = y', 'http://[::1]:8/x',
    ],
)  # fmt: skip
def test_what_hides_nothing_stays(text: str) -> None:
    assert shown(text) == text


class Unkind(BaseHTTPRequestHandler):
    """Says no in the ways that its path names, and says back what it was told."""

    def do_GET(self) -> None:
        said = (self.path + str(self.headers)).encode()
        kind = self.path.split('/')[1]
        self.send_response({'denied': 401, 'broken': 500, 'moved': 302}.get(kind, 200))
        if kind == 'denied':
            self.send_header('WWW-Authenticate', 'Basic realm="x"')
        self.send_header('Location', 'http://127.0.0.1:9/')
        self.send_header('Content-Length', str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope='module')
def port() -> Iterator[int]:
    with ThreadingHTTPServer(('127.0.0.1', 0), Unkind) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


CHECK = ('check', '--tree', '{tree}', 'nobody@example.org')
WATCH = ('watch', '--once', '--log', 'json', '-v')
STATUS, WORK, DOCTOR, SYNC = ('status',), ('work', '--once', '--log', 'json'), ('doctor',), (
    'tree', 'sync',
)  # fmt: skip
LORE = '[lore]\nlists = ["l"]\ntimeout = "3s"\nurl = '
ME = f'u:{SECRET}'
CASES = {
    'archive unreachable': (LORE + f'"http://{ME}@127.0.0.1:9"', (CHECK, WATCH)),
    'archive denies': (LORE + f'"http://{ME}@127.0.0.1:{{port}}/denied"', (CHECK, WATCH)),
    'archive broken': (LORE + f'"http://{ME}@127.0.0.1:{{port}}/broken"', (CHECK, WATCH)),
    'archive talks nonsense': (LORE + f'"http://{ME}@127.0.0.1:{{port}}/x"', (CHECK, WATCH)),
    'archive moves': (LORE + f'"http://{ME}@127.0.0.1:{{port}}/moved"', (CHECK, WATCH)),
    'archive without TLS': (LORE + f'"https://{ME}@127.0.0.1:{{port}}/x"', (CHECK, WATCH, DOCTOR)),
    'archive of no such name': (LORE + f'"https://{ME}@none.invalid/"', (CHECK, WATCH)),
    'archive no address': (LORE + f'"ftp://{ME}@h/"', (CHECK,)),
    'archive not clear': (LORE + f'"http://u:a/{SECRET}@h/"', (CHECK,)),
    'archive not clear 2': (LORE + f'"http://u:a?{SECRET}@h/"', (CHECK,)),
    'database unreachable': (
        f'[state]\nurl = "postgresql://{ME}@127.0.0.1:9/x"', (STATUS, WORK, WATCH),
    ),
    'database, in the query': (
        f'[state]\nurl = "postgresql://127.0.0.1:9/x?user=u&password={SECRET}"', (STATUS, DOCTOR),
    ),
    'database, wrong option': (
        f'[state]\nurl = "postgresql://{ME}@127.0.0.1:9/x?nonsense={SECRET}x"', (STATUS,),
    ),
    'database not clear': (f'[state]\nurl = "postgresql://u:a@{SECRET}@h/x"', (STATUS, DOCTOR)),
    'database not clear 2': (f'[state]\nurl = "postgresql://u:{SECRET}/x"', (STATUS,)),
    'database of another kind': (f'[state]\nurl = "mysql://{ME}@127.0.0.1/x"', (STATUS, DOCTOR)),
    'a remote': (
        '[[tree]]\nname = "t"\npath = "{remote}"\nfetch = true', (SYNC,),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize('case', CASES)
def test_no_process_shows_it(case: str, port: int, sample: Demo, tmp_path: Path) -> None:
    remote = tmp_path / 'remote.git'
    text, commands = CASES[case]
    if case == 'a remote':
        Repo(remote)
        url = f'http://{ME}@127.0.0.1:{port}/denied/x.git'
        subprocess.run(['git', '-C', remote, 'remote', 'add', 'origin', url], check=True)
    text = text.replace('{port}', str(port)).replace('{remote}', str(remote))
    refused_all(commands, text, sample, tmp_path)


@pytest.mark.slow
def test_no_process_shows_it_when_the_server_refuses(
    postgres: Postgres, sample: Demo, tmp_path: Path
) -> None:
    for name in ('no_such_database', 'x'):
        url = f'postgresql://nobody:{SECRET}@127.0.0.1:{postgres.port}/{name}'
        refused_all((STATUS, WORK), f'[state]\nurl = "{url}"', sample, tmp_path)


def refused_all(
    commands: tuple[tuple[str, ...], ...], text: str, sample: Demo, folder: Path
) -> None:
    """Run commands that fail: the password is neither in what they say nor in what they write."""
    config = folder / 'config.toml'
    config.write_text(text + '\n')
    config.chmod(0o600)
    places = {name: str(folder / name) for name in ('state', 'cache', 'tmp')}
    (folder / 'tmp').mkdir(exist_ok=True)
    env = {
        **os.environ, 'XDG_STATE_HOME': places['state'], 'XDG_CACHE_HOME': places['cache'],
        'TMPDIR': places['tmp'],
    }  # fmt: skip
    for words in commands:
        given_ = [word.replace('{tree}', str(sample.tree)) for word in words]
        done = subprocess.run(
            [sys.executable, '-P', '-m', 'bot', *given_, '--config', config],
            env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert said, words
        assert 'fault of the bot' not in said
        assert SECRET not in said, words
    for name in places:
        for path in (folder / name).rglob('*'):
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
