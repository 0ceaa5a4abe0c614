"""
Many workers on one PostgreSQL: a review is replaced by a wait of fixed length.

What is above that wait is what the queue and the store cost for a review: from
the start of one to the start of the worker's next. A minute counts from the
first start to the last end, the wait for the last worker with it.
"""

import subprocess
import sys
import time

from bot import queue
from bot.assembly import letter
from bot.daemon import Worker
from bot.model import AppliedSeries, Author, Base, Review, Scope, Series
from bot.respond import Response
from bot.store import Store, Taken
from bot.store.database import opened
from tests.lettering import QUIET, series, telling
from tests.services.postgres import Postgres, programs

COST = 0.25
"""Seconds of a review."""
SERIES = 240
WORKERS = (1, 2, 4)
NOTHING = Series(None, 's', Author('A', 'a@x'), 1, ())


def notes() -> list[str]:
    """What came of it, a line for each number of workers."""
    if programs() is None:
        return ['scale: no PostgreSQL: apt install postgresql']
    server = Postgres()
    try:
        return [_with(server, workers) for workers in WORKERS]
    finally:
        server.stop()


def _with(server: Postgres, workers: int) -> str:
    url = server.create(f'scale{workers}')
    store = Store(opened(url), time.time)
    scope = Scope(paths=('mm/vma*',), symbols=(), subjects=())
    found = [letter(one.raw, scope) for n in range(SERIES) for one in series(f's{n}', 1)]
    store.take_in('l', (one for one in found if one), None)
    running = [
        subprocess.Popen(
            [sys.executable, '-m', 'tests.bench.scale', url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for _ in range(workers)
    ]  # fmt: skip
    for one in running:
        assert one.stdout is not None
        one.stdout.readline()  # it is up
    for one in running:
        assert one.stdin is not None
        one.stdin.close()
    said = []
    for one in running:
        assert one.stdout is not None
        said.append([float(word) for word in one.stdout.readline().split()])
        one.stdout.close()
        one.wait()
    assert all(row.state == 'reviewed' for row in store.rows())
    store.close()
    seconds = max(end for _, _, end, _, _ in said) - min(begin for begin, _, _, _, _ in said)
    rounds = sum(count - 1 for *_, count in said)
    cost = sum(last - first for first, last, *_ in said) / rounds - COST
    busy = sum(own for *_, own, _ in said) / rounds
    return (
        f'{workers} at work on reviews of {COST:g} s: {SERIES / seconds * 60:.0f} a minute '
        f'(at most {60 / COST * workers:.0f}), {cost * 1000:.0f} ms above each review, '
        f"{busy * 1000:.0f} ms of them the worker's own"
    )


def main() -> None:
    """Work, when stdin is closed; print when reviews began and ended, processor time, and count."""
    url = sys.argv[1]
    store = Store(opened(url), time.time)
    begun: list[float] = []
    ended = 0.0
    busy: list[float] = []

    def judge(_: Taken) -> tuple[Review, Response]:
        time.sleep(COST)
        return Review(NOTHING, AppliedSeries(NOTHING, Base('t', 'r', 'c', 'w'), ())), QUIET

    worker = Worker(store, judge, 0.0, telling())

    def one(series: int) -> None:
        nonlocal ended
        begun.append(time.time())
        busy.append(time.process_time())
        worker.one(series)
        ended = time.time()

    print('up', flush=True)
    sys.stdin.read()
    queue.work(url, one, store.due, 1, lambda: None, wait=False)
    store.close()
    print(begun[0], begun[-1], ended, busy[-1] - busy[0], len(begun))


if __name__ == '__main__':
    main()
