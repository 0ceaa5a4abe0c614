"""
A definition that the VMA tests copy changes, and its copy does not.

tools/testing/vma builds mm/vma.c in userland against copies of the kernel's
own definitions, kept in tools/testing/vma/include/dup.h; the comment there
asks that they be kept in sync. When only the kernel's side changes, the tests
go on testing the code of yesterday, and pass.

Reported is a copy that was the same as the kernel's definition before the
patch, is not the same after it, and is still not the same at the end of the
series. Where a name is defined several times, under `#if`, a copy is compared
with the definition under the same condition; where there is none, with all of
them. Silent about copies that differed before (partial structs, stand-ins),
about prototypes, about a copy that the patch edits too (vma-test-copy), and
about a const that only the copy keeps (desc-const-removed).
"""

from collections.abc import Iterator

from bot.csyntax import Definition, changed_line, parse
from bot.model import Evidence, Hit, Severity, Step, Subject
from bot.rule import Case, Edit, Rule
from rules import _copies as copies


def check(subject: Subject) -> Iterator[Hit]:
    for step in subject.steps:
        touched = [
            diff.path
            for diff in step.files
            if diff.old_path and diff.new_path and copies.is_original(diff.new_path)
        ]
        if not touched:
            continue
        before, after = (copies.by_key(found) for found in copies.copies_before_and_after(step))
        for path in touched:
            yield from _file(subject, step, path, before, after)


def _file(
    subject: Subject,
    step: Step,
    path: str,
    before: dict[copies.Key, list[Definition]],
    after: dict[copies.Key, list[Definition]],
) -> Iterator[Hit]:
    diff = step.file(path)
    assert diff is not None
    pre = copies.by_key(copies.definitions(step.pre.read(diff.old_path or path)))
    post = copies.by_key(copies.definitions(step.post.read(path)))
    for key, originals in post.items():
        for copy in before.get(key, []):
            if not copies.is_copy(copy, pre.get(key, [])) or copies.is_copy(copy, originals):
                continue
            now = copies.alike(copy, after.get(key, []))
            left = [found for found in now if found.tokens == copy.tokens]
            if not left or _closed_later(subject, path, copy) or copies.only_const(copy, originals):
                continue
            changed = _differing(copy, originals, pre[key])
            where = changed_line(step, path, changed.start, changed.end)
            if where is None:
                continue
            text = parse(step.post.read(copies.COPIES) or b'').line(left[0].start)
            yield Hit(
                step.n,
                path,
                where[0],
                f'{copies.shown(copy)} changes here, its copy in {copies.COPIES} does not',
                'Please update the copy too, so that the VMA tests test this code.',
                side=where[1],
                symbol=copy.name,
                evidence=(Evidence(copies.COPIES, left[0].start, text),),
            )


def _closed_later(subject: Subject, path: str, copy: Definition) -> bool:
    """Whether copy and original are the same again at the end of the series."""
    last, key = subject.steps[-1].post, copies.key(copy)
    there = copies.by_key(copies.definitions(last.read(copies.COPIES))).get(key, [])
    originals = copies.by_key(copies.definitions(last.read(path))).get(key, [])
    if not there or not originals:
        return True  # removed or moved: not drift
    return any(copies.is_copy(one, originals) for one in copies.alike(copy, there))


def _differing(
    copy: Definition, originals: list[Definition], before: list[Definition]
) -> Definition:
    """Of several definitions under `#if`, take that of the copy's context, or one that changed."""
    mine = copies.alike(copy, originals)
    return next((found for found in mine if not copies.same(found, before)), mine[0])


UTIL, HEADER = 'mm/util.c', 'include/linux/mm.h'
OLD = 'int span(struct range *r)\n{\n\treturn r->end - r->start;\n}\n'
NEW = 'int span(struct range *r)\n{\n\treturn r->end - r->start + 1;\n}\n'
COPY = 'static inline ' + OLD
TREE = {UTIL: OLD, copies.COPIES: COPY}
STRUCT = 'struct range {\n\tunsigned long start, end;\n};\n'
LONGER = 'struct range {\n\tunsigned long start, end, flags;\n};\n'
EITHER = '#ifdef CONFIG_64BIT\n#define BIT 12\n#else\n#define BIT 0\n#endif\n'
ALIKE = '#ifdef ONE\n#define BIT 3\n#elif TWO\n#define BIT 3\n#else\n#define BIT 0\n#endif\n'
INLINE = f'#ifdef CONFIG_MMU\n{COPY}#else\n{COPY.replace("r->end - r->start", "0")}#endif\n'

RULE = Rule(
    id='vma-test-drift',
    severity=Severity.WARNING,
    check=check,
    bad=(
        Case(TREE, (Edit({UTIL: NEW}),), expect=(1,)),
        # The second of two under `#if`; the copy has no condition.
        Case(
            {HEADER: EITHER, copies.COPIES: '#define BIT 0\n'},
            (Edit({HEADER: EITHER.replace('0', '1')}),),
            expect=(1,),
        ),
        # One of two under `#if`, of which the other stays the same.
        Case(
            {HEADER: EITHER, copies.COPIES: EITHER},
            (Edit({HEADER: EITHER.replace('12', '13')}),),
            expect=(1,),
        ),
        # One of two that are alike; the copy is still as the other one is.
        Case(
            {HEADER: ALIKE, copies.COPIES: ALIKE},
            (Edit({HEADER: ALIKE.replace('3', '4', 1)}),),
            expect=(1,),
        ),
        # The two change places: each copy is as the wrong one is.
        Case(
            {HEADER: EITHER, copies.COPIES: EITHER},
            (Edit({HEADER: EITHER.replace('12', '1').replace('BIT 0', 'BIT 12')}),),
            expect=(1, 1),
        ),
        # A function for either configuration: the one that the copy follows, then the other.
        Case(
            {HEADER: INLINE, copies.COPIES: INLINE},
            (
                Edit({HEADER: INLINE.replace('return 0', 'return 1')}),
                Edit(
                    {HEADER: INLINE.replace('return 0', 'return 1').replace('start;', 'start + 1;')}
                ),
            ),
            expect=(1, 2),
        ),
        Case({HEADER: STRUCT, copies.COPIES: STRUCT}, (Edit({HEADER: LONGER}),), expect=(1,)),
        Case(
            {HEADER: '#define SHIFT 12\n', copies.COPIES: '#define SHIFT\t12\n'},
            (Edit({UTIL: OLD}), Edit({HEADER: '#define SHIFT 13\n'})),
            expect=(2,),
        ),
        Case(
            {HEADER: 'enum op { A, B };\n', copies.COPIES: '/* ops */\nenum op { A, B };\n'},
            (Edit({HEADER: 'enum op { A, B, C };\n'}),),
            expect=(1,),
        ),
    ),
    good=(
        Case(TREE, (Edit({UTIL: NEW, copies.COPIES: 'static inline ' + NEW}),)),
        # A later patch of the series closes it.
        Case(TREE, (Edit({UTIL: NEW}), Edit({copies.COPIES: 'static inline ' + NEW}))),
        # The copy was never the same: a stand-in.
        Case(
            {UTIL: OLD, copies.COPIES: 'int span(struct range *r) { return 1; }\n'},
            (Edit({UTIL: NEW}),),
        ),
        # Only a comment and white space.
        Case(TREE, (Edit({UTIL: '/* length */\n' + OLD.replace('\t', '    ')}),)),
        # A const that only the copy keeps belongs to desc-const-removed.
        Case(
            {
                HEADER: 'struct vm_area_desc {\n\tstruct file *const file;\n};\n',
                copies.COPIES: 'struct vm_area_desc {\n\tstruct file *const file;\n};\n',
            },
            (Edit({HEADER: 'struct vm_area_desc {\n\tstruct file *file;\n};\n'}),),
        ),
        # The condition is spelt differently, the values stay.
        Case(
            {HEADER: EITHER, copies.COPIES: EITHER},
            (Edit({HEADER: EITHER.replace('ifdef CONFIG_64BIT', 'if defined(CONFIG_64BIT)')}),),
        ),
        # The branches change places, with their conditions; a condition is put around both.
        Case(
            {HEADER: ALIKE.replace('3', '4', 1), copies.COPIES: ALIKE.replace('3', '4', 1)},
            (
                Edit(
                    {
                        HEADER: '#ifdef TWO\n#define BIT 3\n#elif ONE\n#define BIT 4\n'
                        '#else\n#define BIT 0\n#endif\n'
                    }
                ),
            ),
        ),
        Case(
            {HEADER: EITHER, copies.COPIES: EITHER},
            (Edit({HEADER: f'#ifndef BIT\n{EITHER}#endif\n'}),),
        ),
        # The copy has the one without MMU, and the other changes.
        Case(
            {
                HEADER: INLINE,
                copies.COPIES: INLINE[INLINE.index('#else') :].replace('else', 'ifndef CONFIG_MMU'),
            },
            (Edit({HEADER: INLINE.replace('start;', 'start + 1;')}),),
        ),
        # Both sides of both.
        Case(
            {HEADER: ALIKE, copies.COPIES: ALIKE},
            (Edit({HEADER: ALIKE.replace('3', '4'), copies.COPIES: ALIKE.replace('3', '4')}),),
        ),
        # Moved as it is.
        Case(TREE, (Edit({UTIL: '\n\n' + OLD}),)),
    ),
)
