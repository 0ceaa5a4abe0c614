"""
A hook takes what belongs to one mapping.

Into every hook goes an allocation for desc->private_data. Where the vm_ops are
of the same file, their .open and .close are given a pair of calls first
(unless they have such handlers), and the hook is then given the first of it.
"""

import re
from collections.abc import Iterator

from bot.csyntax import calls, parse
from bot.model import Snapshot
from bot.rule import Edit
from tests.evaluate.mutations._hooks import SETS_OPS, Place, places
from tests.evaluate.planting import Plant

ALLOCATIONS = (
    ('desc->private_data = kzalloc(sizeof(struct planted), GFP_KERNEL);',),
    (
        'desc->private_data = kzalloc_obj(struct planted);',
        'if (!desc->private_data)',
        '	return -ENOMEM;',
    ),
    ('desc->private_data = (void *)get_zeroed_page(GFP_KERNEL);',),
    ('desc->private_data = kmem_cache_alloc(planted_cache, GFP_KERNEL);',),
)
# What .open does, what .close does, and what the hook then does.
PAIRS = (
    (
        'kref_get(&planted.kref);',
        'kref_put(&planted.kref, planted_free);',
        ('kref_get(&planted.kref);',),
    ),
    ('refcount_inc(&planted.users);', 'planted_drop();', ('refcount_inc(&planted.users);',)),
    ('planted_users_add(vma);', 'planted_users_remove(vma);', ('planted_users_add(desc);',)),
    (
        'if (!try_module_get(planted.owner))\n\t\treturn;',
        'module_put(planted.owner);',
        ('if (!try_module_get(planted.owner))', '	return -ENODEV;'),
    ),
    ('planted_note_mapping();', 'planted_gone();', ('planted_note_mapping();',)),
)
OPS = r'struct\s+vm_operations_struct\s+{}\s*=\s*\{{'
TAKES = re.compile(r'kref_get|refcount_inc|pm_runtime_get\w*|\w+_add_\w+')


def plants(tree: Snapshot) -> Iterator[Plant]:
    for n, place in enumerate(places(tree)):
        lines = ALLOCATIONS[n % len(ALLOCATIONS)]
        yield Plant(
            f'{place.name} allocates',
            (Edit({place.path: place.before_return(*lines)}),),
            place.path,
        )
        yield from _of_its_own(place)
        yield from _references(place, n)


def _references(place: Place, n: int) -> Iterator[Plant]:
    """Give the vm_ops handlers first."""
    ops = SETS_OPS.search(place.body)
    if ops is None:
        return
    defined = re.search(OPS.format(ops[1]) + r'[^{}]*\}', place.whole)
    if defined is None or re.search(r'\.(open|mapped|close)\b', defined[0]):
        return
    opens, closes, hook = PAIRS[n % len(PAIRS)]
    handlers = (
        f'static void planted_open(struct vm_area_struct *vma)\n{{\n\t{opens}\n}}\n\n'
        f'static void planted_close(struct vm_area_struct *vma)\n{{\n\t{closes}\n}}\n\n'
    )

    def given(text: str) -> str:
        at = re.search(r'^(?:static\s+)?(?:const\s+)?' + OPS.format(ops[1]), text, re.M)
        assert at is not None
        return (
            text[: at.start()]
            + handlers
            + at[0]
            + '\n\t.open = planted_open,\n\t.close = planted_close,'
            + text[at.end() :]
        )

    yield Plant(
        f'{place.name}: {hook[0]}',
        (Edit({place.path: given(place.before_return(*hook))}),),
        place.path,
        before={place.path: given(place.whole)},
    )


def _of_its_own(place: Place) -> Iterator[Plant]:
    """Repeat what the vm_ops' own handlers do."""
    ops = SETS_OPS.search(place.body)
    defined = re.search(OPS.format(ops[1]) + r'[^{}]*\}', place.whole) if ops else None
    if defined is None:
        return
    functions = parse(place.whole.encode('latin-1')).functions
    for handler in re.findall(r'\.(?:open|mapped)\s*=\s*(\w+)', defined[0]):
        for call in calls(functions[handler].body) if handler in functions else ():
            if TAKES.fullmatch(call.name):
                yield Plant(
                    f'{place.name} calls {call.name}() as {handler}() does',
                    (Edit({place.path: place.before_return(f'{call.name}(planted);')}),),
                    place.path,
                )
