"""
A new mmap_action_type is missing from a switch that has no default.

What an mmap_prepare hook asks for is an enumerator of enum mmap_action_type
(include/linux/mm_types.h), and mm/util.c switches over it, without a default,
in mmap_action_prepare() and mmap_action_complete(): once for CONFIG_MMU, once
without. A build sees one branch of that `#if` only, and so the compiler's
warning does not come where it is needed; here every branch is looked at, in
mm/, in the headers of mm, in what the series touches, and in the copies that the VMA
tests keep.

Also reported is a function that switches over the actions, returns a value,
and falls off its end on a path on which it did not before.

The series is judged as it ends, so a case that a later patch adds counts. Silent
where there is a default, for an enumerator that repeats the value of another or
only counts them, for switches over something else, and in functions that can't
be read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from tree_sitter import Node

from bot.csyntax import Function, Point, calls, changed_line, introduced, parse
from bot.csyntax.syntax import line_of, node_text, walk
from bot.model import Evidence, Hit, Severity, Snapshot, Step, Subject
from bot.rule import Case, Edit, Rule
from rules import _paths as paths

ENUM = 'mmap_action_type'
FOLDERS = ('mm', 'include/linux', 'tools/testing/vma')
LOOKED_AT = re.compile(
    r'mm/[^/]+\.[ch]|include/linux/(?:mm|fs|vm)\w*\.h|tools/testing/vma/.*\.[ch]'
)
TESTS = 'tools/'
CASE = re.compile(rb'\bcase\s+MMAP_')
NAME = re.compile(r'[A-Za-z_]\w*')
MOST = 200
"""Enumerators; Linux 7.3 has five."""
# They end or count the others.
SENTINEL = re.compile(r'_*(?:NR|NUM|MAX)_\w+|\w+_(?:MAX|NR|COUNT|LAST|END)_*')


# They do not return.
ENDS = re.compile(r'BUG|panic|unreachable|__builtin_unreachable|BUILD_BUG')


@dataclass(frozen=True)
class Action:
    """An enumerator, and the line that it stands on."""

    name: str
    path: str
    line: int

    @property
    def tests(self) -> bool:
        """Whether it is of the copy that the tests keep."""
        return self.path.startswith(TESTS)


@dataclass(frozen=True)
class Switch:
    """A switch without a default, in `function`. `cases` are the names that it has."""

    path: str
    line: int
    text: str
    function: str
    falls: bool
    cases: frozenset[str]


@dataclass(frozen=True)
class Falling:
    """A function with such a switch that ends without a return value."""

    path: str
    function: Function
    context: tuple[str, ...]

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """What it is known by."""
        return self.function.name, self.context


def check(subject: Subject) -> Iterator[Hit]:
    said: frozenset[str] = frozenset()
    for step in subject.steps:
        for hit, falling in _missing(subject, step):
            yield hit
            said |= falling
    for step in subject.steps:
        for hit in _falling(subject, step):
            if hit.symbol not in said:
                yield hit


# --- what is missing ---


def _missing(subject: Subject, step: Step) -> Iterator[tuple[Hit, frozenset[str]]]:
    """Yield what to say of each new action, and the functions that it says to fall off."""
    before, after = [], []
    for diff in step.files:
        if diff.old_path:
            before += _actions(step.pre, diff.old_path)
        if diff.new_path:
            after += _actions(step.post, diff.new_path)
    # The kernel's enum and the tests' copy of it each have their own switches.
    new = introduced(before, after, lambda one: (one.name, one.tests))
    if not new:
        return
    last = subject.steps[-1].post
    listed = [path for folder in FOLDERS for path in last.list(folder) if LOOKED_AT.fullmatch(path)]
    touched = [diff.new_path for one in subject.steps for diff in one.files if diff.new_path]
    files = sorted({*listed, *touched})
    switches = list(_switches(last, files, {one.name for one in (*before, *after)}))
    for action in new:
        known = {one.name for one in before if one.tests == action.tests}
        left = [
            one
            for one in switches
            if one.cases & known
            and action.name not in one.cases
            and one.path.startswith(TESTS) == action.tests
        ]
        where = changed_line(step, action.path, action.line, action.line)
        kept = action.name in {one.name for one in _actions(last, action.path)}
        if where is None or not left or not kept:
            continue
        names = _listed([f'{one.function}()' for one in left])
        falls = _listed([f'{one.function}()' for one in left if one.falls])
        hit = Hit(
            step.n,
            action.path,
            where[0],
            f'{action.name} has no case in the switch of {names}, which has no default'
            + (f'; {falls} then ends without a return value' if falls else ''),
            'Could it be handled there too? A build sees one branch of an #if only.',
            side=where[1],
            symbol=action.name,
            evidence=tuple(Evidence(one.path, one.line, one.text) for one in left),
        )
        yield hit, frozenset(one.function for one in left if one.falls)


def _listed(names: list[str]) -> str:
    return ', '.join(dict.fromkeys(names))


def _actions(tree: Snapshot, path: str) -> list[Action]:
    """Return the enumerators of the enum, where a file defines it."""
    text = tree.read(path) or b'' if path.endswith(('.c', '.h')) else b''
    if b'enum ' + ENUM.encode() not in text:
        return []
    found: list[Action] = []
    for node in walk(parse(text).root, 'enum_specifier'):
        if node_text(node.child_by_field_name('name')) != ENUM or node.has_error:
            continue
        for one in walk(node, 'enumerator'):
            name = node_text(one.child_by_field_name('name'))
            value = node_text(one.child_by_field_name('value'))
            if not NAME.fullmatch(value) and not SENTINEL.fullmatch(name):
                found.append(Action(name, path, line_of(one)))
    return found if len(found) <= MOST else []


def _switches(tree: Snapshot, files: list[str], names: set[str]) -> Iterator[Switch]:
    """Yield the switches without a default over one of the names."""
    word = re.compile(rb'\bcase\s+(?:' + '|'.join(sorted(names)).encode('latin-1') + rb')\b')
    for path in files:
        text = tree.read(path) or b'' if path.endswith(('.c', '.h')) else b''
        if b'switch' not in text or not word.search(text):
            continue
        source = parse(text)
        for function in source.all_functions:
            for node in walk(function.body, 'switch_statement') if function.clean else ():
                cases = _cases(node)
                if cases is not None and cases & names:
                    line = line_of(node)
                    shown = source.line(line).strip()
                    yield Switch(path, line, shown, function.name, _falls(function), cases)


def _cases(switch: Node) -> frozenset[str] | None:
    """Return the names that a switch has cases for; None: it takes others too, or no enum."""
    condition, body = (switch.child_by_field_name(name) for name in ('condition', 'body'))
    if body is None or condition is None or next(walk(condition, 'cast_expression'), None):
        return None
    found = set()
    stack = list(body.children)
    while stack:
        node = stack.pop()
        if node.type == 'switch_statement':
            continue
        if node.type == 'case_statement':
            value = node.child_by_field_name('value')
            if value is None:
                return None
            found.add(node_text(value).strip('()'))
        stack.extend(node.children)
    return frozenset(found)


# --- what falls off its end ---


def _falling(subject: Subject, step: Step) -> Iterator[Hit]:
    before, after = [], []
    for diff in step.files:
        if diff.old_path:
            before += _ending(step.pre, diff.old_path)
        if diff.new_path:
            after += _ending(step.post, diff.new_path)
    new = introduced(before, after, lambda one: one.key)
    end = subject.steps[-1].post
    last = {(path, one.key) for path in {one.path for one in new} for one in _ending(end, path)}
    for one in new:
        function = one.function
        where = changed_line(step, one.path, function.start, function.end)
        if where is None or (one.path, one.key) not in last:
            continue
        brace = parse(step.post.read(one.path) or b'').line(function.end).strip()
        yield Hit(
            step.n,
            one.path,
            where[0],
            f'{function.name}() can now reach its end without a return value',
            'An action that no case returns for gets there.',
            side=where[1],
            symbol=function.name,
            evidence=(Evidence(one.path, function.end, brace),),
        )


def _ending(tree: Snapshot, path: str) -> list[Falling]:
    """Return the functions of a file that switch over the actions and fall off their end."""
    text = tree.read(path) or b'' if path.endswith(('.c', '.h')) else b''
    if not CASE.search(text) or b'mmap_action' not in text:
        return []
    context = parse(text).context
    return [Falling(path, one, context(one.start)) for one in _falling_off(text)]


@lru_cache(maxsize=64)
def _falling_off(text: bytes) -> tuple[Function, ...]:
    functions = parse(text).all_functions
    switching = [one for one in functions if CASE.search(one.body.text or b'')]
    return tuple(one for one in switching[: paths.MOST_FUNCTIONS] if _falls(one))


def _falls(function: Function) -> bool:
    """Whether a function that returns something can reach its end."""
    declarator = function.node.child_by_field_name('declarator')
    plain = declarator is not None and declarator.type == 'function_declarator'
    flow = paths.followed(function)
    if flow is None or (plain and node_text(function.node.child_by_field_name('type')) == 'void'):
        return False
    for point, _, _ in flow.walk(True, lambda point, state, _: None if _stops(point) else state):
        ends = any(index == flow.exit.index for index, _ in flow.next[point.index])
        if ends and point.kind != 'return' and not _stops(point):
            return True
    return False


def _stops(point: Point) -> bool:
    return point.node is not None and any(
        call.plain and ENDS.fullmatch(call.name) for call in calls(point.node)
    )


TYPES, UTIL, COPY = 'include/linux/mm_types.h', 'mm/util.c', 'tools/testing/vma/include/dup.h'
ENUMS = """enum mmap_action_type {
	MMAP_NOTHING,		/* no further action */
	MMAP_REMAP_PFN,
	NR_MMAP_ACTIONS,
};
"""
MORE = ENUMS.replace('PFN,\n', 'PFN,\n	MMAP_ZAP,\n')
SWITCHES = """#ifdef CONFIG_MMU
int mmap_action_prepare(struct vm_area_desc *desc)
{
	switch (desc->action.type) {
	case MMAP_NOTHING:
		return 0;
	case MMAP_REMAP_PFN:
		return remap_prepare(desc);
	}
	WARN_ON_ONCE(1);
	return -EINVAL;
}
#else
int mmap_action_prepare(struct vm_area_desc *desc)
{
	switch (desc->action.type) {
	case MMAP_NOTHING:
		break;
	case MMAP_REMAP_PFN:
		WARN_ON_ONCE(1);
		break;
	}

	return 0;
}
#endif
"""
HALF = SWITCHES.replace('(desc);\n', '(desc);\n	case MMAP_ZAP:\n		return zap(desc);\n')
WHOLE = HALF.replace('PFN:\n		WARN', 'PFN:\n	case MMAP_ZAP:\n		WARN')
DEFAULT = SWITCHES.replace('\t}\n', '\tdefault:\n\t\tbreak;\n\t}\n')
OTHER = """int name_of(enum mmap_kind kind)
{
	switch (kind) {
	case KIND_FILE:
		return 1;
	}
	return 0;
}
"""
SHORT = """const char *action_name(struct mmap_action *mmap_action)
{
	switch (mmap_action->type) {
	case MMAP_NOTHING:
		return "nothing";
	case MMAP_REMAP_PFN:
		return "remap";
	}
}
"""
TREE = {TYPES: ENUMS, UTIL: SWITCHES}

RULE = Rule(
    id='action-unhandled',
    severity=Severity.ERROR,
    check=check,
    bad=(
        Case(TREE, (Edit({TYPES: MORE}),), expect=(1,)),
        Case(TREE, (Edit({TYPES: MORE, UTIL: HALF}),), expect=(1,)),
        # Handled in one branch of #if by the second patch, in none by the third.
        Case(
            TREE,
            (Edit({TYPES: MORE}), Edit({UTIL: HALF}), Edit({UTIL: HALF + 'int x;\n'})),
            expect=(1,),
        ),
        # The switch comes last.
        Case(
            {TYPES: ENUMS},
            (Edit({TYPES: MORE}), Edit({'mm/internal.h': 'static inline ' + SHORT})),
            expect=(1,),
        ),
        # The tests' copies of enum and switch.
        Case(
            {**TREE, COPY: ENUMS + SHORT.replace('	}\n', '	}\n	return NULL;\n')},
            (
                Edit(
                    {
                        TYPES: MORE,
                        UTIL: WHOLE,
                        COPY: MORE + SHORT.replace('	}\n', '	}\n	return NULL;\n'),
                    }
                ),
            ),
            expect=(1,),
        ),
        Case(
            {
                UTIL: SWITCHES.replace('int ', 'void ').replace(
                    '	return 0;\n}\n#endif', '}\n#endif'
                )
            },
            (Edit({UTIL: SWITCHES.replace('	return 0;\n}\n#endif', '}\n#endif')}),),
            expect=(1,),
        ),
        Case(
            TREE,
            (Edit({UTIL: SWITCHES.replace('	WARN_ON_ONCE(1);\n	return -EINVAL;\n', '')}),),
            expect=(1,),
        ),
    ),
    good=(
        Case(TREE, (Edit({TYPES: MORE, UTIL: WHOLE}),)),
        Case(TREE, (Edit({TYPES: MORE}), Edit({UTIL: HALF}), Edit({UTIL: WHOLE}))),
        Case({TYPES: ENUMS, UTIL: DEFAULT}, (Edit({TYPES: MORE}),)),
        Case({TYPES: ENUMS, UTIL: OTHER}, (Edit({TYPES: MORE}),)),
        # A second name, another order, another end: no new action.
        Case(
            TREE,
            (Edit({TYPES: ENUMS.replace('	NR_', '	MMAP_PFN = MMAP_REMAP_PFN,\n	MAX_')}),),
        ),
        # The enum moves.
        Case(TREE, (Edit({TYPES: '\n', 'include/linux/mmap_action.h': '\n' + ENUMS}),)),
        # Missing already, and the function was short already.
        Case({TYPES: MORE, UTIL: SWITCHES}, (Edit({UTIL: 'int x;\n' + SWITCHES}),)),
        Case({UTIL: SHORT}, (Edit({UTIL: '/* names */\n' + SHORT.replace('"remap"', '"pfn"')}),)),
        # Another enum gains the name.
        Case(TREE, (Edit({TYPES: ENUMS + MORE.replace('action_type', 'kind')}),)),
        Case(
            TREE,
            (Edit({UTIL: SWITCHES.replace('	return -EINVAL;\n', '	BUG();\n')}),),
        ),
        Case(TREE, (Edit({TYPES: MORE, UTIL: SWITCHES.replace('switch (', 'switch ((int)')}),)),
        Case(TREE, (Edit({TYPES: MORE, UTIL: SWITCHES.replace('1);', '1;')}),)),
    ),
)
