"""README and docs/replies.md show what the bot really writes, and every reason that policy has."""

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import Bot, Demo

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


def test_the_readme_shows_what_make_demo_prints(bot: Bot, sample: Demo) -> None:
    command = '$ bot check --tree build/demo/linux.git build/demo/series.mbox\n'
    shown = (ROOT / 'README.md').read_text().partition(command)[2].partition('```')[0]
    printed = bot('check', '--tree', sample.tree, sample.mbox).out
    assert 'builds\n' in printed
    assert timeless(printed.replace(str(sample.tree), 'build/demo/linux.git')) == timeless(shown)


def timeless(text: str) -> str:
    """A report without what its builds took."""
    return re.sub(r'  (\d+\.\d s|reused)$', '', text, flags=re.M)


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
