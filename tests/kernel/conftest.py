"""Real kernels: the newest in the cache, all of them with ALL_KERNELS, or KERNEL=/path."""

import os
from pathlib import Path

import pytest

from tests.kernel import debian

WORDS = debian.cache() / 'words'
"""The index of a kernel's words: made once, not for every test."""


@pytest.fixture(autouse=True)
def _shared_words(_isolated: None) -> None:
    share_words(Path(os.environ['XDG_CACHE_HOME']) / 'vma-review-bot')


def share_words(cache: Path) -> None:
    """Let a cache folder have the words that are there already."""
    WORDS.mkdir(parents=True, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    (cache / 'words').symlink_to(WORDS)


def kernels() -> list[tuple[str, Path]]:
    """(name, repository) of the kernels to test on."""
    if named := os.environ.get('KERNEL'):
        return [(Path(named).name, Path(named))]
    found = debian.cached()
    return found if os.environ.get('ALL_KERNELS') else found[:1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if 'tests/kernel/' in str(item.path):
            item.add_marker(pytest.mark.kernel)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if 'kernel' in metafunc.fixturenames:
        found = kernels()
        skip = pytest.mark.skip(reason='no real kernel: make kernel, or KERNEL=/path/to/linux')
        metafunc.parametrize(
            'kernel',
            [path for _, path in found] or [pytest.param(None, marks=skip)],
            ids=[name for name, _ in found] or ['none'],
            scope='session',
        )
