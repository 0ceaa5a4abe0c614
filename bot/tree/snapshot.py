"""A tree of a repository, read only; and the objects that it is made of."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pygit2

from bot.errors import TreeError
from bot.tree.lexicon import Lexicon
from bot.tree.words import identifiers, left_out, near

FOLDER = pygit2.GIT_FILEMODE_TREE
SUBMODULE = pygit2.GIT_FILEMODE_COMMIT
LINK = pygit2.GIT_FILEMODE_LINK
HELD = 128 << 20
"""Bytes of new blobs that are kept in memory; more goes to the quarantine's disk."""

Folder = dict[str, tuple[int, pygit2.Oid]]
"""(mode, object id) by name."""


class GitSnapshot:
    """
    A `Snapshot` of one tree object.

    `ground` is the tree whose words are indexed: this one's base, which lies
    in the repository; without it nothing is known of words.
    """

    def __init__(
        self,
        objects: 'Objects',
        tree: pygit2.Oid,
        ground: pygit2.Oid | None = None,
        lexicon: Lexicon | None = None,
    ) -> None:
        self._objects = objects
        self._ground = ground or tree
        self._lexicon = lexicon
        self._alike: dict[str, tuple[str, ...]] = {}
        self.id = tree

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes (a symlink's target), None where there is no such file."""
        found = self.entry(path)
        if found is None or found[0] in (FOLDER, SUBMODULE):
            return None
        return self._objects.blob(found[1])

    def entry(self, path: str) -> tuple[int, pygit2.Oid] | None:
        """Return (mode, object id) of a file or folder, None where there is neither."""
        at = self.id
        mode: int = FOLDER
        for part in path.split('/') if path else ():
            if mode != FOLDER:
                return None
            found = self._objects.folder(at).get(part)
            if found is None:
                return None
            mode, at = found
        return mode, at

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the paths of all files below `prefix`, sorted."""
        for path, _, _ in self.files(prefix):
            yield path

    def knows(self, word: str) -> bool:
        """
        Whether a C identifier stands anywhere in the tree, or in its base.

        Written `folio_test_##` or `##_locked`: whether a macro there pastes it
        to its argument; written `vm_area_desc{`: whether `struct vm_area_desc {`
        stands there indented, as documents show a struct. True where it can't be
        said: of words that are in no index (`left_out()`), and in a partial clone.
        """
        sought = word.encode('ascii', 'replace')
        if left_out(sought) or sought in self._fresh:
            return True
        words = self._lexicon.of(self._ground) if self._lexicon is not None else None
        return words is None or sought in words

    def near(self, word: str) -> tuple[str, ...]:
        """Return up to five identifiers within two edits of `word`, nearest first."""
        if word not in self._alike:
            sought = word.encode('ascii', 'replace')
            words = self._lexicon.of(self._ground) if self._lexicon is not None else None
            found = near(sought, words, self._fresh)
            self._alike[word] = tuple(one.decode() for one in found)
        return self._alike[word]

    @cached_property
    def _fresh(self) -> set[bytes]:
        """The words of the files that are not as in the base."""
        changed = self._changed(self._ground, self.id)
        return {word for blob in changed for word in self._objects.words(blob)}

    def _changed(self, old: pygit2.Oid | None, new: pygit2.Oid) -> Iterator[pygit2.Oid]:
        """Yield the blobs below the folder `new` that are not as below `old`."""
        if old == new:
            return
        before = self._objects.folder(old) if old is not None else {}
        for name, (mode, oid) in self._objects.folder(new).items():
            there = before.get(name)
            if there is not None and there[1] == oid:
                continue
            if mode == FOLDER:
                yield from self._changed(there[1] if there and there[0] == FOLDER else None, oid)
            elif mode not in (SUBMODULE, LINK):
                yield oid

    def files(self, prefix: str) -> Iterator[tuple[str, int, pygit2.Oid]]:
        """Yield (path, mode, object id) of all files below `prefix`, or of that file."""
        found = self.entry(prefix)
        if found is None:
            return
        if found[0] != FOLDER:
            yield prefix, *found
            return
        yield from self._below(prefix, found[1])

    def _below(self, prefix: str, folder: pygit2.Oid) -> Iterator[tuple[str, int, pygit2.Oid]]:
        for name, (mode, oid) in self._objects.folder(folder).items():
            path = f'{prefix}/{name}' if prefix else name
            if mode == FOLDER:
                yield from self._below(path, oid)
            elif mode != SUBMODULE:
                yield path, mode, oid


class Objects:
    """
    A repository's objects, and new ones that live in memory only.

    Nothing is written for the sake of an id: libgit2 and git touch the file of
    an object that they are asked to write again, and that may be the user's.
    """

    def __init__(self, repo: pygit2.Repository, path: Path, *, partial: bool) -> None:
        self._repo = repo
        self._path = path
        self._partial = partial
        self._folders: dict[pygit2.Oid, Folder] = {}
        self._blobs: dict[pygit2.Oid, bytes] = {}
        self._words: dict[pygit2.Oid, set[bytes]] = {}
        self._held = 0

    def folder(self, oid: pygit2.Oid) -> Folder:
        """Return a tree's entries; none for what is no tree."""
        known = self._folders.get(oid)
        if known is None:
            found = self._get(oid)
            known = (
                {str(entry.name): (int(entry.filemode), entry.id) for entry in found}
                if isinstance(found, pygit2.Tree)
                else {}
            )
            self._folders[oid] = known
        return known

    def blob(self, oid: pygit2.Oid) -> bytes:
        """Return a blob's bytes; none for what is no blob."""
        held = self._blobs.get(oid)
        if held is not None:
            return held
        try:
            kind, content = self._repo.read(oid)  # half the time of looking up an object
        except KeyError as error:
            raise self.missing(str(oid)) from error
        return content if kind == pygit2.enums.ObjectType.BLOB else b''

    def words(self, oid: pygit2.Oid) -> set[bytes]:
        """Return the identifiers of a blob."""
        if oid not in self._words:
            self._words[oid] = identifiers(self.blob(oid))
        return self._words[oid]

    def add_blob(self, content: bytes) -> pygit2.Oid:
        """Keep a blob; its id."""
        oid = _id(b'blob', content)
        if oid not in self._blobs:
            self._held += len(content)
            if self._held <= HELD:
                self._blobs[oid] = content
            elif oid not in self._repo:
                self._repo.write(pygit2.enums.ObjectType.BLOB, content)
        return oid

    def add_folder(self, entries: Folder) -> pygit2.Oid:
        """Keep a tree; its id."""
        # git sorts folders as if their names ended in a slash.
        ordered = sorted(
            (name.encode('utf-8', 'surrogateescape') + b'/' * (mode == FOLDER), mode, oid)
            for name, (mode, oid) in entries.items()
        )
        listed = (b'%o %s\0%s' % (mode, name.rstrip(b'/'), oid.raw) for name, mode, oid in ordered)
        tree = _id(b'tree', b''.join(listed))
        self._folders[tree] = entries
        return tree

    def find(self, abbreviated: str) -> pygit2.Oid | None:
        """Return the repository's only object of a (shortened) id, None where there is none."""
        try:
            return self._repo[abbreviated].id
        except (KeyError, ValueError):
            return None

    def _get(self, oid: pygit2.Oid) -> pygit2.Object:
        try:
            return self._repo[oid]
        except KeyError as error:
            raise self.missing(str(oid)) from error

    def missing(self, oid: str) -> TreeError:
        """Say that an object is not there, and what to do about it."""
        if self._partial:
            mend = f'run: git -C {self._path} fetch --refetch --no-filter'
            return TreeError(f'{self._path} is a partial clone without object {oid[:12]}; {mend}')
        mend = f'run: git -C {self._path} fsck'
        return TreeError(f'{self._path} has no object {oid[:12]}: is it damaged? {mend}')


def _id(kind: bytes, content: bytes) -> pygit2.Oid:
    said = hashlib.sha1(b'%s %d\0' % (kind, len(content)), usedforsecurity=False)
    said.update(content)
    return pygit2.Oid(hex=said.hexdigest())
