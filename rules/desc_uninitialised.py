"""
A function fills a caller's descriptor member by member, and leaves the rest as it was: garbage.

struct vm_area_desc, struct mmap_action and struct vma_merge_struct are handed
around by pointer and live on the stack. A function that fills one by
assigning to its members, without zeroing it first, relies on its callers for
all members that it leaves out. compat_set_desc_from_vma() (mm/util.c) was once
like that: its caller passed a plain local, a nested hook did not set vm_ops,
and the kernel called through what lay on the stack. It begins with a memset()
since.

Reported where both halves meet: a path through the function that sets members
and zeroes nothing, and a caller that passes a local without initialiser, adds
none of the missing members, and goes on to use it. Caller and function may lie
in different files and come with different patches. A fault that a later patch
of the series mends is a warning, since the series breaks in between. Silent
where anything else may have filled the object (another function that got the
pointer, an assignment of the whole), where the struct is not found, about
members under #if, unions that are payload, tools/, and what the parent had.
"""

from collections.abc import Iterator

from bot.csyntax import changed_line, introduced, parse
from bot.model import Evidence, Hit, Severity, Step, Subject
from bot.rule import Case, Edit, Rule, named
from rules._filled import WORDS, Fault, faults
from rules._written import read


def check(subject: Subject) -> Iterator[Hit]:
    paths = tuple(
        sorted(
            {
                path
                for step in subject.steps
                for diff in step.files
                for path in (diff.old_path, diff.new_path)
                if path and path.endswith(('.c', '.h')) and not path.startswith('tools/')
            }
        )
    )
    for at, step in enumerate(subject.steps):
        if not any(read(step.post, diff.new_path, *WORDS) for diff in step.files):
            continue
        after = list(faults(step.post, paths))
        if not after:
            continue
        before = list(faults(step.pre, paths))
        found = introduced(before, after, lambda one: (one.callee, one.caller.name))
        gone = introduced(after, before, lambda one: (one.callee, one.caller.name))
        # Renamed on one side, or moved out of a larger function: not new.
        found = introduced(gone, found, lambda one: one.callee)
        found = introduced(gone, found, lambda one: one.caller.name)
        said = set()
        for one in found:
            hit = _hit(subject, at, one, [other for other in found if other.callee == one.callee])
            if hit is not None and (hit.path, hit.symbol) not in said:
                said.add((hit.path, hit.symbol))
                yield hit


def _hit(subject: Subject, at: int, one: Fault, all_of_it: list[Fault]) -> Hit | None:
    step, filler = subject.steps[at], one.filler.function
    where = changed_line(step, one.filler.path, filler.start, filler.end)
    path, symbol = one.filler.path, one.callee
    shown = [(fault.path, fault.declared) for fault in all_of_it]
    if where is None:
        where = changed_line(step, one.path, one.call, one.call) or changed_line(
            step, one.path, one.caller.start, one.caller.end
        )
        path, symbol = one.path, one.caller.name
        shown = [(one.filler.path, filler.start)]
    if where is None:
        return None
    missing = ', '.join(one.missing[:3]) + (
        f' and {len(one.missing) - 3} more' if len(one.missing) > 3 else ''
    )
    mended = _mended(subject, at, one)
    return Hit(
        step.n,
        path,
        where[0],
        f'{one.callee}() sets members of a struct {one.filler.struct} but not {missing}, '
        f'and {one.caller.name}() passes it an uninitialised {named(one.local)}',
        f'Patch {mended} mends it; could that be part of this one?'
        if mended
        else f'A memset() or an assignment of the whole in {one.callee}() would do.',
        side=where[1],
        symbol=symbol,
        evidence=tuple(Evidence(name, line, _line(step, name, line)) for name, line in shown),
        severity=Severity.WARNING if mended else None,
        flow=tuple(
            Evidence(one.path, line, _line(step, one.path, line))
            for line in (one.declared, one.call, one.use)
        ),
    )


def _line(step: Step, path: str, number: int) -> str:
    return parse(step.post.read(path) or b'').line(number).strip()


def _mended(subject: Subject, at: int, one: Fault) -> int | None:
    """Return the later patch that this fault is gone with."""
    for step in subject.steps[at + 1 :]:
        paths = tuple({one.path, one.filler.path, *(diff.path for diff in step.files)})
        if not any(
            one.callee == other.callee or one.caller.name == other.caller.name
            for other in faults(step.post, paths)
        ):
            return step.n
    return None


TYPES, UTIL, DRIVER = 'include/linux/mm_types.h', 'mm/util.c', 'drivers/hv/example.c'
STRUCTS = """struct mmap_action {
	union {
		struct {
			unsigned long start;
		} remap;
		struct {
			unsigned long size;
		} ioremap;
	};
	enum mmap_action_type type;
	int error_override;
	bool hide :1;
};

struct vm_area_desc {
	struct file *file;
	unsigned long start;
	pgoff_t pgoff;
	const struct vm_operations_struct *vm_ops;
	void *private_data;
#ifdef CONFIG_MORE
	int more;
#endif
	struct mmap_action action;
};
"""
FILL = """void fill_desc(const struct vm_area_struct *vma, struct vm_area_desc *desc)
{
	desc->file = vma->vm_file;
	desc->start = vma->vm_start;
	desc->pgoff = vma->vm_pgoff;
	desc->action.type = MMAP_NOTHING;
}
"""
BODY = '{\n	desc->file'
ZERO = FILL.replace(BODY, '{\n	memset(desc, 0, sizeof(*desc));\n	desc->file')
ALL_SET = FILL.replace(
    '	desc->action.type = MMAP_NOTHING;\n',
    """	desc->vm_ops = vma->vm_ops;
	desc->private_data = NULL;
	desc->action.type = MMAP_NOTHING;
	desc->action.error_override = 0;
	desc->action.hide = false;
""",
)
CALL = """static int example_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vm_area_desc desc;
	int err;

	fill_desc(vma, &desc);
	err = channel->prepare(channel, &desc);
	if (err)
		return err;
	return __compat_vma_mmap(&desc, vma);
}
"""
BRANCH = """static int example_mmap(struct file *file, struct vm_area_struct *vma)
{
	int err = -ENODEV;

	if (info->prepare) {
		struct vm_area_desc desc;

		fill_desc(vma, &desc);
		err = info->prepare(&desc);
	}
	return err;
}
"""
MERGE = """struct vma_merge_struct {
	struct mm_struct *mm;
	union {
		vm_flags_t vm_flags;
		vma_flags_t vma_flags;
	};
	enum vma_merge_state state;
	bool just_expand :1;
};

static void set_vmg(struct vma_merge_struct *vmg, struct vm_area_struct *vma)
{
	vmg->mm = vma->vm_mm;
	vmg->vma_flags = vma->flags;
	vmg->state = VMA_MERGE_START;
}

static void use_vmg(struct vm_area_struct *vma)
{
	struct vma_merge_struct vmg;

	set_vmg(&vmg, vma);
	vma_expand(&vmg);
}
"""
TREE = {TYPES: STRUCTS, UTIL: '\n', DRIVER: '\n'}


BOTH = FILL + CALL
RENAMED = BOTH.replace('fill_desc', 'load_desc')
NO_HIDE = ALL_SET.replace('	desc->action.hide = false;\n', '')
POINTER_SIZE = ZERO.replace('sizeof(*desc)', 'sizeof(desc)')
SOME_PATHS = ZERO.replace('	memset', '	if (vma->vm_ops)\n		memset')
INITIALISED = CALL.replace('desc desc;', 'desc desc = {};')
THE_REST = """	desc.vm_ops = NULL;
	desc.private_data = NULL;
	desc.action.error_override = 0;
	desc.action.hide = 0;
	err = channel"""
READS = """static int example_mmap(struct vm_area_struct *vma)
{
	struct vm_area_desc desc;

	fill_desc(vma, &desc);
	vma_desc_set_flags(&desc, VMA_READ_BIT);
	return check(desc.start);
}
"""


def _case(
    *patches: dict[str, str | None], before: dict[str, str] | None = None, n: int = 1
) -> Case:
    """A series on the tree (and `before`) that patch `n` is at fault in."""
    return Case(TREE | (before or {}), tuple(map(Edit, patches)), expect=(n,))


def _fine(*patches: dict[str, str | None], before: dict[str, str] | None = None) -> Case:
    return Case(TREE | (before or {}), tuple(map(Edit, patches)))


def _in_function(old: str, new: str) -> Case:
    """The filling function, changed."""
    assert old in FILL
    return _fine({UTIL: FILL.replace(old, new), DRIVER: CALL})


def _in_caller(old: str, new: str) -> Case:
    assert old in CALL
    return _fine({UTIL: FILL, DRIVER: CALL.replace(old, new)})


RULE = Rule(
    id='desc-uninitialised',
    severity=Severity.ERROR,
    check=check,
    bad=(
        _case({UTIL: FILL, DRIVER: CALL}),
        # The two halves with two patches, either one first.
        _case({UTIL: FILL}, {DRIVER: CALL}, n=2),
        _case({UTIL: ZERO}, {DRIVER: BRANCH}, {UTIL: FILL}, n=3),
        # Only a driver is touched; the function lies in the core.
        _case({DRIVER: BRANCH}, before={UTIL: FILL}),
        # The pointer's size is not the object's; zeroed on some paths only.
        _case({UTIL: POINTER_SIZE + CALL}, before={UTIL: ZERO + CALL}),
        _case({UTIL: SOME_PATHS + CALL}, before={UTIL: ZERO + CALL}),
        # One member is no longer set.
        _case({UTIL: NO_HIDE + CALL}, before={UTIL: ALL_SET + CALL}),
        _case({'mm/vma.h': MERGE}),
        # The caller lost its initialiser.
        _case({DRIVER: CALL}, before={UTIL: FILL, DRIVER: INITIALISED}),
        # Mended by the next patch, and broken until then.
        _case({UTIL: BOTH}, {UTIL: ZERO + CALL}),
    ),
    good=(
        _fine({UTIL: ZERO, DRIVER: CALL}),
        _fine({UTIL: ALL_SET, DRIVER: CALL}),
        _in_function(BODY, '{\n	*desc = (struct vm_area_desc){};\n	desc->file'),
        _in_function(BODY, '{\n	init_desc(desc);\n	desc->file'),
        _in_caller('desc desc;', 'desc desc = { .start = 0 };'),
        _in_caller('	fill_desc', '	memset(&desc, 0, sizeof(desc));\n	fill_desc'),
        _in_caller('	fill_desc', '	desc = template;\n	fill_desc'),
        _in_caller('	struct vm_area_desc desc;', '	static struct vm_area_desc desc;'),
        # The caller sets the rest, or uses what was set and no more.
        _in_caller('	err = channel', THE_REST),
        _fine({UTIL: FILL, DRIVER: READS}),
        # Wrong before: renamed, moved, and left alone.
        _fine({UTIL: BOTH.replace('example_mmap', 'other_mmap')}, before={UTIL: BOTH}),
        _fine({UTIL: RENAMED}, before={UTIL: BOTH}),
        _fine({UTIL: '\n', 'mm/mmap.c': BOTH}, before={UTIL: BOTH}),
        # A struct that is not found, another one, and a function that can't be read.
        Case({UTIL: '\n'}, (Edit({UTIL: BOTH}),)),
        _fine({UTIL: BOTH.replace('vm_area_desc', 'other_desc')}),
        _in_function('	desc->start', '	if (x) {{{ desc->start'),
    ),
)
