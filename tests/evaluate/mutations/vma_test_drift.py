"""
Every definition that dup.h copies is changed in the kernel, and the copy is not.

Each alone; then some as the second patch of a series whose first patch touches
the copies elsewhere.
"""

from collections.abc import Iterator

from bot.model import Snapshot
from bot.rule import Edit
from rules import _copies as copies
from tests.evaluate.mutations._definitions import changed, copied
from tests.evaluate.planting import Plant, text

# What such a change of the pair, a descriptor, an action or a prototype breaks besides.
ALSO = (
    'action-unhandled', 'desc-const-removed', 'desc-immutable-write', 'desc-round-trip',
    'desc-uninitialised', 'struct-doc-stale', 'vma-stub-signature', 'identifier-unknown',
)  # fmt: skip


def plants(tree: Snapshot) -> Iterator[Plant]:
    dup = text(tree, copies.COPIES)
    for n, (_, path, original) in enumerate(copied(tree)):
        for how, new in changed(text(tree, path), original, n):
            name = f'{copies.shown(original)} in {path}: {how}'
            edit = Edit({path: new}, f'mm: change {original.name}\n\nSo that it does more.')
            yield Plant(name, (edit,), path, also=ALSO)
            if n % 8 == 0:
                first = Edit({copies.COPIES: dup + '\n/* The end. */\n'}, 'mm: a comment\n\nOne.')
                yield Plant(f'{name}, in patch 2', (first, edit), path, also=ALSO)
