"""
The two helpers of the round trip are made to disagree, a field at a time.

The first helper no longer loads a field: its line is gone, is only compared,
goes to another field, or stands in a comment. Or the second writes back one
more, that is new in the struct. Where the kernel has the mistake already, the
base is mended first. The tests' copy of the first follows, so that it does not drift.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial

from bot.model import Snapshot
from bot.rule import Edit
from rules.desc_round_trip import HOMES, LOAD, STORE
from tests.evaluate.planting import Plant, text

COPIES, TYPES = 'tools/testing/vma/include/dup.h', 'include/linux/mm_types.h'
ASSIGNED = r'^\t{d}->({f}) = ([^;]*);\n'
ALSO = ('vma-test-drift', 'vma-test-copy', 'vma-test-build', 'struct-doc-stale')


def plants(tree: Snapshot) -> Iterator[Plant]:
    load = next((path for path in HOMES if _span(text(tree, path), LOAD)), None)
    store = next((path for path in HOMES if _span(text(tree, path), STORE)), None)
    if load is None or store is None:
        return
    fields = list(dict.fromkeys(re.findall(r'= desc->(\w+);', _body(text(tree, store), STORE))))
    for field in (*fields, 'vm_file'):
        line = ASSIGNED.format(d='desc', f=field)
        if not re.search(line, _body(text(tree, load), LOAD), re.M):
            continue
        for how, new in (
            ('not loaded', ''),
            ('only compared', r'\tWARN_ON_ONCE(desc->\1 != \2);\n'),
            ('in another field', r'\tdesc->action.error_override = (long)\2;\n'),
            ('in a comment', r'\t/* desc->\1 = \2; */\n'),
            ('under a name of its own', r'\tvoid *\1 = (void *)\2;\n'),
        ):
            files = {
                path: _with(text(tree, path), LOAD, partial(re.sub, line, new, flags=re.M))
                for path in (load, COPIES)
                if re.search(line, _body(text(tree, path), LOAD), re.M)
            }
            edit = Edit({**files}, f'mm: load less\n\nNobody needs {field}.')
            yield Plant(f'{field} is {how}', (edit,), load, also=ALSO)
    yield from _mended(tree, load, fields)
    yield from _more(tree, store)


def _mended(tree: Snapshot, load: str, fields: list[str]) -> Iterator[Plant]:
    """What is not loaded in this kernel is, in the base; the patch takes that out."""
    last = re.compile(r'^\tdesc->page_prot = [^;]*;\n', re.M)
    for field in fields:
        if f'desc->{field} = ' in _body(text(tree, load), LOAD):
            continue
        loaded = rf'\g<0>\tdesc->{field} = vma->vm_{field};\n'
        whole = {path: text(tree, path) for path in (load, COPIES)}
        before = {path: _with(old, LOAD, partial(last.sub, loaded)) for path, old in whole.items()}
        edit = Edit({**whole}, f'mm: load less\n\nNobody needs {field}.')
        yield Plant(f'{field} was loaded', (edit,), load, before, also=ALSO)


def _more(tree: Snapshot, store: str) -> Iterator[Plant]:
    """The second helper writes back what the first does not load, in one patch or in two."""
    back = re.compile(r'^\tvma->vm_ops = desc->vm_ops;\n', re.M)
    whole = text(tree, store)
    if not back.search(_body(whole, STORE)):
        return
    member = '\tunsigned long planted;\n'
    added = re.sub(
        r'(struct vm_area_desc \{\n(?:.*\n)*?)(\n?\t/\* Take further)', rf'\1{member}\2',
        text(tree, TYPES), count=1,
    )  # fmt: skip
    for name in ('planted', 'planted_flags', 'seal'):
        struct = Edit({TYPES: added.replace(member, member.replace('planted', name))})
        stored = _with(
            whole, STORE,
            partial(back.sub, rf'\g<0>\tvma->vm_{name} = desc->{name};\n'),
        )  # fmt: skip
        both = Edit({**struct.files, store: stored}, f'mm: carry {name}\n\nAcross the hook.')
        yield Plant(f'{name} is new, and written back', (both,), store, also=ALSO)
        second = Edit({store: stored}, f'mm: write {name} back\n\nAcross the hook.')
        yield Plant(f'{name} is written back a patch later', (struct, second), store, also=ALSO)
    setter = (
        'static void vma_set_more(struct vm_area_struct *vma, unsigned long more)\n'
        '{\n\tvma->vm_planted = more;\n}\n\n'
    )
    call = partial(back.sub, r'\g<0>\tvma_set_more(vma, desc->planted);\n')
    handed = _with(whole, STORE, lambda function: setter + call(function))
    yield Plant('a setter gets it', (Edit({TYPES: added, store: handed}),), store, also=ALSO)


def _span(whole: str, function: str) -> tuple[int, int] | None:
    found = re.search(rf'^(?:\w[^\n;]*)?\b{function}\([^;{{]*\)\n\{{', whole, re.M)
    return (found.start(), whole.index('\n}\n', found.end()) + 3) if found else None


def _body(whole: str, function: str) -> str:
    span = _span(whole, function)
    return whole[slice(*span)] if span else ''


def _with(whole: str, function: str, edit: Callable[[str], str]) -> str:
    span = _span(whole, function)
    if span is None:
        return whole
    return whole[: span[0]] + edit(whole[slice(*span)]) + whole[span[1] :]
