"""
A list's archive as git: public-inbox's epochs, mirrored, and walked mail by mail.

Answers whether anything is new (one small request), brings it here, and yields
the mails behind a cursor, in the order in which the archive got them. An epoch
that was rewritten is found again by the message-id of the last known mail, or
else by its date. Raises `LoreError` where the archive does not answer.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

import pygit2
import requests

from bot import files, git
from bot.errors import LoreError, TreeError
from bot.http import Client, unpacked
from bot.plain import one_line, storable
from bot.shown import bare

EPOCH = re.compile(r'/(?:git/)?(\d{1,4})(?:\.git)?/?\Z')
MSGID = re.compile(rb'^Message-ID:\s*<([^>\s]{1,998})>', re.M | re.I)
FIRST_DEPTH = 2000
CACHE = 4 << 20
"""Bytes that libgit2 may keep of objects: each is read once."""
AT_ONCE = 2000
"""
Commits that are read before the repository lets go of its packs.

Beside its objects libgit2 keeps what deltas are built on, up to 16 MB of each
pack. A dropped `Repository` keeps them too, until the garbage collector comes by.
"""
MOST_PACKS = 50
TIDYING = git.GitLimits(cpu=600.0, memory=None, file=64 << 30)
"""What joining the packs of an epoch may take: of a gigabyte, a minute or two."""
LARGEST_MANIFEST = 1 << 20
"""Bytes, as it comes; the largest list of lore.kernel.org has 2000."""
GROWTH = 8
LONGEST_FETCH = 900
"""Seconds that one fetch may take, however little comes in each."""
LARGEST_MAIL = 64 << 20
LONGEST_FINGERPRINT = 100
OVERLAP = 86_400
"""Seconds that are walked again where only the date of the last known mail is left to go by."""


@dataclass(frozen=True)
class Place:
    """Where to walk on from: a commit, the message-id of its mail, and its time."""

    commit: str
    msgid: str
    date: int


@dataclass(frozen=True)
class Arrival:
    """
    One mail: the commit that brought it, its time, and the mail (None: it was removed).

    `reason` says why there is none, where it was not removed.
    """

    commit: str
    date: int
    raw: bytes | None
    reason: str | None = None

    @property
    def msgid(self) -> str:
        """The mail's message-id, '' where it has none."""
        found = MSGID.search(self.raw[: 1 << 16]) if self.raw is not None else None
        return found[1].decode('ascii', 'replace') if found else ''


class Mirror:
    """One list of one archive; its epochs are kept as bare repositories in `folder`."""

    def __init__(self, url: str, name: str, folder: Path, timeout: float) -> None:
        url, known = bare(url)
        self.url = f'{url.rstrip("/")}/{quote(name)}'
        """Without user and password: libgit2 writes it into its files."""
        self.name = name
        self._folder = folder / name
        self._timeout = timeout
        self._client = Client(known=known)
        self._known = known
        self._since: dict[str, str] = {}
        self._manifest: dict[int, str] = {}
        self.dated: float | None = None
        """The archive's time (seconds since 1970) at its last answer."""
        self.warnings: list[str] = []
        """What an operator should know; whoever shows them empties the list."""
        pygit2.settings.cache_max_size(CACHE)

    def epochs(self) -> dict[int, str]:
        """Ask for the epochs and their fingerprints: one request."""
        try:
            answer = self._client.ask(
                f'{self.url}/manifest.js.gz',
                largest=LARGEST_MANIFEST,
                seconds=self._timeout,
                headers=self._since,
            )
        except (requests.RequestException, ValueError) as error:
            raise LoreError(f'{self.url}: {_reason(error)}') from error
        self.dated = _time(answer.headers.get('Date', ''))
        if answer.status == 304 and self._manifest:
            return self._manifest
        if answer.status != 200:
            raise LoreError(f'{self.url}/manifest.js.gz: status {answer.status}')
        self._manifest = _fingerprints(answer.body, self.url)
        self._since = {
            asked: answer.headers[given]
            for asked, given in (('If-None-Match', 'ETag'), ('If-Modified-Since', 'Last-Modified'))
            if given in answer.headers
        }
        return self._manifest

    def fetch(self, epoch: int, *, since: int) -> None:
        """Bring an epoch here: at first back to `since` only (seconds since 1970)."""
        repo, new = self._opened(epoch)
        if not new:
            self._fetched(repo, epoch, 0)
            return
        depth = FIRST_DEPTH
        while True:
            self._fetched(repo, epoch, depth)
            oldest = _oldest(repo)
            if oldest is None or oldest < since or not _shallow(repo):
                return
            depth *= 4

    def oldest(self, epoch: int) -> int | None:
        """Return the time of the oldest commit that is here, None where there is none."""
        return _oldest(self._opened(epoch)[0])

    def walk(self, epoch: int, place: Place | None, *, since: int) -> Iterator[Arrival]:
        """Yield what came after `place` (None: since `since`), the oldest first."""
        repo, _ = self._opened(epoch)
        tip = _tip(repo)
        if tip is None:
            return
        start = since if place is None else 0
        behind = place.commit if place is not None else None
        commits = _back_to(repo, tip, behind)
        if commits is None:
            assert place is not None
            commits = _back_to(repo, tip, self._found_again(repo, tip, epoch, place))
        if commits is None:
            assert place is not None
            # No later than `since`: the last known mail's date may be any, and what was removed
            # with it is no reason to pass over others.
            start = min(place.date - OVERLAP, since)
            self.warnings.append(
                f'{self.name}/{epoch}: the last known mail ({place.msgid or place.commit[:12]}) is '
                'gone from the archive; walking again from before it'
            )
            commits = _back_to(repo, tip, None) or []
        commits.reverse()
        yield from _arrivals(repo, commits, start)

    def _found_again(
        self, repo: pygit2.Repository, tip: pygit2.Oid, epoch: int, place: Place
    ) -> str:
        """Return the commit of the last known mail in another history, '' where it is not."""
        self.warnings.append(f'{self.name}/{epoch}: was rewritten; looking for {place.msgid}')
        for _ in range(2):
            for arrival in _arrivals(repo, _back_to(repo, tip, None) or [], 0):
                if place.msgid and arrival.msgid == place.msgid:
                    return arrival.commit
            if not _shallow(repo):
                break
            self._fetched(repo, epoch, _ALL)  # it may lie deeper than what is here
        return ''

    # --- repositories ---

    def _opened(self, epoch: int) -> tuple[pygit2.Repository, bool]:
        """Open an epoch's mirror, and say whether it holds nothing yet."""
        files.ours(self._folder.parent)
        path = files.folder(self._folder) / f'{epoch}.git'
        if path.exists():
            try:
                repo = pygit2.Repository(str(path))
                return repo, _tip(repo) is None
            except pygit2.GitError:
                shutil.rmtree(path)  # half made by a process that was killed
                self.warnings.append(f'{path} was damaged, and is fetched again')
        return pygit2.init_repository(str(path), bare=True), True

    def _fetched(self, repo: pygit2.Repository, epoch: int, depth: int) -> None:
        url = f'{self.url}/git/{epoch}.git'
        packs = Path(repo.path) / 'objects' / 'pack'
        words = [repo.path, url, depth, int(self._timeout * 1000), LONGEST_FETCH]
        done = subprocess.run(
            [sys.executable, '-P', '-m', 'bot.fetch', *map(str, words)],
            env=_alone(), capture_output=True, start_new_session=True, check=False,
            input=json.dumps(self._known).encode(),
        )  # fmt: skip
        if done.returncode:
            for rest in packs.glob('pack_git2_*'):  # of a fetch that was cut
                with suppress(OSError):
                    rest.unlink()
            said = done.stderr.decode('utf-8', 'replace').strip().rpartition('\n')[2]
            if done.returncode == -signal.SIGALRM:
                said = f'not all of it came within {LONGEST_FETCH} s'
            raise LoreError(f'{url}: {one_line(said) or f"fetching ended with {done.returncode}"}')
        repo.free()
        self._tidy(packs)

    def _tidy(self, packs: Path) -> None:
        """Join packs: each fetch makes one, and where there are many, nothing is found quickly."""
        if sum(1 for _ in packs.glob('*.pack')) <= MOST_PACKS:
            return
        words = ['--git-dir', str(packs.parent.parent), 'repack', '--geometric=2', '-dq']
        try:
            done = git.run(words, limits=TIDYING)
            why = done.limit or (done.last if done.status else None)
        except TreeError as error:
            why = str(error)
        if why is not None:
            self.warnings.append(f'{packs}: can not be tidied: {why[:200]}')


_ALL = 2_147_483_647
_KEPT = ('PATH', 'SSL_CERT_FILE', 'SSL_CERT_DIR', 'https_proxy', 'HTTPS_PROXY', 'no_proxy')


def _alone() -> dict[str, str]:
    """Return what a fetch has of the environment: nothing of the user's for git."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, **git.SETTINGS}


def _fingerprints(body: bytes, url: str) -> dict[int, str]:
    try:
        read = json.loads(unpacked(body, GROWTH * LARGEST_MANIFEST, f'{url}/manifest.js.gz'))
        found = {}
        for path, entry in read.items():
            number = EPOCH.search(path)
            if number is not None and len(entry['fingerprint'][:]) <= LONGEST_FINGERPRINT:
                found[int(number[1])] = storable('' + entry['fingerprint'])
    except RecursionError as error:
        raise LoreError(f'{url}/manifest.js.gz: can not be read: nested too deep') from error
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        reason = one_line(str(error))
        raise LoreError(f'{url}/manifest.js.gz: can not be read: {reason}') from error
    if not found:
        raise LoreError(f'{url}/manifest.js.gz: names no epoch')
    return dict(sorted(found.items()))


def _time(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, LookupError, OverflowError, AttributeError):
        return None


def _tip(repo: pygit2.Repository) -> pygit2.Oid | None:
    for name in ('refs/heads/master', 'refs/heads/main'):
        if name in repo.references:
            found = repo.references[name].peel(pygit2.Commit)
            return found.id
    return None


def _back_to(
    repo: pygit2.Repository, tip: pygit2.Oid, behind: str | None
) -> list[pygit2.Oid] | None:
    """
    Return the commits from the tip back to the one after `behind`, to the beginning for None.

    None where `behind` is not among them. An epoch has no merges; what libgit2's
    own walk costs grows with all that there is.
    """
    found: list[pygit2.Oid] = []
    here: pygit2.Oid | None = tip
    while here is not None:
        if str(here) == behind:
            return found
        found.append(here)
        if len(found) % AT_ONCE == 0:
            repo.free()
        commit = repo[here].peel(pygit2.Commit)
        here = next((one for one in commit.parent_ids if one in repo), None)
    return found if behind is None else None


def _arrivals(repo: pygit2.Repository, commits: list[pygit2.Oid], start: int) -> Iterator[Arrival]:
    """Yield the mails of the commits that are not older than `start`."""
    for number, one in enumerate(commits):
        if number % AT_ONCE == 0:
            repo.free()
        commit = repo[one].peel(pygit2.Commit)
        if commit.commit_time >= start:
            raw, reason = _mail(repo, commit)
            yield Arrival(str(one), int(commit.commit_time), raw, reason)


def _oldest(repo: pygit2.Repository) -> int | None:
    """Return the time of the oldest commit that is here."""
    tip = _tip(repo)
    if tip is None:
        return None
    commits = _back_to(repo, tip, None)
    return int(repo[commits[-1]].peel(pygit2.Commit).commit_time) if commits else None


def _shallow(repo: pygit2.Repository) -> bool:
    return (Path(repo.path) / 'shallow').exists() and repo.is_shallow


def _mail(repo: pygit2.Repository, commit: pygit2.Commit) -> tuple[bytes | None, str | None]:
    """Return a commit's mail, None for one that was removed; or why it can't be had."""
    try:
        entry = commit.tree['m']
    except KeyError:
        return None, None  # only its name is left
    try:
        _, size = repo.odb.read_header(entry.id)
        if size > LARGEST_MAIL:
            return None, f'it has {size} bytes: no mail of a list has more than {LARGEST_MAIL}'
        blob = repo[entry.id]
    except (KeyError, ValueError, pygit2.GitError) as error:
        return None, f'the archive does not have it: {str(error).strip() or type(error).__name__}'
    return (bytes(blob.data), None) if isinstance(blob, pygit2.Blob) else (None, 'it is no file')


def _reason(error: Exception) -> str:
    inner: BaseException = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    text = str(getattr(inner, 'strerror', None) or error)
    return text if len(text) < 200 else type(error).__name__
