"""
A field is written back to the VMA that was never loaded into the descriptor.

compat_set_desc_from_vma() (mm/util.c) loads a descriptor from a VMA, a nested
mmap_prepare hook may change it, and compat_set_vma_from_desc() (mm/vma.h)
writes it back, whether the hook touched the field or not. So each field that
the second writes has to be loaded by the first: where it is not, a hook that
leaves it alone wipes what the VMA had. A VMA whose vm_ops or vm_private_data
were set before a stacked hook ran has lost them in this way.

Reported is a field that a patch brings into that state: by writing it back, by
no longer loading it, or with the pair itself. Silent about what the parent
had, new callers of the pair and the helpers' move to another file included; a
write that depends on the field's own value; a first helper that hands the
descriptor to functions that this rule does not know; and a field that the
series loads before it ends.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tree_sitter import Node

from bot.csyntax import Function, calls, changed_line, parse, text_of
from bot.csyntax.syntax import line_of, walk
from bot.model import Evidence, Hit, Severity, Snapshot, Step, Subject
from bot.rule import Case, Edit, Rule
from rules._written import parameter, place, read, writes

DESC = 'struct vm_area_desc'
LOAD, STORE = 'compat_set_desc_from_vma', 'compat_set_vma_from_desc'
NAMES = (LOAD.encode(), STORE.encode())
# Cheap: one of them with a body.
DEFINED = re.compile(rb'\b(?:' + b'|'.join(NAMES) + rb')\s*\([^;{}]*\)\s*\{')
HOMES = ('mm/util.c', 'mm/vma.h', 'mm/vma.c', 'mm/mmap.c', 'mm/internal.h', 'include/linux/mm.h')
SETS_FLAGS = re.compile(r'vma_desc_(set|clear|reset|change)\w*')


@dataclass(frozen=True)
class Helper:
    """One of the two, where it lies, and the fields that it loads or stores with their lines."""

    path: str
    function: Function
    fields: dict[str, int]


def check(subject: Subject) -> Iterator[Hit]:
    for step in subject.steps:
        paths = [path for diff in step.files for path in (diff.old_path, diff.new_path) if path]
        if not any(DEFINED.search(_text(step.post, path)) for path in paths):
            continue
        pair, before = _pair(step.post, paths), _pair(step.pre, paths)
        if pair is None or before is None:
            continue
        load, store = pair
        if load is None or store is None:
            continue
        last = _pair(subject.steps[-1].post, paths)
        known, left = _lost(before), _lost(last or pair)
        new = [name for name in _lost(pair) if name not in known and name in left]
        where = _where(step, load, store, new) if new else None
        if where is None:
            continue
        path, line, side = where
        names = new[0] if len(new) == 1 else f'{", ".join(new[:-1])} and {new[-1]}'
        text = parse(step.post.read(store.path) or b'')
        lines = sorted({store.fields[name] for name in new})
        yield Hit(
            step.n,
            path,
            line,
            f'{STORE}() writes back {names}, which {LOAD}() does not load',
            'A hook that leaves it alone wipes what the VMA had; could the first load it?',
            side=side,
            symbol=', '.join(new),
            evidence=tuple(
                Evidence(store.path, at, text.line(at).strip())
                for at in lines
                if (store.path, at, 'new') != where
            ),
        )


def _text(tree: Snapshot, path: str) -> bytes:
    """Return a file that may hold one of the two; b'' for any other."""
    if not path.startswith(('mm/', 'include/linux/')) or not path.endswith(('.c', '.h')):
        return b''
    return read(tree, path, *NAMES)


def _pair(tree: Snapshot, paths: list[str]) -> tuple[Helper | None, Helper | None] | None:
    """Find both helpers (None: not there); None where one can't be read, or is there twice."""
    loads, stores = [], []
    for path in dict.fromkeys((*HOMES, *paths)):
        text = _text(tree, path)
        for function in parse(text).all_functions if DEFINED.search(text) else ():
            if function.name == LOAD:
                loads.append(_loading(path, function) if function.clean else None)
            elif function.name == STORE:
                stores.append(_storing(path, function) if function.clean else None)
    if len(loads) > 1 or len(stores) > 1 or None in (*loads, *stores):
        return None
    return (loads or [None])[0], (stores or [None])[0]


def _lost(pair: tuple[Helper | None, Helper | None]) -> list[str]:
    """Return what the second writes back and the first does not load."""
    load, store = pair
    if load is None or store is None:
        return []
    return [name for name in store.fields if name not in load.fields]


def _loading(path: str, function: Function) -> Helper | None:
    """Return what is assigned to the descriptor; None where an unknown function may do it."""
    desc = parameter(function, DESC)
    if desc is None:
        return None
    fields = {
        one.place.path[0]: one.line
        for one in writes(function.body)
        if one.place.base == desc and one.place.arrow
    }
    for call in calls(function.body):
        if desc in call.arguments and call.name != 'memset':
            if not SETS_FLAGS.fullmatch(call.name):
                return None
            fields['vma_flags'] = call.line
        for one in call.arguments:
            member = re.fullmatch(rf'&\s*{re.escape(desc)}\s*->\s*(\w+)(\..*)?', one)
            if member:
                fields[member[1]] = call.line
    for node in walk(function.body, 'assignment_expression', 'init_declarator'):
        left = node.child_by_field_name('left')
        right = node.child_by_field_name('right') or node.child_by_field_name('value')
        if left is not None and text_of(left) == f'*{desc}':
            if right is None or right.type != 'compound_literal_expression':
                return None
            for inner in walk(right, 'field_designator'):
                fields[text_of(inner).lstrip('.')] = line_of(inner)
        elif text_of(right) == desc:
            return None  # another name for it
    return Helper(path, function, fields)


def _storing(path: str, function: Function) -> Helper | None:
    """Return what goes from the descriptor to the VMA whatever its value is."""
    desc, vma = parameter(function, DESC), parameter(function, 'struct vm_area_struct')
    if desc is None or vma is None:
        return None
    fields: dict[str, int] = {}
    for node in walk(function.body, 'assignment_expression', 'call_expression'):
        if node.type == 'assignment_expression':
            target = place(node.child_by_field_name('left'))
            value = node.child_by_field_name('right')
            if target is None or target.base != vma or value is None:
                continue
        else:
            value = node.child_by_field_name('arguments')
            if value is None or f'{vma}' not in [text_of(one) for one in value.named_children]:
                continue
        for inner in walk(value, 'field_expression'):
            member = place(inner)
            if member is None or member.base != desc or _asks(node, function, desc, member.path[0]):
                continue
            fields.setdefault(member.path[0], line_of(node))
    return Helper(path, function, fields)


def _asks(node: Node, function: Function, desc: str, name: str) -> bool:
    """Whether a condition around `node` depends on the field alone, not on what the VMA has."""
    found = node.parent
    while found is not None and found != function.body:
        if found.type in ('if_statement', 'conditional_expression'):
            text = text_of(found.child_by_field_name('condition'))
            own = re.escape(f'{desc}->{name}')
            if re.search(rf'{own}\b', text) and not re.search(rf'{own} [!=]= \w+->', text):
                return True
        found = found.parent
    return False


def _where(
    step: Step, load: Helper, store: Helper, new: list[str]
) -> tuple[str, int, Literal['new', 'old']] | None:
    """Return the line that brings it about: the write back, else a line of either helper."""
    for name in new:
        found = changed_line(step, store.path, store.fields[name], store.fields[name])
        if found is not None and found[1] == 'new':
            return store.path, *found
    for helper in (load, store):
        found = changed_line(step, helper.path, helper.function.start, helper.function.end)
        if found is not None:
            return helper.path, *found
    return None


UTIL, HEADER, DRIVER = 'mm/util.c', 'mm/vma.h', 'drivers/uio/example.c'
LOADS = """void compat_set_desc_from_vma(struct vm_area_desc *desc, const struct file *file,
		const struct vm_area_struct *vma)
{
	memset(desc, 0, sizeof(*desc));

	desc->mm = vma->vm_mm;
	desc->file = (struct file *)file;
	desc->pgoff = vma->vm_pgoff;
	desc->vm_file = vma->vm_file;
	desc->vma_flags = vma->flags;
	desc->vm_ops = vma->vm_ops;
	desc->private_data = vma->vm_private_data;
}
"""
STORES = """static inline void compat_set_vma_from_desc(struct vm_area_struct *vma,
		struct vm_area_desc *desc)
{
	vma->vm_pgoff = desc->pgoff;
	if (desc->vm_file != vma->vm_file)
		vma_set_file(vma, desc->vm_file);
	vma->flags = desc->vma_flags;
	vma->vm_ops = desc->vm_ops;
	vma->vm_private_data = desc->private_data;
}
"""
NO_DATA = LOADS.replace('	desc->private_data = vma->vm_private_data;\n', '')
NO_FILE = LOADS.replace('	desc->vm_file = vma->vm_file;\n', '')
NO_OPS = LOADS.replace('	desc->vm_ops = vma->vm_ops;\n', '')
PROT = STORES.replace('	vma->flags', '	vma->vm_page_prot = desc->page_prot;\n	vma->flags')
LITERAL = """void compat_set_desc_from_vma(struct vm_area_desc *desc, const struct file *file,
		const struct vm_area_struct *vma)
{
	*desc = (struct vm_area_desc){
		.mm = vma->vm_mm,
		.pgoff = vma->vm_pgoff,
		.vm_file = vma->vm_file,
		.vma_flags = vma->flags,
		.vm_ops = vma->vm_ops,
		.private_data = vma->vm_private_data,
	};
}
"""
CALLER = """static int example_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vm_area_desc desc;
	int err;

	compat_set_desc_from_vma(&desc, file, vma);
	err = hooks->prepare(&desc);
	return err ? err : __compat_vma_mmap(&desc, vma);
}
"""
TREE = {UTIL: LOADS, HEADER: STORES}

NEXT = '	desc->vm_ops'
WITH_PROT = LOADS.replace(NEXT, '	desc->page_prot = vma->vm_page_prot;\n' + NEXT)
LOADED_ELSEWHERE = NO_DATA.replace(NEXT, '	load_data(desc, vma);\n' + NEXT)
COPIED = LOADS.replace('desc->vma_flags = vma->flags', 'flags_copy(&desc->vma_flags, &vma->flags)')
ONLY_READ = LOADS.replace('desc->vm_ops = vma->vm_ops', 'WARN_ON(desc->vm_ops != vma->vm_ops)')
IF_SET = '	if (desc->private_data)\n		vma->vm_private_data'
WHAT_IS_SET = STORES.replace('	vma->vm_private_data', IF_SET)
AS_D = NO_DATA.replace('desc->', 'd->').replace('*desc', '*d').replace('(desc', '(d')
COPY = 'tools/testing/vma/include/dup.h'


def _bad(*patches: dict[str, str], before: dict[str, str] = TREE) -> Case:
    """A series whose last patch is at fault."""
    return Case(before, tuple(map(Edit, patches)), expect=(len(patches),))


def _good(*patches: dict[str, str], before: dict[str, str] = TREE) -> Case:
    return Case(before, tuple(map(Edit, patches)))


LOSSY = {UTIL: NO_DATA, HEADER: STORES}
NOTHING = {UTIL: '\n', HEADER: '\n'}

RULE = Rule(
    id='desc-round-trip',
    severity=Severity.WARNING,
    check=check,
    bad=(
        _bad({UTIL: NO_DATA}),
        _bad({UTIL: NO_FILE}),
        _bad({HEADER: PROT}),
        # One field was in that state already; another one joins it.
        _bad({HEADER: PROT}, before=LOSSY),
        # The pair itself is new, or one of it has got its name.
        _bad({HEADER: STORES}, {UTIL: NO_OPS}, before=NOTHING),
        _bad({UTIL: NO_OPS, HEADER: STORES}, before={HEADER: STORES.replace('compat_set', 'set')}),
        _bad({UTIL: LITERAL.replace('		.vm_ops = vma->vm_ops,\n', '')}),
        # A value read, not loaded.
        _bad({UTIL: ONLY_READ}),
    ),
    good=(
        _good({UTIL: LOADS, HEADER: STORES}, before=NOTHING),
        _good({UTIL: LITERAL}),
        # As it was: a caller more, moved, a renamed parameter.
        _good({DRIVER: CALLER, UTIL: NO_DATA + CALLER}, before=LOSSY),
        _good({UTIL: 'int x;\n', 'mm/vma.c': AS_D}, before=LOSSY),
        # Both at once, and one after the other.
        _good({HEADER: PROT, UTIL: WITH_PROT}),
        _good({HEADER: PROT}, {UTIL: WITH_PROT}),
        # Only what the hook has set is written back.
        _good({HEADER: WHAT_IS_SET, UTIL: NO_DATA}),
        # Another function loads it.
        _good({UTIL: LOADED_ELSEWHERE}),
        _good({UTIL: COPIED}),
        # Less is written back.
        _good({HEADER: STORES.replace('	vma->vm_private_data = desc->private_data;\n', '')}),
        # The copies have rules of their own.
        _good({COPY: NO_DATA}, before=TREE | {COPY: LOADS}),
    ),
)
