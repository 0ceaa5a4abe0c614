"""
Which files of a tree a diff touches, by its text alone: pure, and cheap.

Answers for the diffs that people send, whether git would apply them or not:
with any prefix (`a/ b/`, `i/ w/`, `--src-prefix`, `linux.orig/ linux/`), with
none, with quilt's dates and akpm's `F~name`. What a diff does, and whether it
can be applied, is `patch`'s and git's to say.
"""

import re
from collections.abc import Iterator
from itertools import islice

from bot.errors import PatchError
from bot.patch import DEV_NULL, named

TWO = re.compile(rb'^--- ([^\n]+)\n\+\+\+ ([^\n]+)', re.M)
WHOLE = re.compile(rb'^(?:rename|copy) (?:from|to) ([^\n]+)', re.M)
GIT_LINE = re.compile(rb'^diff --git ([^\n]+)', re.M)
# What follows a name in quilt's and diff's own output.
DATE = re.compile(r'(?:\t.*|[ \t]+\d{4}-\d\d-\d\d[ \t]\d\d:.*)')
PREFIXES = frozenset('abciow12')
"""What git writes before a name, by itself or with diff.mnemonicPrefix."""
BACKUP = re.compile(r'(?:\.orig|~[\w.+-]*)\Z')
MOST = 20_000
LONGEST = 4096


def paths_in(diff: bytes) -> Iterator[str]:
    """Yield the paths that a diff names, as a tree has them; some of them more than once."""
    for found in islice(TWO.finditer(diff), MOST):
        old, new = _name(found[1]), _name(found[2])
        if (old is None or new is None) and _has_git_line(diff, found.start()):
            continue  # that has both names, and so shows what is their prefix
        yield from _of_two(old, new)
    for found in islice(WHOLE.finditer(diff), MOST):
        if (name := _name(found[1])) is not None:
            yield name
    # Modes, empty and binary files have no other line.
    for found in islice(GIT_LINE.finditer(diff), MOST):
        yield from _of_git_line(found[1][: 2 * LONGEST].decode('latin-1').rstrip('\r'))


def _has_git_line(diff: bytes, place: int) -> bool:
    head = diff[max(place - 4 * LONGEST, 0) : place]
    start = head.rfind(b'diff --git ')
    return start >= 0 and b'\n--- ' not in head[start:]


def _name(raw: bytes) -> str | None:
    """Return the name that a line has, None where it has none: /dev/null, bad quoting."""
    text = raw[:LONGEST].decode('latin-1').rstrip('\r')
    if not text.startswith('"'):
        text = DATE.sub('', text, count=1).rstrip(' ')
    try:
        name = named(text.rstrip('\t'))
    except PatchError:
        return None
    return None if name == DEV_NULL else name


def _of_two(old: str | None, new: str | None) -> Iterator[str]:
    if old is None or new is None:
        name = old if new is None else new
        if name is not None:
            yield _stripped(name)
        return
    plain = BACKUP.sub('', old)
    if plain == new or old == new:
        yield _stripped(new)
        return
    first, _, rest = new.partition('/')
    other, _, below = plain.partition('/')
    if rest and first != other and rest in (below, old.partition('/')[2]):
        yield rest
        return
    yield _stripped(old)
    yield _stripped(new)


def _stripped(name: str) -> str:
    first, slash, rest = name.partition('/')
    return rest if slash and first in PREFIXES and rest else name


def _of_git_line(text: str) -> Iterator[str]:
    if text.startswith('"') or text.endswith('"'):
        parts = [one for one in re.findall(r'"(?:[^"\\]|\\.)*"|\S+', text) if one]
        if len(parts) == 2:
            yield from _of_two(_name(parts[0].encode('latin-1')), _name(parts[1].encode('latin-1')))
        return
    # The two names are as long as each other, but for their prefixes; blanks tell nothing.
    middle = len(text) // 2
    blanks = sorted(
        (found.start() for found in re.finditer(' ', text)), key=lambda at: abs(at - middle)
    )
    for at in blanks[:8]:
        old, new = text[:at], text[at + 1 :]
        if old == new or old.partition('/')[2] == new.partition('/')[2] != '':
            yield from _of_two(_name(old.encode('latin-1')), _name(new.encode('latin-1')))
            return
