"""
A struct that a document shows as it is changes, the document does not.

First the documents' own quotes that are the same as the kernel's struct today;
then structs of the memory management that no document shows, for which the
base is given a document with an indented quote.
"""

import re
from collections.abc import Iterator

from bot.csyntax import Definition, parse
from bot.model import Snapshot
from bot.rule import Edit
from rules import _copies as copies
from rules.struct_doc_stale import QUOTE, _quotes_in
from tests.evaluate.planting import Plant, text

FOLDERS = ('include/linux', 'mm', 'fs/crypto', 'fs/omfs', 'include/uapi/linux')
SHOWN = ('include/linux/mm_types.h', 'include/linux/mm.h', 'mm/vma.h', 'mm/internal.h')
DOCUMENT = 'Documentation/mm/structures.rst'
MEMBER = re.compile(r'^(\s+)((?:[\w*]+[ \t]+)+\**)(\w+)((?:\[[^\]]*\])?;)', re.M)
# What a change of these means for others, too.
ALSO = ('vma-test-drift', 'desc-const-removed', 'desc-uninitialised', 'desc-round-trip')
MOST = 90


def plants(tree: Snapshot) -> Iterator[Plant]:
    yield from _quoted(tree)
    yield from _to_be_quoted(tree)


def _quoted(tree: Snapshot) -> Iterator[Plant]:
    quotes: dict[str, list[str]] = {}
    for document in tree.list('Documentation'):
        if document.endswith(('.rst', '.txt')) and '/translations/' not in document:
            for found in QUOTE.finditer(tree.read(document) or b''):
                quotes.setdefault(found[2].decode(), []).append(document)
    count = 0
    for folder in FOLDERS:
        for path in tree.list(folder):
            whole = text(tree, path) if path.endswith('.h') else ''
            names = set(re.findall(r'^struct (\w+) \{', whole, re.M)) & set(quotes)
            for found_struct in _structs(whole, names):
                name = found_struct.name
                for document in dict.fromkeys(quotes[name]):
                    same = _quotes_in(document, tree.read(document), {name})
                    if count == MOST or all(q[3] != found_struct.tokens for q in same):
                        continue
                    for how, changed in _changes(whole, found_struct, count):
                        count += 1
                        edit = Edit({path: changed}, f'Change struct {name}\n\nFor a new user.')
                        yield Plant(f'{name} in {document}: {how}', (edit,), path, also=ALSO)


def _to_be_quoted(tree: Snapshot) -> Iterator[Plant]:
    for path in SHOWN:
        whole = text(tree, path)
        for n, struct in enumerate(_structs(whole, None)):
            lines = whole.split('\n')[struct.start - 1 : struct.end]
            if '#' in '\n'.join(lines) or re.match(r'struct \w+ \{', lines[0]) is None:
                continue
            shown = '\n'.join(f'    {line}' if line else '' for line in lines)
            before = {DOCUMENT: f'Structures\n==========\n\n.. code-block:: c\n\n{shown}\n\nEnd.\n'}
            for how, changed in _changes(whole, struct, n):
                files: dict[str, str | None] = {path: changed}
                if (along := _copy(tree, whole, struct, changed)) is not None:
                    files[copies.COPIES] = along
                edit = Edit(files, f'mm: change struct {struct.name}\n\nFor a new user.')
                yield Plant(f'{struct.name} of {path}: {how}', (edit,), path, before, ALSO)


def _structs(whole: str, names: set[str] | None) -> Iterator[Definition]:
    for found in parse(whole.encode('latin-1')).definitions:
        if found.kind == 'struct' and (names is None or found.name in names):
            yield found


def _changes(whole: str, struct: Definition, n: int) -> Iterator[tuple[str, str]]:
    """Yield one change of a struct, another for every `n`: (what, the file's new text)."""
    lines = whole.split('\n')
    body = '\n'.join(lines[struct.start - 1 : struct.end])
    found = MEMBER.search(body)
    if found is None:
        return
    first, indent = found[0], found[1].lstrip('\n')
    changes = [
        ('a new member', f'{first}\n{indent}unsigned long planted;'),
        ('a renamed member', f'{found[1]}{found[2]}{found[3]}_planted{found[4]}'),
        ('another type', f'{found[1]}planted_t {found[3]}{found[4]}'),
        ('a removed member', f'{indent}/* gone */'),
    ]
    how, new = changes[n % len(changes)]
    changed = body.replace(first, new, 1)
    yield how, '\n'.join([*lines[: struct.start - 1], changed, *lines[struct.end :]])


def _copy(tree: Snapshot, whole: str, struct: Definition, changed: str) -> str | None:
    """Return dup.h with the struct as it now is, where it had the same one."""
    dup = text(tree, copies.COPIES)
    for copy in parse(dup.encode('latin-1')).named(struct.name, 'struct'):
        if copy.tokens == struct.tokens:
            more = changed.count('\n') - whole.count('\n')
            new = changed.split('\n')[struct.start - 1 : struct.end + more]
            lines = dup.split('\n')
            return '\n'.join([*lines[: copy.start - 1], *new, *lines[copy.end :]])
    return None
