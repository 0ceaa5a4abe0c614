"""The rules on the real kernel: some of what `make evaluate` plants, and does without harm."""

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from itertools import islice
from pathlib import Path

import pytest

from bot.model import Hit, Subject
from bot.rule import Rule
from bot.tree import Quarantine
from tests.evaluate.__main__ import Bench, judged, unchanged, unharmed
from tests.evaluate.planting import EVALUATED, Kept, Plant
from tests.kernel import debian

SOME = 4
BUILT = 1
"""Plants of a rule that are judged; of one whose plants are built."""
PARTS = 16
"""Of the files left as they are, one of so many parts is looked at."""


@pytest.fixture(scope='module')
def bench(kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Quarantine(kernel, debian.cache()) as quarantine:
        tree = Kept(quarantine.at(quarantine.resolve('HEAD')))
        yield Bench(quarantine, tree, EVALUATED, tmp_path_factory.mktemp('builds'))


def plants(bench: Bench, rule: Rule) -> list[Plant]:
    module = import_module(f'tests.evaluate.mutations.{rule.id.replace("-", "_")}')
    first: list[Plant] = list(islice(module.plants(bench.tree), SOME))
    return first[:BUILT] if first and first[0].built else first


def nothing(_: Subject) -> Iterator[Hit]:
    yield from ()


@pytest.mark.parametrize('rule', EVALUATED, ids=lambda rule: rule.id)
def test_planted_mistakes_are_found_by_their_rule_alone(bench: Bench, rule: Rule) -> None:
    deaf = replace(bench, rules=[replace(rule, check=nothing)])
    made = plants(bench, rule)
    assert made
    for plant in made:
        outcome = judged(bench, rule.id, plant)
        assert (outcome.found, outcome.wrong) == (True, ()), plant.name
        assert not judged(deaf, rule.id, plant).found, plant.name


def test_the_kernel_as_it_is_and_what_does_no_harm_are_silent(bench: Bench) -> None:
    told = [*unchanged(0, PARTS, bench), *unharmed(('new functions', 'locals renamed'), 1, bench)]
    assert len(told) > PARTS
    assert [one for one in told if one.loud] == []
