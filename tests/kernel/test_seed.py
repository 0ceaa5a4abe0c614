"""The seed series on a real kernel: what an honest reviewer says, and each mistake once."""

import json
from pathlib import Path

import pytest

from tests.conftest import Bot
from tests.kernel.conftest import share_words
from tests.kernel.seed import variants

NAMES = (
    'honest', 'document-updated', 'message-silent', 'dup-left-behind', 'const-left-in-copy',
    'error-not-tested', 'another-desc', 'another-vma', 'result-dropped', 'whole-would-do',
    'uio-error-not-tested', 'unresolved-call', 'assertion-fails', 'broken-then-mended',
)  # fmt: skip


@pytest.fixture(scope='session')
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose cache all these tests share: what the harness reads is learnt once."""
    folder = tmp_path_factory.mktemp('cache')
    share_words(folder)
    config = folder / 'config.toml'
    config.write_text(f'[state]\ncache = "{folder}"\n')
    return config


@pytest.mark.parametrize('name', NAMES)
def test_each_variant_gives_its_finding_and_no_other(
    bot: Bot, kernel: Path, cache: Path, tmp_path: Path, name: str
) -> None:
    seed, expected = variants(kernel)[name]
    repo, base, mbox = seed.write(kernel, tmp_path)
    result = bot('check', '-q', '--format', 'json', '--config', cache, '--tree', repo.path,
                 '--base', base, mbox)  # fmt: skip
    review = json.loads(result.out)
    assert {(one['rule'], one['severity'], one['n']) for one in review['findings']} == expected
    assert len(review['findings']) == len(expected)
    assert review['failures'] == []
    assert [one['how'] for one in review['applied']] == ['exact'] * len(seed.commits)
    worst = {severity for _, severity, _ in expected}
    assert result.code == (0 if worst <= {'note'} else 1)
    base_build = review['builds'][0]
    assert base_build['outcome'] == 'passed'
    if name == 'broken-then-mended':
        (broken,) = [one for one in review['findings'] if one['rule'] == 'vma-test-build']
        assert 'breaks the vma tests at 5/7 (mended at 7/7)' in broken['message']
        assert 'stubs.h' in broken['advice']


def test_all_variants_are_run(kernel: Path) -> None:
    assert set(variants(kernel)) == set(NAMES)
