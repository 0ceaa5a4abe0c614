"""
Procrastinate, where the database is PostgreSQL: which worker judges which series.

Its locks, retries, heartbeats and stalled jobs are its own. A job carries the
number of a series and nothing else; the rows are the truth, and what has no
job gets one.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable

import procrastinate
from procrastinate import exceptions
from sqlalchemy.engine import make_url

from bot.errors import StoreError

QUEUE = 'reviews'
TASK = 'judge'
STALLED = 30.0
"""Seconds without a heartbeat after which a worker is taken for dead."""


class Queue:
    """The jobs of one database; use as a context."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url).set(drivername='postgresql')
        self._dsn = parsed.render_as_string(hide_password=False)
        self._app = procrastinate.App(
            connector=procrastinate.SyncPsycopgConnector(conninfo=self._dsn)
        )
        _declare(self._app, lambda _: None)

    def __enter__(self) -> 'Queue':
        try:
            self._app.open()
            if not self._app.check_connection():
                self._app.schema_manager.apply_schema()
        except (exceptions.ProcrastinateException, OSError) as error:
            if not self._app.check_connection():
                raise StoreError(f'procrastinate: {error}') from error
        return self

    def __exit__(self, *_: object) -> None:
        self._app.close()

    def defer(self, series: Iterable[int]) -> int:
        """Give each series a job that has none; how many got one."""
        count = 0
        task = self._app.tasks[TASK]
        for one in series:
            with contextlib.suppress(exceptions.AlreadyEnqueued):
                task.configure(
                    queue=QUEUE, lock=f'series-{one}', queueing_lock=f'series-{one}'
                ).defer(series=one)
                count += 1
        return count

    def work(self, judge: Callable[[int], None], *, wait: bool, name: str) -> None:
        """Run jobs until there is none (`wait`: until SIGTERM); one at a time."""
        asyncio.run(self._work(judge, wait=wait, name=name))

    async def _work(self, judge: Callable[[int], None], *, wait: bool, name: str) -> None:
        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=self._dsn))
        _declare(app, judge)
        async with app.open_async():
            manager = app.job_manager
            for job in await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED):
                await manager.retry_job(job)
            await app.run_worker_async(
                queues=[QUEUE], name=name, concurrency=1, wait=wait, listen_notify=True,
                delete_jobs='always', install_signal_handlers=wait,
            )  # fmt: skip


def _declare(app: procrastinate.App, judge: Callable[[int], None]) -> None:
    @app.task(name=TASK, queue=QUEUE)
    def run(series: int) -> None:
        judge(series)
