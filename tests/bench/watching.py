"""
Watching: the filter's rate and memory, what a poll costs, and how soon a mail is pending.

On a real public-inbox that holds 1,000 and 50,000 generated mails.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from bot.assembly import letter
from bot.daemon import Watcher
from bot.mirror import Mirror
from bot.model import Scope
from bot.store import Store
from bot.store.database import opened
from tests.bench.tools import Row, made, timed
from tests.gitrepo import ENV
from tests.lettering import answer, post, series, telling
from tests.services import publicinbox
from tests.services.publicinbox import LIST, PublicInbox, serving

SMALL, MIDDLE, LARGE = 1_000, 10_000, 50_000
YEARS = 3650 * 86_400.0
POLLS = 20
QUOTED = '> a line of what was said before, as people quote it in full\n' * 40


def mails(count: int) -> Iterator[bytes]:
    """A list's mails: talk, answers to patches, patches of all kinds, and some that matter."""
    number = 0
    while number < count:
        name = f'm{number}'
        path = 'mm/vma.c' if number % 25 == 0 else f'fs/x{number % 97}.c'
        posts = series(name, 3, path=path, author=f'dev{number % 50}@example.org')
        posts += [answer(one, f'r{number}.{n}', QUOTED) for n, one in enumerate(posts)]
        posts.append(post(f't{number}@x', f'about {name}', QUOTED))
        posts.append(post(f'u{number}@x', f'Re: about {name}', QUOTED, f't{number}@x'))
        for one in posts[: count - number]:
            yield one.raw
        number += len(posts)


def resident(kind: str) -> int:
    """This process's resident memory in KB: `Anon` its own, `File` pages of mapped files."""
    said = re.search(rf'^Rss{kind}:\s+(\d+) kB', Path('/proc/self/status').read_text(), re.M)
    return int(said[1]) if said else 0


class _Watch:
    """A watcher of one archive, its database in `folder`."""

    def __init__(self, url: str, folder: Path) -> None:
        self.mirror = Mirror(url, LIST, folder / 'mirror', 60)
        self.store = Store(opened(f'sqlite:///{folder / "state.db"}'), time.time)
        self.watcher = Watcher(
            self.store, [self.mirror], Scope(), YEARS, 3600.0, YEARS, time.time, telling()
        )


def rows(folder: Path) -> tuple[list[Row], list[str]]:
    """Rows of the table, and figures that have no other side."""
    if publicinbox.MISSING:
        return [], [f'watch: not installed: {", ".join(publicinbox.MISSING)}']
    found = list(mails(LARGE))
    with (
        serving(made(folder / 'small'), found[:1]) as small,
        serving(made(folder / 'large'), found[:1]) as large,
    ):
        small.write(found[1:SMALL])
        large.write(found[1:])
        notes = [_first(large, made(folder / 'first'))]
        return _polls(small, large, folder, notes), notes


def _first(archive: PublicInbox, folder: Path) -> str:
    """A first start, in a process of its own."""
    said = subprocess.run(
        [sys.executable, '-m', 'tests.bench.watching', archive.url, str(folder)],
        check=True, capture_output=True, env={**os.environ, **ENV},
    ).stdout  # fmt: skip
    read = json.loads(said)
    sizes = ', '.join(
        f'{own / 1024:.0f} MB (and {pages / 1024:.0f} MB of mapped files) at {count}'
        for count, (own, pages) in read['sizes'].items()
    )
    return (
        f'filter: {LARGE / read["walk"]:.0f} mails a second; its memory {sizes}\n'
        f'fetched, {LARGE / read["fetch"]:.0f} a second; filtered and stored, '
        f'{LARGE / read["store"]:.0f} a second ({read["kept"]} series, then '
        f'{read["after"] / 1024:.0f} MB)'
    )


def _polls(small: PublicInbox, large: PublicInbox, folder: Path, notes: list[str]) -> list[Row]:
    few, many = _Watch(small.url, made(folder / 'few')), _Watch(large.url, folder / 'first')
    few.watcher.once()
    asked = _requests(many)
    pairs = [(timed(many.watcher.once), timed(few.watcher.once)) for _ in range(POLLS)]
    arrivals = []
    for number in range(POLLS):
        large.write([series(f'late{number}', 1)[0].raw])
        arrivals.append(timed(many.watcher.once))
        assert many.store.due(), 'it is not pending'
    mine, other = (statistics.median(one) for one in zip(*pairs, strict=True))
    ratio = statistics.median(theirs / ours for ours, theirs in pairs)
    notes.append(
        f'poll with nothing new: {mine * 1000:.0f} ms, {asked} request; from the archive to a '
        f'pending review: {statistics.median(arrivals) * 1000:.0f} ms behind the poll'
    )
    for one in (few, many):
        one.store.close()
    return [Row(f'poll, nothing new, of {LARGE} mails: of {SMALL}', mine, other, ratio)]


def _requests(watch: _Watch) -> int:
    """How many requests a poll makes."""
    count = 0
    get = requests.Session.send

    def counted(self: requests.Session, *given: Any, **words: Any) -> requests.Response:
        nonlocal count
        count += 1
        return get(self, *given, **words)

    requests.Session.send = counted  # type: ignore[method-assign]  # counted for one poll
    try:
        watch.watcher.once()
    finally:
        requests.Session.send = get  # type: ignore[method-assign]  # as it was
    return count


def main() -> None:
    """Filter all mails, then watch once; print what it took."""
    watch = _Watch(sys.argv[1], Path(sys.argv[2]))
    fetch = timed(lambda: watch.mirror.fetch(0, since=0))
    sizes = {}
    started = time.perf_counter()
    for number, arrival in enumerate(watch.mirror.walk(0, None, since=0), 1):
        letter(arrival.raw or b'', Scope())
        if number in (MIDDLE, LARGE):
            sizes[number] = resident('Anon'), resident('File')
    walk = time.perf_counter() - started
    store = timed(watch.watcher.once)
    kept = sum(1 for _ in watch.store.rows())
    found = {'fetch': fetch, 'walk': walk, 'store': store, 'kept': kept, 'sizes': sizes}
    print(json.dumps({**found, 'after': resident('Anon')}))


if __name__ == '__main__':
    main()
