"""
What kernel-doc comments describe, and the thing that they document has not.

Known are functions, function-like macros, structs and unions that stand right
behind their comment; of anything else nothing is said.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rules._names import WORD, code, comments

KERNEL_DOC = re.compile(
    rb'/\*\*\s*\n\s*\*\s*(?:(struct|union|enum|typedef)\s+)?(\w+)\s*(\(\))?\s*[-:]'
)
STRUCTS = (b'struct', b'union')
NO_PARAMETERS = (b'return', b'returns', b'retval', b'note', b'context')
PARAMETER = re.compile(rb'^\s*\*\s*@(\w+):', re.M)
FAR, NEAR = 20000, 2000
"""Bytes behind a comment in which a struct must have its end, and a list of parameters."""


@dataclass(frozen=True)
class Stranger:
    """`@name` in the comment of `title` (`f()`, `struct s`) that it has not."""

    title: str
    name: str
    line: int


def strangers(text: bytes) -> Iterator[Stranger]:
    """Yield the descriptions in a C file that fit nothing."""
    if b'/**' not in text:
        return
    at = 0
    for first, comment in comments(text):
        head = KERNEL_DOC.match(comment)
        if head is None or not PARAMETER.search(comment):
            continue
        at = text.find(comment, at) + len(comment)
        listed = _listed(
            code(text[at : at + (FAR if head[1] else NEAR)]).lstrip(), head[1], head[2]
        )
        if listed is None:
            continue
        words = set(WORD.findall(listed))
        name, kind = head[2].decode(), (head[1] or b'').decode()
        for found in PARAMETER.finditer(comment):
            if found[1] not in words and found[1].lower() not in NO_PARAMETERS:
                line = first + comment.count(b'\n', 0, found.start(1))
                yield Stranger(f'{kind} {name}' if kind else f'{name}()', found[1].decode(), line)


def _listed(text: bytes, kind: bytes | None, name: bytes) -> bytes | None:
    """Return the parameters, or members, of what stands first if that is what is documented."""
    macro = re.match(rb'#[ \t]*define[ \t]+' + name + rb'\(([^)]*)\)', text)
    if macro is not None:
        return macro[1] if b'...' not in macro[1] else None
    begin = re.match(rb'[^;{}#]{0,400}?\b' + name + rb'\b', text)
    if begin is None:
        return None
    if kind is None:
        listed = re.match(rb'\s*\(([^;{}]*)\)[^;{}()]*[;{]', text[begin.end() :])
        return listed[1] if listed is not None and b'...' not in listed[1] else None
    depth = 0
    for found in re.finditer(rb'[{};]', text[begin.end() :]) if kind in STRUCTS else ():
        depth += {b'{': 1, b'}': -1}.get(found[0], 0)
        if depth == 0:
            return text[begin.end() : begin.end() + found.start()]
    return None
