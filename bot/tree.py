"""
Git objects in, git objects out, and never a change to the user's repository.

Answers: what a base's tree holds, and which tree each patch of a series leads
to. Everything is written to a quarantine: a temporary bare repository that
borrows the user's objects. Most patches are applied in memory (`patch.py`),
writing only the touched folders; what that declines goes to git, which has the
last word: `git apply --cached`, then the same with `--3way`.
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pygit2

from bot import patch as patching
from bot.errors import PatchError, TreeError
from bot.model import AppliedSeries, Base, DoesNotApply, FileDiff, How, Hunk, Patch, Series, Step

PREFIX = 'vma-review-bot-'
FOLDER = pygit2.GIT_FILEMODE_TREE
SUBMODULE = pygit2.GIT_FILEMODE_COMMIT
LINK = pygit2.GIT_FILEMODE_LINK
# git's stderr of a failed apply: `error: patch failed: PATH:LINE`, `error: PATH: reason`.
FAILED_AT = re.compile(r'^error: patch failed: (.*):(\d+)$', re.M)
GIT_ERROR = re.compile(r'^(?:error|fatal): (.*)$', re.M)


class GitSnapshot:
    """A `Snapshot` of one tree object."""

    def __init__(self, folders: '_Folders', tree: pygit2.Oid) -> None:
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


class _Folders:
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
        found = self._get(oid)
        return found.data if isinstance(found, pygit2.Blob) else b''

    def _get(self, oid: pygit2.Oid) -> pygit2.Object:
        try:
            return self.repo[oid]
        except KeyError as error:
            raise TreeError(
                f'object {oid} is missing: is this a partial or damaged clone?'
            ) from error


class Quarantine:
    """
    A temporary bare repository that borrows a user's objects; use as a context.

    Raises `TreeError` where `path` holds no repository that can be read.
    Left-overs of killed processes are removed at the next start.
    """

    def __init__(self, path: Path) -> None:
        self.source = _open(path)
        self.path = path

    def __enter__(self) -> 'Quarantine':
        _sweep(Path(tempfile.gettempdir()))
        self.dir = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = os.open(self.dir, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.repo = pygit2.init_repository(str(self.dir / 'git'), bare=True)
        self._alternates()
        (self.dir / 'cwd').mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        self.repo.free()
        shutil.rmtree(self.dir, ignore_errors=True)
        os.close(self._lock)

    def resolve(self, ref: str) -> pygit2.Commit:
        """Return the commit that `ref` names in the user's repository (`TreeError` if none)."""
        try:
            found = self.source.revparse_single(ref).peel(pygit2.Commit)
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise TreeError(f'no commit {ref!r} in {self.path}: name one with --base') from error
        return found

    def snapshot(self, tree: pygit2.Oid) -> GitSnapshot:
        """Return a view of a tree."""
        return GitSnapshot(self._folders, tree)

    def apply(self, series: Series, base: Base) -> AppliedSeries | DoesNotApply:
        """Apply every patch in order, none of them to the user's repository."""
        before = self.repo[base.commit].peel(pygit2.Tree).id
        steps: list[Step] = []
        for patch in series.patches:
            try:
                tree, how, files = self._apply(before, patch)
            except PatchError as error:
                return DoesNotApply(
                    series, base, patch.n, str(error), error.path, error.line, tuple(steps)
                )
            pre, post = self.snapshot(before), self.snapshot(tree)
            steps.append(Step(patch.n, pre, post, files, str(tree), how))
            before = tree
        return AppliedSeries(series, base, tuple(steps))

    # --- one patch ---

    def _apply(
        self, before: pygit2.Oid, patch: Patch
    ) -> tuple[pygit2.Oid, How, tuple[FileDiff, ...]]:
        declined: PatchError | None = None
        try:
            return self._in_memory(before, patching.parse(patch.diff))
        except PatchError as error:
            declined = error
        tree, how = self._by_git(before, patch, declined)
        return tree, how, self._diff(before, tree)

    def _in_memory(
        self, before: pygit2.Oid, files: tuple[FileDiff, ...]
    ) -> tuple[pygit2.Oid, How, tuple[FileDiff, ...]]:
        """Apply without git; raises `PatchError` where git must judge."""
        snapshot = self.snapshot(before)
        changes: dict[str, tuple[int, bytes] | None] = {}
        done: list[FileDiff] = []
        exact = True
        for diff in files:
            if diff.declined is not None:
                raise PatchError(diff.declined, diff.path)
            mode, content = _pre_image(snapshot, diff)
            try:
                placed = patching.place(content, diff.hunks)
            except PatchError as error:
                raise PatchError(f'{diff.path}: {error}', diff.path, error.line) from error
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

    def _write(
        self, tree: pygit2.Oid | None, changes: dict[str, tuple[int, bytes] | None]
    ) -> pygit2.Oid:
        builder = self.repo.TreeBuilder(tree) if tree is not None else self.repo.TreeBuilder()
        known = self._folders[tree] if tree is not None else {}
        below: dict[str, dict[str, tuple[int, bytes] | None]] = {}
        for path, change in changes.items():
            first, slash, rest = path.partition('/')
            if slash:
                below.setdefault(first, {})[rest] = change
            elif change is None:
                builder.remove(first)
            else:
                builder.insert(first, self.repo.create_blob(change[1]), change[0])
        for name, inner in below.items():
            old = known.get(name)
            new = self._write(old[1] if old and old[0] == FOLDER else None, inner)
            if self._folders[new]:
                builder.insert(name, new, FOLDER)
            elif old is not None:
                builder.remove(name)
        return builder.write()

    def _by_git(
        self, before: pygit2.Oid, patch: Patch, declined: PatchError
    ) -> tuple[pygit2.Oid, How]:
        index = self.dir / 'index'
        plain: subprocess.CompletedProcess[bytes] | None = None
        for words in ((), ('--3way',)):
            index.unlink(missing_ok=True)
            self._git('read-tree', str(before), index=index, check=True)
            result = self._git(
                *('apply', '-v', '--cached', '--whitespace=nowarn', *words, '-'),
                index=index,
                stdin=patch.diff,
            )
            if result.returncode == 0:
                placed: How = 'offset' if b'(offset ' in result.stderr else 'exact'
                written = self._git('write-tree', index=index, check=True)
                return pygit2.Oid(hex=written.stdout.decode().strip()), '3way' if words else placed
            plain = plain or result
        assert plain is not None
        raise _refusal(plain.stderr.decode('utf-8', 'replace'), declined)

    def _git(
        self, *words: str, index: Path, stdin: bytes = b'', check: bool = False
    ) -> subprocess.CompletedProcess[bytes]:
        """Run git on the quarantine, with none of the user's settings."""
        result = subprocess.run(
            ['git', '-c', 'core.hooksPath=/dev/null', *words],
            input=stdin,
            capture_output=True,
            cwd=self.dir / 'cwd',
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith('GIT_')},
                'GIT_DIR': str(self.dir / 'git'),
                'GIT_INDEX_FILE': str(index),
                'GIT_CONFIG_GLOBAL': os.devnull,
                'GIT_CONFIG_NOSYSTEM': '1',
                'GIT_ATTR_NOSYSTEM': '1',
                'GIT_TERMINAL_PROMPT': '0',
                'LC_ALL': 'C',
                'HOME': str(self.dir / 'cwd'),
                'XDG_CONFIG_HOME': str(self.dir / 'cwd'),
            },
            check=False,
        )
        if check and result.returncode:
            reason = result.stderr.decode('utf-8', 'replace').strip().splitlines()
            raise TreeError(f'git {words[0]} failed in the quarantine: {reason[-1:] or result}')
        return result

    def _diff(self, before: pygit2.Oid, after: pygit2.Oid) -> tuple[FileDiff, ...]:
        """What git changed, read back from the trees."""
        delta = (
            self.repo[before]
            .peel(pygit2.Tree)
            .diff_to_tree(self.repo[after].peel(pygit2.Tree), context_lines=3)
        )
        delta.find_similar()
        return tuple(_file_diff(patch) for patch in delta if patch is not None)

    def _alternates(self) -> None:
        common = _common_dir(Path(self.source.path))
        objects = common / 'objects'
        if '\n' in str(objects):
            raise TreeError(f'{objects}: a path with a line break')
        info = self.dir / 'git' / 'objects' / 'info'
        info.mkdir(parents=True, exist_ok=True)
        (info / 'alternates').write_text(f'{objects}\n')
        shallow = common / 'shallow'
        if shallow.exists():
            shutil.copyfile(shallow, self.dir / 'git' / 'shallow')
        # Opened anew: alternates are read when the object database is.
        self.repo = pygit2.Repository(str(self.dir / 'git'))
        self._folders = _Folders(self.repo)


def _open(path: Path) -> pygit2.Repository:
    # Objects are read through alternates only, so whose the repository is does not matter.
    pygit2.option(pygit2.enums.Option.SET_OWNER_VALIDATION, False)
    found = pygit2.discover_repository(str(path), False, '/') if path.exists() else None
    if found is None:
        raise TreeError(f'{path} is no git repository: name a kernel tree with --tree')
    try:
        return pygit2.Repository(found)
    except pygit2.GitError as error:
        raise TreeError(f'{path}: libgit2 can not read this repository: {error}') from error


def _common_dir(gitdir: Path) -> Path:
    """A worktree's objects lie with its main repository, which `commondir` names."""
    pointer = gitdir / 'commondir'
    return (
        (gitdir / pointer.read_text().strip()).resolve() if pointer.exists() else gitdir.resolve()
    )


def _sweep(folder: Path) -> None:
    """Remove the quarantines of processes that were killed: nobody holds their lock."""
    for stale in folder.glob(f'{PREFIX}*'):
        with contextlib.suppress(OSError):
            if stale.stat().st_uid != os.geteuid() or stale.is_symlink():
                continue
            handle = os.open(stale, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(stale, ignore_errors=True)
            finally:
                os.close(handle)


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
    if (found[0] == LINK) != (LINK in (diff.old_mode, diff.new_mode)):
        raise PatchError(f'{diff.old_path}: has mode {found[0]:o}', diff.old_path)
    return found[0], content


def _check_new_paths(snapshot: GitSnapshot, changes: dict[str, tuple[int, bytes] | None]) -> None:
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


def _refusal(stderr: str, declined: PatchError) -> PatchError:
    """Say why git refused: our own words where we know the hunk, else git's."""
    if declined.path is not None and declined.line is not None:
        return declined
    at = FAILED_AT.search(stderr)
    errors = [text for text in GIT_ERROR.findall(stderr) if not text.startswith('patch failed')]
    reason = errors[0] if errors else 'git refuses it without a reason'
    if at is not None:
        return PatchError(f'{at[1]}: the hunk at line {at[2]} does not match', at[1])
    return PatchError(reason[:300], declined.path)


def _file_diff(patch: pygit2.Patch) -> FileDiff:
    delta = patch.delta
    created = delta.status == pygit2.enums.DeltaStatus.ADDED
    deleted = delta.status == pygit2.enums.DeltaStatus.DELETED
    hunks = tuple(
        Hunk(
            hunk.old_start,
            hunk.old_lines,
            hunk.new_start,
            hunk.new_lines,
            tuple(
                line.origin.encode() + line.raw_content
                for line in hunk.lines
                if line.origin in ' +-'
            ),
        )
        for hunk in patch.hunks
    )
    return FileDiff(
        None if created else delta.old_file.path,
        None if deleted else delta.new_file.path,
        old_mode=None if created else int(delta.old_file.mode),
        new_mode=None if deleted else int(delta.new_file.mode),
        hunks=hunks,
    )
