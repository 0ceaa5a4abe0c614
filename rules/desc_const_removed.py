"""
A member of struct vm_area_desc loses a const.

The immutable members of the descriptor (mm, file, start, end) used to be
guarded by const; since the helpers for stacked hooks assign to them, some are
protected by a comment only (include/linux/mm_types.h). Each const that goes is
a check that the compiler no longer makes, so a reviewer wants to know which
code needs it, and that the copy for the VMA tests
(tools/testing/vma/include/dup.h) follows.

Qualifiers of pointer and pointee are told apart. A note; a warning when
neither the commit message nor the cover letter speaks of const; an error when
the copy keeps a const that it shared with the kernel.
"""

import re
from collections.abc import Iterator

from bot.csyntax import Member, parse
from bot.csyntax.syntax import line_of, node_text, walk
from bot.model import Evidence, Hit, Severity, Step, Subject
from bot.rule import Case, Edit, Rule, named
from rules._copies import COPIES

STRUCT = 'vm_area_desc'
SPEAKS = re.compile(r'\bconst', re.I)


def check(subject: Subject) -> Iterator[Hit]:
    for step in subject.steps:
        for diff in step.files:
            path = diff.new_path
            if path is None or not path.startswith('include/') or not path.endswith('.h'):
                continue
            before = parse(step.pre.read(diff.old_path or path) or b'').members(STRUCT)
            after = parse(step.post.read(path) or b'').members(STRUCT)
            dropped = list(_dropped(before, after))
            if dropped:
                yield _hit(subject, step, path, dropped)


def _dropped(
    before: tuple[Member, ...], after: tuple[Member, ...]
) -> Iterator[tuple[Member, Member]]:
    """Yield the members, before and after, that lost a const and are otherwise what they were."""
    now = {member.name: member for member in after}
    for old in before:
        new = now.get(old.name)
        if new is None or (new.type, new.pointer) != (old.type, old.pointer):
            continue
        if (old.const and not new.const) or (old.pointee_const and not new.pointee_const):
            yield old, new


def _hit(subject: Subject, step: Step, path: str, dropped: list[tuple[Member, Member]]) -> Hit:
    names = [new.name for _, new in dropped]
    message = f'drops const from {_list(names)} of struct {STRUCT}'
    advice = None
    kept = dict(_kept(subject, step, dropped))
    evidence = list(kept.values())
    if kept:
        message += f'; the copy in {COPIES} keeps it for {_list(list(kept))}'
        severity = Severity.ERROR
        advice = 'Please drop it in the copy too.'
    else:
        needed = list(_assigned(subject, set(names)))
        evidence = [shown for shown, _ in needed]
        by = _list(sorted({named(shown.path) for shown in evidence}))
        patches = _list([str(n) for n in sorted({n for _, n in needed})])
        message += (
            f'; {by} (patch {patches}) assigns to it' if needed else '; nothing here needs that'
        )
        said = SPEAKS.search(_said(subject, step.n)) is not None
        severity = Severity.NOTE if said else Severity.WARNING
        if not needed:
            advice = 'No patch of the series assigns to it; could the const stay?'
        elif not said:
            advice = 'Could the commit message say why it has to go?'
    return Hit(
        step.n,
        path,
        dropped[0][1].line,
        message,
        advice,
        symbol=', '.join(f'{STRUCT}.{name}' for name in names),
        evidence=tuple(evidence),
        severity=severity,
    )


def _kept(
    subject: Subject, step: Step, dropped: list[tuple[Member, Member]]
) -> Iterator[tuple[str, Evidence]]:
    """Where the copy still has, at the end of the series, a const that both had before."""
    shared = {member.name: member for member in parse(step.pre.read(COPIES) or b'').members(STRUCT)}
    last = parse(subject.steps[-1].post.read(COPIES) or b'')
    for member in last.members(STRUCT):
        for old, new in dropped:
            copy = shared.get(old.name)
            if member.name != old.name or copy is None:
                continue
            pointee = copy.pointee_const and old.pointee_const and not new.pointee_const
            itself = copy.const and old.const and not new.const
            if (pointee and member.pointee_const) or (itself and member.const):
                text = last.line(member.line).strip()
                yield member.name, Evidence(COPIES, member.line, text)


def _assigned(subject: Subject, names: set[str]) -> Iterator[tuple[Evidence, int]]:
    """Where the series adds an assignment to one of `names` of a vm_area_desc in the kernel."""
    for step in subject.steps:
        for diff in step.files:
            path = diff.new_path
            if path is None or not path.endswith(('.c', '.h')) or path.startswith('tools/'):
                continue
            text = step.post.read(path) or b''
            if STRUCT.encode() not in text:
                continue
            added = {number for number, _ in diff.added}
            for function in parse(text).functions.values():
                typed = {v.name for v in function.variables if v.type == f'struct {STRUCT}'}
                for node in walk(function.body, 'assignment_expression'):
                    left = node.child_by_field_name('left')
                    line = line_of(node)
                    if left is None or left.type != 'field_expression' or line not in added:
                        continue
                    owner = node_text(left.child_by_field_name('argument'))
                    if owner in typed and node_text(left.child_by_field_name('field')) in names:
                        yield Evidence(path, line, node_text(node)), step.n


def _said(subject: Subject, n: int) -> str:
    patch = next(patch for patch in subject.series.patches if patch.n == n)
    return f'{patch.subject}\n{patch.message}\n{subject.series.cover or ""}'


def _list(names: list[str]) -> str:
    return (
        names[0] if len(names) == 1 else f'{", ".join(names[:-1])} and {names[-1]}' if names else ''
    )


HEADER, UTIL = 'include/linux/mm_types.h', 'mm/util.c'
DESC = """struct vm_area_desc {
	const struct mm_struct *const mm;
	struct file *const file;
	unsigned long start;
	const struct vm_operations_struct *vm_ops;
};
"""
PLAIN = DESC.replace('*const file', '*file')
SET = """void set(struct vm_area_desc *desc, struct file *file)
{
	desc->file = file;
}
"""
TREE = {HEADER: DESC, UTIL: 'int x;\n', COPIES: DESC}

RULE = Rule(
    id='desc-const-removed',
    severity=Severity.NOTE,
    check=check,
    bad=(
        Case(
            TREE,
            (Edit({HEADER: PLAIN, UTIL: SET, COPIES: PLAIN}, 'mm: x\n\nHas to lose some const.'),),
            expect=(1,),
        ),
        Case(TREE, (Edit({HEADER: PLAIN, COPIES: PLAIN}),), expect=(1,)),
        Case(TREE, (Edit({UTIL: SET}), Edit({HEADER: PLAIN}, 'mm: drop const')), expect=(2,)),
        Case(
            TREE,
            (Edit({HEADER: DESC.replace('const struct mm_struct', 'struct mm_struct')}),),
            expect=(1,),
        ),
    ),
    good=(
        Case(
            TREE,
            (Edit({HEADER: DESC.replace('unsigned long start', 'const unsigned long start')}),),
        ),
        Case(TREE, (Edit({HEADER: DESC.replace('\tstruct file *const file;\n', '')}),)),
        # Another struct.
        Case(
            {HEADER: DESC.replace('vm_area_desc', 'unmap_desc')},
            (Edit({HEADER: PLAIN.replace('vm_area_desc', 'unmap_desc')}),),
        ),
        # Only the copy.
        Case({HEADER: PLAIN, COPIES: DESC}, (Edit({COPIES: PLAIN}),)),
    ),
)
