"""
Names of real functions, mistyped in the message or in a comment of a patch.

The letters are changed by program: two swapped, one left out, one doubled, one
replaced, and two of those at once in long names. What happens to be a word of
the kernel, or loses its underscores, is left out. Not found (and rightly so): a
slip of one letter that makes a plural or a participle, or that a macro of the
kernel could paste; and two slips in two parts of a name that make words of
both, as `uio_pcis_vva_open`, which might be a name of its own.
"""

from collections.abc import Iterator

from bot.csyntax import parse
from bot.model import Snapshot
from bot.rule import Edit
from tests.evaluate.planting import Plant, text

FOLDERS = ('mm', 'fs/ext4', 'drivers/uio')
MOST = 60
SENTENCES = (
    'While here, have {}() look at both ends of the range.',
    'Note that {} takes the lock by itself.',
    'Both callers end in\n{}(), so do it there.',
)


def plants(tree: Snapshot) -> Iterator[Plant]:
    """Yield a patch that adds a comment to a file, and speaks of a function of that file."""
    done = 0
    for folder in FOLDERS:
        for path in list(tree.list(folder))[::4]:
            if done == MOST or not path.endswith('.c'):
                continue
            before = text(tree, path)
            names = [
                name
                for name in parse(before.encode('latin-1')).functions
                if name.strip('_').count('_') >= 2
            ]
            for name in names[:1]:
                slip = mistyped(name, done)
                if tree.knows(slip) or slip.strip('_').count('_') < 2:
                    continue
                yield _plant(path, before, slip, done)
                done += 1


def mistyped(name: str, seed: int) -> str:
    """Return a name with a slip or two of the fingers."""
    at = 3 + seed % (len(name) - 6)
    slips = (
        name[:at] + name[at + 1] + name[at] + name[at + 2 :],
        name[:at] + name[at + 1 :],
        name[:at] + name[at] + name[at:],
        name[:at] + ('k' if name[at] != 'k' else 'j') + name[at + 1 :],
    )
    slip = slips[seed % 4]
    return mistyped(slip, seed + 2) if seed % 5 == 4 and len(name) >= 16 and seed < MOST else slip


def _plant(path: str, before: str, name: str, seed: int) -> Plant:
    sentence = SENTENCES[seed % 3].format(name)
    if seed % 2:
        edit = Edit({path: f'{before}\n/* {sentence} */\n'}, 'mm: say more\n\nJust a comment.')
        return Plant(f'{path}: comment: {name}', (edit,), path)
    edit = Edit({path: f'{before}\n/* The end. */\n'}, f'mm: say more\n\nThis is it.\n{sentence}\n')
    return Plant(f'{path}: message: {name}', (edit,))
