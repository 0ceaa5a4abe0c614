"""
An mmap_prepare hook does work that belongs to one mapping: a reference, a count, an allocation.

The hook runs before the mapping exists. What it asked for may then be merged
with a neighbour, or fail, and nobody tells it: what it took stays taken
(Documentation/filesystems/mmap_prepare.rst). Work for each mapping is what
vm_ops->mapped() is for, which is called for a new mapping only; vm_ops->open()
does the same for a copy of one, and vm_ops->close() undoes it.

Reported is a hook that calls what the .open or .mapped of its own vm_ops calls
too, or those themselves; and one that stores what it has just allocated in
desc->private_data. No name is suspicious by itself. Left out are calls that
only look, log or lock: a call counts that the kernel's reference counts know,
that .close has the counterpart of, or whose result nobody wants. Silent where
the hook gives back what it took, where the allocation is kept elsewhere as
well, where the vm_ops are another file's, and about what the parent did.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tree_sitter import Node

from bot.csyntax import Call, Function, Point, calls, parse, text_of
from bot.csyntax.syntax import line_of, walk
from bot.model import Hit, Severity, Subject
from bot.rule import Case, Edit, Rule, named
from rules._hooks import (
    MOST_VISITS,
    Fault,
    Hook,
    assigned_operations,
    choices,
    hooks,
    operations,
    reported,
)
from rules._references import HARMLESS, TAKES, undoes

ALLOCATES = re.compile(
    r'kv?(?:[mz]|c)alloc(?:_\w+)?|v[mz]alloc(?:_\w+)?|kv?mem_?dup(?:_\w+)?|kstrn?dup'
    r'|kmem_cache_z?alloc(?:_\w+)?|mempool_alloc|(?:__)?alloc_pages?(?:_\w+)?|folio_alloc'
    r'|(?:__)?get_(?:zeroed_page|free_pages?)'
)
# Whatever is handed to these is found again by others.
KEEPS = re.compile(
    r'(?:xa|idr|ida|radix_tree|rb|list|hlist|hash|mas|mtree|cmpxchg|swap|rcu)_?\w*|WRITE_ONCE'
    r'|\w*(?:insert|register|add|link|store|publish|attach|queue|install)\w*'
)


@dataclass(frozen=True)
class Lifetime:
    """The vm_ops that a hook sets, and the calls of its handlers by the handlers' names."""

    name: str
    begins: dict[str, list[Call]]
    ends: list[Call]
    counted: bool


def check(subject: Subject) -> Iterator[Hit]:
    yield from reported(subject, _faults)


def _faults(text: bytes) -> Iterator[Fault]:
    for hook in hooks(text):
        yield from _allocation(hook)
        said = set()
        for lifetime in _lifetimes(hook, text):
            for fault in _shared(hook, lifetime):
                if fault.what not in said:
                    said.add(fault.what)
                    yield fault


# --- what the vm_ops do as well ---


def _lifetimes(hook: Hook, text: bytes) -> Iterator[Lifetime]:
    """Yield the vm_ops that a hook, or what it hands its descriptor to, may set."""
    every = hooks(text)
    group = [hook]
    for one in group:
        handed = {call.name for call in one.calls if one.desc in call.arguments}
        group += [other for other in every if other.name in handed and other not in group]
    names = {name for one in group for name, _ in assigned_operations(one.function, one.desc)}
    if not hook.slot:  # whoever calls it may set them
        for one in every:
            if any(call.name == hook.name for call in one.calls):
                names.update(name for name, _ in assigned_operations(one.function, one.desc))
    if not names:
        return
    functions = parse(text).functions
    for name, found in operations(text).items():
        if name in names:
            begins = [found.handlers[slot] for slot in ('open', 'mapped') if slot in found.handlers]
            close = found.handlers.get('close')
            yield Lifetime(
                name,
                {handler: _of(functions.get(handler)) for handler in begins},
                _of(functions.get(close or '')),
                close is not None,
            )


def _of(function: Function | None) -> list[Call]:
    return [call for call in calls(function.body) if call.plain] if function is not None else []


def _shared(hook: Hook, lifetime: Lifetime) -> Iterator[Fault]:
    advice = 'The mapping may yet be merged or fail; could this move to vm_ops->mapped()?'
    for call in hook.calls:
        if call.name in lifetime.begins:
            yield Fault(
                hook.function,
                f'calls {call.name}',
                call.line,
                f'{hook.name}() calls {call.name}(), which {lifetime.name} has for each mapping',
                advice,
                added=True,
            )
        for handler, begun in lifetime.begins.items():
            same = next((one for one in begun if one.name == call.name), None)
            if same is None or not _counts(call, same, begun, lifetime):
                continue
            if not _given_back(hook, call, lifetime):
                yield Fault(
                    hook.function,
                    f'calls {call.name}',
                    call.line,
                    f'{hook.name}() calls {call.name}(), as {handler}() does for each mapping',
                    advice,
                    added=True,
                    shown=(same.line,),
                )


def _counts(call: Call, same: Call, begun: list[Call], lifetime: Lifetime) -> bool:
    """Whether a call is one that has to be undone."""
    if any(undoes(other.name, call.name) for other in begun):
        return False  # it does not outlive the handler either
    if TAKES.fullmatch(call.name):
        return True
    if HARMLESS.fullmatch(call.name):
        return False
    if any(undoes(other.name, call.name) for other in lifetime.ends):
        return True
    alone = all(
        one.node.parent is not None and one.node.parent.type == 'expression_statement'
        for one in (call, same)
    )
    return alone and lifetime.counted


def _given_back(hook: Hook, taken: Call, lifetime: Lifetime) -> bool:
    """Whether the hook itself undoes what it took, on every path that succeeds."""
    ends = {call.name for call in lifetime.ends if not HARMLESS.fullmatch(call.name)}
    back = [call for call in hook.calls if call.name in ends or undoes(call.name, taken.name)]
    if not back:
        return False
    flow = hook.flow
    body = hook.function.body
    if flow is None or any(choices(call.node, body) for call in (taken, *back)):
        return True
    spots = {call.node.start_byte for call in back}

    def step(point: Point, state: str, _: bool | None) -> str | None:
        if point.node is not None:
            inside = {one.start_byte for one in walk(point.node, 'call_expression')}
            if inside & spots:
                return 'back'
            if taken.node.start_byte in inside:
                return 'taken'
        return state

    for point, state, _visit in itertools.islice(flow.walk('', step), MOST_VISITS):
        if state == 'taken' and re.fullmatch(r'return 0 ?;', text_of(point.node)):
            return False
    return True


# --- what is allocated ---


def _allocation(hook: Hook) -> Iterator[Fault]:
    """Yield a store of what the function allocates in desc->private_data."""
    target = f'{hook.desc}->private_data'
    for node in walk(hook.function.body, 'assignment_expression'):
        value = node.child_by_field_name('right')
        if text_of(node.child_by_field_name('left')) != target or value is None:
            continue
        allocated = _allocator(value)
        line = line_of(node)
        if allocated is None and value.type == 'identifier':
            allocated = _local(hook.function, text_of(value), target)
        if allocated is not None:
            yield Fault(
                hook.function,
                'allocates private_data',
                line,
                f'{hook.name}() stores what {named(allocated)}() returns in {target}',
                'The mapping may yet be merged or fail, and then nobody frees it: '
                'vm_ops->mapped() is the place for it.',
            )
            return


def _allocator(value: Node | None) -> str | None:
    while value is not None and value.type in ('parenthesized_expression', 'cast_expression'):
        value = value.child_by_field_name('value') or value.named_children[-1]
    if value is None or value.type != 'call_expression':
        return None
    name = text_of(value.child_by_field_name('function'))
    return name if ALLOCATES.fullmatch(name) else None


def _local(function: Function, name: str, target: str) -> str | None:
    """Return what allocates a local variable, None where that is not all that happens to it."""
    variable = function.variable(name)
    if variable is None or variable.parameter or variable.static:
        return None
    values = [variable.initialiser] if variable.initialiser is not None else []
    passed = re.compile(rf'\(*{re.escape(name)}\b(?: =|\W*$)')
    for node in walk(function.body, 'assignment_expression'):
        left, right = node.child_by_field_name('left'), node.child_by_field_name('right')
        if text_of(left) == name:
            if right is not None:
                values.append(right)
        elif text_of(left) != target and passed.match(text_of(right)):
            return None  # kept elsewhere
    for call in calls(function.body):
        if KEEPS.fullmatch(call.name) and any(
            re.search(rf'\b{re.escape(name)}\b', one) for one in call.arguments
        ):
            return None
    found = {_allocator(value) for value in values if text_of(value) not in ('NULL', '0')}
    return found.pop() if len(found) == 1 else None


FILE = 'drivers/misc/example.c'
OPS = """static void ex_vma_open(struct vm_area_struct *vma)
{
	struct ex *ex = to_ex(vma->vm_private_data);

	mutex_lock(&ex->lock);
	pr_debug("open\\n");
	ex_map_add(ex);
	kref_get(&ex->kref);
	ex_note_mapping(ex);
	mutex_unlock(&ex->lock);
}
static int ex_vma_mapped(unsigned long start, unsigned long end, pgoff_t pgoff,
	const struct file *file, void **vm_private_data)
{
	struct ex *ex = file->private_data;

	if (ex_is_dead(ex))
		return -ENODEV;
	return pm_runtime_resume_and_get(ex->dev);
}
static void ex_vma_close(struct vm_area_struct *vma)
{
	struct ex *ex = to_ex(vma->vm_private_data);

	ex_map_remove(ex);
	kref_put(&ex->kref, ex_release);
}
static const struct vm_operations_struct ex_vm_ops = {
	.open	= ex_vma_open,
	.mapped	= ex_vma_mapped,
	.close	= ex_vma_close,
	.fault	= ex_vma_fault,
};
"""
HOOK = """static int ex_mmap_prepare(struct vm_area_desc *desc)
{
	struct ex *ex = to_ex(desc->file->private_data);
	int err = 0;

	mutex_lock(&ex->lock);
	pr_debug("prepare\\n");
	if (ex_is_dead(ex))
		err = -ENODEV;
	mutex_unlock(&ex->lock);
	if (err)
		return err;
	desc->private_data = ex;
	desc->vm_ops = &ex_vm_ops;
	return 0;
}
"""
FOPS = """static const struct file_operations ex_fops = {
	.mmap_prepare = ex_mmap_prepare,
};
"""
OLD = """static int ex_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct ex *ex = to_ex(file->private_data);

	kref_get(&ex->kref);
	vma->vm_private_data = ex;
	vma->vm_ops = &ex_vm_ops;
	return 0;
}
static const struct file_operations ex_fops = {
	.mmap = ex_mmap,
};
"""
CONVERTED = (
    OLD.replace(
        'mmap(struct file *file, struct vm_area_struct *vma)', 'mmap(struct vm_area_desc *desc)'
    )
    .replace('(file->', '(desc->file->')
    .replace('vma->vm_private_data', 'desc->private_data')
    .replace('vma->vm_ops', 'desc->vm_ops')
    .replace('.mmap =', '.mmap_prepare =')
)
SETS = '	desc->private_data = ex;\n'
HELPER = """static int ex_describe(struct ex *ex, struct vm_area_desc *desc)
{
	desc->vm_ops = &ex_vm_ops;
	return 0;
}
"""
BEFORE = OPS + HOOK + FOPS


def _with(*lines: str, hook: str = HOOK, before: str = SETS) -> str:
    """Return the file with lines put in before one of the hook's."""
    changed = hook.replace(before, ''.join(f'\t{line}\n' for line in lines) + before)
    assert changed != hook
    return OPS + changed + FOPS


def _case(before: str, *after: str, expect: tuple[int, ...] | None = None) -> Case:
    return Case({FILE: before}, tuple(Edit({FILE: text}) for text in after), expect=expect)


RULE = Rule(
    id='prepare-takes-reference',
    severity=Severity.ERROR,
    check=check,
    bad=(
        _case(BEFORE, _with('kref_get(&ex->kref);'), expect=(1,)),
        # Tested, and given back where the hook fails, but not where it succeeds.
        _case(
            BEFORE,
            _with(
                'err = pm_runtime_resume_and_get(ex->dev);',
                'if (err)',
                '	return err;',
            ),
            expect=(1,),
        ),
        _case(
            BEFORE,
            _with(
                'kref_get(&ex->kref);',
                'if (desc->pgoff) {',
                '	kref_put(&ex->kref, ex_release);',
                '	return -EINVAL;',
                '}',
            ),
            expect=(1,),
        ),
        # The driver's own names: undone in .close, or called for its own sake.
        _case(BEFORE, _with('ex_map_add(ex);'), expect=(1,)),
        _case(BEFORE, _with('ex_note_mapping(ex);'), expect=(1,)),
        _case(BEFORE, _with('ex_vma_mapped(0, 0, 0, desc->file, NULL);'), expect=(1,)),
        # A conversion that takes over all of the .mmap hook.
        _case(OPS + OLD, OPS + CONVERTED, expect=(1,)),
        # A helper sets the vm_ops, one of two.
        _case(
            BEFORE,
            OPS
            + HELPER.replace('&ex_vm_ops', 'ex->big ? &ex_big_ops : &ex_vm_ops')
            + HOOK.replace(
                'desc->vm_ops = &ex_vm_ops', 'kref_get(&ex->kref);\n	ex_describe(ex, desc)'
            )
            + FOPS,
            expect=(1,),
        ),
        # Allocated, directly and by way of a local variable; the second patch does it.
        _case(
            BEFORE,
            BEFORE.replace('private_data = ex;', 'private_data = kzalloc_obj(struct ex_map);'),
            expect=(1,),
        ),
        _case(
            BEFORE,
            OPS + BEFORE,
            _with('struct map *map;')
            .replace(SETS, '	map = kzalloc(sizeof(*map), GFP_KERNEL);\n' + SETS)
            .replace('private_data = ex;', 'private_data = map;'),
            expect=(2,),
        ),
        # The hook of a driver's own pointer.
        _case(
            OPS,
            OPS
            + HOOK.replace('(struct vm', '(struct uio_info *info, struct vm').replace(
                SETS, '	kref_get(&ex->kref);\n' + SETS
            )
            + 'void f(struct uio_info *info) { info->mmap_prepare = ex_mmap_prepare; }\n',
            expect=(1,),
        ),
    ),
    good=(
        # What looks, logs and locks is in both from the start.
        _case(OPS, BEFORE),
        # A reference, but not what the vm_ops take.
        _case(BEFORE, _with('get_device(ex->dev);', 'ex_get(ex);')),
        # Held for a moment only.
        _case(
            BEFORE,
            _with('kref_get(&ex->kref);', 'ex_look(ex);', 'kref_put(&ex->kref, ex_release);'),
        ),
        _case(BEFORE, _with('ex_map_add(ex);', 'err = ex_try(ex);', 'ex_map_remove(ex);')),
        # Other vm_ops of the same file.
        _case(
            BEFORE.replace('= &ex_vm_ops', '= &ex_small_ops'),
            _with('kref_get(&ex->kref);').replace('= &ex_vm_ops', '= &ex_small_ops'),
        ),
        # Not a hook: nothing names it.
        _case(OPS, OPS + HOOK.replace(SETS, '	kref_get(&ex->kref);\n' + SETS)),
        # A conversion that leaves the reference to .mapped.
        _case(OPS + OLD, OPS + CONVERTED.replace('	kref_get(&ex->kref);\n', '')),
        # The parent does it: renamed, moved past, and with vm_ops that only now show it.
        _case(
            _with('kref_get(&ex->kref);'),
            _with('kref_get(&ex->kref);').replace('ex_mmap_prepare', 'ex_file_mmap_prepare'),
        ),
        _case(
            _with('kref_get(&ex->kref);'),
            _with('if (desc->pgoff)', '	return -EINVAL;', 'kref_get(&ex->kref);'),
        ),
        _case(
            _with('get_device(ex->dev);'),
            _with('get_device(ex->dev);').replace('kref_get(&ex->kref)', 'get_device(ex->dev)'),
        ),
        # The next patch takes it out.
        _case(BEFORE, _with('kref_get(&ex->kref);'), BEFORE),
        # Allocated once a file, and kept there.
        _case(
            BEFORE,
            _with(
                'struct map *map = kzalloc_obj(*map);', 'desc->file->private_data = map;'
            ).replace('private_data = ex;', 'private_data = map;'),
        ),
        _case(
            BEFORE,
            _with('struct map *map;', 'ex->map = map = kzalloc_obj(*map);').replace(
                'private_data = ex;', 'private_data = map;'
            ),
        ),
        # Not always what was allocated; and not what is stored.
        _case(
            BEFORE,
            _with(
                'struct map *map = ex->map;', 'if (!map)', '	map = kzalloc_obj(*map);'
            ).replace('private_data = ex;', 'private_data = map;'),
        ),
        _case(BEFORE, _with('struct map *map = kzalloc_obj(*map);', 'ex_ask(map);', 'kfree(map);')),
        # In a comment.
        _case(BEFORE, _with('/* kref_get(&ex->kref); is for .mapped */')),
    ),
)
