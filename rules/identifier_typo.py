"""
A message or comment misspells a name of the kernel's code.

Whoever looks for the function that a commit message or comment speaks of finds
nothing, now and in the years to come: `git grep` and the index of the source
want the exact name. A patch is the last time that it is cheap to mend
(Documentation/process/submitting-patches.rst asks for descriptions that can be
understood without the code).

Reported is `name()`, `struct name`, or a word with two underscores, in the
commit message or on a comment line that the patch adds, when that name stands
nowhere in the tree, nor in the code of the series, and another within two
edits does (one edit, where the name is shorter than 12 characters). Names of
the same family that differ by a number are no such pair.

Silent about what is quoted (code, logs, shell, titles of commits, trailers,
URLs, paths), about patterns (`foo_*()`) and stand-ins (`foo_xxx()`), about
plurals and what the kernel's macros make of a name (`trace_x()`, `sys_x()`,
`folio_test_x()`), where the text speaks of something that is gone or was
renamed, and after a series' first use of the name.
"""

import re
from collections.abc import Iterator

from bot.model import Hit, Severity, Subject
from bot.rule import Case, Edit, Rule
from rules._names import MOST, Mention, Names, mentions

SHORTEST = 8
"""Characters of a name that one edit does not turn into another one by chance."""
GONE = re.compile(
    r'\b(?:remov|delet|renam|former|previous(?:ly)? name|used to|no longer|old name|typo|misspel'
    r'|spelling|s/\w+/\w+/|user ?space|[a-z]?libc|library|out[- ]of[- ]tree|rust|downstream'
    r'|no such|(?:not|n\'t) exist)',
    re.I,
)


def check(subject: Subject) -> Iterator[Hit]:
    names = Names(subject)
    seen: set[str] = set()
    said: dict[int, int] = {}
    for mention in mentions(subject):
        if mention.name in seen:
            continue
        seen.add(mention.name)
        if said.get(mention.n, 0) == MOST or not _telling(mention) or names.known(mention.name):
            continue
        other = names.like(mention.name)
        if other is None or GONE.search(mention.around):
            continue
        if mention.form != 'call' and other.strip('_') == mention.name.strip('_'):
            continue
        said[mention.n] = said.get(mention.n, 0) + 1
        yield Hit(
            mention.n,
            mention.path,
            mention.line,
            f'{mention.shown} is not in the tree, {mention.as_written(other)} is',
            'Is that the one that is meant?',
            side='message' if mention.path is None else 'new',
            symbol=mention.name,
        )


def _telling(mention: Mention) -> bool:
    """Whether a word is a name of code, and long enough to be told from its like."""
    name = mention.name.strip('_')
    if mention.form == 'plain':
        return name.count('_') >= 2 and not re.search(r'[a-z][A-Z]|[A-Z][a-z]', name)
    return len(name) >= SHORTEST


FILE = 'mm/example.c'
CODE = """int example_vma_prepare(struct example_vma_state *state);

int example_vma_insert(struct example_vma_state *state)
{
	return example_vma_prepare(state);
}
"""
NOTE = '/* Runs after example_vma_prepair() has filled it. */\n'
DOC = """/**
 * example_vma_insert() - insert it
 * @state: what struct exampel_vma_state holds
 */
"""
TREE = {FILE: CODE, 'mm/other.c': 'int example_vma_other(void);\n'}
ADDED = CODE + '\nint example_vma_remove(void)\n{\n\treturn 0;\n}\n'


def _said(message: str) -> Case:
    return Case(TREE, (Edit({FILE: ADDED}, f'mm: example\n\n{message}'),))


RULE = Rule(
    id='identifier-typo',
    severity=Severity.NOTE,
    check=check,
    bad=(
        Case(
            TREE, (Edit({FILE: ADDED}, 'mm: call example_vma_insrt() twice\n\nText.'),), expect=(1,)
        ),
        Case(
            TREE,
            (
                Edit(
                    {FILE: ADDED},
                    'mm: x\n\nA list:\n - here example_vma_othre() is called\n   once.',
                ),
            ),
            expect=(1,),
        ),
        Case(TREE, (Edit({FILE: NOTE + CODE}),), expect=(1,)),
        # A number in another place, not another number.
        Case(
            {FILE: CODE.replace('_vma_prepare', '4_vma_prepare')},
            (
                Edit(
                    {FILE: ADDED.replace('_vma_prepare', '4_vma_prepare')},
                    'mm: x\n\nThis follows example_4vma_prepare() and returns.',
                ),
            ),
            expect=(1,),
        ),
        Case(TREE, (Edit({FILE: ADDED}), Edit({FILE: DOC + ADDED})), expect=(2,)),
        # The series' own new name.
        Case(
            TREE,
            (Edit({FILE: ADDED}, 'mm: x\n\nThis adds example_vma_remvoe() to the rest.'),),
            expect=(1,),
        ),
        # Without parentheses; and said once only.
        Case(
            TREE,
            (
                Edit({FILE: ADDED}, 'mm: x\n\nThe state of example_vma_inset is kept.'),
                Edit({FILE: CODE}, 'mm: y\n\nNow example_vma_inset() is as before.'),
            ),
            expect=(1,),
        ),
        # What a later patch adds is near enough too, and the comment itself is no proof.
        Case(
            TREE,
            (
                Edit({FILE: NOTE.replace('prepair', 'prepaer') + CODE}),
                Edit({FILE: NOTE.replace('prepair', 'prepaer') + ADDED}),
            ),
            expect=(1,),
        ),
    ),
    good=(
        _said('This adds example_vma_remove(), which example_vma_other() will want.'),
        Case(
            {FILE: CODE.replace('vma_prepare', 'vma2_prepare')},
            (
                Edit(
                    {FILE: ADDED.replace('vma_prepare', 'vma2_prepare')},
                    'mm: x\n\nThere is no example_vma3_prepare() yet.',
                ),
            ),
        ),
        _said('Nothing is like completely_unknown_thing() here.'),
        _said('It crashed:\n\n  example_vma_insrt+0x12/0x34\n  example_vma_insrt()\n\nMended.'),
        _said(
            'See mm/example_vma_insrt.c, https://example.org/example_vma_insrt() and ones\n'
            'like example_vma_inser*(), {get,example}_vma_inset() or example_vma_inse[rt]().'
        ),
        _said(
            'Modules linked in: nf_tables ext4\nexample_vma_insrt dm_mod\nCPU: 1 Comm: x\n\nMended.'
        ),
        _said('There used to be example_vma_insrt() here.'),
        _said('Text.\n\nFixes: 0123456789ab ("mm: add example_vma_insrt()")'),
        _said('Since commit 0123456789ab ("mm: add\nexample_vma_insrt()") it is so.'),
        _said('All example_vma_states and trace_example_vma_insert() stay.'),
        # The old name is in the tree before; the new one comes with the last patch.
        Case(
            TREE,
            (
                Edit({'mm/x.c': 'int x;\n'}, 'mm: x\n\nThis calls example_vma_inserts() soon.'),
                Edit(
                    {FILE: CODE.replace('vma_insert', 'vma_inserts')},
                    'mm: y\n\nInstead of example_vma_insert() use example_vma_inserts().',
                ),
            ),
        ),
        # Moved as it was, misspelt.
        Case(
            {FILE: NOTE + CODE, 'mm/b.c': 'int b;\n'},
            (Edit({FILE: CODE, 'mm/b.c': 'int b;\n\n' + NOTE}),),
        ),
    ),
)
