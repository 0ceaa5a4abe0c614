"""The evaluation itself, over the sample kernel."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.model import Hit, Severity, Snapshot, Subject
from bot.rule import Rule
from bot.tree import Quarantine
from tests.conftest import Demo
from tests.evaluate import harmless
from tests.evaluate.__main__ import (
    MARKS,
    Outcome,
    Row,
    Told,
    has_plants,
    mutation,
    mutation_table,
    silence,
    silence_table,
    written,
)
from tests.evaluate.planting import EVALUATED, Overlay, mailed

# Rules whose mistakes the sample has a place for, and no build is needed.
PLANTABLE = ('applies', 'desc-const-removed', 'vma-test-copy', 'vma-test-drift')


def nothing(_: Subject) -> Iterator[Hit]:
    yield from ()


def everything(subject: Subject) -> Iterator[Hit]:
    for step in subject.steps:
        yield Hit(step.n, None, None, 'a word too many')


def rule(name: str) -> Rule:
    return next(one for one in EVALUATED if one.id == name)


@pytest.mark.parametrize('name', [one.id for one in EVALUATED])
def test_every_rule_has_its_mistakes(name: str) -> None:
    assert has_plants(name)


@pytest.mark.parametrize('name', PLANTABLE)
def test_what_is_planted_is_found(sample: Demo, name: str) -> None:
    (row,) = mutation(sample.tree, EVALUATED, name)
    assert row.outcomes
    assert row.missed == ()
    assert row.wrong == ()
    assert row.good


def test_a_rule_that_says_nothing_misses_everything(sample: Demo) -> None:
    deaf = [replace(one, check=nothing) if one.id == 'vma-test-drift' else one for one in EVALUATED]
    (row,) = mutation(sample.tree, deaf, 'vma-test-drift')
    assert row.outcomes
    assert len(row.missed) == len(row.outcomes)
    assert not row.good


def test_a_rule_that_says_too_much_is_wrong_and_breaks_the_silence(sample: Demo) -> None:
    loud = replace(rule('const-cast'), check=everything, severity=Severity.ERROR)
    rules = [rule('vma-test-drift'), loud]
    (row,) = mutation(sample.tree, rules, 'vma-test-drift')
    assert row.found == len(row.outcomes)
    assert len(row.wrong) >= len(row.outcomes)
    assert not row.good
    told = silence(sample.tree, rules)
    assert all(one.loud for one in told if one.kind in harmless.KINDS)


def test_harmless_patches_are_silent_and_the_same_for_a_seed(sample: Demo) -> None:
    # The sample lacks names that the real kernel has, and that these patches call.
    rules = [one for one in EVALUATED if not one.on_request and one.id != 'identifier-unknown']
    told = silence(sample.tree, rules, seed=3)
    assert told
    assert [one for one in told if one.loud] == []
    assert silence(sample.tree, rules, seed=3) == told
    assert silence(sample.tree, rules, seed=4) != told


@pytest.mark.parametrize('kind', harmless.KINDS)
def test_a_harmless_patch_changes_what_it_names(sample: Demo, kind: str) -> None:
    with Quarantine(sample.tree) as quarantine:
        tree: Snapshot = quarantine.at(quarantine.resolve('HEAD'))
        for one in harmless.patches(tree, kind, 1):
            now = tree
            for edit in one.patches:
                assert mailed(now, edit), one.name
                now = Overlay(now, edit.files)


ROWS = (
    Row('a-rule', (Outcome('here', found=True), Outcome('there', found=False, wrong=('b: no',)))),
    Row('b-rule', (), 'has no module in tests/evaluate/mutations'),
)
TOLD = (
    Told('comments', 'mm/x.c: a comment', (), ('b-rule: mm/x.c: a word',)),
    Told('comments', 'mm/y.c: a comment', ('a-rule: mm/y.c: a word too many',)),
)


def test_the_tables(tmp_path: Path) -> None:
    table = '\n'.join(mutation_table(ROWS))
    assert re.search(r'^a-rule +2 +1 +1 +1 +50\.0 %$', table, re.M)
    assert re.search(r'^b-rule +has no module', table, re.M)
    assert table.endswith('missed:\n  a-rule: there\n\nwrong:\n  a-rule: there: b: no')
    table = '\n'.join(silence_table(TOLD))
    assert re.search(r'^comments +2 +1 +1$', table, re.M)
    document = tmp_path / 'evaluation.md'
    document.write_text('\n'.join(('before', *MARKS, 'after')))
    written(document, 'first')
    written(document, table)
    text = document.read_text()
    assert text.startswith(f'before\n{MARKS[0]}\n```\nharmless')
    assert text.endswith(f'```\n{MARKS[1]}\nafter')
    assert 'first' not in text
