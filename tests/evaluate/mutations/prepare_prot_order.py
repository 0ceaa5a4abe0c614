"""
A hook assigns page_prot, or pgoff, behind the action that captures it.

Action and assignment in the wrong order go into every hook that can succeed at
its end, in turn plainly, under a condition, by a macro and for the offset;
and an assignment goes behind every such action that a hook has.
"""

import re
from collections.abc import Iterator

from bot.model import Snapshot
from bot.rule import Edit
from tests.evaluate.mutations._hooks import places
from tests.evaluate.planting import Plant

PROT = 'desc->page_prot = pgprot_noncached(desc->page_prot);'
MISTAKES = (
    ('mmap_action_remap_full(desc, planted_pfn);', PROT),
    (
        'if (planted_io)',
        '	mmap_action_ioremap(desc, desc->start, planted_pfn, PAGE_SIZE);',
        'else',
        '	mmap_action_simple_ioremap(desc, planted_base, PAGE_SIZE);',
        PROT,
    ),
    (
        'mmap_action_ioremap_full(desc, planted_pfn);',
        'if (planted_wc)',
        '	desc->page_prot = pgprot_writecombine(desc->page_prot);',
    ),
    ('mmap_action_map_kernel_pages_full(desc, planted_pages);', 'desc->pgoff = 0;'),
    (
        'mmap_action_remap(desc, desc->start, planted_pfn, PAGE_SIZE);',
        'pgprot_val(desc->page_prot) |= planted_bits;',
    ),
)
ACTION = re.compile(r'^\t+mmap_action_(?:io)?remap(?:_full)?\(desc,[^;]*\);\n', re.M)


def plants(tree: Snapshot) -> Iterator[Plant]:
    for n, place in enumerate(places(tree)):
        if not place.fails:
            lines = MISTAKES[n % len(MISTAKES)]
            changed = place.before_return(*lines)
            yield Plant(f'{place.name}: {lines[0]}', (Edit({place.path: changed}),), place.path)
        start = place.function.body.start_byte
        for found in ACTION.finditer(place.body):
            at = start + found.end()
            changed = f'{place.whole[:at]}\t{PROT}\n{place.whole[at:]}'
            yield Plant(f'{place.name}: its own', (Edit({place.path: changed}),), place.path)
