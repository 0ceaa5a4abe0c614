"""
The copies that the VMA tests keep of kernel code, and where the originals are.

`tools/testing/vma/include/dup.h` holds definitions that must be kept in sync
with the kernel (KERNEL: its own comment says so). Two definitions are the same
when their tokens are: comments, storage words and attributes do not count.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from bot.csyntax import Definition, parse
from bot.model import Snapshot, Step

TESTS = 'tools/testing/vma/'
COPIES = 'tools/testing/vma/include/dup.h'
STUBS = 'tools/testing/vma/include/stubs.h'
CUSTOM = 'tools/testing/vma/include/custom.h'
# Where an original may be defined.
ORIGINALS = ('include/linux', 'mm')
LISTED = re.compile(r'(include/linux/[^/]*\.h|mm/[^/]*\.[ch])\Z')
# Where what the copies stand for may come from besides: architecture, uapi, core code.
WIDER = (
    'include/linux', 'include/asm-generic', 'include/uapi/linux', 'include/uapi/asm-generic',
    'include/vdso', 'arch/x86/include', 'kernel', 'lib', 'fs', 'security', 'tools/include',
)  # fmt: skip
WIDER_LISTED = re.compile(r'(?:include|arch/x86/include|tools/include)/.*\.h\Z|\w+/[^/]*\.[ch]\Z')
WORD = re.compile(rb'\b[A-Za-z_]\w*')
NO_CODE = re.compile(rb'/\*(?:.*?\*/|.*)|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
FEW = 20
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


@lru_cache(maxsize=64)
def by_key_in(text: bytes | None) -> Mapping[Key, Sequence[Definition]]:
    """Group the definitions of a file that can be a copy or an original."""
    return by_key(definitions(text))


def by_key(found: Iterable[Definition]) -> dict[Key, list[Definition]]:
    """Group definitions by kind and name."""
    grouped: dict[Key, list[Definition]] = {}
    for definition in found:
        grouped.setdefault(key(definition), []).append(definition)
    return grouped


def originals(
    tree: Snapshot, wanted: Iterable[Key], paths: Iterable[str] | None = None
) -> dict[Key, list[tuple[str, Definition]]]:
    """
    Find the kernel's definitions of `wanted`, with the files that they lie in.

    `paths` are the files that may have one, as `mentioning()` finds them.
    """
    found: dict[Key, list[tuple[str, Definition]]] = {one: [] for one in wanted}
    for path in mentioning(tree, found) if paths is None else paths:
        for definition in definitions(tree.read(path)):
            if key(definition) in found:
                found[key(definition)].append((path, definition))
    return found


def mentioning(tree: Snapshot, wanted: Iterable[Key]) -> list[str]:
    """Return the files that may hold an original, and speak of one of `wanted`."""
    names = sorted({name.encode() for _, name in wanted})
    if not names:
        return []
    mentions = re.compile(rb'\b(?:' + b'|'.join(map(re.escape, names)) + rb')\b')
    found = []
    for path in nearest(tree):
        text = tree.read(path)
        # A search for one string is far quicker than one for a pattern.
        if text is None or (len(names) < FEW and not any(name in text for name in names)):
            continue
        if mentions.search(text):
            found.append(path)
    return found


def in_code(tree: Snapshot, names: Iterable[str], paths: Iterable[str]) -> set[str]:
    """Return which of `names` stand in the code of one of `paths`, comments left out."""
    wanted = {name.encode() for name in names}
    found: set[bytes] = set()
    for path in dict.fromkeys(paths):
        left = wanted - found
        if not left:
            break
        text = tree.read(path) or b''
        if any(name in text for name in left):
            found |= left.intersection(WORD.findall(NO_CODE.sub(b' ', text)))
    return {name.decode() for name in found}


def nearest(tree: Snapshot) -> Iterator[str]:
    """Yield the files that may hold an original."""
    for folder in ORIGINALS:
        yield from (path for path in tree.list(folder) if LISTED.match(path))


def core(tree: Snapshot) -> Iterator[str]:
    """Yield the files that what the tests copy or stub may come from, the nearest first."""
    yield from nearest(tree)
    for folder in WIDER:
        yield from (path for path in tree.list(folder) if WIDER_LISTED.match(path))


def is_kernel_code(path: str) -> bool:
    """Whether a file is C of the kernel itself."""
    return path.endswith(('.c', '.h')) and not path.startswith(('tools/', 'Documentation/'))


def names_in_tests(tree: Snapshot) -> set[str]:
    """Return the names that the headers of the tests define or declare."""
    return {
        found.name
        for path in tree.list(TESTS.rstrip('/'))
        if path.endswith('.h')
        for found in parse(tree.read(path) or b'').definitions
    }


def same(definition: Definition, others: Iterable[Definition]) -> bool:
    """Whether one of `others` says the same."""
    return any(definition.tokens == other.tokens for other in others)


def is_copy(copy: Definition, originals: Iterable[Definition]) -> bool:
    """Whether a copy says what the kernel does under the same `#if` (else under any)."""
    return same(copy, alike(copy, originals))


def alike(definition: Definition, others: Iterable[Definition]) -> list[Definition]:
    """Return those of `others` that stand under the same `#if` as `definition`; else all."""
    every = list(others)
    return [other for other in every if other.context == definition.context] or every


def is_original(path: str) -> bool:
    """Whether a file may hold an original."""
    return LISTED.match(path) is not None


def shown(definition: Definition) -> str:
    """Name a definition as a kernel developer writes it."""
    if definition.kind == 'function':
        return f'{definition.name}()'
    # An enum without a name goes by its first value.
    alone = definition.kind == 'macro' or definition.tokens[:2] == ('enum', '{')
    return definition.name if alone else f'{definition.kind} {definition.name}'


def copies_before_and_after(step: Step) -> tuple[list[Definition], list[Definition]]:
    """Return the copies as they are before and after a step."""
    return definitions(step.pre.read(COPIES)), definitions(step.post.read(COPIES))


def only_const(copy: Definition, others: Iterable[Definition]) -> bool:
    """Whether it is struct vm_area_desc, different by const alone: desc-const-removed says that."""
    if copy.name != 'vm_area_desc':
        return False
    plain = [token for token in copy.tokens if token != 'const']
    return any(plain == [token for token in other.tokens if token != 'const'] for other in others)
