"""
A copy in the VMA tests is added or edited so that it differs from the kernel's.

The definitions in tools/testing/vma/include/dup.h must be kept in sync with
the kernel's, as the comment there says. A copy that is not the same tests
something that the kernel does not run; what is meant to differ has its place
in custom.h or stubs.h beside it.

Reported is a copy that the patch adds, or that was the same as the kernel's
before the patch, and that is not the same at the end of the series. Silent
about copies that differed before, prototypes, names that the kernel does not
define, new structs that leave members out (partial structs), and a const that
only the copy keeps (desc-const-removed).
"""

from collections.abc import Iterator

from bot.csyntax import Definition, changed_line, parse
from bot.model import Evidence, Hit, Severity, Step, Subject
from bot.rule import Case, Edit, Rule, named
from rules import _copies as copies


def check(subject: Subject) -> Iterator[Hit]:
    named = (
        path
        for step in subject.steps
        for diff in step.files
        for path in (diff.old_path, diff.new_path)
    )
    touched = {path for path in named if path is not None and copies.is_original(path)}
    for step in subject.steps:
        if step.file(copies.COPIES) is None:
            continue
        before, after = copies.copies_before_and_after(step)
        known = copies.by_key(before)
        edited = [
            copy for copy in after if not copies.is_copy(copy, known.get(copies.key(copy), []))
        ]
        wanted = {copies.key(copy) for copy in edited}
        places = sorted({*copies.mentioning(step.post, wanted), *touched})
        kernel_after = copies.originals(step.post, wanted, places)
        kernel_before = kernel_last = kernel_after
        if any(copies.is_original(diff.path) for diff in step.files):
            kernel_before = copies.originals(step.pre, wanted, places)
        if step is not subject.steps[-1]:
            kernel_last = copies.originals(subject.steps[-1].post, wanted, places)
        last = copies.by_key(copies.definitions(subject.steps[-1].post.read(copies.COPIES)))
        for copy in edited:
            key = copies.key(copy)
            originals = kernel_last[key]
            if not originals or copies.is_copy(copy, _of(kernel_after[key])):
                continue
            at_last = copies.alike(copy, last.get(key, []))
            if any(copies.is_copy(one, _of(originals)) for one in at_last):
                continue
            if copies.only_const(copy, _of(originals)):
                continue
            old = copies.alike(copy, known.get(key, []))
            was_same = any(copies.is_copy(one, _of(kernel_before[key])) for one in old)
            if old and not was_same:
                continue
            if not old and (_partial(copy, _of(originals)) or _was_elsewhere(step, copy)):
                continue
            yield from _hit(subject, step, copy, originals, new=not old)


def _hit(
    subject: Subject,
    step: Step,
    copy: Definition,
    originals: list[tuple[str, Definition]],
    *,
    new: bool,
) -> Iterator[Hit]:
    where = changed_line(step, copies.COPIES, copy.start, copy.end)
    if where is None:
        return
    path, original = originals[0]
    source = parse(subject.steps[-1].post.read(path) or b'')
    how = 'is added here, and differs' if new else 'is edited here, and now differs'
    yield Hit(
        step.n,
        copies.COPIES,
        where[0],
        f'the copy of {copies.shown(copy)} {how} from the one in {named(path)}',
        'Could it be the same? What has to differ belongs into custom.h.',
        side=where[1],
        symbol=copy.name,
        evidence=(Evidence(path, original.start, source.line(original.start)),),
    )


def _of(found: list[tuple[str, Definition]]) -> list[Definition]:
    return [definition for _, definition in found]


def _partial(copy: Definition, originals: list[Definition]) -> bool:
    """Whether a struct only leaves things out."""
    if copy.kind not in ('struct', 'union', 'enum'):
        return False
    return any(_subsequence(copy.tokens, original.tokens) for original in originals)


def _subsequence(few: tuple[str, ...], many: tuple[str, ...]) -> bool:
    rest = iter(many)
    return all(token in rest for token in few)


def _was_elsewhere(step: Step, copy: Definition) -> bool:
    """Whether the patch moves it here from another file of the tests."""
    for diff in step.files:
        if diff.path.startswith('tools/testing/vma/') and diff.path != copies.COPIES:
            moved = copies.definitions(step.pre.read(diff.old_path or diff.path))
            if copies.same(copy, [one for one in moved if copies.key(one) == copies.key(copy)]):
                return True
    return False


UTIL, HEADER = 'mm/util.c', 'include/linux/mm.h'
ORIGINAL = 'int span(struct range *r)\n{\n\treturn r->end - r->start;\n}\n'
OTHER = 'static inline int span(struct range *r)\n{\n\treturn 1;\n}\n'
COPY = 'static inline ' + ORIGINAL
STRUCT = 'struct range {\n\tunsigned long start, end;\n\tint flags;\n};\n'
EITHER = '#ifdef CONFIG_64BIT\n#define BIT 12\n#else\n#define BIT 0\n#endif\n'
ALIKE = EITHER.replace('12', '0')

RULE = Rule(
    id='vma-test-copy',
    severity=Severity.WARNING,
    check=check,
    bad=(
        Case({UTIL: ORIGINAL, copies.COPIES: '\n'}, (Edit({copies.COPIES: OTHER}),), expect=(1,)),
        Case({UTIL: ORIGINAL, copies.COPIES: COPY}, (Edit({copies.COPIES: OTHER}),), expect=(1,)),
        Case(
            {copies.COPIES: '\n'},
            (Edit({UTIL: ORIGINAL}), Edit({copies.COPIES: OTHER})),
            expect=(2,),
        ),
        Case(
            {HEADER: '#define SHIFT 12\n', copies.COPIES: '\n'},
            (Edit({copies.COPIES: '#define SHIFT 13\n'}),),
            expect=(1,),
        ),
        # One of two under `#if`, of which the other stays the same.
        Case(
            {HEADER: EITHER, copies.COPIES: EITHER},
            (Edit({copies.COPIES: EITHER.replace('12', '13')}),),
            expect=(1,),
        ),
        # The kernel's have it the other way round.
        Case(
            {HEADER: EITHER, copies.COPIES: EITHER},
            (Edit({copies.COPIES: EITHER.replace('12', '1').replace('BIT 0', 'BIT 12')}),),
            expect=(1, 1),
        ),
        # Two were alike: the kernel changes one, the patch the copy of the other.
        Case(
            {HEADER: ALIKE, copies.COPIES: ALIKE},
            (
                Edit({HEADER: ALIKE.replace('0', '3', 1)}),
                Edit({copies.COPIES: '3'.join(ALIKE.rsplit('0', 1))}),
            ),
            expect=(2,),
        ),
    ),
    good=(
        # The other one differed, and still does.
        Case(
            {HEADER: EITHER, copies.COPIES: EITHER.replace('12', '14')},
            (Edit({copies.COPIES: EITHER.replace('12', '13')}),),
        ),
        Case({UTIL: ORIGINAL, copies.COPIES: '\n'}, (Edit({copies.COPIES: COPY}),)),
        # A stand-in before, a stand-in after.
        Case({UTIL: ORIGINAL, copies.COPIES: OTHER}, (Edit({copies.COPIES: '\n' + OTHER}),)),
        Case(
            {UTIL: ORIGINAL, copies.COPIES: OTHER},
            (Edit({copies.COPIES: OTHER.replace('1', '2')}),),
        ),
        # A partial struct.
        Case(
            {HEADER: STRUCT, copies.COPIES: '\n'},
            (Edit({copies.COPIES: 'struct range {\n\tint flags;\n};\n'}),),
        ),
        # The tests' own.
        Case({UTIL: ORIGINAL, copies.COPIES: '\n'}, (Edit({copies.COPIES: '#define MINE 1\n'}),)),
        # The copy comes first, its original with the next patch.
        Case(
            {UTIL: '\n', copies.COPIES: '\n'}, (Edit({copies.COPIES: COPY}), Edit({UTIL: ORIGINAL}))
        ),
    ),
)
