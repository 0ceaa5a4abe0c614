"""
An mmap_prepare hook does what needs a VMA, sets up an action by hand, or keeps a lock.

The hook describes a mapping that does not exist yet; it has no VMA to hand to
remap_pfn_range(), vm_insert_page(), vm_flags_set() and their like, and one that
it looks up is another mapping's. What it wants done it says by the helpers
mmap_action_*(), which are alone in knowing what desc->action consists of
(Documentation/filesystems/mmap_prepare.rst). It may take a lock for its own
work, but nothing is called later that would release it.

Reported in a hook, and in what it hands its descriptor to within the file:
such a call; an assignment to desc->action or a member of it, also through a
local pointer, other than error_override and the other members that have no
helper; and a return that a path reaches with a lock held. Locks count that go
by a name of the kernel's own, and guard() releases itself. Silent where a lock
is taken or released under a condition of its own, or perhaps by somebody else,
in functions that can't be read, and about what the parent did.
"""

import re
from collections.abc import Iterator

from bot.csyntax import calls, parse, text_of
from bot.csyntax.syntax import line_of, walk
from bot.model import Hit, Severity, Subject
from bot.rule import Case, Edit, Rule, named
from rules._hooks import Fault, Hook, hooks, is_static, reported
from rules._locks import kept, may_release, releases

NEEDS_VMA = re.compile(
    r'(?:io_)?remap_pfn_range(?:_notrack|_complete)?|remap_vmalloc_range(?:_partial)?'
    r'|vm_iomap_memory|vm_insert_pages?|vm_map_pages(?:_zero)?|vmf_insert_(?:pfn|mixed)\w*'
    r'|dma_mmap_\w+|dma_common_mmap|iommu_dma_mmap'
    r'|vm_flags_(?:init|reset|reset_once|set|clear|mod)'
    r'|vma_set_(?:page_prot|anonymous|range|file|flags|flags_mask|atomic_flag|access_pid_bit)'
    r'|vma_start_write|mmap_action_complete'
)
# Members of an action that have no helper: hooks set them.
OPEN = {'error_override', 'hide_from_rmap_until_complete', 'success_hook', 'error_hook'}
INSTEAD = {
    'remap_pfn_range': 'mmap_action_remap()',
    'io_remap_pfn_range': 'mmap_action_ioremap()',
    'vm_iomap_memory': 'mmap_action_simple_ioremap()',
    'vm_insert_page': 'mmap_action_map_kernel_pages()',
    'vm_insert_pages': 'mmap_action_map_kernel_pages()',
    'vm_map_pages': 'mmap_action_map_kernel_pages()',
    'vm_flags_set': 'vma_desc_set_flags()',
    'vm_flags_clear': 'vma_desc_clear_flags()',
    'vm_flags_mod': 'vma_desc_set_flags()',
}


def check(subject: Subject) -> Iterator[Hit]:
    yield from reported(subject, _faults)


def _faults(text: bytes) -> Iterator[Fault]:
    for hook in hooks(text):
        yield from _calls(hook)
        yield from _pokes(hook)
        yield from _locks(hook, text)


def _calls(hook: Hook) -> Iterator[Fault]:
    said = set()
    for call in hook.calls:
        if not NEEDS_VMA.fullmatch(call.name) or call.name in said:
            continue
        said.add(call.name)
        instead = INSTEAD.get(call.name)
        yield Fault(
            hook.function,
            f'calls {call.name}',
            call.line,
            f'{hook.name}() calls {call.name}(), which needs a VMA, before there is one',
            f'Could it use {instead} on {hook.desc}?' if instead else None,
        )


def _pokes(hook: Hook) -> Iterator[Fault]:
    action = f'{hook.desc}->action'
    aliases = {
        variable.name
        for variable in hook.function.variables
        if variable.type == 'struct mmap_action'
        and text_of(variable.initialiser).replace(' ', '') == f'&{action}'
    }
    names = '|'.join([re.escape(action) + r'\.', *(rf'{re.escape(one)}->' for one in aliases)])
    member = re.compile(rf'\(*(?:{names})\s*(\w+)')
    said = set()
    for node in walk(hook.function.body, 'assignment_expression', 'update_expression'):
        left = node.child_by_field_name('left') or node.child_by_field_name('argument')
        target = text_of(left)
        found = member.match(target)
        if target == action:
            name = ''
        elif found is not None and found[1] not in OPEN:
            name = found[1]
        else:
            continue
        if name in said:
            continue
        said.add(name)
        yield Fault(
            hook.function,
            f'action {name}',
            line_of(node),
            f'{hook.name}() assigns to {action}{"." + name if name else ""} itself',
            'Could it use one of the mmap_action_*() helpers?',
        )


def _locks(hook: Hook, text: bytes) -> Iterator[Fault]:
    functions = parse(text).functions
    for held, line, path in kept(hook, functions):
        if not hook.slot and not releases(hook.function, held):
            callers = [
                function
                for function in functions.values()
                if any(call.name == hook.name for call in calls(function.body))
            ]
            if not is_static(hook.function) or any(may_release(one, held) for one in callers):
                continue
        shown = named(held.shown) + (' held' if held.shown.endswith('()') else ' locked')
        yield Fault(
            hook.function,
            f'lock {held.lock}',
            line,
            f'{hook.name}() can return with {shown}',
            'Nothing after the hook would release it.',
            shown=(held.line,),
            flow=path,
        )


FILE = 'drivers/misc/example.c'
HOOK = """static int ex_mmap_prepare(struct vm_area_desc *desc)
{
	struct ex *ex = desc->file->private_data;
	int err;

	mutex_lock(&ex->lock);
	if (!ex->ready) {
		mutex_unlock(&ex->lock);
		return -ENODEV;
	}
	err = ex_check(ex, desc->pgoff);
	if (err)
		goto out;
	vma_desc_set_flags(desc, VMA_IO_BIT);
	mmap_action_remap_full(desc, ex->pfn);
	desc->action.error_override = -EAGAIN;
out:
	mutex_unlock(&ex->lock);
	return err;
}
"""
FOPS = """static const struct file_operations ex_fops = {
	.mmap_prepare = ex_mmap_prepare,
};
"""
TRIES = """static int ex_mmap_prepare(struct vm_area_desc *desc)
{
	struct inode *inode = file_inode(desc->file);
	int err = -EAGAIN;

	if (mutex_lock_interruptible(&ex_mutex))
		return -EINTR;
	if (desc->pgoff) {
		if (!inode_trylock(inode))
			goto out;
		err = ex_extend(inode);
		inode_unlock(inode);
		if (err)
			goto out;
	}
	err = mutex_lock_killable(&ex_second);
	if (err)
		goto out;
	mutex_unlock(&ex_second);
out:
	mutex_unlock(&ex_mutex);
	return err;
}
"""
GUARDED = """static int ex_mmap_prepare(struct vm_area_desc *desc)
{
	guard(mutex)(&ex_mutex);
	scoped_guard(spinlock, &ex_lock) {
		if (desc->pgoff)
			return -EINVAL;
	}
	return 0;
}
"""
BEFORE = HOOK + FOPS
SETS = '	vma_desc_set_flags(desc, VMA_IO_BIT);\n'
DECLARED = '	struct mmap_action *action = &desc->action;\n'


def _case(before: str, *after: str, expect: tuple[int, ...] | None = None) -> Case:
    return Case({FILE: before}, tuple(Edit({FILE: text}) for text in after), expect=expect)


def _bad(old: str, new: str, hook: str = HOOK) -> Case:
    changed = hook.replace(old, new)
    assert changed != hook, old
    return _case(hook + FOPS, changed + FOPS, expect=(1,))


def _good(old: str, new: str, hook: str = HOOK) -> Case:
    changed = hook.replace(old, new)
    assert changed != hook, old
    return _case(hook + FOPS, changed + FOPS)


RULE = Rule(
    id='prepare-vma-api',
    severity=Severity.ERROR,
    check=check,
    bad=(
        _bad(
            '	mmap_action_remap_full(desc, ex->pfn);\n',
            '	err = remap_pfn_range(find_vma(desc->mm, desc->start), desc->start, ex->pfn,\n'
            '			      PAGE_SIZE, desc->page_prot);\n',
        ),
        _bad(SETS, '	vm_flags_set(ex->vma, VM_IO);\n'),
        # A conversion that forgot one.
        _case(
            'static int ex_mmap(struct file *file, struct vm_area_struct *vma)\n'
            '{\n	return vm_iomap_memory(vma, ex_base, ex_size);\n}\n',
            'static int ex_mmap(struct vm_area_desc *desc)\n'
            '{\n	return vm_iomap_memory(ex_vma, ex_base, ex_size);\n}\n'
            'static const struct file_operations ex_fops = { .mmap_prepare = ex_mmap };\n',
            expect=(1,),
        ),
        # The action: a member, the whole, and through a pointer.
        _bad(SETS, '	desc->action.type = MMAP_NOTHING;\n'),
        _bad(SETS, '	desc->action = ex->action;\n'),
        _bad(
            SETS, '	action->remap.size += PAGE_SIZE;\n', HOOK.replace('	int err;\n', DECLARED)
        ),
        # In what the hook hands its descriptor to.
        _case(
            BEFORE,
            'static void ex_set(struct vm_area_desc *d)\n{\n	d->action.type = 0;\n}\n'
            + BEFORE.replace(SETS, '	ex_set(desc);\n'),
            expect=(1,),
        ),
        # Locks: on an early return, on all paths, a new lock, one of two, and a test turned round.
        _bad('		mutex_unlock(&ex->lock);\n		return', '		return'),
        _bad('out:\n	mutex_unlock(&ex->lock);\n', 'out:\n'),
        _bad('		goto out;\n	vma', '		return err;\n	vma'),
        _bad(SETS, SETS + '	rcu_read_lock();\n'),
        _bad('			goto out;\n		err', '			return err;\n		err', TRIES),
        _bad('if (!inode_try', 'if (inode_try', TRIES),
        _bad('		inode_unlock(inode);\n', '', TRIES),
        _bad('	mutex_unlock(&ex_second);\n', '', TRIES),
        # A helper that nobody unlocks for.
        _case(
            FOPS,
            'static int ex_begin(struct ex *ex, struct vm_area_desc *desc)\n'
            '{\n	mutex_lock(&ex->lock);\n	return ex_check(ex, desc->pgoff);\n}\n'
            'static int ex_mmap_prepare(struct vm_area_desc *desc)\n'
            '{\n	return ex_begin(desc->file->private_data, desc);\n}\n' + FOPS,
            expect=(1,),
        ),
        # Guarded no longer; the second patch of two.
        _case(
            GUARDED + FOPS,
            'int x;\n' + GUARDED + FOPS,
            GUARDED.replace('guard(mutex)(', 'mutex_lock(', 1) + FOPS,
            expect=(2,),
        ),
    ),
    good=(
        _case('\n', BEFORE),
        _case('\n', TRIES + FOPS),
        _case('\n', GUARDED + FOPS),
        # What has no helper is set by hand; what is only read; another's action.
        _good(SETS, '	desc->action.hide_from_rmap_until_complete = true;\n'),
        _good(SETS, '	ex->type = desc->action.type;\n'),
        _good(SETS, '	ex->desc.action.type = MMAP_NOTHING;\n'),
        # Names that only begin so.
        _good(
            SETS, '	vma_flags_set(&desc->vma_flags, VMA_IO_BIT);\n	vma_set_nothing(desc);\n'
        ),
        # An .mmap hook of the same file may do it all.
        _case(
            BEFORE,
            BEFORE + 'static int ex_mmap(struct file *file, struct vm_area_struct *vma)\n'
            '{\n	vm_flags_set(vma, VM_IO);\n	return remap_pfn_range(vma, 0, 0, 0, 0);\n}\n',
        ),
        # Under one condition that is asked twice, and under #if.
        _good(
            '	mutex_unlock(&ex->lock);\n	return err',
            '	if (ex->locked)\n		mutex_unlock(&ex->lock);\n	return err',
            HOOK.replace('	mutex_lock(', '	if (ex->locked)\n		mutex_lock('),
        ),
        _case(
            '\n',
            HOOK.replace(
                '	mutex_lock(&ex->lock);', '#ifdef A\n	mutex_lock(&ex->lock);\n#endif'
            )
            .replace(
                '		mutex_unlock(&ex->lock);',
                '#ifdef A\n		mutex_unlock(&ex->lock);\n#endif',
            )
            .replace(
                '\n	mutex_unlock(&ex->lock);', '\n#ifdef A\n	mutex_unlock(&ex->lock);\n#endif'
            )
            + FOPS,
        ),
        # Somebody else releases it: by name, and by what it does.
        _good(
            '	mutex_unlock(&ex->lock);\n	return err', '	ex_unlock_all(ex);\n	return err'
        ),
        _case(
            BEFORE,
            'static void ex_done(struct ex *ex)\n{\n	mutex_unlock(&ex->lock);\n}\n'
            + BEFORE.replace(
                '	mutex_unlock(&ex->lock);\n	return err', '	ex_done(ex);\n	return err'
            ),
        ),
        # It is the hook that releases what its helper took; who else may, can't be told.
        _case(
            '\n',
            'static int ex_begin(struct ex *ex, struct vm_area_desc *desc)\n'
            '{\n	mutex_lock(&ex->lock);\n	return ex_check(ex, desc->pgoff);\n}\n'
            + BEFORE.replace('	mutex_lock(&ex->lock);', '	err = ex_begin(ex, desc);'),
        ),
        # The other name of a lock.
        _good('	mutex_lock(&ex->lock);', '	lock = &ex->lock;\n	mutex_lock(lock);'),
        # What can't be read is not judged.
        _good('		mutex_unlock(&ex->lock);\n		return', '		{{{ return'),
        # The parent had it: moved, and said otherwise.
        _case(
            BEFORE.replace(SETS, '	desc->action.type = MMAP_NOTHING;\n'),
            BEFORE.replace(SETS, '	if (ex->off)\n		desc->action.type = MMAP_NOTHING;\n'),
        ),
        # The core makes the actions what they are.
        Case(
            {'mm/memory.c': '\n'},
            (
                Edit(
                    {
                        'mm/memory.c': 'int mmap_prepare_pages(struct vm_area_desc *desc)\n'
                        '{\n	desc->action.type = MMAP_NOTHING;\n	return 0;\n}\n'
                    }
                ),
            ),
        ),
        # The next patch mends it.
        _case(BEFORE, BEFORE.replace(SETS, '	desc->action.type = 0;\n'), BEFORE),
    ),
)
