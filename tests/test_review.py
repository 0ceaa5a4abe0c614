"""The engine: a rule's fault is ours, never the author's."""

from collections.abc import Iterator
from pathlib import Path

from bot.bases import Place, choose
from bot.errors import SandboxError
from bot.mailbox import read
from bot.model import Hit, Series, Severity, Subject, Tree
from bot.review import review
from bot.rule import Case, Edit, Rule, subject_of
from bot.series import assemble
from bot.tree import Quarantine
from tests.conftest import Demo


def crashes(subject: Subject) -> Iterator[Hit]:
    yield Hit(1, None, None, 'said before the crash')
    raise RuntimeError('with\nseveral lines')


def says(subject: Subject) -> Iterator[Hit]:
    for step in subject.steps:
        yield Hit(step.n, step.files[0].path, step.files[0].hunks[0].new_start, 'x', symbol='x')


def rule(name: str, check: object) -> Rule:
    assert callable(check)
    return Rule(name, Severity.NOTE, check, (), ())


def test_a_crashing_rule_is_a_failure_and_the_others_go_on(sample: Demo) -> None:
    series = assemble(read(str(sample.mbox)))
    assert isinstance(series, Series)
    with Quarantine(Path(sample.tree)) as quarantine:
        applied = choose(series, [Place(Tree('x', str(sample.tree)), quarantine)])
        rules = [rule('crashes', crashes), rule('says', says)]
        found = review(applied, rules, [], SandboxError('none'))
    assert [(one.what, one.error) for one in found.failures] == [
        ('crashes', 'RuntimeError: with several lines')
    ]
    assert found.verdict == 'could-not-check'
    assert {one.rule for one in found.findings} == {'says'}
    prints = [one.fingerprint for one in found.findings]
    assert [one.hit.n for one in found.findings] == [1, 2, 3, 4, 5, 6]
    assert len(set(prints)) == len({one.hit.path for one in found.findings})


def test_a_file_that_can_not_be_parsed_is_a_failure_and_the_others_are_judged() -> None:
    slow, good = 'mm/a.c', 'mm/b.c'
    case = Case({slow: '\n'}, (Edit({slow: '/ * ' * 3000, good: 'int b;\n'}),))
    applied = subject_of(case).applied
    found = review(applied, [rule('says', says)], [], SandboxError('none'))
    assert [(one.what, one.error, one.n) for one in found.failures] == [
        ('parse', 'mm/a.c takes too long to parse: what it says is not judged', 1)
    ]
    assert found.verdict == 'could-not-check'
    assert [one.rule for one in found.findings] == ['says']
