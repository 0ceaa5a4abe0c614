"""git's patch-ids: what stays the same of a diff wherever it is applied."""

from bot import git


def patch_id(diff: bytes) -> str | None:
    """Return `git patch-id --stable` of a diff, None where it is none, or too large to ask."""
    words = git.run(['patch-id', '--stable'], diff).out.split()
    return words[0].decode() if words else None
