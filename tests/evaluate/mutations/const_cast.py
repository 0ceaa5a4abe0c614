"""
Parameters that point to const are stored in places that do not.

In functions of mm/, of the file systems' top folder and of the headers about
mm, one in a few, each time another way: a member, a local, a member of an
initialiser, one side of a `?:`, behind parentheses.
"""

import re
from collections.abc import Iterator

from bot.csyntax import Function, parse
from bot.csyntax.syntax import line_of
from bot.model import Snapshot
from bot.rule import Edit
from rules.const_cast import parameters
from tests.evaluate.planting import Plant, mentioning, text

FOLDERS = ('mm', 'fs', 'include/linux')
PATHS = re.compile(r'mm/\w+\.[ch]|fs/\w+\.c|include/linux/(?:mm|page|huge|rmap|fs)\w*\.h')
MOST = 60
DECLARED = (
    '{type} *planted = ({type} *){name};',
    'struct planted planted = {{ .owner = ({type} *){name} }};',
    'void *planted = ({type} *)({name});',
)
STATED = (
    'planted_state.owner = ({type} *){name};',
    'planted_owner = {name} ? ({type} *){name} : NULL;',
    'if ({name})\n\t\tplanted_state.owners[0] = ({type} *) {name};',
)
ALSO = ('vma-test-drift', 'vma-test-copy', 'vma-test-build')


def plants(tree: Snapshot) -> Iterator[Plant]:
    n = 0
    for path in mentioning(tree, (b'const struct',), FOLDERS):
        if not PATHS.fullmatch(path):
            continue
        whole = text(tree, path)
        taken = 0
        for function in parse(whole.encode('latin-1')).all_functions:
            found = list(parameters(function)) if function.clean else []
            if not found or line_of(function.body) == function.end or n >= MOST or taken >= 2:
                continue
            n, taken = n + 1, taken + 1
            name, type_ = found[0]
            yield _plant(path, whole, function, n, name, type_)


def _plant(path: str, whole: str, function: Function, n: int, name: str, type_: str) -> Plant:
    first = declared = line_of(function.body)
    for node in function.body.named_children:
        if node.type not in ('declaration', 'comment'):
            break
        declared = node.end_point.row + 1
    way = (*DECLARED, *STATED)[n % 6]
    line = first if way in DECLARED else declared
    statement = way.format(type=type_, name=name)
    lines = whole.split('\n')
    new = '\n'.join([*lines[:line], f'\t{statement}', *lines[line:]])
    edit = Edit({path: new}, f'{path.rpartition("/")[2]}: remember the owner\n\nFor later use.')
    shown = re.sub(r'\s+', ' ', statement)
    return Plant(f'{function.name}() of {path}: {shown}', (edit,), path, also=ALSO)
