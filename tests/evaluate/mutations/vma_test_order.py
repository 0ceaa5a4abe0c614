"""
Every definition that dup.h copies is changed on both sides, in two patches.

In turn the kernel goes first, the copy goes first with a patch between, and
a function like the copied one comes under a name of its own, first to the
copies, then to the kernel.

Missed is what is defined alike under several `#if` (VM_ARCH_CLEAR): changed in
one of them, the copy is still as the other one is.
"""

from collections.abc import Iterator

from bot.csyntax import Definition, parse
from bot.model import Snapshot
from bot.rule import Edit
from rules import _copies as copies
from tests.evaluate.mutations._definitions import changed, copied, text_of
from tests.evaluate.planting import Plant, text

# What such a change of the pair, a descriptor or an action breaks besides.
ALSO = (
    'action-unhandled', 'desc-const-removed', 'desc-immutable-write', 'desc-round-trip',
    'desc-uninitialised', 'struct-doc-stale', 'vma-stub-signature', 'identifier-unknown',
)  # fmt: skip
BETWEEN = 'mm/mmap.c'
EVERY = 3


def plants(tree: Snapshot) -> Iterator[Plant]:
    """One of three ways for every third copy."""
    found = copied(tree)
    between = Edit({BETWEEN: text(tree, BETWEEN) + '\n/* The end. */\n'}, 'mm: a comment\n\nOne.')
    for n, (copy, path, original) in enumerate(found[::EVERY]):
        ahead = _changed(tree, path, original, n)
        if ahead is None:
            continue
        new, definition = ahead
        behind = _replaced(text(tree, copies.COPIES), copy, definition)
        name = copies.shown(original)
        kernel = Edit({path: new}, f'mm: change {original.name}\n\nSo that it does more.')
        follow = Edit({copies.COPIES: behind}, 'mm: have it in the VMA tests\n\nAs the kernel has.')
        if n % EVERY == 0:
            yield Plant(f'{name}: kernel first', (kernel, follow), path, also=ALSO)
        elif n % EVERY == 1 or original.kind != 'function':
            patches = (follow, between, kernel)
            yield Plant(f'{name}: copy first', patches, copies.COPIES, also=ALSO)
        else:
            yield _added(tree, copy, path, original)


def _changed(tree: Snapshot, path: str, original: Definition, n: int) -> tuple[str, str] | None:
    """Return a file with a changed definition, and the text of that."""
    for _, new in changed(text(tree, path), original, n):
        for found in parse(new.encode('latin-1')).named(original.name, original.kind):
            if found.context == original.context and found.tokens != original.tokens:
                return new, '\n'.join(new.split('\n')[found.start - 1 : found.end])
    return None


def _replaced(whole: str, old: Definition, new: str) -> str:
    lines = whole.split('\n')
    return '\n'.join([*lines[: old.start - 1], new, *lines[old.end :]])


def _added(tree: Snapshot, copy: Definition, path: str, original: Definition) -> Plant:
    """Add a function like it under a name of its own, one side after the other."""
    dup, whole = text(tree, copies.COPIES), text(tree, path)
    name = f'{original.name}_planted'
    mine = text_of(tree, copies.COPIES, copy).replace(original.name, name)
    theirs = text_of(tree, path, original).replace(original.name, name)
    return Plant(
        f'{name}(): copy added first',
        (
            Edit({copies.COPIES: f'{dup}\n{mine}\n'}, f'mm: test {name}()\n\nFrom the start.'),
            Edit({path: _behind(whole, original, theirs)}, f'mm: add {name}()\n\nFor later use.'),
        ),
        copies.COPIES,
        also=ALSO,
    )


def _behind(whole: str, original: Definition, new: str) -> str:
    lines = whole.split('\n')
    return '\n'.join([*lines[: original.end], '', new, *lines[original.end :]])
