"""
What commits a user names, in git's words: pure.

Answers which two commits a range lies between. `A..B`, `A..` and `..B` as git
has them; `REF^!`, or a single commit, is that commit alone; `-3` are the last
three. `A...B` is refused: git means by it what is on either side.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from bot.errors import UsageError

LAST = re.compile(r'-([1-9][0-9]{0,5})')
COMMIT = re.compile(r'[^\s:]{1,250}')


@dataclass(frozen=True)
class Between:
    """Commits after `old` up to `new`, each as git's revision syntax has it."""

    old: str
    new: str


def last(word: str) -> str | None:
    """Return `-3` as a range, None for any other word."""
    found = LAST.fullmatch(word)
    return f'HEAD~{found[1]}..HEAD' if found is not None else None


def stretch(text: str, resolve: Callable[[str], str | None]) -> Between | None:
    """
    Return what `text` names, None where it names no commits.

    `resolve` says what a revision is, None where there is none. Raises
    `UsageError` for what git reads, and no series can be.
    """
    text = last(text) or text
    if COMMIT.fullmatch(text) is None or text.startswith('-'):
        return None
    if '...' in text:
        left, _, right = text.partition('...')
        if resolve(left or 'HEAD') and resolve(right or 'HEAD'):
            raise UsageError(
                f'{text}: three dots name what is on either side of the fork; '
                f'name the commits of one side: {left or "HEAD"}..{right or "HEAD"}'
            )
        return None
    if '..' in text:
        return _between(text, resolve)
    one = text.removesuffix('^!')
    if resolve(one) is None:
        return None
    return Between(f'{one}^', one)


def _between(text: str, resolve: Callable[[str], str | None]) -> Between | None:
    left, _, right = text.partition('..')
    old, new = left or 'HEAD', right or 'HEAD'
    if not (left or right):
        return None
    lacking = [one for one in (old, new) if resolve(one) is None]
    if not lacking:
        return Between(old, new)
    if len(lacking) == 1 and '@' not in text and '/' not in lacking[0][:1]:
        raise UsageError(f'{text}: there is no commit {lacking[0]!r} here')
    return None
