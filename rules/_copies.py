"""
The copies that the VMA tests keep of kernel code, and where the originals are.

`tools/testing/vma/include/dup.h` holds definitions that must be kept in sync
with the kernel (KERNEL: its own comment says so). Two definitions are the same
when their tokens are: comments, storage words and attributes do not count.
"""

import re
from collections.abc import Iterable

from bot.csyntax import Definition, parse
from bot.model import Snapshot, Step

COPIES = 'tools/testing/vma/include/dup.h'
# Where an original may be defined.
ORIGINALS = ('include/linux', 'mm')
LISTED = re.compile(r'(include/linux/[^/]*\.h|mm/[^/]*\.[ch])\Z')
COPIED_KINDS = ('function', 'struct', 'union', 'enum', 'typedef', 'macro')

Key = tuple[str, str]
"""Kind and name of a definition."""


def key(definition: Definition) -> Key:
    """Return what a definition is known by."""
    return definition.kind, definition.name


def definitions(text: bytes | None) -> list[Definition]:
    """Return the definitions of a file that can be a copy or an original."""
    if text is None:
        return []
    return [found for found in parse(text).definitions if found.kind in COPIED_KINDS]


def by_key(found: Iterable[Definition]) -> dict[Key, list[Definition]]:
    """Group definitions by kind and name."""
    grouped: dict[Key, list[Definition]] = {}
    for definition in found:
        grouped.setdefault(key(definition), []).append(definition)
    return grouped


def originals(tree: Snapshot, wanted: Iterable[Key]) -> dict[Key, list[tuple[str, Definition]]]:
    """Find the kernel's definitions of `wanted`, with the files that they lie in."""
    keys = set(wanted)
    found: dict[Key, list[tuple[str, Definition]]] = {one: [] for one in keys}
    if not keys:
        return found
    names = b'|'.join(sorted({re.escape(name.encode()) for _, name in keys}))
    mentions = re.compile(rb'\b(?:' + names + rb')\b')
    for folder in ORIGINALS:
        for path in tree.list(folder):
            if not LISTED.match(path):
                continue
            text = tree.read(path)
            if text is None or not mentions.search(text):
                continue
            for definition in definitions(text):
                if key(definition) in keys:
                    found[key(definition)].append((path, definition))
    return found


def same(definition: Definition, others: Iterable[Definition]) -> bool:
    """Whether one of `others` says the same."""
    return any(definition.tokens == other.tokens for other in others)


def is_original(path: str) -> bool:
    """Whether a file may hold an original."""
    return LISTED.match(path) is not None


def shown(definition: Definition) -> str:
    """Name a definition as a kernel developer writes it."""
    if definition.kind == 'function':
        return f'{definition.name}()'
    return definition.name if definition.kind == 'macro' else f'{definition.kind} {definition.name}'


def copies_before_and_after(step: Step) -> tuple[list[Definition], list[Definition]]:
    """Return the copies as they are before and after a step."""
    return definitions(step.pre.read(COPIES)), definitions(step.post.read(COPIES))


def only_const(copy: Definition, others: Iterable[Definition]) -> bool:
    """Whether it is struct vm_area_desc, different by const alone: desc-const-removed says that."""
    if copy.name != 'vm_area_desc':
        return False
    plain = [token for token in copy.tokens if token != 'const']
    return any(plain == [token for token in other.tokens if token != 'const'] for other in others)
