"""Repositories and patches for tests, made by the real git."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

ENV = {
    'GIT_CONFIG_GLOBAL': os.devnull,
    'GIT_CONFIG_NOSYSTEM': '1',
    'GIT_AUTHOR_NAME': 'A Developer',
    'GIT_AUTHOR_EMAIL': 'dev@example.org',
    'GIT_AUTHOR_DATE': '2026-03-20T12:00:00+0000',
    'GIT_COMMITTER_NAME': 'A Developer',
    'GIT_COMMITTER_EMAIL': 'dev@example.org',
    'GIT_COMMITTER_DATE': '2026-03-20T12:00:00+0000',
}

File = bytes | tuple[int, bytes]
Tree = Mapping[str, File]


class Repo:
    """A bare repository that trees are committed to without a work tree."""

    def __init__(self, path: Path, *, existing: bool = False) -> None:
        self.path = path
        if not existing:
            path.mkdir(parents=True, exist_ok=True)
            self.git('init', '-q', '--bare', '-b', 'master', '.')

    def git(self, *words: str, stdin: bytes = b'', env: Mapping[str, str] = {}) -> bytes:
        """Run git in the repository; its output."""
        return subprocess.run(
            ['git', *words],
            cwd=self.path,
            input=stdin,
            stdout=subprocess.PIPE,
            check=True,
            env={**os.environ, **ENV, **env},
        ).stdout

    def write(self, files: Tree, base: str | None = None) -> str:
        """Write a tree: `files` on top of `base` (a tree-ish) where given; its id."""
        index = {'GIT_INDEX_FILE': str(self.path / 'test-index')}
        (self.path / 'test-index').unlink(missing_ok=True)
        if base is not None:
            self.git('read-tree', base, env=index)
        lines = []
        for path, file in files.items():
            mode, content = file if isinstance(file, tuple) else (0o100644, file)
            blob = self.git('hash-object', '-w', '--stdin', stdin=content).decode().strip()
            lines.append(b'%o %s\t%s\0' % (mode, blob.encode(), path.encode()))
        self.git('update-index', '-z', '--index-info', stdin=b''.join(lines), env=index)
        return self.git('write-tree', env=index).decode().strip()

    def commit(
        self,
        tree: str,
        message: str,
        parent: str | None = None,
        ref: str = 'master',
        env: Mapping[str, str] = {},
    ) -> str:
        """Commit a tree and move `ref` there; the commit's id."""
        parents = ['-p', parent] if parent else []
        said = self.git('commit-tree', tree, *parents, stdin=message.encode(), env=env)
        made = said.decode().strip()
        self.git('update-ref', f'refs/heads/{ref}', made)
        return made

    def format_patch(self, *words: str) -> bytes:
        """Return `git format-patch --stdout` of a range."""
        return self.git('format-patch', '--stdout', *words)
