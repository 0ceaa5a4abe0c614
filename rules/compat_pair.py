"""
The pair compat_set_desc_from_vma() and __compat_vma_mmap() is used wrongly.

A driver whose own, nested hook takes a struct vm_area_desc, while it is itself
called through an .mmap slot, bridges the two with the pair (mm/util.c;
drivers/hv/vmbus_drv.c and drivers/uio/uio.c use it):

- compat_set_desc_from_vma(&desc, file, vma) fills a descriptor on the stack,
  before anything else uses it;
- the nested hook is called once with &desc, and its error is tested;
- on success, and only then, __compat_vma_mmap(&desc, vma) is called once, with
  the same desc and vma, its result is returned, and the vma is left alone.

Where the nested hook is the file's own f_op->mmap_prepare, compat_vma_mmap()
does all three. One finding a function, the first in the order of the protocol.
Silent about a function that a parse error or an unknown goto makes unreadable,
about what was wrong before the patch, and about the helpers themselves.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from bot.csyntax import (
    Call,
    Flow,
    Function,
    Point,
    calls,
    changed_line,
    flow_of,
    parse,
    text_of,
    variants,
)
from bot.csyntax.syntax import walk
from bot.model import Evidence, Hit, Severity, Subject
from bot.rule import Case, Edit, Rule, named

SET, COMPLETE, WHOLE = 'compat_set_desc_from_vma', '__compat_vma_mmap', 'compat_vma_mmap'
HELPERS = {SET, COMPLETE, WHOLE}
DESC = 'struct vm_area_desc'
# Cheap: whether there is anything to look at.
CALLED = re.compile(rf'\b(?:{SET}|{COMPLETE}|mmap_action_complete)\b'.encode())
# Calls that take a descriptor and are no hook.
ACCESSOR = re.compile(r'vma_desc_\w+|mmap_action_\w+|mem(?:set|cpy)|pr_\w+|dev_\w+|[A-Z][A-Z0-9_]*')
FILE_HOOK = re.compile(r'vfs_mmap_prepare|.*\bf_op->mmap_prepare')
CHANGES_VMA = re.compile(
    r'vm_flags_\w+|vma_set_\w+|remap_pfn_range|io_remap_pfn_range|vm_iomap_memory'
)


@dataclass(frozen=True)
class Fault:
    """What is wrong, and on which line; `kind` tells faults of one function apart."""

    kind: str
    rank: int
    line: int
    message: str
    advice: str | None
    flow: tuple[int, ...] = ()


@dataclass(frozen=True)
class State:
    """
    How far a path has got.

    `result` is the variable that holds the hook's error (phase `called`) or
    __compat_vma_mmap()'s result (phase `done`), None where nothing holds it.
    `finished`: completed, and the result was tested. `unknown`: something was
    done that this rule does not follow, so it says nothing more.
    """

    phase: Literal['unset', 'set', 'called', 'good', 'failed', 'done', 'finished', 'unknown'] = (
        'unset'
    )
    vma: str = ''
    result: str | None = None


def check(subject: Subject) -> Iterator[Hit]:
    for step in subject.steps:
        for diff in step.files:
            path = diff.new_path
            if path is None or not path.endswith(('.c', '.h')) or path.startswith('tools/'):
                continue
            post = step.post.read(path) or b''
            if DESC.encode() not in post:
                continue
            known = {
                (name, fault.kind)
                for name, fault in _faults(step.pre.read(diff.old_path or path) or b'', path)
            }
            source = parse(post)
            for name, fault in _faults(post, path):
                if (name, fault.kind) in known:
                    continue
                function = source.functions[name]
                where = changed_line(step, path, fault.line, fault.line) or changed_line(
                    step, path, function.start, function.end
                )
                if where is None:
                    continue
                shown = (fault.line,) if where != (fault.line, 'new') else ()
                yield Hit(
                    step.n,
                    path,
                    where[0],
                    f'{name}() {fault.message}',
                    fault.advice,
                    side=where[1],
                    symbol=name,
                    evidence=tuple(Evidence(path, at, source.line(at).strip()) for at in shown),
                    flow=tuple(
                        Evidence(path, at, source.line(at).strip()) for at in fault.flow if at
                    ),
                )


@lru_cache(maxsize=64)
def _faults(text: bytes, path: str) -> tuple[tuple[str, Fault], ...]:
    """Return (function, its first fault) for the functions of a file."""
    return tuple(_found(text, path))


def _found(text: bytes, path: str) -> Iterator[tuple[str, Fault]]:
    if DESC.encode() not in text or not CALLED.search(text):
        return
    for function in parse(text).functions.values():
        if function.name in HELPERS or not CALLED.search(function.body.text or b''):
            continue
        found = sorted(
            (
                fault
                for one in _as_compiled(function, text)
                for fault in _of_function(one, text, path)
            ),
            key=lambda one: (one.rank, one.line),
        )
        if found:
            yield function.name, found[0]


def _as_compiled(function: Function, text: bytes) -> Iterator[Function]:
    """Yield a function; one that `#if` cuts into pieces as either branch leaves it."""
    if function.clean:
        yield function
        return
    for variant in variants(text):
        found = parse(variant).functions.get(function.name)
        if found is not None and found.clean:
            yield found


def _of_function(function: Function, text: bytes, path: str) -> Iterator[Fault]:
    called = {call.name: call for call in calls(function.body) if call.plain}
    descs = [
        variable
        for variable in function.variables
        if variable.type == DESC and not variable.parameter and not variable.pointer
    ]
    if SET in called or COMPLETE in called:
        slot = re.search(rb'\.mmap_prepare\s*=\s*' + function.name.encode() + rb'\b', text)
        if slot:
            line = called.get(COMPLETE, called.get(SET, next(iter(called.values())))).line
            yield Fault(
                'slot', 0, line, 'is an .mmap_prepare hook and has no VMA to complete',
                'The pair is for functions in an .mmap slot.',
            )  # fmt: skip
            return
    elif not path.startswith('mm/') and 'mmap_action_complete' in called and descs:
        yield Fault(
            'by-hand', 0, called['mmap_action_complete'].line,
            f'fills a {DESC} and completes its action by hand',
            f'Could it use {SET}() and {COMPLETE}()?',
        )  # fmt: skip
        return
    if SET not in called and COMPLETE not in called:
        return
    for desc in descs:
        if desc.static:
            yield Fault('static', 0, desc.line, f'shares a static {DESC} among all callers', None)
    flow = flow_of(function)
    if flow is None:
        return
    names = tuple(desc.name for desc in descs)
    for name in names:
        yield from _Protocol(flow, name, names).faults()


class _Protocol:
    """The protocol over one descriptor's life in a function."""

    def __init__(self, flow: Flow, desc: str, names: tuple[str, ...]) -> None:
        self.flow = flow
        self.desc = desc
        self.others = tuple(f'&{name}' for name in names if name != desc)
        self.own = re.compile(rf'(?<![\w.>])&?\s*{re.escape(desc)}(?!\w)')
        self.found: dict[tuple[str, int], Fault] = {}
        self.relevant = any(
            call.name in HELPERS and self._takes(call)
            for point in flow.points
            if point.node is not None
            for call in calls(point.node)
        )

    def faults(self) -> Iterator[Fault]:
        if not self.relevant:
            return
        for point, state, visit in self.flow.walk(State(), self._step):
            path = tuple(before.line for before in visit.path())
            for fault in self._at(point, state):
                self.found.setdefault((fault.kind, fault.line), replace(fault, flow=path))
        yield from self.found.values()

    # --- what is wrong at a point that is reached in a state ---

    def _at(self, point: Point, state: State) -> Iterator[Fault]:
        if point.node is None or state.phase == 'unknown' or self._opaque(point):
            return
        for call in self._calls(point):
            if call.name in HELPERS - {SET} and self._takes(call):
                yield from self._completing(call, state)
            elif call.name == COMPLETE and state.phase in ('called', 'good'):
                yield from self._elsewhere(call)
            elif self._is_hook(call):
                yield from self._hooking(call, state)
        if state.phase == 'unset' and self._uses(point):
            yield Fault(
                'unset', 1, point.line, f'uses {self.desc} before {SET}() has filled it', None
            )
        if state.phase in ('set', 'called', 'good', 'done') and self._changes(point, state.vma):
            when = 'after' if state.phase == 'done' else 'before'
            yield Fault(
                'vma', 6, point.line, f'changes {named(state.vma)} {when} {COMPLETE}()',
                'The hook and its actions own the VMA from here on.',
            )  # fmt: skip
        if point.kind == 'return':
            yield from self._returning(point, state)

    def _completing(self, call: Call, state: State) -> Iterator[Fault]:
        if state.phase == 'unset':
            return  # said as a use of an unset descriptor
        if state.phase == 'set':
            yield Fault(
                'no-hook', 2, call.line, f'calls {COMPLETE}() without a hook before it', None
            )
        elif state.phase == 'called':
            yield Fault(
                'untested', 3, call.line,
                f'calls {COMPLETE}() without a test of the error that the hook returned',
                'Please return the error before completing.',
            )  # fmt: skip
        elif state.phase == 'failed':
            yield Fault(
                'failed', 3, call.line, f'calls {COMPLETE}() although the hook failed',
                'Please return the error before completing.',
            )  # fmt: skip
        elif state.phase in ('done', 'finished'):
            yield Fault('twice', 5, call.line, f'calls {COMPLETE}() twice', None)
        given = call.arguments[1] if len(call.arguments) > 1 else ''
        if state.vma and given and given != state.vma:
            yield Fault(
                'other-vma', 4, call.line,
                f'fills {self.desc} from {named(state.vma)}, and completes {named(given)}',
                f'{COMPLETE}() wants the VMA that the descriptor came from.',
            )  # fmt: skip

    def _elsewhere(self, call: Call) -> Iterator[Fault]:
        """Another descriptor of the function has a protocol of its own."""
        given = call.arguments[0].replace(' ', '') if call.arguments else ''
        if given and given not in self.others:
            yield Fault(
                'other-desc', 4, call.line,
                f'gives the hook {self.desc}, and completes {named(given.lstrip("&"))}',
                f'{COMPLETE}() wants the descriptor that the hook got.',
            )  # fmt: skip

    def _hooking(self, call: Call, state: State) -> Iterator[Fault]:
        if FILE_HOOK.fullmatch(call.callee):
            yield Fault(
                'whole', 0, call.line, "calls the file's own mmap_prepare hook through the pair",
                f'{WHOLE}(file, vma) does all of it.',
            )  # fmt: skip
        elif state.phase in ('good', 'called'):
            yield Fault('two-hooks', 2, call.line, f'calls a second hook on {self.desc}', None)

    def _returning(self, point: Point, state: State) -> Iterator[Fault]:
        assert point.node is not None
        value = text_of(point.node)
        mentions = state.result is not None and re.search(rf'\b{re.escape(state.result)}\b', value)
        if COMPLETE in value or WHOLE in value:
            return
        if (
            state.phase == 'good'
            or (state.phase == 'called' and mentions)
            or (
                state.phase in ('set', 'called')
                and any(self._is_hook(c) for c in self._calls(point))
            )
        ):
            yield Fault(
                'incomplete', 5, point.line, f'returns without {COMPLETE}() after the hook',
                'Without it the actions that the hook asked for never happen.',
            )  # fmt: skip
        elif state.phase == 'done' and not mentions:
            yield Fault(
                'dropped', 5, point.line, f'drops the result of {COMPLETE}()',
                'Please return it: the mapping has failed where it is not 0.',
            )  # fmt: skip

    # --- how a point changes the state ---

    def _step(self, point: Point, state: State, outcome: bool | None) -> State | None:
        if point.node is None or state.phase == 'unknown':
            return state
        if self._opaque(point):
            return State('unknown')
        for call in self._calls(point):
            if call.name == SET and self._takes(call):
                state = State('set', call.arguments[2] if len(call.arguments) > 2 else '')
            elif call.name in HELPERS and self._takes(call):
                state = State('done', state.vma, self._stored(call))
                if point.kind == 'test':
                    return replace(state, phase='finished')
            elif self._is_hook(call) and state.phase == 'set':
                if _is_switched(point):
                    return State('unknown')
                state = State('called', state.vma, self._stored(call))
                if point.kind == 'test':
                    return self._tested(state, text_of(call.node), point, outcome)
            else:
                continue
            return state
        if state.result is None or state.phase not in ('called', 'done'):
            return state
        mentions = re.compile(rf'\b{re.escape(state.result)}\b')
        if _is_switched(point) and mentions.search(text_of(point.node)):
            return State('unknown')
        if point.kind == 'test':
            if mentions.search(text_of(point.node)):
                return self._tested(state, state.result, point, outcome)
            return state
        for node in walk(point.node, 'assignment_expression'):
            if mentions.search(text_of(node.child_by_field_name('right'))):
                return State('unknown')
            if text_of(node.child_by_field_name('left')) == state.result:
                return replace(state, result=None)
        return state

    def _tested(self, state: State, result: str, point: Point, outcome: bool | None) -> State:
        failed = _failed(text_of(point.node), result, outcome)
        if failed is None:
            return State('unknown')
        if state.phase == 'done':
            return replace(state, phase='finished')
        return replace(state, phase='failed' if failed else 'good', result=None)

    # --- what a point does ---

    def _opaque(self, point: Point) -> bool:
        """Whether a call of the protocol runs only under a condition inside an expression."""
        if point.node is None or point.kind == 'test':
            return False
        for node in walk(point.node, 'conditional_expression', 'binary_expression'):
            operator = text_of(node.child_by_field_name('operator'))
            if node.type == 'conditional_expression' or operator in ('&&', '||'):
                return any(self._takes(call) for call in calls(node))
        return False

    def _calls(self, point: Point) -> list[Call]:
        """Return the point's calls, inner ones first, as they run."""
        return list(calls(point.node))[::-1] if point.node is not None else []

    def _takes(self, call: Call) -> bool:
        return any(re.fullmatch(rf'&\s*{re.escape(self.desc)}', one) for one in call.arguments)

    def _is_hook(self, call: Call) -> bool:
        if not self._takes(call) or call.name in HELPERS:
            return False
        return not (call.plain and ACCESSOR.fullmatch(call.name))

    def _stored(self, call: Call) -> str | None:
        """Return the variable that a call's result goes to."""
        parent = call.node.parent
        while parent is not None and parent.type == 'parenthesized_expression':
            parent = parent.parent
        if parent is None:
            return None
        if parent.type == 'assignment_expression':
            return text_of(parent.child_by_field_name('left'))
        if parent.type == 'init_declarator':
            return text_of(parent.child_by_field_name('declarator'))
        return None

    def _uses(self, point: Point) -> bool:
        """Whether a point reads or fills the descriptor otherwise than by the first helper."""
        if point.node is None or point.node.type == 'declaration':
            return False
        text = text_of(point.node)
        if any(call.name == SET and self._takes(call) for call in self._calls(point)):
            return False
        return self.own.search(text) is not None

    def _changes(self, point: Point, vma: str) -> bool:
        if point.node is None or not vma:
            return False
        for node in walk(point.node, 'assignment_expression'):
            left = node.child_by_field_name('left')
            if text_of(left).startswith(f'{vma}->'):
                return True
        return any(
            call.plain and CHANGES_VMA.fullmatch(call.name) and vma in call.arguments[:1]
            for call in self._calls(point)
        )


def _is_switched(point: Point) -> bool:
    """Whether a point is what a `switch` decides by: each case may be a test."""
    parent = point.node.parent if point.node is not None else None
    return parent is not None and parent.type == 'switch_statement'


def _failed(condition: str, result: str, outcome: bool | None) -> bool | None:
    """Whether `result` (0, or an error code) is an error where `condition` has `outcome`."""
    value = rf'\(?(?:\w+ = )?{re.escape(result)}\)?'
    if outcome is None:
        return None
    if re.fullmatch(rf'{value}( != 0| < 0)?', condition):
        return outcome
    if re.fullmatch(rf'{value} (== 0|>= 0)', condition):
        return not outcome
    return None


FILE = 'drivers/uio/example.c'
GOOD = """static int example_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct example *ex = file->private_data;
	struct vm_area_desc desc;
	int err;

	compat_set_desc_from_vma(&desc, file, vma);
	err = ex->mmap_prepare(ex, &desc);
	if (err)
		return err;

	return __compat_vma_mmap(&desc, vma);
}
"""
GOTO = """static int example_mmap(struct file *file, struct vm_area_struct *vma)
{
	int ret = -EINVAL;

	mutex_lock(&lock);
	if (!info)
		goto out;
	if (info->mmap_prepare) {
		struct vm_area_desc desc;

		compat_set_desc_from_vma(&desc, file, vma);
		ret = info->mmap_prepare(info, &desc);
		if (ret < 0)
			goto out;
		ret = __compat_vma_mmap(&desc, vma);
		goto out;
	}
	ret = old_way(vma);
out:
	mutex_unlock(&lock);
	return ret;
}
"""
GUARDED = """static int example_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vm_area_desc desc;
	int err;

	scoped_guard(mutex, &lock) {
		compat_set_desc_from_vma(&desc, file, vma);
		if ((err = hooks->prepare(&desc)))
			return err;
		err = __compat_vma_mmap(&desc, vma);
		if (err) {
			pr_warn("no mapping");
			return err;
		}
	}
	return 0;
}
"""
TWO = GOOD.replace('desc desc;', 'desc desc, two;')
TERNARY = GOOD.replace(
    """	if (err)
		return err;

	return __compat_vma_mmap(&desc, vma);""",
    """	return err ? err : __compat_vma_mmap(&desc, vma);""",
)
BEFORE = {FILE: '#include <linux/mm.h>\n'}
RETURNED = '	if (err)\n		return err;\n\n'


SWITCHED = GOOD.replace(
    """	err = ex->mmap_prepare(ex, &desc);
	if (err)
		return err;

	return __compat_vma_mmap(&desc, vma);""",
    """	switch (err = ex->mmap_prepare(ex, &desc)) {
	case 0:
		return __compat_vma_mmap(&desc, vma);
	default:
		return err;
	}""",
)
IFDEF = GOOD.replace(
    """	err = ex->mmap_prepare(ex, &desc);
""",
    """#ifdef CONFIG_EXAMPLE
	if (ex->plain)
		err = ex->plain(ex, &desc);
	else
#endif
		err = ex->mmap_prepare(ex, &desc);
""",
)


def _bad(old: str, new: str, text: str = GOOD) -> Case:
    changed = text.replace(old, new)
    assert changed != text, old
    return Case(BEFORE, (Edit({FILE: changed}),), expect=(1,))


RULE = Rule(
    id='compat-pair',
    severity=Severity.ERROR,
    check=check,
    bad=(
        _bad(RETURNED, ''),
        _bad('__compat_vma_mmap(&desc, vma)', '__compat_vma_mmap(&desc, other)'),
        _bad('__compat_vma_mmap(&desc, vma)', '__compat_vma_mmap(&two, vma)', TWO),
        _bad('prepare(ex, &desc)', 'prepare(ex, &two)', TWO),
        _bad('__compat_vma_mmap(&desc, vma)', '__compat_vma_mmap(ex->desc, vma)'),
        _bad(
            'return __compat_vma_mmap(&desc, vma);', '__compat_vma_mmap(&desc, vma);\n	return 0;'
        ),
        _bad('ex->mmap_prepare(ex, &desc)', 'vfs_mmap_prepare(file, &desc)'),
        _bad('	compat_set_desc_from_vma(&desc, file, vma);\n', ''),
        _bad('return __compat_vma_mmap(&desc, vma);', 'return 0;'),
        _bad('		if (ret < 0)\n			goto out;\n', '', GOTO),
        _bad(
            '		ret = __compat_vma_mmap(&desc, vma);\n',
            '		__compat_vma_mmap(&desc, vma);\n',
            GOTO,
        ),
        _bad(RETURNED, '', IFDEF),
        _bad(RETURNED, f'#ifdef CONFIG_EXAMPLE\n{RETURNED}#endif\n'),
        _bad('	return __compat', '	vma->vm_private_data = ex;\n	return __compat'),
        Case(
            BEFORE,
            (
                Edit(
                    {
                        FILE: GOOD
                        + 'const struct file_operations f = { .mmap_prepare = example_mmap };\n'
                    }
                ),
            ),
            expect=(1,),
        ),
    ),
    good=(
        Case(BEFORE, (Edit({FILE: GOOD}),)),
        Case(BEFORE, (Edit({FILE: GOTO}),)),
        Case(BEFORE, (Edit({FILE: GUARDED}),)),
        Case(BEFORE, (Edit({FILE: TERNARY}),)),
        Case(BEFORE, (Edit({FILE: SWITCHED}),)),
        Case(BEFORE, (Edit({FILE: IFDEF}),)),
        Case(BEFORE, (Edit({FILE: GOOD.replace('if (err)', 'if (unlikely(err != 0))')}),)),
        # Wrong before, and not made worse.
        Case(
            {FILE: GOOD.replace(RETURNED, '')},
            (Edit({FILE: 'int x;\n' + GOOD.replace(RETURNED, '')}),),
        ),
        # What can't be read is not judged.
        Case(BEFORE, (Edit({FILE: GOOD.replace(RETURNED, '	if (err) {{{ return;\n')}),)),
        # The helper that does all of it is made of the pair.
        Case(
            {'mm/util.c': '\n'},
            (
                Edit(
                    {
                        'mm/util.c': GOOD.replace('example_mmap', 'compat_vma_mmap').replace(
                            'ex->mmap_prepare(ex, &desc)', 'vfs_mmap_prepare(file, &desc)'
                        )
                    }
                ),
            ),
        ),
    ),
)
