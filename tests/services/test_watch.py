"""Watching a real public-inbox: epochs that grow, roll over, and are rewritten meanwhile."""

import gc
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from bot.daemon import Watcher
from bot.errors import LoreError
from bot.mirror import Mirror
from bot.model import Scope
from bot.store import Store
from bot.store.database import opened
from tests.conftest import Bot, Demo
from tests.lettering import Post, answer, series, telling
from tests.services import publicinbox
from tests.services.publicinbox import LIST, PublicInbox, serving

NOW = 1_774_100_000.0  # a day after the mails' own date
DAY = 86_400.0
SCOPE = Scope(paths=('mm/vma*',), symbols=(), subjects=())


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[PublicInbox]:
    if publicinbox.MISSING:
        pytest.skip(f'not installed: {", ".join(publicinbox.MISSING)}')
    with serving(tmp_path / 'archive', raw(series('a', 2))) as served:
        yield served


def raw(posts: list[Post]) -> list[bytes]:
    return [one.raw for one in posts]


class Watching:
    """A watcher over a database; started again as often as wanted."""

    def __init__(self, archive: PublicInbox, folder: Path, since: float = 14 * DAY) -> None:
        self.archive = archive
        self.folder = folder
        self.since = since
        self.said: list[str] = []
        self.now = NOW
        self.store = Store(opened(f'sqlite:///{folder / "state.db"}'), lambda: self.now)
        self.start()

    def start(self) -> None:
        mirror = Mirror(self.archive.url, LIST, self.folder / 'mirror', 10)
        self.watcher = Watcher(
            self.store,
            [mirror],
            SCOPE,
            self.since,
            3600,
            365 * DAY,
            lambda: self.now,
            telling(self.said),
        )

    def once(self) -> int:
        return self.watcher.once()

    def titles(self) -> list[str]:
        rows = sorted(self.store.rows(), key=lambda row: row.series)
        return [f'{row.title} {row.patches} {row.state}' for row in rows]


@pytest.fixture
def watching(archive: PublicInbox, tmp_path: Path) -> Iterator[Watching]:
    made = Watching(archive, tmp_path)
    yield made
    made.store.close()


def test_what_is_new_is_found_once(watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = watching.archive
    assert watching.once() == 3
    assert watching.titles() == ['mm: a 2/2 pending']
    # Nothing new: one request, and no fetch.
    asked: list[str] = []
    get = requests.Session.get

    def counted(self: requests.Session, url: str, **words: Any) -> requests.Response:
        asked.append(url)
        return get(self, url, **words)

    monkeypatch.setattr(requests.Session, 'get', counted)
    monkeypatch.setattr(Mirror, 'fetch', None)
    assert watching.once() == 0
    assert asked == [f'{archive.url}/{LIST}/manifest.js.gz']
    monkeypatch.undo()
    # A restart changes nothing, and what comes later is found.
    late = series('b', 3)
    archive.add(raw([*late[:2], late[3]]))
    watching.start()
    assert watching.once() == 3
    assert watching.titles()[1] == 'mm: b 2/3 assembling'
    archive.add(raw([late[2], answer(late[1], 'r')]))
    assert watching.once() == 2
    assert watching.titles()[1] == 'mm: b 3/3 pending'


def test_a_new_epoch_is_walked_after_the_old_ones_end(watching: Watching) -> None:
    archive = watching.archive
    watching.once()
    posts = series('b', 3)
    archive.add(raw(posts[:2]))
    archive.add(raw(posts[2:]), epoch=1)
    assert watching.once() == 4
    assert watching.titles()[1] == 'mm: b 3/3 pending'
    cursors = watching.store.cursors(LIST)
    assert [cursors[epoch].msgid for epoch in (0, 1)] == ['b.1.1@x', 'b.1.3@x']
    archive.add(raw(series('c', 1)), epoch=1)
    assert watching.once() == 1


def rewrite(archive: PublicInbox, posts: list[Post]) -> None:
    """Another history in the same epoch."""
    repository = archive.inbox / 'git' / '0.git'
    subprocess.run(
        ['git', '-C', str(repository), 'update-ref', '-d', 'refs/heads/master'], check=True
    )
    shutil.rmtree(archive.inbox / 'xap15', ignore_errors=True)
    archive.add(raw(posts))


def test_a_rewritten_epoch_is_found_again(watching: Watching) -> None:
    watching.once()
    posts = [*series('z', 1), *series('a', 2), *series('b', 2)]
    rewrite(watching.archive, posts)
    assert watching.once() == 3
    assert watching.titles() == ['mm: a 2/2 pending', 'mm: b 2/2 pending']
    assert any('was rewritten' in one for one in watching.said)


def test_where_the_last_mail_is_gone_the_date_is_left(watching: Watching) -> None:
    watching.once()
    rewrite(watching.archive, [*series('a', 2)[:2], *series('b', 2)])
    assert watching.once() == 3
    assert watching.titles() == ['mm: a 2/2 pending', 'mm: b 2/2 pending']
    assert any('is gone from the archive' in one for one in watching.said)
    assert watching.once() == 0


def test_a_first_start_goes_back_only_so_far(archive: PublicInbox, tmp_path: Path) -> None:
    old = [one.raw.replace(b'Fri, 20 Mar 2026', b'Tue, 20 Jan 2026') for one in series('old', 1)]
    archive.add(old)
    watching = Watching(archive, tmp_path)
    assert watching.once() == 3
    assert watching.titles() == ['mm: a 2/2 pending']
    watching.store.close()


def test_an_archive_that_is_down_is_said_and_waited_for(watching: Watching) -> None:
    archive = watching.archive
    watching.once()
    archive.stop()
    with pytest.raises(LoreError, match=f'{LIST}'):
        watching.once()
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        if len(waited) == 3:
            archive.add(raw(series('b', 1)))
            archive.start()
        return len(waited) == 4

    watching.watcher.loop(10, wait)
    assert waited[0] < waited[1] < waited[2]
    assert 9 <= waited[3] <= 11
    assert watching.titles()[1].endswith('pending')


def test_a_damaged_mirror_is_made_anew(watching: Watching, tmp_path: Path) -> None:
    watching.once()
    for path in (tmp_path / 'mirror' / LIST / '0.git').iterdir():
        if path.is_file():
            path.unlink()
    watching.archive.add(raw(series('b', 1)))
    watching.start()
    assert watching.once() == 1
    assert len(watching.titles()) == 2


def test_a_mirror_of_many_packs_is_tidied(
    watching: Watching, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('bot.mirror.MOST_PACKS', 3)
    for number in range(8):
        watching.archive.write(raw(series(f'n{number}', 1)))
        watching.once()
    packs = list((tmp_path / 'mirror' / LIST / '0.git' / 'objects' / 'pack').glob('*.pack'))
    assert 1 <= len(packs) <= 4
    assert len(watching.titles()) == 9
    assert all(one.endswith('mails that matter') for one in watching.said), watching.said


def test_a_walk_lets_go_of_what_it_has_read(
    watching: Watching, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('bot.mirror.AT_ONCE', 2)
    for number in range(6):
        watching.once()
        watching.archive.add(raw(series(f'n{number}', 1)))
    watching.once()
    packs = {str(path) for path in (tmp_path / 'mirror').rglob('*.pack')}
    gc.collect()
    held, subjects = [], []
    for one in Mirror(watching.archive.url, LIST, tmp_path / 'mirror', 10).walk(0, None, since=0):
        subjects.append((one.raw or b'').partition(b'Subject: ')[2].partition(b'\n')[0].decode())
        maps = Path('/proc/self/maps').read_text()
        held.append(sum(path in maps for path in packs))
    assert subjects[-6:] == [f'[PATCH] mm: n{number} part 1' for number in range(6)]
    assert len(packs) == 7
    assert max(held) < 4


def test_from_the_archive_to_a_review(
    archive: PublicInbox, bot: Bot, sample: Demo, tmp_path: Path
) -> None:
    archive.add(raw_mails(sample))
    config = tmp_path / 'config.toml'
    config.write_text(
        f'[lore]\nurl = "{archive.url}"\nsince = "3650d"\n'
        f'[[tree]]\nname = "demo"\npath = "{sample.tree}"\n'
        f'[state]\nurl = "sqlite:///{tmp_path}/state.db"\n[attestation]\ncheck = false\n'
    )
    assert bot('watch', '--once', '--config', config).code == 0
    rows = [
        json.loads(line)
        for line in bot('status', '--json', '--config', config).out.split('\n')[:-1]
    ]
    assert {row['state'] for row in rows} == {'pending'}
    worked = bot('work', '--once', '--config', config)
    assert worked.code == 0, worked.err
    rows = [
        json.loads(line)
        for line in bot('status', '--json', '--config', config).out.split('\n')[:-1]
    ]
    why = [re.sub(r'line \d+ of the mail', 'line N of the mail', row['why']) for row in rows]
    assert [(row['patches'], row['state'], said) for row, said in zip(rows, why, strict=True)] == [
        ('6/6', 'reviewed', 'findings'),
        (
            '2/2',
            'pending',
            (
                'does not apply yet: patch 1: hunk at line N of the mail does not apply to '
                'mm/vma.c at line 1'
            ),
        ),
    ]
    assert bot('work', '--once', '--config', config).err == ''


def raw_mails(sample: Demo) -> list[bytes]:
    """The sample's series as a list has it: each patch answers the first."""
    import re

    found = re.split(rb'(?m)^From 0{40} .*\n', sample.mbox.read_bytes())[1:]
    first = b'20260320.1@demo.example.org'
    return [
        one if n == 0 else one.replace(b'\nSubject:', b'\nIn-Reply-To: <%s>\nSubject:' % first, 1)
        for n, one in enumerate(found)
    ]
