"""
What was asked of an archive, and what it said: kept, and answered again without it. Pure.

The watcher, which may reach the archive, looks up what a series says that it
needs; the worker, which may not, is answered from that.
"""

from collections.abc import Mapping
from typing import Protocol

from bot.errors import LoreError
from bot.model import Mail
from bot.series import parse_mail

Kept = Mapping[str, tuple[bytes, ...]]
"""Mails by what was asked for; none where the archive has none."""


class Lookup(Protocol):
    """An archive, as far as prerequisites need one. Both raise `LoreError`."""

    def thread(self, msgid: str) -> list[Mail]:
        """Return the mails of the thread that a message-id lies in."""

    def search(self, query: str) -> list[Mail]:
        """Return the mails that a search finds."""


class Recorder:
    """An archive whose answers are kept. `whole`: it answered whatever it was asked."""

    def __init__(self, archive: Lookup) -> None:
        self._archive = archive
        self.kept: dict[str, tuple[bytes, ...]] = {}
        self.whole = True

    def thread(self, msgid: str) -> list[Mail]:
        """Ask for a thread."""
        return self._asked(f'thread {msgid}', lambda: self._archive.thread(msgid))

    def search(self, query: str) -> list[Mail]:
        """Ask for what a search finds."""
        return self._asked(f'search {query}', lambda: self._archive.search(query))

    def _asked(self, what: str, ask: 'Ask') -> list[Mail]:
        try:
            found = ask()
        except LoreError as error:
            if error.missing:
                self.kept[what] = ()
            else:
                self.whole = False
            raise
        self.kept[what] = tuple(mail.raw for mail in found)
        return found


class Stored:
    """Answers from what was kept, and else asks an archive, where there is one."""

    def __init__(self, kept: Kept, archive: Lookup | None = None) -> None:
        self._kept = kept
        self._archive = archive

    def thread(self, msgid: str) -> list[Mail]:
        """Return a thread. Raises `LoreError`."""
        found = self._found(f'thread {msgid}')
        if found is None and self._archive is not None:
            return self._archive.thread(msgid)
        return self._or_missing(found, f'message {msgid}')

    def search(self, query: str) -> list[Mail]:
        """Return what a search finds. Raises `LoreError`."""
        found = self._found(f'search {query}')
        if found is None and self._archive is not None:
            return self._archive.search(query)
        return self._or_missing(found, query)

    def _found(self, what: str) -> list[Mail] | None:
        kept = self._kept.get(what)
        return None if kept is None else [parse_mail(raw) for raw in kept]

    def _or_missing(self, found: list[Mail] | None, what: str) -> list[Mail]:
        if not found:
            why = 'was not looked up yet' if found is None else 'there is no such mail'
            raise LoreError(f'{what}: {why}', missing=found is not None)
        return found


class Ask(Protocol):
    """A question that is ready to be asked."""

    def __call__(self) -> list[Mail]:
        """Ask it."""
