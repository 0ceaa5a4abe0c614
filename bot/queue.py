"""
Procrastinate, where the database is PostgreSQL: which worker judges which series.

Its locks, retries, heartbeats and the jobs of dead workers are its own. A job
carries the number of a series and nothing else; the rows are the truth, and
what has no job gets one.
"""

import asyncio
import contextlib
import random
import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import procrastinate
import psycopg
from procrastinate import exceptions, jobs
from sqlalchemy.engine import make_url

from bot import notify
from bot.errors import StoreError

QUEUE = 'reviews'
TASK = 'judge'
EACH = 60.0
"""Seconds until what has no job is looked for again."""
STALLED = 30.0
"""Seconds without a heartbeat after which a worker is taken for dead."""

POOL_WAIT = 10.0
"""Seconds to wait for a connection."""
FIRST_WAIT = 1.0
"""Seconds until a lost database is tried again; twice as long each time."""
LONGEST_WAIT = 60.0
LOST = (exceptions.ConnectorException, psycopg.Error, OSError)
LOST_SIGHT = 'procrastinate: the connection to the database was lost'

Judge = Callable[[int], object]
Failed = Callable[[str], object]
"""Is told why the database can't be had."""
Waiting = Callable[[], Iterable[int]]
"""The series that wait, or that a worker began and did not end."""


def work(
    url: str,
    judge: Judge,
    waiting: Waiting,
    at_once: int,
    alive: Callable[[], None],
    *,
    wait: bool,
    failed: Failed = lambda _: None,
    given: Mapping[str, int] = {},
) -> None:
    """
    Give a job to each series that waits, and run jobs, `at_once` at most.

    `alive` is called again and again, while this goes round.

    Until there is none, or, to `wait`, until SIGTERM or ^C: what is in hand is
    finished then. Raises `StoreError` where the database goes away; to `wait`,
    it is told to `failed`, and tried again for ever.
    `given` is what each connection is opened with, beside the URL.
    """
    if wait:
        asyncio.run(_for_ever(partial(_work, url, judge, waiting, at_once, given), alive, failed))
        return
    try:
        asyncio.run(_work(url, judge, waiting, at_once, given, wait=False))
    except LOST as error:
        raise _named(error) from error


async def _for_ever(
    work: Callable[..., Coroutine[Any, Any, None]], alive: Callable[[], None], failed: Failed
) -> None:
    """Work, and begin again whenever the database was away; until SIGTERM or ^C."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    beating = asyncio.create_task(_beat(alive))
    failures = 0
    try:
        while not stop.is_set():
            began = loop.time()
            working = asyncio.create_task(work(wait=True))
            asked = asyncio.create_task(stop.wait())
            await asyncio.wait((working, asked), return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            working.cancel()  # it finishes what is in hand
            try:
                await working
                reason = LOST_SIGHT
            except asyncio.CancelledError:
                return
            except (*LOST, StoreError) as error:
                reason = str(_named(error))
            if stop.is_set():
                return
            failures = 1 if loop.time() - began > LONGEST_WAIT else failures + 1
            failed(reason)
            with contextlib.suppress(TimeoutError):
                longest = min(FIRST_WAIT * 2 ** min(failures - 1, 10), LONGEST_WAIT)
                await asyncio.wait_for(stop.wait(), longest * random.uniform(0.5, 1.0))
    finally:
        beating.cancel()


def _named(error: BaseException) -> StoreError:
    if isinstance(error, StoreError):
        return error
    said = str(error.__cause__ or error).strip().split('\n')[0]
    return StoreError(f'procrastinate: {said or type(error).__name__}')


async def _work(
    url: str,
    judge: Judge,
    waiting: Waiting,
    at_once: int,
    given: Mapping[str, int],
    *,
    wait: bool,
) -> None:
    parsed = make_url(url).set(drivername='postgresql')
    lost = asyncio.Event()
    app = procrastinate.App(
        connector=_Connector(
            lost,
            conninfo=parsed.render_as_string(hide_password=False),
            kwargs=dict(given),
            timeout=POOL_WAIT,
        )
    )
    _declare(app, judge)
    async with app.open_async():
        await _prepare(app)
        await _renew(app, waiting)
        lost.clear()
        working = asyncio.create_task(
            app.run_worker_async(
                queues=[QUEUE], concurrency=at_once, wait=wait, delete_jobs='always',
                fetch_job_polling_interval=1.0, stalled_worker_timeout=STALLED,
                install_signal_handlers=not wait,
            )
        )  # fmt: skip
        gone = asyncio.create_task(lost.wait())
        renewing = asyncio.create_task(_renewing(app, waiting)) if wait else None
        try:
            await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if renewing is not None:
                renewing.cancel()
            lost_it = lost.is_set()
            if lost_it or not working.done():
                working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
        if lost_it:
            raise StoreError(LOST_SIGHT)


class _Connector(procrastinate.PsycopgConnector):
    """
    Says when a query was lost with its connection.

    Nobody knows what became of it: a job may be this worker's without its
    knowledge, or never end. Such jobs are taken for a dead worker's, once this
    worker has begun again under another name.
    """

    def __init__(self, lost: asyncio.Event, **words: Any) -> None:
        super().__init__(**words)
        self._lost = lost

    async def execute_query_async(self, query: Any, **arguments: Any) -> None:
        """Do as the connector does."""
        with self._seen():
            await super().execute_query_async(query, **arguments)

    async def execute_query_one_async(self, query: Any, **arguments: Any) -> dict[str, Any]:
        """Do as the connector does."""
        with self._seen():
            one: dict[str, Any] = await super().execute_query_one_async(query, **arguments)
            return one

    async def execute_query_all_async(self, query: Any, **arguments: Any) -> list[dict[str, Any]]:
        """Do as the connector does."""
        with self._seen():
            every: list[dict[str, Any]] = await super().execute_query_all_async(query, **arguments)
            return every

    @contextlib.contextmanager
    def _seen(self) -> Iterator[None]:
        try:
            yield
        except exceptions.ConnectorException as error:
            if isinstance(error.__cause__, psycopg.OperationalError | psycopg.InterfaceError):
                self._lost.set()
            raise


async def _beat(alive: Callable[[], None]) -> None:
    """Say that this loop, which hands out jobs, goes round; `alive` knows of the jobs in hand."""
    notify.ready()
    while True:
        alive()
        await asyncio.sleep(notify.every())


async def _prepare(app: procrastinate.App) -> None:
    """Make its tables where they are not there."""
    if await app.check_connection_async():
        return
    try:
        await app.schema_manager.apply_schema_async()
    except exceptions.ConnectorException:
        # Two workers that start at once: the other one has made them.
        if not await app.check_connection_async():
            raise


def _declare(app: procrastinate.App, judge: Judge) -> None:
    @app.task(name=TASK, queue=QUEUE)
    def run(series: int) -> None:
        judge(series)


async def _renewing(app: procrastinate.App, waiting: Waiting) -> None:
    """
    Renew every minute.

    Not a periodic task of procrastinate's: that goes by the machine's clock, and
    after a jump by a year it makes up for each minute of it.
    """
    while True:
        await asyncio.sleep(EACH * random.uniform(0.8, 1.2))
        with contextlib.suppress(*LOST, StoreError):  # the worker sees to a lost database
            await _renew(app, waiting)


async def _renew(app: procrastinate.App, waiting: Waiting) -> None:
    """Give a job to each series that waits and has none."""
    await _release(app)
    for one in await asyncio.to_thread(lambda: list(waiting())):
        with contextlib.suppress(exceptions.AlreadyEnqueued):
            await _configured(app.tasks[TASK], one).defer_async(series=one)


def _configured(
    task: 'procrastinate.tasks.Task[..., Any, Any]', series: int
) -> procrastinate.jobs.JobDeferrer:
    # The one lock keeps a series from having two jobs, the other from being judged twice at once.
    name = f'series-{series}'
    return task.configure(queue=QUEUE, lock=name, queueing_lock=name)


async def _release(app: procrastinate.App) -> None:
    """
    Drop the jobs of dead workers, and their locks with them.

    Not retried: a job that waits for the same series meanwhile would forbid
    that, and wait for the lock for ever. What has no job now gets one.
    """
    for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED):
        with contextlib.suppress(exceptions.ProcrastinateException):  # another worker was quicker
            await app.job_manager.finish_job(job, jobs.Status.FAILED, delete_job=True)
