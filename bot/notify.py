"""
What the service manager is told: ready, alive, stopping (systemd's sd_notify).

One datagram to the socket that it named, and nothing where it named none. It
restarts a service that does not say in time that it is alive: that is said
between steps, while waiting, and during a long step only as far as that itself
shows that it gets on (`Pool.silent`), never by a thread that would say so of
a step that hangs.
"""

import os
import socket
from collections.abc import Callable

Wait = Callable[[float], bool]
"""Wait so many seconds, or less when asked to stop: then True."""
SLOWEST = 60.0
"""Seconds between signs of life, where none are asked for."""


def ready() -> None:
    """Say that what is needed to work is there."""
    _say('READY=1')


def alive() -> None:
    """Say that a step has come to its end."""
    _say('WATCHDOG=1')


def stopping() -> None:
    """Say that the end was asked for."""
    _say('STOPPING=1')


def every() -> float:
    """Return how many seconds may pass between two signs of life: half of what is allowed."""
    allowed = os.environ.get('WATCHDOG_USEC', '')
    return int(allowed) / 2e6 if allowed.isdecimal() and int(allowed) else SLOWEST


def waiting(wait: Wait) -> Wait:
    """Wait as `wait` does, and say meanwhile that we are alive."""

    def patient(seconds: float) -> bool:
        left = seconds
        while True:
            alive()
            now = min(left, every())
            if wait(now):
                return True
            left -= now
            if left <= 0:
                return False

    return patient


def _say(state: str) -> None:
    address = os.environ.get('NOTIFY_SOCKET', '')
    if address[:1] not in ('/', '@'):
        return
    if address.startswith('@'):
        address = '\0' + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        # A manager that does not read holds nobody up, and one that has gone is no error.
        manager.setblocking(False)
        try:
            manager.sendto(state.encode(), address)
        except OSError:
            return
