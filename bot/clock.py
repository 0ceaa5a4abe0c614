"""
The time of a service that runs on: seconds since 1970, without jumps.

Answers what time it is while the machine's clock is set back and forth: by a
broken time server, a virtual machine's host, by hand. Embargoes, ages and daily
caps are decided by it, and what a jump decided (too old, to be forgotten) would
stay so. Time goes on as it passes since the machine started, which nobody can
set; small corrections are followed at once, a jump when a witness says the same
(the archive's own clock), or else when it has lasted for an hour.
"""

import threading
import time
from collections.abc import Callable

STEP = 60.0
"""Seconds by which a clock may be corrected at once."""
AGREE = 600.0
"""Seconds that a witness may be off: it spoke some time ago."""
LASTS = 3600.0
"""Seconds after which a jump that nobody contradicts is taken for a correction."""

Told = Callable[[float], object]
"""Is told by how many seconds the machine's clock has jumped."""


def passed() -> float:
    """Return the seconds since the machine started, those of a suspend among them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """
    Call it for the time.

    `offset` is what another clock of this machine has as its own; None to
    begin with what the machine says. `told` is called once for each jump.
    """

    def __init__(
        self,
        offset: float | None = None,
        wall: Callable[[], float] = time.time,
        since_start: Callable[[], float] = passed,
    ) -> None:
        self._wall = wall
        self._passed = since_start
        self.offset = wall() - since_start() if offset is None else offset
        """The time when the machine started, in seconds since 1970."""
        self.told: Told = lambda _: None
        self._jump: tuple[float, float] | None = None  # to which offset, and when it was seen
        self._one_at_a_time = threading.Lock()

    def __call__(self) -> float:
        """Return the seconds since 1970."""
        with self._one_at_a_time:
            gone = self._passed()
            offset = self._wall() - gone
            jumped = self._jumped(gone, offset)
            now = gone + self.offset
        if jumped:
            self.told(offset - self.offset)
        return now

    def _jumped(self, gone: float, offset: float) -> bool:
        """Follow the machine's clock, or not; whether it has jumped just now."""
        if abs(offset - self.offset) <= STEP:
            self.offset, self._jump = offset, None
            return False
        if self._jump is None or abs(offset - self._jump[0]) > STEP:
            self._jump = offset, gone
            return True
        if gone - self._jump[1] >= LASTS:
            self.offset, self._jump = offset, None
        return False

    def not_before(self, time: float | None) -> None:
        """Begin no earlier than what is known to have been: `time`, in seconds since 1970."""
        with self._one_at_a_time:
            if time is not None and self._passed() + self.offset < time - STEP:
                self.offset = time - self._passed()

    def heard(self, time: float | None) -> None:
        """Take what a witness says the time is: for a jump, or against it."""
        if time is None:
            return
        self()  # a jump that nobody has seen yet
        with self._one_at_a_time:
            gone = self._passed()
            if self._jump is None:
                return
            if abs(self._wall() - time) <= AGREE:
                self.offset, self._jump = self._wall() - gone, None
            elif abs(gone + self.offset - time) <= AGREE:
                self._jump = self._jump[0], gone  # its hour begins again
