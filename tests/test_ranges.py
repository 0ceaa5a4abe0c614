"""What commits a user names, in git's words."""

from pathlib import Path

import pytest

from bot.errors import UsageError
from bot.ranges import Between, last, stretch
from tests.conftest import Bot, Demo

KNOWN = (
    'HEAD',
    'HEAD~3',
    'HEAD^',
    'v7.2',
    'v7.3',
    'origin/master',
    'linux-6.12.y',
    'master',
    'a@b',
)


def resolve(ref: str) -> str | None:
    return '1' * 40 if ref in KNOWN else None


@pytest.mark.parametrize(
    ('text', 'old', 'new'),
    [
        ('v7.2..v7.3', 'v7.2', 'v7.3'),
        ('origin/master..linux-6.12.y', 'origin/master', 'linux-6.12.y'),
        ('v7.2..', 'v7.2', 'HEAD'),
        ('..v7.3', 'HEAD', 'v7.3'),
        ('HEAD', 'HEAD^', 'HEAD'),
        ('HEAD^!', 'HEAD^', 'HEAD'),
        ('v7.3', 'v7.3^', 'v7.3'),
        ('-3', 'HEAD~3', 'HEAD'),
    ],
)
def test_ranges(text: str, old: str, new: str) -> None:
    assert stretch(text, resolve) == Between(old, new)


@pytest.mark.parametrize(
    'text', ['', '..', 'nosuch', '-0', '-x', '1..2@example.org', 'x y', 'a:b', '--config=x', 'x/y']
)
def test_no_commits(text: str) -> None:
    assert stretch(text, resolve) is None


@pytest.mark.parametrize(
    ('text', 'said'),
    [('v7.2...v7.3', 'either side of the fork'), ('v7.2..nosuch', "no commit 'nosuch'")],
)
def test_what_no_series_can_be(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        stretch(text, resolve)


def test_an_option_that_is_none() -> None:
    assert last('-12') == 'HEAD~12..HEAD'
    assert last('-v') is None
    assert last('-0') is None
    assert last('3') is None


@pytest.mark.slow
def test_of_a_repository(bot: Bot, own_sample: Demo, tmp_path: Path) -> None:
    repo = own_sample.repo
    base = repo.git('rev-parse', 'HEAD').decode().strip()
    for number, ref in enumerate(('v7.2', 'linux-6.12.y', 'v7.2-rc1'), 1):
        tree = repo.write({'README': b'%d\n' % number}, base=base)
        commit = repo.commit(tree, f'change {number}\n\nWhy.\n', parent=base, ref='master')
        repo.git('tag' if ref.startswith('v') else 'branch', ref, commit)
        base = commit
    words = ('check', '-q', '--harness', 'none', '--rules', 'compat-pair', '--tree')
    for text, count in (
        ('v7.2..v7.2-rc1', 2), ('v7.2..linux-6.12.y', 1), ('-2', 2), ('HEAD', 1), ('HEAD^!', 1),
        ('v7.2', 1), ('HEAD~3..', 3),
    ):  # fmt: skip
        result = bot(*words, own_sample.tree, '--format', 'json', text)
        assert result.code == 0, result
        assert result.out.count('"commit": ') - result.out.count('"base"') == count, text
    assert bot(*words, own_sample.tree, 'nosuch').code == 2
    assert bot(*words, own_sample.tree, 'v7.2...HEAD').code == 2
