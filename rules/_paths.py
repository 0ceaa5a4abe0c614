"""
What several rules over control flow ask: what is known on a path, and what is new.

A condition is a pair of a node and its outcome. Everything here is about the
text of one function: it answers less where the text does not say.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tree_sitter import Node

from bot.csyntax import (
    Flow,
    Function,
    Point,
    Source,
    arguments,
    calls,
    flow_of,
    introduced,
    text_of,
)
from bot.csyntax.syntax import declared_name, walk

T = TypeVar('T')
Facts = frozenset[tuple[str, bool]]
"""Conditions that hold on a path, by their text."""
# They give back the truth of what they are asked.
ASKS = re.compile(r'likely|unlikely|(?:VM_)?WARN_ON(?:_ONCE)?|__builtin_expect|READ_ONCE|data_race')
UNEVALUATED = ('sizeof_expression', 'alignof_expression', 'offsetof_expression')
WORD = re.compile(r'[A-Za-z_]\w*')
CONSTANTS = {'0': False, 'false': False, 'NULL': False, '1': True, 'true': True}
MOST_VISITS = 4000
"""Pairs of point and state of one function. Linux 7.3's mm/ needs 453."""
MOST_FUNCTIONS = 100
"""Functions of one file that are followed."""
LONGEST, DEEPEST, MOST_POINTS = 40_000, 100, 600
"""Bytes, levels of syntax, and points of one function; mm/ has 17,000, 21 and 117."""


def followed(function: Function) -> Flow | None:
    """Return a function's flow; None where it can't be read, or is larger than code ever is."""
    if not function.clean or function.body.end_byte - function.body.start_byte > LONGEST:
        return None
    level, depth = [function.body], 0
    while level and depth <= DEEPEST:
        level, depth = [child for node in level for child in node.children], depth + 1
    flow = None if level else flow_of(function)
    return flow if flow is not None and len(flow.points) <= MOST_POINTS else None


def unwrapped(node: Node) -> Node:
    """Take away parentheses, and the macros that pass a truth on."""
    while True:
        if node.type == 'parenthesized_expression' and node.named_child_count == 1:
            node = node.named_children[0]
        elif node.type == 'call_expression' and ASKS.fullmatch(
            text_of(node.child_by_field_name('function'))
        ):
            listed = node.child_by_field_name('arguments')
            if listed is None or not listed.named_children:
                return node
            node = listed.named_children[0]
        else:
            return node


def implied(node: Node, outcome: bool) -> Iterator[tuple[Node, bool]]:
    """Yield the simple conditions that must have come out so, where `node` came out so."""
    node = unwrapped(node)
    if node.type == 'unary_expression' and node.children[0].type == '!':
        argument = node.child_by_field_name('argument')
        if argument is not None:
            yield from implied(argument, not outcome)
    elif node.type == 'binary_expression' and _operator(node) in ('&&', '||'):
        if outcome == (_operator(node) == '&&'):
            for side in ('left', 'right'):
                part = node.child_by_field_name(side)
                if part is not None:
                    yield from implied(part, outcome)
    else:
        yield node, outcome


def guards(node: Node, top: Node) -> Iterator[tuple[Node, bool]]:
    """Yield the conditions inside the expression `top` under which it comes to `node`."""
    child, parent = node, node.parent
    while parent is not None and child != top:
        if parent.type == 'conditional_expression':
            condition = parent.child_by_field_name('condition')
            if condition is not None and child != condition:
                yield from implied(condition, child == parent.child_by_field_name('consequence'))
        elif parent.type == 'binary_expression' and _operator(parent) in ('&&', '||'):
            left = parent.child_by_field_name('left')
            if left is not None and child == parent.child_by_field_name('right'):
                yield from implied(left, _operator(parent) == '&&')
        child, parent = parent, parent.parent


def failed(condition: str, result: str, outcome: bool) -> bool | None:
    """Whether `result` (0, or an error) is an error where `condition` came out so; None: unsaid."""
    value = rf'\(*(?:\w+ = )?{re.escape(result)}\)*'
    if re.fullmatch(rf'{value}(?: != 0| < 0)?|IS_ERR_VALUE\({value}\)', condition):
        return outcome
    if re.fullmatch(rf'{value} (?:== 0|>= 0)', condition):
        return not outcome
    return None


# --- what holds on a path ---


def repeated(flow: Flow) -> frozenset[str]:
    """Return the conditions worth remembering: tested twice, or of a name that is given 0 or 1."""
    texts = [text_of(point.node) for point in flow.points if point.kind == 'test']
    steps = [point.node for point in flow.points if point.kind == 'do' and point.node is not None]
    flags = {name for node in steps for name, value in values(node) if text_of(value) in CONSTANTS}
    return frozenset(
        text for text in texts if (texts.count(text) > 1 and '(' not in text) or text in flags
    )


def learnt(facts: Facts, point: Point, outcome: bool | None, asked: frozenset[str]) -> Facts | None:
    """Add what a point says to what is known; None where it contradicts that."""
    if point.node is None or not asked:
        return facts
    text = text_of(point.node)
    if point.kind == 'test' and outcome is not None and text in asked:
        return None if (text, not outcome) in facts else facts | {(text, outcome)}
    if facts:
        changed = set(assigned(point.node))
        facts = frozenset(fact for fact in facts if not changed & set(WORD.findall(fact[0])))
    given = ((name, CONSTANTS.get(text_of(value))) for name, value in values(point.node))
    return facts | {(name, known) for name, known in given if known is not None and name in asked}


def assigned(node: Node) -> Iterator[str]:
    """Yield the names that an expression or declaration gives a value to, or may (`&name`)."""
    for found in walk(
        node, 'assignment_expression', 'update_expression', 'declaration', 'pointer_expression'
    ):
        if found.type == 'declaration':
            for declarator in found.children_by_field_name('declarator'):
                inner = declarator.child_by_field_name('declarator')
                initialised = declarator.type == 'init_declarator' and inner is not None
                yield text_of(declared_name(inner if initialised else declarator))
        elif found.type == 'assignment_expression':
            yield text_of(found.child_by_field_name('left'))
        elif found.type == 'update_expression' or found.children[0].type == '&':
            yield text_of(found.child_by_field_name('argument'))


def values(node: Node) -> Iterator[tuple[str, Node]]:
    """Yield (name, value) of what is assigned to plain names."""
    for found in walk(node, 'init_declarator', 'assignment_expression'):
        plain = found.type == 'assignment_expression'
        if plain and text_of(found.children[1]) != '=':
            continue
        left = found.child_by_field_name('left' if plain else 'declarator')
        value = found.child_by_field_name('right' if plain else 'value')
        name = left if plain else declared_name(left)
        if name is not None and name.type == 'identifier' and value is not None:
            yield text_of(name), value


def iterated(point: Point, source: Source) -> frozenset[str]:
    """Return the names that a for_each loop's head, or a call of one, gives a value to."""
    if point.node is None:
        return frozenset()
    given: list[str] = []
    for call in calls(point.node):
        if 'for_each' in call.name:
            given += call.arguments
    above = point.node.parent
    while above is not None and above.type in ('parenthesized_expression', 'comma_expression'):
        above = above.parent
    if point.kind == 'test' and above is not None and above.type == 'while_statement':
        written = source.text[above.start_byte : above.start_byte + 6]
        if not re.match(rb'while\b', written):
            given += _listed(point.node)
    return frozenset(one for one in given if WORD.fullmatch(one))


def _listed(node: Node) -> list[str]:
    if node.type in ('comma_expression', 'parenthesized_expression'):
        return [text for child in node.named_children for text in _listed(child)]
    return [text_of(node)]


# --- what an expression does ---


def stored(call: Node, point: Node) -> tuple[str | None, Node | None]:
    """
    Return the variable that takes a call's result, and what is tested of it.

    (None, None): nothing takes it. A node: the whole of the point, which is the
    test. Raises LookupError where the call runs only under a condition, or its
    result goes where this does not follow.
    """
    result: str | None = None
    compared = False
    child, parent = call, call.parent
    while parent is not None:
        if child == point:
            return result, point
        if parent.type in ('assignment_expression', 'init_declarator') and compared:
            raise LookupError
        if parent.type == 'assignment_expression' and text_of(parent.children[1]) == '=':
            result = text_of(parent.child_by_field_name('left'))
        elif parent.type == 'init_declarator':
            return text_of(declared_name(parent.child_by_field_name('declarator'))), None
        elif parent.type == 'expression_statement':
            return result, None
        elif parent.type == 'binary_expression':
            compared = True
            if _operator(parent) in ('&&', '||'):
                raise LookupError
        elif parent.type not in ('parenthesized_expression', 'argument_list', 'call_expression'):
            raise LookupError
        if parent.type == 'call_expression' and not ASKS.fullmatch(
            text_of(parent.child_by_field_name('function'))
        ):
            raise LookupError
        child, parent = parent, parent.parent
    raise LookupError


def uses(node: Node, name: str) -> Iterator[Node]:
    """Yield where a pointer is followed (`p->m`, `*p`, `p[n]`), or handed to a call."""
    stack = [node]
    while stack:
        found = stack.pop()
        if found.type in UNEVALUATED:
            continue
        if found.type == 'call_expression':
            if text_of(found.child_by_field_name('function')) in ('typeof', '__typeof__'):
                continue
            if name in arguments(found):
                yield found
                continue
        elif (
            found.type == 'field_expression'
            or (found.type == 'pointer_expression' and found.children[0].type == '*')
            or found.type == 'subscript_expression'
        ):
            argument = found.child_by_field_name('argument')
            if argument is not None and text_of(unwrapped(argument)) == name:
                yield found
                continue
        stack.extend(reversed(found.children))


def unevaluated(node: Node) -> bool:
    """Whether an expression is only asked for its size or type."""
    above: Node | None = node
    while above is not None and not above.type.endswith('statement'):
        if above.type in UNEVALUATED:
            return True
        above = above.parent
    return False


def _operator(node: Node) -> str:
    return text_of(node.child_by_field_name('operator'))


# --- what is new ---


def fresh(
    before: Iterable[T],
    after: Iterable[T],
    exact: Callable[[T], object],
    loose: Callable[[T], object],
) -> list[T]:
    """
    Return what `after` has and `before` has not, by `exact`.

    What only moved (to another function, say) is left out: its `loose` key
    is gone elsewhere.
    """
    before, after = list(before), list(after)
    gone = introduced(after, before, exact)
    return introduced(gone, introduced(before, after, exact), loose)
