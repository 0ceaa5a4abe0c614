"""
What git hands its hooks: which refs change, from which commit to which. Pure.

Raises `UsageError` where that can't be read: then it was not git that called.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bot.errors import UsageError

Hook = Literal['pre-push', 'pre-receive', 'update']
HOOKS: tuple[Hook, ...] = ('pre-push', 'pre-receive', 'update')
NONE = '0' * 40
COMMIT = re.compile(r'[0-9a-f]{40}')


@dataclass(frozen=True)
class Push:
    """A branch that changes. `old` is None for a new one; `remote` is there for pre-push."""

    ref: str
    old: str | None
    new: str
    remote: str | None = None


def pushes(hook: Hook, words: Sequence[str], lines: str) -> tuple[Push, ...]:
    """
    Read what a hook is told: its arguments, its standard input.

    Branches that are deleted, and refs that are no branches (tags, notes), are
    left out: nothing of them is judged.
    """
    found = []
    remote = words[0] if hook == 'pre-push' and words else None
    for line in [' '.join(words)] if hook == 'update' else lines.splitlines():
        parts = line.split(' ')
        if hook == 'pre-push' and len(parts) == 4:
            _, new, ref, old = parts
        elif hook == 'pre-receive' and len(parts) == 3:
            old, new, ref = parts
        elif hook == 'update' and len(parts) == 3:
            ref, old, new = parts
        else:
            raise UsageError(f'--hook {hook}: not what git hands this hook: {line[:100]!r}')
        if not COMMIT.fullmatch(old) or not COMMIT.fullmatch(new):
            raise UsageError(f'--hook {hook}: no commit ids: {line[:100]!r}')
        if new != NONE and ref.startswith('refs/heads/'):
            found.append(Push(ref, None if old == NONE else old, new, remote))
    return tuple(found)
