"""Every rule's own cases, generated."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bot.model import Hit, Review, Severity, Subject
from bot.reply import VERB, Writer, sentence
from bot.rule import Case, Rule, finding_of, subject_of
from rules import ALL
from tests.replying import HISTORY, LETTERHEAD, POLICY, mail, well_formed

BAD = [(f'{rule.id}-bad-{n}', rule, case) for rule in ALL for n, case in enumerate(rule.bad, 1)]
GOOD = [(f'{rule.id}-good-{n}', rule, case) for rule in ALL for n, case in enumerate(rule.good, 1)]


@pytest.mark.parametrize(('rule', 'case'), [one[1:] for one in BAD], ids=[one[0] for one in BAD])
def test_bad(rule: Rule, case: Case) -> None:
    subject = subject_of(case)
    hits = list(rule.check(subject))
    assert hits
    if case.expect is not None:
        assert tuple(hit.n for hit in hits) == case.expect
    for hit in hits:
        if hit.side == 'message':
            assert hit.path is None
        elif not rule.about_applying:
            step = next(step for step in subject.steps if step.n == hit.n)
            assert hit.path is not None
            diff = step.file(hit.path)
            assert diff is not None
            marker = (diff.line_at(hit.side, hit.line or 0) or b'')[:1]
            assert marker == (b'+' if hit.side == 'new' else b'-'), 'no line that the patch changes'
        assert '\n' not in hit.message
        assert not hit.message.endswith('.')
        assert finding_of(rule, hit).fingerprint


IDENTIFIER = re.compile(r'(?:struct |union |enum )?[A-Za-z_]\w*[_(\d]|[A-Z]|(?:struct|union|enum) ')


@pytest.mark.parametrize(('rule', 'case'), [one[1:] for one in BAD], ids=[one[0] for one in BAD])
def test_it_reads_as_a_mail(rule: Rule, case: Case) -> None:
    """Sentences, each with a capital letter or a name before and a stop behind; 72 columns."""
    subject = subject_of(case)
    found = tuple(finding_of(rule, hit) for hit in rule.check(subject))
    for one in found:
        said = sentence(one.hit)
        name = (one.hit.symbol or '').split(',')[0]
        assert IDENTIFIER.match(said) or (name and said.startswith(name)), said
        # A verb wants to be told who does it: reply.VERB knows it.
        word = one.hit.message.split()[0]
        assert VERB.match(one.hit.message) or not re.fullmatch(r'[a-z]+s|and', word), said
        assert said[-1] in '.?'
        assert '..' not in said.replace('...', '')
        assert '  ' not in said
    mails = tuple(
        mail(f'{patch.n}@x', f'[PATCH] {patch.subject}') for patch in subject.series.patches
    )
    patches = tuple(replace(one, msgid=f'{one.n}@x') for one in subject.series.patches)
    series = replace(subject.series, msgid='1@x', patches=patches)
    review = Review(series, replace(subject.applied, series=series), found, thread=mails)
    policy = replace(POLICY, severity=Severity.NOTE)
    thread = {one.msgid: one for one in mails if one.msgid is not None}
    replies = Writer(policy, LETTERHEAD, HISTORY, thread).compose(review)
    assert replies
    for reply in replies:
        well_formed(reply)
        for one in found:
            if one.hit.n == reply.n and len(replies) > 1:
                assert one.rule.encode() in reply.raw


def nothing(_: Subject) -> Iterator[Hit]:
    yield from ()


@pytest.mark.parametrize(('rule', 'case'), [one[1:] for one in BAD], ids=[one[0] for one in BAD])
def test_a_bad_case_fails_without_the_rules_body(rule: Rule, case: Case) -> None:
    with pytest.raises(AssertionError):
        test_bad(replace(rule, check=nothing), case)


@pytest.mark.parametrize(('rule', 'case'), [one[1:] for one in GOOD], ids=[one[0] for one in GOOD])
def test_good(rule: Rule, case: Case) -> None:
    assert list(rule.check(subject_of(case))) == []


@pytest.mark.parametrize('rule', ALL, ids=lambda rule: rule.id)
def test_a_rule_is_documented_and_has_its_cases(rule: Rule) -> None:
    assert len(rule.bad) >= 3
    assert len(rule.good) >= 3
    first, _, rest = rule.doc.strip().partition('\n\n')
    assert '\n' not in first
    assert first.endswith('.')
    assert len(rest) > 100
