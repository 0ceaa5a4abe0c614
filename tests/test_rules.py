"""The rules as a whole: loading, listing, explaining, fingerprints, and a folder of one's own."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bot.model import AppliedSeries, Evidence, Finding, Hit, Severity, Subject
from bot.output.rules import document, explained
from bot.rule import Case, Edit, Rule, finding_of, subject_of
from rules import ALL, load_folder
from tests.conftest import Bot, Demo
from tests.rules.test_cases import BAD

ROOT = Path(__file__).parent.parent
OWN = '''"""
A patch adds TODO.

{reason}
"""
from collections.abc import Iterator

from bot.model import Hit, Severity, Subject
from bot.rule import Case, Edit, Rule


def check(subject: Subject) -> Iterator[Hit]:
    for step in subject.steps:
        for diff in step.files:
            for number, line in diff.added:
                if b'vma_count_link(' in line:
                    yield Hit(step.n, diff.path, number, 'adds a call to be counted')


CASE = Case({{'x.c': ''}}, (Edit({{'x.c': 'TODO'}}),))
RULE = Rule(id='no-todo', severity=Severity.NOTE, check=check, bad=(CASE,), good=())
'''.format(reason='x' * 120)


def own(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / 'own'
    folder.mkdir()
    for name, text in files.items():
        (folder / f'{name}.py').write_text(text)
    config = tmp_path / 'config.toml'
    config.write_text(f'[rules]\npaths = ["{folder}"]\n')
    return config


# --- a folder of one's own ---


def test_rules_of_ones_own_are_run_and_listed(bot: Bot, sample: Demo, tmp_path: Path) -> None:
    config = own(tmp_path, no_todo=OWN, _shared='raise RuntimeError')
    listed = bot('rules', 'list', '--config', config)
    assert 'no-todo' in [line.split()[0] for line in listed.out.splitlines()]
    result = bot('check', '-q', '--harness', 'none', '--rules', 'no-*', '--config', config,
                 '--tree', sample.tree, sample.mbox)  # fmt: skip
    assert result.out.count('[no-todo]') == 4
    assert result.code == 0


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('"""x"""\nimport nosuch\n', 'no_todo.py:2: does not load: ModuleNotFoundError'),
        ('"""x"""\n\ndef check(:\n', 'no_todo.py:3: does not load: SyntaxError'),
        ('"""x"""\n', 'no_todo.py: has no RULE'),
        (OWN.replace("id='no-todo'", "id='other'"), "no_todo.py: calls its rule 'other'"),
        (OWN[OWN.index('from coll') :], 'no_todo.py: has no docstring'),
        ('"""x"""\ndef f():\n    raise ValueError(1)\n\nf()\n', 'no_todo.py:3: does not load'),
    ],
    ids=['import', 'syntax', 'no-rule', 'id', 'docstring', 'raises'],
)
def test_a_file_that_does_not_load_stops_the_start(
    bot: Bot, sample: Demo, tmp_path: Path, text: str, said: str
) -> None:
    config = own(tmp_path, no_todo=text)
    result = bot('check', '--config', config, '--tree', sample.tree, sample.mbox)
    assert result.code == 2
    assert said in result.err
    assert result.err.count('\n') == 1
    assert result.out == ''


def test_a_rule_that_is_there_already_and_a_folder_that_is_not(bot: Bot, tmp_path: Path) -> None:
    text = OWN.replace("id='no-todo'", "id='compat-pair'")
    config = own(tmp_path, compat_pair=text)
    result = bot('rules', 'list', '--config', config)
    assert (result.code, 'there is a rule "compat-pair" already' in result.err) == (2, True)
    config.write_text('[rules]\npaths = ["/nosuch"]\n')
    result = bot('rules', 'list', '--config', config)
    assert (result.code, '/nosuch is no folder' in result.err) == (2, True)


def test_the_documented_rule_works(tmp_path: Path) -> None:
    text = (ROOT / 'docs/writing-rules.md').read_text()
    example = re.search(r'```python\n(.*?)```', text, re.S)
    assert example is not None
    (tmp_path / 'mm_no_msleep.py').write_text(example[1])
    (rule,) = load_folder(str(tmp_path))
    assert [hit.n for case in rule.bad for hit in rule.check(subject_of(case))] == [1]
    assert [list(rule.check(subject_of(case))) for case in rule.good] == [[]]


# --- list, explain, documents ---


def test_the_list_has_a_line_a_rule(bot: Bot) -> None:
    result = bot('rules', 'list')
    assert [line.split()[0] for line in result.out.splitlines()] == [rule.id for rule in ALL]
    assert all(rule.summary in result.out for rule in ALL)


def test_explain(bot: Bot, golden: Callable[[str, str], None]) -> None:
    golden('explain.txt', bot('rules', 'explain', 'vma-test-drift').out)
    wrong = bot('rules', 'explain', 'vma-tset-drift')
    assert (wrong.code, 'did you mean vma-test-drift?' in wrong.err) == (2, True)


@pytest.mark.parametrize('rule', ALL, ids=lambda rule: rule.id)
def test_every_case_is_explained(rule: Rule) -> None:
    text = explained(rule)
    assert f'reported, {len(rule.bad)} of {len(rule.bad)}:' in text
    assert f'not reported, {len(rule.good)} of {len(rule.good)}:' in text
    assert f'vma-bot: ignore {rule.id} --' in text


def test_the_document_is_up_to_date() -> None:
    assert (ROOT / 'docs/rules.md').read_text() == document(ALL), 'make docs mends it'


# --- fingerprints ---


ELSEWHERE = """
static inline int elsewhere(struct vm_area_struct *renamed)
{
	int err_of_v2 = 0;

	return err_of_v2;
}
"""


def findings(rule: Rule, case: Case) -> list[Finding]:
    return [finding_of(rule, hit) for hit in rule.check(subject_of(case))]


def prints(found: list[Finding]) -> list[str]:
    return [one.fingerprint for one in found]


@pytest.mark.parametrize(('rule', 'case'), [one[1:] for one in BAD], ids=[one[0] for one in BAD])
def test_a_fingerprint_outlives_moved_lines_other_names_and_patches(rule: Rule, case: Case) -> None:
    if case.builds or rule.on_request:
        pytest.skip('its places are those of the build, of the base, or of each patch')
    moved = replace(
        case,
        before={path: _pushed(path, text, case.before) for path, text in case.before.items()},
        patches=(
            Edit({'fs/unrelated.c': 'int unrelated;\n'}, 'fs: something else'),
            *(
                Edit(
                    {
                        path: None if text is None else _pushed(path, text, case.before)
                        for path, text in edit.files.items()
                    },
                    edit.message,
                )
                for edit in case.patches
            ),
        ),
    )
    assert prints(findings(rule, moved)) == prints(findings(rule, case))


def _pushed(path: str, text: str, before: Mapping[str, str]) -> str:
    """Move all lines down, as a change above them would; have another function, with its names."""
    if not path.endswith(('.c', '.h')) or not text:
        return text
    # (what is new in the tests would have to be in the kernel)
    more = ELSEWHERE if path in before and not path.startswith('tools/') else ''
    return f'/*\n * Something of v2.\n */\n{more}{text}'


def test_a_fingerprint_tells_rules_places_and_symbols_apart() -> None:
    rule = ALL[0]
    hit = Hit(1, 'mm/vma.c', 3, 'm', symbol='f', evidence=(Evidence('x.c', 1, 'a  b'),))
    other = [
        replace(hit, path='mm/mmap.c'),
        replace(hit, symbol='g'),
        replace(hit, evidence=()),
    ]
    same = [
        replace(hit, n=2),
        replace(hit, line=30),
        replace(hit, message='another'),
        replace(hit, evidence=(Evidence('x.c', 9, 'a b'),)),
        replace(hit, severity=Severity.NOTE),
    ]
    mine = finding_of(rule, hit).fingerprint
    assert {finding_of(rule, one).fingerprint for one in same} == {mine}
    assert mine not in {finding_of(rule, one).fingerprint for one in other}
    assert len({finding_of(rule, one).fingerprint for one in other}) == len(other)
    assert finding_of(ALL[1], hit).fingerprint != mine


# --- robustness ---


@pytest.mark.parametrize('rule', ALL, ids=lambda rule: rule.id)
@pytest.mark.parametrize(
    'text',
    ['', '\0\xff' * 50, '{' * 3000, 'int f(', '#if\n' * 200, 'x' * 200_000, '/*', '"'],
    ids=['empty', 'binary', 'braces', 'open', 'conditions', 'long', 'comment', 'string'],
)
def test_no_rule_falls_over_odd_text(rule: Rule, text: str) -> None:
    words = 'struct vm_area_desc mmap_prepare vm_ops BUG mmap_action_type compat_set_desc_from_vma'
    odd = f'{text}\n{words}\n'
    paths = (
        'mm/util.c',
        'include/linux/mm_types.h',
        'tools/testing/vma/include/dup.h',
        'tools/testing/vma/include/stubs.h',
        'Documentation/mm/x.rst',
        'drivers/x.c',
    )
    case = Case(
        dict.fromkeys(paths, 'int x;\n'),
        (Edit(dict.fromkeys(paths, odd), odd), Edit(dict.fromkeys(paths, 'int x;\n'))),
    )
    subject = subject_of(case)
    assert isinstance(subject.applied, AppliedSeries)
    for _ in rule.check(Subject(subject.series, subject.applied)):
        pass


def test_suppressed_findings_are_listed_with_their_reason(
    bot: Bot, sample: Demo, tmp_path: Path, golden: Callable[[str, str], None]
) -> None:
    text = sample.mbox.read_text()
    lines = [
        'vma-bot: ignore compat-pair ring_mmap -- the ring knows\n',
        'vma-bot: ignore vma-test-build\n',
    ]
    mails = re.split(r'(?m)^(?=From 0{40})', text)[1:]
    mails[3] = mails[3].replace('\n---\n', f'\n---\n{lines[0]}', 1)
    mails[4] = mails[4].replace('\n---\n', f'\n---\n{lines[1]}', 1)
    mbox = tmp_path / 'x.mbox'
    mbox.write_text(''.join(mails))
    config = tmp_path / 'config.toml'
    config.write_text('[[ignore]]\nrule = "struct-doc-stale"\nreason = "rewritten next week"\n')
    result = bot(
        'check', '-q', '--config', config, '--harness', 'none', '--tree', sample.tree, mbox
    )
    golden('suppressed.txt', result.out.replace(str(sample.tree), 'TREE'))
