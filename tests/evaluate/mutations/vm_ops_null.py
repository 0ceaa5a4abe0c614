"""
Tests of vm_ops are taken out of real code, and uses without one are put in.

Taken out are `x->vm_ops &&`, `!x->vm_ops ||` and `vma_is_anonymous(x) ||`
before a use of x, and an `if` on vm_ops or vma_is_anonymous() that only returns.
Put in is a use at the top of functions that others call, one a file. Functions
with a vm_fault at hand are left alone: the rule says nothing there.
"""

import re
from collections.abc import Iterator

from bot.csyntax import Function, parse
from bot.model import Snapshot
from bot.rule import Edit
from tests.evaluate.planting import Plant, text

COPIES = 'tools/testing/vma/include/dup.h'
PLACE = r'\b\w+(?:->\w+)*?'
INLINE = re.compile(
    rf'({PLACE})->vm_ops\s*&&\s+(?=!?\1->vm_ops->)|!({PLACE})->vm_ops\s*\|\|\s+(?=!\2->vm_ops->)'
    rf'|vma_is_anonymous\(({PLACE})\)\s*\|\|\s+(?=!\3->vm_ops->)'
    r'|!vm_ops\s*\|\|\s+(?=!vm_ops->)'
)
RETURNS = re.compile(
    rf'\n\tif \((?:!({PLACE})->vm_ops|vma_is_anonymous\(({PLACE})\))\)\n\t\treturn[^;]*;'
    r'(?=\n\t[^\n;]*(?:\1|\2)->vm_ops->)'
)
MEMBERS = ('open', 'close', 'fault', 'may_split', 'pagesize', 'access')
HEADERS = ('mm', 'huge', 'mempolicy', 'pagemap', 'rmap')
"""Of the headers in include/linux, those that a use is put into (how their names begin)."""


def plants(tree: Snapshot) -> Iterator[Plant]:
    copied = text(tree, COPIES)
    for folder in ('mm', 'include/linux', 'tools/testing/vma/include'):
        for path in tree.list(folder):
            if not path.endswith(('.c', '.h')):
                continue
            whole = text(tree, path)
            if 'vm_area_struct *' not in whole:
                continue
            functions = [
                one
                for one in parse(whole.encode('latin-1')).all_functions
                if one.clean and not any(v.type == 'struct vm_fault' for v in one.variables)
            ]
            yield from _taken_out(path, whole, functions, copied)
            name = path.rpartition('/')[2]
            if folder != 'include/linux' or name.startswith(HEADERS):
                yield from _put_in(path, whole, functions, copied)


def _taken_out(path: str, whole: str, functions: list[Function], copied: str) -> Iterator[Plant]:
    for pattern in (INLINE, RETURNS):
        for found in pattern.finditer(whole):
            function = next(
                (
                    one
                    for one in functions
                    if one.node.start_byte < found.start() < one.node.end_byte
                ),
                None,
            )
            if function is not None:
                new = whole[: found.start()] + whole[found.end() :]
                gone = ' '.join(found[0].split())
                yield _plant(
                    f'{path}: {function.name}() without {gone!r}', path, new, function, copied
                )


def _put_in(path: str, whole: str, functions: list[Function], copied: str) -> Iterator[Plant]:
    for n, function in enumerate(functions):
        vma = next(
            (
                one.name
                for one in function.variables
                if one.parameter and one.pointer and one.type == 'struct vm_area_struct'
            ),
            None,
        )
        first = next(
            (
                child
                for child in function.body.named_children
                if child.type in ('expression_statement', 'return_statement', 'if_statement')
            ),
            None,
        )
        static = not path.endswith('.h') and whole[function.node.start_byte :].startswith('static')
        if vma is None or first is None or static:
            continue
        member = MEMBERS[n % len(MEMBERS)]
        use = f'if ({vma}->vm_ops->{member})\n\t\tcond_resched();\n\t'
        new = whole[: first.start_byte] + use + whole[first.start_byte :]
        yield _plant(f'{path}: {function.name}() uses {member}', path, new, function, copied)
        return


def _plant(name: str, path: str, new: str, function: Function, copied: str) -> Plant:
    """Edit a file; where the VMA tests copy the function, drift is said too."""
    also = ('vma-test-drift', 'vma-test-copy') if f'{function.name}(' in copied else ()
    return Plant(name, (Edit({path: new}),), path, also=also)
