"""The archive, the disk and the clock fail while lists are watched: all of it is seen, once."""

import contextlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.daemon import Watcher, Worker
from bot.errors import BotError, LoreError, StoreError
from bot.mirror import Mirror
from bot.model import AppliedSeries, Author, Base, Review, Series
from bot.respond import Response
from bot.store import Store, Taken
from bot.store.database import opened
from tests.lettering import QUIET, Post, answer, series, telling
from tests.services import publicinbox
from tests.services.faults import Fault, Proxy, failing
from tests.services.publicinbox import LIST, PublicInbox, serving
from tests.services.test_watch import DAY, NOW, SCOPE, Watching, raw

CLEAN = Review(
    Series(None, 's', Author('A', 'a@x'), 1, ()),
    AppliedSeries(Series(None, 's', Author('A', 'a@x'), 1, ()), Base('t', 'r', 'c', 'w'), ()),
)


def counting(store: Store, judged: list[int]) -> Worker:
    """A worker that finds nothing, and says what it was asked."""

    def judge(taken: Taken) -> tuple[Review, Response]:
        judged.append(taken.series)
        return CLEAN, QUIET

    return Worker(store, judge, DAY, telling())


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[PublicInbox]:
    if publicinbox.MISSING:
        pytest.skip(f'not installed: {", ".join(publicinbox.MISSING)}')
    with serving(tmp_path / 'archive', raw(series('a', 2))) as served:
        yield served


@pytest.fixture
def proxy(archive: PublicInbox) -> Iterator[Proxy]:
    with failing(archive.url, lambda _: 'none') as made:
        yield made


@pytest.fixture
def watching(proxy: Proxy, archive: PublicInbox, tmp_path: Path) -> Iterator[Watching]:
    archive.url = proxy.url
    made = Watching(archive, tmp_path)
    yield made
    made.store.close()


def test_a_poll_that_fails_is_done_again(watching: Watching, proxy: Proxy) -> None:
    assert watching.once() == 3
    titles = watching.titles()
    faults: tuple[Fault, ...] = ('500', 'cut', 'drop', 'garbage')
    for fault in faults:
        name = f'n{fault}'
        watching.archive.add(raw(series(name, 3)))
        before = watching.store.cursors(LIST)
        for where in ('manifest', 'info/refs', 'upload-pack'):
            proxy.choose = lambda path, where=where, fault=fault: (  # type: ignore[misc]  # mypy knows no lambda's defaults
                fault if where in path else 'none'
            )
            with pytest.raises(LoreError, match=proxy.url):
                watching.once()
            assert proxy.asked[-1][1] == fault
            assert watching.store.cursors(LIST) == before
            assert watching.titles() == titles
        proxy.choose = lambda _: 'none'
        assert watching.once() == 4
        titles.append(f'mm: {name} 3/3 pending')
        assert watching.titles() == titles
    assert watching.once() == 0


def test_a_first_start_that_fails_is_done_again(watching: Watching, proxy: Proxy) -> None:
    proxy.choose = lambda path: 'cut' if 'upload-pack' in path else 'none'
    with pytest.raises(LoreError):
        watching.once()
    assert watching.titles() == []
    watching.start()
    proxy.choose = lambda _: 'none'
    assert watching.once() == 3


def test_what_is_not_modified_is_not_sent_again(watching: Watching, proxy: Proxy) -> None:
    """Public-inbox never says so; what may stand before it does."""
    proxy.choose = lambda _: '304'
    assert watching.once() == 3
    asked = len(proxy.asked)
    assert watching.once() == 0
    assert proxy.asked[asked:] == [(f'/{LIST}/manifest.js.gz', '304')]
    watching.archive.add(raw(series('b', 1)))
    proxy.choose = lambda path: '500' if 'upload-pack' in path else 'none'
    with pytest.raises(LoreError):
        watching.once()
    proxy.choose = lambda path: '304' if 'manifest' in path else 'none'
    assert watching.once() == 1


def test_every_second_request_fails(watching: Watching, proxy: Proxy) -> None:
    faults: tuple[Fault, ...] = ('none', '500', 'none', 'cut', 'none', 'drop', 'none', 'garbage')
    choose = random.Random(4)
    proxy.choose = lambda _: choose.choice(faults)
    names = [f'n{number}' for number in range(8)]
    left = list(names)
    failed = 0
    for _ in range(200):
        if left:
            name = left.pop()
            posts = series(name, 2)
            watching.archive.add(raw([*posts, answer(posts[1], f'r{name}'), posts[0]]))
        try:
            watching.once()
        except LoreError:
            failed += 1
        if len(watching.titles()) == len(names) + 1:
            break
    assert failed > 3
    expected = ['mm: a 2/2 pending', *(f'mm: {name} 2/2 pending' for name in names)]
    assert sorted(watching.titles()) == sorted(expected)


def test_offline_for_longer_than_a_first_start_goes_back(watching: Watching) -> None:
    """The archive began a new epoch meanwhile; the bot was not there for a month."""
    watching.once()
    days = {f'w{day}': f'{day:02} Apr 2026 09:46:40 +0000' for day in (1, 11, 21)}
    posts = [
        one.raw.replace(b'Fri, 20 Mar 2026 09:46:40 +0000', date.encode())
        for name, date in days.items()
        for one in series(name, 1)
    ]
    watching.archive.add(posts[:1])
    watching.archive.add(posts[1:], epoch=1)
    watching.now = NOW + 40 * DAY
    watching.start()
    assert watching.once() == 3
    assert watching.once() == 0


def test_an_epoch_that_is_no_longer_there_is_said_once(watching: Watching) -> None:
    watching.archive.add(raw(series('b', 1)), epoch=1)
    watching.once()
    cursor = watching.store.cursors(LIST)[1]
    for _ in range(2):
        watching.store.take_in(LIST, (), cursor.__class__(7, 'c', 'm', 5, 'f'))
        watching.once()
    assert [one for one in watching.said if 'no longer' in one] == [
        f'{LIST}/7: the archive no longer offers this epoch'
    ]


# --- the disk is full ---


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, which only root can have."""
    folder.mkdir()
    done = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f'no small file system: {done.stderr.decode().strip()}')
    try:
        yield folder
    finally:
        subprocess.run(['umount', '-l', str(folder)], check=True)


def fill(path: Path) -> None:
    """Take all the room that is left."""
    with contextlib.suppress(OSError), path.open('wb', buffering=0) as file:
        while True:
            file.write(b'\0' * 4096)


def test_a_full_disk_loses_nothing(archive: PublicInbox, tmp_path: Path) -> None:
    with small_disk(tmp_path / 'small', '8M') as disk:
        watching = Watching(archive, disk)
        watching.once()
        reviews: list[int] = []
        worker = counting(watching.store, reviews)
        cursors = watching.store.cursors(LIST)
        big = [
            Post(one.msgid, one.raw + b'# padding\n' * 20_000)
            for name in ('b', 'c', 'd', 'e')
            for one in series(name, 1)
        ]
        archive.add(raw(big))
        fill(disk / 'filler')
        with pytest.raises(BotError, match=r'(?i)no space|full|write'):
            watching.once()
        assert watching.store.cursors(LIST) == cursors
        assert len(watching.titles()) == 1
        with pytest.raises(StoreError, match='full'):
            worker.one(1)
        (disk / 'filler').unlink()
        watching.store.put_back(1)
        watching.start()
        assert watching.once() == 4
        for one in watching.store.due():
            worker.one(one)
        assert sorted(reviews) == [1, 2, 3, 4, 5]
        assert {row.state for row in watching.store.rows()} == {'reviewed'}
        watching.store.close()


# --- the clock jumps back ---


def test_a_clock_that_jumps_back_by_a_year(archive: PublicInbox, tmp_path: Path) -> None:
    now = [NOW]
    store = Store(opened(f'sqlite:///{tmp_path / "state.db"}'), lambda: now[0])
    mirror = Mirror(archive.url, LIST, tmp_path / 'mirror', 10)
    watcher = Watcher(store, [mirror], SCOPE, 14 * DAY, 3600, 365 * DAY, lambda: now[0], telling())
    judged: list[int] = []
    worker = counting(store, judged)
    assert watcher.once() == 3
    for number, jump in enumerate((-365 * DAY, 10.0, 800 * DAY, -800 * DAY)):
        now[0] += jump
        archive.add(raw(series(f'n{number}', 2)))
        assert watcher.once() == 3
        for one in store.due():
            worker.one(one)
    assert sorted(judged) == [1, 2, 3, 4, 5]
    assert {row.state for row in store.rows()} <= {'reviewed'}
    store.close()
