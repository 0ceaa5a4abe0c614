"""
A temporary folder that goes with its owner, whatever happens to that.

Its owner holds a lock on it. Left-overs of killed processes, which nobody
locks, are removed when the next one is made.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = 'vma-review-bot-'


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder in $TMPDIR that only this user can read; it is gone afterwards."""
    _sweep(Path(tempfile.gettempdir()))
    folder, lock = _locked()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():  # a sweep that came between making and locking has taken it
            return folder, lock
        os.close(lock)


def _sweep(temporary: Path) -> None:
    for stale in temporary.glob(f'{PREFIX}*'):
        with contextlib.suppress(OSError):
            if stale.is_symlink() or stale.stat().st_uid != os.geteuid():
                continue
            lock = os.open(stale, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(stale, ignore_errors=True)
            finally:
                os.close(lock)
