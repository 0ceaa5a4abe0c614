"""
A commit has no Link: to the mail that it was applied from.

Documentation/maintainer/configure-git.rst: a maintainer's tree names, in a
Link: trailer, where the patch was posted (b4 adds it, as `Link:` or as
`Link: https://patch.msgid.link/…`), so that whoever meets the commit finds the
discussion. Reported are commits without any, and a Link: that holds no
message-id though it points to a mail archive.

Only of commits: a patch that was mailed has none yet. Where no commit of a
range has a Link:, that is said once. Silent where a commit has a Closes: or
Link: to a report or another page instead.
"""

import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from bot.model import Hit, Patch, Severity, Subject
from bot.rule import Case, Edit, Rule
from rules._trailers import Trailer, named

ADVICE = 'b4 adds it when it applies a series.'
ARCHIVES = ('lore.kernel.org', 'patch.msgid.link', 'lkml.kernel.org', 'msgid.link')


def check(subject: Subject) -> Iterator[Hit]:
    commits = [one for one in subject.series.patches if one.commit is not None and not one.merge]
    lacking = [patch for patch in commits if not _links(patch)]
    if len(lacking) == len(commits) > 1:
        yield _hit(0, None, 'has no Link: in any of its commits', ADVICE, 'Link')
        lacking = []
    for patch in commits:
        if patch in lacking:
            what = 'has no Link: to the mail that it was applied from'
            yield _hit(patch.n, 1, what, ADVICE, f'Link: {patch.subject}')
        for one in _links(patch):
            if not _fits(one.value):
                what = 'has a Link: to a mail archive without a message-id'
                yield _hit(patch.n, one.line, what, 'Which mail is it?', f'Link {one.value[:60]}')


def _links(patch: Patch) -> list[Trailer]:
    return [*named(patch, 'Link'), *named(patch, 'Closes')]


def _hit(n: int, line: int | None, message: str, advice: str, symbol: str) -> Hit:
    return Hit(n, None, line, message, advice, side='message', symbol=symbol)


def _fits(value: str) -> bool:
    parts = urlsplit(re.split(r'\s', value.strip())[0])
    if parts.hostname not in ARCHIVES:
        return True
    return any('@' in unquote(part) for part in parts.path.split('/'))


FILE = 'mm/x.c'
GOOD = 'Link: https://lore.kernel.org/linux-mm/20260320.1@example.org/\n'
TREE = {FILE: 'int x;\n'}


def _case(*trailing: str, commit: bool = True, expect: tuple[int, ...] | None = None) -> Case:
    edits = tuple(
        Edit(
            {FILE: f'int y{n};\n'},
            f'mm: change x\n\nBecause.\n\n{one}Signed-off-by: A <a@example.org>',
        )
        for n, one in enumerate(trailing)
    )
    return Case(TREE, edits, commits=commit, expect=expect)


RULE = Rule(
    id='link-tag',
    severity=Severity.NOTE,
    check=check,
    on_request=True,
    bad=(
        _case('', expect=(1,)),
        _case('', '', '', expect=(0,)),
        _case(GOOD, '', GOOD, expect=(2,)),
        _case('Link: https://lore.kernel.org/linux-mm/\n'),
        _case('Link: https://patch.msgid.link/\n'),
    ),
    good=(
        _case(GOOD),
        _case(GOOD, GOOD),
        _case('Link: https://patch.msgid.link/20260320.1@example.org # [1]\n'),
        _case('Closes: https://bugzilla.example.org/1\n'),
        _case('', commit=False),
    ),
)
