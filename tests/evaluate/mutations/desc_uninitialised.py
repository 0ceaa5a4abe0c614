"""
Functions that fill a descriptor or a merge state no longer do so wholly, or new ones do not.

The first helper of the pair loses its memset(), or has a wrong one: of the
pointer's size, on one path only, of one member. Every driver with a hook gets
a function that fills a descriptor by its members and one that passes it an
uninitialised local, in one file, in the core and a driver, in one patch or in
two. In mm/vma.c the states that macros declare are filled by a function.
"""

import re
from collections.abc import Iterator

from bot.model import Snapshot
from bot.rule import Edit
from tests.evaluate.planting import Plant, mentioning, text

UTIL, VMA, COPIES = 'mm/util.c', 'mm/vma.c', 'tools/testing/vma/include/dup.h'
SET = 'compat_set_desc_from_vma'
ZEROED = re.compile(r'^\tmemset\(desc, 0, sizeof\(\*desc\)\);\n', re.M)
HOOK = re.compile(r'\.mmap_prepare\s*=\s*(\w+)')
STATE = re.compile(r'^\t(VMG_\w*STATE)\((\w+),[^;]*;\n', re.M)
ALSO = ('vma-test-drift', 'vma-test-copy', 'vma-test-build', 'vma-test-order')
FILL = """
{static}void {name}_fill(struct vm_area_desc *desc, struct file *file,
		const struct vm_area_struct *vma)
{{
	desc->mm = vma->vm_mm;
	desc->file = file;
	desc->start = vma->vm_start;
	desc->end = vma->vm_end;
	{more}
}}
"""
CALL = """
static int {name}_compat(struct file *file, struct vm_area_struct *vma)
{{
	struct vm_area_desc desc;

	{name}_fill(&desc, file, vma);
	return {name}(&desc);
}}
"""
MORE = (
    'desc->pgoff = vma->vm_pgoff;',
    'if (vma->vm_ops)\n\t\tmemset(&desc->action, 0, sizeof(desc->action));',
    'desc->action.type = MMAP_NOTHING;\n\tdesc->private_data = NULL;',
    'desc->vm_ops = vma->vm_ops;\n\tvma_desc_set_flags(desc, VMA_READ_BIT);',
)
SET_STATE = """static void planted_set(struct vma_merge_struct *vmg, struct vm_area_struct *vma)
{
	vmg->mm = vma->vm_mm;
	vmg->start = vma->vm_start;
	vmg->end = vma->vm_end;
	vmg->state = VMA_MERGE_START;
}

"""


def plants(tree: Snapshot) -> Iterator[Plant]:
    yield from _helper(tree)
    core = text(tree, UTIL)
    done: set[str] = set()
    n = 0
    for path in mentioning(tree, (b'.mmap_prepare',), ('drivers', 'fs')):
        whole = text(tree, path)
        for found in HOOK.finditer(whole):
            name = found[1]
            if name in done or not re.search(rf'\b{name}\(struct vm_area_desc \*', whole):
                continue
            done.add(name)
            n += 1
            more = MORE[n % len(MORE)]
            local = FILL.format(static='static ', name=name, more=more)
            far = FILL.format(static='', name=name, more=more)
            call = CALL.format(name=name)
            title = f'{path.rpartition("/")[2]}: stack the hook\n\nFor a driver on top.'
            if n % 3 == 0:
                patches: tuple[Edit, ...] = (Edit({path: whole + local + call}, title),)
            elif n % 3 == 1:
                patches = (Edit({path: whole + call, UTIL: core + far}, title),)
            else:
                patches = (Edit({UTIL: core + far}, title), Edit({path: whole + call}, title))
            shown = f'{name}() of {path}, in {len(patches)} patch(es): {more}'
            yield Plant(' '.join(shown.split()), patches, also=('prepare-vma-api',))
    yield from _states(tree)


def _helper(tree: Snapshot) -> Iterator[Plant]:
    whole = {path: text(tree, path) for path in (UTIL, COPIES)}
    for how, new in (
        ('no memset()', ''),
        ("the pointer's size", '\tmemset(desc, 0, sizeof(desc));\n'),
        ('on one path only', '\tif (file)\n\t\tmemset(desc, 0, sizeof(*desc));\n'),
        ('one member only', '\tmemset(&desc->action, 0, sizeof(desc->action));\n'),
        (
            'before a return',
            '\tif (!vma) {\n\t\tmemset(desc, 0, sizeof(*desc));\n\t\treturn;\n\t}\n',
        ),
    ):  # fmt: skip
        files = {path: ZEROED.sub(new, old) for path, old in whole.items() if ZEROED.search(old)}
        if UTIL in files:
            edit = Edit({**files}, 'mm: do not zero what is assigned anyway\n\nSaves stores.')
            yield Plant(f'{SET}(): {how}', (edit,), UTIL, also=ALSO)


def _states(tree: Snapshot) -> Iterator[Plant]:
    """A merge state that a macro declares is filled by a function, its last bits left out."""
    whole = text(tree, VMA)
    first = re.search(r'^(?:static )?[^\n#/ \t][^\n;]*\([^;{]*\)\n\{\n', whole, re.M)
    if first is None:
        return
    for found in STATE.finditer(whole):
        name = found[2]
        end = whole.index('\n}\n', found.end())
        vma = re.search(r'\bvma\b', found[0])
        passed = re.search(rf'\(&{name}[,)]', whole[found.end() : end])
        if vma is None or passed is None:
            continue
        # Behind the declarations: the blank line that the kernel's style asks for.
        blank = whole.index('\n\n', found.end() - 1) + 1
        new = (
            whole[: first.start()] + SET_STATE + whole[first.start() : found.start()]
            + f'\tstruct vma_merge_struct {name};\n' + whole[found.end() : blank]
            + f'\n\tplanted_set(&{name}, vma);\n' + whole[blank:]
        )  # fmt: skip
        line = whole.count('\n', 0, found.start())
        edit = Edit({VMA: new}, 'mm/vma: fill the state by a function\n\nEasier to read.')
        yield Plant(f'{name} of {VMA}:{line}', (edit,), VMA, also=ALSO)
