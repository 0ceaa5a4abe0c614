"""
Names in the conditions of the VMA tests, each misspelt.

A letter is doubled or dropped, or an `S` or `_` put in, in turn. Left out are
header guards and what the compiler defines. Where a condition lies in a copy,
the copy differs from the kernel's besides.
"""

import re
from collections.abc import Iterator

from bot.model import Snapshot
from bot.rule import Edit
from rules import _copies as copies
from tests.evaluate.planting import Plant, text

MOST = 60
CONDITION = re.compile(r'^[ \t]*#[ \t]*(?:el)?if(?:n?def)?\b([^\n]*)', re.M)
NAME = re.compile(r'\b(?!defined\b)[A-Za-z]\w{5,}')


def plants(tree: Snapshot) -> Iterator[Plant]:
    """One a name and condition, in the order of the files."""
    places = [
        (path, condition.start(1) + name.start(), name[0])
        for path in tree.list(copies.TESTS.rstrip('/'))
        if path.endswith(('.c', '.h'))
        for condition in CONDITION.finditer(text(tree, path))
        for name in NAME.finditer(condition[1].split('/*')[0])
    ]
    for n, (path, at, name) in enumerate(places[:: max(1, len(places) // MOST)]):
        whole = text(tree, path)
        wrong = _misspelt(name, n)
        edit = Edit(
            {path: whole[:at] + wrong + whole[at + len(name) :]},
            'tools/testing/vma: correct a condition\n\nIt did not say what was meant.',
        )
        line = whole.count('\n', 0, at) + 1
        yield Plant(f'{path}:{line}: {wrong}', (edit,), path, also=('vma-test-copy',))


def _misspelt(name: str, n: int) -> str:
    middle = len(name) // 2 + 1
    return (
        name[:middle] + name[middle - 1] + name[middle:],
        name[:middle] + name[middle + 1 :],
        f'{name}S',
        f'{name[:middle]}_{name[middle:]}',
    )[n % 4]
