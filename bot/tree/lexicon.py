"""
The indexes of the words of trees: made, kept, opened.

The words of a tree are gathered folder by folder (two levels deep), by worker
processes, into shards that are named by git's id of the folder: a new base
reads only the folders that changed. The shards are merged into one file per
tree. Both lie below the cache's `words`; a file is written in one step, one
that is torn or not there is made anew, and several processes may make the same
one at once.
"""

import contextlib
import os
import resource
import selectors
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

import pygit2

from bot import files
from bot.errors import TreeError
from bot.tree.words import Words, cut, left_out, line_of, trailer

FORMAT = 2
DEPTH = 2
MANY = 1 << 18
"""Words after which those that are left out are thrown away, lest they fill the memory."""
FEW = 60
"""Shards that are not worth processes of their own."""
FILES = (pygit2.GIT_FILEMODE_BLOB, pygit2.GIT_FILEMODE_BLOB_EXECUTABLE)
FOLDER = pygit2.GIT_FILEMODE_TREE


class Shard(NamedTuple):
    """The words of a folder, or of the files that lie in one: git's ids of what to read."""

    key: str
    ids: tuple[str, ...]


class Lexicon:
    """
    The indexes of a repository's trees, kept below `cache`.

    Without a cache, or where that can't be written, they are made in `scratch`.
    `tell` hears of what takes long. A `partial` clone has not all that would
    have to be read, and no index.
    """

    def __init__(
        self,
        repository: Path,
        scratch: Path,
        cache: Path | None = None,
        tell: Callable[[str], None] = lambda _: None,
        *,
        partial: bool = False,
    ) -> None:
        self._partial = partial
        self._repository = repository
        self._scratch = scratch
        self._cache = cache
        self._tell = tell
        self._open: dict[str, Words] = {}
        self._names: dict[str, str] = {}

    def name(self, tree: pygit2.Oid, name: str) -> None:
        """Say how a tree is called when it is told of."""
        self._names[str(tree)] = name

    def of(self, tree: pygit2.Oid) -> Words | None:
        """Return the index of a tree that lies in the repository; raises `TreeError`."""
        if self._partial:
            return None
        key = str(tree)
        if key not in self._open:
            self._open[key] = self._kept(key) or self._made(key)
        return self._open[key]

    def close(self) -> None:
        """Let go of all files."""
        while self._open:
            self._open.popitem()[1].close()

    def _kept(self, tree: str) -> Words | None:
        if self._cache is not None:
            with contextlib.suppress(OSError, ValueError):
                return Words(_place(self._cache / 'words', tree, 'words'))
        return None

    def _made(self, tree: str) -> Words:
        def tell() -> None:
            self._tell(f'indexing the words of {self._names.get(tree, tree[:12])}')

        try:
            return Words(build(self._repository, tree, self._folder(), self._scratch, tell))
        except (
            OSError,
            ValueError,
            KeyError,
            subprocess.SubprocessError,
            pygit2.GitError,
        ) as error:
            raise TreeError(f'the words of {tree[:12]} can not be indexed: {error}') from error

    def _folder(self) -> Path:
        if self._cache is not None:
            with contextlib.suppress(OSError):
                folder = self._cache / 'words'
                files.ours(folder)
                if os.access(folder, os.W_OK):
                    return folder
        return self._scratch / 'words'


def build(
    repository: Path,
    tree: str,
    folder: Path,
    scratch: Path,
    tell: Callable[[], None] = lambda: None,
) -> Path:
    """
    Index a tree; the file, in `folder`. What is there of its shards is taken as it is.

    `tell` is called when it takes long.
    """
    shards = list(_shards(pygit2.Repository(str(repository)), tree))
    with tempfile.TemporaryDirectory(dir=scratch, prefix='words-') as temporary:
        parts = [(shard, Path(temporary) / str(number)) for number, shard in enumerate(shards)]
        missing = [shard for shard, part in parts if not _unpack(folder, shard, part)]
        if len(missing) <= FEW:
            for shard in missing:
                _gather(pygit2.Repository(str(repository)), shard, folder)
        else:
            tell()
            _work(repository, missing, folder)
        for shard, part in parts:
            if not part.exists() and not _unpack(folder, shard, part):
                raise ValueError(f'the shard {shard.key} is gone again')
        return _merge([part for _, part in parts], _place(folder, tree, 'words'), Path(temporary))


def _place(folder: Path, key: str, kind: str) -> Path:
    return folder / key[:2] / f'{key}-{FORMAT}.{kind}'


def _shards(repository: pygit2.Repository, tree: str, depth: int = DEPTH) -> Iterator[Shard]:
    own = []
    for entry in repository[tree].peel(pygit2.Tree):
        if entry.filemode in FILES:
            own.append(f'{entry.id}')
        elif entry.filemode == FOLDER and depth == 1:
            yield Shard(f'{entry.id}', (f'{entry.id}',))
        elif entry.filemode == FOLDER:
            yield from _shards(repository, f'{entry.id}', depth - 1)
    if own:
        yield Shard(sha1(' '.join(own).encode(), usedforsecurity=False).hexdigest(), tuple(own))


# --- shards -------------------------------------------------------------------


def _gather(repository: pygit2.Repository, shard: Shard, folder: Path) -> None:
    """Read what a shard is made of, and write it."""
    found: set[bytes] = set()
    most = MANY
    rest = list(shard.ids)
    while rest:
        at = rest.pop()
        kind, content = repository.read(at)
        if kind == pygit2.enums.ObjectType.BLOB:
            found.update(cut(content))
            if len(found) > most:  # registers, mostly
                found = {word for word in found if not left_out(word)}
                most = len(found) + MANY
        elif kind == pygit2.enums.ObjectType.TREE:
            inner = repository[at].peel(pygit2.Tree)
            rest += [str(one.id) for one in inner if one.filemode in (*FILES, FOLDER)]
    path = _place(folder, shard.key, 'shard')
    files.folder(path.parent)
    lines = b''.join(sorted(line_of(word) for word in found if not left_out(word)))
    files.write(path, zlib.compress(lines, 1), durable=False)  # one that is torn counts as none


def _unpack(folder: Path, shard: Shard, part: Path) -> bool:
    """Write a shard's lines to `part`; False where there is no such shard, or a torn one."""
    path = _place(folder, shard.key, 'shard')
    try:
        lines = zlib.decompress(path.read_bytes())
    except (OSError, zlib.error):
        return False
    with contextlib.suppress(OSError):
        path.touch()  # what is used stays longest
    part.write_bytes(lines)
    return True


def _merge(parts: Sequence[Path], path: Path, temporary: Path) -> Path:
    """Make one sorted file of many, each line once."""
    files.folder(path.parent)
    (temporary / 'none').touch()
    sources = [temporary / 'none', *parts]
    at_once = max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 50)
    with files.whole(path) as new:
        subprocess.run(
            ['sort', '-m', '-u', f'--batch-size={min(at_once, len(sources) + 1)}', '-T', temporary,
             '-o', new, '--files0-from=-'],
            input=b'\0'.join(os.fsencode(file) for file in sources),
            env={'LC_ALL': 'C', 'PATH': os.environ.get('PATH', os.defpath)},
            capture_output=True,
            check=True,
        )  # fmt: skip
        with new.open('ab') as file:
            file.write(trailer(file.tell()))
    return path


# --- workers ------------------------------------------------------------------


def _work(repository: Path, shards: Sequence[Shard], folder: Path) -> None:
    """Have shards gathered by a process for each core that is ours."""
    rest = list(reversed(shards))
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        workers = []
        for _ in os.sched_getaffinity(0):
            worker = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, '-P', '-m', 'bot.tree.lexicon', repository, folder],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    bufsize=0,
                )
            )  # fmt: skip
            stack.callback(worker.kill)
            assert worker.stdout is not None
            selector.register(worker.stdout, selectors.EVENT_READ, worker)
            workers.append(worker)
            _hand(worker, rest)
        while selector.get_map():
            for ready, _ in selector.select():
                if os.read(ready.fd, 1):
                    _hand(ready.data, rest)
                else:
                    selector.unregister(ready.fileobj)
        for worker in workers:
            if worker.wait():
                said = worker.stderr.read().decode('utf-8', 'replace') if worker.stderr else ''
                raise ValueError(said.strip().rpartition('\n')[2] or 'a worker was killed')


def _hand(worker: 'subprocess.Popen[bytes]', rest: list[Shard]) -> None:
    """Give a worker its next shard; close its ear where there is none."""
    assert worker.stdin is not None
    if not rest:
        worker.stdin.close()
        return
    shard = rest.pop()
    line = ' '.join((shard.key, *shard.ids)).encode() + b'\n'
    with contextlib.suppress(BrokenPipeError):  # it has died, and its stderr says of what
        while line:
            line = line[worker.stdin.write(line) or 0 :]


def main(repository: str, folder: str) -> None:
    """Gather the shards that are named on stdin, and answer each with a byte."""
    repo = pygit2.Repository(repository)
    for line in sys.stdin:
        key, *ids = line.split()
        _gather(repo, Shard(key, tuple(ids)), Path(folder))
        sys.stdout.write('.')
        sys.stdout.flush()


if __name__ == '__main__':
    main(*sys.argv[1:])
