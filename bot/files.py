"""
Writing to the disk: a file whole or not at all, and for its owner alone.

What the bot keeps (mails and addresses, unpublished work, copies of all of it)
is nobody else's to read, whatever the umask. A group gets what an operator gave
it: by a folder that no others may enter and that is of the process's own group,
or that hands its group on (setgid).

What is not whole yet is in a folder of its own beside the file's place. Its
owner holds a lock on that; left-overs of killed processes, which nobody locks,
go when the next one is made there.
"""

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = '.vma-bot-'
OTHERS, GROUP = 0o007, 0o070
OLD = 86_400.0
"""Seconds after which a left-over that nothing locks, of an earlier version, is one."""

_before: list[int] = []
_swept: set[tuple[int, Path]] = set()


def keep_private() -> None:
    """Have whatever this process makes from now on be for its user alone."""
    before = os.umask(GROUP | OTHERS)
    if not _before:
        _before.append(before)


def usual_umask() -> int:
    """Return the umask that the program was started with; -1 where it was not changed."""
    return _before[0] if _before else -1


# --- who may read ---------------------------------------------------------------


def folder(path: Path) -> Path:
    """Make a folder where there is none, for its owner alone; one that is there is left."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def ours(path: Path) -> Path:
    """Make a folder whose name is the bot's choice; one that others may read is closed to them."""
    close(folder(path))
    return path


def close(path: Path) -> None:
    """
    Take others' rights from a file or a folder of this user's: a umask gave them.

    The group's too, except in a folder that hands its group on.
    """
    with contextlib.suppress(OSError):
        there = path.lstat()
        mode = stat.S_IMODE(there.st_mode)
        if there.st_uid != os.geteuid() or mode & stat.S_ISVTX or stat.S_ISLNK(there.st_mode):
            return
        if mode & OTHERS:
            handed_on = (path if path.is_dir() else path.parent).stat().st_mode & stat.S_ISGID
            path.chmod(mode & ~(OTHERS if handed_on else OTHERS | GROUP))


def is_open(path: Path) -> bool:
    """Whether others than owner and group may read a file, or list a folder, that is there."""
    try:
        entered = path.parent.stat().st_mode & 0o001
        return bool(entered and path.stat().st_mode & 0o004)
    except OSError:
        return False


def mode_in(place: Path) -> int:
    """Return the mode of a new file in a folder: its owner's, and its group's where that is so."""
    there = place.stat()
    if not there.st_mode & stat.S_ISGID and (
        there.st_mode & OTHERS or there.st_gid != os.getegid()
    ):
        return 0o600
    group = there.st_mode & GROUP
    return 0o600 | (0o040 if group & 0o050 else 0) | (0o020 if group & 0o020 else 0)


def give(path: Path, place: Path) -> None:
    """Where root makes a file in another user's folder, let it be that user's."""
    if os.geteuid() == 0:
        there = place.stat()
        os.chown(path, there.st_uid, there.st_gid)


# --- whole files ----------------------------------------------------------------


@contextlib.contextmanager
def whole(
    path: Path, *, mode: int | None = None, durable: bool = True, new: bool = False
) -> Iterator[Path]:
    """
    Give a name to write to; what is there at the end is `path`'s, in one step.

    `mode`: None for that of the file that is there, less others' rights, or
    else the folder's (`mode_in`). `durable`: on the disk before it gets its
    name. `new`: never in another's place. Raises `OSError`, `FileExistsError`.
    """
    with temporary(path.parent) as room:
        file = room / 'new'
        yield file
        file.chmod(_mode(path) if mode is None else mode)
        if durable:
            sync(file)
        if new:
            path.hardlink_to(file)
        else:
            file.replace(path)
        if durable:
            sync(path.parent)


def write(path: Path, content: bytes, *, mode: int | None = None, durable: bool = True) -> None:
    """Write a whole file (`whole`). Raises `OSError`."""
    with whole(path, mode=mode, durable=durable) as file:
        file.write_bytes(content)


def _mode(path: Path) -> int:
    try:
        there = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return mode_in(path.parent)
    return there if not there & OTHERS else mode_in(path.parent)


def sync(path: Path) -> None:
    """Have a file's content, or a folder's names, on the disk. Raises `OSError`."""
    there = os.open(path, os.O_RDONLY)
    try:
        os.fsync(there)
    finally:
        os.close(there)


# --- temporary folders ----------------------------------------------------------


@contextlib.contextmanager
def temporary(parent: Path, prefix: str = PREFIX) -> Iterator[Path]:
    """Make a folder that goes with its owner, whatever happens to that. Raises `OSError`."""
    if prefix != PREFIX or (os.getpid(), parent) not in _swept:
        sweep(parent, prefix)
        _swept.add((os.getpid(), parent))
    made, lock = _locked(parent, prefix)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(lock)


def _locked(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        with contextlib.suppress(OSError):  # a file system without locks: nothing is swept there
            fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists():  # a sweep that came between making and locking has taken it
            return made, lock
        os.close(lock)


def sweep(parent: Path, prefix: str = PREFIX, *earlier: str) -> None:
    """
    Remove what killed processes of this user left in a folder.

    `earlier`: how names of an earlier version's left-overs begin, which held no
    lock; those of a day ago go.
    """
    with contextlib.suppress(OSError):
        for one in [*os.scandir(parent)]:
            if one.name.startswith(prefix):
                _take_away(Path(one.path))
            elif one.name.startswith(earlier) and re.search(r'-[a-z0-9_]{8}\Z', one.name):
                _take_away_old(Path(one.path))


def _take_away(left: Path) -> None:
    with contextlib.suppress(OSError):
        lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(lock)


def _take_away_old(left: Path) -> None:
    with contextlib.suppress(OSError):
        there = left.lstat()
        if there.st_uid != os.geteuid() or time.time() - there.st_mtime < OLD:
            return
        if stat.S_ISDIR(there.st_mode):
            shutil.rmtree(left, ignore_errors=True)
        elif stat.S_ISREG(there.st_mode):
            left.unlink()
