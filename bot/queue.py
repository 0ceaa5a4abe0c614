"""
Procrastinate, where the database is PostgreSQL: which worker judges which series.

Its locks, retries, heartbeats and the jobs of dead workers are its own. A job
carries the number of a series and nothing else; the rows are the truth, and
what has no job gets one.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import procrastinate
from procrastinate import exceptions, jobs
from sqlalchemy.engine import make_url

from bot import notify
from bot.errors import StoreError

QUEUE = 'reviews'
TASK = 'judge'
AGAIN = 'defer-again'
EVERY_MINUTE = '* * * * *'
STALLED = 30.0
"""Seconds without a heartbeat after which a worker is taken for dead."""

Judge = Callable[[int], object]
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
) -> None:
    """
    Give a job to each series that waits, and run jobs, `at_once` at most.

    `alive` is called again and again, while this goes round.

    Until there is none, or, to `wait`, until SIGTERM or ^C: what is in hand is
    finished then. Raises `StoreError`.
    """
    try:
        asyncio.run(_work(url, judge, waiting, at_once, alive, wait=wait))
    except exceptions.ConnectorException as error:
        raise StoreError(f'procrastinate: {error.__cause__ or error}') from error


async def _work(
    url: str,
    judge: Judge,
    waiting: Waiting,
    at_once: int,
    alive: Callable[[], None],
    *,
    wait: bool,
) -> None:
    dsn = make_url(url).set(drivername='postgresql').render_as_string(hide_password=False)
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))
    _declare(app, judge, waiting)
    async with app.open_async():
        await _prepare(app)
        await _renew(app, waiting)
        beating = asyncio.create_task(_beat(alive)) if wait else None
        await app.run_worker_async(
            queues=[QUEUE], concurrency=at_once, wait=wait, delete_jobs='always',
            fetch_job_polling_interval=1.0, stalled_worker_timeout=STALLED,
        )  # fmt: skip
        if beating is not None:
            beating.cancel()


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


def _declare(app: procrastinate.App, judge: Judge, waiting: Waiting) -> None:
    @app.task(name=TASK, queue=QUEUE)
    def run(series: int) -> None:
        judge(series)

    @app.periodic(cron=EVERY_MINUTE)
    @app.task(name=AGAIN, queue=QUEUE, queueing_lock=AGAIN, pass_context=False)
    async def again(timestamp: int) -> None:
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
