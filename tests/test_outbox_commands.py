"""`bot outbox`, as its user sees it: compared whole with tests/golden/outbox-*.txt."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bot.assembly import letter
from bot.model import Scope
from bot.outgoing import Accepted, Decision, Hold, Outgoing, Post, Reply, TryLater, Unsure
from bot.output.outbox import listing, whole
from bot.respond import Response
from bot.store import Store
from bot.store.database import opened
from tests.conftest import Bot, Result
from tests.lettering import series
from tests.test_reply import broken_build, one_finding, three_patches, written

pytestmark = pytest.mark.slow

SCOPE = Scope(paths=('mm/vma*',), symbols=(), subjects=())
NOW = 1_774_007_200
LOST = 'mx.example:587 lost the connection: Connection reset by peer, after the mail was whole'
BUSY = 'mx.example:587 takes none of the recipients: ann@example.org: 450 4.2.1 come again'


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(opened(f'sqlite:///{tmp_path / "state.db"}'), lambda: NOW)


@pytest.fixture
def mails(store: Store) -> list[Outgoing]:
    """One mail of most kinds."""
    filled(store)
    return store.outbox.rows()


def filled(store: Store) -> None:
    def add(name: str, replies: tuple[Reply, ...], decision: Decision) -> None:
        read = [letter(one.raw, SCOPE) for one in series(name, 1, author=f'{name}@example.org')]
        store.take_in('linux-mm', [one for one in read if one], None)
        (number,) = store.due()
        assert store.take(number, most_kills=25) is not None
        own = tuple(replace(one, msgid=f'{name}-{one.msgid}') for one in replies)
        assert store.finish(number, 1.0, 'findings', '{}', (), Response(decision, own))

    add('ann', written(three_patches()), Hold('to be approved ([mail] mode)'))
    add('ben', written(one_finding()), Post('it may go'))
    add('cai', written(one_finding()), Post('it may go'))
    add('dov', written(broken_build()), Post('it may go'))
    outbox = store.outbox
    assert outbox.reject(2, 'the copy is meant to differ')
    for number, became in (
        (4, Accepted({'mo@example.net': '550 5.1.1 who is that?'})),
        (5, Unsure(LOST)),
        (6, TryLater(BUSY)),
    ):
        assert outbox.claim(number)
        outbox.settle(number, became)
    outbox.give_up(5, f'it may have gone: {LOST}; the archive does not have it')


@pytest.mark.parametrize('width', [1000, 140, 80, 44])
def test_a_list(width: int, mails: list[Outgoing], golden: Callable[[str, str], None]) -> None:
    shown = listing(mails, width)
    assert all(len(line) <= width for line in shown.split('\n'))
    golden(f'outbox-list-{width}.txt', shown)


def test_one_whole(mails: list[Outgoing], golden: Callable[[str, str], None]) -> None:
    golden('outbox-show.txt', whole(next(one for one in mails if one.id == 4)))


LONG = 'has more than 998 bytes: encode its body'
NUL = 'has a carriage return or a NUL: encode its body'
EDITORS = {
    'better': 'sed -i "s/^I am a bot/I am a kind bot/" "$1"',
    'nothing': 'true',
    'empty': ': >"$1"',
    'long': 'printf "x%.0s" $(seq 999) >"$1"',
    'nul': 'printf "a\\n\\0b\\n" >"$1"',
    'broken': 'exit 1',
}


@pytest.mark.parametrize(
    ('editor', 'number', 'said'),
    [
        ('better', 1, 'mail 1: changed'),
        ('nothing', 1, 'mail 1: as it was'),
        ('empty', 1, 'mail 1: as it was'),
        ('long', 1, f'bot: mail 1: as it was: line 1 of it {LONG}'),
        ('nul', 1, f'bot: mail 1: as it was: line 2 of it {NUL}'),
        ('broken', 1, 'bot: mail 1: as it was: EDITOR: Editing failed'),
        ('better', 4, 'bot: mail 4 is sent: only a held one can be edited'),
        ('better', 99, 'bot: there is no mail 99: see bot outbox list'),
    ],
)
def test_edit(bot: Bot, store: Store, tmp_path: Path, editor: str, number: int, said: str) -> None:
    filled(store)
    before = store.outbox.get(1)
    program = tmp_path / 'editor'
    program.write_text(f'#!/bin/sh\n{EDITORS[editor]}\n')
    program.chmod(0o755)
    config = tmp_path / 'config.toml'
    config.write_text(f'[state]\nurl = "sqlite:///{tmp_path / "state.db"}"\n')
    done: Result = bot(
        'outbox', 'edit', number, '--config', config, env={'EDITOR': str(program), 'VISUAL': ''}
    )
    assert (done.out + done.err).replace(str(program), 'EDITOR') == f'{said}\n'
    assert done.code == (2 if said.startswith('bot: ') else 0)
    after = store.outbox.get(1)
    assert before is not None
    assert after is not None
    assert (after.raw != before.raw) == (said == 'mail 1: changed')
