"""
The service: watching lists, and judging what came in.

Loops and waits are here, and nothing else is: what a step does is the
mirror's, the store's and the review's. The clock and the wait are handed in,
so that a test never sleeps. Between polls it always waits.
"""

import contextlib
import fcntl
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from bot.assembly import Letter, letter
from bot.errors import BotError, LoreError, StoreError
from bot.mirror import Arrival, Mirror, Place
from bot.model import Mail, Review, Scope
from bot.orders import Standing
from bot.output import json as json_output
from bot.plain import one_line
from bot.respond import Response
from bot.series import parse_mail
from bot.store import Cursor, Store, Taken

BATCH = 500
"""Mails in one transaction."""
MOST_TRIES = 3
MOST_KILLS = 25
"""Times that a worker may die over a series. Few are a series' own doing; reboots are not."""
FIRST_WAIT = 60.0
"""Seconds until what failed is tried again; twice as long each time."""
LONGEST_WAIT = 3600.0

Say = Callable[[str], None]
Wait = Callable[[float], bool]
"""Wait so many seconds, or less when asked to stop: then True."""
Judge = Callable[[Taken], tuple[Review, Response]]


@dataclass(frozen=True)
class Watcher:
    """
    Reads lists into the store.

    In seconds: `since` is how far back a first start goes, `settle` how long an
    incomplete series is waited for, `keep` how long what is done is remembered.
    """

    store: Store
    mirrors: Sequence[Mirror]
    scope: Scope
    since: float
    settle: float
    keep: float
    clock: Callable[[], float]
    say: Say
    weigh: Callable[[Mail], Standing] = lambda _: 'not-checked'
    """What the signature of a mail with orders for us is worth."""

    def once(self) -> int:
        """Poll every list once; how many mails that matter were new. Raises `LoreError`."""
        count = 0
        failed: LoreError | None = None
        for mirror in self.mirrors:
            try:
                count += self._list(mirror)
            except LoreError as error:
                self.say(f'{mirror.name}: {error}')
                failed = error
        self.store.settle(self.settle)
        self.store.prune(self.keep)
        if failed is not None:
            raise failed
        return count

    def _list(self, mirror: Mirror) -> int:
        epochs = mirror.epochs()
        cursors = self.store.cursors(mirror.name)
        since = int(self.clock() - self.since)
        if not cursors:
            self._begin(mirror, epochs, since)
            cursors = self.store.cursors(mirror.name)
        count = 0
        for epoch, fingerprint in epochs.items():
            cursor = cursors.get(epoch)
            if cursor is None or cursor.fingerprint != fingerprint:
                count += self._epoch(mirror, epoch, fingerprint, cursor, since)
        for epoch in sorted(set(cursors) - set(epochs)):
            self.say(f'{mirror.name}/{epoch}: the archive no longer offers this epoch')
        return count

    def _begin(self, mirror: Mirror, epochs: dict[int, str], since: int) -> None:
        """Find the epochs that a first start has to look at: the others count as walked."""
        wanted = True
        for epoch in sorted(epochs, reverse=True):
            if not wanted:
                gone = Cursor(epoch, '', '', 0, epochs[epoch])
                self.store.take_in(mirror.name, (), gone)
                continue
            mirror.fetch(epoch, since=since)
            oldest = mirror.oldest(epoch)
            wanted = oldest is None or oldest >= since

    def _epoch(
        self, mirror: Mirror, epoch: int, fingerprint: str, cursor: Cursor | None, since: int
    ) -> int:
        mirror.fetch(epoch, since=since)
        place = (
            Place(cursor.commit, cursor.msgid, cursor.date) if cursor and cursor.commit else None
        )
        count = 0
        last = cursor
        for batch in _batches(mirror.walk(epoch, place, since=since)):
            self._warn(mirror)
            end = batch[-1]
            last = Cursor(epoch, end.commit, end.msgid, end.date)
            # Read before the transaction begins: name servers may be asked for signatures.
            read = (letter(one.raw, self.scope) for one in batch if one.raw is not None)
            letters = [self._weighed(one) for one in read if one is not None]
            count += self.store.take_in(mirror.name, letters, last)
        self._warn(mirror)
        # Walked to its end: as long as the fingerprint stays, there is nothing to fetch.
        end_of_it = last or Cursor(epoch, '', '', 0)
        done = Cursor(epoch, end_of_it.commit, end_of_it.msgid, end_of_it.date, fingerprint)
        self.store.take_in(mirror.name, (), done)
        return count

    def _weighed(self, one: Letter) -> Letter:
        return replace(one, standing=self.weigh(parse_mail(one.raw))) if one.orders else one

    def _warn(self, mirror: Mirror) -> None:
        while mirror.warnings:
            self.say(mirror.warnings.pop(0))

    def loop(self, poll: float, wait: Wait) -> None:
        """Poll for ever, until `wait` says to stop."""
        failures = 0
        while True:
            try:
                new = self.once()
                failures = 0
                if new:
                    self.say(f'{new} mails that matter')
            except BotError as error:
                failures += 1
                self.say(f'{one_line(str(error), 300)}: trying again')
            longer = min(poll * 2 ** min(failures, 10), max(LONGEST_WAIT, poll))
            if wait(longer * random.uniform(0.9, 1.1)):
                return


def _batches(arrivals: Iterator[Arrival]) -> Iterator[list[Arrival]]:
    while batch := list(islice(arrivals, BATCH)):
        yield batch


@dataclass(frozen=True)
class Worker:
    """Judges series. `judge` is the same whoever hands out the work."""

    store: Store
    judge: Judge
    say: Say

    def one(self, series: int) -> bool:
        """Judge a series and keep the review; False where it was no longer wanted."""
        taken = self.store.take(series)
        if taken is None:
            return False
        self.say(f'series {series}: judging "{one_line(taken.title, 80)}" v{taken.revision}')
        started = time.monotonic()
        try:
            review, response = self.judge(taken)
        except BotError as error:
            self._failed(taken, str(error))
            return True
        except (KeyboardInterrupt, SystemExit):
            self.store.put_back(series)
            raise
        except Exception as error:  # noqa: BLE001  # one series must not stop the others
            self._failed(taken, f'{type(error).__name__}: {error}')
            return True
        if review.failures:
            first = review.failures[0]
            self._failed(taken, f'{first.what}: {first.error}')
            return True
        seconds = round(time.monotonic() - started, 3)
        report = json_output.render(review)
        self.store.finish(series, seconds, review.verdict, report, review.findings, response)
        self.say(f'series {series}: {review.verdict}, {len(review.findings)} findings')
        return True

    def _failed(self, taken: Taken, reason: str) -> None:
        self.say(f'series {taken.series}: try {taken.tries} failed: {one_line(reason, 300)}')
        self.store.give_back(taken.series, one_line(reason, 1000), most=MOST_TRIES, wait=FIRST_WAIT)

    def recover(self) -> None:
        """Take up again what a killed worker left; only where there is no other worker."""
        for series in self.store.begun():
            self.store.put_back(series, killed=True, most=MOST_KILLS)

    def all(self) -> int:
        """Judge all that is due, one after the other; how many that were."""
        count = 0
        while due := self.store.due():
            for series in due:
                count += self.one(series)
        return count

    def loop(self, poll: float, wait: Wait) -> None:
        """Judge for ever, until `wait` says to stop."""
        while True:
            self.all()
            if wait(poll):
                return


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock of the one worker that a SQLite database has. Raises `StoreError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise StoreError(f'{path}: another bot work is running on this database') from error
    try:
        os.ftruncate(file, 0)
        os.write(file, json.dumps({'pid': os.getpid()}).encode())
        yield
    finally:
        os.close(file)
