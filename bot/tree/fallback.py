"""
What the fast path declines, applied by git itself.

git gets a repository of its own that holds only the files that the patch
names, so that it neither reads a large index nor touches the user's objects
(which it does when asked to write one that exists). The verdict is that of
`git apply --cached`, and only if that refuses, of `--3way`.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pygit2

from bot import git
from bot import patch as patching
from bot.errors import PatchError, TreeError
from bot.model import How
from bot.tree import refusal
from bot.tree.snapshot import FOLDER, SUBMODULE, GitSnapshot, Objects

Changes = dict[str, tuple[int, bytes] | None]
"""(mode, bytes) by path, of a submodule its commit's id; None for a file that goes."""

NAMED = re.compile(
    rb'^(?:diff --git|---|\+\+\+|rename from|rename to|copy from|copy to) ([^\t\n]+)', re.M
)
BLOBS = re.compile(rb'^index ([0-9a-f]{7,64})\.\.([0-9a-f]{7,64})', re.M)


MOST_TIME = 120.0
"""Seconds that git may take for all patches of a series together, on all bases of a tree."""
LARGEST = 8 << 20
MOST_LINES = 500_000
"""Bytes and lines that files may grow by in a patch that git has to apply: a mail of 40 KB can ask
for millions, and each is looked at. No file of the kernel that is no text comes near."""


@dataclass
class Patience:
    """Seconds that git has taken so far for one series."""

    used: float = 0.0


@dataclass(frozen=True)
class Result:
    """What git changed, and how it placed the patch."""

    changes: Changes
    how: How


def apply_by_git(
    folder: Path,
    tree: GitSnapshot,
    objects: Objects,
    diff: bytes,
    declined: PatchError,
    patience: Patience,
) -> Result:
    """
    Apply `diff` to `tree` with git; raises `PatchError` with its reason.

    `folder` is the quarantine's own; `declined` says why the fast path would not.
    """
    if patience.used > MOST_TIME:
        raise _too_large(f'{MOST_TIME:g} s of time for all that git has to apply of a series')
    work = _Work(folder / 'second', patience)
    before = {path: entry for path in _named(diff) for path, entry in _around(tree, path)}
    for mode, oid in before.values():
        if mode != SUBMODULE:
            work.copy(objects, oid)
    plain = work.apply(diff, before)
    if isinstance(plain, Result):
        return plain
    for found in BLOBS.finditer(diff):
        named = objects.find(found[1].decode())
        if named is not None:
            work.copy(objects, named)
    three = work.apply(diff, before, '--3way')
    if isinstance(three, Result):
        return three
    raise refusal.of_git(plain, diff, declined)


def is_there(
    folder: Path, tree: GitSnapshot, objects: Objects, diff: bytes, patience: Patience
) -> bool:
    """Whether `tree` has what `diff` makes: git could take it back."""
    if patience.used > MOST_TIME:
        return False
    work = _Work(folder / 'second', patience)
    before = {path: entry for path in _named(diff) for path, entry in _around(tree, path)}
    for mode, oid in before.values():
        if mode != SUBMODULE:
            work.copy(objects, oid)
    back = work.apply(diff, before, '--reverse')
    return isinstance(back, Result) and bool(back.changes)


def merge_by_git(
    folder: Path, ours: bytes, base: bytes, theirs: bytes, patience: Patience
) -> bytes:
    """Merge three versions of a file with git; where they conflict it is `ours`."""
    work = _Work(folder / 'second', patience)
    names = []
    for name, content in (('ours', ours), ('base', base), ('theirs', theirs)):
        (work.cwd / name).write_bytes(content)
        names.append(name)
    return work.merged(names) if b'\0' not in ours[:8000] + theirs[:8000] else ours


class _Work:
    """A bare repository without alternates, and an index of a few files."""

    def __init__(self, folder: Path, patience: Patience) -> None:
        self.patience = patience
        self.git_dir, self.cwd, self.index = folder / 'git', folder / 'cwd', folder / 'index'
        if not folder.exists():
            self.cwd.mkdir(parents=True)
            pygit2.init_repository(str(self.git_dir), bare=True)
        self.repo = pygit2.Repository(str(self.git_dir))

    def copy(self, source: Objects, oid: pygit2.Oid) -> None:
        if oid not in self.repo:
            self.repo.create_blob(source.blob(oid))

    def apply(
        self, diff: bytes, before: dict[str, tuple[int, pygit2.Oid]], *words: str
    ) -> Result | str:
        """Return what changed, or what git said when it refused."""
        self.index.unlink(missing_ok=True)
        listed = b''.join(
            b'%o %s\t%s\0' % (mode, str(oid).encode(), path.encode('utf-8', 'surrogateescape'))
            for path, (mode, oid) in sorted(before.items())
        )
        self._git('update-index', '-z', '--index-info', stdin=listed, check=True)
        result = self._git(
            'apply', '-v', '--cached', '--whitespace=nowarn', *words, '-', stdin=diff
        )
        if result.status:
            return result.err.decode('utf-8', 'replace')
        how: How = 'offset' if b'(offset ' in result.err else 'exact'
        return Result(dict(self._changed(before)), '3way' if '--3way' in words else how)

    def merged(self, names: list[str]) -> bytes:
        """Return what `git merge-file` makes of three files in the work folder."""
        return self._git('merge-file', '-p', '--ours', *names, check=True).out

    def _changed(
        self, before: dict[str, tuple[int, pygit2.Oid]]
    ) -> Iterator[tuple[str, tuple[int, bytes] | None]]:
        listed = self._git('ls-files', '-s', '-z', check=True).out.split(b'\0')
        left = set(before)
        size = lines = 0
        for line in filter(None, listed):
            said, _, name = line.partition(b'\t')
            mode, oid, stage = said.decode().split()
            path = name.decode('utf-8', 'surrogateescape')
            left.discard(path)
            if stage != '0':
                raise TreeError(f'git left a conflict in {path}')
            if before.get(path) == (int(mode, 8), pygit2.Oid(hex=oid)):
                continue
            if int(mode, 8) == SUBMODULE:
                yield path, (SUBMODULE, oid.encode())
                continue
            old = self._old(before, path)
            size += max(self.repo.odb.read_header(pygit2.Oid(hex=oid))[1] - len(old), 0)
            if size > LARGEST:
                raise _too_large(f'{LARGEST >> 20} MB of files', path)
            blob = self.repo[oid]
            assert isinstance(blob, pygit2.Blob)
            lines += max(blob.data.count(b'\n') - old.count(b'\n'), 0)
            if lines > MOST_LINES:
                raise _too_large(f'{MOST_LINES} lines', path)
            yield path, (int(mode, 8), blob.data)
        yield from ((path, None) for path in left)

    def _old(self, before: dict[str, tuple[int, pygit2.Oid]], path: str) -> bytes:
        """Return what a file was, nothing where it is new (or no file)."""
        there = before.get(path)
        blob = self.repo.get(there[1]) if there is not None else None
        return blob.data if isinstance(blob, pygit2.Blob) else b''

    def _git(self, *words: str, stdin: bytes = b'', check: bool = False) -> git.Done:
        """Run git with none of the user's settings; `PatchError` where it hits a limit."""
        began = time.monotonic()
        done = git.run(
            ['-c', 'core.hooksPath=/dev/null', *words],
            stdin,
            cwd=self.cwd,
            settings={
                'GIT_DIR': str(self.git_dir),
                'GIT_INDEX_FILE': str(self.index),
                'HOME': str(self.cwd),
                'XDG_CONFIG_HOME': str(self.cwd),
            },
        )
        self.patience.used += time.monotonic() - began
        if done.limit is not None:
            raise _too_large(done.limit)
        if check and done.status:
            raise TreeError(f'git {words[0]} fails in the quarantine: {done.last}')
        return done


def _too_large(limit: str, path: str | None = None) -> PatchError:
    return PatchError(f'too large to try (limit: {limit})', path)


def _named(diff: bytes) -> set[str]:
    """Return every path that the diff could speak of: too many do no harm."""
    found: set[str] = set()
    for match in NAMED.finditer(diff):
        text = match[1].decode('latin-1')
        found.update(patching.names_in(text))
    return {path for path in found if path}


def _around(tree: GitSnapshot, path: str) -> Iterator[tuple[str, tuple[int, pygit2.Oid]]]:
    """Yield the file itself, a file above it that is in its way, a file below it."""
    parts = path.split('/')
    for depth in range(1, len(parts) + 1):
        above = '/'.join(parts[:depth])
        entry = tree.entry(above)
        if entry is not None and entry[0] != FOLDER:
            yield above, entry
            return
    below = next(tree.files(path), None)
    if below is not None:
        yield below[0], (below[1], below[2])
