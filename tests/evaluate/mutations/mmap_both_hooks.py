"""Every struct file_operations with .mmap_prepare is given .mmap as well, before or behind it."""

import re
from collections.abc import Iterator

from bot.model import Snapshot
from bot.rule import Edit
from tests.evaluate.mutations._hooks import FOLDERS
from tests.evaluate.planting import Plant, mentioning, text

FOPS = re.compile(r'struct\s+file_operations\s+(\w+)\s*=\s*\{[^{}]*\}')
PREPARE = re.compile(r'^[ \t]*\.mmap_prepare\s*=.*\n', re.M)


def plants(tree: Snapshot) -> Iterator[Plant]:
    n = 0
    for path in mentioning(tree, (b'mmap_prepare',), FOLDERS):
        whole = text(tree, path)
        for fops in FOPS.finditer(whole):
            found = PREPARE.search(fops[0])
            if found is None:
                continue
            n += 1
            at = fops.start() + (found.start(), found.end())[n % 2]
            changed = f'{whole[:at]}\t.mmap\t\t= planted_mmap,\n{whole[at:]}'
            yield Plant(f'{path}: {fops[1]}', (Edit({path: changed}),), path)
