"""
Git objects in, git objects out, and never a change to the user's repository.

Answers: what a base's tree holds, and which tree each patch of a series leads
to. Everything is written to a quarantine: a temporary bare repository that
borrows the user's objects. Most patches are applied in memory (`patch.py`),
writing only the touched folders; what that declines goes to git, which has the
last word: `git apply --cached`, then the same with `--3way`.
"""

from bot.tree.commits import range_of
from bot.tree.history import NONE, beginning, count, parent_of, subjects, taker, whole
from bot.tree.patchid import patch_id
from bot.tree.prepared import prepared
from bot.tree.quarantine import Quarantine
from bot.tree.snapshot import GitSnapshot
from bot.tree.source import Source
from bot.tree.topics import Run, merge_of, runs

__all__ = [
    'NONE', 'GitSnapshot', 'Quarantine', 'Run', 'Source', 'beginning', 'count', 'merge_of',
    'parent_of', 'patch_id', 'prepared', 'range_of', 'runs', 'subjects', 'taker', 'whole',
]  # fmt: skip
