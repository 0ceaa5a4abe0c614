"""
Processes that judge, each one series at a time.

Answers when a series has come to an end. A process that dies over a series is
replaced, and takes no other with it. All of them die with this one, and each
holds its lock: nobody takes up their work before the last has gone.
"""

import contextlib
import ctypes
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing import reduction
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from bot.errors import BotError, StoreError
from bot.events import Tell

PR_SET_PDEATHSIG = 1
PATIENCE = 10.0
"""Seconds for a process to put back what it has in hand."""
SPAWN = multiprocessing.get_context('spawn')  # a fork would copy threads' locks

Judge = Callable[[int], bool]
Make = Callable[[Tell], AbstractContextManager[Judge]]
"""Makes, in a process of its own, what judges there; it is pickled."""
Told = tuple[str, dict[str, object]]
"""An event, and its values, on their way to the parent."""


class DiedError(Exception):
    """The process died of the series, or was stopped."""


class Pool:
    """
    At most `size` processes, started when they are needed; use as a context.

    What happens in them is told here, by `tell`, from several threads. `lock` is a
    file that they keep open with this process.
    """

    def __init__(self, size: int, make: Make, tell: Tell, lock: int | None = None) -> None:
        self.size = size
        # A process dies with the thread that has started it: these live as long as the pool.
        self._threads = ThreadPoolExecutor(size)
        self._slots = [_Slot(make, tell, lock) for _ in range(size)]
        self._free: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)

    def __enter__(self) -> 'Pool':
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def submit(self, series: int) -> Future[bool]:
        """
        Have a series judged; the result is False where it was not wanted.

        It raises `DiedError`, or `StoreError`.
        """
        return self._threads.submit(self._judge, series)

    def silent(self) -> float:
        """Return for how many seconds a process that judges has said nothing: the longest."""
        now = time.monotonic()
        heard = [one.heard for one in self._slots]
        return max((now - one for one in heard if one is not None), default=0.0)

    def _judge(self, series: int) -> bool:
        slot = self._free.get()
        try:
            return slot.judge(series)
        except (EOFError, OSError) as error:
            slot.end()
            raise DiedError from error
        finally:
            self._free.put(slot)

    def stop(self) -> None:
        """Interrupt what is judged now; the processes put it back, and end."""
        for slot in self._slots:
            slot.interrupt()
        for slot in self._slots:
            slot.end(PATIENCE)
        self._threads.shutdown()


class _Slot:
    """Room for one process."""

    def __init__(self, make: Make, tell: Tell, lock: int | None) -> None:
        self._make = make
        self._tell = tell
        self._lock = _Held(lock) if lock is not None else None
        self._process: Any = None
        self._pipe: Connection | None = None
        self._stopped = False
        self.heard: float | None = None  # when it last said something; None where it has no work

    def judge(self, series: int) -> bool:
        """Raises `EOFError` or `OSError` where the process dies of it."""
        self.heard = time.monotonic()
        try:
            return self._judged(series)
        finally:
            self.heard = None

    def _judged(self, series: int) -> bool:
        if self._process is None or not self._process.is_alive():
            self.end()
            self._start()
        if self._stopped or self._pipe is None:
            raise EOFError
        self._pipe.send(series)
        answer = self._heard(self._pipe)
        if isinstance(answer, str):
            raise StoreError(answer)
        return bool(answer)

    def _heard(self, pipe: Connection) -> bool | str | None:
        """Return the next answer, and pass on what is told before it."""
        while isinstance(said := pipe.recv(), tuple):
            self.heard = time.monotonic()
            event, values = said
            self._tell(event, **values)
        answer: bool | str | None = said
        return answer

    def _start(self) -> None:
        self._pipe, theirs = SPAWN.Pipe()
        process = SPAWN.Process(
            target=_live, args=(theirs, self._lock, os.getpid(), self._make), daemon=True
        )
        process.start()
        self._process = process
        theirs.close()
        try:
            failed = self._heard(self._pipe)
        except (EOFError, OSError) as error:
            self.end()
            raise StoreError('a process that judges did not come up') from error
        if failed is not None:
            self.end()
            raise StoreError(failed)

    def interrupt(self) -> None:
        self._stopped = True
        process = self._process
        if process is not None:
            process.terminate()

    def end(self, seconds: float = 0) -> None:
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if process is not None:
            process.join(seconds)
            process.kill()
            process.join()
        if pipe is not None:
            pipe.close()


class _Held:
    """A file that a child is handed, open."""

    def __init__(self, file: int) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[Any], '_Held'], tuple[Any]]:
        return _held, (reduction.DupFd(self.file),)


def _held(handed: Any) -> _Held:
    return _Held(handed.detach())


def _live(pipe: Connection, lock: _Held | None, parent: int, make: Make) -> None:
    """Judge what comes through the pipe, until it is closed. `lock` is only to be kept open."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    # A terminal's ^C goes to all; what it means is for the parent to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    one_at_a_time = threading.Lock()  # builds run in threads, and tell things too

    def tell(event: str, /, **values: object) -> None:
        told: Told = (event, values)
        with one_at_a_time:
            pipe.send(told)

    try:
        with make(tell) as judge:
            pipe.send(None)
            _serve(pipe, judge)
    except BotError as error:
        with contextlib.suppress(OSError):
            pipe.send(str(error))


def _serve(pipe: Connection, judge: Judge) -> None:
    while True:
        try:
            series = pipe.recv()
        except EOFError:
            return
        answer: bool | str
        try:
            answer = judge(series)
        except BotError as error:
            answer = str(error)
        pipe.send(answer)


def _leave(_: int, __: FrameType | None) -> None:
    raise SystemExit(0)
