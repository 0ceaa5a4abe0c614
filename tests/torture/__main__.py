"""
`make torture`: series stream in while watcher and workers are killed at random.

`SEED=S make torture` repeats a run's decisions. The last lines, one a backend,
say what came of it; exit code 1 where a series was lost or judged twice.
"""

import os
import random
import signal
import sys
import tempfile
from pathlib import Path

from tests.torture.campaign import campaign

KILLS = {'sqlite': 300, 'postgresql': 100}


def main() -> int:
    """Run a campaign on each backend; SIGTERM ends it, and all that it has started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seed = int(os.environ.get('SEED') or random.SystemRandom().randrange(10**6))
    lines = []
    for backend in os.environ.get('BACKEND', ','.join(KILLS)).split(','):
        kills = int(os.environ.get('KILLS') or KILLS[backend])
        with tempfile.TemporaryDirectory(prefix='torture-') as folder:
            os.chmod(folder, 0o755)  # noqa: PTH101  # PostgreSQL runs as another user
            found = campaign(backend, kills, seed, Path(folder), print)
        lines.append(found)
    print('\n'.join(str(one) for one in lines))
    return 0 if all(one.good for one in lines) else 1


if __name__ == '__main__':
    sys.exit(main())
