"""
Names that nothing has: called, spoken of, and described as a parameter.

Calls go to the end of real functions (which parse, and are in no copy of the
VMA tests), parameters are renamed in real kernel-doc comments that fitted, and
the prose is a sentence in the message or a comment.
"""

import re
from collections.abc import Iterator

from bot.csyntax import parse
from bot.model import Snapshot
from bot.rule import Edit
from tests.evaluate.planting import Plant, text

FOLDERS = ('mm/damon', 'mm/kfence', 'fs/ext4', 'fs/proc', 'drivers/uio', 'drivers/char', 'lib')
MOST = 20
"""Plants of a kind."""
DOCUMENTED = re.compile(
    r'^/\*\*\n \* (\w+)(?:\(\))? - [^\n]*\n \* @(\w+):(?:(?!\*/).)*?\*/\n'
    r'(?:static |inline |extern )*\w[^;{}()#=]*\b\1\([^;{}()]*\b\2\b[^;{}()]*\)\s*\{',
    re.M | re.S,
)


def plants(tree: Snapshot) -> Iterator[Plant]:
    """Yield calls, prose and parameters in turn, a file at a time."""
    calls = prose = parameters = 0
    for folder in FOLDERS:
        for path in list(tree.list(folder))[::2]:
            if not path.endswith('.c'):
                continue
            before = text(tree, path)
            found = [one for one in parse(before.encode('latin-1')).all_functions if one.clean]
            if not found:
                continue
            if calls < MOST:
                calls += 1
                name = f'{found[-1].name}_unheard_of'
                end = found[-1].body.end_byte - 1
                after = before[:end] + f'\t{name}();\n' + before[end:]
                yield Plant(f'{path}: call: {name}', (Edit({path: after}),), path)
            elif prose < MOST:
                prose += 1
                sentence = f'This is done as {found[0].name}_unheard_of() does it.'
                if prose % 2:
                    edit = Edit({path: f'{before}\n/* {sentence} */\n'})
                    yield Plant(f'{path}: comment', (edit,), path)
                else:
                    edit = Edit({path: f'{before}\n/* The end. */\n'}, f'x: y\n\n{sentence}')
                    yield Plant(f'{path}: message', (edit,))
            documented = DOCUMENTED.search(before)
            if documented is not None and parameters < MOST:
                parameters += 1
                at = documented.start(2)
                after = before[:at] + 'unheard_of' + before[documented.end(2) :]
                yield Plant(f'{path}: @{documented[2]}', (Edit({path: after}),), path)
