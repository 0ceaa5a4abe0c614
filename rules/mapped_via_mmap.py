"""
vm_ops with a .mapped hook are set below an .mmap hook, where the kernel refuses them.

vm_ops->mapped() is called on behalf of .mmap_prepare. Kernels that have
__vma_check_mmap_hook() (include/linux/fs.h, mm/util.c; 7.2 has it no longer)
look at the VMA after every .mmap hook, warn where its vm_ops have .mapped, and
fail the mmap() with -EINVAL. A driver whose nested mmap_prepare hook is called
from an .mmap hook, through __compat_vma_mmap(), falls into that as much as one
that sets such vm_ops in .mmap itself.

Reported are vm_ops of the same file with .mapped that are assigned in a
function in an .mmap slot, or in a hook with parameters of its own that is kept
in a driver's pointer which code with the pair calls (drivers/uio/uio.c,
drivers/hv/vmbus_drv.c, or a file of the patch). Silent where the tree has no
such check, about hooks in .mmap_prepare, and about what the parent did.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bot.csyntax import Function, calls, changed_line, introduced, parse
from bot.model import Evidence, Hit, Severity, Side, Snapshot, Step, Subject
from bot.rule import Case, Edit, Rule, named
from rules._hooks import LARGEST, Hook, assigned_operations, code, hooks, judged, operations

HEADER, CHECK = 'include/linux/fs.h', b'__vma_check_mmap_hook'
PAIR = b'__compat_vma_mmap'
BRIDGES = ('drivers/uio/uio.c', 'drivers/hv/vmbus_drv.c')
MMAP = re.compile(rb'(?<![\w>)\]])\.\s*mmap\s*=\s*&?(\w+)')
CALLED = re.compile(rb'(?:->|\.)\s*(\w*mmap_prepare\w*)\s*\([^;{}]{0,200}&\s*\w+\s*\)')


@dataclass(frozen=True)
class Found:
    """A function that sets vm_ops with .mapped. `member`: the pointer that it is called by."""

    path: str
    function: Function
    ops: str
    line: int
    member: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Return what it is known by."""
        return self.function.name, self.ops


def check(subject: Subject) -> Iterator[Hit]:
    told = set()
    for step in subject.steps:
        paths = [diff for diff in step.files if judged(diff.new_path) or judged(diff.old_path)]
        if not paths or not _checks(step.post):
            continue
        after = _found(step.post, [diff.new_path for diff in paths])
        if not after:
            continue
        old = [diff.old_path for diff in paths]
        before = _found(step.pre, old) if _checks(step.pre) else []
        new = introduced(before, after, key=lambda one: one.key)
        gone = introduced(after, before, key=lambda one: one.key)
        for one in introduced(gone, new, key=lambda one: one.ops):
            where = _where(step, one)
            if where is None or one.key in told or not _stays(subject, one):
                continue
            told.add(one.key)
            yield _hit(step, one, where)


def _hit(step: Step, one: Found, where: tuple[int, Side]) -> Hit:
    text = step.post.read(one.path) or b''
    source = parse(text)
    how = 'in an .mmap hook'
    if one.member is not None:
        how = f'and is called below an .mmap hook, by way of ->{one.member}()'
    shown = [at for at in (one.line, operations(text)[one.ops].start) if (at, 'new') != where]
    return Hit(
        step.n,
        one.path,
        where[0],
        f'{one.function.name}() sets {named(one.ops)}, which has .mapped, {how}',
        '__vma_check_mmap_hook() warns of that and fails the mapping.',
        side=where[1],
        symbol=one.function.name,
        evidence=tuple(Evidence(one.path, at, source.line(at).strip()) for at in shown),
    )


def _checks(tree: Snapshot) -> bool:
    return CHECK in (tree.read(HEADER) or b'')


def _stays(subject: Subject, one: Found) -> bool:
    """Whether it is still so when the whole series is applied."""
    last = subject.steps[-1].post
    if last.read(one.path) is None:
        return True
    return _checks(last) and any(
        other.ops == one.ops for other in _found(last, [one.path, *_touched(subject)])
    )


def _touched(subject: Subject) -> list[str]:
    return [
        diff.new_path
        for step in subject.steps
        for diff in step.files
        if diff.new_path is not None and judged(diff.new_path)
    ]


def _where(step: Step, one: Found) -> tuple[int, Side] | None:
    """Return the changed line to point at: the assignment, the vm_ops, the function, its slot."""
    text = step.post.read(one.path) or b''
    exact = changed_line(step, one.path, one.line, one.line)
    if exact == (one.line, 'new'):
        return exact
    ops = operations(text)[one.ops]
    for start, end in ((ops.start, ops.end), (one.function.start, one.function.end)):
        where = changed_line(step, one.path, start, end)
        if where is not None:
            return where
    name = re.compile(rb'\b' + re.escape(one.function.name.encode()) + rb'\b')
    diff = step.file(one.path)
    added = diff.added if diff is not None else ()
    return next(((n, 'new') for n, line in added if name.search(line)), None)


def _found(tree: Snapshot, paths: list[str | None]) -> list[Found]:
    texts = {}
    for path in paths:
        text = tree.read(path) if path is not None and judged(path) else None
        if text is not None and path is not None and len(text) <= LARGEST:
            texts[path] = text
    found: list[Found] = []
    bridged: set[str] | None = None
    for path, text in texts.items():
        mapped = {name for name, ops in operations(text).items() if 'mapped' in ops.handlers}
        if not mapped:
            continue
        found += (one for one in _in_mmap(path, text) if one.ops in mapped)
        if bridged is None:
            bridged = _bridged(tree, texts)
        found += (one for one in _in_private_hooks(path, text, bridged) if one.ops in mapped)
    return found


def _in_mmap(path: str, text: bytes) -> Iterator[Found]:
    functions = parse(text).functions
    slots = (name.decode() for name in MMAP.findall(code(text)))
    reached = [name for name in slots if name in functions and _of_file(functions[name])]
    for name in reached:
        function = functions.get(name)
        vma = _parameter(function)
        if function is None or vma is None:
            continue
        for ops, line in assigned_operations(function, vma):
            yield Found(path, function, ops, line)
        handed = (call.name for call in calls(function.body) if vma in call.arguments)
        reached += [one for one in handed if one in functions and one not in reached]


def _parameter(function: Function | None) -> str | None:
    """Return the name of the VMA that a function is handed."""
    for variable in function.variables if function is not None else ():
        if variable.parameter and variable.pointer and variable.type == 'struct vm_area_struct':
            return variable.name
    return None


def _of_file(function: Function) -> bool:
    """Whether it can be a file's .mmap. That of sysfs can't: its vm_ops are replaced."""
    types = [one.type for one in function.variables if one.parameter]
    return types == ['struct file', 'struct vm_area_struct']


def _bridged(tree: Snapshot, texts: dict[str, bytes]) -> set[str]:
    """Return the pointers to hooks that code with the pair calls."""
    known = [tree.read(path) or b'' for path in BRIDGES if path not in texts]
    members: set[str] = set()
    for text in [*texts.values(), *known]:
        if PAIR in text:
            for function in parse(text).all_functions:
                body = function.body.text or b''
                if PAIR in body:
                    members.update(name.decode() for name in CALLED.findall(body))
    return members


def _in_private_hooks(path: str, text: bytes, bridged: set[str]) -> Iterator[Found]:
    every = hooks(text)
    for hook in every:
        parameters = [one for one in hook.function.variables if one.parameter]
        if not hook.slot or len(parameters) < 2:
            continue
        member = _kept_in(hook, text, bridged)
        if member is None:
            continue
        group = [hook]
        for one in group:
            handed = {call.name for call in one.calls if one.desc in call.arguments}
            group += [other for other in every if other.name in handed and other not in group]
            for ops, line in assigned_operations(one.function, one.desc):
                yield Found(path, one.function, ops, line, member)


def _kept_in(hook: Hook, text: bytes, bridged: set[str]) -> str | None:
    """Return the pointer that a hook is kept in, None where nobody with the pair calls it."""
    stored = re.compile(
        rb'(?:->|\.)\s*(\w+)\s*=\s*&?' + re.escape(hook.name.encode()) + rb'\s*[;,}]'
    )
    names = [name.decode() for name in stored.findall(code(text))]
    return next((name for name in names if name in bridged), None)


BRIDGE = """static int uio_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct uio_device *idev = file->private_data;
	struct vm_area_desc desc;
	int ret;

	compat_set_desc_from_vma(&desc, file, vma);
	ret = idev->info->mmap_prepare(idev->info, &desc);
	if (ret)
		return ret;
	return __compat_vma_mmap(&desc, vma);
}
"""
FILE = 'drivers/target/example.c'
OPS = """static const struct vm_operations_struct ex_vm_ops = {
	.open = ex_vma_open,
	.close = ex_vma_close,
};
"""
MAPPED = OPS.replace('\t.open', '\t.mapped = ex_vma_mapped,\n\t.open')
SET = """static int ex_mmap_prepare(struct uio_info *info, struct vm_area_desc *desc)
{
	vma_desc_set_flags(desc, VMA_DONTEXPAND_BIT);
	desc->vm_ops = &ex_vm_ops;
	desc->private_data = info->priv;
	return 0;
}
"""
HELPER = """static void ex_set(struct ex *ex, struct vm_area_desc *desc)
{
	desc->vm_ops = ex->big ? &ex_vm_ops : &ex_small_ops;
}
static int ex_mmap_prepare(struct uio_info *info, struct vm_area_desc *desc)
{
	ex_set(info->priv, desc);
	return 0;
}
"""
KEEP = """static void ex_configure(struct uio_info *info)
{
	info->version = "1";
	info->mmap_prepare = ex_mmap_prepare;
}
"""
OLD = """static int ex_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (vma->vm_pgoff)
		return -EINVAL;
	vma->vm_ops = &ex_vm_ops;
	return 0;
}
static const struct file_operations ex_fops = {
	.mmap = ex_mmap,
};
"""
NEW = """static int ex_mmap_prepare(struct vm_area_desc *desc)
{
	desc->vm_ops = &ex_vm_ops;
	return 0;
}
static const struct file_operations ex_fops = {
	.mmap_prepare = ex_mmap_prepare,
};
"""
SYSFS = OLD.replace(
    '(struct file *file,',
    '(struct file *file, struct kobject *kobj, const struct bin_attribute *attr,\n\t',
).replace('file_operations', 'bin_attribute')
TREE = {
    HEADER: 'int __vma_check_mmap_hook(struct vm_area_struct *vma);\n',
    'drivers/uio/uio.c': BRIDGE,
}
# 7.2 and later.
WITHOUT = {**TREE, HEADER: 'int compat_vma_mmap(struct file *, struct vm_area_struct *);\n'}


def _case(
    before: str, *after: str, tree: dict[str, str] = TREE, expect: tuple[int, ...] | None = None
) -> Case:
    return Case({**tree, FILE: before}, tuple(Edit({FILE: one}) for one in after), expect=expect)


RULE = Rule(
    id='mapped-via-mmap',
    severity=Severity.ERROR,
    check=check,
    bad=(
        _case(OPS + SET + KEEP, MAPPED + SET + KEEP, expect=(1,)),
        # The conversion is a patch of its own, before .mapped.
        _case(OPS, OPS + SET + KEEP, MAPPED + SET + KEEP, expect=(2,)),
        # Through a helper and a choice of two.
        _case(MAPPED, MAPPED + HELPER + KEEP, expect=(1,)),
        # The .mmap hook itself.
        _case(OPS + OLD, MAPPED + OLD, expect=(1,)),
        # Converted back to .mmap, and .mapped was left behind.
        _case(MAPPED + NEW, MAPPED + OLD, expect=(1,)),
        # The driver is given the pair and the hook at once.
        Case(
            {HEADER: TREE[HEADER], FILE: OPS, 'drivers/uio/other.c': 'int x;\n'},
            (
                Edit(
                    {
                        FILE: MAPPED + SET + KEEP.replace('->mmap_p', '->ring_mmap_p'),
                        'drivers/uio/other.c': BRIDGE.replace('->mmap_p', '->ring_mmap_p'),
                    }
                ),
            ),
            expect=(1,),
        ),
    ),
    good=(
        _case(OPS + SET + KEEP, MAPPED + SET + KEEP, tree=WITHOUT),
        _case(OPS + OLD, MAPPED + OLD, tree=WITHOUT),
        # Where it belongs.
        _case(OPS + NEW, MAPPED + NEW),
        _case(OPS + OLD, MAPPED + NEW),
        # Nobody calls that pointer below an .mmap hook.
        _case(
            OPS + SET,
            MAPPED + SET + KEEP.replace('->mmap_prepare', '->own_prepare'),
        ),
        # Other vm_ops of the file.
        _case(
            OPS + SET + KEEP + NEW.replace('ex_vm_ops', 'file_vm_ops'),
            OPS
            + SET
            + KEEP
            + MAPPED.replace('ex_vm_ops', 'file_vm_ops')
            + NEW.replace('ex_vm_ops', 'file_vm_ops'),
        ),
        # The parent does it already.
        _case(MAPPED + SET + KEEP, MAPPED + SET.replace('priv;', 'priv; /* ours */') + KEEP),
        _case(MAPPED + OLD, MAPPED + OLD.replace('ex_mmap', 'ex_file_mmap')),
        # The next patch converts the driver.
        _case(OPS + OLD, MAPPED + OLD, MAPPED + NEW),
        # That of a sysfs file: kernfs puts its own vm_ops in place.
        _case(OPS + SYSFS, MAPPED + SYSFS),
        # The check goes with the patch.
        Case(
            {**TREE, FILE: OPS + OLD},
            (Edit({HEADER: WITHOUT[HEADER], FILE: MAPPED + OLD}),),
        ),
    ),
)
