"""
A new mmap_action_type that some switch over the actions does not know.

The enumerator goes to the beginning, the middle or the end of the real enum, with
its copy for the tests or without. All switches but one know it, or only
one does; or the enum grows in one patch and the switches in the next. A switch
that is written anew, in a header, and one without a return behind it, too. And
from functions that switch over the actions what they return at their end is
taken away.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bot.csyntax import parse, text_of
from bot.csyntax.syntax import walk
from bot.model import Snapshot
from bot.rule import Edit
from tests.evaluate.planting import Plant, text

TYPES, UTIL = 'include/linux/mm_types.h', 'mm/util.c'
COPIES, INTERNAL = 'tools/testing/vma/include/dup.h', 'mm/internal.h'
ENUM = re.compile(r'enum mmap_action_type \{\n(.*?)\n\};', re.S)
NEW = 'MMAP_PLANTED'
DRIFT = ('vma-test-drift',)


@dataclass(frozen=True)
class Place:
    """A switch over the actions: its function, where its last case and the function end."""

    function: str
    last: int
    end: int


def plants(tree: Snapshot) -> Iterator[Plant]:
    types, copies, util = (text(tree, path) for path in (TYPES, COPIES, UTIL))
    found = ENUM.search(types)
    if found is None:
        return
    names = re.findall(r'\bMMAP_\w+', re.sub(r'/\*.*?\*/', '', found[1]))
    places = list(_places(util, names))
    for at in ('first', 'second', 'last'):
        for copied in (True, False):
            files = {TYPES: _grown(types, at)} | ({COPIES: _grown(copies, at)} if copied else {})
            also = () if copied else DRIFT
            how = f'{at}, {"with" if copied else "without"} its copy'
            yield Plant(f'{how}: no switch knows it', (Edit(files),), TYPES, also=also)
            for n, place in enumerate(places):
                others = _known(util, [one for one in places if one != place])
                name = f'{how}: all but the switch {n} in {place.function}() know it'
                yield Plant(name, (Edit({**files, UTIL: others}),), TYPES, also=also)
                if copied:
                    edits = (Edit(files), Edit({UTIL: _known(util, [place])}))
                    name = f'{how}, then one patch on: only the switch {n} knows it'
                    yield Plant(name, edits, TYPES, also=also)
    grown = {TYPES: _grown(types, 'last'), COPIES: _grown(copies, 'last')}
    whole = Edit({**grown, UTIL: _known(util, places)})
    header = text(tree, INTERNAL)
    for returned in ('\treturn NULL;\n', ''):
        files = {INTERNAL: _named(header, names, returned)}
        name = f'a new switch, {"with" if returned else "without"} a return behind it'
        yield Plant(name, (whole, Edit(files)), TYPES)
    for n, place in enumerate(places):
        start = util.rindex('\treturn', place.last, place.end)
        without = util[:start] + util[util.index('\n', start) + 1 :]
        name = f'no return at the end of the switch {n} in {place.function}()'
        yield Plant(name, (Edit({UTIL: without}),), UTIL)


def _places(util: str, names: list[str]) -> Iterator[Place]:
    for function in parse(util.encode('latin-1')).all_functions:
        for switch in walk(function.body, 'switch_statement'):
            cases = [
                one
                for one in walk(switch, 'case_statement')
                if text_of(one.child_by_field_name('value')) in names
            ]
            if cases:
                yield Place(function.name, cases[-1].start_byte, function.body.end_byte)


def _grown(whole: str, at: str) -> str:
    """Give the enum the new action."""
    found = ENUM.search(whole)
    assert found is not None
    lines = found[1].split('\n')
    lines.insert({'first': 0, 'second': 1}.get(at, len(lines)), f'\t{NEW},\t\t/* Planted. */')
    return whole[: found.start(1)] + '\n'.join(lines) + whole[found.end(1) :]


def _known(util: str, places: list[Place]) -> str:
    """Give the switches a case for it, beside their last one."""
    for place in sorted(places, key=lambda one: one.last, reverse=True):
        util = f'{util[: place.last]}case {NEW}:\n\t{util[place.last :]}'
    return util


def _named(header: str, names: list[str], returned: str) -> str:
    cases = ''.join(f'\tcase {name}:\n\t\treturn "{name}";\n' for name in names)
    function = (
        'static inline const char *mmap_action_name(const struct mmap_action *action)\n'
        f'{{\n\tswitch (action->type) {{\n{cases}\t}}\n{returned}}}\n\n'
    )
    end = header.rindex('#endif')
    return header[:end] + function + header[end:]
