"""libgit2's hunks as ours."""

import pygit2

from bot.model import Hunk


def hunks_of(patch: pygit2.Patch) -> tuple[Hunk, ...]:
    """Return libgit2's hunks as ours."""
    return tuple(
        Hunk(
            hunk.old_start,
            hunk.old_lines,
            hunk.new_start,
            hunk.new_lines,
            tuple(
                line.origin.encode() + line.raw_content
                for line in hunk.lines
                if line.origin in ' +-'
            ),
        )
        for hunk in patch.hunks
    )
