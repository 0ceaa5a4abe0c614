"""
A Fixes: tag names no commit of the tree, or not as it should.

Documentation/process/submitting-patches.rst: at least twelve digits of the
commit, and its subject in quotes and brackets, on one line. Stable trees and
distributions act on these tags by program: a wrong one loses the fix, or takes
it where it does not belong.

Reported are a form that programs can't read, a commit that the tree does not
have, a short id that names several, and a subject that is not the commit's.
Where the tree's history is not all there (a shallow clone), a commit that it
lacks is not reported. White space and the case of the subject do not matter.
"""

import re
from collections.abc import Iterator

from bot.model import Facts, Hit, Patch, Severity, Subject
from bot.rule import FIXES, Case, Edit, Rule
from rules._trailers import Trailer, trailers

NAME = 'fixes'
LEAST = 12
FORM = f'Expected is {LEAST} digits of the commit, and its subject in brackets and quotation marks.'
TAG = re.compile(r'(?P<id>[0-9a-fA-F]{5,40}) \("(?P<subject>.+)"\)(?:\s*#.*)?')


def check(subject: Subject) -> Iterator[Hit]:
    if subject.facts is None:
        return
    for patch in subject.series.patches:
        for one in trailers(patch):
            if one.name.lower() == NAME and not one.value.startswith(('http://', 'https://')):
                yield from _tag(patch, one, subject.facts)


def _tag(patch: Patch, one: Trailer, facts: Facts) -> Iterator[Hit]:
    found = TAG.fullmatch(one.value.rstrip())
    start = FIXES.match(one.value)
    number = start['id'].lower() if start is not None else None
    known = facts.commits.get(number, ()) if number is not None else ()
    if number is None:
        yield _hit(patch, one, 'has a Fixes: tag without a commit id', FORM)
    elif len(known) > 1:
        yield _hit(patch, one, f'fixes {number}, and {len(known)} commits begin so', FORM)
    elif not known:
        if facts.whole:
            yield _hit(patch, one, f'fixes {number}, and the tree has no such commit', None)
    elif found is None:
        what = f'has a Fixes: tag for {number} that programs can not read'
        yield _hit(patch, one, what, FORM, known[0])
    elif _plain(found['subject']) != _plain(known[0]):
        what = f'fixes {number}, whose subject is another'
        yield _hit(patch, one, what, 'It is the one below.', known[0])
    elif len(number) < LEAST:
        yield _hit(patch, one, f'fixes {number}, in fewer than {LEAST} digits', FORM, known[0])


def _hit(
    patch: Patch, one: Trailer, message: str, advice: str | None, subject: str | None = None
) -> Hit:
    return Hit(
        patch.n, None, one.line, message, advice, side='message', symbol=f'Fixes {one.value[:12]}',
        said=(f'("{subject}")',) if subject is not None else (),
    )  # fmt: skip


def _plain(subject: str) -> str:
    return ' '.join(subject.split()).casefold()


FILE = 'mm/x.c'
TREE = {FILE: 'int x;\n'}
ID = '0123456789abcdef0123456789abcdef01234567'
KNOWN = Facts(
    commits={
        ID[:12]: ('mm: add x',), ID[:8]: ('mm: add x',), ID: ('mm: add x',),
        'abcde': ('one', 'two'), 'f' * 12: (),
    }
)  # fmt: skip
SHALLOW = Facts(commits={'f' * 12: ()}, whole=False)


def _case(tag: str, facts: Facts | None = KNOWN) -> Case:
    message = f'mm: change x\n\nBecause.\n\nFixes: {tag}\nSigned-off-by: A <a@example.org>'
    return Case(TREE, (Edit({FILE: 'int y;\n'}, message),), facts=facts)


RULE = Rule(
    id='fixes-tag',
    severity=Severity.WARNING,
    check=check,
    on_request=True,
    bad=(
        _case(f'{ID[:12]} ("mm: add y")'),
        _case(f'{ID[:12]} mm: add x'),
        _case(f'{ID[:8]} ("mm: add x")'),
        _case(f'{"f" * 12} ("mm: add x")'),
        _case('abcde ("one")'),
        _case('the last commit'),
        _case(f'commit {ID[:12]} ("mm: add x")'),
    ),
    good=(
        _case(f'{ID[:12]} ("mm: add x")'),
        _case(f'{ID} ("mm:  add x")'),
        _case(f'{ID[:12]} ("MM: add x") # v7.2'),
        _case(f'{"f" * 12} ("mm: add x")', SHALLOW),
        _case('https://bugzilla.example.org/1'),
        _case(f'{"f" * 12} ("mm: add x")', None),
    ),
)
