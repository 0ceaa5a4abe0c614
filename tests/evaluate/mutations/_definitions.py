"""Small changes of a definition that the VMA tests copy, by kind."""

import re
from collections.abc import Iterator

from bot.csyntax import Definition
from bot.model import Snapshot
from rules import _copies as copies
from tests.evaluate.planting import text

# What was found in a tree; the tree is kept, so that its id stays its own.
_KNOWN: dict[int, tuple[Snapshot, list[tuple[Definition, str, Definition]]]] = {}


def copied(tree: Snapshot) -> list[tuple[Definition, str, Definition]]:
    """Return (copy, path, original) of all that the copies have as the kernel has it."""
    known = _KNOWN.get(id(tree))
    if known is None:
        known = _KNOWN[id(tree)] = (tree, _copied(tree))
    return known[1]


def _copied(tree: Snapshot) -> list[tuple[Definition, str, Definition]]:
    found = copies.definitions(tree.read(copies.COPIES))
    originals = copies.originals(tree, {copies.key(copy) for copy in found})
    return [
        (copy, *next(one for one in originals[copies.key(copy)] if one[1].tokens == copy.tokens))
        for copy in found
        if copies.same(copy, [definition for _, definition in originals[copies.key(copy)]])
    ]


def changed(whole: str, definition: Definition, n: int = 0) -> Iterator[tuple[str, str]]:
    """Yield (how, the file's new text) for one change of a definition, another for every `n`."""
    lines = whole.split('\n')
    old = '\n'.join(lines[definition.start - 1 : definition.end])
    ways = list(_ways(definition, old))
    if ways:
        how, new = ways[n % len(ways)]
        yield how, '\n'.join([*lines[: definition.start - 1], new, *lines[definition.end :]])


def _ways(definition: Definition, old: str) -> Iterator[tuple[str, str]]:
    code = re.sub(r'/\*.*?\*/', lambda found: re.sub(r'[^\n]', ' ', found[0]), old, flags=re.S)
    if definition.kind == 'function':
        yield from _of_function(old, code)
    elif definition.kind == 'macro':
        yield from _of_macro(old, code)
    elif definition.kind in ('struct', 'union'):
        last = code.rindex('}')
        yield 'a new member', f'{old[:last]}\tunsigned long planted;\n{old[last:]}'
        if (found := re.search(r'^(\t+)(unsigned long|int|pgoff_t)\b', code, re.M)) is not None:
            yield 'another type', f'{old[: found.start(2)]}short{old[found.end(2) :]}'
    elif definition.kind == 'enum':
        last = len(code[: code.rindex('}')].rstrip())
        comma = '' if code[last - 1] == ',' else ','
        yield 'a new last value', f'{old[:last]}{comma}\n\tPLANTED,{old[last:]}'
    elif definition.kind == 'typedef':
        yield 'another type', old.replace('typedef ', 'typedef const ', 1)


def _of_function(old: str, code: str) -> Iterator[tuple[str, str]]:
    body = code.index('{')
    swaps = (' && ', ' || '), (' == ', ' != '), (' >= ', ' > '), (' + ', ' - '), (' & ', ' | ')
    for one, two in swaps:
        at = code.find(one, body)
        if at >= 0:
            yield f'{one.strip()} becomes {two.strip()}', old[:at] + two + old[at + len(one) :]
    found = re.search(r'^\t+return\b', code[body:], re.M)
    if found is not None:
        at = body + found.start()
        yield 'a new check', f'{old[:at]}\tif (!planted_allows())\n\t\tBUILD_BUG();\n{old[at:]}'
    found = re.search(r'^\t+\w[\w>.-]* = [^;{]*;\n', code[body:], re.M)
    if found is not None:
        at = body + found.start()
        yield 'an assignment twice', old[:at] + found[0] + old[at:]
    last = code.rindex('}')
    yield 'a call at the end', f'{old[:last]}\tplanted_end();\n{old[last:]}'


def _of_macro(old: str, code: str) -> Iterator[tuple[str, str]]:
    found = re.match(r'#\s*define\s+\w+(?:\([^)]*\))?', code)
    if found is None:
        return
    at, end = found.end(), len(code.rstrip())
    if not code[at:].strip():
        yield 'a value', f'{old[:at]} 1'
        return
    first = re.compile(r'\S').search(code, at)
    assert first is not None
    start = first.start()
    yield 'plus one', f'{old[:start]}(1 + {old[start:end]}){old[end:]}'
    number = re.search(r'\b(?:0x[0-9a-fA-F]+|\d+)\b', code[at:])
    if number is not None:
        value, place = number[0], at + number.start()
        yield 'another number', f'{old[:place]}{value}7{old[place + len(value) :]}'
    yield 'negated', f'{old[:start]}~({old[start:end]}){old[end:]}'


def removed(whole: str, definition: Definition) -> str:
    """Return the file without a definition."""
    lines = whole.split('\n')
    return '\n'.join([*lines[: definition.start - 1], *lines[definition.end :]])


def text_of(tree: Snapshot, path: str, definition: Definition) -> str:
    """Return a definition's text."""
    return '\n'.join(text(tree, path).split('\n')[definition.start - 1 : definition.end])
