"""
A member of x->vm_ops is used without a test that there are any.

An anonymous VMA has no vm_ops, and that is what vma_is_anonymous() looks at
(include/linux/mm.h); nearly all of mm/ asks `vma->vm_ops && vma->vm_ops->open`
before it calls a hook. Code that is added without the test works until it
meets an anonymous mapping. A note, since the caller may know better.

As a test count: x->vm_ops itself, or a variable made of it; a comparison with
an address; vma_is_anonymous() and its relatives; any check, by a call, that
has vm_ops or such a word in its name; and an earlier use on the same path.
Looked at are lines that a patch adds, or whose test it removes, in mm/,
include/ and the headers of the VMA tests.

Silent for vmf->vma and what was taken from it (a fault handler is called through
vm_ops, or after a test), in static functions whose callers in the file all
test, or have a fault at hand, in static functions that are only called by
pointer, in functions that can't be read, and for what a later patch of the
series mends.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial

from bot.csyntax import Function, changed_line, parse
from bot.model import Evidence, FileDiff, Hit, Severity, Snapshot, Step, Subject
from bot.rule import Case, Edit, Rule, named
from rules import _paths as paths
from rules import _vm_ops as ops

SPEAKS = re.compile(rb'vm_ops|anonymous|\b(?:is_vm|vma_is|vma_has|vma_can|vma_\w+s)_')


def check(subject: Subject) -> Iterator[Hit]:
    for step in subject.steps:
        touched = [diff for diff in step.files if _speaks(diff)]
        if not touched:
            continue
        before: list[ops.Use] = []
        after: list[ops.Use] = []
        for diff in touched:
            old, new = _changed(diff)
            if diff.old_path:
                before += _uses(step.pre, diff.old_path, partial(_holds, old))
            if diff.new_path:
                after += _uses(step.post, diff.new_path, partial(_holds, new))
        found = paths.fresh(before, after, lambda one: one.exact, lambda one: one.member)
        kept = _kept(subject.steps[-1].post, found)
        said: set[tuple[str, int, str]] = set()
        for use in found:
            about = (use.path, use.function.start, use.owner)
            if about in said or (use.path, use.exact) not in kept:
                continue
            hit = _hit(step, use)
            if hit is not None:
                said.add(about)
                yield hit


def _kept(last: Snapshot, uses: list[ops.Use]) -> set[tuple[str, tuple[str, str, str]]]:
    """Return path and name of those uses that the series ends with."""
    named: dict[str, set[str]] = {}
    for use in uses:
        named.setdefault(use.path, set()).add(use.function.name)
    return {
        (path, left.exact)
        for path, names in named.items()
        for left in _uses(last, path, partial(_is_named, names))
    }


def _is_named(names: set[str], function: Function) -> bool:
    return function.name in names


def _speaks(diff: FileDiff) -> bool:
    """Whether a diff is of a file that this is about, and changes a line that speaks of vm_ops."""
    path = diff.path
    scope = path.startswith(('mm/', 'include/')) and path.endswith(('.c', '.h'))
    if not scope and not (path.startswith('tools/testing/vma/') and path.endswith('.h')):
        return False
    return any(
        line[:1] != b' ' and SPEAKS.search(line) for hunk in diff.hunks for line in hunk.lines
    )


def _hit(step: Step, use: ops.Use) -> Hit | None:
    diff = step.file(use.path)
    where = changed_line(step, use.path, use.line, use.line)
    if diff is None or (where is None and not any(SPEAKS.search(line) for _, line in diff.removed)):
        return None
    where = where or changed_line(step, use.path, use.function.start, use.line)
    if where is None:
        return None
    source = parse(step.post.read(use.path) or b'')
    shown = () if where == (use.line, 'new') else (use.line,)
    owner = named(use.owner)
    return Hit(
        step.n,
        use.path,
        where[0],
        f'{use.function.name}() uses {owner}->vm_ops->{use.member} without a test of vm_ops',
        'An anonymous mapping has none; can one get here?',
        side=where[1],
        symbol=use.function.name,
        evidence=tuple(Evidence(use.path, line, source.line(line).strip()) for line in shown),
    )


def _changed(diff: FileDiff) -> tuple[list[int], list[int]]:
    """Return the lines, before and after, at which a diff adds or removes something."""
    before, after = [], []
    for hunk in diff.hunks:
        old, new = hunk.old_start, hunk.new_start
        for line in hunk.lines:
            if line[:1] != b' ':
                before.append(old)
                after.append(new)
            old += line[:1] != b'+'
            new += line[:1] != b'-'
    return before, after


def _holds(lines: list[int], function: Function) -> bool:
    return any(function.start <= line <= function.end for line in lines)


def _uses(tree: Snapshot, path: str, wanted: Callable[[Function], bool]) -> list[ops.Use]:
    """Return the unguarded uses in the wanted functions of a file, in order."""
    text = tree.read(path) or b''
    if b'vm_ops' not in text:
        return []
    unit = ops.Unit(parse(text), path)
    using = [
        function
        for function in unit.source.all_functions
        if b'vm_ops' in (function.body.text or b'') and wanted(function)
    ]
    found: list[ops.Use] = []
    for function in using[: paths.MOST_FUNCTIONS]:
        body = unit.body(function)
        if body is not None:
            found += [
                use
                for use in body.unguarded(path)
                if not unit.callers_test(function, body.origin(use.owner))
            ]
    return found


FILE, HEADER = 'mm/example.c', 'tools/testing/vma/include/example.h'
OPEN = """void open_it(struct vm_area_struct *vma)
{
	int err = 0;

	if (vma->vm_ops && vma->vm_ops->open)
		vma->vm_ops->open(vma);
}
"""
RETURNS = """int protect(struct vm_area_struct *vma)
{
	if (!vma->vm_ops)
		return 0;
	if (vma->vm_flags & VM_HUGETLB)
		return -EINVAL;
	return vma->vm_ops->mprotect(vma);
}
"""
SHORT = """bool closes(struct vma_merge *vmg)
{
	return likely(vmg->middle->vm_ops) && vmg->middle->vm_ops->close;
}
"""
LOCAL = """int mapped(struct vm_area_struct *vma)
{
	const struct vm_operations_struct *vm_ops = vma->vm_ops;

	if (!vm_ops || !vm_ops->mapped)
		return 0;
	return vm_ops->mapped(vma->vm_start);
}
"""
STATIC = """static bool faults(struct vm_area_struct *vma)
{
	return vma->vm_ops->huge_fault;
}

bool allowable(struct vm_area_struct *vma)
{
	if (vma_is_anonymous(vma))
		return true;
	return faults(vma);
}
"""
FAULT = """vm_fault_t shared(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;

	if (vmf->vma->vm_ops->map_pages)
		return vma->vm_ops->map_pages(vmf);
	return vma->vm_ops->fault(vmf);
}
"""
LOOP = """void all(struct vma_iterator *vmi)
{
	struct vm_area_struct *vma;

	for_each_vma(*vmi, vma) {
		if (!vma->vm_ops)
			continue;
		vma->vm_ops->close(vma);
	}
}
"""
FLAG = """int access(struct vm_area_struct *vma)
{
	const bool can = vma->vm_ops && vma->vm_ops->access;

	WARN_ON_ONCE(vma->vm_flags & VM_IO);
	if (can)
		return vma->vm_ops->access(vma);
	return vma_is_shmem(vma) ? vma->vm_ops->pagesize(vma) : 0;
}
"""
WRONG = OPEN.replace('vma->vm_ops && ', '')


def _bad(text: str, old: str, new: str, path: str = FILE) -> Case:
    changed = text.replace(old, new)
    assert changed != text, old
    return Case({path: text}, (Edit({path: changed}),), expect=(1,))


def _good(text: str, path: str = FILE) -> Case:
    return Case({path: '\n'}, (Edit({path: text}),))


RULE = Rule(
    id='vm-ops-null',
    severity=Severity.NOTE,
    check=check,
    bad=(
        _bad(OPEN, 'vma->vm_ops && ', ''),
        _bad(OPEN, '	int err = 0;\n', '	int err = vma->vm_ops->may_split(vma, 0);\n'),
        _bad(OPEN, 'vma->vm_ops &&', 'vma->vm_ops ||'),
        _bad(RETURNS, '	if (!vma->vm_ops)\n		return 0;\n', ''),
        _bad(RETURNS, 'if (!vma->vm_ops)', 'if (vma_is_anonymous(vma) && vma->anon_vma)'),
        _bad(SHORT, 'likely(vmg->middle->vm_ops)', 'vmg->prev->vm_ops', HEADER),
        _bad(LOCAL, '!vm_ops || ', ''),
        _bad(
            STATIC,
            '	if (vma_is_anonymous(vma))\n		return true;\n	return faults(vma)',
            '	return vma->vm_ops->fault',
        ),
        _bad(
            LOOP,
            'close(vma);\n',
            'close(vma);\n		vma = vma_next(vmi);\n		vma->vm_ops->open(vma);\n',
        ),
        _bad(FAULT, 'return vma->vm_ops->fault', 'return find_vma(vmf->mm, 0)->vm_ops->fault'),
        _bad(FLAG, 'vma_is_shmem(vma) ?', 'vma_is_anonymous(vma) ?'),
        _bad(FLAG, 'if (can)', 'if (!can && vma->vm_ops->find_normal_page)'),
        # The first patch adds a helper, the second what calls it without a look.
        Case(
            {FILE: OPEN},
            (
                Edit({FILE: OPEN + LOCAL}),
                Edit({FILE: OPEN + LOCAL + RETURNS.replace('!vma->vm_ops', '!vma->vm_file')}),
            ),
            expect=(2,),
        ),
    ),
    good=(
        _good(OPEN),
        _good(RETURNS),
        _good(SHORT, HEADER),
        _good(LOCAL),
        _good(STATIC),
        _good(FAULT),
        _good(LOOP),
        _good(FLAG),
        _good(RETURNS.replace('!vma->vm_ops', 'vma_is_anonymous(vma)')),
        _good(RETURNS.replace('!vma->vm_ops', 'vma->vm_ops != &example_vm_ops')),
        _good(RETURNS.replace('!vma->vm_ops', 'WARN_ON_ONCE(!vma || !vma->vm_ops)')),
        # A driver knows its own vm_ops.
        _good(WRONG, 'drivers/uio/example.c'),
        _good(WRONG, 'tools/testing/vma/example.c'),
        # Nothing in the file calls it by name: a hook.
        _good(WRONG.replace('void', 'static void')),
        # Wrong before: renamed, moved to another function and indented.
        Case({FILE: WRONG}, (Edit({FILE: WRONG.replace('open_it', 'opened')}),)),
        Case(
            {FILE: WRONG},
            (Edit({FILE: LOCAL + WRONG.replace('void open_it', 'int split').replace('\t', '  ')}),),
        ),
        # A later patch of the series adds the test.
        Case({FILE: '\n'}, (Edit({FILE: WRONG}), Edit({FILE: OPEN}))),
        _good(WRONG.replace('if (', 'if (((')),
    ),
)
