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
from procrastinate import exceptions
from sqlalchemy.engine import make_url

from bot.errors import StoreError

QUEUE = 'reviews'
TASK = 'judge'
AGAIN = 'defer-again'
EVERY_MINUTE = '* * * * *'
STALLED = 30.0
"""Seconds without a heartbeat after which a worker is taken for dead."""

Judge = Callable[[int], None]
Waiting = Callable[[], Iterable[int]]
"""The series that wait, or that a worker began and did not end."""


class Queue:
    """The jobs of one database; use as a context. Raises `StoreError`."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url).set(drivername='postgresql')
        self._dsn = parsed.render_as_string(hide_password=False)
        self._app = procrastinate.App(
            connector=procrastinate.SyncPsycopgConnector(conninfo=self._dsn)
        )
        _declare(self._app, lambda _: None, tuple)

    def __enter__(self) -> 'Queue':
        self._app.open()
        try:
            if not self._app.check_connection():
                self._app.schema_manager.apply_schema()
        except exceptions.ProcrastinateException as error:
            # Two processes that start at once: the other one has made it.
            if not self._app.check_connection():
                self._app.close()
                raise StoreError(f'procrastinate: {error}') from error
        return self

    def __exit__(self, *_: object) -> None:
        self._app.close()

    def defer(self, series: Iterable[int]) -> int:
        """Give each series a job that has none; how many got one."""
        task = self._app.tasks[TASK]
        count = 0
        for one in series:
            with contextlib.suppress(exceptions.AlreadyEnqueued):
                _configured(task, one).defer(series=one)
                count += 1
        return count

    def work(self, judge: Judge, waiting: Waiting, *, wait: bool) -> None:
        """Run jobs, one at a time, until there is none; `wait`: until SIGTERM."""
        asyncio.run(self._work(judge, waiting, wait=wait))

    async def _work(self, judge: Judge, waiting: Waiting, *, wait: bool) -> None:
        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=self._dsn))
        _declare(app, judge, waiting)
        async with app.open_async():
            await _revive(app)
            await app.run_worker_async(
                queues=[QUEUE], concurrency=1, wait=wait, delete_jobs='always',
                fetch_job_polling_interval=1.0, stalled_worker_timeout=STALLED,
            )  # fmt: skip


def _declare(app: procrastinate.App, judge: Judge, waiting: Waiting) -> None:
    @app.task(name=TASK, queue=QUEUE)
    def run(series: int) -> None:
        judge(series)

    @app.periodic(cron=EVERY_MINUTE)
    @app.task(name=AGAIN, queue=QUEUE, queueing_lock=AGAIN, pass_context=False)
    async def again(timestamp: int) -> None:
        await _revive(app)
        for one in await asyncio.to_thread(lambda: list(waiting())):
            with contextlib.suppress(exceptions.AlreadyEnqueued):
                await _configured(app.tasks[TASK], one).defer_async(series=one)


def _configured(
    task: 'procrastinate.tasks.Task[..., Any, Any]', series: int
) -> procrastinate.jobs.JobDeferrer:
    # The one lock keeps a series from having two jobs, the other from being judged twice at once.
    name = f'series-{series}'
    return task.configure(queue=QUEUE, lock=name, queueing_lock=name)


async def _revive(app: procrastinate.App) -> None:
    """Give the jobs of dead workers to others."""
    for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED):
        with contextlib.suppress(exceptions.ProcrastinateException):
            await app.job_manager.retry_job(job)
