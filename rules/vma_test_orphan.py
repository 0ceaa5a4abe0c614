"""
A copy in the VMA tests keeps or gains a name that the kernel does not have.

tools/testing/vma stands in for the kernel's headers with copies
(include/dup.h) and no-ops (include/stubs.h). When the kernel drops or renames
a definition, its copy no longer stands for anything: mm/vma.c can't call it,
and who reads the tests is misled. The same goes for a copy that is added under
a name that is not the kernel's. Linux 7.2 has some of both, VMA_LOCK_OFFSET
and VM_STARTGAP_FLAGS for two.

Reported is a copy of a definition that the patch takes out of the kernel, or a
copy that the patch adds, whose name stands nowhere in the kernel's code at the
end of the series, comments left out: looked through are the files of the
series, mm/ and include/linux, and for what is added also the core's other code
and headers. A note, as nothing breaks. Silent about names under a comment that
says that they are there for testing, about what moves within the tests, about
custom.h, which is for what only the tests have, about a copy that a later
patch drops, and about one whose original comes later (vma-test-order).
"""

import itertools
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from bot.csyntax import Definition, parse
from bot.model import Evidence, FileDiff, Hit, Severity, Snapshot, Step, Subject
from bot.rule import Case, Edit, Rule, named
from rules import _copies as copies

PLACES = (copies.COPIES, copies.STUBS)
# Whose definitions the tests copy. An architecture's own going says nothing of them.
KERNEL = ('mm/', 'include/linux/')
OURS = re.compile(
    rb'\btesting\b|\btests?[ -]only\b|\b(?:by|in|for|only) (?:the )?(?:VMA |userland )?tests?\b',
    re.I,
)
# More names at once are a new arrangement of the tests, not a slip.
MOST, SHOWN = 100, 5
# A definition begins in the first column, or ends there: `} name;`.
FIRST_COLUMN = re.compile(rb'[A-Za-z_#}]')
# An enum without a name is known by its first value.
VALUE = re.compile(rb'\s+(\w+)')
COMMENT = re.compile(rb'/\*(?:.*?\*/|.*)|//[^\n]*', re.S)


@dataclass(frozen=True)
class _Copy:
    """A copy as it is at the end of the series."""

    path: str
    definition: Definition


def check(subject: Subject) -> Iterator[Hit]:
    if not subject.steps:
        return
    last = subject.steps[-1].post
    stay = _copies_of(last)
    kept = {name: found for step in subject.steps for name, found in _taken_out(step, stay)}
    gained = {name: found for step in subject.steps for name, found in _added(step, stay)}
    if not 0 < len(kept) + len(gained) <= MOST:
        return
    touched = {diff.path for step in subject.steps for diff in step.files}
    mine = [path for path in sorted(touched) if copies.is_kernel_code(path)]
    # A name that is taken out can have gone only where the series adds it.
    orphans = set(kept) - copies.in_code(last, kept, itertools.chain(mine, copies.nearest(last)))
    orphans |= set(gained) - copies.in_code(last, gained, itertools.chain(mine, copies.core(last)))
    orphans -= {name for name in orphans if _said(last, stay[name])}
    for name in sorted(orphans & set(kept) - set(gained)):
        step, path, number = kept[name]
        copy = stay[name]
        at, shown = copy.definition.start, copies.shown(copy.definition)
        yield Hit(
            step.n, path, number, f'{shown} goes here, its copy in {named(copy.path)} stays',
            'Can the copy go too?', side='old', symbol=name,
            evidence=(Evidence(copy.path, at, parse(last.read(copy.path) or b'').line(at)),),
        )  # fmt: skip
    together: dict[tuple[int, str], list[tuple[int, str]]] = {}
    for name in orphans & set(gained):
        step, number = gained[name]
        together.setdefault((step.n, stay[name].path), []).append((number, name))
    for (n, path), added in sorted(together.items()):
        names = [name for _, name in sorted(added)]
        shown = ', '.join(copies.shown(stay[name].definition) for name in names[:SHOWN])
        shown += f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
        many = len(names) > 1
        yield Hit(
            n, path, min(added)[0],
            f'adds {shown}, {"names" if many else "a name"} that the kernel does not have',
            f'{"Are the names" if many else "Is the name"} right? What only the tests have belongs '
            'into custom.h.',
            symbol=', '.join(names),
        )  # fmt: skip


def _copies_of(tree: Snapshot) -> dict[str, _Copy]:
    found: dict[str, _Copy] = {}
    for path in PLACES:
        for definition in copies.definitions(tree.read(path)):
            found.setdefault(definition.name, _Copy(path, definition))
    return found


def _taken_out(step: Step, stay: dict[str, _Copy]) -> Iterator[tuple[str, tuple[Step, str, int]]]:
    """Yield the copied names that a file of the kernel no longer defines, and where it did."""
    values = {name.encode() for name, copy in stay.items() if copy.definition.kind == 'enum'}
    for diff in step.files:
        path = diff.old_path
        if path is None or not path.startswith(KERNEL) or not path.endswith(('.c', '.h')):
            continue
        lines = {
            number: set(copies.WORD.findall(line))
            for number, line in diff.removed
            if FIRST_COLUMN.match(line)
            or ((value := VALUE.match(line)) is not None and value[1] in values)
        }
        removed = {word.decode() for words in lines.values() for word in words}
        if removed.isdisjoint(stay):
            continue
        defined = _defined(step.pre.read(path), removed & set(stay))
        left = _defined(step.post.read(diff.new_path) if diff.new_path else None, set(defined))
        for name, definition in defined.items():
            named = (n for n, words in lines.items() if name.encode() in words)
            inside = (n for n in named if definition.start <= n <= definition.end)
            number = next(inside, None)
            if name not in left and number is not None:
                yield name, (step, path, number)


def _defined(text: bytes | None, names: Collection[str]) -> dict[str, Definition]:
    if text is None or not any(name.encode() in text for name in names):
        return {}
    return {found.name: found for found in parse(text).definitions if found.name in names}


def _added(step: Step, stay: dict[str, _Copy]) -> Iterator[tuple[str, tuple[Step, int]]]:
    """Yield the names that a patch adds to the copies, and where; not those that it moves there."""
    diffs = [diff for path in PLACES if (diff := step.file(path)) is not None]
    if not diffs:
        return
    before = copies.names_in_tests(step.pre)
    for diff in diffs:
        yield from (found for found in _new(step, diff, stay) if found[0] not in before)


def _new(
    step: Step, diff: FileDiff, stay: dict[str, _Copy]
) -> Iterator[tuple[str, tuple[Step, int]]]:
    path = diff.new_path
    if path is None:
        return
    added = {number for number, _ in diff.added}
    for definition in copies.definitions(step.post.read(path)):
        copy = stay.get(definition.name)
        lines = range(definition.start, definition.end + 1)
        number = next((line for line in lines if line in added), None)
        if copy is not None and copy.path == path and number is not None:
            yield definition.name, (step, number)


def _said(tree: Snapshot, copy: _Copy) -> bool:
    """Whether a comment in the definition, or above it without a gap, speaks of testing."""
    lines = parse(tree.read(copy.path) or b'').lines
    start = copy.definition.start - 1
    while start > 0 and lines[start - 1].strip():
        start -= 1
    text = b'\n'.join(lines[start : copy.definition.end])
    return any(OURS.search(comment) for comment in COMMENT.findall(text))


UTIL, HEADER, OTHER = 'mm/util.c', 'include/linux/mm.h', 'mm/other.c'
SPAN = 'int span(struct range *r)\n{\n\treturn r->end - r->start;\n}\n'
COPY = 'static inline ' + SPAN
LENGTH = SPAN.replace('span', 'length')
KEEP = 'int keep;\n'
FLAG, FLAGS = '#define R_OLD 1\n', '#define R_OLD 1\n#define R_NEW 2\n'
LIMIT = 'enum {\n\tR_LIMIT = 16,\n};\n'
DECLARED = 'int span(struct range *r);\n'
STUB = 'static inline int span(struct range *r)\n{\n\treturn 0;\n}\n'

RULE = Rule(
    id='vma-test-orphan',
    severity=Severity.NOTE,
    check=check,
    bad=(
        # Removed, and renamed with all that calls it; a comment that still speaks of it is no use.
        Case({UTIL: KEEP + SPAN, copies.COPIES: COPY}, (Edit({UTIL: KEEP}),), expect=(1,)),
        Case(
            {UTIL: SPAN, OTHER: 'int f(void) { return span(0); }\n', copies.COPIES: COPY},
            (Edit({UTIL: '/* was span() */\n' + LENGTH}), Edit({OTHER: KEEP})),
            expect=(1,),
        ),
        # Moved by one patch, removed by the next.
        Case(
            {UTIL: KEEP + SPAN, copies.COPIES: COPY},
            (Edit({UTIL: KEEP, OTHER: SPAN}), Edit({OTHER: KEEP})),
            expect=(2,),
        ),
        Case({HEADER: FLAGS, copies.COPIES: FLAGS}, (Edit({HEADER: FLAG}),), expect=(1,)),
        # An enum without a name: renamed, and gone.
        Case(
            {HEADER: LIMIT, copies.COPIES: LIMIT},
            (Edit({HEADER: LIMIT.replace('LIMIT', 'MOST')}),),
            expect=(1,),
        ),
        Case({HEADER: LIMIT + KEEP, copies.COPIES: LIMIT}, (Edit({HEADER: KEEP}),), expect=(1,)),
        # The stub of what was only declared; with its whole file.
        Case({HEADER: DECLARED, copies.STUBS: STUB}, (Edit({HEADER: KEEP}),), expect=(1,)),
        Case({UTIL: SPAN, copies.STUBS: STUB}, (Edit({UTIL: None}),), expect=(1,)),
        # Gained.
        Case(
            {UTIL: SPAN, copies.COPIES: '\n'},
            (Edit({copies.COPIES: COPY.replace('span', 'sapn')}),),
        ),
        Case(
            {HEADER: FLAG, copies.STUBS: '\n'},
            (Edit({UTIL: KEEP}), Edit({copies.STUBS: STUB + FLAGS})),
            expect=(2,),
        ),
    ),
    good=(
        Case({UTIL: KEEP + SPAN, copies.COPIES: COPY}, (Edit({UTIL: KEEP, copies.COPIES: '\n'}),)),
        # The copy goes later.
        Case(
            {UTIL: KEEP + SPAN, copies.COPIES: COPY},
            (Edit({UTIL: KEEP}), Edit({copies.COPIES: '\n'})),
        ),
        # Moved: to a file that may hold originals, and to one that is only in the series.
        Case({UTIL: KEEP + SPAN, copies.COPIES: COPY}, (Edit({UTIL: KEEP, OTHER: SPAN}),)),
        Case(
            {HEADER: FLAGS, copies.COPIES: FLAGS},
            (Edit({HEADER: FLAG, 'arch/riscv/mm/range.h': '#define R_NEW 2\n'}),),
        ),
        # One of two under #if goes; a macro becomes an enumerator.
        Case(
            {HEADER: f'#ifdef A\n{SPAN}#else\n{SPAN}#endif\n', copies.COPIES: COPY},
            (Edit({HEADER: SPAN}),),
        ),
        Case(
            {HEADER: FLAGS, copies.COPIES: FLAGS}, (Edit({HEADER: 'enum { R_OLD = 1, R_NEW };\n'}),)
        ),
        # An enum's first value gets one before it, and another number.
        Case(
            {HEADER: LIMIT, copies.COPIES: LIMIT},
            (Edit({HEADER: 'enum {\n\tR_LEAST = 1,\n\tR_LIMIT = 32,\n};\n'}),),
        ),
        # One architecture drops its own.
        Case({'arch/sh/range.h': FLAG, copies.COPIES: FLAG}, (Edit({'arch/sh/range.h': '\n'}),)),
        # It was an orphan before.
        Case(
            {UTIL: KEEP, copies.COPIES: COPY}, (Edit({UTIL: KEEP * 2, copies.COPIES: '\n' + COPY}),)
        ),
        # Said to be the tests' own, above it and in it; custom.h.
        Case(
            {UTIL: KEEP},
            (Edit({copies.COPIES: '/* testing: the range of a test. */\n#define MIN 1\n' + COPY}),),
        ),
        Case(
            {UTIL: KEEP},
            (Edit({copies.COPIES: COPY.replace('{\n', '{\n\t/* Test-only. */\n')}),),
        ),
        Case({UTIL: KEEP}, (Edit({copies.CUSTOM: COPY}),)),
        # Moved within the tests; the original is in uapi, or comes later.
        Case({copies.CUSTOM: COPY}, (Edit({copies.CUSTOM: '\n', copies.COPIES: COPY}),)),
        Case({'include/uapi/linux/range.h': FLAG}, (Edit({copies.COPIES: FLAG}),)),
        Case({UTIL: KEEP}, (Edit({copies.COPIES: COPY}), Edit({UTIL: SPAN}))),
    ),
)
