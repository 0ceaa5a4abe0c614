"""One parsed file."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property, lru_cache

from tree_sitter import Node, Parser, Query, QueryCursor, Tree

from bot.csyntax.mask import mask
from bot.csyntax.syntax import (
    C,
    Definition,
    Function,
    Kind,
    Member,
    declared_name,
    line_of,
    members,
    node_text,
    tokens,
    walk,
)

CONDITION = re.compile(
    rb'^[ \t]*#[ \t]*(if|ifdef|ifndef|elif|else|endif)\b((?:[^\n\\]|\\\n|\\.)*)', re.M
)
# Possessive, so that a comment is never tried as reaching to the end of a later one.
GUARD = re.compile(
    rb'\A(?>\s+|/\*.*?\*/|//[^\n]*\n)*+#\s*ifndef\s+(\w+)\s*\n\s*#\s*define\s+\1\b', re.S
)
# How often tree-sitter may report that it goes on (it does every hundred steps), and how often
# more for every byte. The worst of Linux 7.2's files reports twice for a hundred bytes, most
# once for two hundred; text made to be slow, ten thousand times for three thousand.
STEPS, STEPS_PER_BYTE = 1000, 0.1
DEEPEST = 64
"""How many `#if`s around a line are told apart."""
SPECIFIERS = {'struct_specifier': 'struct', 'union_specifier': 'union', 'enum_specifier': 'enum'}
# What definitions at the top level may lie in.
NESTS = {
    'translation_unit',
    'preproc_if',
    'preproc_ifdef',
    'preproc_else',
    'preproc_elif',
    'preproc_elifdef',
    'linkage_specification',
    'ERROR',
}


class Source:
    """
    A file's text and syntax tree. Positions are those of the text.

    `given_up`: it would have taken too long to parse, and nothing is known of it.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._masked, self._guards = mask(text)
        tree = _tree(self._masked)
        self.given_up = tree is None
        self.root = (tree or Parser(C).parse(b'')).root_node
        self._queried: dict[str, list[Node]] = {}

    @property
    def clean(self) -> bool:
        """Whether all of it was understood."""
        return not self.given_up and not self.root.has_error

    @cached_property
    def lines(self) -> list[bytes]:
        """The text's lines, without their ends."""
        return self.text.split(b'\n')

    def line(self, number: int) -> str:
        """Return a line (from 1) as text; '' beyond the end."""
        if not 1 <= number <= len(self.lines):
            return ''
        return self.lines[number - 1].decode('utf-8', 'replace')

    @cached_property
    def definitions(self) -> tuple[Definition, ...]:
        """All definitions of the file, in order."""
        return tuple(self._definitions(self.root))

    @cached_property
    def all_functions(self) -> tuple[Function, ...]:
        """All functions with a body, in order; one name may stand for several, under `#if`."""
        return tuple(self._functions())

    @cached_property
    def functions(self) -> dict[str, Function]:
        """The functions with a body, by name (the last one, where `#if` gives several)."""
        return {function.name: function for function in self.all_functions}

    def named(self, name: str, kind: Kind | None = None) -> tuple[Definition, ...]:
        """Return the definitions of that name (and kind)."""
        return tuple(
            found for found in self.definitions if found.name == name and kind in (None, found.kind)
        )

    def members(self, struct: str) -> tuple[Member, ...]:
        """Return the members of `struct NAME {…}`; empty where it is not defined here."""
        for node in walk(self.root, 'struct_specifier'):
            name = node.child_by_field_name('name')
            if name is not None and node_text(name) == struct and node.child_by_field_name('body'):
                return tuple(members(node))
        return ()

    def query(self, pattern: str) -> Iterator[Node]:
        """Yield the nodes that a tree-sitter query captures as `@hit`."""
        if pattern not in self._queried:
            found = QueryCursor(_query(pattern)).captures(self.root)
            # What tree-sitter returns is in the order of a hash.
            self._queried[pattern] = sorted(
                found.get('hit', []), key=lambda one: (one.start_byte, -one.end_byte, one.type)
            )
        yield from self._queried[pattern]

    @cached_property
    def _conditions(self) -> list[tuple[int, tuple[str, ...]]]:
        """(line, conditions in force from there on), in order."""
        guard = GUARD.match(self._masked)
        stack: list[str] = []
        changes: list[tuple[int, tuple[str, ...]]] = [(1, ())]
        line, last = 1, 0
        for found in CONDITION.finditer(self.text):
            line += self.text.count(b'\n', last, found.start())
            last = found.start()
            word, condition = found[1].decode(), ' '.join(tokens(found[2]))
            if word in ('if', 'ifdef', 'ifndef'):
                negated = '!' if word == 'ifndef' else ''
                stack.append(f'{negated}{condition}')
                if len(stack) == 1 and guard and word == 'ifndef':
                    if condition == guard[1].decode():
                        stack[0] = ''
                    guard = None
            elif stack and word == 'endif':
                stack.pop()
            elif stack:
                stack[-1] = f'else of {stack[-1]}' if word == 'else' else condition
            changes.append((line, tuple(entry for entry in stack[:DEEPEST] if entry)))
        return changes

    def context(self, line: int) -> tuple[str, ...]:
        """Return the `#if` conditions that a line stands under."""
        at = bisect_right(self._conditions, line, key=lambda change: change[0])
        return self._conditions[at - 1][1] if at else ()

    def _make(self, kind: Kind, name: str, node: Node, *, last: Node | None = None) -> Definition:
        end = last or node
        text = self.text[node.start_byte : end.end_byte]
        # A macro's node ends behind its line break.
        line_end = end.end_point.row + (0 if end.end_point.column == 0 else 1)
        return Definition(kind, name, self.context(line_of(node)), text, line_of(node), line_end)

    def _definitions(self, parent: Node) -> Iterator[Definition]:
        for node in parent.children:
            if node.type in NESTS:
                yield from self._definitions(node)
            elif node.type == 'function_definition':
                name = declared_name(node.child_by_field_name('declarator'))
                if name is not None:
                    yield self._make('function', node_text(name), node)
            elif node.type in ('preproc_def', 'preproc_function_def'):
                yield self._make('macro', node_text(node.child_by_field_name('name')), node)
            elif node.type == 'type_definition':
                for declarator in node.children_by_field_name('declarator'):
                    name = declared_name(declarator)
                    if name is not None:
                        yield self._make('typedef', node_text(name), node)
            elif node.type in SPECIFIERS:
                yield from self._tagged(node)
            elif node.type == 'declaration':
                base = node.child_by_field_name('type')
                if base is not None and base.type in SPECIFIERS:
                    yield from self._tagged(base)
                yield from self._prototypes(node)

    def _tagged(self, node: Node) -> Iterator[Definition]:
        body = node.child_by_field_name('body')
        if body is None:
            return
        name = node_text(node.child_by_field_name('name'))
        kind = SPECIFIERS[node.type]
        if not name and kind == 'enum':
            first = next(walk(body, 'enumerator'), None)
            name = node_text(first.child_by_field_name('name')) if first else ''
        if name:
            yield self._make(kind, name, node)  # type: ignore[arg-type]  # SPECIFIERS holds kinds

    def _prototypes(self, node: Node) -> Iterator[Definition]:
        for declarator in node.children_by_field_name('declarator'):
            inner: Node | None = declarator
            while inner is not None and inner.type == 'pointer_declarator':
                inner = inner.child_by_field_name('declarator')
            if inner is not None and inner.type == 'function_declarator':
                name = declared_name(inner)
                if name is not None and inner.child_by_field_name('declarator') == name:
                    yield self._make('prototype', node_text(name), node)

    def _functions(self) -> Iterator[Function]:
        for node in walk(self.root, 'function_definition'):
            name = declared_name(node.child_by_field_name('declarator'))
            body = node.child_by_field_name('body')
            if name is None or body is None:
                continue
            yield Function(
                node_text(name),
                node,
                body,
                line_of(node),
                node.end_point.row + 1,
                not node.has_error,
                self._guards,
            )


def _tree(text: bytes) -> Tree | None:
    """Parse a text in as many steps as one of its length may take; None if that is not enough."""
    left = STEPS + STEPS_PER_BYTE * len(text)
    view = memoryview(text)

    def stop(_offset: int, _error: bool) -> bool:
        nonlocal left
        left -= 1
        return left < 0

    parser = Parser(C)
    try:
        counted = parser.parse(lambda offset, _: view[offset:], progress_callback=stop)
    except ValueError:  # what it says when it was stopped
        return None
    # Steps are counted only where the text is read by a callback, and a tree of such a text does
    # not know it (`Node.text` crashes): made again from the first one, which takes no time.
    return parser.parse(text, counted)


@lru_cache(maxsize=512)
def parse(text: bytes) -> Source:
    """Parse C text (once; the same bytes give the same `Source`)."""
    return Source(text)


@lru_cache(maxsize=64)
def _query(pattern: str) -> Query:
    return Query(C, pattern)


text_of = node_text
