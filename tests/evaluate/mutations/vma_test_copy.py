"""
Every copy in dup.h that is as the kernel has it is edited alone, or added with a difference.

Structs and enums that merely leave something out are not planted: the rule
takes a new one for a partial type, as dup.h has them on purpose.
"""

from collections.abc import Iterator

from bot.csyntax import parse
from bot.model import Snapshot
from bot.rule import Edit
from rules import _copies as copies
from tests.evaluate.mutations._definitions import changed, copied, removed
from tests.evaluate.planting import Plant, text

ALSO = ('action-unhandled', 'desc-uninitialised', 'desc-round-trip')


def plants(tree: Snapshot) -> Iterator[Plant]:
    dup = text(tree, copies.COPIES)
    for n, (copy, path, _) in enumerate(copied(tree)):
        for how, new in changed(dup, copy, n):
            name = f'{copies.shown(copy)} of {path}'
            edit = Edit(
                {copies.COPIES: new}, f'tools/testing/vma: change {copy.name}\n\nBetter so.'
            )
            yield Plant(f'{name} edited: {how}', (edit,), copies.COPIES, also=ALSO)
            alone = len(parse(dup.encode('latin-1')).named(copy.name)) == 1
            if n % 3 == 0 and alone:
                before = {copies.COPIES: removed(dup, copy)}
                yield Plant(f'{name} added: {how}', (edit,), copies.COPIES, before, ALSO)
