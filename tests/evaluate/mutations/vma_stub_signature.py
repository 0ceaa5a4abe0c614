"""
Prototypes and definitions that the VMA tests stub, each given another signature.

Every function of stubs.h and custom.h whose signature is the same as the
kernel's (a prototype or a definition in a header, or in mm/) is changed at all
places of one of its files at once: a parameter more, a parameter less, another
return type, in turn. Stubs whose original is a macro, or lies in no header,
are left out.
"""

import re
from collections.abc import Iterator, Mapping

from bot.csyntax import Definition, parse
from bot.model import Snapshot
from bot.rule import Edit
from rules import _copies as copies
from rules.vma_stub_signature import signature_of
from tests.evaluate.planting import Plant, text

MOST = 60


def plants(tree: Snapshot) -> Iterator[Plant]:
    """One a stub, as far as the kernel's signature is the same."""
    stubs = {
        found.name: signature_of(found)
        for path in (copies.STUBS, copies.CUSTOM)
        for found in parse(text(tree, path).encode('latin-1')).definitions
        if found.kind == 'function'
    }
    for count, (path, name, found) in enumerate(_originals(tree, stubs)):
        if count == MOST:
            return
        source = text(tree, path)
        changed = source
        for one in sorted(found, key=lambda one: -one.start):
            changed = _changed(changed, one, count % 3)
        how = ('one parameter more', 'one parameter less', 'returns something else')[count % 3]
        if changed != source:
            message = f'mm: change {name}\n\n{name}() now has {how}.'
            yield Plant(
                f'{path}: {name}(): {how}',
                (Edit({path: changed}, message),),
                path,
                also=('vma-test-drift', 'vma-test-build'),
            )


def _originals(
    tree: Snapshot, stubs: Mapping[str, object]
) -> Iterator[tuple[str, str, list[Definition]]]:
    """Yield the files that declare a stubbed function just as the stub does."""
    left = dict(stubs)
    for path in copies.core(tree):
        if not path.startswith(('include/', 'mm/')):
            continue
        source = text(tree, path)
        named = {name for name in left if name in source}
        if not named:
            continue
        declared: dict[str, list[Definition]] = {}
        for one in parse(source.encode('latin-1')).definitions:
            if one.name in named and one.kind in ('function', 'prototype'):
                declared.setdefault(one.name, []).append(one)
        for name, found in declared.items():
            if left[name] and all(signature_of(one) == left[name] for one in found):
                del left[name]
                yield path, name, found


def _changed(source: str, one: Definition, how: int) -> str:
    """Change the signature of the definition, and nothing else of the text."""
    lines = source.split('\n')
    before, rest = '\n'.join(lines[: one.start - 1]), '\n'.join(lines[one.start - 1 :])
    name = re.search(rf'\b{one.name}\s*\(', rest)
    if name is None:
        return source
    end, depth = name.end(), 1
    while depth:
        depth += {'(': 1, ')': -1}.get(rest[end], 0)
        end += 1
    head, taken, tail = rest[: name.end()], rest[name.end() : end - 1], rest[end - 1 :]
    if how == 0 or (how == 1 and taken.strip() == 'void'):
        taken = 'bool force' if taken.strip() == 'void' else f'{taken}, bool force'
    elif how == 1:
        taken = taken.rpartition(',')[0] or 'void'
    else:
        returns = re.search(r'\b(void|bool|int|unsigned long|struct \w+ \*)(?=\s*\b|\*)', head)
        if returns is None:
            return source
        other = 'int' if returns[1] != 'int' else 'long'
        head = (
            head[: returns.start()] + other + ' ' * returns[1].endswith('*') + head[returns.end() :]
        )
    return f'{before}\n{head}{taken}{tail}' if before else f'{head}{taken}{tail}'
