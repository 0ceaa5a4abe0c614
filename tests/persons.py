"""Who runs the bot: root, or an ordinary user. Each in a process of its own."""

import ctypes
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar('T')
ORDINARY = 54321
PR_SET_DUMPABLE = 4


def as_person(name: str, call: Callable[[], T]) -> T:
    """Return what `call` gives as `root`, or as a `user`; skipped where we can't be that."""
    if name == 'root' and os.geteuid() != 0:
        pytest.skip('not root: what root sees of it is not tested')
    reader, writer = os.pipe()
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o777)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(reader)
                os.environ.update(HOME=home, TMPDIR=home)
                tempfile.tempdir = home
                os.chdir('/')
                if name == 'user' and os.geteuid() == 0:
                    os.setgroups([])
                    os.setresgid(ORDINARY, ORDINARY, ORDINARY)
                    os.setresuid(ORDINARY, ORDINARY, ORDINARY)
                    # As after an exec: a process that has changed its user is closed to itself.
                    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1)
                with os.fdopen(writer, 'wb') as pipe:
                    pickle.dump(call(), pipe)
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        with os.fdopen(reader, 'rb') as pipe:
            said = pipe.read()
        _, status = os.waitpid(pid, 0)
    assert status == 0, f'{name}: it ended with {status}'
    answer: T = pickle.loads(said)
    return answer
