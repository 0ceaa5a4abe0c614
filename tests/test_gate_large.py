"""A maintainer's pull of 2,000 commits with 100 merges goes through the gate in parts."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Bot
from tests.gitrepo import Repo

TOPICS, COMMITS = 100, 19
UNSIGNED = {(topic, 7) for topic in range(0, TOPICS, 9)}
AUTHOR = 'A Developer <dev@example.org>'


def subject(topic: int, n: int) -> str:
    return f'mm: topic {topic} change {n}'


def message(topic: int, n: int) -> str:
    signed = '' if (topic, n) in UNSIGNED else f'\nSigned-off-by: {AUTHOR}\n'
    return f'{subject(topic, n)}\n\nWhy this is so.\n{signed}'


def data(text: str) -> str:
    return f'data {len(text.encode())}\n{text}\n'


def stream() -> Iterator[str]:
    """A history as git fast-import reads it: topics from where the last but some stood, merged."""
    when = 1_700_000_000
    who = f'{AUTHOR} {when} +0000\n'
    said = f'author {who}committer {who}'
    yield f'commit refs/heads/master\nmark :1\n{said}{data("base")}'
    yield f'M 100644 inline mm/base.c\n{data("int base;")}\n'
    mark, merges = 1, [1]
    for topic in range(TOPICS):
        start = merges[max(len(merges) - 4, 0)]
        last, text = start, ''
        for n in range(COMMITS):
            mark += 1
            text += f'int v{topic}_{n};\n'
            yield f'commit refs/heads/topic\nmark :{mark}\n{said}{data(message(topic, n))}'
            yield f'from :{last}\nM 100644 inline mm/t{topic}.c\n{data(text)}\n'
            last = mark
        mark += 1
        yield f'commit refs/heads/master\nmark :{mark}\n{said}{data(f"Merge topic {topic}")}'
        yield f'from :{merges[-1]}\nmerge :{last}\nM 100644 inline mm/t{topic}.c\n{data(text)}\n'
        merges.append(mark)


@pytest.mark.slow
def test_each_commit_is_judged_once_and_merges_as_what_they_are(bot: Bot, tmp_path: Path) -> None:
    repo = Repo(tmp_path / 'linux.git')
    subprocess.run(
        ['git', 'fast-import', '--quiet'], input=''.join(stream()).encode(), cwd=repo.path,
        check=True,
    )  # fmt: skip
    base = repo.git('rev-list', '--max-parents=0', 'master').decode().strip()
    done = bot(
        'gate', '-q', '--harness', 'none', '--rules', 'signoff-chain', '--format', 'json',
        '--tree', repo.path, f'{base}..master',
    )  # fmt: skip
    assert done.code == 1, done.err
    reviews = [json.loads(line) for line in done.out.splitlines() if line.startswith('{')]
    judged = [patch for one in reviews for patch in one['series']['patches']]
    commits = [patch['commit'] for patch in judged]
    assert len(commits) == len(set(commits)) == TOPICS * (COMMITS + 1)
    listed = repo.git('rev-list', f'{base}..master').decode().split()
    assert sorted(commits) == sorted(listed)
    trees = {
        patch['commit']: step['tree']
        for one in reviews
        for patch, step in zip(one['series']['patches'], one['applied'], strict=True)
    }
    for commit in listed[:: len(listed) // 40]:
        if len(repo.git('rev-parse', f'{commit}^@').split()) == 1:
            assert trees[commit] == repo.git('rev-parse', f'{commit}^{{tree}}').decode().strip()
    found = {
        one['series']['patches'][finding['n'] - 1]['subject']
        for one in reviews
        for finding in one['findings']
    }
    assert found == {subject(*one) for one in UNSIGNED}
    assert {one['verdict'] for one in reviews} == {'clean', 'findings'}
