"""
Every C identifier of a tree, to be looked up in microseconds.

The words of a tree are gathered folder by folder (two levels deep), by worker
processes, into shards that are named by git's id of the folder: a new base
reads only the folders that changed. The shards are merged into one file per
tree, which is mapped into memory. Both lie below the cache's `words`; a file
is written in one step, one that is torn or not there is made anew, and
several processes may make the same one at once.

A line is a character for the word's length, and the word: the lines of one
length lie together and are equally long, so a look-up is a binary search
without line ends, and words like another one are sought among lines of about
its length only. Beside the words stand the fragments that macros paste to their
arguments, as `folio_test_##` and `##_locked`.

Left out, and said to be known: words shorter than three characters or longer
than 93, and names of registers and pins (capitals and digits), of which Linux
7.2 has two and a half million.
"""

import contextlib
import mmap
import os
import re
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

from bot.errors import TreeError
from bot.rule import edits

FORMAT = 1
DEPTH = 2
SHORTEST, LONGEST = 3, 93
MANY = 1 << 18
FEW = 60
"""Shards that are not worth a process of their own."""
MOST, LONG, ALIKE = 2, 12, 5
"""`near()`: edits between words (one in words that are not `LONG`), and how many it returns."""
REGISTER = re.compile(rb'[a-z]{0,3}[A-Z_]*\d[A-Z0-9_]*')
MACRO = re.compile(rb'#[ \t]*define[ \t]+\w+\(([^)]*)\)((?:[^\n\\]|\\\n|\\.)*)')
GLUED = 4
"""Characters that a fragment must have to be the better part of a name."""
FILES = (pygit2.GIT_FILEMODE_BLOB, pygit2.GIT_FILEMODE_BLOB_EXECUTABLE)
FOLDER = pygit2.GIT_FILEMODE_TREE
APART = bytes(code if chr(code) in '_' or bytes([code]).isalnum() else 32 for code in range(256))
"""All that is no part of an identifier becomes a space."""


class Shard(NamedTuple):
    """The words of a folder, or of the files that lie in one: git's ids of what to read."""

    key: str
    ids: tuple[str, ...]


def identifiers(text: bytes) -> set[bytes]:
    """Return the words of a text that are looked up, and fragments; none where it is no text."""
    return {word for word in set(_cut(text)) if not left_out(word)}


def _cut(text: bytes) -> list[bytes]:
    if b'\0' in text[:8000]:
        return []
    cut = text.translate(APART).split()
    return [*cut, *_fragments(text)] if b'##' in text else cut


def _fragments(text: bytes) -> Iterator[bytes]:
    """Yield what macros paste to their arguments: `folio_test_##`, `##_locked`."""
    for macro in MACRO.finditer(text):
        arguments = {word.strip() for word in macro[1].split(b',')}
        for before in re.findall(rb'(\w+)[ \t]*(?=##)', macro[2]):
            if len(before) >= GLUED and before not in arguments:
                yield before + b'##'
        for behind in re.findall(rb'##[ \t]*(\w+)', macro[2]):
            if len(behind) >= GLUED and behind not in arguments:
                yield b'##' + behind


def left_out(word: bytes) -> bool:
    """Whether a word is in no index."""
    if not SHORTEST <= len(word) <= LONGEST or 0x30 <= word[0] <= 0x39:
        return True
    return not word.islower() and REGISTER.fullmatch(word) is not None


def near(word: bytes, words: 'Words | None', others: set[bytes]) -> list[bytes]:
    """
    Return up to five words of an index, and of `others`, that are like `word`; nearest first.

    Two edits leave one of a word's three parts as it was (but for letters
    swapped across their borders). In less than 12 characters one edit is all:
    there are too many words around a short one.
    """
    if len(word) < 2 * SHORTEST:
        return []
    parts = [part for _, part in _thirds(word)]
    found = set(words.like(word)) if words is not None else set()
    found |= {
        other
        for other in others
        if abs(len(other) - len(word)) <= MOST and any(part in other for part in parts)
    }
    most = MOST if len(word) >= LONG else 1
    named = [other for other in found if b'#' not in other]
    measured = sorted((edits(word.decode(), other.decode(), most), other) for other in named)
    return [other for distance, other in measured if 0 < distance <= most][:ALIKE]


def _thirds(word: bytes) -> list[tuple[int, bytes]]:
    """Cut a word into three; where each begins, and what it is."""
    third = len(word) // 3
    end = len(word) - third
    return [(0, word[:third]), (third, word[third:end]), (end, word[end:])]


class Words:
    """The index of one tree. Raises `ValueError` where the file is torn."""

    def __init__(self, path: Path) -> None:
        with path.open('rb') as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._end = self._map.rfind(b'~')
        if self._end < 0 or self._map[self._end :] != _trailer(self._end):
            self._map.close()
            raise ValueError(f'{path}: torn')
        path.touch()  # what is used stays longest

    def __contains__(self, word: bytes) -> bool:
        line = _line(word)
        at = self._first(line, *self._section(len(word)))
        return self._map[at : at + len(line)] == line

    def like(self, word: bytes) -> Iterator[bytes]:
        """Yield words that have a third of `word` where it has it, give or take two."""
        for length in range(len(word) - MOST, len(word) + MOST + 1):
            start, end = self._section(length)
            for place, part in _thirds(word):
                at = self._map.find(part, start, end)
                while at >= 0:
                    line, column = divmod(at - start, length + 2)
                    if abs(column - 1 - place) <= MOST:
                        first = start + line * (length + 2) + 1
                        yield self._map[first : first + length]
                    at = self._map.find(part, at + 1, end)

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()

    def _section(self, length: int) -> tuple[int, int]:
        """Return where the words of a length begin and end."""
        if not SHORTEST <= length <= LONGEST:
            return 0, 0
        return self._start(length), self._start(length + 1)

    def _start(self, length: int) -> int:
        """Return where the first line of at least a length is."""
        mark = _mark(length)
        low, high = 0, self._end
        while low < high:
            at = self._map.rfind(b'\n', low, (low + high) // 2) + 1 or low
            if self._map[at : at + 1] < mark:
                low = self._map.find(b'\n', at) + 1
            else:
                high = at
        return low

    def _first(self, line: bytes, start: int, end: int) -> int:
        """Return where, in its section, a line is or would be."""
        low, high = 0, (end - start) // len(line)
        while low < high:
            middle = (low + high) // 2
            at = start + middle * len(line)
            if self._map[at : at + len(line)] < line:
                low = middle + 1
            else:
                high = middle
        return start + low * len(line)


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
        self._tell(f'indexing the words of {self._names.get(tree, tree[:12])}')
        try:
            return Words(build(self._repository, tree, self._folder(), self._scratch))
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
                folder.mkdir(parents=True, exist_ok=True)
                if os.access(folder, os.W_OK):
                    return folder
        return self._scratch / 'words'


def build(repository: Path, tree: str, folder: Path, scratch: Path) -> Path:
    """Index a tree; the file, in `folder`. What is there of its shards is taken as it is."""
    shards = list(_shards(pygit2.Repository(str(repository)), tree))
    with tempfile.TemporaryDirectory(dir=scratch, prefix='words-') as temporary:
        parts = [(shard, Path(temporary) / str(number)) for number, shard in enumerate(shards)]
        missing = [shard for shard, part in parts if not _unpack(folder, shard, part)]
        if len(missing) <= FEW:
            for shard in missing:
                _gather(pygit2.Repository(str(repository)), shard, folder)
        else:
            _work(repository, missing, folder)
        for shard, part in parts:
            if not part.exists() and not _unpack(folder, shard, part):
                raise ValueError(f'the shard {shard.key} is gone again')
        return _merge([part for _, part in parts], _place(folder, tree, 'words'), Path(temporary))


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


def _place(folder: Path, key: str, kind: str) -> Path:
    return folder / key[:2] / f'{key}-{FORMAT}.{kind}'


def _mark(length: int) -> bytes:
    """Return the character that stands for a word's length."""
    return bytes([32 + length])


def _line(word: bytes) -> bytes:
    return _mark(len(word)) + word + b'\n'


def _trailer(size: int) -> bytes:
    return b'~%d\n' % size


# --- shards -------------------------------------------------------------------


def _gather(repository: pygit2.Repository, shard: Shard, folder: Path) -> None:
    """Read what a shard is made of, and write it."""
    found: set[bytes] = set()
    most = MANY
    rest = list(shard.ids)
    while rest:
        read = repository[rest.pop()]
        if isinstance(read, pygit2.Blob):
            found.update(_cut(read.data))
            if len(found) > most:  # registers, mostly
                found = {word for word in found if not left_out(word)}
                most = len(found) + MANY
        elif isinstance(read, pygit2.Tree):
            rest += [str(one.id) for one in read if one.filemode in (*FILES, FOLDER)]
    path = _place(folder, shard.key, 'shard')
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = b''.join(sorted(_line(word) for word in found if not left_out(word)))
    with _new(path) as temporary:
        temporary.write_bytes(zlib.compress(lines, 1))


def _unpack(folder: Path, shard: Shard, part: Path) -> bool:
    """Write a shard's lines to `part`; False where there is no such shard, or a torn one."""
    path = _place(folder, shard.key, 'shard')
    try:
        lines = zlib.decompress(path.read_bytes())
        path.touch()
    except (OSError, zlib.error):
        return False
    part.write_bytes(lines)
    return True


def _merge(parts: Sequence[Path], path: Path, temporary: Path) -> Path:
    """Make one sorted file of many, each line once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    at_once = max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 50)
    with _new(path) as new:
        subprocess.run(
            ['sort', '-m', '-u', f'--batch-size={min(at_once, len(parts) + 2)}', '-T', temporary,
             '-o', new, '--files0-from=-'],
            input=b'\0'.join(os.fsencode(part) for part in parts),
            env={'LC_ALL': 'C', 'PATH': os.environ.get('PATH', os.defpath)},
            capture_output=True,
            check=True,
        )  # fmt: skip
        with new.open('ab') as file:
            file.write(_trailer(file.tell()))
    return path


@contextlib.contextmanager
def _new(path: Path) -> Iterator[Path]:
    """Give a name to write to; what is written there gets its own name in one step."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix='.new-')
    os.close(handle)
    try:
        yield Path(name)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


# --- workers ------------------------------------------------------------------


def _work(repository: Path, shards: Sequence[Shard], folder: Path) -> None:
    """Have shards gathered by a process for each core that is ours."""
    rest = list(reversed(shards))
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        workers = []
        for _ in os.sched_getaffinity(0):
            worker = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, '-P', '-m', 'bot.tree.words', repository, folder],
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
