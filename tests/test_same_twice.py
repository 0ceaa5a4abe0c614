"""
The same series is told the same, byte by byte: nothing comes in the order of a hash.

As a program it prints all that the rules say of their own cases, and the
evaluation's findings on a sample kernel; the test compares three runs of it.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.review import run_rules
from bot.rule import Rule, subject_of
from rules import ALL
from tests.conftest import Demo
from tests.evaluate.__main__ import mutation, silence
from tests.evaluate.planting import EVALUATED

# Rules whose mistakes the sample has a place for, and no build is needed.
PLANTABLE = ('applies', 'desc-const-removed', 'vma-test-copy', 'vma-test-drift')
SEEDS = (0, 1, 2)


def of_cases(rules: tuple[Rule, ...]) -> Iterator[str]:
    """Say what all rules find in every case of every rule, in order."""
    for rule in rules:
        for case in (*rule.bad, *rule.good):
            findings, failures = run_rules(rules, subject_of(case))
            yield from (f'{rule.id} {one}' for one in (*findings, *failures))


def of_evaluation(tree: Path) -> Iterator[str]:
    """Say what the evaluation finds."""
    yield from map(str, silence(tree, EVALUATED))
    for name in PLANTABLE:
        yield from map(str, mutation(tree, EVALUATED, name))


@pytest.mark.slow
def test_three_runs_say_the_same(sample: Demo) -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, '-m', 'tests.test_same_twice', str(sample.tree)],
            env={**os.environ, 'PYTHONHASHSEED': str(seed)},
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
        )
        for seed in SEEDS
    ]
    said = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert said[0].count(b'\n') > 100
    assert said[0] == said[1] == said[2]


if __name__ == '__main__':
    for line in (*of_cases(tuple(ALL)), *of_evaluation(Path(sys.argv[1]))):
        print(line)
