"""
Results that are kept: the same files, command and tools give the same again.

An entry is written outside of the cage, in one step; one that is torn or of
another format is as good as none. What is bounded is the cache as a whole:
results, what was learnt, and the compiler's objects.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bot.harness.layout import Layout, write
from bot.model import (
    Build,
    BuildFailed,
    BuildOutcome,
    CouldNotRun,
    Diagnostic,
    Harness,
    Passed,
    TestsFailed,
)

FORMAT = 4
"""Entries of formats before 4 may hold, as failed, what was killed on our side."""
OUTCOMES = {kind.__name__: kind for kind in (Passed, TestsFailed, BuildFailed)}


class Results:
    """The results below a cache folder. `tools` is all that the machine brings into one."""

    def __init__(self, cache: Path, tools: Iterable[str]) -> None:
        self._folder = cache / 'results'
        self._tools = tuple(tools)
        self._fresh: dict[str, Build] = {}

    def key(self, harness: Harness, layout: Layout) -> str:
        """Return the hash of all that a result follows from."""
        how = (harness.dir, harness.make, harness.target, harness.run, harness.parser)
        said = repr((FORMAT, how, self._tools, layout.digest))
        return hashlib.sha256(said.encode()).hexdigest()

    def get(self, key: str, harness: Harness, n: int) -> Build | None:
        """
        Return a kept result as patch `n`'s, None where there is none to be believed.

        It is `reused`, but for the first time that it is asked for after `put()`.
        """
        if key in self._fresh:
            return replace(self._fresh.pop(key), n=n)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            found = json.loads(self._path(key).read_text())
            if found['key'] == key:
                path = self._path(key)
                path.touch()  # what is used stays longest
                outcome = _outcome(found['outcome'])
                build = Build(
                    harness.name, n, outcome, harness.dir, True, tuple(found['flags']),
                    0.0, str(found['log']),
                )  # fmt: skip
                return build if _final(build) else None
        return None

    def put(self, key: str, build: Build) -> str | None:
        """
        Keep a result; why that did not go.

        What did not come to an end is not kept, nor is a base that fails: it
        is what every series on it is compared with, and is built again.
        """
        if isinstance(build.outcome, CouldNotRun) or not _final(build):
            return None
        self._fresh[key] = build
        said = {
            'key': key,
            'outcome': {'kind': type(build.outcome).__name__, **asdict(build.outcome)},
            'flags': build.flags,
            'log': build.log,
        }
        return write(self._path(key), json.dumps(said).encode())

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f'{key}.json'


def prune(cache: Path, largest: int) -> tuple[int, int]:
    """
    Remove what was not used for longest, until the cache holds four fifths of `largest`.

    Only where it holds more than that. How many files went, and their bytes.
    """
    files = []
    for folder in ('results', 'inputs', 'ccache', 'threads', 'words'):
        for path in (cache / folder).rglob('*'):
            with contextlib.suppress(OSError):
                stat = path.lstat()
                if path.is_file() or path.is_symlink():
                    files.append((stat.st_mtime, stat.st_size, path))
    total = sum(size for _, size, _ in files)
    gone = freed = 0
    if total <= largest:
        return 0, 0
    for _, size, path in sorted(files):
        with contextlib.suppress(OSError):
            path.unlink()
            gone, freed = gone + 1, freed + size
        total -= size
        if total <= largest * 4 // 5:
            break
    return gone, freed


def _final(build: Build) -> bool:
    """Whether a result may be the last word on what it was built from."""
    return build.n > 0 or isinstance(build.outcome, Passed)


def same_as(build: Build, n: int) -> Build:
    """Return the result of the same inputs as patch `n`'s."""
    return replace(build, n=n, reused=True, seconds=0.0)


def _outcome(found: dict[str, Any]) -> BuildOutcome:
    kind = OUTCOMES[found.pop('kind')]
    fields: dict[str, Any] = {
        name: tuple(_plain(one) for one in value) if isinstance(value, list) else value
        for name, value in found.items()
    }
    outcome: BuildOutcome = kind(**fields)
    return outcome


def _plain(value: Any) -> Any:
    return Diagnostic(**value) if isinstance(value, dict) else value
