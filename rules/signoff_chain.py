"""
A patch lacks the Signed-off-by of its author, or of who passes it on.

Documentation/process/submitting-patches.rst: everybody who made a patch or
handed it on certifies with a Signed-off-by that he may. Asked are its author,
each Co-developed-by (whose Signed-off-by follows it), and of a commit also the
committer, who comes last. linux-next refuses trees for each of these.

The same address or the same name is the same person. Silent about who else
signed, about their order otherwise, about merges, and about a commit whose
committer is GitHub, or another program.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from bot.model import Author, Hit, Patch, Severity, Subject
from bot.rule import AUTHOR, Case, Edit, Rule
from rules._trailers import Trailer, named, same, trailers

SIGNED = 'Signed-off-by'
PROGRAMS = ('noreply@github.com', 'noreply@gitlab.com')


@dataclass(frozen=True)
class Fault:
    """What is missing. `line` is None for the message as a whole."""

    message: str
    advice: str
    symbol: str
    line: int | None = None
    person: Author | None = None


def check(subject: Subject) -> Iterator[Hit]:
    for patch in subject.series.patches:
        for fault in _faults(patch) if not patch.merge else ():
            yield Hit(
                patch.n,
                None,
                fault.line or 1,
                fault.message,
                fault.advice,
                side='message',
                symbol=f'{fault.symbol}: {patch.subject}',
                said=(str(fault.person),) if fault.person is not None else (),
            )


def _faults(patch: Patch) -> Iterator[Fault]:
    signed = named(patch, SIGNED)
    if not signed:
        yield Fault('has no Signed-off-by', 'Its author has to sign it off.', SIGNED)
        return
    if not _by(patch.author, signed):
        yield Fault(
            'has no Signed-off-by of its author',
            'Is it under another name or address?',
            f'{SIGNED} author',
            person=patch.author,
        )
    yield from _developers(patch)
    committer = patch.committer
    if committer is None or committer.email in PROGRAMS or not committer.email:
        return
    if not _by(committer, signed):
        yield Fault(
            'has no Signed-off-by of its committer',
            'Who applies a patch signs it off, too.',
            f'{SIGNED} committer',
            person=committer,
        )


def _developers(patch: Patch) -> Iterator[Fault]:
    """Each Co-developed-by is followed by that developer's own Signed-off-by."""
    every = list(trailers(patch))
    for at, one in enumerate(every):
        developer = one.person
        if one.name.lower() != 'co-developed-by' or developer is None:
            continue
        later = [other for other in every[at + 1 :] if other.name.lower() == SIGNED.lower()]
        if not _by(developer, later):
            yield Fault(
                'names a co-developer, and no Signed-off-by of theirs follows',
                'It belongs right below the Co-developed-by.',
                f'{SIGNED} {developer.email}',
                one.line,
                developer,
            )


def _by(person: Author, signed: list[Trailer]) -> bool:
    return any(one.person is not None and same(one.person, person) for one in signed)


FILE = 'mm/x.c'
TREE = {FILE: 'int x;\n'}
MINE = f'{SIGNED}: {AUTHOR}\n'
OTHER = Author('Com Mitter', 'cm@example.org')
CO = 'Co-developed-by: Co Dev <co@example.org>\n'


def _case(trailing: str, committer: Author | None = None, author: Author = AUTHOR) -> Case:
    message = f'mm: change x\n\nBecause.\n\n{trailing}'
    return Case(TREE, (Edit({FILE: 'int y;\n'}, message, author, committer),), expect=None)


RULE = Rule(
    id='signoff-chain',
    severity=Severity.ERROR,
    check=check,
    on_request=True,
    bad=(
        _case('Reviewed-by: R <r@example.org>\n'),
        _case('Signed-off-by: Somebody Else <else@example.org>\n'),
        _case(MINE, OTHER),
        _case(CO + MINE),
        _case('Signed-off-by: Co Dev <co@example.org>\n' + CO + MINE),
    ),
    good=(
        _case(MINE),
        _case('signed-off-by: A Developer <dev@work.example>\n'),
        _case(f'{MINE}{SIGNED}: {OTHER}\n', OTHER),
        _case(CO + 'Signed-off-by: Co Dev <co@example.org>\n' + MINE),
        _case(MINE, Author('GitHub', 'noreply@github.com')),
        _case('Fixes: 0123456789ab ("mm: x")\n' + MINE + '[ cm: moved a line ]\nLink: https://x\n'),
    ),
)
