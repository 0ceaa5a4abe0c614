"""
Copies and stubs that stay when the kernel's name goes, and copies of nothing.

Names that dup.h or stubs.h have are renamed in all of the kernel's code (those
that few files have; the rest would make a patch of thousands of lines), and
functions of dup.h are added a second time under a name that the kernel lacks.
"""

import re
from collections.abc import Iterator

from bot.csyntax import parse
from bot.model import Snapshot
from bot.rule import Edit
from rules import _copies as copies
from tests.evaluate.mutations._definitions import copied, text_of
from tests.evaluate.planting import Plant, text

FILES, KEPT, GAINED = 10, 40, 20
# Copies that mention the name are the same no longer, nor is a document of it.
ALSO = (
    'vma-test-drift', 'vma-stub-signature', 'struct-doc-stale', 'identifier-unknown',
    'compat-pair', 'desc-immutable-write', 'desc-round-trip', 'action-unhandled',
)  # fmt: skip


def plants(tree: Snapshot) -> Iterator[Plant]:
    """Kept ones, then gained ones."""
    yield from _kept(tree)
    yield from _gained(tree)


def _kept(tree: Snapshot) -> Iterator[Plant]:
    originals = {copy.name: path for copy, path, _ in copied(tree)}
    stubbed = {found.name for found in copies.definitions(tree.read(copies.STUBS))}
    files: dict[str, set[str]] = {}
    defined: dict[str, str] = {}
    for path in dict.fromkeys(copies.core(tree)):
        source = tree.read(path) or b''
        code = copies.NO_CODE.sub(b' ', source)
        for word in {word.decode() for word in copies.WORD.findall(code)} & {*originals, *stubbed}:
            files.setdefault(word, set()).add(path)
    for name in sorted(stubbed & set(files)):
        for path in sorted(files[name]) if len(files[name]) <= FILES else ():
            if parse(tree.read(path) or b'').named(name):
                defined[name] = path
    few = {**originals, **defined}
    chosen = sorted(name for name in few if 0 < len(files.get(name, ())) <= FILES)
    for name in chosen[:: max(1, len(chosen) // KEPT)]:
        edits = {
            path: re.sub(rf'\b{name}\b', f'{name}_planted', text(tree, path))
            for path in files[name]
        }
        message = f'mm: rename {name}\n\nThe new name says better what it is.'
        yield Plant(f'{name}: renamed', (Edit(edits, message),), also=ALSO)


def _gained(tree: Snapshot) -> Iterator[Plant]:
    found = [copy for copy, _, original in copied(tree) if original.kind == 'function']
    dup = text(tree, copies.COPIES)
    for copy in found[:: max(1, len(found) // GAINED)]:
        name = f'{copy.name}_planted'
        mine = text_of(tree, copies.COPIES, copy).replace(copy.name, name)
        edit = Edit({copies.COPIES: f'{dup}\n{mine}\n'}, 'mm: test more\n\nIn the VMA tests.')
        yield Plant(f'{name}: added', (edit,), copies.COPIES)
