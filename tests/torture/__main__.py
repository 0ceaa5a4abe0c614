"""
`make torture`: what must not be lost or done twice, while processes are killed at random.

Two campaigns, each on each backend: `series` stream in while watcher and
workers are killed; `mails` go out while the sender is. By name alone: `mails-in`,
100,000 (`MAILS=N`) fuzzed mails from list to reply; `machines` kills nobody:
databases, networks, clocks, archives and certificates fail; `inputs`: 5,000
(`CASES=N`) generated threads, of which git, b4 and the bot have to make the same. `CAMPAIGN=mails`,
`BACKEND=sqlite` and `KILLS=N` (or `FAULTS=N`) choose, `SEED=S` repeats a run's
decisions. The last lines say what came of it; exit code 1 where something was
lost, twice or stopped.
"""

import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.torture import campaign, inputs, machines, mails, mailsin

Result = campaign.Result | mails.Result | mailsin.Result | machines.Result | inputs.Result
CAMPAIGNS: dict[str, Callable[..., Result]] = {
    'series': campaign.campaign,
    'mails': mails.campaign,
    'mails-in': mailsin.campaign,
    'machines': machines.campaign,
    'inputs': inputs.campaign,
}
UNNAMED = 'series,mails'
"""The campaigns of a run that names none."""
KILLS = {'sqlite': 300, 'postgresql': 100}
FAULTS = {'sqlite': 50, 'postgresql': 100}


def main() -> int:
    """Run the campaigns; SIGTERM ends it, and all that it has started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seed = int(os.environ.get('SEED') or random.SystemRandom().randrange(10**6))
    lines: list[Result] = []
    for name in os.environ.get('CAMPAIGN', UNNAMED).split(','):
        for backend in os.environ.get('BACKEND', ','.join(KILLS)).split(','):
            if name == 'inputs' and lines and isinstance(lines[-1], inputs.Result):
                continue  # once: it asks no backend
            kills = int(os.environ.get('KILLS') or KILLS[backend])
            if name == 'machines':
                kills = int(os.environ.get('FAULTS') or FAULTS[backend])
            with tempfile.TemporaryDirectory(prefix='torture-') as folder:
                os.chmod(folder, 0o755)  # noqa: PTH101  # PostgreSQL runs as another user
                lines.append(CAMPAIGNS[name](backend, kills, seed, Path(folder), print))
    print('\n'.join(str(one) for one in lines))
    return 0 if all(one.good for one in lines) else 1


if __name__ == '__main__':
    sys.exit(main())
