"""
The series does not apply, or only on top of other patches.

A maintainer who is to merge a series wants to know first whether it goes onto
the tree at all, and if not, which patch and which hunk stand in the way, on
each base that was tried.

Only in `bot gate`, and where `--rules` names it: for `bot check` a series that
does not apply is one that could not be checked, not a finding.
"""

from collections.abc import Iterator
from dataclasses import replace

from bot.model import Base, DoesNotApply, Hit, Severity, Subject, Tried
from bot.rule import BASE, Case, Edit, Rule


def check(subject: Subject) -> Iterator[Hit]:
    applied, base = subject.applied, subject.applied.base
    if isinstance(applied, DoesNotApply):
        others = [(_shown(one), one.reason) for one in base.tried]
        message = f'does not apply to {_base(base)}'
        known = ''.join(f'; not to {ref} either: {reason}' for ref, reason in others)
        yield Hit(
            applied.n,
            applied.path,
            None,
            message,
            'Could it be rebased, or name its base-commit?',
            symbol=applied.path,
            said=(applied.reason, *(f'{ref}: {reason}' for ref, reason in others)),
            key=f'{message}: {applied.reason}{known}',
        )
    elif base.on_top:
        count = len(base.on_top)
        yield Hit(
            0,
            None,
            None,
            f'applies to {_base(base)} only on top of {count} other '
            f'patch{"es" if count > 1 else ""}',
            'These have to be merged before it.',
            symbol='prerequisites',
            said=base.on_top,
        )


def _base(base: Base) -> str:
    return f'{base.ref} ({base.commit[:12]})'


def _shown(one: Tried) -> str:
    return f'{one.ref} ({one.commit[:12]})'


FILE = 'mm/x.c'
TREE = {FILE: 'int x;\n'}
EDITS = (Edit({FILE: 'int y;\n'}), Edit({FILE: 'int z;\n'}))
TRIED = replace(BASE, tried=(Tried('master', '1' * 40, 1, FILE, 'mm/x.c: hunk 1 does not match'),))

RULE = Rule(
    id='applies',
    severity=Severity.ERROR,
    check=check,
    on_request=True,
    about_applying=True,
    bad=(
        Case(TREE, EDITS, fails='mm/x.c: hunk 1 does not match', expect=(2,)),
        Case(TREE, EDITS[:1], fails='corrupt patch at line 3', base=TRIED, expect=(1,)),
        Case(TREE, EDITS, base=replace(BASE, on_top=('mm: a patch before',)), expect=(0,)),
    ),
    good=(
        Case(TREE, EDITS),
        Case(TREE, EDITS[:1]),
        # That another base was tried before is no fault.
        Case(TREE, EDITS, base=TRIED),
    ),
)
