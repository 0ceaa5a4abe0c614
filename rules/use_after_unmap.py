"""
A VMA is used after a call that unmapped and freed it.

Some calls end a VMA, and what still follows the pointer afterwards reads freed
memory:

- remove_vma(v), and unmap_vma_locked(v) where the tree has it, in any case;
- do_vmi_align_munmap(..., v, ...) and do_munmap() from v->vm_start, directly or
  through a local, where they succeed;
- mmap_action_complete(v, action, false) where it fails: without is_compat it
  unmaps what it could not complete (mm/util.c).

A use is v->member, *v, or v handed to a call. Followed along the paths of the
function: a test of the call's result, a repeated condition and a return prune;
an assignment to v, &v handed to a call, or v as the variable of a for_each loop
ends it. An unmapping that starts elsewhere says nothing of v (mm/mremap.c does
that), nor does one whose start was read before v was split or merged. Silent
where a function can't be read, and about uses that the parent tree has.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from tree_sitter import Node

from bot.csyntax import Call, Flow, Function, Point, Source, calls, changed_line, parse
from bot.csyntax.syntax import line_of, node_text
from bot.model import Evidence, Hit, Severity, Step, Subject
from bot.rule import Case, Edit, Rule, named
from rules import _paths as paths

ENDS = re.compile(
    rb'\b(?:remove_vma|unmap_vma_locked|do_vmi_align_munmap|do_munmap|mmap_action_complete)\s*\('
)
# Which argument is the VMA, or the start of the range.
REMOVES = ('remove_vma', 'unmap_vma_locked')
UNMAPS, RANGE, COMPLETES = 'do_vmi_align_munmap', 'do_munmap', 'mmap_action_complete'
# They look at the pointer only.
LOOKS = re.compile(r'IS_ERR\w*|PTR_ERR\w*|ERR_CAST|pr_\w+|printk\w*|(?:VM_)?(?:BUG|WARN)_ON\w*')
# They move a VMA's start, or end it under the same name.
MOVES = re.compile(r'split|merge|expand|shrink|adjust|modify|relocate')
HOW = {None: 'has freed it', False: 'has unmapped it', True: 'has unmapped it on failure'}


@dataclass(frozen=True)
class Ended:
    """
    A VMA that a call ended.

    `failing`: only where the call failed (True) or succeeded (False); None: in
    any case. `result` is the variable that says which, None where none does.
    """

    vma: str
    by: str
    line: int
    failing: bool | None
    result: str | None = None


@dataclass(frozen=True)
class State:
    """What is known on a path: ended VMAs, locals that hold a VMA's start, conditions."""

    ended: frozenset[Ended] = frozenset()
    starts: frozenset[tuple[str, str]] = frozenset()
    facts: paths.Facts = frozenset()


@dataclass(frozen=True)
class Use:
    """A use of what a call ended, on `line`. `text` has `@` for the variable."""

    path: str
    function: Function
    ended: Ended
    line: int
    text: str
    flow: tuple[int, ...]

    @property
    def exact(self) -> tuple[str, str, str]:
        """What it is known by in its function."""
        return self.function.name, self.ended.by, self.text

    @property
    def loose(self) -> tuple[str, str]:
        """What it is known by anywhere."""
        return self.ended.by, self.text


def check(subject: Subject) -> Iterator[Hit]:
    for step in subject.steps:
        before: list[Use] = []
        after: list[Use] = []
        for diff in step.files:
            if diff.old_path and diff.old_path.endswith(('.c', '.h')):
                before += _uses(step.pre.read(diff.old_path) or b'', diff.old_path)
            if diff.new_path and diff.new_path.endswith(('.c', '.h')):
                after += _uses(step.post.read(diff.new_path) or b'', diff.new_path)
        said = set()
        for use in paths.fresh(before, after, lambda one: one.exact, lambda one: one.loose):
            about = (use.path, use.function.start, use.ended.vma)
            if about not in said and (hit := _hit(subject, step, use)) is not None:
                said.add(about)
                yield hit


def _hit(subject: Subject, step: Step, use: Use) -> Hit | None:
    source = parse(step.post.read(use.path) or b'')
    where = (
        changed_line(step, use.path, use.line, use.line)
        or changed_line(step, use.path, use.ended.line, use.line)
        or changed_line(step, use.path, use.function.start, use.function.end)
    )
    if where is None:
        return None
    last = _uses(subject.steps[-1].post.read(use.path) or b'', use.path)
    mended = use.exact not in {one.exact for one in last}
    ended = use.ended
    shown = [line for line in sorted({ended.line, use.line}) if (line, 'new') != where]
    return Hit(
        step.n,
        use.path,
        where[0],
        f'{use.function.name}() uses {named(ended.vma)} after {ended.by}() {HOW[ended.failing]}',
        'A later patch of the series mends this; could that be part of this one?'
        if mended
        else 'Could what it needs be read before the call?',
        side=where[1],
        symbol=use.function.name,
        evidence=tuple(Evidence(use.path, line, source.line(line).strip()) for line in shown),
        flow=tuple(Evidence(use.path, line, source.line(line).strip()) for line in use.flow),
    )


@lru_cache(maxsize=64)
def _uses(text: bytes, path: str) -> tuple[Use, ...]:
    """Return the uses of ended VMAs in a file, in order."""
    if not ENDS.search(text):
        return ()
    source = parse(text)
    ending = [one for one in source.all_functions if ENDS.search(one.body.text or b'')]
    found: list[Use] = []
    for function in ending[: paths.MOST_FUNCTIONS]:
        flow = paths.followed(function)
        if flow is not None:
            found += _Ends(source, function, flow).uses(path)
    return tuple(found)


class _Ends:
    """The VMAs that a function's calls end, along its paths."""

    def __init__(self, source: Source, function: Function, flow: Flow) -> None:
        self.source = source
        self.function = function
        self.flow = flow
        self.asked = paths.repeated(flow)
        names = {one.name for one in function.variables}
        typed = (function.variable(name) for name in names)
        self.vmas = {
            one.name
            for one in typed
            if one is not None and one.pointer and one.type == 'struct vm_area_struct'
        }

    def uses(self, path: str) -> list[Use]:
        found: dict[tuple[int, str, Ended], Use] = {}
        for count, (point, state, visit) in enumerate(self.flow.walk(State(), self._step)):
            if count > paths.MOST_VISITS:
                return []
            if point.node is None:
                continue
            for ended in state.ended:
                for node in self._after(point.node, ended):
                    text = re.sub(rf'\b{re.escape(ended.vma)}\b', '@', node_text(node))
                    lines = [one.line for one in visit.path()]
                    flow = tuple(lines[lines.index(ended.line) :] if ended.line in lines else ())
                    line = line_of(node)
                    use = Use(path, self.function, ended, line, text, flow)
                    found.setdefault((line, text, replace(ended, result=None)), use)
        return [found[key] for key in sorted(found, key=lambda key: (key[0], key[1]))]

    def _after(self, node: Node, ended: Ended) -> Iterator[Node]:
        """Yield the uses in a point that come after the end."""
        for use in paths.uses(node, ended.vma):
            if use.type == 'call_expression' and LOOKS.fullmatch(
                node_text(use.child_by_field_name('function'))
            ):
                continue
            known = paths.guards(use, node)
            if self._context_fits(ended.line, line_of(use)) and all(
                self._still(ended, condition, outcome) for condition, outcome in known
            ):
                yield use

    def _still(self, ended: Ended, condition: Node, outcome: bool | None) -> bool:
        """Whether a VMA is still ended where a condition came out so."""
        if ended.failing is None or ended.result is None or outcome is None:
            return True
        mentions = rf'\b{re.escape(ended.result)}\b'
        for part, out in paths.implied(condition, outcome):
            text = node_text(part)
            if re.search(mentions, text) and (
                paths.failed(text, ended.result, out) != ended.failing
            ):
                return False
        # What says nothing by itself (`err || other` that did not hold) says it of neither.
        return True

    def _context_fits(self, one: int, other: int) -> bool:
        """Whether two lines can stand in the same build: not in `#if` and its `#else`."""
        first, second = sorted((self.source.context(one), self.source.context(other)), key=len)
        return second[: len(first)] == first

    # --- how a point changes the state ---

    def _step(self, point: Point, state: State, outcome: bool | None) -> State | None:
        if point.node is None:
            return state
        facts = paths.learnt(state.facts, point, outcome, self.asked)
        if facts is None:
            return None
        ended, starts = state.ended, state.starts
        if point.kind == 'test':
            ended = frozenset(one for one in ended if self._still(one, point.node, outcome))
        given = {*paths.assigned(point.node), *paths.iterated(point, self.source)}
        if given:
            ended = frozenset(
                replace(one, result=None) if one.result in given else one
                for one in ended
                if one.vma not in given and not self._copied(one, point.node)
            )
            starts = frozenset(
                (local, vma)
                for local, vma in starts
                if not {local, vma, f'{vma}->vm_start'} & given
            )
        made = frozenset(self._made(point, starts, outcome))
        for call in calls(point.node):
            if MOVES.search(call.name):
                starts = frozenset(pair for pair in starts if pair[1] not in call.arguments)
        return State(ended | made, starts | frozenset(self._starts(point.node)), facts)

    def _copied(self, ended: Ended, node: Node) -> bool:
        """Whether a result goes into another variable, which may be tested instead."""
        if ended.result is None or ended.failing is None:
            return False
        return any(
            re.search(rf'\b{re.escape(ended.result)}\b', node_text(value))
            for _, value in paths.values(node)
        )

    def _starts(self, node: Node) -> Iterator[tuple[str, str]]:
        """Yield (local, vma) for `local = vma->vm_start`."""
        for name, value in paths.values(node):
            vma = self._start_of(value, frozenset())
            if vma is not None:
                yield name, vma

    def _start_of(self, node: Node, starts: frozenset[tuple[str, str]]) -> str | None:
        """Return the VMA whose start an expression is."""
        text = node_text(paths.unwrapped(node))
        if text.endswith('->vm_start') and text.removesuffix('->vm_start') in self.vmas:
            return text.removesuffix('->vm_start')
        return next((vma for local, vma in starts if local == text), None)

    def _made(
        self, point: Point, starts: frozenset[tuple[str, str]], outcome: bool | None
    ) -> Iterator[Ended]:
        """Yield what a point's calls end, on the edge of `outcome`."""
        assert point.node is not None
        for call in calls(point.node):
            found = self._ended(call, starts)
            if found is None:
                continue
            vma, failing = found
            try:
                result, tested = paths.stored(call.node, point.node)
            except LookupError:
                continue
            ended = Ended(vma, call.name, call.line, failing, result)
            if failing is not None and point.kind == 'test' and tested is not None:
                parts = paths.implied(tested, outcome is True)
                said = [paths.failed(node_text(n), node_text(call.node), o) for n, o in parts]
                if said != [failing]:
                    continue
            if vma not in {*paths.assigned(point.node)}:
                yield ended

    def _ended(
        self, call: Call, starts: frozenset[tuple[str, str]]
    ) -> tuple[str, bool | None] | None:
        """Return the VMA that a call ends, and whether it does so failing or succeeding."""
        given = call.arguments
        listed = call.node.child_by_field_name('arguments')
        if not call.plain or listed is None:
            return None
        vma: str | None = None
        failing: bool | None = None
        if call.name in REMOVES and len(given) == 1:
            vma = given[0]
        elif call.name == UNMAPS and len(given) > 2:
            vma, failing = given[1], False
        elif call.name == RANGE and len(given) > 2:
            nodes = [child for child in listed.named_children if child.type != 'comment']
            vma, failing = self._start_of(nodes[1], starts), False
        elif call.name == COMPLETES and len(given) == 3 and given[2] in ('false', '0'):
            vma, failing = given[0], True
        return (vma, failing) if vma is not None and vma in self.vmas else None


FILE = 'mm/example.c'
EMPTY = {FILE: '#include <linux/mm.h>\n'}
CLOSE = """static void drop(struct vma_iterator *vmi, struct vm_area_struct *vma)
{
	struct file *file = vma->vm_file;

	remove_vma(vma);
	fput(file);
}
"""
FINISH = """static int finish(struct vm_area_struct *vma, struct mmap_action *action, int err)
{
	const unsigned long start = vma->vm_start;
	unsigned long len;

	if (!err)
		err = call_hook(vma);
	unlock_action(vma, action);
	if (!err)
		return 0;
	len = vma_pages(vma) << PAGE_SHIFT;
	do_munmap(current->mm, start, len, NULL);
	return action->error_override ?: err;
}
"""
UNLOCK = '	unlock_action(vma, action);\n'
REGION = """static unsigned long region(struct vm_area_struct *vma, struct mmap_action *action)
{
	int error = mmap_action_complete(vma, action, /* is_compat = */ false);

	if (unlikely(error != 0))
		return error;
	vma_set_page_prot(vma);
	return vma->vm_start;
}
"""
DETACH = """static int detach(struct vma_iterator *vmi, struct mm_struct *mm, unsigned long end)
{
	struct vm_area_struct *vma;
	int err = 0;

	for_each_vma(*vmi, vma) {
		if (vma->vm_end > end)
			break;
		err = do_vmi_align_munmap(vmi, vma, mm, vma->vm_start, vma->vm_end, NULL, false);
		if (err)
			goto failed;
	}
	return 0;
failed:
	pr_warn("still there: %lx\\n", vma->vm_start);
	return err;
}
"""
TEARDOWN = """static void teardown(struct vma_iterator *vmi, struct vm_area_struct *vma, bool all)
{
	do {
		if (all)
			remove_vma(vma);
		if (!all)
			vma_mark_detached(vma);
		vma = vma_next(vmi);
	} while (vma && vma->vm_end);
}
"""
ELSEWHERE = """static int move(struct vma_remap *vrm, struct vm_area_struct *vma)
{
	unsigned long start = vma->vm_start;
	int err = do_munmap(vrm->mm, vrm->new_addr, vrm->new_len, vrm->uf);

	if (err)
		return err;
	err = split_vma(vrm->vmi, vma, vrm->addr, 1);
	if (err)
		return err;
	err = do_munmap(vrm->mm, start, vrm->len, vrm->uf);
	vm_flags_set(vma, VM_ACCOUNT);
	return err;
}
"""
CONFIGURED = """static void unmap(struct mm_struct *mm, struct vm_area_struct *vma)
{
#ifdef CONFIG_MMU
	do_vmi_align_munmap(&mm->vmi, vma, mm, vma->vm_start, vma->vm_end, NULL, false);
#else
	do_munmap(mm, vma->vm_start, vma->vm_end - vma->vm_start, NULL);
#endif
}
"""
FLAGGED = """static void shrink(struct vm_area_struct *vma, unsigned long end)
{
	bool gone = false;

	if (vma->vm_end <= end) {
		remove_vma(vma);
		gone = true;
	}
	if (!gone)
		vma->vm_end = end;
}
"""


def _bad(text: str, old: str, new: str) -> Case:
    changed = text.replace(old, new)
    assert changed != text, old
    return Case({FILE: text}, (Edit({FILE: changed}),), expect=(1,))


def _good(text: str, old: str = '', new: str = '') -> Case:
    return Case(EMPTY, (Edit({FILE: text.replace(old, new) if old else text}),))


WRONG = CLOSE.replace('fput(file)', 'fput(vma->vm_file)')

RULE = Rule(
    id='use-after-unmap',
    severity=Severity.ERROR,
    check=check,
    bad=(
        _bad(CLOSE, 'fput(file)', 'fput(vma->vm_file)'),
        _bad(CLOSE, 'remove_vma(vma);', 'remove_vma(vma);\n	remove_vma(vma);'),
        Case(
            {FILE: FINISH},
            (
                Edit(
                    {
                        FILE: FINISH.replace(UNLOCK, '').replace(
                            '	return action', f'{UNLOCK}	return action'
                        )
                    }
                ),
            ),
            expect=(1,),
        ),
        _bad(REGION, '		return error;\n	vma', '		pr_debug("no action");\n	vma'),
        _bad(REGION, 'return error;', 'return vma_abort(vma, error);'),
        _bad(
            DETACH,
            '			goto failed;\n',
            '			goto failed;\n		count_vma(vma);\n',
        ),
        _bad(DETACH, '		if (err)\n', '		if (!err)\n'),
        _bad(TEARDOWN, '		vma = vma_next(vmi);\n', ''),
        _bad(FLAGGED, 'gone = true', 'count++'),
        _bad(TEARDOWN, 'if (!all)', 'if (vmi)'),
        # The second patch mends what the first breaks, which a bisection meets.
        Case(
            {FILE: CLOSE},
            (Edit({FILE: WRONG}), Edit({FILE: CLOSE})),
            expect=(1,),
        ),
        Case(
            EMPTY,
            (Edit({FILE: WRONG.replace('remove_vma', 'unmap_vma_locked')}),),
            expect=(1,),
        ),
    ),
    good=(
        _good(CLOSE),
        _good(FINISH),
        _good(REGION),
        _good(DETACH),
        _good(TEARDOWN),
        _good(ELSEWHERE),
        _good(CONFIGURED),
        _good(FLAGGED),
        # A compat completion leaves the VMA to its caller.
        _good(
            REGION, 'false);\n\n	if (unlikely(error != 0))\n		return error;', 'true);\n'
        ),
        _good(REGION, 'return vma->vm_start;', 'return error ? error : vma->vm_start;'),
        _good(CLOSE, 'fput(file);', 'pr_debug("%p %zu\\n", vma, sizeof(*vma));'),
        _good(
            CLOSE, 'fput(file);', 'vma = vma_lookup(vmi->mm, 0);\n	if (vma)\n		check(vma);'
        ),
        # Wrong before: only moved, renamed and indented otherwise.
        Case(
            {FILE: WRONG},
            (Edit({FILE: 'int x;\n' + WRONG.replace('drop(', 'let_go(').replace('\t', '  ')}),),
        ),
        Case({FILE: WRONG}, (Edit({FILE: WRONG.replace('vma)', 'v)').replace('vma-', 'v-')}),)),
        # What can't be read is not judged.
        _good(WRONG, 'fput(', 'if (x) {{{ fput('),
    ),
)
