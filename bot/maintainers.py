"""
The kernel's MAINTAINERS: who looks after a file, and which addresses are lists. Pure.

Read from the base of a series, never from what the series makes of it. Knows
the entries M, R, L, F, X and N as `scripts/get_maintainer.pl` does; what that
finds out from git's history, or from K patterns, it leaves alone.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parseaddr

from bot.envelope import is_address

PATH = 'MAINTAINERS'
ENTRY = re.compile(r'([MRLFXN]):\s+(.*)')


@dataclass(frozen=True)
class Section:
    """One subsystem. Patterns are as they are written."""

    people: tuple[str, ...]
    lists: tuple[str, ...]
    files: tuple[str, ...]
    not_files: tuple[str, ...]
    names: tuple[str, ...]

    def covers(self, path: str) -> bool:
        """Whether a file belongs to it."""
        if any(_fits(pattern, path) for pattern in self.not_files):
            return False
        if any(_fits(pattern, path) for pattern in self.files):
            return True
        return any(_found(pattern, path) for pattern in self.names)


@dataclass(frozen=True)
class Maintainers:
    """The file as a whole. Addresses are in lower case."""

    sections: tuple[Section, ...]

    @property
    def lists(self) -> frozenset[str]:
        """Every address that is a list."""
        return frozenset(one for section in self.sections for one in section.lists)

    def people(self, paths: Iterable[str]) -> frozenset[str]:
        """The maintainers and reviewers of files."""
        paths = tuple(paths)
        return frozenset(
            one
            for section in self.sections
            if any(section.covers(path) for path in paths)
            for one in section.people
        )


def parse(text: bytes | None) -> Maintainers:
    """Read the file; None, as of a tree without one, has no sections."""
    sections: list[Section] = []
    entries: dict[str, list[str]] = {}
    for line in (text or b'').decode('utf-8', 'replace').split('\n'):
        found = ENTRY.fullmatch(line.rstrip())
        if found is not None:
            entries.setdefault(found[1], []).append(found[2].strip())
        elif not line.strip() and entries:
            sections.append(_section(entries))
            entries = {}
    if entries:
        sections.append(_section(entries))
    return Maintainers(
        tuple(section for section in sections if section.files or section.names or section.lists)
    )


def _section(entries: dict[str, list[str]]) -> Section:
    return Section(
        tuple(_addresses([*entries.get('M', ()), *entries.get('R', ())])),
        tuple(_addresses(entries.get('L', ()))),
        tuple(entries.get('F', ())),
        tuple(entries.get('X', ())),
        tuple(entries.get('N', ())),
    )


def _addresses(values: Iterable[str]) -> Iterable[str]:
    for value in values:
        # A list's line goes on behind the address: "linux-mm@… (moderated …)".
        word = value.split(None, 1)[0] if '<' not in value else value
        address = parseaddr(word)[1].lower()
        if is_address(address):
            yield address


def _fits(pattern: str, path: str) -> bool:
    """`dir/` is all below it; `*` stops at a slash, unless the pattern ends in one."""
    wanted = ''.join('[^/]*' if c == '*' else '[^/]' if c == '?' else re.escape(c) for c in pattern)
    if pattern.endswith('/'):
        return re.match(wanted, path) is not None
    return re.fullmatch(wanted + '(?:/.*)?' if not _has_glob(pattern) else wanted, path) is not None


def _has_glob(pattern: str) -> bool:
    return any(c in pattern for c in '*?[')


def _found(pattern: str, path: str) -> bool:
    try:
        return re.search(pattern, path) is not None
    except re.error:
        return False
