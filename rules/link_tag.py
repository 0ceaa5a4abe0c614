"""
A commit has no Link: to the mail that it was applied from.

Documentation/maintainer/configure-git.rst: a maintainer's tree names, in a
Link: trailer, where the patch was posted (b4 adds it, as `Link:` or as
`Link: https://patch.msgid.link/…`), so that whoever meets the commit finds the
discussion. Reported are commits without any, and a Link: that holds no
message-id though it points to a mail archive.

Only of commits: a patch that was mailed has none yet. Silent where the commit
has a Closes: or Link: to a report or another page besides.
"""

import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from bot.model import Hit, Severity, Subject
from bot.rule import Case, Edit, Rule
from rules._trailers import named

ARCHIVES = ('lore.kernel.org', 'patch.msgid.link', 'lkml.kernel.org', 'msgid.link')


def check(subject: Subject) -> Iterator[Hit]:
    for patch in subject.series.patches:
        if patch.commit is None:
            continue
        links = [*named(patch, 'Link'), *named(patch, 'Closes')]
        if not links:
            yield Hit(
                patch.n,
                None,
                1,
                'has no Link: to the mail that it was applied from',
                'b4 adds it when it applies a series.',
                side='message',
                symbol=f'Link: {patch.subject}',
            )
        for one in links:
            if not _fits(one.value):
                yield Hit(
                    patch.n, None, one.line, 'has a Link: to a mail archive without a message-id',
                    'Which mail is it?', side='message', symbol=f'Link {one.value[:60]}',
                )  # fmt: skip


def _fits(value: str) -> bool:
    parts = urlsplit(re.split(r'\s', value.strip())[0])
    if parts.hostname not in ARCHIVES:
        return True
    return any('@' in unquote(part) for part in parts.path.split('/'))


FILE = 'mm/x.c'
TREE = {FILE: 'int x;\n'}


def _case(trailing: str, *, commit: bool = True) -> Case:
    message = f'mm: change x\n\nBecause.\n\n{trailing}Signed-off-by: A <a@example.org>'
    return Case(TREE, (Edit({FILE: 'int y;\n'}, message),), commits=commit)


RULE = Rule(
    id='link-tag',
    severity=Severity.NOTE,
    check=check,
    on_request=True,
    bad=(
        _case(''),
        _case('Link: https://lore.kernel.org/linux-mm/\n'),
        _case('Link: https://patch.msgid.link/\n'),
    ),
    good=(
        _case('Link: https://lore.kernel.org/linux-mm/20260320.1@example.org/\n'),
        _case('Link: https://patch.msgid.link/20260320.1@example.org # [1]\n'),
        _case('Closes: https://bugzilla.example.org/1\n'),
        _case('', commit=False),
    ),
)
