"""
The control flow of a function, as a graph of points, and walks over it.

A point is one simple statement, one condition or one `return`. `&&`, `||` and
`!` in conditions become edges of their own. `Flow.walk` carries a rule's state
along every path, once for each pair of point and state, so that loops end.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

from tree_sitter import Node

from bot.csyntax.syntax import Function, line_of, node_text

S = TypeVar('S', bound=Hashable)
Edge = tuple[int, bool | None]
"""A point, and which outcome of its condition leads on from it (None: no condition)."""
TRUE = ('1', 'true')
FALSE = ('0', 'false')
UNWRAPPED = ('likely', 'unlikely')
CONDITIONAL = ('preproc_if', 'preproc_ifdef', 'preproc_elif', 'preproc_elifdef', 'preproc_else')


@dataclass(frozen=True)
class Point:
    """One step of a function. `node` is None for entry and exit."""

    index: int
    kind: Literal['entry', 'exit', 'do', 'test', 'return']
    node: Node | None = field(compare=False, default=None)

    @property
    def line(self) -> int:
        """The line that it stands on; 0 for entry and exit."""
        return line_of(self.node) if self.node is not None else 0


@dataclass(frozen=True)
class Visit:
    """A point that a walk reached, and how: `before` is the visit that led here."""

    point: Point
    state: Hashable
    before: 'Visit | None' = field(compare=False, default=None)

    def path(self) -> list[Point]:
        """Return the points from the entry to this one."""
        points: list[Point] = []
        visit: Visit | None = self
        while visit is not None:
            points.append(visit.point)
            visit = visit.before
        return points[::-1]


class Flow:
    """The graph. `next` gives each point's successors with the outcome that leads there."""

    def __init__(self, points: list[Point], following: list[list[Edge]]) -> None:
        self.points = points
        self.next = following
        self.entry = points[0]
        self.exit = points[1]

    def walk(
        self, start: S, step: Callable[[Point, S, bool | None], S | None]
    ) -> Iterator[tuple[Point, S, Visit]]:
        """
        Yield every (point, state before it) that a path from the entry reaches.

        `step(point, state, outcome)` gives the state behind a point, on the
        edge that `outcome` of its condition takes; None ends that path.
        """
        first = Visit(self.entry, start)
        seen: set[tuple[int, Hashable]] = {(0, start)}
        queue = deque([(self.entry, start, first)])
        while queue:
            point, state, visit = queue.popleft()
            yield point, state, visit
            for index, outcome in self.next[point.index]:
                after = step(point, state, outcome)
                if after is None or (index, after) in seen:
                    continue
                seen.add((index, after))
                queue.append((self.points[index], after, Visit(self.points[index], after, visit)))

    @cached_property
    def dominators(self) -> list[frozenset[int]]:
        """For each point those that every path from the entry to it passes (itself included)."""
        before: list[list[int]] = [[] for _ in self.points]
        for index, edges in enumerate(self.next):
            for after, _ in edges:
                before[after].append(index)
        everything = frozenset(range(len(self.points)))
        found = [everything] * len(self.points)
        found[0] = frozenset({0})
        changed = True
        while changed:
            changed = False
            for index in range(1, len(self.points)):
                inner = [found[p] for p in before[index]]
                new = (frozenset.intersection(*inner) if inner else everything) | {index}
                if new != found[index]:
                    found[index], changed = new, True
        return found

    def dominates(self, first: Point, second: Point) -> bool:
        """Whether every path from the entry to `second` passes `first`."""
        return first.index in self.dominators[second.index]


def flow_of(function: Function) -> Flow | None:
    """Return a function's flow, None where a part of it could not be read, or nests too deep."""
    if not function.clean:
        return None
    builder = _Builder(function.guards)
    try:
        return builder.build(function.body)
    except RecursionError:
        return None


class _Builder:
    """
    Builds the graph statement by statement.

    `Ends` are the edges that still lead nowhere; a statement takes those that
    reach it and returns those that leave it.
    """

    def __init__(self, guards: frozenset[int]) -> None:
        self.points = [Point(0, 'entry'), Point(1, 'exit')]
        self.next: list[list[Edge]] = [[], []]
        self.guards = guards
        self.labels: dict[str, int] = {}
        self.gotos: list[tuple[list[Edge], str]] = []
        self.breaks: list[list[Edge]] = []
        self.continues: list[list[Edge]] = []
        self.switches: list[int] = []
        self.has_default: list[bool] = []

    def build(self, body: Node) -> Flow | None:
        ends = self.statement(body, [(0, None)])
        self.join(ends, 1)
        for edges, label in self.gotos:
            if label not in self.labels:
                return None
            self.join(edges, self.labels[label])
        return Flow(self.points, self.next)

    def point(self, kind: Literal['do', 'test', 'return'], node: Node, ends: list[Edge]) -> int:
        index = len(self.points)
        self.points.append(Point(index, kind, node))
        self.next.append([])
        self.join(ends, index)
        return index

    def join(self, ends: list[Edge], index: int) -> None:
        for source, outcome in ends:
            if (index, outcome) not in self.next[source]:
                self.next[source].append((index, outcome))

    def statement(self, node: Node, ends: list[Edge]) -> list[Edge]:
        method = getattr(self, f'_{node.type}', None)
        if method is not None:
            found: list[Edge] = method(node, ends)
            return found
        if node.type in ('comment', ';', 'function_definition') or not node.is_named:
            return ends
        if node.type.startswith('preproc_'):
            return self.compiled(node, ends)
        return [(self.point('do', node, ends), None)]

    def condition(self, node: Node, ends: list[Edge]) -> tuple[list[Edge], list[Edge]]:
        """Return the edges that leave a condition when it holds, and when it does not."""
        if node.type in ('parenthesized_expression', 'condition_clause'):
            inner = [child for child in node.named_children if child.type != 'comment']
            if len(inner) == 1:
                return self.condition(inner[0], ends)
        if node.type == 'unary_expression' and node.children[0].type == '!':
            argument = node.child_by_field_name('argument')
            if argument is not None:
                holds, fails = self.condition(argument, ends)
                return fails, holds
        if node.type == 'binary_expression':
            left, right = node.child_by_field_name('left'), node.child_by_field_name('right')
            operator = node_text(node.child_by_field_name('operator'))
            if left is not None and right is not None and operator in ('&&', '||'):
                holds, fails = self.condition(left, ends)
                if operator == '&&':
                    second, fails2 = self.condition(right, holds)
                    return second, fails + fails2
                second, fails2 = self.condition(right, fails)
                return holds + second, fails2
        if node.type == 'call_expression':
            listed = node.child_by_field_name('arguments')
            name = node_text(node.child_by_field_name('function'))
            if name in UNWRAPPED and listed is not None and listed.named_child_count == 1:
                return self.condition(listed.named_children[0], ends)
        index = self.point('test', node, ends)
        text = node_text(node)
        holds = [] if text in FALSE else [(index, True)]
        fails = [] if text in TRUE else [(index, False)]
        return holds, fails

    def compiled(self, node: Node, ends: list[Edge]) -> list[Edge]:
        """Follow each branch of an `#if`, since any may be what is compiled; without else, none."""
        if node.type not in CONDITIONAL:
            return ends
        other = node.child_by_field_name('alternative')
        condition = (node.child_by_field_name('condition'), node.child_by_field_name('name'), other)
        after = ends
        for child in node.named_children:
            if child not in condition:
                after = self.statement(child, after)
        if node.type == 'preproc_else':
            return after
        rest = self.compiled(other, ends) if other is not None else ends
        return [*after, *(edge for edge in rest if edge not in after)]

    # --- statements, by tree-sitter's names ---

    def _compound_statement(self, node: Node, ends: list[Edge]) -> list[Edge]:
        for child in node.named_children:
            ends = self.statement(child, ends)
        return ends

    def _else_clause(self, node: Node, ends: list[Edge]) -> list[Edge]:
        return self._compound_statement(node, ends)

    def _if_statement(self, node: Node, ends: list[Edge]) -> list[Edge]:
        condition = node.child_by_field_name('condition')
        then = node.child_by_field_name('consequence')
        other = node.child_by_field_name('alternative')
        if condition is None or then is None:
            return ends
        if node.start_byte in self.guards:  # scoped_guard(): its body always runs
            return self.statement(then, [(self.point('do', condition, ends), None)])
        holds, fails = self.condition(condition, ends)
        after = self.statement(then, holds)
        return after + (self.statement(other, fails) if other is not None else fails)

    def _while_statement(self, node: Node, ends: list[Edge]) -> list[Edge]:
        return self._loop(node.child_by_field_name('condition'), node, ends)

    def _for_statement(self, node: Node, ends: list[Edge]) -> list[Edge]:
        start = node.child_by_field_name('initializer')
        if start is not None:
            ends = self.statement(start, ends)
        return self._loop(
            node.child_by_field_name('condition'), node, ends, node.child_by_field_name('update')
        )

    def _loop(
        self, condition: Node | None, node: Node, ends: list[Edge], update: Node | None = None
    ) -> list[Edge]:
        first = len(self.points)
        if condition is not None:
            holds, fails = self.condition(condition, ends)
        else:
            holds, fails = [(self.point('do', node.children[0], ends), None)], []
        self.breaks.append([])
        self.continues.append([])
        body = node.child_by_field_name('body')
        after = self.statement(body, holds) if body is not None else holds
        after += self.continues.pop()
        if update is not None:
            after = [(self.point('do', update, after), None)]
        self.join(after, first)
        return fails + self.breaks.pop()

    def _do_statement(self, node: Node, ends: list[Edge]) -> list[Edge]:
        body, condition = node.child_by_field_name('body'), node.child_by_field_name('condition')
        self.breaks.append([])
        self.continues.append([])
        first = len(self.points)
        after = self.statement(body, ends) if body is not None else ends
        after += self.continues.pop()
        if condition is None:
            return after
        started = len(self.points) > first
        holds, fails = self.condition(condition, after)
        if started or len(self.points) > first:
            self.join(holds, first)
        return fails + self.breaks.pop()

    def _switch_statement(self, node: Node, ends: list[Edge]) -> list[Edge]:
        condition, body = node.child_by_field_name('condition'), node.child_by_field_name('body')
        if condition is None or body is None:
            return ends
        index = self.point('do', condition, ends)
        self.breaks.append([])
        self.has_default.append(False)
        self.switches.append(index)
        after: list[Edge] = []
        for child in body.named_children:
            after = self.statement(child, after)
        self.switches.pop()
        if not self.has_default.pop():
            after = [*after, (index, None)]
        return after + self.breaks.pop()

    def _case_statement(self, node: Node, ends: list[Edge]) -> list[Edge]:
        value = node.child_by_field_name('value')
        if self.switches:
            ends = [*ends, (self.switches[-1], None)]
            self.has_default[-1] |= value is None
        for child in node.named_children:
            if child != value:
                ends = self.statement(child, ends)
        return ends

    def _labeled_statement(self, node: Node, ends: list[Edge]) -> list[Edge]:
        label = node.child_by_field_name('label')
        index = self.point('do', label or node, ends)
        self.labels[node_text(label)] = index
        after: list[Edge] = [(index, None)]
        for child in node.named_children:
            if child != label:
                after = self.statement(child, after)
        return after

    def _goto_statement(self, node: Node, ends: list[Edge]) -> list[Edge]:
        index = self.point('do', node, ends)
        self.gotos.append(([(index, None)], node_text(node.child_by_field_name('label'))))
        return []

    def _break_statement(self, _: Node, ends: list[Edge]) -> list[Edge]:
        if self.breaks:
            self.breaks[-1] += ends
        return []

    def _continue_statement(self, _: Node, ends: list[Edge]) -> list[Edge]:
        if self.continues:
            self.continues[-1] += ends
        return []

    def _return_statement(self, node: Node, ends: list[Edge]) -> list[Edge]:
        self.join([(self.point('return', node, ends), None)], 1)
        return []
