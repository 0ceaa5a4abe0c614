"""
An mmap_prepare hook changes page_prot or pgoff after the action that has captured it.

mmap_action_remap(), mmap_action_ioremap() and their _full forms copy
desc->page_prot into the action when they are called, and
mmap_action_map_kernel_pages() copies desc->pgoff (include/linux/mm.h). What is
assigned after that reaches the VMA, but not the page tables: a device that
wanted uncached mappings gets cached ones.

By control flow: reported is an assignment that some path reaches behind the
action, and that no later action captures, in a function that takes the
descriptor. mmap_action_simple_ioremap() captures neither. Silent where the
path fails anyway, where action and assignment stand under conditions of their
own, where include/linux/mm.h captures no longer, and about what the parent did.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tree_sitter import Node

from bot.csyntax import Point, calls, text_of
from bot.csyntax.syntax import line_of, walk
from bot.model import Hit, Severity, Subject
from bot.rule import Case, Edit, Rule, named
from rules._hooks import MOST_VISITS, Fault, Hook, choices, fails, hooks, reported

HEADER = 'include/linux/mm.h'
CAPTURES = {
    'page_prot': re.compile(r'mmap_action_(?:io)?remap(?:_full)?'),
    'pgoff': re.compile(r'mmap_action_map_kernel_pages(?:_full)?'),
}
"""Which calls copy which member of the descriptor."""


@dataclass(frozen=True)
class State:
    """The action that captured the member, and the assignment behind it that it missed."""

    action: Node | None = field(default=None, compare=False)
    missed: Node | None = field(default=None, compare=False)
    at: tuple[int, int] = (0, 0)


def check(subject: Subject) -> Iterator[Hit]:
    found = list(reported(subject, _faults))
    if not found:
        return
    header = subject.steps[-1].post.read(HEADER)
    for hit in found:
        name = hit.message.split('->')[1].split(' ')[0]
        if header is None or re.search(rb'=\s*desc->' + name.encode() + rb'\s*;', header):
            yield hit


def _faults(text: bytes) -> Iterator[Fault]:
    if b'mmap_action_' not in text:
        return
    for hook in hooks(text):
        for name, captures in CAPTURES.items():
            if any(captures.fullmatch(call.name) for call in hook.calls):
                yield from _late(hook, name, captures)


def _late(hook: Hook, name: str, captures: re.Pattern[str]) -> Iterator[Fault]:
    flow = hook.flow
    if flow is None:
        return

    def step(point: Point, state: State, _: bool | None) -> State | None:
        if point.node is None:
            return state
        if point.kind == 'return' and fails(point.node):
            return None
        for call in calls(point.node):
            if captures.fullmatch(call.name) and call.arguments[:1] == (hook.desc,):
                return State(call.node, None, (call.node.start_byte, 0))
        if state.action is not None and state.missed is None:
            for node in _assigned(point.node, f'{hook.desc}->{name}'):
                if _meet(hook, state.action, node):
                    return State(state.action, node, (state.at[0], node.start_byte))
        return state

    told = set()
    for point, state, visit in itertools.islice(flow.walk(State(), step), MOST_VISITS):
        if point.kind != 'exit' or state.missed is None or state.action is None:
            continue
        line = line_of(state.missed)
        if line in told:
            continue
        told.add(line)
        action = named(text_of(state.action.child_by_field_name('function')))
        yield Fault(
            hook.function,
            f'late {name}',
            line,
            f'{hook.name}() sets {hook.desc}->{name} after {action}() has captured it',
            'Please set it first, since the action keeps the old value.',
            shown=(line_of(state.action),),
            flow=tuple(before.line for before in visit.path()),
        )


def _assigned(node: Node, member: str) -> Iterator[Node]:
    """Yield what assigns to a member, be it inside a macro: pgprot_val(desc->page_prot) |= x."""
    for found in walk(node, 'assignment_expression', 'update_expression'):
        target = found.child_by_field_name('left') or found.child_by_field_name('argument')
        if re.fullmatch(rf'(?:\w+\()?{re.escape(member)}(?:\.\w+)?\)?', text_of(target)):
            yield found


def _meet(hook: Hook, action: Node, assignment: Node) -> bool:
    """Whether the conditions of one are conditions of the other too."""
    one = choices(action, hook.function.body)
    other = choices(assignment, hook.function.body)
    return one <= other or other <= one


FILE = 'drivers/misc/example.c'
PROT = '	desc->page_prot = pgprot_noncached(desc->page_prot);\n'
ACTION = '	mmap_action_remap_full(desc, ex->pfn);\n'
HOOK = f"""static int ex_mmap_prepare(struct vm_area_desc *desc)
{{
	struct ex *ex = desc->file->private_data;

	if (vma_desc_size(desc) > ex->size)
		return -EINVAL;
{PROT}{ACTION}	return 0;
}}
"""
FOPS = """static const struct file_operations ex_fops = {
	.mmap_prepare = ex_mmap_prepare,
};
"""
PAGES = """static int ex_mmap_prepare(struct vm_area_desc *desc)
{
	desc->pgoff = 0;
	mmap_action_map_kernel_pages_full(desc, ex_pages);
	return 0;
}
"""
SWITCH = """static int ex_mmap_prepare(struct vm_area_desc *desc)
{
	switch (desc->pgoff) {
	case 0:
		mmap_action_ioremap(desc, desc->start, ex_pfn, PAGE_SIZE);
		break;
	case 1:
		mmap_action_simple_ioremap(desc, ex_phys, PAGE_SIZE);
		break;
	default:
		return -EINVAL;
	}
	return 0;
}
"""
END = '	return 0;\n'


def _bad(old: str, new: str, hook: str = HOOK) -> Case:
    changed = hook.replace(old, new)
    assert changed != hook, old
    return Case({FILE: hook + FOPS}, (Edit({FILE: changed + FOPS}),), expect=(1,))


def _good(old: str, new: str, hook: str = HOOK) -> Case:
    changed = hook.replace(old, new)
    assert changed != hook, old
    return Case({FILE: hook + FOPS}, (Edit({FILE: changed + FOPS}),))


RULE = Rule(
    id='prepare-prot-order',
    severity=Severity.WARNING,
    check=check,
    bad=(
        _bad(PROT + ACTION, ACTION + PROT),
        _bad(ACTION, f'{ACTION}	if (ex->wc)\n	{PROT}'),
        _bad(ACTION, ACTION + '	pgprot_val(desc->page_prot) |= EX_BIT;\n'),
        # On one path only.
        _bad(PROT + ACTION, f'	if (!ex->wc)\n	{ACTION}{PROT}'),
        _bad(END, PROT + END, SWITCH),
        # The offset, and the pages.
        _bad(END, '	desc->pgoff = 0;\n' + END, PAGES),
        _bad('_full(desc, ex_pages);\n', '(desc, 0, ex_pages, 1);\n	desc->pgoff++;\n', PAGES),
        # Behind a label, in the second patch.
        Case(
            {FILE: HOOK + FOPS},
            (
                Edit({FILE: HOOK.replace(END, '	goto out;\nout:\n' + END) + FOPS}),
                Edit({FILE: HOOK.replace(END, '	goto out;\nout:\n' + PROT + END) + FOPS}),
            ),
            expect=(2,),
        ),
        # A conversion.
        Case(
            {FILE: 'int x;\n'},
            (Edit({FILE: HOOK.replace(PROT + ACTION, ACTION + PROT) + FOPS}),),
            expect=(1,),
        ),
    ),
    good=(
        _good(PROT, '	desc->page_prot = pgprot_writecombine(desc->page_prot);\n'),
        # This action looks at page_prot later; and pages at pgoff, not at it.
        _good(
            PROT + ACTION,
            '	mmap_action_simple_ioremap(desc, ex->phys, ex->size);\n' + PROT,
        ),
        _good(END, PROT + END, PAGES),
        _good(ACTION, ACTION + '	desc->pgoff = 0;\n'),
        # Captured anew.
        _good(PROT + ACTION, ACTION + PROT + ACTION),
        # It is either the one or the other.
        _good(
            PROT + ACTION,
            f'	if (ex->io) {{\n	{ACTION}		return 0;\n	}}\n{PROT}',
        ),
        _good(
            PROT + ACTION,
            f'	if (ex->io)\n	{ACTION}	if (!ex->io)\n	{PROT}',
        ),
        _good('		break;\n	case 1:\n', f'		break;\n	case 1:\n	{PROT}', SWITCH),
        # The mapping fails.
        _good(
            PROT + ACTION,
            f'{ACTION}	if (ex->bad) {{\n	{PROT}		return -EINVAL;\n	}}\n',
        ),
        # Only read, or somebody else's.
        _good(ACTION, ACTION + '	ex->prot = desc->page_prot;\n	ex->desc->page_prot = 0;\n'),
        # The parent does it.
        Case(
            {FILE: HOOK.replace(PROT + ACTION, ACTION + PROT) + FOPS},
            (Edit({FILE: HOOK.replace(PROT + ACTION, f'{ACTION}	x();\n{PROT}') + FOPS}),),
        ),
        # The action captures no longer.
        Case(
            {FILE: HOOK + FOPS, HEADER: 'void mmap_action_remap(struct vm_area_desc *desc);\n'},
            (Edit({FILE: HOOK.replace(PROT + ACTION, ACTION + PROT) + FOPS}),),
        ),
    ),
)
