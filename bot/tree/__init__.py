"""
Git objects in, git objects out, and never a change to the user's repository.

Answers: what a base's tree holds, and which tree each patch of a series leads
to. Everything is written to a quarantine: a temporary bare repository that
borrows the user's objects. Most patches are applied in memory (`patch.py`),
writing only the touched folders; what that declines goes to git, which has the
last word: `git apply --cached`, then the same with `--3way`.
"""

from bot.tree.commits import range_of
from bot.tree.history import NONE, beginning, count, subjects, whole
from bot.tree.patchid import patch_id
from bot.tree.quarantine import Quarantine
from bot.tree.snapshot import GitSnapshot
from bot.tree.source import Source

__all__ = [
    'NONE', 'GitSnapshot', 'Quarantine', 'Source', 'beginning', 'count', 'patch_id', 'range_of',
    'subjects', 'whole',
]  # fmt: skip
