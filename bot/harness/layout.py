"""
What a build reads: learnt at a base, and laid out for each tree.

Learnt once, from the base alone: a build in all the folders that a harness may
read from, with a compiler that also lists what it includes; then what make
demands though no compiler reads it. `Inputs.whole` where that does not give
the same result as all the folders.
"""

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bot import files
from bot.diagnose import relative
from bot.model import Harness
from bot.sandbox import File
from bot.tree import GitSnapshot

INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include\b.*$', re.M)
DEMANDED = re.compile(r"No rule to make target [`'](?P<path>[^']+)'")
MISSED = re.compile(r'(?:fatal error: |target [`\'])([^\s:\']{1,200})(?=: No such file|\')')
MAKEFILE = re.compile(r'(?:^|/)(?:Makefile|Kbuild)|\.(?:mk|include|arch|am|mak)$')
FORMAT = 4


@dataclass(frozen=True)
class Inputs:
    """
    The files that a harness reads at a base; `whole` where they could not be told apart.

    `read` are those of them that a compiler or make named. They are `proven`
    once a build from them alone has read the same.
    """

    paths: frozenset[str]
    whole: bool = False
    proven: bool = False
    read: frozenset[str] = frozenset()


WHOLE = Inputs(frozenset(), whole=True)


@dataclass(frozen=True)
class Layout:
    """Files to lay out, in order of their paths, and whether these are all the folders."""

    files: Iterable[File]
    wide: bool

    @property
    def digest(self) -> str:
        """The hash of every path, mode and byte."""
        said = hashlib.sha256()
        for path, mode, content in self.files:
            said.update(
                f'{len(path)} {path} {mode:o} {len(content)}\n'.encode('utf-8', 'surrogateescape')
            )
            said.update(content)
        return said.hexdigest()


def wide(harness: Harness, tree: GitSnapshot) -> Layout:
    """Lay out all the folders that a harness may read from."""
    found = {
        path: (path, mode, tree.read(path) or b'')
        for folder in (*harness.within, harness.dir)
        for path, mode, _ in tree.files(folder)
    }
    return Layout(tuple(found[path] for path in sorted(found)), wide=True)


def narrow(harness: Harness, inputs: Inputs, base: GitSnapshot, tree: GitSnapshot) -> Layout | None:
    """
    Lay out what a build of `tree` reads, as far as that follows from the base.

    None where it does not: another #include, another makefile, or a new file
    that could be found where another was found before.
    """
    if inputs.whole:
        return None
    paths = set(inputs.paths)
    for path, _, _ in tree.files(harness.dir):
        paths.add(path)
    laid: list[File] = []
    for path in sorted(paths):
        entry, content = tree.entry(path), tree.read(path)
        if entry is None or content is None:
            continue
        laid.append((path, entry[0], content))
        if entry == base.entry(path):
            continue
        before = base.read(path) or b''
        if MAKEFILE.search(path):
            return None
        if set(INCLUDE.findall(content)) - set(INCLUDE.findall(before)):
            return None
    return Layout(tuple(laid), wide=False)


def shadows(inputs: Inputs, added: str) -> bool:
    """Whether a new file could be what an #include finds, in the place of another."""
    name = posixpath.basename(added)
    return any(posixpath.basename(known) == name for known in inputs.paths)


def listed(text: str, folder: str) -> Iterator[str]:
    """Yield the paths of depfiles and of make's own list, relative to the tree."""
    for word in text.replace('\\\n', ' ').split():
        if not word.endswith(':'):
            path = relative(word, folder)
            if path is not None:
                yield path


def read_by(harness: Harness, all_of_it: Layout, named: set[str]) -> set[str]:
    """Return what was read: the files named, the harness's own, those beside its makefiles."""
    there = {path for path, _, _ in all_of_it.files}
    read = named & there
    folders = {posixpath.dirname(path) for path in read if MAKEFILE.search(path)}
    return {
        path
        for path in there
        if path in read or path.startswith(f'{harness.dir}/') or posixpath.dirname(path) in folders
    }


def demanded(harness: Harness, all_of_it: Layout, output: str) -> set[str]:
    """Return the files that make wants to see, of a dry run's output."""
    there = {path for path, _, _ in all_of_it.files}
    wanted = {relative(found['path'], harness.dir) for found in DEMANDED.finditer(output)}
    return {path for path in wanted if path is not None and path in there}


def asked_for(tree: GitSnapshot, output: str) -> list[str]:
    """Return the files of the tree that a failed build may have missed, by its output."""
    names = {posixpath.normpath(found).lstrip('./') for found in MISSED.findall(output)}
    if not names:
        return []
    endings = tuple(f'/{name}' for name in names)
    return [path for path in tree.list('') if path.endswith(endings) or path in names]


def only(all_of_it: Layout, paths: set[str]) -> Layout:
    """Leave out all files but `paths`."""
    return Layout(tuple(file for file in all_of_it.files if file[0] in paths), wide=False)


class Memory:
    """The inputs that were learnt, kept in a cache folder."""

    def __init__(self, cache: Path, harness: Harness, base: GitSnapshot, compiler: str) -> None:
        said = hashlib.sha256(repr((FORMAT, harness, compiler)).encode())
        for folder in (*harness.within, harness.dir):
            said.update(f'{folder} {base.entry(folder)}\n'.encode())
        self._path = cache / 'inputs' / f'{said.hexdigest()[:32]}.json'

    def known(self) -> Inputs | None:
        """Return what was learnt, None where nothing was (or it is torn)."""
        try:
            found = json.loads(self._path.read_text())
            paths, read = frozenset(found['paths']), frozenset(found['read'])
            return Inputs(paths, proven=bool(found['proven']), read=read)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def keep(self, inputs: Inputs) -> str | None:
        """Keep what was learnt; why that did not go, None where it did."""
        said = json.dumps(
            {
                'paths': sorted(inputs.paths),
                'read': sorted(inputs.read),
                'proven': inputs.proven,
            }
        )
        return write(self._path, said.encode())


def write(path: Path, content: bytes) -> str | None:
    """Write a file in one step, so that nobody sees half of it; why that did not go."""
    try:
        files.ours(path.parent)
        files.write(path, content, durable=False)  # one that is torn counts as none
    except OSError as error:
        return f'could not be kept in {path.parent}: {error.strerror}'
    return None
