"""Imports only go down (DESIGN: floors)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {
    5: (
        'cli',
        '__main__',
        'manual',
        'daemon',
        'pool',
        'session',
        'progress',
        'service',
        'sender',
        'gate',
        'log',
        'metrics',
        'doctor',
        'commands',
    ),
    4: ('review',),
    3: ('harness', 'bases', 'sources', 'handed', 'reviewers'),
    2: (
        'config',
        'lore',
        'mailbox',
        'b4',
        'tree',
        'sandbox',
        'store',
        'mail',
        'sendemail',
        'patchwork',
        'attest',
        'mirror',
        'queue',
        'brake',
    ),
    # One and a quarter: the disk.
    1.25: ('files',),
    # Floor 1 and a half: a world that every module of floor 2 may use.
    1.5: (
        'http',
        'fetch',
        'scratch',
        'cgroup',
        'walls',
        'password',
        'smtp',
        'notify',
        'git',
        'clock',
    ),
    # What a build uses is counted with what the machine has, that with its control groups.
    1.6: ('machine',),
    1.7: ('limits',),
    1.2: ('seccomp',),
    1: (
        'series',
        'subjects',
        'mailinfo',
        'thread',
        'ranges',
        'trailers',
        'patch',
        'paths',
        'csyntax',
        'rule',
        'policy',
        'quote',
        'reply',
        'voice',
        'output',
        'diagnose',
        'plain',
        'suppress',
        'assembly',
        'envelope',
        'lookup',
        'pushes',
        'headers',
        'maintainers',
        'respond',
        'orders',
        'signatures',
        'events',
        'cautions',
    ),
    0.75: ('outgoing',),
    0.5: ('lifecycle',),
    0: ('model', 'errors', '__init__'),
    -1: ('shown',),
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
MODULES = sorted(path for path in (ROOT / 'bot').rglob('*.py') if 'demo' not in path.parts)
# A pure module touches no file, clock, network or process.
IMPURE = {
    'os', 'pathlib', 'subprocess', 'socket', 'time', 'datetime', 'requests', 'shutil', 'tempfile',
    'pygit2', 'threading', 'random',
}  # fmt: skip


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, by full name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def unit(path: Path) -> str:
    """`bot/csyntax/flow.py` belongs to `csyntax`."""
    return path.relative_to(ROOT / 'bot').parts[0].removesuffix('.py')


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    mine = FLOOR_OF[unit(path)]
    for name in imports(path):
        parts = name.split('.')
        if parts[0] == 'rules':
            assert mine == 5, 'only floor 5 knows the rules'
        if parts[0] != 'bot' or len(parts) == 1:
            continue
        other = FLOOR_OF.get(parts[1])
        if other is None or parts[1] == unit(path):
            continue  # a name of bot/__init__.py, or the same package
        same_floor_is_fine = mine in (1, 5)
        assert other < mine or (other == mine and same_floor_is_fine), f'{unit(path)} → {parts[1]}'


@pytest.mark.parametrize(
    'path', [path for path in MODULES if FLOOR_OF[unit(path)] <= 1 and path.name != '__init__.py'],
    ids=lambda path: str(path.relative_to(ROOT)),
)  # fmt: skip
def test_the_lower_floors_are_pure(path: Path) -> None:
    assert {name.partition('.')[0] for name in imports(path)}.isdisjoint(IMPURE)


@pytest.mark.parametrize('path', sorted((ROOT / 'rules').glob('*.py')), ids=lambda path: path.name)
def test_a_rule_imports_only_what_rules_may(path: Path) -> None:
    allowed = {'bot', 'bot.model', 'bot.rule', 'bot.csyntax'}
    if path.name == '__init__.py':
        allowed.add('bot.errors')
    for name in imports(path):
        if name.startswith('bot'):
            assert '.'.join(name.split('.')[:2]) in allowed
    assert {name.partition('.')[0] for name in imports(path)}.isdisjoint(IMPURE)


def test_only_floor_five_prints() -> None:
    for path in MODULES:
        if FLOOR_OF[unit(path)] == 5:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != 'print', path


def test_every_module_says_what_it_is() -> None:
    for path in [*MODULES, *(ROOT / 'rules').glob('*.py')]:
        assert ast.get_docstring(ast.parse(path.read_text())), path
