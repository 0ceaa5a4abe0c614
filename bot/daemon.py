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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import FIRST_COMPLETED, Future
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from bot import files
from bot.assembly import REASONS, Letter, Reason, sorted_out
from bot.errors import BotError, LetterError, LoreError, StoreError
from bot.events import Tell
from bot.lookup import Kept
from bot.mirror import OVERLAP, Arrival, Mirror, Place
from bot.model import AppliedSeries, CouldNotRun, DoesNotApply, Incomplete, Mail, Review, Scope
from bot.output import json as json_output
from bot.output.wording import in_short
from bot.plain import one_line
from bot.pool import DiedError, Pool
from bot.respond import Response
from bot.series import parse_mail
from bot.signatures import Worth
from bot.store import Cursor, Fault, Store, Taken, TakenIn, reason_of

BATCH = 500
"""Mails in one transaction."""
ORDERS_SECONDS = 30.0
"""Of one poll, for the signatures of orders."""
SERIES_SECONDS = 60.0
"""Of one poll, for the signatures of series."""
MOST_TRIES = 3
MOST_KILLS = 25
"""Times that a worker may die over a series. Few are a series' own doing; reboots are not."""
FIRST_WAIT = 60.0
"""Seconds until what failed is tried again; twice as long each time."""
LONGEST_WAIT = 3600.0
TREES_MOVE = 3600.0
"""Seconds until a series that does not apply is tried again."""

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
    tell: Tell
    weigh: Callable[[Mail], Worth] | None = None
    """What a mail's own domain says of it; None where signatures are not checked."""
    look_up: Callable[[Taken], Kept | None] = lambda _: {}
    """What the archive says of a series' prerequisites; None where it does not answer."""
    heard: Callable[[float], None] = lambda _: None
    """Is told what time it is by the archive's clock."""
    _gone: set[tuple[str, int]] = field(default_factory=set)  # what was said, to say it once

    def once(self) -> int:
        """
        Poll every list once; how many mails that matter were new.

        Raises `LoreError` and `B4Error`, after all that can be done was. A mail that can't be
        read, or a series whose prerequisites can't be looked up, is no error.
        """
        count = 0
        failed: BotError | None = None
        for mirror in self.mirrors:
            try:
                count += self._list(mirror)
            except LoreError as error:
                self.tell('poll-failed', list=mirror.name, reason=str(error))
                failed = error
        self.attest()
        self.store.settle(self.settle)
        for series in self.store.needing():
            failed = self._look_up(series) or failed
        # A clock that is ahead would have everything forgotten: the archive's has to agree.
        dated = min((one.dated for one in self.mirrors if one.dated is not None), default=None)
        if dated is not None:
            self.store.prune(self.keep, dated)
        if failed is not None:
            raise failed
        return count

    def _look_up(self, series: int) -> BotError | None:
        """Keep what a series needs below it; what our side fails with is left for the next poll."""
        try:
            taken = self.store.shown(series)
            kept = self.look_up(taken) if taken is not None else {}
            if kept is not None:
                self.store.looked_up(series, kept)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  # one series must not stop the others
            self.tell('lookup-failed', series=series, reason=reason_of(error))
            if isinstance(error, BotError) and not isinstance(error, LetterError):
                return error
            self.store.looked_up(series, {})  # it would fail again: it is judged without
        return None

    def _list(self, mirror: Mirror) -> int:
        started = time.monotonic()
        epochs = mirror.epochs()
        now = self.clock()
        if mirror.dated is not None:
            self.heard(mirror.dated)
            now = min(self.clock(), mirror.dated)
            self.store.started_by(mirror.dated)
        cursors = self.store.cursors(mirror.name)
        since = int(now - self.since)
        if not cursors:
            self._begin(mirror, epochs, since)
            cursors = self.store.cursors(mirror.name)
        elif walked := [one.date for one in cursors.values() if one.date]:
            # An epoch that is new since the last poll, however long ago that was.
            since = min(since, max(walked) - OVERLAP)
        mails = count = unread = 0
        dropped: Counter[Reason] = Counter()
        for epoch, fingerprint in epochs.items():
            cursor = cursors.get(epoch)
            if cursor is None or cursor.fingerprint != fingerprint:
                seen, taken = self._epoch(mirror, epoch, fingerprint, cursor, since, dropped)
                mails, count, unread = mails + seen, count + taken.new, unread + taken.unread
        for epoch in sorted(set(cursors) - set(epochs)):
            if (mirror.name, epoch) not in self._gone:
                self._gone.add((mirror.name, epoch))
                self.tell('epoch-gone', list=mirror.name, epoch=epoch)
        self.store.figures.polled(mirror.name)
        seconds = round(time.monotonic() - started, 3)
        self.tell(
            'polled', list=mirror.name, mails=mails, new=count, unread=unread, seconds=seconds,
            dropped={one: dropped[one] for one in REASONS if dropped[one]},
        )  # fmt: skip
        if unread:
            self.tell('passed-over', list=mirror.name, unread=unread)
        if count:
            self.tell('news', list=mirror.name, new=count)
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
        self,
        mirror: Mirror,
        epoch: int,
        fingerprint: str,
        cursor: Cursor | None,
        since: int,
        dropped: Counter[Reason],
    ) -> tuple[int, TakenIn]:
        """
        Walk an epoch to its end; how many mails were seen, and what came of them.

        Those that are nothing to the bot are counted in `dropped`.
        """
        mirror.fetch(epoch, since=since)
        place = (
            Place(cursor.commit, cursor.msgid, cursor.date) if cursor and cursor.commit else None
        )
        mails = count = unread = 0
        last = cursor
        for batch in _batches(mirror.walk(epoch, place, since=since)):
            self._warn(mirror)
            mails += len(batch)
            end = batch[-1]
            last = Cursor(epoch, end.commit, end.msgid, end.date)
            # Read before the transaction, which is to be short.
            read = [self._read(one) for one in batch]
            letters = [one for one in read if isinstance(one, Letter)]
            faults = [one for one in read if isinstance(one, Fault)]
            left = Counter(one for one in read if isinstance(one, str))
            taken = self.store.take_in(mirror.name, letters, last, faults, left)
            dropped.update(left)
            count, unread = count + taken.new, unread + taken.unread
        self._warn(mirror)
        # Walked to its end: as long as the fingerprint stays, there is nothing to fetch.
        end_of_it = last or Cursor(epoch, '', '', 0)
        done = Cursor(epoch, end_of_it.commit, end_of_it.msgid, end_of_it.date, fingerprint)
        self.store.take_in(mirror.name, (), done)
        return mails, TakenIn(count, unread)

    def _read(self, one: Arrival) -> Letter | Fault | Reason | None:
        """Read a mail; why it is nothing to the bot, None where it was removed. Raises nothing."""
        try:
            if one.reason is not None:
                return Fault(one.commit, '', one.reason)
            if one.raw is None:
                return None
            found = sorted_out(one.raw, self.scope, attest=self.weigh is not None)
            return replace(found, commit=one.commit) if isinstance(found, Letter) else found
        except Exception as error:  # noqa: BLE001  # one mail must not stop the others
            return Fault(one.commit, one.msgid, reason_of(error))

    def attest(self) -> None:
        """
        Check the signatures of orders and of series, each for so long a poll.

        What is left, or has no answer, is checked at later polls; nothing
        counts meanwhile.
        """
        end = time.monotonic() + ORDERS_SECONDS
        for one in self.store.unweighed():
            if time.monotonic() > end:
                break
            self.store.weigh(one.mail, self._worth(one.raw))
        end = time.monotonic() + SERIES_SECONDS
        while time.monotonic() < end and (waiting := self.store.unattested()):
            found: dict[int, Worth] = {}
            for one in waiting:
                if time.monotonic() > end:
                    break
                found[one.mail] = self._worth(one.raw)
            self.store.attest(found)

    def _worth(self, raw: bytes) -> Worth:
        """Return what a mail's signature is worth. Raises nothing."""
        if self.weigh is None:
            return Worth('not-checked')
        try:
            return self.weigh(parse_mail(raw))
        except Exception as error:  # noqa: BLE001  # one mail must not stop the others
            return Worth('unsigned', f'its signature can not be read: {reason_of(error)}')

    def _warn(self, mirror: Mirror) -> None:
        while mirror.warnings:
            self.tell('archive', list=mirror.name, reason=mirror.warnings.pop(0))

    def loop(self, poll: float, wait: Wait) -> None:
        """Poll for ever, until `wait` says to stop."""
        failures = 0
        while True:
            try:
                self.once()
                failures = 0
            except BotError as error:
                failures += 1
                self.tell('trying-again', reason=str(error))
            longer = min(poll * 2 ** min(failures, 10), max(LONGEST_WAIT, poll))
            if wait(longer * random.uniform(0.9, 1.1)):
                return


def _batches(arrivals: Iterator[Arrival]) -> Iterator[list[Arrival]]:
    while batch := list(islice(arrivals, BATCH)):
        yield batch


@dataclass(frozen=True)
class Worker:
    """
    Judges series. `judge` is the same whoever hands out the work.

    `patience`: so many seconds after its last mail, a series that does not
    apply is tried again, since trees move.
    """

    store: Store
    judge: Judge
    patience: float
    tell: Tell

    def one(self, series: int) -> bool:
        """Judge a series and keep the review; False where it was no longer wanted."""
        try:
            taken = self.store.take(series, most_kills=MOST_KILLS)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  # one series must not stop the others
            reason = reason_of(error)
            self.tell('try-failed', series=series, tries=1, reason=reason)
            self.store.park(series, reason)
            return True
        if taken is None:
            return False
        self.tell(
            'judging', series=series, msgid=taken.msgid, title=one_line(taken.title, 80),
            revision=taken.revision,
        )  # fmt: skip
        started = time.monotonic()
        try:
            review, response = self.judge(taken)
            self._keep(taken, review, response, round(time.monotonic() - started, 3))
        except StoreError:
            self._put_back(series)
            raise
        except (KeyboardInterrupt, SystemExit):
            self.store.put_back(series)
            raise
        except Exception as error:  # noqa: BLE001  # one series must not stop the others
            self._failed(taken, reason_of(error))
        return True

    def _put_back(self, series: int) -> None:
        """The database failed meanwhile, which is nobody's fault; it may do so again."""
        with contextlib.suppress(StoreError):
            self.store.put_back(series)

    def _keep(self, taken: Taken, review: Review, response: Response, seconds: float) -> None:
        """Decide whether a review is the last word on a series."""
        series = taken.series
        fault = our_fault(review)
        if fault is not None and fault.final and taken.tries >= MOST_TRIES:
            # The series may have done it itself, so it must not keep back what else was found.
            self.tell('could-not-run', series=series, tries=taken.tries, reason=fault.reason)
            fault = None
        if fault is not None:
            self._failed(taken, fault.reason)
        elif isinstance(review.series, Incomplete) and review.series.missing:
            self.tell('incomplete', series=series, reason=review.series.reason)
            self.store.lacking(series, taken.parts, one_line(review.series.reason, 1000))
        elif isinstance(review.series, Incomplete):
            # b4 came to no result: its limits may have been ours.
            self._failed(taken, review.series.reason, last='incomplete')
        elif isinstance(review.applied, DoesNotApply) and 0 <= taken.age < self.patience:
            why = f'does not apply yet: patch {review.applied.n}: {review.applied.reason}'
            self.tell('does-not-apply', series=series, patch=review.applied.n, reason=why)
            self.store.postpone(series, one_line(why, 1000), min(TREES_MOVE, self.patience))
        else:
            report = json_output.render(review)
            if not self.store.finish(
                series, seconds, review.verdict, report, review.findings, response,
                in_short(review),
            ):  # fmt: skip
                self.tell('judged-twice', series=series)
                return
            self.tell(
                'judged', series=series, msgid=taken.msgid, verdict=review.verdict,
                findings=len(review.findings), seconds=seconds, **tallied(review),
            )  # fmt: skip

    def _failed(self, taken: Taken, reason: str, last: str = 'parked') -> None:
        self.tell('try-failed', series=taken.series, tries=taken.tries, reason=reason)
        self.store.give_back(
            taken.series, one_line(reason, 1000), most=MOST_TRIES, wait=FIRST_WAIT, last=last
        )


def tallied(review: Review) -> dict[str, object]:
    """Count what a review is made of: findings by rule and severity, builds by outcome."""
    rules = Counter((one.rule, one.severity.label) for one in review.findings)
    said = [(one['harness'], one['outcome'], one['reused']) for one in json_output.builds(review)]
    return {
        'rules': [
            {'rule': rule, 'severity': severity, 'count': count}
            for (rule, severity), count in sorted(rules.items())
        ],
        'builds': [
            {'harness': harness, 'outcome': outcome, 'reused': reused, 'count': count}
            for (harness, outcome, reused), count in sorted(Counter(said).items())
        ],
    }


@dataclass(frozen=True)
class Shortfall:
    """
    Why a review says less than it should. `final`: after the last try it is kept all the same.

    That is where code of the series ran, which may have brought it about. What
    never began is parked: no series can do that.
    """

    reason: str
    final: bool = False


def our_fault(review: Review) -> Shortfall | None:
    """
    Return why a review says less than it should, through no doing of the series.

    A build that hit a limit is not of these: it would again.
    """
    for failure in review.failures:
        # A rule that a series makes crash must not keep back what the others found.
        judged = isinstance(review.applied, AppliedSeries)
        return Shortfall(f'{failure.what}: {failure.error}', judged)
    found = [
        Shortfall(f'{build.harness} at patch {build.n}: {outcome.reason}', outcome.began)
        for build in review.builds
        if isinstance(outcome := build.outcome, CouldNotRun)
        and outcome.limit in (None, 'interrupted')
    ]
    return min(found, key=lambda one: one.final, default=None)


@dataclass(frozen=True)
class Crew:
    """
    Has all that is due judged by a pool of processes.

    `alive` is called whenever one has come to an end, and after so many seconds of
    waiting for that: it looks whether they get on.
    """

    store: Store
    pool: Pool
    tell: Tell
    alive: Callable[[], None] = lambda: None
    every: float = 60.0

    def one(self, series: int) -> bool:
        """Have a series judged; False where it was not wanted. Raises `StoreError`."""
        return self._ended(series, self.pool.submit(series))

    def _ended(self, series: int, future: Future[bool]) -> bool:
        try:
            return future.result()
        except DiedError:
            self.tell('process-died', series=series)
            self.store.put_back(series, killed=True, most=MOST_KILLS)
            return True

    def recover(self, *, killed: bool) -> None:
        """Take up again what was begun and not ended, while nothing is in hand."""
        for series in self.store.begun():
            self.store.put_back(series, killed=killed, most=MOST_KILLS)

    def all(self) -> int:
        """Judge all that is due; how many that were. Raises `StoreError`."""
        count = 0
        going: dict[Future[bool], int] = {}
        try:
            while True:
                due = [one for one in self.store.due() if one not in going.values()]
                for series in due[: self.pool.size - len(going)]:
                    going[self.pool.submit(series)] = series
                if not going:
                    return count
                self.alive()
                ended = futures.wait(going, self.every, return_when=FIRST_COMPLETED)
                for done in ended.done:
                    count += self._ended(going.pop(done), done)
        except StoreError:
            futures.wait(going)
            raise

    def loop(self, poll: float, wait: Wait) -> None:
        """Judge for ever, until `wait` says to stop."""
        killed = True
        failures = 0
        while True:
            try:
                self.recover(killed=killed)
                killed = False
                self.all()
                failures = 0
            except BotError as error:
                failures += 1
                self.tell('trying-again', reason=str(error))
            if wait(min(poll * 2 ** min(failures, 10), LONGEST_WAIT)):
                return


@contextlib.contextmanager
def alone(path: Path) -> Iterator[int]:
    """
    Hold the lock of the one `bot work` that a SQLite database has; the open file.

    Raises `StoreError`.
    """
    files.folder(path.parent)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise StoreError(f'{path}: another bot work is running on this database') from error
    try:
        os.ftruncate(file, 0)
        os.write(file, json.dumps({'pid': os.getpid()}).encode())
        yield file
    finally:
        os.close(file)
