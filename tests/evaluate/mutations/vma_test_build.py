"""
Changes that the VMA tests do not survive, each built and run for real.

The code that they include calls what they have no stub for, no longer
compiles, or does something else than they expect; the tests themselves lose a
stub, or assert what is not so; the middle patch of three breaks, the last mends.
"""

import re
from collections.abc import Iterator

from bot.csyntax import parse
from bot.model import Snapshot
from bot.rule import Edit
from tests.evaluate.planting import Plant, text

VMA, VMA_H, UTIL = 'mm/vma.c', 'mm/vma.h', 'mm/util.c'
TESTS = 'tools/testing/vma'
STUBS, MERGE, MAKE = f'{TESTS}/include/stubs.h', f'{TESTS}/tests/merge.c', f'{TESTS}/Makefile'
HELPER = '\nvoid vma_planted(struct vm_area_struct *vma)\n{\n\tvma_start_write(vma);\n}\n'
PROTOTYPE = '\nvoid vma_planted(struct vm_area_struct *vma);\n'
# Found by these too: the stub, the copy or its original are left behind as well.
ALSO = ('vma-test-copy', 'vma-test-drift', 'vma-stub-signature', 'vma-test-macro', 'vm-ops-null')


def plants(tree: Snapshot) -> Iterator[Plant]:
    vma, stubs = text(tree, VMA), text(tree, STUBS)
    callee = _into(vma, 'vma_merge_new_range', '\tvma_planted(vmg->middle);\n')
    declared = _before_last(text(tree, VMA_H), '#endif', PROTOTYPE)
    yield _plant('a callee without a stub', {VMA: callee, UTIL: text(tree, UTIL) + HELPER,
                                             VMA_H: declared}, VMA)  # fmt: skip
    broken = _into(vma, 'vma_merge_new_range', '\tint planted = ;\n')
    yield _plant('a syntax error', {VMA: broken}, VMA)
    no_type = _into(vma, 'vma_merge_existing_range', '\tstruct vma_planted planted = { .x = 1 };\n')
    yield _plant('an unknown type', {VMA: no_type}, VMA)
    member = _into(vma, '__split_vma', '\tvma->vm_planted = 1;\n')
    yield _plant('a member that the copy lacks', {VMA: member}, VMA)
    never = _into(vma, 'vma_merge_new_range', '\tif (vmg->start)\n\t\treturn NULL;\n')
    yield _plant('never merges', {VMA: never}, None)
    unused = _into(vma, 'vma_merge_new_range', '\tunsigned long planted = vmg->start;\n')
    yield _plant('an unused variable', {VMA: unused}, VMA)
    gone = re.sub(r'\bvma_adjust_trans_huge\b', 'vma_adjust_trans_huge_planted', stubs)
    yield _plant('a stub is renamed', {STUBS: gone}, None)
    merge = re.sub(r'ASSERT_EQ\((\w+->vm_start), ', r'ASSERT_NE(\1, ', text(tree, MERGE), count=1)
    yield _plant('an assertion is turned round', {MERGE: merge}, MERGE)
    make = text(tree, MAKE) + '\nCFLAGS += -DPLANTED -O0\nCFLAGS := $(filter-out -Wall,$(CFLAGS))\n'
    yield _plant('other flags', {MAKE: make}, MAKE)
    comment = Edit({VMA: vma + '\n/* The end. */\n'}, 'mm/vma: end\n\nIn words.')
    break_ = Edit({VMA: broken + '\n/* The end. */\n'}, 'mm/vma: break\n\nNot meant.')
    mend = Edit({VMA: vma + '\n/* The end. */\n'}, 'mm/vma: mend\n\nMeant.')
    yield Plant('only in the middle', (comment, break_, mend), VMA, also=ALSO, built=True)


def _plant(name: str, files: dict[str, str], path: str | None) -> Plant:
    edit = Edit(dict(files), f'mm/vma: {name}\n\nFor a reason.')
    return Plant(name, (edit,), path, also=ALSO, built=True)


def _into(whole: str, function: str, line: str) -> str:
    """Put a line after the declarations of a function's body."""
    body = parse(whole.encode('latin-1')).functions[function].body
    last = 0
    for child in body.named_children:
        if child.type not in ('declaration', 'comment'):
            break
        last = child.end_point.row
    lines = whole.split('\n')
    return '\n'.join([*lines[: last + 1], line.rstrip('\n'), *lines[last + 1 :]])


def _before_last(whole: str, word: str, new: str) -> str:
    at = whole.rindex(word)
    return whole[:at] + new.lstrip('\n') + '\n' + whole[at:]
