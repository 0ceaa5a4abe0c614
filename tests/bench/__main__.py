"""
`make bench`: how fast, as ratios of two ways to do the same, in one run.

Each row runs both sides in turn, so that a machine whose speed drifts does not
favour one. `ONLY=apply,harness make bench` runs some of it.
"""

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.bench import applying, gate, harness, rules, scale, watching, words
from tests.bench.tools import Row, made
from tests.kernel import debian
from tests.kernel.conftest import kernels

PARTS = ('apply', 'rules', 'words', 'harness', 'gate', 'watch', 'scale')


def show(rows: Iterable[Row]) -> None:
    """Print rows of the table."""
    for row in rows:
        print(f'{row.name:52} {row.ours:7.2f}s {row.theirs:7.2f}s {row.ratio:7.1f}x', flush=True)


def main() -> int:
    """Print the table."""
    found = kernels() if os.environ.get('KERNEL') else debian.cached()
    if not found:
        print('bench: no real kernel: make kernel, or KERNEL=/path/to/linux', file=sys.stderr)
        return 1
    parts = os.environ.get('ONLY', ','.join(PARTS)).split(',')
    name, kernel = found[0]
    print(f'on Linux {name}, {len(os.sched_getaffinity(0))} cores; medians, ratios of pairs\n')
    print(f'{"what, and against what":52} {"ours":>8} {"theirs":>8} {"ratio":>8}')
    with tempfile.TemporaryDirectory(prefix='bench-') as temporary:
        folder = Path(temporary)
        if 'apply' in parts:
            show(applying.rows(kernel, made(folder / 'apply')))
        if 'rules' in parts:
            rows, said = rules.rows(kernel, made(folder / 'rules'))
            show(rows)
            print('\n'.join(said))
        if 'words' in parts:
            print('\n'.join(words.rows(kernel, made(folder / 'words'))))
        if 'harness' in parts:
            notes = []
            for number, (version, tree) in enumerate(found[:2]):
                rows, floors = harness.one_patch(version, tree, made(folder / f'one{number}'))
                show(rows)
                notes += floors
            show(harness.whole(kernel, made(folder / 'whole')))
            rows, floors = harness.many(kernel, made(folder / 'many'))
            show(rows)
            row = harness.overhead(kernel, made(folder / 'overhead'))
            show([row])
            notes += [*floors, f'the cage costs {(1 / row.ratio - 1) * 100:+.1f} % of a build']
            print('\n' + '\n'.join(notes))
        if 'gate' in parts:
            show(gate.rows(kernel, made(folder / 'gate')))
        if 'watch' in parts:
            rows, notes = watching.rows(made(folder / 'watch'))
            show(rows)
            print('\n' + '\n'.join(notes))
        if 'scale' in parts:
            print('\n' + '\n'.join(scale.notes()))
    return 0


if __name__ == '__main__':
    sys.exit(main())
