"""What pip and pipx install: all that the program needs, and it runs from anywhere."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bot import __version__
from tests.conftest import Demo

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def tracked(*paths: str) -> set[str]:
    """The files of the tree below `paths`, as git knows them."""
    done = subprocess.run(
        ['git', '-C', str(ROOT), 'ls-files', '-z', '--cached', '--others', '--exclude-standard',
         '--', *paths],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip('not a checkout')
    return {name for name in done.stdout.split('\0') if name and (ROOT / name).exists()}


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools leaves traces where it builds."""
    source = tmp_path_factory.mktemp('source')
    for name in tracked('.'):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp('wheel')
    done = subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation',
         '--no-index', '--wheel-dir', str(out), str(source)],
        capture_output=True, text=True, check=False, env={**os.environ, 'HOME': str(out)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (built,) = out.glob('*.whl')
    return built


def test_all_of_the_program_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    info, data = (f'vma_review_bot-{__version__}.{kind}/' for kind in ('dist-info', 'data'))
    program = {name for name in names if not name.startswith((info, data))}
    assert program == tracked('bot', 'rules')
    assert {name for name in names if name.startswith(data)} == {
        f'{data}data/share/man/man1/bot.1',
        f'{data}data/share/vma-review-bot/config.toml',
    }


def test_it_runs_from_anywhere(wheel: Path, sample: Demo, tmp_path: Path) -> None:
    target = tmp_path / 'installed'
    subprocess.run(
        [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index',
         '--no-compile', '--target', str(target), str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip

    def run(*words: object, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, '-P', *map(str, words)], capture_output=True, text=True, check=False,
            cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(target)},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout

    where = run('-c', 'import bot, rules; print(bot.__file__, rules.__file__)').split()
    assert where == [str(target / 'bot/__init__.py'), str(target / 'rules/__init__.py')]
    assert run('-m', 'bot', '--version') == f'bot, version {__version__}\n'
    run('-m', 'bot.demo', tmp_path / 'demo')  # the sample kernel
    run('-m', 'bot', 'status')  # the migrations
    check = ('-m', 'bot', 'check', '-q', '--harness', 'none', '--format', 'mbox')
    assert 'Subject: Re: ' in run(*check, '--tree', sample.tree, sample.mbox, code=1)  # templates
