"""docs/replies.md shows what the bot really writes, and every reason that policy has."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / 'docs/replies.md'
GOLDEN = ROOT / 'tests/golden'
SHOWN = re.compile(r'<!-- golden: (\S+) -->\n```\n(.*?)```\n', re.S)
ROW = re.compile(r'^\| (silent|hold|post) \| ([^|]+) \| ([^|]*) ?\|$', re.M)
KINDS = {'Silent': 'silent', 'Hold': 'hold', 'Post': 'post', 'Recipients': 'silent'}


def as_shown(name: str) -> str:
    """A golden file without the line that only an mbox has."""
    return re.sub(r'\AFrom mboxrd@z .*\n', '', (GOLDEN / name).read_text()).rstrip('\n') + '\n'


def test_the_mails_are_those_that_are_sent(request: pytest.FixtureRequest) -> None:
    """`make docs` puts in the goldens as they are now."""
    text = PAGE.read_text()
    if request.config.getoption('--write-goldens'):
        text = SHOWN.sub(
            lambda found: f'<!-- golden: {found[1]} -->\n```\n{as_shown(found[1])}```\n', text
        )
        PAGE.write_text(text)
    shown = dict(SHOWN.findall(text))
    assert len(shown) >= 4
    for name, said in shown.items():
        assert said == as_shown(name), f'{name} differs: make docs mends it'


def reasons() -> set[tuple[str, str]]:
    """Every reason that policy.py gives, with … for what is filled in."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / 'bot/policy.py').read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        given = [one.value for one in node.keywords if one.arg == 'refused'] or node.args[:1]
        for one in given:
            if node.func.id in KINDS and isinstance(one, ast.Constant | ast.JoinedStr):
                parts = one.values if isinstance(one, ast.JoinedStr) else [one]
                text = ''.join(
                    str(part.value) if isinstance(part, ast.Constant) else '…' for part in parts
                )
                found.add((KINDS[node.func.id], text))
    return found


def test_the_table_has_every_reason() -> None:
    said = {(outcome, reason.strip()) for outcome, reason, _ in ROW.findall(PAGE.read_text())}
    assert said == reasons()
    assert len(said) > 20


def test_the_keys_that_it_names_are_keys() -> None:
    known = set(re.findall(r'^#?(\w+) = ', (ROOT / 'config.toml').read_text(), re.M))
    named = set(re.findall(r'\[mail\] (\w+)', PAGE.read_text()))
    assert named
    assert named - known == set()
