"""From a series in an archive to a reply that came back by it, and stays the only one."""

import contextlib
import fcntl
import gzip
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import pytest
import requests

from tests.conftest import Bot, Demo, Result
from tests.lettering import post
from tests.services import publicinbox
from tests.services.opensmtpd import OpenSmtpd
from tests.services.publicinbox import LIST, PublicInbox
from tests.services.test_watch import raw_mails

KVACK = 'linux-mm@kvack.org'
HEADS = b'To: linux-mm@kvack.org\nCc: Mo Maintainer <mo@example.net>\n'
FIRST = '20260320.1@demo.example.org'


@dataclass
class Town:
    """An archive, a mail server, and the bot that knows both."""

    archive: PublicInbox
    server: OpenSmtpd
    bot: Bot
    config: Path

    def __call__(self, *words: object) -> Result:
        done = self.bot(*words, '--config', self.config)
        assert done.code == 0, done.err
        return done

    def round(self) -> None:
        """Watch, work, send; and what was sent reaches the archive."""
        for command in ('watch', 'work', 'send'):
            self(command, '--once')
        self.server.archive(self.archive, KVACK)

    def states(self) -> list[str]:
        listed = self('outbox', 'list', '--all').out.splitlines()[1:]
        return [line.split()[1] for line in listed if re.match(r'\d', line)]


def posted(sample: Demo) -> list[bytes]:
    """The sample's series, as it was mailed to the list just now."""
    date = f'Date: {formatdate(time.time())}'.encode()
    mails = [re.sub(rb'(?m)^Date: .*$', date, one, count=1) for one in raw_mails(sample)]
    return [one.replace(b'\nSubject:', b'\n' + HEADS + b'Subject:', 1) for one in mails]


@pytest.fixture
def town(mail_server: OpenSmtpd, bot: Bot, sample: Demo, tmp_path: Path) -> Iterator[Town]:
    if publicinbox.MISSING:
        pytest.skip(f'not installed: {", ".join(publicinbox.MISSING)}')
    old = post('old@x', 'hello', 'x\n').raw
    with publicinbox.serving(tmp_path / 'archive', [old]) as archive:
        config = tmp_path / 'config.toml'
        config.write_text(
            f'[lore]\nurl = "{archive.url}"\nsince = "3650d"\n'
            f'[[tree]]\nname = "demo"\npath = "{sample.tree}"\n'
            f'[state]\nurl = "sqlite:///{tmp_path}/state.db"\n[attestation]\ncheck = false\n'
            f'[mail]\nfrom = "vma-bot@bot.example"\nlists = ["{KVACK}"]\nmode = "send"\n'
            'reply_to = "humans@bot.example"\n'
            f'[smtp]\nhost = "127.0.0.1"\nport = {mail_server.port}\nencryption = "none"\n'
        )
        town = Town(archive, mail_server, bot, config)
        town('watch', '--once')  # the bot's first start: it mails about nothing older
        archive.add(posted(sample))
        yield town


def test_a_reply_goes_out_once_and_comes_back(town: Town, sample: Demo, tmp_path: Path) -> None:
    town.round()
    assert town.states() == ['sent']
    (reply,) = town.server.delivered('mo@example.net')
    assert town.server.addresses() == ['dev@example.org', KVACK, 'mo@example.net']
    assert town.server.delivered(KVACK) == [reply]
    assert b'5 of the 6 patches' in reply
    # Our own mail is on the list now, and so are answers to it: nothing follows.
    own = re.search(rb'^Message-ID: <(.*)>$', reply, re.M)
    assert own is not None
    us = own[1].decode()
    subject = 'Re: [PATCH 1/6] mm: let a VMA descriptor be assigned to'
    town.archive.add(
        post(f'{n}@x', subject, text, FIRST, us, author=author).raw
        for n, (text, author) in enumerate(
            [
                ('Thanks, will fix.\n', 'dev@example.org'),
                ('And I am a bot too.\n', 'other-bot@example.org'),
                ('vma-bot: do it again\n', 'dev@example.org'),
            ]
        )
    )
    for _ in range(2):
        town.round()
    assert town.states() == ['sent']
    assert town.server.delivered(KVACK) == [reply]
    rows = [json.loads(line) for line in town('status', '--json').out.splitlines()]
    assert [row['state'] for row in rows] == ['reviewed']

    # The thread is whole for those who work with it.
    thread = fetched(town, FIRST)
    b4_makes_the_same_of_it(thread, sample.tree, tmp_path)
    mutt_shows_the_reply_below(thread, tmp_path)


def fetched(town: Town, msgid: str) -> bytes:
    answer = requests.get(f'{town.archive.url}/{LIST}/{msgid}/t.mbox.gz', timeout=20)
    return gzip.decompress(answer.content)


def b4_makes_the_same_of_it(thread: bytes, tree: Path, folder: Path) -> None:
    """Neither `b4 am` nor `git am` are in doubt about which mails are the patches."""
    environment = {**os.environ, 'XDG_DATA_HOME': str(folder), 'XDG_CACHE_HOME': str(folder)}
    b4 = str(Path(sys.executable).parent / 'b4')
    done = subprocess.run(
        [b4, '--offline-mode', 'am', '--no-cover', '-o', '-', '-m', '-'],
        input=thread, capture_output=True, check=True, env=environment, cwd=folder,
    )  # fmt: skip
    assert len(re.findall(rb'^Subject: \[PATCH \d/6\]', done.stdout, re.M)) == 6
    assert b'I am a bot' not in done.stdout
    repo = folder / 'repo'
    subprocess.run(['git', 'clone', '-q', str(tree), str(repo)], check=True)
    subprocess.run(
        ['git', '-C', str(repo), '-c', 'user.name=A', '-c', 'user.email=a@x', 'am', '-q'],
        input=done.stdout, check=True,
    )  # fmt: skip
    log = subprocess.run(
        ['git', '-C', str(repo), 'rev-list', '--count', '@{u}..'], capture_output=True, check=True
    )
    assert log.stdout.strip() == b'6'


def mutt_shows_the_reply_below(thread: bytes, folder: Path) -> None:
    """A reader threads our mail below the first patch, and takes its quotes for quotes."""
    mbox = folder / 'thread.mbox'
    mbox.write_bytes(thread)
    screen = mutt(mbox, '', folder)
    lines = [line for line in screen.split('\n') if 'PATCH' in line]
    first = next(n for n, line in enumerate(lines) if '[PATCH 1/6]' in line)
    reply = next(line for line in lines if 'VMA review bot' in line)
    assert lines.index(reply) > first
    assert re.search(r'[`|]->', reply), screen
    shown = mutt(mbox, '<limit>~f vma-bot<enter><display-message>', folder)
    assert 'This drops const from mm and file' in shown
    assert '> -     const struct mm_struct *const mm;' in shown
    assert '\nThis drops' in shown


def mutt(mbox: Path, keys: str, folder: Path) -> str:
    """What mutt paints on a terminal of 40 lines, after some keys."""
    settings = folder / 'muttrc'
    settings.write_text(
        'set sort=threads ascii_chars=yes quit=yes pager_index_lines=0 sleep_time=0 wrap=200\n'
        f'set index_format="%n %s" folder={folder} header_cache="" mail_check=3600\n'
        f'push "{keys}"\n'
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM='vt100', LINES='40', COLUMNS='200', HOME=str(folder))
        os.execvp('mutt', ['mutt', '-n', '-R', '-F', str(settings), '-f', str(mbox)])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 60, 200, 0, 0))
    shown = b''
    # It paints when no key is left to read; then nothing more comes.
    while select.select([terminal], [], [], 2.0)[0]:
        shown += os.read(terminal, 1 << 16)
    os.write(terminal, b'qq')
    with contextlib.suppress(OSError):
        while os.read(terminal, 1 << 16):
            pass
    os.close(terminal)
    os.waitpid(pid, 0)
    text = re.sub(r'\x1b\[\d*(?:;\d*)?[HBKd]|\x1b[ED]|\r', '\n', shown.decode('utf-8', 'replace'))
    return re.sub(r'\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[78=>]|[\x0e\x0f]', '', text)


def test_it_is_held_approved_and_sent(town: Town) -> None:
    text = town.config.read_text().replace('mode = "send"', 'mode = "hold"')
    town.config.write_text(text)
    town.round()
    assert town.states() == ['held']
    assert town.server.addresses() == []
    shown = town('outbox', 'show', '1').out
    assert shown.startswith('mail 1: held')
    assert 'Subject: Re: [PATCH 1/6]' in shown
    town('outbox', 'approve', '1')
    town.round()
    assert town.states() == ['sent']
    assert len(town.server.delivered(KVACK)) == 1
    said = town.bot('outbox', 'reject', '1', '--reason', 'x', '--config', town.config)
    assert (said.code, said.err) == (2, 'bot: mail 1 is sent: it can not be turned down\n')
    said = town.bot('outbox', 'show', '7', '--config', town.config)
    assert (said.code, said.err) == (2, 'bot: there is no mail 7: see bot outbox list\n')


def test_edited_and_rejected(town: Town, tmp_path: Path) -> None:
    text = town.config.read_text().replace('mode = "send"', 'mode = "hold"')
    town.config.write_text(text)
    for command in ('watch', 'work'):
        town(command, '--once')
    editor = tmp_path / 'editor'
    editor.write_text('#!/bin/sh\nsed -i "s/^I am a bot/I am a kind bot/" "$1"\n')
    editor.chmod(0o755)
    said = town.bot('outbox', 'edit', '1', '--config', town.config, env={'EDITOR': str(editor)})
    assert said.out == 'mail 1: changed\n'
    assert 'I am a kind bot' in town('outbox', 'show', '1').out
    assert town('outbox', 'reject', '1', '--reason', 'not now').out == 'mail 1: rejected\n'
    town.round()
    assert town.server.addresses() == []
    assert 'not now' in town('outbox', 'list', '--all').out
    assert town('outbox', 'list').out == 'no mails\n'


def test_an_order_from_the_list(town: Town) -> None:
    text = town.config.read_text().replace('mode = "send"', 'mode = "hold"')
    town.config.write_text(text)
    town.round()
    stop = 'vma-bot: stop\n'
    subject = 'Re: [PATCH 1/6] mm: let a VMA descriptor be assigned to'
    town.archive.add([post('stop@x', subject, stop, FIRST).raw])
    town('watch', '--once')
    # Signatures are not checked here: the operator knows whom it is from.
    assert town('orders', 'honour', '1').out == 'order 1: honoured\n'
    town('outbox', 'approve', '1')
    town.round()
    assert town.states() == ['dropped']
    assert town.server.addresses() == []


def test_run_does_all_of_it(town: Town) -> None:
    town('run', '--once')
    town.server.archive(town.archive, KVACK)
    town('run', '--once')
    assert town.states() == ['sent']
    assert len(town.server.delivered(KVACK)) == 1
