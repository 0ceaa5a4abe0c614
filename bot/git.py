"""
git as a child: without the user's settings, and within limits.

Answers what git said and how it ended, and which limit it hit. Everything that
handles a stranger's bytes goes through here: a patch of a megabyte can ask git
for gigabytes.
"""

import contextlib
import os
import re
import resource
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot.errors import TreeError

SETTINGS = {
    'GIT_CONFIG_GLOBAL': os.devnull,
    'GIT_CONFIG_NOSYSTEM': '1',
    'GIT_ATTR_NOSYSTEM': '1',
    'GIT_TERMINAL_PROMPT': '0',
    'GIT_NO_LAZY_FETCH': '1',
    'LC_ALL': 'C',
}
NO_MEMORY = re.compile(rb'[Oo]ut of memory|Cannot allocate memory|mmap failed')
TOO_LARGE = re.compile(rb'File too large')
BY_CLOCK = 4
"""Times the cpu time that git may take by the clock: other work goes on beside it."""


@dataclass(frozen=True)
class GitLimits:
    """
    What one child may use: seconds of cpu time, bytes of address space and of a file.

    `memory` None where it reads a repository of the user's, whose packs it maps.
    """

    cpu: float = 15.0
    memory: int | None = 512 << 20
    file: int = 256 << 20


HISTORY = GitLimits(cpu=120.0, memory=None)
"""For questions about the user's own repository, that a stranger may have a word in."""


@dataclass(frozen=True)
class Done:
    """How git ended, and what it said. `limit` names the limit that it hit."""

    status: int
    out: bytes
    err: bytes
    limit: str | None = None

    @property
    def last(self) -> str:
        """The last line of what it said on stderr, or its status."""
        said = self.err.decode('utf-8', 'replace').strip().splitlines()
        return said[-1].strip() if said else f'status {self.status}'


def run(
    words: Sequence[str],
    stdin: bytes = b'',
    *,
    cwd: Path | str = '/',
    settings: Mapping[str, str] = {},
    limits: GitLimits = GitLimits(),
) -> Done:
    """
    Run git; `settings` are further variables. Raises `TreeError` where someone killed it.

    What the user has in the environment for git is left out.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith('GIT_')}
    try:
        child = subprocess.Popen(
            ['git', *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**kept, **SETTINGS, **settings},
            start_new_session=True,
        )
    except OSError as error:
        raise TreeError(f'git can not be started: {error}') from error
    with child:
        try:
            # It waits for its input: no stranger's byte was read before this.
            _bound(child.pid, limits)
            out, err = child.communicate(stdin, timeout=limits.cpu * BY_CLOCK)
        except subprocess.TimeoutExpired:
            return Done(-signal.SIGKILL, b'', b'', f'{limits.cpu * BY_CLOCK:g} s of time')
        finally:
            with contextlib.suppress(ProcessLookupError):  # and what it has started
                os.killpg(child.pid, signal.SIGKILL)
    limit = _hit(child.returncode, err, limits)
    if child.returncode == -signal.SIGKILL:
        raise TreeError(f'git was killed: {" ".join(words)[:200]}')
    return Done(child.returncode, out, err, limit)


def _bound(pid: int, limits: GitLimits) -> None:
    seconds = int(limits.cpu) + 1
    try:
        # At the first it is told, and can be told from what is killed by others.
        resource.prlimit(pid, resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limits.file, limits.file))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        if limits.memory is not None:
            resource.prlimit(pid, resource.RLIMIT_AS, (limits.memory, limits.memory))
    except ProcessLookupError:
        return  # it has ended already


def _hit(status: int, err: bytes, limits: GitLimits) -> str | None:
    if status == -signal.SIGXCPU:
        return f'{limits.cpu:g} s of cpu time'
    if status == -signal.SIGXFSZ or (status and TOO_LARGE.search(err)):
        return f'a file of {limits.file >> 20} MB'
    if limits.memory is not None and status and NO_MEMORY.search(err):
        return f'{limits.memory >> 20} MB of memory'
    return None
