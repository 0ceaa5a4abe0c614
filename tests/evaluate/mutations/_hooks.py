"""The mmap_prepare hooks of a kernel, and how to put code into them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tree_sitter import Node

from bot.csyntax import Function, parse
from bot.model import Snapshot
from tests.evaluate.planting import mentioning, text

FOLDERS = (
    'fs', 'mm', 'block', 'kernel', 'drivers/char', 'drivers/dax', 'drivers/hwtracing/stm',
    'drivers/misc', 'drivers/mtd', 'drivers/staging/vme_user', 'drivers/target', 'drivers/uio',
)  # fmt: skip
# The core's own functions that work on a descriptor; they are no hooks.
CORE = ('mm/vma.c', 'mm/util.c', 'mm/memory.c')
FAILS = re.compile(r'return\s*-\s*E')
SETS_OPS = re.compile(r'desc->vm_ops = &(\w+);')


@dataclass(frozen=True)
class Place:
    """One hook; `end` is where its last statement, a return, begins."""

    path: str
    whole: str
    function: Function
    end: int

    @property
    def name(self) -> str:
        return f'{self.path}: {self.function.name}()'

    @property
    def body(self) -> str:
        return self.whole[self.function.body.start_byte : self.function.body.end_byte]

    @property
    def fails(self) -> bool:
        """Whether there is nothing but an error at its end."""
        return FAILS.match(self.whole[self.end :]) is not None

    def before_return(self, *lines: str) -> str:
        """Return the file with lines put in before the last return."""
        start = self.whole.rindex('\n', 0, self.end) + 1
        put = ''.join(f'\t{line}\n' for line in lines)
        return self.whole[:start] + put + self.whole[start:]


def places(tree: Snapshot) -> Iterator[Place]:
    """Yield the hooks of a tree, in the order of their files."""
    for path in mentioning(tree, (b'vm_area_desc',), FOLDERS):
        if path in CORE or not path.endswith('.c'):
            continue
        whole = text(tree, path)
        for function in parse(whole.encode('latin-1')).all_functions:
            takes = any(
                one.parameter and one.pointer and one.name == 'desc' for one in function.variables
            )
            if takes and 'mmap_' in function.name and 'prepare' in function.name:
                last = _last_return(function.body)
                if last is not None:
                    yield Place(path, whole, function, last.start_byte)


def _last_return(body: Node) -> Node | None:
    inner = [child for child in body.named_children if child.type != 'comment']
    if not inner:
        return None
    if inner[-1].type == 'labeled_statement':
        inner = list(inner[-1].named_children)
    return inner[-1] if inner[-1].type == 'return_statement' else None
