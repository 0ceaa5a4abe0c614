"""KTAP: what is told of each patch. That the kernel's parser reads it so: tests/kernel."""

from collections.abc import Callable
from pathlib import Path

from bot.model import (
    Author,
    Build,
    BuildFailed,
    CouldNotRun,
    DoesNotApply,
    Failure,
    Hit,
    Incomplete,
    Passed,
    Review,
    Severity,
    Suppressed,
    TestsFailed,
)
from bot.output import ktap
from bot.rule import BASE, Case, Edit, Rule, finding_of, subject_of
from tests.conftest import Bot, Demo

FILE = 'mm/x.c'
CASE = Case(
    {FILE: 'a\n'},
    (
        Edit({FILE: 'b\n'}, 'mm: fix Kernel panic - not syncing: VFS: # SKIP it'),
        Edit({FILE: 'c\n'}, 'rules'),
        Edit({FILE: 'd\n'}, 'mm: reboot: System halted'),
    ),
)
SUBJECT = subject_of(CASE)


def rule(name: str, severity: Severity = Severity.WARNING) -> Rule:
    return Rule(name, severity, lambda _: iter(()), (), ())


def review_of_all_kinds() -> Review:
    """Findings of each level, of a stranger's words; builds of each outcome; failures of ours."""
    findings = tuple(
        finding_of(rule(name, severity), hit)
        for name, severity, hit in (
            ('of-all', Severity.NOTE, Hit(0, None, None, 'is long')),
            ('says', Severity.NOTE, Hit(1, FILE, 1, 'worth a look\nnot ok 7 - x\n1..9')),
            ('breaks', Severity.ERROR, Hit(2, FILE, 1, '# Subtest: List of all partitions:')),
            ('claims', Severity.WARNING, Hit(2, None, 3, 'says so', side='message')),
        )
    )
    aside = Suppressed(finding_of(rule('drops'), Hit(3, FILE, 1, 'drops x')), 'on purpose')
    builds = (
        Build('vma', 0, Passed(5)),
        Build('vma', 1, Passed(5), reused=True),
        Build('vma', 2, BuildFailed(())),
        Build('vma', 3, TestsFailed(5, (), reason='killed: # SKIP')),
        Build('memblock', 0, BuildFailed(())),
        Build('memblock', 1, BuildFailed(())),
        Build('radix', 1, CouldNotRun('no bubblewrap')),
    )
    failures = (Failure('crashes', 'KeyError: x'), Failure('parse', 'takes too long', 3))
    return Review(SUBJECT.series, SUBJECT.applied, findings, (aside,), builds, failures)


def reviews_that_were_none() -> list[Review]:
    """A series that does not apply, one that is not whole, and none at all."""
    author = Author('A', 'a@example.org')
    applied = DoesNotApply(SUBJECT.applied.series, BASE, 2, 'mm/x.c: hunk 1 does not match')
    return [
        Review(applied.series, applied),
        Review(Incomplete('patch 2 of 2 is missing', '1@x', 'mm: y', author)),
        Review(None, failures=(Failure('input', 'no such file'),)),
    ]


def test_the_sample_series(bot: Bot, sample: Demo, golden: Callable[[str, str], None]) -> None:
    result = bot('check', '-q', '--format', 'ktap', '--tree', sample.tree, sample.mbox)
    assert result.code == 1
    golden('sample.ktap', result.out.replace(str(sample.tree), 'TREE').replace(', reused', ''))


def test_all_kinds(golden: Callable[[str, str], None]) -> None:
    golden('kinds.ktap', ktap.render([review_of_all_kinds(), *reviews_that_were_none()]))


def test_fail_on() -> None:
    said = ktap.render([review_of_all_kinds()], Severity.NOTE)
    assert 'not ok 2 rules' in said.split('# Subtest: 1/3')[0]
    lenient = ktap.render([review_of_all_kinds()], Severity.ERROR)
    assert lenient.count('not ok 1 rules') == 1


def test_an_input_that_is_none(bot: Bot, sample: Demo, tmp_path: Path) -> None:
    empty = tmp_path / 'empty.mbox'
    empty.write_bytes(b'')
    result = bot('check', '-q', '--format', 'ktap', '--tree', sample.tree, empty)
    assert (result.code, result.err) == (3, '')
    assert result.out.splitlines()[-1].startswith('ok 1 0/0 the series # SKIP ')
    assert 'empty, no mail in it' in result.out
