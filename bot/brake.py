"""
The emergency brake: while the stop file is there, nothing is sent.

`bot pause` makes it, with who, when and why; `bot resume` takes it away. Anybody
may make it by hand as well (`touch`): that it is there is what counts.
"""

import contextlib
import getpass
import json
import os
import pwd
from dataclasses import asdict, dataclass
from pathlib import Path

from bot import files
from bot.plain import one_line

LARGEST = 4096


@dataclass(frozen=True)
class Stop:
    """Since when (seconds since 1970), by whom and why nothing is sent."""

    since: float
    by: str
    reason: str


def pulled(path: Path) -> Stop | None:
    """Return what the stop file says, None where there is none."""
    try:
        with path.open('rb') as file:
            raw, there = file.read(LARGEST), os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        raw, there = b'', path.stat()
    text = raw.decode('utf-8', 'replace')
    with contextlib.suppress(ValueError, KeyError, TypeError):
        said = json.loads(text)
        return Stop(float(said['since']), one_line(said['by']), one_line(said['reason'], 500))
    try:
        owner = pwd.getpwuid(there.st_uid).pw_name
    except KeyError:
        owner = str(there.st_uid)
    return Stop(there.st_mtime, owner, one_line(text.strip(), 500))


def pull(path: Path, reason: str, now: float) -> Stop | None:
    """
    Make the stop file, whole and on the disk; None where it is there already.

    Raises `OSError`.
    """
    stop = Stop(int(now), _user(), one_line(reason, 500).strip())
    files.folder(path.parent)
    said = json.dumps(asdict(stop), ensure_ascii=False) + '\n'
    try:
        # Whoever runs may read why: the folder says who else may.
        with files.whole(path, mode=0o644, new=True) as temporary:
            temporary.write_text(said)
    except FileExistsError:
        return None
    return stop


def release(path: Path) -> bool:
    """Take the stop file away; False where there is none. Raises `OSError`."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    files.sync(path.parent)
    return True


def _user() -> str:
    """Who asks: behind sudo, the user who went there."""
    with contextlib.suppress(OSError, KeyError):
        return os.environ.get('SUDO_USER') or getpass.getuser()
    return str(os.getuid())
