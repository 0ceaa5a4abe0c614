"""
Git objects in, git objects out, and never a change to the user's repository.

Answers: what a base's tree holds, and which tree each patch of a series leads
to. Everything is written to a quarantine: a temporary bare repository that
borrows the user's objects. Most patches are applied in memory (`patch.py`),
writing only the touched folders; what that declines goes to git, which has the
last word: `git apply --cached`, then the same with `--3way`.
"""

from bot.tree.quarantine import Quarantine
from bot.tree.snapshot import GitSnapshot

__all__ = ['GitSnapshot', 'Quarantine']
