"""
Each const that a member of struct vm_area_desc has, or could have, is taken away.

Linux 7.2 and 7.3 have but one const left in it, so the base is given the
others first, in the kernel's header and in the copy. Each goes with its copy
and without it, alone and with others, with a reason in the message and without.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from bot.csyntax import Member, parse
from bot.model import Snapshot
from bot.rule import Edit
from rules._copies import COPIES
from tests.evaluate.planting import Plant, text

HEADER = 'include/linux/mm_types.h'
STRUCT = 'vm_area_desc'
SILENT = 'mm: prepare for stacked hooks\n\nThe next patch wants this.'
SPEAKS = 'mm: drop const of a descriptor\n\nIt gets assigned to, so const has to go.'
DOCUMENT = ('struct-doc-stale',)


def plants(tree: Snapshot) -> Iterator[Plant]:
    texts = {path: text(tree, path) for path in (HEADER, COPIES)}
    found = {path: parse(whole.encode('latin-1')).members(STRUCT) for path, whole in texts.items()}
    if not all(found.values()):
        return
    names = [member.name for member in found[HEADER]]
    for member in found[HEADER]:
        for where in ('behind', 'before') if member.pointer else ('before',):
            strict = {path: _with(texts[path], found[path], {member.name}, where) for path in texts}
            loose = {path: _without(texts[path], found[path], {member.name}) for path in texts}
            before = {path: strict[path] for path in texts if strict[path] != texts[path]}
            for message in (SILENT, SPEAKS):
                for copied in (True, False):
                    files = {HEADER: loose[HEADER]} | ({COPIES: loose[COPIES]} if copied else {})
                    says = 'says so' if message is SPEAKS else 'says nothing'
                    with_ = 'with' if copied else 'without'
                    yield Plant(
                        f'{member.name}, const {where} it, {with_} its copy, {says}',
                        (Edit(files, message),),
                        HEADER,
                        before,
                        DOCUMENT,
                    )
    strict = {path: _with(texts[path], found[path], set(names), 'before') for path in texts}
    for first, second in pairwise(names):
        files = {path: _without(strict[path], found[path], {first, second}) for path in texts}
        yield Plant(f'{first} and {second}', (Edit(files, SILENT),), HEADER, strict, DOCUMENT)
        one = Edit({path: _without(strict[path], found[path], {first}) for path in texts}, SPEAKS)
        two = Edit(files, SILENT)
        yield Plant(f'{first}, then {second}', (one, two), HEADER, strict, DOCUMENT)


def _lines(whole: str, members: tuple[Member, ...], names: set[str]) -> Iterator[tuple[int, str]]:
    lines = whole.split('\n')
    for member in members:
        if member.name in names:
            yield member.line - 1, lines[member.line - 1]


def _with(whole: str, members: tuple[Member, ...], names: set[str], where: str) -> str:
    """Give members a const, before the type or behind the `*`."""
    lines = whole.split('\n')
    for at, line in _lines(whole, members, names):
        bare = _bare(line)
        if where == 'behind':
            lines[at] = re.sub(r'\*\s*', '*const ', bare, count=1)
        else:
            lines[at] = re.sub(r'^\s*', lambda found: f'{found[0]}const ', bare, count=1)
    return '\n'.join(lines)


def _without(whole: str, members: tuple[Member, ...], names: set[str]) -> str:
    lines = whole.split('\n')
    for at, line in _lines(whole, members, names):
        lines[at] = _bare(line)
    return '\n'.join(lines)


def _bare(line: str) -> str:
    return re.sub(r'\bconst\s+', '', line)
