"""What a series says that it needs, fetched from a real archive."""

import json
from pathlib import Path

import pytest

from bot.b4 import B4
from bot.bases import prerequisites
from bot.lore import Archive
from bot.model import Lore, Prerequisite, Series
from bot.series import parse_mail
from bot.tree import patch_id
from tests.conftest import Bot
from tests.gitrepo import Repo
from tests.services import publicinbox
from tests.services.publicinbox import PublicInbox, serving
from tests.services.threads import diff, mail

BELOW = patch_id(diff('below').encode())


def needing(text: str) -> Series:
    raw = mail(
        'need@example.org', '[PATCH] mm: need', patch=diff('below', 'two', 'three') + f'\n{text}\n'
    )
    found = B4().series([parse_mail(raw)])
    assert isinstance(found, Series)
    return found


@pytest.mark.parametrize(
    ('text', 'subject'),
    [
        ('prerequisite-message-id: <pre-1@example.org>', 'mm: pre 1'),
        ('prerequisite-message-id: pre-1@example.org', 'mm: pre 1'),
        ('Depends-on: https://lore.kernel.org/linux-mm/pre-1@example.org/', 'mm: pre 1'),
        ('prerequisite-change-id: 20260602-prc-1:v2', 'mm: prc 1'),
        (f'prerequisite-patch-id: {BELOW}', None),
    ],
)  # fmt: skip
def test_what_is_needed_is_fetched(archive: PublicInbox, text: str, subject: str | None) -> None:
    series = needing(text)
    assert len(series.prerequisites) == 1
    needed = prerequisites(series, Archive(Lore((archive.url,))), B4(), lambda _: None)
    assert needed.lacking == ()
    assert len(needed.patches) == 1
    assert patch_id(needed.patches[0].diff) == BELOW
    assert subject in (None, needed.patches[0].subject)


@pytest.mark.parametrize(
    'text',
    ['prerequisite-message-id: nosuch@example.org', 'prerequisite-change-id: 20260602-nosuch:v1',
     f'prerequisite-patch-id: {"1" * 40}'],
)  # fmt: skip
def test_what_can_not_be_found_is_named(archive: PublicInbox, text: str) -> None:
    needed = prerequisites(needing(text), Archive(Lore((archive.url,))), B4(), lambda _: None)
    assert needed.patches == ()
    assert len(needed.lacking) == 1


def test_without_an_archive_it_is_said() -> None:
    series = needing('prerequisite-message-id: pre-1@example.org')
    assert series.prerequisites == (Prerequisite('message-id', 'pre-1@example.org'),)
    assert 'no archive' in prerequisites(series, None, B4(), lambda _: None).lacking[0]


def test_a_series_is_judged_on_top_of_what_it_needs(
    bot: Bot, archive: PublicInbox, tmp_path: Path
) -> None:
    repo = Repo(tmp_path / 'linux.git')
    repo.commit(repo.write({'mm/below.c': b'one\n', 'mm/other.c': b'x\n'}), 'root')
    mbox = tmp_path / 'series.mbox'
    mbox.write_bytes(
        mail('need@example.org', '[PATCH] mm: need', patch=diff('below', 'two', 'three')
             + '\nprerequisite-message-id: <pre-1@example.org>\n')
    )  # fmt: skip
    config = tmp_path / 'config.toml'
    config.write_text(f'[lore]\nurl = "{archive.url}"\n')
    words = ('check', '-q', '--config', config, '--tree', repo.path, mbox)
    result = bot(*words)
    assert result.code == 0, result.out
    assert 'with the prerequisite "mm: pre 1" on top' in result.out
    asked = bot(*words, '--rules', 'applies')
    assert asked.code == 1
    assert 'only on top of 1 other patch' in ' '.join(asked.out.split())


def test_does_not_apply_is_a_finding_where_it_is_asked_for(
    bot: Bot, archive: PublicInbox, tmp_path: Path
) -> None:
    repo = Repo(tmp_path / 'linux.git')
    repo.commit(repo.write({'mm/below.c': b'nine\n'}), 'root')
    config = tmp_path / 'config.toml'
    config.write_text(f'[lore]\nurl = "{archive.url}"\n')
    words = ('check', '-q', '--config', config, '--tree', repo.path, 'pre-1@example.org')
    assert 'applies' not in bot(*words).out
    asked = bot(*words, '--rules', 'applies')
    assert asked.code == 3
    assert '[applies]' in asked.out


def test_a_worker_needs_no_archive_for_what_the_watcher_looked_up(bot: Bot, tmp_path: Path) -> None:
    if publicinbox.MISSING:
        pytest.skip(f'not installed: {", ".join(publicinbox.MISSING)}')
    repo = Repo(tmp_path / 'linux.git')
    repo.commit(repo.write({'mm/below.c': b'one\n', 'mm/other.c': b'x\n'}), 'root')
    config = tmp_path / 'config.toml'
    below = mail('pre-1@example.org', '[PATCH] mm: pre 1', patch=diff('below'))
    need = mail(
        'need@example.org', '[PATCH] mm: need',
        patch=diff('below', 'two', 'three') + '\nprerequisite-message-id: <pre-1@example.org>\n',
    )  # fmt: skip
    with serving(tmp_path / 'archive', [below, need]) as archive:
        config.write_text(
            f'[lore]\nurl = "{archive.url}"\nsince = "36500d"\n[scope]\npaths = ["mm/*"]\n'
            f'[[tree]]\nname = "linux"\npath = "{repo.path}"\n[attestation]\ncheck = false\n'
            f'[state]\nurl = "sqlite:///{tmp_path}/state.db"\ncache = "{tmp_path}/cache"\n'
        )
        assert bot('watch', '--once', '--config', config).code == 0
    assert bot('work', '--once', '--config', config).code == 0
    rows = [
        json.loads(line) for line in bot('status', '--json', '--config', config).out.splitlines()
    ]
    assert {row['title']: (row['state'], row['why'].partition(':')[0]) for row in rows} == {
        'mm: pre 1': ('reviewed', 'clean'),
        'mm: need': ('reviewed', 'clean'),
    }
