"""A temporary folder below $TMPDIR that goes with its owner, whatever happens to that."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bot.files import temporary

PREFIX = 'vma-review-bot-'


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder in $TMPDIR that only this user can read; it is gone afterwards."""
    with temporary(Path(tempfile.gettempdir()), PREFIX) as folder:
        yield folder
