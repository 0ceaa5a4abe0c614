"""Trailers of a commit message, with the lines that they stand on."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bot.model import Author, Patch

TRAILER = re.compile(r'(?P<name>[A-Za-z][A-Za-z-]*):[ \t]+(?P<value>\S.*)')
PERSON = re.compile(r'(?P<name>[^<]*)<(?P<email>[^<>\s]+)>')


@dataclass(frozen=True)
class Trailer:
    """One trailer. `line` counts as a hit's does, from the subject on."""

    name: str
    value: str
    line: int

    @property
    def person(self) -> Author | None:
        """Who it names; None where it names nobody."""
        found = PERSON.match(self.value)
        return Author(found['name'].strip().strip('"'), found['email']) if found else None


def trailers(patch: Patch) -> Iterator[Trailer]:
    """Yield the trailers of a patch's own message: the lines of its last paragraph."""
    lines = patch.message.rstrip().split('\n')
    start = max((n for n, line in enumerate(lines) if not line.strip()), default=-1) + 1
    for n, line in enumerate(lines[start:], start):
        found = TRAILER.fullmatch(line.rstrip())
        if found is not None:
            yield Trailer(found['name'], found['value'], n + 3)


def named(patch: Patch, name: str) -> list[Trailer]:
    """Return the trailers of a name; its case does not matter."""
    return [one for one in trailers(patch) if one.name.lower() == name.lower()]


def same(one: Author, two: Author) -> bool:
    """Whether two are one person: the same address, or the same name."""
    if one.email.lower() == two.email.lower():
        return True
    return bool(one.name) and one.name.casefold() == two.name.casefold()
