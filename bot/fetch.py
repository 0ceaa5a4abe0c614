"""
One fetch of an epoch, as a process of its own: `python -m bot.fetch REPOSITORY URL DEPTH EACH ALL`.

libgit2 has a time-out for each answer only (`EACH`, in ms), and calls nobody
while a server sends a byte now and then. A process has an end: after `ALL`
seconds, whoever still waits for it, and with whoever has started it. User and
password come on standard input, as JSON, null for none. Exit status 1 and one
line on standard error where the server does not give what was asked for.
"""

import ctypes
import json
import resource
import signal
import sys

import pygit2

PR_SET_PDEATHSIG = 1
LARGEST = 8 << 30
"""Bytes of a pack; an epoch of a busy list has one or two thousand million."""


def main(path: str, url: str, depth: str, each: str, seconds: str) -> int:
    """Fetch all branches; 0, or 1 where that was not to be had."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))
    signal.alarm(int(seconds))
    pygit2.settings.server_connect_timeout = pygit2.settings.server_timeout = int(each)
    known = json.loads(sys.stdin.buffer.read() or b'null')
    callbacks = pygit2.RemoteCallbacks(pygit2.UserPass(*known)) if known else None
    remote = pygit2.Repository(path).remotes.create_anonymous(url)
    try:
        remote.fetch(
            ['+refs/heads/*:refs/heads/*'], depth=int(depth),
            prune=pygit2.enums.FetchPrune.NO_PRUNE, callbacks=callbacks,
        )  # fmt: skip
    except (pygit2.GitError, KeyError, ValueError, OSError) as error:
        sys.stderr.write(' '.join(str(error).split()) or type(error).__name__)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
