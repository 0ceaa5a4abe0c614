"""
A hook does what needs a VMA, pokes its action, or keeps a lock.

One of the three into every hook, in turn; and every release of a lock that a
hook has before one of its returns is left out once.
"""

import re
from collections.abc import Iterator

from bot.model import Snapshot
from bot.rule import Edit
from tests.evaluate.mutations._hooks import places
from tests.evaluate.planting import Plant

MISTAKES = (
    ('remap_pfn_range(planted_vma, desc->start, desc->pgoff, PAGE_SIZE, desc->page_prot);',),
    ('desc->action.type = MMAP_REMAP_PFN;',),
    ('mutex_lock(&planted_lock);',),
    ('vm_flags_set(find_vma(desc->mm, desc->start), VM_DONTEXPAND);',),
    ('desc->action.remap.pgprot = desc->page_prot;',),
    ('if (mutex_lock_interruptible(&planted_lock))', '	return -EINTR;'),
    ('if (vm_iomap_memory(planted_vma, planted_base, PAGE_SIZE))', '	return -EAGAIN;'),
    ('memset(&desc->action, 0, sizeof(desc->action));', 'desc->action = planted_action;'),
    ('rcu_read_lock();', '(void)file_inode(desc->file);'),
    ('vma_set_page_prot(planted_vma);',),
    (
        'down_read(&planted_sem);',
        'if (!planted_ready)',
        '	return -EBUSY;',
        'up_read(&planted_sem);',
    ),
    ('vm_insert_page(planted_vma, desc->start, planted_page);',),
)
RELEASE = re.compile(r'^\t+(?:mutex_unlock|inode_unlock|spin_unlock|up_read)\([^;]*\);\n', re.M)


def plants(tree: Snapshot) -> Iterator[Plant]:
    for n, place in enumerate(places(tree)):
        lines = MISTAKES[n % len(MISTAKES)]
        yield Plant(
            f'{place.name}: {lines[0]}',
            (Edit({place.path: place.before_return(*lines)}),),
            place.path,
        )
        start = place.function.body.start_byte
        for found in RELEASE.finditer(place.body):
            changed = place.whole[: start + found.start()] + place.whole[start + found.end() :]
            yield Plant(
                f'{place.name} without one {found[0].strip()}',
                (Edit({place.path: changed}),),
                place.path,
            )
