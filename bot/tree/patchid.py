"""git's patch-ids: what stays the same of a diff wherever it is applied."""

import os
import subprocess


def patch_id(diff: bytes) -> str | None:
    """Return `git patch-id --stable` of a diff, None where it is none."""
    result = subprocess.run(
        ['git', 'patch-id', '--stable'],
        input=diff,
        capture_output=True,
        check=False,
        cwd='/',
        env={
            'PATH': os.environ.get('PATH', ''),
            'GIT_CONFIG_GLOBAL': os.devnull,
            'GIT_CONFIG_NOSYSTEM': '1',
        },
    )
    words = result.stdout.split()
    return words[0].decode() if words else None
