"""The quarantine: a repository of our own that borrows the user's objects."""

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pygit2

from bot import patch as patching
from bot.errors import PatchError, TreeError
from bot.model import AppliedSeries, Base, DoesNotApply, FileDiff, How, Patch, Series, Step
from bot.scratch import scratch
from bot.tree import refusal
from bot.tree.fallback import Changes, Patience, apply_by_git, is_there, merge_by_git
from bot.tree.hunks import hunks_of
from bot.tree.lexicon import Lexicon
from bot.tree.snapshot import FOLDER, LINK, SUBMODULE, GitSnapshot, Objects
from bot.tree.source import Source

FULL = re.compile(r'[0-9a-f]{40}')
GIT_LINE = re.compile(rb'^diff --git (.*)$', re.M)
DEEPEST = 100
"""Folders in a path. Linux 7.3 has ten at most."""


class Quarantine:
    """
    A temporary bare repository that borrows a user's objects; use as a context.

    The index of its words is kept below `cache`; `tell` hears when one is made.
    `besides` are further folders of objects, as git's own quarantine of a push.
    Raises `TreeError` where `path` holds no repository that can be read.
    """

    def __init__(
        self,
        path: Path,
        cache: Path | None = None,
        tell: Callable[[str], None] = lambda _: None,
        besides: Sequence[Path] = (),
    ) -> None:
        self._besides = tuple(besides)
        self.source = Source(path)
        self.path = path
        self._cache = cache
        self._tell = tell
        self._ground: pygit2.Oid | None = None
        self._patience = Patience()

    def __enter__(self) -> 'Quarantine':
        self._scratch = contextlib.ExitStack()
        self.dir = self._scratch.enter_context(scratch())
        pygit2.init_repository(str(self.dir / 'git'), bare=True).free()
        self._borrow(self.dir / 'git')
        self.repo = pygit2.Repository(str(self.dir / 'git'))
        self._objects = Objects(self.repo, self.path, partial=self.source.partial)
        self._lexicon = Lexicon(
            self.dir / 'git', self.dir, self._cache, self._tell, partial=self.source.partial
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._lexicon.close()
        self.repo.free()
        self._scratch.close()

    def resolve(self, ref: str) -> str:
        """Return the id of the commit that `ref` names in the user's repository (`TreeError`)."""
        found = self.commit(ref)
        if found is None:
            raise TreeError(f'no commit {ref!r} in {self.path}: name one with --base')
        return found

    def commit(self, ref: str) -> str | None:
        """Return the same, None where there is none. An id may be of objects beside the user's."""
        if FULL.fullmatch(ref) and ref in self.repo:
            return str(self.repo[ref].peel(pygit2.Commit).id)
        return self.source.resolve(ref)

    def at(self, commit: str) -> GitSnapshot:
        """Return a view of a commit's tree."""
        tree = self._tree_of(commit)
        self._lexicon.name(tree, commit[:12])
        return self.snapshot(tree, tree)

    def snapshot(self, tree: pygit2.Oid, ground: pygit2.Oid | None = None) -> GitSnapshot:
        """
        Return a view of a tree.

        `ground` is the one whose words are indexed for it, else the first that
        was asked for without: the others are made from that.
        """
        if ground is None:
            ground = self._ground = self._ground or tree
        return GitSnapshot(self._objects, tree, ground, self._lexicon)

    def blob(self, name: str) -> bytes | None:
        """Return the bytes of a blob by its id, None where there is none."""
        try:
            found = self.repo.get(name)
        except ValueError:
            return None
        return found.data if isinstance(found, pygit2.Blob) else None

    def apply(
        self, series: Series, base: Base, on_top: Sequence[Patch] = ()
    ) -> AppliedSeries | DoesNotApply:
        """
        Apply every patch in order, none of them to the user's repository.

        `on_top` are prerequisites: they go onto the base first, and are no
        steps of the result.
        """
        before = ground = self._tree_of(base.commit)
        self._lexicon.name(ground, base.ref)
        for patch in on_top:
            try:
                after = self._apply(before, patch)[0]
            except PatchError as error:
                return DoesNotApply(
                    series,
                    base,
                    0,
                    f'prerequisite "{patch.subject}": {refusal.in_words(error, patch)}',
                    error.path,
                )
            if after != before:  # what the base has already is no prerequisite
                base = replace(base, on_top=(*base.on_top, patch.subject))
            before = after
        steps: list[Step] = []
        for patch in series.patches:
            try:
                tree, how, files = self._apply(before, patch)
            except PatchError as error:
                there = self._is_there(before, patch)
                said = refusal.in_words(error, patch)
                reason = f'{base.ref} has it already' if there else said
                return DoesNotApply(
                    series, base, patch.n, reason, error.path, tuple(steps), there=there
                )
            if tree == before:
                # git's 3-way merge makes nothing of a patch that is there: that is not applied.
                reason = f'{base.ref} has it already: patch {patch.n} changes nothing'
                return DoesNotApply(series, base, patch.n, reason, steps=tuple(steps), there=True)
            pre, post = self.snapshot(before, ground), self.snapshot(tree, ground)
            steps.append(Step(patch.n, pre, post, files, str(tree), how))
            before = tree
        return AppliedSeries(series, base, tuple(steps), self.snapshot(ground, ground))

    def worktree(self, refs: Mapping[str, str]) -> Path:
        """Return an empty work tree of a repository of ours that has `refs` (for b4's guess)."""
        folder = self.dir / 'worktree'
        repo = pygit2.init_repository(str(folder))
        self._borrow(folder / '.git')
        repo.free()
        repo = pygit2.Repository(str(folder))
        for name, commit in refs.items():
            repo.references.create(f'refs/heads/{name}', commit, force=True)
            repo.set_head(f'refs/heads/{name}')
        repo.free()
        return folder

    def resolve_guess(self, ref: str) -> str | None:
        """Return the commit that `ref` names in the repository that `worktree()` made."""
        repo = pygit2.Repository(str(self.dir / 'worktree'))
        try:
            return str(repo.revparse_single(ref).peel(pygit2.Commit).id)
        except (KeyError, ValueError, pygit2.GitError):
            return None
        finally:
            repo.free()

    @property
    def objects(self) -> Objects:
        """The objects that are read and made here."""
        return self._objects

    def difference(self, old: pygit2.Oid, new: pygit2.Oid) -> tuple[FileDiff, ...]:
        """Return what differs between two trees, of which only one needs to be the user's."""
        before, after = self.snapshot(old), self.snapshot(new)
        changes: Changes = {}
        for path in sorted({*_different(self._objects, '', old, new)}):
            entry = after.entry(path)
            if entry is None or entry[0] == FOLDER:
                changes[path] = None
            elif entry[0] == SUBMODULE:
                changes[path] = (SUBMODULE, str(entry[1]).encode())
            else:
                changes[path] = (entry[0], self._objects.blob(entry[1]))
        return tuple(_file_diff(path, before, change) for path, change in changes.items())

    def merge_lines(self, ours: bytes, base: bytes, theirs: bytes) -> bytes:
        """Merge a file that both sides changed; where they conflict it is `ours`."""
        return merge_by_git(self.dir, ours, base, theirs, self._patience)

    def _tree_of(self, commit: str) -> pygit2.Oid:
        try:
            return self.repo[commit].peel(pygit2.Tree).id
        except KeyError as error:
            raise self._objects.missing(commit) from error

    # --- one patch ---

    def _is_there(self, before: pygit2.Oid, patch: Patch) -> bool:
        """Whether the tree has what a patch makes, though nothing says so when it is applied."""
        snapshot = self.snapshot(before)
        try:
            return is_there(self.dir, snapshot, self._objects, patch.diff, self._patience)
        except PatchError:
            return False

    def _apply(
        self, before: pygit2.Oid, patch: Patch
    ) -> tuple[pygit2.Oid, How, tuple[FileDiff, ...]]:
        try:
            return self._applied(before, patch.diff)
        except PatchError:
            if not patch.converted:
                raise
            # The mail's bytes come first, as for git am; what b4 makes of them is in UTF-8.
            with contextlib.suppress(PatchError):
                return self._applied(before, patch.converted)
            raise

    def _applied(
        self, before: pygit2.Oid, diff: bytes
    ) -> tuple[pygit2.Oid, How, tuple[FileDiff, ...]]:
        declined: PatchError | None = None
        snapshot = self.snapshot(before)
        if _has_no_prefix(snapshot, diff):
            raise PatchError(refusal.NO_PREFIX, line=1)
        try:
            return self._in_memory(before, patching.parse(diff))
        except PatchError as error:
            declined = error
        # git has the last word, also when it refuses.
        result = apply_by_git(self.dir, snapshot, self._objects, diff, declined, self._patience)
        began = time.monotonic()
        files = tuple(
            _file_diff(path, snapshot, change) for path, change in sorted(result.changes.items())
        )
        self._patience.used += time.monotonic() - began
        return self._write(before, result.changes), result.how, files

    def _in_memory(
        self, before: pygit2.Oid, files: tuple[FileDiff, ...]
    ) -> tuple[pygit2.Oid, How, tuple[FileDiff, ...]]:
        """Apply without git; raises `PatchError` where git must judge."""
        snapshot = self.snapshot(before)
        changes: Changes = {}
        done: list[FileDiff] = []
        exact = True
        for diff in files:
            if diff.declined is not None:
                raise PatchError(diff.declined, diff.path)
            mode, content = _pre_image(snapshot, diff)
            try:
                placed = patching.place(content, diff.hunks)
            except PatchError as error:
                said = f'{diff.path}: {error}'
                raise PatchError(said, diff.path, error.line, error.at) from error
            exact = exact and placed.exact
            if diff.old_path != diff.new_path and diff.new_path and snapshot.entry(diff.new_path):
                raise PatchError(f'{diff.new_path}: is there already', diff.new_path)
            if diff.old_path is not None and diff.old_path != diff.new_path:
                changes[diff.old_path] = None
            if diff.new_path is not None:
                changes[diff.new_path] = (diff.new_mode or mode, placed.content)
            elif placed.content:
                raise PatchError(f'{diff.path}: deleted, but not emptied', diff.path)
            done.append(replace(diff, hunks=placed.hunks))
        _check_new_paths(snapshot, changes)
        tree = self._write(before, changes)
        return tree, 'exact' if exact else 'offset', tuple(done)

    def _write(self, tree: pygit2.Oid | None, changes: Changes) -> pygit2.Oid:
        for path in changes:
            if path.count('/') > DEEPEST:
                raise PatchError(f'a path of more than {DEEPEST} folders')
        entries = dict(self._objects.folder(tree)) if tree is not None else {}
        below: dict[str, Changes] = {}
        here: list[tuple[str, tuple[int, bytes]]] = []
        for path, change in changes.items():
            first, slash, rest = path.partition('/')
            if slash:
                below.setdefault(first, {})[rest] = change
            elif change is not None:
                here.append((first, change))
            elif first in entries and entries[first][0] != FOLDER:
                del entries[first]
        # What goes from a folder goes before a file takes its name, and a file before a folder.
        for name, inner in below.items():
            old = entries.get(name)
            new = self._write(old[1] if old and old[0] == FOLDER else None, inner)
            if self._objects.folder(new):
                entries[name] = (FOLDER, new)
            elif old is None or old[0] == FOLDER:
                entries.pop(name, None)
        for name, (mode, content) in here:
            submodule = mode == SUBMODULE
            oid = pygit2.Oid(hex=content.decode()) if submodule else self._objects.add_blob(content)
            entries[name] = (mode, oid)
        return self._objects.add_folder(entries)

    def _borrow(self, gitdir: Path) -> None:
        """Let a repository of ours read the user's objects."""
        objects = [self.source.common / 'objects', *self._besides]
        for one in objects:
            if '\n' in str(one):
                raise TreeError(f'{one}: a path with a line break')
        info = gitdir / 'objects' / 'info'
        info.mkdir(parents=True, exist_ok=True)
        (info / 'alternates').write_text(''.join(f'{one}\n' for one in objects))
        shallow = self.source.common / 'shallow'
        if shallow.exists():
            shutil.copyfile(shallow, gitdir / 'shallow')


def _different(
    objects: Objects, prefix: str, old: pygit2.Oid | None, new: pygit2.Oid | None
) -> Iterator[str]:
    """Yield the paths of files that are not the same below two folders."""
    before, after = (objects.folder(one) if one is not None else {} for one in (old, new))
    for name in {**before, **after}:
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        path = f'{prefix}{name}'
        below = [one[1] if one is not None and one[0] == FOLDER else None for one in (was, now)]
        if below != [None, None]:
            yield from _different(objects, f'{path}/', *below)
        if any(one is not None and one[0] != FOLDER for one in (was, now)):
            yield path


def _has_no_prefix(snapshot: GitSnapshot, diff: bytes) -> bool:
    """
    Whether a diff names its files without a/ and b/, and the tree has them as they are named.

    Without its first folder a name means another file, which git takes, or makes.
    """
    named = GIT_LINE.findall(diff)
    names = [one[: len(one) // 2] for one in named]
    if not names or any(one != two + b' ' + two for one, two in zip(named, names, strict=True)):
        return False
    paths = [name.decode('utf-8', 'surrogateescape') for name in names]
    if any(snapshot.entry(path.partition('/')[2]) is not None for path in paths):
        return False
    return any(_place(snapshot, path) for path in paths)


def _place(snapshot: GitSnapshot, path: str) -> bool:
    """Whether a tree has a file, or the folder that a new one is for."""
    folder = path.rpartition('/')[0]
    return snapshot.entry(path) is not None or bool(folder and snapshot.entry(folder))


def _pre_image(snapshot: GitSnapshot, diff: FileDiff) -> tuple[int, bytes]:
    """Return mode and bytes that the diff starts from; `PatchError` where git must judge."""
    if diff.old_path is None:
        return diff.new_mode or 0o100644, b''
    found = snapshot.entry(diff.old_path)
    content = snapshot.read(diff.old_path)
    if found is None or content is None:
        raise PatchError(f'{diff.old_path}: no such file', diff.old_path)
    if diff.old_mode is not None and diff.old_mode != found[0]:
        raise PatchError(f'{diff.old_path}: has mode {found[0]:o}', diff.old_path)
    only_moved = not diff.hunks and diff.new_mode is None
    if not only_moved and (found[0] == LINK) != (LINK in (diff.old_mode, diff.new_mode)):
        raise PatchError(f'{diff.old_path}: has mode {found[0]:o}', diff.old_path)
    return found[0], content


def _check_new_paths(snapshot: GitSnapshot, changes: Changes) -> None:
    """Refuse what git would: a new file where something is, or below something that is a file."""
    written = {path for path, change in changes.items() if change is not None}
    for path in written:
        there = snapshot.entry(path)
        if there is not None and there[0] == FOLDER:
            raise PatchError(f'{path}: a folder is there', path)
        parts = path.split('/')
        for depth in range(1, len(parts)):
            above = '/'.join(parts[:depth])
            found = snapshot.entry(above)
            if above in changes or (found is not None and found[0] != FOLDER):
                raise PatchError(f'{path}: {above} is a file', path)


def _file_diff(path: str, before: GitSnapshot, change: tuple[int, bytes] | None) -> FileDiff:
    """What git changed in one file, read back from the contents."""
    entry = before.entry(path)
    if entry is not None and entry[0] == FOLDER:
        entry = None  # a file takes its name
    old = _content(before, path, entry) if entry is not None else None
    new = _shown(*change) if change is not None else None
    patch = pygit2.Patch.create_from(old, new, context_lines=3)
    return FileDiff(
        path if old is not None else None,
        path if new is not None else None,
        old_mode=entry[0] if entry is not None else None,
        new_mode=change[0] if change is not None else None,
        hunks=hunks_of(patch),
    )


def _content(snapshot: GitSnapshot, path: str, entry: tuple[int, pygit2.Oid]) -> bytes:
    if entry[0] == SUBMODULE:
        return _shown(SUBMODULE, str(entry[1]).encode())
    return snapshot.read(path) or b''


def _shown(mode: int, content: bytes) -> bytes:
    """Return what a diff shows of a file: of a submodule the commit, as git does."""
    return b'Subproject commit %s\n' % content if mode == SUBMODULE else content
