"""
The protocol of the pair is broken, in both users of it and in every driver with a hook.

In the users (the functions of drivers/ that call both helpers) by taking away
or adding a line. In the drivers, whose hooks are reached through .mmap_prepare,
by putting a function in between that sits in the .mmap slot and calls the hook
through the pair, each time with one mistake.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from bot.csyntax import Function, calls, parse
from bot.csyntax.syntax import line_of, walk
from bot.model import Snapshot
from bot.rule import Edit
from rules.compat_pair import COMPLETE, SET
from tests.evaluate.planting import Plant, mentioning, text

FOLDERS = ('drivers', 'fs')
HOOK = re.compile(r'\.mmap_prepare(\s*=\s*)(\w+)')
# Each mistake in the words of the function below: what becomes what, and who says so too.
WRAPPER = """
static int {name}(struct file *file, struct vm_area_struct *vma)
{{
	struct vm_area_desc desc;
	int err;

	compat_set_desc_from_vma(&desc, file, vma);
	err = {hook}(&desc);
	if (err)
		return err;

	return __compat_vma_mmap(&desc, vma);
}}

"""


class Mistake(NamedTuple):
    """What becomes what, and which rules also say something."""

    name: str
    old: str
    new: str
    also: tuple[str, ...] = ()


TEST = '	if (err)\n		return err;\n\n'
RETURN = '	return __compat_vma_mmap(&desc, vma);'
FILL = '	compat_set_desc_from_vma(&desc, file, vma);\n'
MISTAKES = (
    Mistake('the error is not tested', TEST, ''),
    Mistake('the test is turned round', 'if (err)', 'if (!err)'),
    Mistake('an error completes', '		return err;\n', '		goto out;\nout:\n'),
    Mistake('completed on failure, too', TEST, '	if (err)\n		pr_warn("no mapping\\n");\n\n'),
    Mistake('another vma', RETURN, RETURN.replace('vma)', 'vma->vm_file->private_data)')),
    Mistake('the result is dropped', RETURN, f'{RETURN.replace("return ", "")}\n	return 0;'),
    Mistake('the result is cast away', RETURN,
            f'{RETURN.replace("return ", "(void)")}\n	return err;'),
    Mistake('not completed', RETURN, '	return 0;'),
    Mistake('not completed, the error returned', TEST + RETURN, '	return err;'),
    Mistake('completed twice', RETURN, f'	err = __compat_vma_mmap(&desc, vma);\n{RETURN}'),
    Mistake('not filled', FILL, '', ('desc-uninitialised',)),
    Mistake('filled afterwards', f'{FILL}	err = ', f'	err = desc.pgoff;\n{FILL}	err = ',
            ('desc-uninitialised',)),
    Mistake('filled on one path only', FILL, f'	if (vma->vm_pgoff)\n	{FILL}',
            ('desc-uninitialised',)),
    Mistake('the vma changed once filled', FILL, f'{FILL}	vma->vm_private_data = file;\n'),
    Mistake('flags changed before completing', RETURN, f'	vm_flags_set(vma, VM_IO);\n{RETURN}'),
    Mistake('the vma changed after completing', RETURN,
            '	err = __compat_vma_mmap(&desc, vma);\n	vma->vm_ops = NULL;\n	return err;'),
    Mistake('no hook', '	err = {hook}(&desc);\n', '	err = vma->vm_pgoff ? -EINVAL : 0;\n'),
    Mistake('two hooks', TEST, f'{TEST}	err = {{hook}}(&desc);\n{TEST}'),
    Mistake("the file's hook", '{hook}(&desc)', 'vfs_mmap_prepare(file, &desc)'),
    Mistake("the file's hook by pointer", '{hook}(&desc)', 'file->f_op->mmap_prepare(&desc)'),
    Mistake('a static descriptor', 'struct vm_area_desc', 'static struct vm_area_desc'),
    Mistake('by hand', FILL, '	memset(&desc, 0, sizeof(desc));\n	desc.mm = vma->vm_mm;\n',
            ('desc-immutable-write', 'desc-uninitialised')),
)  # fmt: skip
SLOT = Mistake('in the other slot', '', '')


def plants(tree: Snapshot) -> Iterator[Plant]:
    for path in mentioning(tree, (SET.encode(),), ('drivers',)):
        for function in parse(tree.read(path) or b'').functions.values():
            if {SET, COMPLETE} <= {call.name for call in calls(function.body)}:
                yield from _in_user(path, text(tree, path), function)
    done: set[str] = set()
    places = [
        (path, found)
        for path in mentioning(tree, (b'.mmap_prepare',), FOLDERS)
        for found in HOOK.finditer(text(tree, path))
    ]
    n = 0
    for path, found in places:
        if path in done or '= {' not in text(tree, path)[: found.start()]:
            continue
        done.add(path)
        for k in range(3):
            yield _wrapped(tree, path, found, MISTAKES[(n + 7 * k) % len(MISTAKES)])
        n += 1
        if n % 4 == 0:
            yield _wrapped(tree, path, found, SLOT)


def _wrapped(tree: Snapshot, path: str, hook: re.Match[str], mistake: Mistake) -> Plant:
    """Put a function with a mistake between the slot and the driver's hook."""
    whole = text(tree, path)
    name = f'{hook[2]}_stacked'
    code = WRAPPER.replace(mistake.old, mistake.new) if mistake.old else WRAPPER
    assert code != WRAPPER or mistake is SLOT, mistake.name
    if mistake.name == 'by hand':
        code = code.replace(
            '__compat_vma_mmap(&desc, vma)', 'mmap_action_complete(vma, &desc.action)'
        )
    # Before the initialiser: the line that opens the braces around the slot.
    before = whole.rindex('\n', 0, whole.rindex('= {', 0, hook.start())) + 1
    slot = f'.mmap_prepare{hook[1]}{name}' if mistake is SLOT else f'.mmap{hook[1]}{name}'
    made = code.format(name=name, hook=hook[2]).lstrip('\n')
    new = whole[:before] + made + whole[before : hook.start()] + slot + whole[hook.end() :]
    edit = Edit({path: new}, f'{path.rpartition("/")[2]}: stack the hook\n\nFor a driver on top.')
    also = (*mistake.also, 'prepare-vma-api', 'mapped-via-mmap')
    return Plant(f'{hook[2]}() of {path}: {mistake.name}', (edit,), path, also=also)


def _in_user(path: str, whole: str, function: Function) -> Iterator[Plant]:
    """Break the protocol in a real user, by its lines."""
    lines = whole.split('\n')
    found = {call.name: call for call in calls(function.body)}
    fill, complete = found[SET], found[COMPLETE]
    hook = next(
        call
        for call in calls(function.body)
        if call.arguments[-1:] == fill.arguments[:1] and call.name not in (SET, COMPLETE)
    )
    desc, vma = fill.arguments[0].lstrip('& '), fill.arguments[2]
    result = lines[hook.line - 1].partition(' = ')[0].strip()
    test = next(
        node
        for node in walk(function.body, 'if_statement')
        if line_of(node) > hook.line and line_of(node) < complete.line
    )
    first, last = line_of(test), test.end_point.row + 1
    there, indent = lines[complete.line - 1], re.match(r'\s*', lines[complete.line - 1])
    tab = indent[0] if indent else ''
    plain = f'{tab}{COMPLETE}(&{desc}, {vma});'
    called = lines[hook.line - 1]

    def plant(name: str, changes: dict[int, list[str]], also: tuple[str, ...] = ()) -> Plant:
        new = [
            line
            for number, old in enumerate(lines, 1)
            for line in changes.get(number, [old])
        ]  # fmt: skip
        edit = Edit({path: '\n'.join(new)}, f'{path.rpartition("/")[2]}: tidy\n\nLess code.')
        return Plant(f'{function.name}() of {path}: {name}', (edit,), path, also=also)

    gone = {number: list[str]() for number in range(first, last + 1)}
    at, fills = complete.line, fill.line
    uninitialised = ('desc-uninitialised',)
    yield plant('the error is not tested', gone)
    yield plant('the test is turned round', {first: [lines[first - 1].replace('(', '(!', 1)]})
    yield plant('not completed', {at: [f'{tab}return 0;']})
    yield plant('the result is dropped', {at: [plain, f'{tab}return 0;']})
    yield plant('completed twice', {at: [f'{tab}{result} = {plain.strip()}', there]})
    yield plant('another vma', {at: [there.replace(f'{vma})', f'{vma}->vm_private_data)')]})
    yield plant('another descriptor', {at: [there.replace(f'&{desc}', 'NULL')]})
    yield plant('not filled', {fills: []}, uninitialised)
    yield plant(
        'filled afterwards', {fills: [], hook.line: [called, lines[fills - 1]]}, uninitialised
    )
    yield plant('filled on one path', {fills: [f'{tab}if ({result})', f'\t{lines[fills - 1]}']},
                uninitialised)  # fmt: skip
    yield plant('no hook', {hook.line: [f'{tab}{result} = 0;']})
    yield plant('two hooks', {at: [called, *lines[first - 1 : last], there]})
    yield plant(
        "the file's hook", {hook.line: [f'{tab}{result} = vfs_mmap_prepare(NULL, &{desc});']}
    )
    yield plant(
        'the vma changed between', {hook.line: [f'{tab}{vma}->vm_private_data = NULL;', called]}
    )
    yield plant('flags changed before', {at: [f'{tab}vm_flags_set({vma}, VM_IO);', there]})
    yield plant(
        'the vma changed after',
        {
            at: [
                f'{tab}{result} = {plain.strip()}',
                f'{tab}{vma}->vm_ops = NULL;',
                f'{tab}return {result};',
            ]
        },
    )
    for variable in function.variables:
        if variable.name == desc:
            line = lines[variable.line - 1]
            static = re.sub(r'^\s*', lambda found: f'{found[0]}static ', line)
            yield plant('a static descriptor', {variable.line: [static]})
