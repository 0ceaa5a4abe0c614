"""
The user's repository, of which only refs and objects are read.

libgit2 resolves refs where it can open the repository; formats that it does
not know (reftable, a partial clone) are asked of git, without the user's
settings and without the network.
"""

import fnmatch
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pygit2

from bot import files, git
from bot.errors import TreeError


class Source:
    """A repository at `path`, or the one that `path` lies in. Raises `TreeError`."""

    def __init__(self, path: Path) -> None:
        # Objects are read through alternates only, so whose they are does not matter.
        pygit2.option(pygit2.enums.Option.SET_OWNER_VALIDATION, False)
        found = pygit2.discover_repository(str(path), False, '/') if path.exists() else None
        if found is None:
            raise TreeError(f'{path} is no git repository: name a kernel tree with --tree')
        self.path = path
        self.gitdir = Path(found)
        self.common = _common_dir(self.gitdir)
        try:
            self._repo: pygit2.Repository | None = pygit2.Repository(found)
        except pygit2.GitError as error:
            if 'sha256' in str(error):
                raise TreeError(
                    f'{path} is a SHA-256 repository: only SHA-1 ones can be read, as the kernel is'
                ) from error
            self._repo = None

    @property
    def partial(self) -> bool:
        """Whether objects may be missing, to be fetched when wanted (`git clone --filter`)."""
        return any((self.common / 'objects' / 'pack').glob('*.promisor'))

    def resolve(self, ref: str) -> str | None:
        """Return the id of the commit that `ref` names, None where there is none."""
        if ref.startswith('-') or '\0' in ref:
            return None
        if self._repo is not None:
            try:
                return str(self._repo.revparse_single(ref).peel(pygit2.Commit).id)
            except (KeyError, ValueError, pygit2.GitError):
                return None
        return self._git('rev-parse', '--verify', '-q', f'{ref}^{{commit}}').strip() or None

    def note(self, commit: str) -> str:
        """Return what `git notes` has on a commit, '' where there is nothing."""
        if self._repo is None:
            return ''
        try:
            return self._repo.lookup_note(commit).message
        except (KeyError, ValueError, pygit2.GitError):
            return ''

    def matching(self, pattern: str) -> list[tuple[str, str]]:
        """
        Return (ref, commit id) of what a configured ref stands for.

        A name is itself; a pattern (`v7.*`) all branches, remote branches and
        tags that fit, the newest commit first.
        """
        if not any(char in pattern for char in '*?['):
            commit = self.resolve(pattern)
            return [(pattern, commit)] if commit is not None else []
        listed = self._git(
            *('for-each-ref', '--sort=-committerdate', '--sort=-creatordate'),
            *('--format=%(refname)', 'refs/heads', 'refs/remotes', 'refs/tags'),
        )
        found: list[tuple[str, str]] = []
        for ref in listed.split('\n'):
            short = ref.split('/', 2)[-1]
            if ref and (fnmatch.fnmatch(short, pattern) or fnmatch.fnmatch(ref, pattern)):
                commit = self.resolve(ref)
                if commit is not None:
                    found.append((short, commit))
        return found

    def holds(self, patterns: Sequence[str], commit: str) -> bool:
        """Whether a configured ref is, or descends from, `commit`."""
        tips = [tip for pattern in patterns for _, tip in self.matching(pattern)]
        if commit in tips:
            return True
        return any(
            self._status('merge-base', '--is-ancestor', commit, tip) == 0
            for tip in dict.fromkeys(tips)
        )

    def beginning_with(self, short: str) -> list[str]:
        """Return the ids of all objects that begin with some hexadecimal digits."""
        return self._git('rev-parse', f'--disambiguate={short}').split()

    def refs(self, *under: str) -> dict[str, str]:
        """Return the commits of all refs (below `under`), by full name."""
        listed = self._git(
            'for-each-ref', '--format=%(objectname) %(*objectname) %(refname)', *under
        )
        found = {}
        for line in listed.splitlines():
            first, *peeled, name = line.split(' ')
            found[name] = (''.join(peeled) or first).strip()
        return found

    def upstream(self, branch: str) -> str | None:
        """Return the full name of what a branch follows; None where it follows nothing."""
        return (
            self._git('for-each-ref', '--format=%(upstream)', f'refs/heads/{branch}').strip()
            or None
        )

    def branch(self) -> str | None:
        """Return the name of the branch that HEAD is on; None where it is on none."""
        name = self._git('symbolic-ref', '-q', '--short', 'HEAD').strip()
        return name or None

    def fetch(self) -> str:
        """Run `git fetch` with the user's own settings; what it said. Raises `TreeError`."""
        # The tree is public, and other users read it: with its user's umask.
        result = subprocess.run(
            ['git', '-C', str(self.path), 'fetch', '--all', '--tags'],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            env={**os.environ, 'GIT_TERMINAL_PROMPT': '0'}, umask=files.usual_umask(),
        )  # fmt: skip
        if result.returncode:
            said = result.stderr.strip().splitlines() or [f'status {result.returncode}']
            raise TreeError(f'git fetch in {self.path} fails: {said[-1]}')
        return result.stderr

    def _git(self, *words: str) -> str:
        """Run git on the repository, reading only; '' where it fails for want of a thing."""
        done = self._run(*words)
        if done.status and b'fatal: unknown repository' in done.err:
            raise TreeError(f'{self.path}: this git is too old for the repository ({done.last})')
        return done.out.decode('utf-8', 'replace')

    def _status(self, *words: str) -> int:
        return self._run(*words).status

    def _run(self, *words: str) -> git.Done:
        done = git.run(
            ['-c', 'safe.directory=*', '-c', 'core.fsmonitor=false', '-c', 'protocol.allow=never',
             '--no-optional-locks', *words],
            settings={'GIT_DIR': str(self.gitdir)},
            limits=git.HISTORY,
        )  # fmt: skip
        if done.limit is not None:
            raise TreeError(f'{self.path}: git {words[0]} was stopped (limit: {done.limit})')
        return done


def _common_dir(gitdir: Path) -> Path:
    """A worktree's objects lie with its main repository, which `commondir` names."""
    pointer = gitdir / 'commondir'
    if not pointer.exists():
        return gitdir.resolve()
    return (gitdir / pointer.read_text().strip()).resolve()
