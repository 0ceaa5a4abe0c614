"""
Whose vm_ops are known to be there, along the paths of a function.

`owner->vm_ops->member` is a use. What counts as a test of `owner->vm_ops` is in
`Body`; which callers a static function has, and what those know, in `Unit`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from tree_sitter import Node

from bot.csyntax import Flow, Function, Point, Source, calls
from bot.csyntax.syntax import line_of, node_text, walk
from rules import _paths as paths

ANONYMOUS = 'vma_is_anonymous'
# Names of functions that may well look at vm_ops.
ASKS = re.compile(
    r'\w*vm_ops\w*|\w*anonymous\w*|is_vm_\w+|vma_(?:has|can|wants|needs|supports)_\w+'
    r'|vma_is_(?!accessible|foreign|initial|temporary|attached|detached|read_locked|sealed)\w+'
)
# They say something where they hold; only vma_is_anonymous() where it does not.
KINDS = ('vma_is_', 'is_vm_')
ASSERTS = re.compile(r'(?:VM_)?(?:BUG|WARN)_ON\w*')
# A variable, or a member of one.
PLACE = re.compile(r'\w+(?:(?:->|\.)\w+)*')
OPS = re.compile(r'(.+?)\s*(?:->|\.)\s*vm_ops')
CALLED = re.compile(r'\b(\w+)\s*\(')
DEEPEST = 3
"""Callers of callers of callers are asked whether they test."""


@dataclass(frozen=True)
class Use:
    """`owner->vm_ops->member` where nothing says that there are any."""

    path: str
    function: Function
    owner: str
    member: str
    line: int

    @property
    def exact(self) -> tuple[str, str, str]:
        """What it is known by in its function."""
        return self.function.name, self.owner, self.member


@dataclass(frozen=True)
class State:
    """What is known on a path: whose vm_ops are there, and conditions."""

    there: frozenset[str] = frozenset()
    facts: paths.Facts = frozenset()


@dataclass
class Unit:
    """A file, with what was found out about its functions."""

    source: Source
    path: str
    bodies: dict[int, 'Body | None'] = field(default_factory=dict)

    def body(self, function: Function) -> 'Body | None':
        """Return a function's paths, None where they can't be read."""
        if function.start not in self.bodies:
            flow = paths.followed(function)
            made = None if flow is None else Body(self.source, function, flow)
            self.bodies[function.start] = made
        return self.bodies[function.start]

    @cached_property
    def _called(self) -> list[tuple[Function, frozenset[str]]]:
        """(function, the names that it calls), as the text has them."""
        return [
            (one, frozenset(CALLED.findall((one.body.text or b'').decode('latin-1'))))
            for one in self.source.all_functions
        ]

    def callers_test(self, function: Function, owner: str, depth: int = DEEPEST) -> bool:
        """Whether a static function is only called where the owner's vm_ops are there."""
        words = [node_text(child) for child in function.node.children if child != function.body]
        if 'static' not in words:
            return False
        name = next(iter(paths.WORD.findall(owner)), '')
        parameters = [one.name for one in function.variables if one.parameter]
        if name not in parameters:
            return False
        callers = [
            one for one, body in self._called if function.name in body and one.name != function.name
        ]
        for caller in callers:
            body = self.body(caller) if len(self.bodies) < 2 * paths.MOST_FUNCTIONS else None
            if body is None:
                return True
            for given, tested in body.handed(function.name, parameters.index(name)):
                whose = body.origin(_within(given, owner[len(name) :]))
                if whose in tested or body.from_fault(whose):
                    continue
                if depth == 0 or not self.callers_test(caller, whose, depth - 1):
                    return False
        return bool(callers) or self.path.endswith('.c')


class Body:
    """What is known of vm_ops along the paths of one function."""

    def __init__(self, source: Source, function: Function, flow: Flow) -> None:
        self.source = source
        self.function = function
        self.flow = flow
        self.asked = paths.repeated(flow)
        self.faults = {v.name for v in function.variables if v.type == 'struct vm_fault'}
        values: dict[str, list[Node]] = {}
        for name, value in paths.values(function.body):
            values.setdefault(name, []).append(value)
        once = {name: node_text(given[0]) for name, given in values.items() if len(given) == 1}
        self.origins = {name: text for name, text in once.items() if PLACE.fullmatch(text)}
        # Variables that are somebody's vm_ops; others may have been made of a look at them.
        self.ops = {name: found[1] for name, text in once.items() if (found := OPS.fullmatch(text))}
        self.flags = {name: given for name, given in values.items() if name not in self.ops}

    def origin(self, owner: str) -> str:
        """Return where a local that is given a value only once has it from."""
        return self.origins.get(owner, owner)

    def from_fault(self, owner: str) -> bool:
        """Whether a VMA is the one of a fault."""
        head, _, last = self.origin(owner).rpartition('->')
        return last == 'vma' and (head == 'vmf' or head in self.faults)

    def unguarded(self, path: str) -> list[Use]:
        """Return the uses that a path reaches without a test."""
        found: dict[tuple[int, str, str], Use] = {}
        for point, state in self._states():
            for node, owner in self._members(point.node):
                if owner not in self._tested(node, point, state) and not self.from_fault(owner):
                    member = node_text(node.child_by_field_name('field'))
                    line = line_of(node)
                    found[line, owner, member] = Use(path, self.function, owner, member, line)
        return [found[key] for key in sorted(found)]

    def handed(self, callee: str, index: int) -> Iterator[tuple[str, frozenset[str]]]:
        """Yield what each call of `callee` gives it there, and whose vm_ops are there then."""
        for point, state in self._states():
            for call in calls(point.node) if point.node is not None else ():
                if call.name == callee and len(call.arguments) > index:
                    yield call.arguments[index], self._tested(call.node, point, state)

    def _states(self) -> Iterator[tuple[Point, State]]:
        for count, (point, state, _) in enumerate(self.flow.walk(State(), self._step)):
            if count > paths.MOST_VISITS:
                return
            yield point, state

    def _tested(self, node: Node, point: Point, state: State) -> frozenset[str]:
        """Whose vm_ops are there when `node`, in a point, is come to."""
        assert point.node is not None
        there = state.there.union(*(self._says(*one) for one in paths.guards(node, point.node)))
        return there | {self.origin(owner) for owner in there}

    def _members(self, node: Node | None) -> Iterator[tuple[Node, str]]:
        """Yield (node, owner) for each `owner->vm_ops->member`."""
        for found in walk(node, 'field_expression') if node is not None else ():
            argument = found.child_by_field_name('argument')
            arrow = node_text(found.child_by_field_name('operator')) == '->'
            owner = self._owner(argument) if argument is not None and arrow else None
            if owner is not None and not paths.unevaluated(found):
                yield found, owner

    def _owner(self, node: Node) -> str | None:
        """Return the owner where an expression is its vm_ops."""
        text = node_text(paths.unwrapped(node))
        found = OPS.fullmatch(text)
        return found[1] if found is not None else self.ops.get(text)

    # --- how a point changes what is known ---

    def _step(self, point: Point, state: State, outcome: bool | None) -> State | None:
        if point.node is None:
            return state
        facts = paths.learnt(state.facts, point, outcome, self.asked)
        if facts is None:
            return None
        used = (
            owner
            for node, owner in self._members(point.node)
            if not any(paths.guards(node, point.node))
        )
        there = state.there.union(used)
        given = {*paths.assigned(point.node), *paths.iterated(point, self.source)}
        if given:
            there = frozenset(
                owner
                for owner in there
                if not given & {owner, f'{owner}->vm_ops', *paths.WORD.findall(owner)[:1]}
            )
        if point.kind == 'test' and outcome is not None:
            for condition, out in paths.implied(point.node, outcome):
                there |= self._says(condition, out)
        for call in calls(point.node):
            if ASSERTS.fullmatch(call.name):
                there |= frozenset(self._speaks_of(call.node))
        return State(there | frozenset(self._filled(point.node)), facts)

    def _filled(self, node: Node) -> Iterator[str]:
        """Yield whose vm_ops are set."""
        for found in walk(node, 'assignment_expression'):
            left, right = found.child_by_field_name('left'), found.child_by_field_name('right')
            owner = OPS.fullmatch(node_text(left))
            if owner is not None and node_text(right) not in ('NULL', '0'):
                yield owner[1]

    def _says(self, condition: Node, outcome: bool, depth: int = DEEPEST) -> frozenset[str]:
        """Return whose vm_ops are there where a simple condition came out so."""
        owner = self._owner(condition)
        if owner is not None:
            return frozenset({owner} if outcome else ())
        text = node_text(condition)
        if condition.type == 'binary_expression':
            null = re.search(r'\b(?:NULL|0)$', text) is not None
            equal = ' == ' in text
            there = outcome == (equal != null) and (equal or ' != ' in text)
            return frozenset(self._speaks_of(condition) if there else ())
        if text in self.flags and depth:
            values = self.flags[text]
            if len(values) > 1:
                return frozenset(owner for value in values for owner in self._speaks_of(value))
            said = (self._says(*one, depth - 1) for one in paths.implied(values[0], outcome))
            return frozenset().union(*said)
        name = node_text(condition.child_by_field_name('function'))
        if name.startswith(KINDS) and outcome == (name == ANONYMOUS):
            return frozenset()
        return frozenset(self._speaks_of(condition))

    def _speaks_of(self, node: Node) -> Iterator[str]:
        """Yield whose vm_ops an expression looks at, or asks a function of."""
        for found in walk(node, 'field_expression', 'identifier'):
            owner = self._owner(found)
            if owner is not None and not _called(found):
                yield owner
        for call in calls(node):
            if ASKS.fullmatch(call.name):
                yield from call.arguments


def _called(ops: Node) -> bool:
    """Whether a hook of vm_ops is called: what that returns says nothing of them."""
    member = ops.parent
    call = member.parent if member is not None else None
    return call is not None and call.child_by_field_name('function') == member


def _within(given: str, rest: str) -> str:
    """Say in a caller's words what a function calls `parameter` + `rest`."""
    if given.startswith('&') and rest.startswith('->'):
        return f'{given[1:].strip()}.{rest[2:]}'
    return f'{given}{rest}'
