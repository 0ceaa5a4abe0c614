"""
A patch has fewer reviews than the tree asks for, of people who look after its files.

`[gate] reviews = N` asks that each patch has N Reviewed-by or Acked-by of
people whom MAINTAINERS names for one of the files that it touches. MAINTAINERS
and scripts/get_maintainer.pl are taken from the base of the range, never from
what is pushed. An author's own tags do not count, and one person counts once.

Off unless N is configured. Silent about a patch whose files nobody looks after.
"""

from collections.abc import Iterator

from bot.model import Author, Facts, Hit, Patch, Severity, Subject
from bot.rule import AUTHOR, Case, Edit, Rule
from rules._trailers import PERSON

TAGS = ('reviewed-by', 'acked-by')
MOST_NAMED = 3


def check(subject: Subject) -> Iterator[Hit]:
    facts = subject.facts
    if facts is None or not facts.reviews:
        return
    for patch in subject.series.patches:
        people = facts.people.get(patch.n, frozenset())
        theirs = people - {patch.author.email.lower()}
        if not theirs:
            continue
        given = _reviewers(patch) & theirs
        # Where fewer people look after the files than are asked for, all of them are enough.
        wanted = min(facts.reviews, len(theirs))
        if len(given) < wanted:
            names = sorted(theirs - given)
            shown = ', '.join(names[:MOST_NAMED]) + (', …' if len(names) > MOST_NAMED else '')
            yield Hit(
                patch.n,
                None,
                1,
                f'has {len(given)} of {wanted} reviews of people who look after its files',
                'MAINTAINERS names these.',
                side='message',
                symbol=f'Reviewed-by: {patch.subject}',
                said=(shown,),
            )


def _reviewers(patch: Patch) -> set[str]:
    found = set()
    for trailer in patch.trailers:
        name, _, value = trailer.partition(':')
        person = PERSON.match(value.strip())
        if name.strip().lower() in TAGS and person is not None:
            found.add(person['email'].lower())
    return found


FILE = 'mm/x.c'
TREE = {FILE: 'int x;\n'}
MO, RE = 'mo@example.org', 're@example.org'


def _case(
    trailing: str, people: tuple[str, ...] = (MO, RE), reviews: int = 1, author: Author = AUTHOR
) -> Case:
    message = f'mm: change x\n\nBecause.\n\n{trailing}Signed-off-by: A <a@example.org>'
    facts = Facts(reviews=reviews, people={1: frozenset(people)})
    return Case(TREE, (Edit({FILE: 'int y;\n'}, message, author),), facts=facts)


RULE = Rule(
    id='review-coverage',
    severity=Severity.ERROR,
    check=check,
    on_request=True,
    bad=(
        _case(''),
        _case('Reviewed-by: S <stranger@example.org>\n'),
        _case(f'Reviewed-by: M <{MO}>\n', reviews=2),
        _case(f'Reviewed-by: M <{MO}>\nAcked-by: M <{MO}>\n', reviews=2),
        _case(f'Acked-by: M <{MO}>\n', author=Author('M', MO)),
        _case(f'Tested-by: M <{MO}>\n'),
    ),
    good=(
        _case(f'Reviewed-by: M <{MO}>\n'),
        _case(f'Acked-by: "R, E" <{RE.upper()}>\nReviewed-by: M <{MO}>\n', reviews=2),
        _case('', reviews=0),
        _case('', people=()),
        _case('', people=(MO,), author=Author('M', MO)),
        _case(f'Reviewed-by: R <{RE}>\n', people=(RE,), reviews=2),
    ),
)
