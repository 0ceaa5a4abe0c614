"""`bot doctor`, with real parts that work and real parts that do not."""

import contextlib
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import create_engine

from bot import doctor
from bot.cautions import cautions
from bot.cgroup import made
from bot.config import load
from bot.errors import SandboxError
from bot.model import Limits
from bot.outgoing import ListPolicy, Policy
from bot.output.doctor import Part, render
from bot.store.database import upgrade
from tests.conftest import Bot, Demo, Result
from tests.gitrepo import Repo
from tests.lettering import raw_series
from tests.mailserver import Scripted
from tests.services import publicinbox
from tests.services.opensmtpd import OpenSmtpd
from tests.services.postgres import Postgres
from tests.services.publicinbox import LIST, PublicInbox, serving

KVACK = 'linux-mm@kvack.org'


@pytest.fixture(scope='module')
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublicInbox]:
    if publicinbox.MISSING:
        pytest.skip(f'not installed: {", ".join(publicinbox.MISSING)}')
    with serving(tmp_path_factory.mktemp('archive'), raw_series('a', 1)) as served:
        yield served


class Clinic:
    """A configuration, and what the doctor says of it."""

    def __init__(self, bot: Bot, folder: Path, archive: str, tree: Path, smtp: str) -> None:
        self.bot = bot
        self.folder = folder
        self.config = folder / 'config.toml'
        self.text = (
            f'[lore]\nurl = "{archive}"\nsince = "36500d"\n'
            f'[[tree]]\nname = "demo"\npath = "{tree}"\n'
            f'[state]\nurl = "sqlite:///{folder}/state.db"\ncache = "{folder}/cache"\n'
            f'[mail]\nfrom = "vma-bot@bot.example"\nlists = ["{KVACK}"]\n'
            f'reply_to = "human@bot.example"\nstop_file = "{folder}/STOP"\n{smtp}'
            '[attestation]\ncheck = false\n'
        )
        self.config.write_text(self.text)

    def change(self, old: str, new: str) -> None:
        assert old in self.text
        self.config.write_text(self.text.replace(old, new))

    def __call__(self, *checks: str) -> dict[str, tuple[str, str, str]]:
        """What some checks say here, by part: level, text, what mends it."""
        config = load(self.config)
        found = [one for name in checks for one in doctor._alone(name, doctor.CHECKS[name], config)]
        return {one.name: (one.level, one.text, one.mend) for one in found}

    def whole(self, *words: str) -> Result:
        return self.bot('doctor', *words, '--config', self.config)


@pytest.fixture
def clinic(bot: Bot, tmp_path: Path, sample: Demo) -> Clinic:
    return Clinic(bot, tmp_path, 'http://127.0.0.1:9', sample.tree, '')


def test_all_is_well(
    bot: Bot, tmp_path: Path, sample: Demo, archive: PublicInbox, mail_server: OpenSmtpd
) -> None:
    smtp = f'[smtp]\nhost = "127.0.0.1"\nport = {mail_server.port}\nencryption = "none"\n'
    clinic = Clinic(bot, tmp_path, archive.url, sample.tree, smtp)
    assert bot('watch', '--once', '--config', clinic.config).code == 0
    done = clinic.whole('--json')
    assert done.code == 0, done.out
    parts = {one['name']: one for one in (json.loads(line) for line in done.out.splitlines())}
    assert {one['level'] for one in parts.values()} == {'ok'}, done.out
    assert set(parts) == {
        'configuration', 'rules', 'git', 'tree demo', 'bubblewrap', 'limits', 'compiler',
        'sanitizers', 'liburcu', 'ccache', 'b4', f'archive {LIST}', 'clock', 'database', 'privacy',
        f'list {LIST}', 'cache', 'state', 'temporary folder', 'mail server', 'stop file', 'policy',
    }  # fmt: skip
    assert parts[f'list {LIST}']['text'].startswith('epoch 0 read up to 2026-03-20 ')
    assert mail_server.addresses() == []  # nothing was sent
    # For people, one line a part; and a warning is no error.
    assert bot('pause', '--reason', 'a try', '--config', clinic.config).code == 0
    done = clinic.whole()
    assert (done.code, done.out.splitlines()[-1]) == (0, '0 errors, 1 warning')
    assert 'warning  stop file' in done.out


def test_all_is_wrong_and_nothing_hides_another(clinic: Clinic) -> None:
    """The exit code, and that each is looked at."""
    clinic.change('[[tree]]\nname = "demo"\npath = "', '[[tree]]\nname = "demo"\npath = "/no')
    done = clinic.whole('--json')
    assert done.code == 1
    parts = {one['name']: one['level'] for one in map(json.loads, done.out.splitlines())}
    assert (parts['tree demo'], parts[f'archive {LIST}']) == ('error', 'error')
    assert parts['mail server'] == 'error'
    assert (parts['database'], parts['clock'], parts['b4']) == ('off', 'off', 'ok')


def test_what_is_not_configured_is_no_error(clinic: Clinic) -> None:
    clinic.config.write_text('[lore]\nlists = []\n')
    found = clinic('trees', 'archive', 'database', 'mail server', 'policy', 'stop file')
    assert {name: level for name, (level, _, _) in found.items()} == {
        'trees': 'off', 'archive': 'off', 'database': 'off', 'mail server': 'off',
        'policy': 'off', 'stop file': 'ok',
    }  # fmt: skip


def test_a_check_that_crashes_is_an_error_of_that_check(clinic: Clinic) -> None:
    def crashing(_: object) -> Iterator[Part]:
        yield Part('first', 'ok', 'seen')
        raise RuntimeError('boom')

    found = doctor._alone('odd', crashing, load(clinic.config))
    assert found == [Part('first', 'ok', 'seen'), Part('odd', 'error', 'RuntimeError: boom')]


# --- trees -------------------------------------------------------------------


def test_trees(clinic: Clinic, tmp_path: Path) -> None:
    assert clinic('trees')['tree demo'][0] == 'ok'
    clinic.change('name = "demo"\n', 'name = "demo"\nrefs = ["mm-unstable"]\n')
    level, text, mend = clinic('trees')['tree demo']
    assert (level, 'none of its refs is there: mm-unstable' in text) == ('error', True)
    assert mend.startswith('git -C ')
    clinic.change('name = "demo"\n', 'name = "demo"\nrefs = ["HEAD", "v9.*"]\n')
    level, text, _ = clinic('trees')['tree demo']
    assert (level, text.endswith('not there: v9.*')) == ('warning', True)
    other = Repo(tmp_path / 'other')
    other.commit(other.write({'README': b'x\n'}), 'x')
    clinic.config.write_text(f'[[tree]]\nname = "demo"\npath = "{other.path}"\n')
    level, text, _ = clinic('trees')['tree demo']
    assert (level, 'is no kernel' in text) == ('error', True)
    (tmp_path / 'empty').mkdir()
    clinic.config.write_text(f'[[tree]]\nname = "demo"\npath = "{tmp_path}/empty"\n')
    assert clinic('trees')['tree demo'][0] == 'error'


# --- builds ------------------------------------------------------------------


def test_it_says_which_limits_the_kernel_keeps(clinic: Clinic) -> None:
    level, text, _ = clinic('bubblewrap')['limits']
    assert level == 'ok'
    said = re.fullmatch(
        r'the kernel keeps (?:(.+) \(by (control group v[12](?: and rlimit)?|rlimit)\); )?'
        r'of each process (.+) \(by rlimit\); the bot counts (.+), ten times a second',
        text,
    )
    assert said is not None, text
    assert said[3] == (
        'open files, queued messages, pending signals, locked memory, size of a file, core files'
    )
    kept = said[1].split(', ') if said[1] else []
    assert sorted([*kept, *said[4].split(', ')]) == [
        'cpu time', 'disk', 'memory', 'output', 'processes', 'time',
    ]  # fmt: skip
    group = made(Limits())
    assert ('memory' in kept) == (group is not None)
    if group is not None:
        group.close()


def test_no_bubblewrap(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise SandboxError('bubblewrap is not installed')

    monkeypatch.setattr('bot.sandbox.probe', missing)
    assert clinic('bubblewrap') == {
        'bubblewrap': (
            'error', 'bubblewrap is not installed',
            'apt install bubblewrap; docs/harness.md says what it needs of the machine',
        ),
    }  # fmt: skip


@pytest.mark.parametrize(
    ('name', 'value', 'part', 'said'),
    [
        ('SANITIZED', b'#error no\n', 'compiler', 'does not compile'),
        ('SANITIZED', b'int main(void) { return 3; }\n', 'sanitizers', 'does not run in a cage'),
        ('SANITIZED', b'int main(void) { return 0; }\n', 'sanitizers', 'does not notice'),
        ('URCU', b'#include <nosuch.h>\n', 'liburcu', 'is not there'),
    ],
)
def test_builds_that_fail(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, name: str, value: bytes, part: str, said: str
) -> None:
    monkeypatch.setattr(doctor, name, value)
    level, text, mend = clinic('bubblewrap')[part]
    assert level == 'error'
    assert said in text
    assert mend.startswith('apt install')


def test_no_ccache_and_no_git(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', '/nowhere')
    assert clinic('ccache')['ccache'][0] == 'warning'
    assert clinic('git')['git'][0] == 'error'


def test_b4_within_too_little(clinic: Clinic) -> None:
    clinic.config.write_text('[b4]\nmemory = "16M"\n')
    level, text, _ = clinic('b4')['b4']
    assert (level, text.startswith('b4 ')) == ('error', True)


# --- archive and clock ---------------------------------------------------------


@contextlib.contextmanager
def answering(date: str | None, status: int = 200) -> Iterator[str]:
    """A web server that gives a manifest, and the time that it is told."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's name
            self.send_response_only(status)
            if date is not None:
                self.send_header('Date', date)
            self.end_headers()
            self.wfile.write(b'{"/linux-mm/git/3.git": {"fingerprint": "x"}}')

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}'
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ('off', 'level', 'said'),
    [
        (0, 'ok', 'as the archive has it'),
        (-30, 'ok', 'as the archive has it'),
        (-3600, 'warning', r'36\d\d s ahead of the archive'),
        (86400, 'warning', r'863\d\d s behind the archive|86400 s behind'),
    ],
)
def test_the_clock(clinic: Clinic, off: int, level: str, said: str) -> None:
    with answering(formatdate(time.time() + off, usegmt=True)) as url:
        clinic.change('http://127.0.0.1:9', url)
        found = clinic('archive')
    assert found[f'archive {LIST}'][:2] == ('ok', f'{url}/{LIST}: epochs 3 to 3')
    assert found['clock'][0] == level
    assert re.match(said, found['clock'][1])


def test_archives_that_do_not_answer(clinic: Clinic) -> None:
    level, text, mend = clinic('archive')[f'archive {LIST}']
    assert (level, text) == ('error', 'http://127.0.0.1:9/linux-mm: Connection refused')
    assert mend.startswith('[lore] url')
    for date in (None, 'yesterday'):
        with answering(date, 200) as url:
            clinic.change('http://127.0.0.1:9', url)
            assert clinic('archive')['clock'][0] == 'off'
    with answering(None, 404) as url:
        clinic.change('http://127.0.0.1:9', url)
        assert 'status 404' in clinic('archive')[f'archive {LIST}'][1]


# --- database, disk ------------------------------------------------------------


def test_databases(clinic: Clinic, tmp_path: Path) -> None:
    path = tmp_path / 'state.db'
    assert clinic('database')['database'][0] == 'off'
    assert not path.exists()  # and it was not made
    engine = create_engine(f'sqlite:///{path}')
    upgrade(engine, '0001')
    assert clinic('database')['database'][0] == 'warning'
    upgrade(engine, 'head')
    engine.dispose()
    found = clinic('database')
    assert found['database'][0] == 'ok'
    assert found[f'list {LIST}'] == ('warning', 'was never read', 'start bot watch')
    for one in tmp_path.glob('state.db*'):
        one.unlink()
    path.write_bytes(b'nonsense ' * 1000)
    assert clinic('database')['database'][0] == 'error'
    clinic.change(f'sqlite:///{path}', 'postgresql://bot:secret@127.0.0.1:9/x')
    level, text, _ = clinic('database')['database']
    assert (level, 'secret' in text, '127.0.0.1' in text) == ('error', False, True)


def test_postgresql(clinic: Clinic, tmp_path: Path, postgres: Postgres) -> None:
    from bot.store.database import opened

    url = postgres.create('doctor')
    clinic.change(f'sqlite:///{tmp_path}/state.db', url)
    assert clinic('database')['database'][0] == 'warning'
    opened(url).dispose()
    assert clinic('database')['database'][0] == 'ok'


def test_a_list_that_is_no_longer_read(clinic: Clinic, bot: Bot, archive: PublicInbox) -> None:
    clinic.text = clinic.text.replace('http://127.0.0.1:9', archive.url)
    clinic.config.write_text(clinic.text)
    assert bot('watch', '--once', '--config', clinic.config).code == 0
    assert clinic('database')[f'list {LIST}'][0] == 'ok'
    clinic.change('[lore]\n', '[lore]\npoll = "0s"\n')
    time_of = time.time
    later = pytest.MonkeyPatch()
    later.setattr('bot.doctor.time.time', lambda: time_of() + 600)
    try:
        level, text, _ = clinic('database')[f'list {LIST}']
    finally:
        later.undo()
    assert (level, text.endswith('10 min ago')) == ('warning', True)


def test_disks(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {level for level, _, _ in clinic('disk').values()} == {'ok'}
    monkeypatch.setattr(doctor, 'ROOM', dict.fromkeys(doctor.ROOM, 1 << 60))
    assert {level for level, _, _ in clinic('disk').values()} == {'warning'}
    monkeypatch.setattr(doctor, 'LEAST', 1 << 60)
    assert {level for level, _, _ in clinic('disk').values()} == {'error'}
    clinic.change('/cache"', '/cache"\n[metrics]\nfile = "/proc/nothing/x.prom"')
    if os.geteuid() == 0:
        monkeypatch.setattr(os, 'access', lambda path, _: not str(path).startswith('/proc'))
    assert clinic('disk')['metrics'][0] == 'error'


# --- mail ----------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / 'password'
    path.write_text('right\n')
    path.chmod(0o600)
    return path


@pytest.fixture
def serve() -> Iterator[Callable[..., Scripted]]:
    with contextlib.ExitStack() as stack:

        def start(**words: Any) -> Scripted:
            server = Scripted(**words)
            stack.callback(server.stop)
            return server

        yield start


def smtp(server: Scripted, secret: Path) -> str:
    return (
        f'[smtp]\nhost = "127.0.0.1"\nport = {server.port}\nencryption = "none"\n'
        f'user = "bot"\npassword_file = "{secret}"\n'
    )


def test_the_mail_server(clinic: Clinic, secret: Path, serve: Callable[..., Scripted]) -> None:
    server = serve(users={'bot': 'right'})
    clinic.config.write_text(clinic.text + smtp(server, secret))
    found = clinic('mail server')
    assert {name: level for name, (level, _, _) in found.items()} == {
        'password': 'ok', 'mail server': 'ok',
    }  # fmt: skip
    assert server.received == []
    secret.write_text('wrong\n')
    found = clinic('mail server')
    assert (found['password'][0], found['mail server'][0]) == ('ok', 'error')
    assert 'wrong' not in str(found)
    # A password that others may read is not used, and the server is looked at all the same.
    secret.chmod(0o644)
    found = clinic('mail server')
    assert found['password'][:2] == (
        'error', f'{secret}: others may read the password: chmod 600 {secret}',
    )  # fmt: skip
    assert found['mail server'][0] == 'ok'
    assert stat.S_IMODE(secret.stat().st_mode) == 0o644
    server.script['connect'] = '554 go away'
    assert clinic('mail server')['mail server'][0] == 'error'


def test_no_mail_server_but_lists(clinic: Clinic) -> None:
    level, text, mend = clinic('mail server')['mail server']
    assert (level, 'sendemail.smtpserver' in text) == ('error', True)
    assert mend.startswith('[smtp] host')


def test_the_stop_file(clinic: Clinic, tmp_path: Path) -> None:
    assert clinic('stop file')['stop file'][0] == 'ok'
    (tmp_path / 'STOP').write_text('gone fishing\n')
    level, text, mend = clinic('stop file')['stop file']
    assert (level, mend) == ('warning', 'bot resume')
    assert text.endswith(': gone fishing')


def test_permissions_of_the_configuration(clinic: Clinic) -> None:
    clinic.config.chmod(0o644)
    assert clinic('configuration')['configuration'][0] == 'ok'
    clinic.config.chmod(0o666)
    assert clinic('configuration')['configuration'][0] == 'warning'


def test_rules_that_are_not_there(clinic: Clinic) -> None:
    assert clinic('rules')['rules'][0] == 'ok'
    clinic.config.write_text('[rules]\ndisable = ["nonsense"]\n')
    assert clinic('rules')['rules'][0] == 'error'


GOOD = Policy('send', 'bot@bot.example', (KVACK,), embargo=3600.0)


@pytest.mark.parametrize(
    ('policy', 'reply_to', 'said'),
    [
        (GOOD, 'human@x.example', []),
        (replace(GOOD, mode='hold', embargo=0), '', []),
        (replace(GOOD, embargo=0), 'human@x.example', ['without an embargo']),
        (replace(GOOD, embargo=0, by_list=(ListPolicy('linux-*', embargo=60.0),)), 'h@x', []),
        (replace(GOOD, embargo=0, by_list=(ListPolicy('*', mode='hold'),)), '', []),
        (GOOD, '', ['reach no human']),
        (replace(GOOD, max_age=3600.0), 'h@x', ['nothing ever goes']),
        (GOOD, 'linux-kernel@vger.kernel.org', ['looks like a list that has not consented']),
        (GOOD, KVACK, []),
        (replace(GOOD, lists=()), 'h@x', ['no list has consented']),
        (replace(GOOD, address=''), 'h@x', ['has no address']),
        (replace(GOOD, lists=(KVACK, 'mo@x.example')), 'h@x', ['does not look like a list']),
        (replace(GOOD, address=KVACK), 'h@x', ['from is a list']),
        (
            replace(GOOD, by_list=(ListPolicy('other@vger.kernel.org', mode='send'),)),
            'h@x',
            ['fits no list that has consented'],
        ),
    ],
)
def test_policies(policy: Policy, reply_to: str, said: list[str]) -> None:
    found = list(cautions(policy, reply_to, ''))
    assert len(found) == len(said), found
    for (text, mend), words in zip(found, said, strict=True):
        assert words in text
        assert mend


def test_how_it_looks(golden: Callable[[str, str], None]) -> None:
    parts = [
        Part('git', 'ok', 'is there'),
        Part('clock', 'off', 'not compared'),
        Part('tree linux', 'warning', 'some words ' * 12, 'git -C /srv/linux.git fetch'),
        Part('mail server', 'error', 'no\nanswer \x1b[31m', '[smtp] host'),
    ]
    golden('doctor.txt', render(parts, 80, colour=False))
    assert render(parts, 80, colour=True).count('\x1b[') >= 4
