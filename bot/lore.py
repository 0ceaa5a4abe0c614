"""
Threads from a public-inbox archive, over HTTP.

Answers: the mails of the thread that a message-id lies in, and those that a
search finds. One request goes to each host in order until one has it; server
errors and refused connections are tried again, a time-out and a 404 are not.
Nothing that comes back is trusted: sizes are bounded while reading. Which of
the mails make a series is b4's to say (`b4.py`).
"""

import gzip
import hashlib
import re
import time
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import requests
from urllib3.util.retry import Retry

from bot import files
from bot.errors import LoreError
from bot.http import Client, unpacked
from bot.model import Lore, Mail
from bot.series import parse_mail, split
from bot.shown import host_of

RETRIES = 2
# A thread as text is some ten times as large as it came.
GROWTH = 16
MSGID = re.compile(r'<?(?P<msgid>[^\s<>]+@[^\s<>/]+)>?')
# What public-inbox has after a message-id in a link.
VIEWS = re.compile(r'(?:[Tt]|raw|t\.mbox(?:\.gz)?|t\.atom|R|d|s)')
NO_LIST = ('r', 'all')


class Archive:
    """The configured hosts. `cache` is a folder for threads, None for none."""

    def __init__(self, lore: Lore, cache: Path | None = None) -> None:
        self._lore = lore
        self._cache = cache / 'threads' if cache is not None else None
        retry = Retry(
            total=RETRIES,
            read=0,
            status_forcelist=(500, 502, 503, 504),
            allowed_methods=None,
            backoff_factor=0.2,
            backoff_max=1.0,
            raise_on_status=False,
            respect_retry_after_header=False,
        )
        self._client = Client(retry)

    def thread(self, msgid: str, inbox: str | None = None) -> list[Mail]:
        """
        Return the mails of the thread that `msgid` lies in.

        `inbox` is the list to look in first. Raises `LoreError`.
        """
        name = quote(msgid, safe="@!$&'()*+,;=:~-._")
        places = [inbox] if inbox else []
        places += [place for place in ('all', *self._lore.lists) if place != inbox]
        return self._first([f'{place}/{name}/t.mbox.gz' for place in places], f'message {msgid}')

    def has(self, msgid: str) -> bool:
        """Whether the archive has a mail, asked now. Raises `LoreError` where it does not say."""
        name = quote(msgid, safe="@!$&'()*+,;=:~-._")
        problem: LoreError | None = None
        for url in self._lore.urls:
            try:
                for place in ('all', *self._lore.lists):
                    if self._holds(f'{url.rstrip("/")}/{place}/{name}/raw'):
                        return True
            except LoreError as error:
                problem = error
        if problem is not None:
            raise problem
        return False

    def _holds(self, url: str) -> bool:
        try:
            self._get(url, post=False)
        except LoreError as error:
            if error.missing:
                return False
            raise
        return True

    def search(self, query: str) -> list[Mail]:
        """Return the mails that a public-inbox search finds (`LoreError` where none)."""
        places = ['all', *self._lore.lists]
        return self._first(
            [f'{place}/?q={quote(query)}&x=m' for place in places], f'{query!r}', post=True
        )

    def _first(self, paths: list[str], wanted: str, *, post: bool = False) -> list[Mail]:
        """Return what the first host has that has it."""
        problems: list[LoreError] = []
        for url in self._lore.urls:
            for path in paths:
                try:
                    data = self._cached(f'{url.rstrip("/")}/{path}', post=post)
                except LoreError as error:
                    if not error.missing:
                        problems.append(error)
                        break  # this host is of no use just now
                    continue
                mails = [parse_mail(raw) for raw in split(data)]
                if mails:
                    return mails
        if problems:
            raise problems[0]
        hosts = ', '.join(host_of(url) for url in self._lore.urls)
        raise LoreError(f'{wanted}: there is no such message on {hosts}', missing=True)

    def _cached(self, url: str, *, post: bool) -> bytes:
        path = None
        if self._cache is not None:
            path = self._cache / f'{hashlib.sha256(url.encode()).hexdigest()[:32]}.mbox.gz'
            try:
                if time.time() - path.stat().st_mtime < self._lore.expiry:
                    return self._plain(path.read_bytes(), url)
            except (OSError, LoreError):
                pass  # not there, or not readable: ask the archive
        packed = self._get(url, post=post)
        data = self._plain(packed, url)
        if path is not None:
            _keep(path, packed)
        return data

    def _get(self, url: str, *, post: bool) -> bytes:
        host = host_of(url)
        timeout = self._lore.timeout
        # Every try gets its share of the time, so that all of them keep within it.
        share = (timeout / (RETRIES + 2), timeout / 2)
        try:
            answer = self._client.ask(
                url, largest=self._lore.largest, seconds=timeout, share=share, post=post
            )
            if answer.status == 404:
                raise LoreError(f'{host}: 404', missing=True)
            if answer.status != 200:
                raise LoreError(f'{host} answers {answer.status} {answer.reason}: {url}')
            return answer.body
        except requests.exceptions.ChunkedEncodingError as error:
            raise LoreError(f'{host}: the answer was cut short: {url}') from error
        except requests.exceptions.ConnectTimeout as error:
            raise LoreError(f'{host} does not answer within {timeout:g} s') from error
        except requests.exceptions.Timeout as error:
            raise LoreError(f'{host} accepts, but does not answer within {timeout:g} s') from error
        except requests.exceptions.RetryError as error:
            raise LoreError(f'{host} answers with server errors: {url}') from error
        except requests.exceptions.ConnectionError as error:
            if 'Read timed out' in str(error):
                said = f'{host} accepts, but does not answer within {timeout:g} s'
                raise LoreError(said) from error
            if 'timed out' in str(error):
                raise LoreError(f'{host} does not answer within {timeout:g} s') from error
            raise LoreError(f'{host} can not be reached: {_reason(error)}') from error
        except (requests.exceptions.RequestException, ValueError) as error:
            raise LoreError(f'{host}: {_reason(error)}: {url}') from error

    def _plain(self, packed: bytes, url: str) -> bytes:
        """Unpack, but no more than could be honest."""
        return unpacked(packed, min(self._lore.largest * GROWTH, 1 << 30), url)


def message_id(text: str) -> tuple[str, str | None] | None:
    """
    Read a message-id or a link to one; (message-id, list or None), None for neither.

    Takes `<id>`, `id`, `https://lore.kernel.org/LIST/ID/…`, `https://…/r/ID`, with
    what public-inbox writes after an id. A slash in an id may be escaped or not.
    """
    if text.startswith(('http://', 'https://')):
        url = urlsplit(text)
        return _linked(url.path, rooted=url.netloc.endswith('msgid.link'))
    match = MSGID.fullmatch(text)
    if match is None or text.startswith('-'):
        return None
    msgid = match['msgid']
    return (unquote(msgid) if '%' in msgid else msgid), None


def _linked(path: str, *, rooted: bool) -> tuple[str, str | None] | None:
    """Read the path of a link; `rooted`: the id comes first, no list's name."""
    parts = [part for part in path.split('/') if part]
    while parts and '@' not in unquote(parts[-1]) and VIEWS.fullmatch(parts[-1]):
        parts.pop()
    last = next((n for n in reversed(range(len(parts))) if '@' in unquote(parts[n])), None)
    if last is None:
        return None
    first = last
    if '%2F' not in parts[last].upper():
        # The id may begin before: its slashes are not escaped. A list's name comes first.
        before = next((n for n in range(last) if parts[n] in NO_LIST), 0)
        first = 0 if rooted else min(before + 1, last)
    inbox = parts[first - 1] if first else None
    msgid = '/'.join(unquote(part) for part in parts[first : last + 1]).strip('<>')
    return msgid, None if inbox in (None, *NO_LIST) else inbox


def _keep(path: Path, packed: bytes) -> None:
    """Put a thread into the cache; that it can't be kept is no error."""
    try:
        files.ours(path.parent)
        content = packed if packed.startswith(b'\x1f\x8b') else gzip.compress(packed)
        files.write(path, content, durable=False)
    except OSError:
        return


def _reason(error: Exception) -> str:
    """Find the innermost words of a chain of library errors."""
    inner: BaseException = error
    while inner.__cause__ or inner.__context__ or _nested(inner):
        inner = _nested(inner) or inner.__cause__ or inner.__context__ or inner
    said = str(getattr(inner, 'strerror', None) or inner)
    return said.rpartition(': ')[2].strip("')(") or type(inner).__name__


def _nested(error: BaseException) -> BaseException | None:
    reason = getattr(error, 'reason', None)
    if isinstance(reason, BaseException):
        return reason
    first = error.args[0] if error.args else None
    return first if isinstance(first, BaseException) else None
