"""
Which members of which structs a function writes, by the declared type of the variable.

Shared by the rules about struct vm_area_desc and its relatives. Answers for
one function at a time; what a macro or another function writes is left out.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from tree_sitter import Node

from bot.csyntax import Function, arguments, introduced, parse, text_of
from bot.csyntax.syntax import line_of, walk
from bot.model import Snapshot, Step

T = TypeVar('T')
# No file that people write by hand is larger (bytes), and no function longer (lines).
LARGEST = 1 << 19
LONGEST = 2000
MOST = 50
"""One patch gets no more findings of a rule."""
SIDES = ('assignment_expression', 'update_expression', 'call_expression')
STORES = ('WRITE_ONCE', 'smp_store_release', 'rcu_assign_pointer', 'swap')


@dataclass(frozen=True)
class Place:
    """
    A member as code names it: `desc->action.type` is `desc`, arrow, ('action', 'type').

    `cast` is the type of a cast in front of the arrow, '' without one.
    """

    base: str
    arrow: bool
    path: tuple[str, ...]
    cast: str = ''


@dataclass(frozen=True)
class Write:
    """A place that is assigned to; `text` is the whole expression."""

    place: Place
    text: str
    line: int
    end: int
    node: Node = field(compare=False)


def read(tree: Snapshot, path: str | None, *words: bytes) -> bytes:
    """Return a file's text if one of `words` stands in it and it is of a usual size; else b''."""
    text = tree.read(path) if path is not None else None
    if text is None or len(text) > LARGEST or not any(word in text for word in words):
        return b''
    return text


def c_files(step: Step) -> Iterator[tuple[str | None, str | None]]:
    """Yield the names, before and after, of the C files that a step touches."""
    for diff in step.files:
        if diff.path.endswith(('.c', '.h')):
            yield diff.old_path, diff.new_path


def functions(text: bytes) -> list[Function]:
    """Return the functions that could be read as a whole, all variants under `#if` included."""
    found = parse(text).all_functions if text else ()
    return [one for one in found if one.clean and one.end - one.start < LONGEST]


def place(node: Node | None) -> Place | None:
    """Return the member that an expression names, None where it is no member of a variable."""
    path: list[str] = []
    while node is not None and node.type == 'subscript_expression':
        node = node.child_by_field_name('argument')
    while node is not None and node.type == 'field_expression':
        path.append(text_of(node.child_by_field_name('field')))
        arrow = text_of(node.child_by_field_name('operator')) == '->'
        inner = _bare(node.child_by_field_name('argument'))
        if inner is None:
            return None
        if inner.type == 'identifier':
            return Place(text_of(inner), arrow, tuple(reversed(path)))
        if inner.type == 'cast_expression' and arrow:
            value = _bare(inner.child_by_field_name('value'))
            cast = text_of(inner.child_by_field_name('type'))
            return Place(text_of(value), True, tuple(reversed(path)), cast)
        if inner.type == 'pointer_expression' and not arrow:
            value = _bare(inner.child_by_field_name('argument'))
            if inner.children[0].type == '*' and value is not None and value.type == 'identifier':
                return Place(text_of(value), True, tuple(reversed(path)))
            return None
        if arrow:
            return None  # a member of what the member points to
        while inner is not None and inner.type == 'subscript_expression':
            inner = inner.child_by_field_name('argument')
        node = inner
    return None


def _bare(node: Node | None) -> Node | None:
    while node is not None and node.type == 'parenthesized_expression':
        node = node.named_children[0] if node.named_child_count == 1 else None
    return node


def writes(node: Node) -> Iterator[Write]:
    """Yield what is assigned to below `node`: `=`, `+=`, `++`, WRITE_ONCE() and its like."""
    for found in walk(node, *SIDES):
        targets: list[Node | None] = [
            found.child_by_field_name(
                'left' if found.type == 'assignment_expression' else 'argument'
            )
        ]
        if found.type == 'call_expression':
            if text_of(found.child_by_field_name('function')) not in STORES:
                continue
            listed = found.child_by_field_name('arguments')
            targets = list(listed.named_children) if listed is not None else []
            if text_of(found.child_by_field_name('function')) != 'swap':
                targets = targets[:1]
        for target in targets:
            where = place(_bare(target))
            if where is not None:
                yield Write(where, text_of(found), line_of(found), found.end_point.row + 1, found)


def takes(call: Node, *arguments_of: str) -> bool:
    """Whether one of a call's arguments is exactly one of these."""
    return any(one.replace(' ', '') in arguments_of for one in arguments(call))


def newly(before: Iterable[T], after: Iterable[T], *keys: Callable[[T], object]) -> list[T]:
    """
    Return what is in `after` and, by none of `keys`, in `before`.

    A thing that one key finds again (moved, or renamed) accounts for one of `before`.
    """
    left, found = list(before), list(after)
    for key in keys:
        gone = introduced(found, left, key)
        found, left = introduced(left, found, key), gone
    return found


def parameter(function: Function, type_: str) -> str | None:
    """Return the one parameter that is a pointer to `type_`, None for none or several."""
    found = [
        one.name
        for one in function.variables
        if one.parameter and one.pointer and one.type == type_
    ]
    return found[0] if len(found) == 1 else None
