"""A tree of a repository, read only."""

from collections.abc import Iterator

import pygit2

from bot.errors import TreeError

FOLDER = pygit2.GIT_FILEMODE_TREE
SUBMODULE = pygit2.GIT_FILEMODE_COMMIT
LINK = pygit2.GIT_FILEMODE_LINK


class GitSnapshot:
    """A `Snapshot` of one tree object."""

    def __init__(self, folders: 'Folders', tree: pygit2.Oid) -> None:
        self._folders = folders
        self.id = tree

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes (a symlink's target), None where there is no such file."""
        found = self.entry(path)
        if found is None or found[0] in (FOLDER, SUBMODULE):
            return None
        return self._folders.blob(found[1])

    def entry(self, path: str) -> tuple[int, pygit2.Oid] | None:
        """Return (mode, object id) of a file or folder, None where there is neither."""
        at = self.id
        mode: int = FOLDER
        for part in path.split('/') if path else ():
            if mode != FOLDER:
                return None
            found = self._folders[at].get(part)
            if found is None:
                return None
            mode, at = found
        return mode, at

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the paths of all files below `prefix`, sorted."""
        for path, _, _ in self.files(prefix):
            yield path

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
        for name, (mode, oid) in self._folders[folder].items():
            path = f'{prefix}/{name}' if prefix else name
            if mode == FOLDER:
                yield from self._below(path, oid)
            elif mode != SUBMODULE:
                yield path, mode, oid


class Folders:
    """Tree objects of one repository, each read once: {name: (mode, object id)}."""

    def __init__(self, repo: pygit2.Repository) -> None:
        self.repo = repo
        self._known: dict[pygit2.Oid, dict[str, tuple[int, pygit2.Oid]]] = {}

    def __getitem__(self, tree: pygit2.Oid) -> dict[str, tuple[int, pygit2.Oid]]:
        known = self._known.get(tree)
        if known is None:
            found = self._get(tree)
            known = (
                {str(entry.name): (int(entry.filemode), entry.id) for entry in found}
                if isinstance(found, pygit2.Tree)
                else {}
            )
            self._known[tree] = known
        return known

    def blob(self, oid: pygit2.Oid) -> bytes:
        """Return a blob's bytes; none for anything else."""
        found = self._get(oid)
        return found.data if isinstance(found, pygit2.Blob) else b''

    def _get(self, oid: pygit2.Oid) -> pygit2.Object:
        try:
            return self.repo[oid]
        except KeyError as error:
            raise TreeError(
                f'object {oid} is missing: is this a partial or damaged clone?'
            ) from error
