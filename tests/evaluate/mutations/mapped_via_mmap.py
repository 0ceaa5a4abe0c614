"""
vm_ops that an .mmap hook sets, or a hook below one, are given .mapped.

Kernels lost __vma_check_mmap_hook() again; it is declared first. The vm_ops of
drivers/target reach uio's .mmap hook: there .mapped is taken away first. What
sysfs maps is left out, for kernfs has vm_ops of its own.
"""

import re
from collections.abc import Iterator

from bot.csyntax import parse, text_of
from bot.model import Snapshot
from bot.rule import Edit
from tests.evaluate.planting import Plant, mentioning, text

HEADER = 'include/linux/fs.h'
FOLDERS = (
    'fs', 'mm', 'kernel', 'ipc', 'net/packet', 'sound/core', 'drivers/android', 'drivers/char',
    'drivers/comedi', 'drivers/infiniband', 'drivers/misc', 'drivers/target', 'drivers/uio',
    'drivers/usb', 'drivers/vfio', 'drivers/video/fbdev', 'drivers/xen', 'arch/x86/kernel',
)  # fmt: skip
CHECK = '\nint __vma_check_mmap_hook(struct vm_area_struct *vma);\n\nint compat_vma_mmap('
MAPPED = re.compile(r'^\t\.mapped\s*=.*\n', re.M)
MMAP = re.compile(r'\.mmap\s*=\s*(\w+)')
SETS = re.compile(r'\w+->vm_ops = &(\w+);')
FILE_HOOK = re.compile(r'\(struct file \*\w+, struct vm_area_struct \*')
OPS = r'struct\s+vm_operations_struct\s+{}\s*=\s*\{{'


def plants(tree: Snapshot) -> Iterator[Plant]:
    header = text(tree, HEADER)
    checks = header.replace('\nint compat_vma_mmap(', CHECK, 1)
    if checks == header:
        return
    for path in mentioning(tree, (b'->vm_ops = &',), FOLDERS):
        if not path.endswith('.c'):
            continue
        whole = text(tree, path)
        functions = parse(whole.encode('latin-1')).functions
        slots = set(MMAP.findall(whole))
        private = set(re.findall(r'info->mmap_prepare = (\w+);', whole))
        for name in sorted((slots | private) & set(functions)):
            head = text_of(functions[name].node.child_by_field_name('declarator'))
            if FILE_HOOK.search(head) is None and name not in private:
                continue
            body = functions[name].body
            ops = SETS.search(whole[body.start_byte : body.end_byte])
            defined = re.search(OPS.format(ops[1]), whole) if ops is not None else None
            if ops is None or defined is None:
                continue
            without = MAPPED.sub('', whole)
            if without != whole:
                before, after = without, whole
            else:
                at = defined.end()
                before, after = whole, f'{whole[:at]}\n\t.mapped = planted_mapped,{whole[at:]}'
            yield Plant(
                f'{path}: {ops[1]} by {name}()',
                (Edit({path: after}),),
                path,
                before={path: before, HEADER: checks},
            )
