"""
Functions that get a descriptor are made to write its mm, file, start or end.

At the first statement of functions that take a pointer to one, two a file, the
constructors left out, with another field and another way of writing each time:
plain, compound, by `++`, through `*`, behind an `if` or an `#ifdef`. And in the
functions that fill one by the helper, behind that.
"""

import re
from collections.abc import Iterator

from bot.csyntax import Function, calls, parse
from bot.csyntax.syntax import line_of
from bot.model import Snapshot
from bot.rule import Edit
from rules.desc_immutable_write import CONSTRUCTORS, DESC, SET
from tests.evaluate.planting import Plant, mentioning, text

FOLDERS = ('mm', 'fs', 'drivers', 'block', 'kernel', 'include/linux', 'tools/testing/vma')
WAYS = (
    '{d}->file = NULL;',
    '{d}->end = {d}->start + PAGE_SIZE;',
    '{d}->start += PAGE_SIZE;',
    '{d}->mm = current->mm;',
    '(*{d}).start = 0;',
    'if ({d}->file)\n\t\t{d}->file = file_inode({d}->file)->i_private;',
    '#ifdef CONFIG_MMU\n\t{d}->end--;\n#endif',
    'WRITE_ONCE({d}->end, PAGE_ALIGN({d}->end));',
    '--{d}->start;',
    'for (;;) {{\n\t\t{d}->mm = NULL;\n\t\tbreak;\n\t}}',
)
# What copies or is copied: the tests' rules have their say too.
ALSO = ('vma-test-drift', 'vma-test-copy', 'prepare-vma-api')


def plants(tree: Snapshot) -> Iterator[Plant]:
    n = 0
    for path in mentioning(tree, (b'vm_area_desc',), FOLDERS):
        whole = text(tree, path)
        taken = 0
        for function in parse(whole.encode('latin-1')).all_functions:
            if not function.clean or function.name in CONSTRUCTORS:
                continue
            name = _parameter(function)
            if name is not None and taken < 2 and (at := _first(function)) is not None:
                n, taken = n + 1, taken + 1
                yield _plant(path, whole, function, at, WAYS[n % len(WAYS)].format(d=name))
            for call in calls(function.body):
                if call.plain and call.name == SET and call.arguments[0].startswith('&'):
                    statement = f'{call.arguments[0].lstrip("& ")}.file = NULL;'
                    yield _plant(path, whole, function, call.line, statement)


def _parameter(function: Function) -> str | None:
    found = [one for one in function.variables if one.parameter and one.pointer]
    return next((one.name for one in found if one.type == DESC), None)


def _first(function: Function) -> int | None:
    """Return the line that the first statement is to stand behind."""
    if line_of(function.body) == function.end:
        return None
    last = line_of(function.body)
    for node in function.body.named_children:
        if node.type not in ('declaration', 'comment'):
            break
        last = node.end_point.row + 1
    return last


def _plant(path: str, whole: str, function: Function, line: int, statement: str) -> Plant:
    lines = whole.split('\n')
    new = '\n'.join([*lines[:line], f'\t{statement}'.replace('\t#', '#'), *lines[line:]])
    shown = re.sub(r'\s+', ' ', statement)
    edit = Edit({path: new}, f'{path.rpartition("/")[2]}: narrow the range\n\nOnly part of it.')
    return Plant(f'{function.name}() of {path}: {shown}', (edit,), path, also=ALSO)
