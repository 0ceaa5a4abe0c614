"""What one file defines: functions, types, macros, their tokens, members and variables."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal

import tree_sitter_c
from tree_sitter import Language, Node, Query, QueryCursor

from bot.csyntax.mask import ATTRIBUTES, WITH_ARGUMENTS

Kind = Literal['function', 'prototype', 'struct', 'union', 'enum', 'typedef', 'macro']

C = Language(tree_sitter_c.language())
LARGE = 300
"""Nodes from which on a query is quicker than a walk."""
TOKEN = re.compile(
    rb'/\*(?:.*?\*/|.*)|//[^\n]*|\\\n'
    rb'|(?P<token>"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|[A-Za-z_]\w*|\.?\d[\w.]*'
    rb'|\.\.\.|->|\+\+|--|<<=|>>=|<<|>>|[-+*/%&|^!=<>]=|&&|\|\||##|\S)',
    re.S,
)
# Words that say how a definition is stored or checked, not what it is.
STORAGE = frozenset((*ATTRIBUTES, 'static', 'extern', 'register'))


@dataclass(frozen=True)
class Definition:
    """
    One definition. Lines count from 1, `end` is its last line.

    `context` are the `#if` conditions that it stands under, outermost first.
    """

    kind: Kind
    name: str
    context: tuple[str, ...]
    text: bytes = field(repr=False)
    start: int
    end: int

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Its text without comments, storage words and attributes: if equal, all is the same."""
        return tokens(self.text)


@dataclass(frozen=True)
class Member:
    """
    A member of a struct.

    `pointee_const` is the `const` before the `*`, `const` the one of the member
    itself (behind the `*`, or before a plain type). `type` is the type's words.
    """

    name: str
    type: str
    pointer: bool
    const: bool
    pointee_const: bool
    line: int


@dataclass(frozen=True)
class Variable:
    """A parameter or local variable of a function, by its declared type."""

    name: str
    type: str
    pointer: bool
    parameter: bool
    static: bool
    line: int
    initialiser: Node | None = field(compare=False, default=None)


@dataclass(frozen=True)
class Call:
    """A call. `callee` is its text (`f`, `ops->mmap_prepare`), `plain` whether it is a name."""

    callee: str
    arguments: tuple[str, ...]
    plain: bool
    line: int
    node: Node = field(compare=False)

    @property
    def name(self) -> str:
        """The last name of the callee: `mmap_prepare` of `ops->mmap_prepare`."""
        return re.split(r'->|\.', self.callee)[-1].strip()


@dataclass(frozen=True)
class Function:
    """A function with a body. `clean` is false where a part of it could not be read."""

    name: str
    node: Node = field(compare=False)
    body: Node = field(compare=False)
    start: int
    end: int
    clean: bool
    guards: frozenset[int] = frozenset()

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        """Its parameters and locals, in order."""
        return tuple(variables(self.node))

    def variable(self, name: str) -> Variable | None:
        """Return the parameter or local of that name, None where there is none or several."""
        found = [variable for variable in self.variables if variable.name == name]
        return found[0] if len(found) == 1 else None


def node_text(node: Node | None) -> str:
    """Return a node's text in one line, white space folded; '' for None."""
    if node is None or node.text is None:
        return ''
    return ' '.join(node.text.decode('latin-1').split())


def line_of(node: Node) -> int:
    """Return the line that a node starts on, from 1."""
    return node.start_point.row + 1


def tokens(text: bytes) -> tuple[str, ...]:
    """Cut C text into tokens, without comments, storage words and attributes."""
    found = [match['token'].decode('latin-1') for match in TOKEN.finditer(text) if match['token']]
    kept: list[str] = []
    position = 0
    while position < len(found):
        word = found[position]
        position += 1
        if word in WITH_ARGUMENTS and found[position : position + 1] == ['(']:
            depth = 0
            while position < len(found):
                depth += {'(': 1, ')': -1}.get(found[position], 0)
                position += 1
                if depth == 0:
                    break
        elif word not in STORAGE:
            kept.append(word)
    return tuple(kept)


def calls(node: Node) -> Iterator[Call]:
    """Yield the calls below `node`, inner ones after the outer."""
    for found in walk(node, 'call_expression'):
        function = found.child_by_field_name('function')
        if function is None:
            continue
        while function.type == 'parenthesized_expression' and function.named_child_count == 1:
            function = function.named_children[0]
        if function.type == 'pointer_expression':
            function = function.child_by_field_name('argument') or function
        yield Call(
            node_text(function),
            arguments(found),
            function.type == 'identifier',
            line_of(found),
            found,
        )


def arguments(call: Node) -> tuple[str, ...]:
    """Return the argument texts of a call."""
    listed = call.child_by_field_name('arguments')
    if listed is None:
        return ()
    return tuple(node_text(child) for child in listed.named_children if child.type != 'comment')


def walk(node: Node, *types: str) -> Iterator[Node]:
    """Yield `node` and all below it that are of one of `types`, in the order of the text."""
    stack = [node]
    while stack:
        inner = stack.pop()
        # (a query over what is broken can take long: an error may have any number of children)
        if inner.descendant_count > LARGE and not inner.has_error:
            found = QueryCursor(_of_types(types)).captures(inner).get('hit', [])
            yield from sorted(found, key=lambda one: (one.start_byte, -one.end_byte))
            continue
        if inner.type in types:
            yield inner
        stack.extend(reversed(inner.children))


@lru_cache(maxsize=64)
def _of_types(types: tuple[str, ...]) -> Query:
    return Query(C, f'[{" ".join(f"({one})" for one in types)}] @hit')


def declared_name(node: Node | None) -> Node | None:
    """Follow a declarator down to the name that it declares."""
    while node is not None and node.type not in (
        'identifier',
        'field_identifier',
        'type_identifier',
    ):
        inner = node.child_by_field_name('declarator')
        if inner is None and node.type in ('parenthesized_declarator', 'attributed_declarator'):
            inner = node.named_children[0] if node.named_children else None
        node = inner
    return node


def members(struct: Node) -> Iterator[Member]:
    """Yield the named members of a struct node, those of unnamed inner ones included."""
    body = struct.child_by_field_name('body')
    if body is None:
        return
    for declaration in walk(body, 'field_declaration'):
        base = declaration.child_by_field_name('type')
        before = any(
            child.type == 'type_qualifier' and node_text(child) == 'const'
            for child in declaration.children
        )
        for declarator in declaration.children_by_field_name('declarator'):
            name = declared_name(declarator)
            if name is None or base is None:
                continue
            pointer = declarator.type == 'pointer_declarator'
            behind = pointer and any(
                child.type == 'type_qualifier' and node_text(child) == 'const'
                for child in declarator.children
            )
            yield Member(
                node_text(name),
                node_text(base),
                pointer,
                const=behind if pointer else before,
                pointee_const=pointer and before,
                line=line_of(name),
            )


def variables(function: Node) -> Iterator[Variable]:
    """Yield parameters and locals of a function node."""
    declarator = function.child_by_field_name('declarator')
    for parameter in walk(declarator, 'parameter_declaration') if declarator else ():
        yield from _declared(parameter, parameter=True)
    body = function.child_by_field_name('body')
    for declaration in walk(body, 'declaration') if body else ():
        yield from _declared(declaration, parameter=False)


def _declared(declaration: Node, *, parameter: bool) -> Iterator[Variable]:
    base = declaration.child_by_field_name('type')
    static = any(
        child.type == 'storage_class_specifier' and node_text(child) == 'static'
        for child in declaration.children
    )
    for declarator in declaration.children_by_field_name('declarator'):
        inner, initialiser = declarator, None
        if declarator.type == 'init_declarator':
            initialiser = declarator.child_by_field_name('value')
            inner = declarator.child_by_field_name('declarator') or declarator
        name = declared_name(inner)
        if name is not None:
            yield Variable(
                node_text(name),
                node_text(base),
                inner.type in ('pointer_declarator', 'array_declarator'),
                parameter,
                static,
                line_of(name),
                initialiser,
            )
