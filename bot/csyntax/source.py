"""One parsed file."""

import re
from collections.abc import Iterator
from functools import cached_property, lru_cache

import tree_sitter_c
from tree_sitter import Language, Node, Parser, Query, QueryCursor

from bot.csyntax.mask import mask
from bot.csyntax.syntax import (
    Definition,
    Function,
    Kind,
    Member,
    declared_name,
    line_of,
    members,
    node_text,
    tokens,
    variables,
    walk,
)

C = Language(tree_sitter_c.language())
CONDITION = re.compile(
    rb'^[ \t]*#[ \t]*(if|ifdef|ifndef|elif|else|endif)\b((?:[^\n\\]|\\\n|\\.)*)', re.M
)
# Possessive, so that a comment is never tried as reaching to the end of a later one.
GUARD = re.compile(
    rb'\A(?>\s+|/\*.*?\*/|//[^\n]*\n)*+#\s*ifndef\s+(\w+)\s*\n\s*#\s*define\s+\1\b', re.S
)
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
    """A file's text and syntax tree. Positions are those of the text."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._masked, self._guards = mask(text)
        self.root = Parser(C).parse(self._masked).root_node

    @property
    def clean(self) -> bool:
        """Whether all of it was understood."""
        return not self.root.has_error

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
        yield from QueryCursor(_query(pattern)).captures(self.root).get('hit', [])

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
            changes.append((line, tuple(entry for entry in stack if entry)))
        return changes

    def context(self, line: int) -> tuple[str, ...]:
        """Return the `#if` conditions that a line stands under."""
        found: tuple[str, ...] = ()
        for start, conditions in self._conditions:
            if start > line:
                break
            found = conditions
        return found

    def _make(self, kind: Kind, name: str, node: Node, *, last: Node | None = None) -> Definition:
        end = last or node
        text = self.text[node.start_byte : end.end_byte]
        # A macro's node ends behind its line break.
        line_end = end.end_point.row + (0 if end.end_point.column == 0 else 1)
        return Definition(
            kind, name, self.context(line_of(node)), tokens(text), line_of(node), line_end
        )

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
                tuple(variables(node)),
                self._guards,
            )


@lru_cache(maxsize=512)
def parse(text: bytes) -> Source:
    """Parse C text (once; the same bytes give the same `Source`)."""
    return Source(text)


@lru_cache(maxsize=64)
def _query(pattern: str) -> Query:
    return Query(C, pattern)


text_of = node_text
