"""
Code outside the constructors assigns to mm, file, start or end of a struct vm_area_desc.

Those four say what is being mapped and where. An mmap_prepare hook reads them;
the core has already checked them against limits and neighbours, and maps
what it had worked out, whatever the hook leaves there. Two were const pointers
once; since the helpers for stacked hooks fill a descriptor by assignment, a
comment in include/linux/mm_types.h is all that protects them, and this rule
looks where the compiler no longer does. Another file belongs into vm_file.

By the type of the variable, never by its name: a pointer to the descriptor, or
a descriptor on the stack that compat_set_desc_from_vma() fills. The
constructors may write: compat_set_desc_from_vma() and its copy for the VMA
tests, set_desc_from_map(), and any function that zeroes the descriptor or
fills all four. Silent about a write that the parent had, be it in another
function or under another variable's name, about one that the series takes
back, and about functions that can't be read as a whole.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bot.csyntax import Function, calls, changed_line, text_of
from bot.csyntax.syntax import walk
from bot.model import Hit, Severity, Snapshot, Step, Subject
from bot.rule import Case, Edit, Rule
from rules._written import MOST, STORES, Write, c_files, functions, newly, read, writes

DESC = 'struct vm_area_desc'
FIELDS = ('mm', 'file', 'start', 'end')
SET = 'compat_set_desc_from_vma'
CONSTRUCTORS = (SET, 'set_desc_from_map')
# Cheap: a line that may write one of them.
LIKELY = re.compile(
    rb'(?:->|\.)\s*(?:mm|file|start|end)\s*(?:$|(?:[-+*/%&|^]|<<|>>)?=(?!=)|\+\+|--)'
    rb'|(?:\+\+|--)\s*[\w(]|\b(?:' + '|'.join(STORES).encode() + rb')\s*\('
)
POINTS_TO_DESC = re.compile(r'struct[ _]vm_area_desc[ _]?\*')


@dataclass(frozen=True)
class Found:
    """A write of an immutable field, and the function that does it."""

    path: str
    function: Function
    write: Write
    constructor: bool

    @property
    def text(self) -> str:
        """The whole assignment."""
        return self.write.text

    @property
    def what(self) -> tuple[str, str]:
        """Function and field."""
        return self.function.name, self.write.place.path[0]


def check(subject: Subject) -> Iterator[Hit]:
    for step in subject.steps:
        if not any(LIKELY.search(line) for diff in step.files for _, line in diff.added):
            continue
        paths = list(c_files(step))
        after = [one for _, path in paths for one in _found(step.post, path)]
        if all(one.constructor for one in after):
            continue
        before = [one for path, _ in paths for one in _found(step.pre, path)]
        found = newly(before, after, lambda x: (x.path, *x.what), lambda x: x.text)
        last = subject.steps[-1].post
        left = {path: list(_found(last, path)) for path in {one.path for one in found}}
        once = {(one.path, *one.what): one for one in reversed(found) if not one.constructor}
        for one in list(once.values())[::-1][:MOST]:
            if last.read(one.path) is None or any(_same(one, other) for other in left[one.path]):
                yield from _hit(step, one)


def _same(one: Found, other: Found) -> bool:
    """Whether the one is still there, or has moved on or got another variable's name."""
    return not other.constructor and (other.what == one.what or other.text == one.text)


def _hit(step: Step, one: Found) -> Iterator[Hit]:
    where = changed_line(step, one.path, one.write.line, one.write.end)
    if where is None or where[1] != 'new':
        return
    function, name = one.what
    advice = 'Is vm_file meant?' if name == 'file' else None
    if name in ('start', 'end'):
        advice = 'A hook that can not map the whole range should return an error.'
    yield Hit(
        step.n,
        one.path,
        where[0],
        f'{function}() assigns to {name} of a {DESC}, which is immutable',
        advice,
        symbol=f'{function}.{name}',
    )


def _found(tree: Snapshot, path: str | None) -> Iterator[Found]:
    """Yield the writes of immutable fields in a file, those of constructors too."""
    text = read(tree, path, b'vm_area_desc')
    for function in functions(text):
        if path is None or b'vm_area_desc' not in text[_span(function)]:
            continue
        wrote = [one for one in writes(function.body) if _is_immutable(function, one)]
        if not wrote:
            continue
        for base in {one.place.base for one in wrote}:
            mine = [one for one in wrote if one.place.base == base]
            constructor = (
                function.name in CONSTRUCTORS
                or {one.place.path[0] for one in mine} == set(FIELDS)
                or _zeroes(function, base)
            )
            yield from (Found(path, function, one, constructor) for one in mine)


def _span(function: Function) -> slice:
    return slice(function.node.start_byte, function.node.end_byte)


def _is_immutable(function: Function, write: Write) -> bool:
    where = write.place
    if len(where.path) != 1 or where.path[0] not in FIELDS:
        return False
    if where.cast:
        return POINTS_TO_DESC.fullmatch(where.cast) is not None
    declared = [one for one in function.variables if one.name == where.base]
    if not declared or any(one.type != DESC or one.static for one in declared):
        return False
    if where.arrow:
        return all(one.pointer for one in declared)
    # One on the stack is its owner's to build, unless it is built by the helper.
    return any(
        call.name == SET and f'&{where.base}' in call.arguments for call in calls(function.body)
    )


def _zeroes(function: Function, base: str) -> bool:
    """Whether a function starts a descriptor anew."""
    for call in calls(function.body):
        if call.name in ('memset', 'memcpy') and call.arguments[:1] == (base,):
            return True
    for node in walk(function.body, 'assignment_expression'):
        left = node.child_by_field_name('left')
        if text_of(left) == f'*{base}':
            return True
    return False


FILE, UTIL, COPY = 'drivers/char/example.c', 'mm/util.c', 'tools/testing/vma/include/dup.h'
HOOK = """static int example_mmap_prepare(struct vm_area_desc *desc)
{
	struct inode *inode = file_inode(desc->file);

	if (desc->end - desc->start > SIZE)
		return -EINVAL;
	desc->vm_ops = &example_vm_ops;
	return 0;
}
"""
CLAMP = HOOK.replace('		return -EINVAL;', '		desc->end = desc->start + SIZE;')
OTHER = """static void walk(struct nfs_readdir_descriptor *desc, struct mm_struct *mm)
{
	desc->file = NULL;
	desc->start = 0;
}
"""
SETTER = """void compat_set_desc_from_vma(struct vm_area_desc *desc, const struct file *file,
		const struct vm_area_struct *vma)
{
	memset(desc, 0, sizeof(*desc));
	desc->mm = vma->vm_mm;
	desc->file = (struct file *)file;
	desc->start = vma->vm_start;
	desc->end = vma->vm_end;
}
"""
FROM_MAP = """static void set_desc_from_map(struct vm_area_desc *desc, const struct mmap_state *map)
{
	desc->start = map->addr;
	desc->end = map->end;
	desc->pgoff = map->pgoff;
}
"""
PAIR = """static int example_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vm_area_desc desc;

	compat_set_desc_from_vma(&desc, file, vma);
	return ex->prepare(&desc) ?: __compat_vma_mmap(&desc, vma);
}
"""
BUILT = """static bool test_flags(void)
{
	struct vm_area_desc desc;

	desc.start = 0x1000;
	desc.end = 0x2000;
	desc.file = NULL;
	return check(&desc);
}
"""


def _assigns(statement: str) -> str:
    return HOOK.replace('	desc->vm_ops', f'	{statement}\n	desc->vm_ops')


AS_VAD = CLAMP.replace('desc->', 'vad->').replace('*desc', '*vad')
UNDER_IF = '#ifdef CONFIG_MMU\n	desc->start--;\n#endif'
AFTER_SET = PAIR.replace('	return ex', '	desc.file = ex->file;\n	return ex')
BY_ANOTHER_NAME = SETTER.replace('compat_set_desc_from_vma', 'init_desc')
LOADED = FROM_MAP.replace('set_desc', 'load_desc')
TEST = 'tools/testing/vma/tests/vma.c'


def _bad(statement: str) -> Case:
    return Case({FILE: HOOK}, (Edit({FILE: _assigns(statement)}),), expect=(1,))


def _good(before: str, after: str) -> Case:
    return Case({FILE: before}, (Edit({FILE: after}),))


RULE = Rule(
    id='desc-immutable-write',
    severity=Severity.ERROR,
    check=check,
    bad=(
        _bad('desc->file = get_file(backing);'),
        _bad('desc->start += PAGE_SIZE;'),
        _bad('(*desc).mm = current->mm;'),
        _bad('WRITE_ONCE(desc->end, 0);'),
        _bad('((struct vm_area_desc *)data)->start = 0;'),
        _bad(UNDER_IF),
        Case({FILE: HOOK}, (Edit({FILE: CLAMP}),), expect=(1,)),
        # The name does not matter, the type does; said once, where it comes in.
        Case({}, (Edit({FILE: OTHER}), Edit({FILE: OTHER + AS_VAD})), expect=(2,)),
        Case({FILE: HOOK}, (Edit({FILE: CLAMP}), Edit({FILE: '\n' + AS_VAD})), expect=(1,)),
        # What the helper has filled is as immutable as what the core hands out.
        Case({FILE: PAIR}, (Edit({FILE: AFTER_SET}),), expect=(1,)),
        # One in the tests, beside a constructor that may.
        Case({COPY: SETTER}, (Edit({COPY: SETTER + CLAMP}),), expect=(1,)),
    ),
    good=(
        Case({UTIL: '\n'}, (Edit({UTIL: SETTER + FROM_MAP, COPY: SETTER}),)),
        # Constructors by another name, by what they do.
        Case({UTIL: '\n'}, (Edit({UTIL: BY_ANOTHER_NAME}),)),
        Case({'mm/vma.c': FROM_MAP}, (Edit({'mm/vma.c': LOADED}),)),
        # Other structs have a file and a start too.
        _good(HOOK, OTHER + HOOK),
        _good(HOOK, _assigns('desc->mm->total_vm++;\n	desc->action.remap.start = desc->start;')),
        _good(HOOK, _assigns('desc->vm_file = backing;\n	start = desc->end;')),
        # One's own, built on the stack.
        Case({}, (Edit({TEST: BUILT}),)),
        # Wrong before: left alone, renamed, moved.
        _good(CLAMP, 'int x;\n' + CLAMP),
        _good(CLAMP, CLAMP.replace('example_mmap', 'other_mmap')),
        _good(CLAMP, AS_VAD),
        Case({FILE: CLAMP}, (Edit({FILE: None, 'drivers/char/moved.c': CLAMP}),)),
        # A function that can't be read as a whole.
        _good(HOOK, _assigns('if (x) {{{ desc->file = NULL;')),
        # Taken back by the next patch.
        Case({FILE: HOOK}, (Edit({FILE: CLAMP}), Edit({FILE: HOOK}))),
    ),
)
