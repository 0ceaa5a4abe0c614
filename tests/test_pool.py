"""A pool that is watched: who says nothing for too long is no longer alive."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager

from bot.daemon import Crew
from bot.events import Tell
from bot.pool import Pool
from tests.test_repository import wait_for

SERIES = 7


@contextmanager
def talking(tell: Tell) -> Iterator[Callable[[int], bool]]:
    """Judges without an end, and tells that it goes on."""

    def judge(series: int) -> bool:
        while True:
            tell('going', series=series, harness='vma', pid=os.getpid())
            time.sleep(0.05)

    yield judge


@contextmanager
def quick(tell: Tell) -> Iterator[Callable[[int], bool]]:
    def judge(series: int) -> bool:
        return True

    yield judge


def test_who_talks_is_not_silent_and_who_hangs_is() -> None:
    heard: list[int] = []

    def tell(event: str, /, **values: object) -> None:
        heard.append(int(str(values['pid'])))

    with Pool(1, talking, tell) as pool:
        assert pool.silent() == 0
        pool.submit(SERIES)
        wait_for(lambda: len(heard) > 10, 120)
        assert pool.silent() < 1
        # As one that hangs: it is there, and does nothing any more.
        os.kill(heard[-1], signal.SIGSTOP)
        wait_for(lambda: pool.silent() > 1.5)
        os.kill(heard[-1], signal.SIGCONT)
        wait_for(lambda: pool.silent() < 0.5)


def test_who_has_no_work_is_not_silent() -> None:
    def tell(event: str, /, **values: object) -> None:
        raise AssertionError

    with Pool(1, quick, tell) as pool:
        assert pool.submit(SERIES).result() is True
        assert pool.silent() == 0


class Waiting:
    """A store with one series, for a crew that waits."""

    def due(self) -> list[int]:
        return [SERIES]


class Slow:
    """A pool whose work ends when it was asked for signs of life often enough."""

    size = 1

    def __init__(self) -> None:
        self.future: futures.Future[bool] = futures.Future()

    def submit(self, series: int) -> futures.Future[bool]:
        return self.future


def test_a_crew_shows_signs_of_life_while_it_waits() -> None:
    pool, store, signs = Slow(), Waiting(), 0

    def alive() -> None:
        nonlocal signs
        signs += 1
        if signs == 5:
            store.due = list  # type: ignore[method-assign]
            pool.future.set_result(True)

    crew = Crew(store, pool, lambda event, /, **values: None, alive, every=0.01)  # type: ignore[arg-type]
    assert crew.all() == 1
    assert signs >= 5
