"""A check never changes the user's repository, whatever happens to it."""

import hashlib
import os
import signal
import time
from pathlib import Path

import pytest

from bot.scratch import PREFIX
from tests.conftest import Bot, Demo, start_bot

pytestmark = pytest.mark.slow

SLOW = '[[harness]]\nname = "vma"\nrun = "sleep 61"\n'


def fingerprint(folder: Path) -> dict[str, tuple[int, int, int, str]]:
    """Mode, size, time of change and content of everything below a folder."""
    found = {}
    for path in sorted([folder, *folder.rglob('*')]):
        stat = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ''
        found[str(path)] = (stat.st_mode, stat.st_size, stat.st_mtime_ns, content)
    return found


def sleeping(pattern: bytes) -> list[int]:
    found = []
    for entry in Path('/proc').glob('[0-9]*'):
        try:
            if pattern in (entry / 'cmdline').read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_for(condition: object, seconds: float = 30) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'it did not come to that in time'
        time.sleep(0.02)  # waiting for another process, not for time to pass


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / 'tmp'
    folder.mkdir()
    return folder


def test_byte_identical_after_a_check(bot: Bot, sample: Demo, temporary: Path) -> None:
    before = fingerprint(sample.tree)
    assert (
        bot('check', '--tree', sample.tree, sample.mbox, env={'TMPDIR': str(temporary)}).code == 1
    )
    assert fingerprint(sample.tree) == before
    assert list(temporary.iterdir()) == []


def test_byte_identical_after_git_had_to_apply(bot: Bot, own_sample: Demo, tmp_path: Path) -> None:
    repo = own_sample.repo
    base = repo.git('rev-parse', 'HEAD').decode().strip()
    tree = repo.write({'blob.bin': bytes(range(256))}, base=base)
    commit = repo.commit(tree, 'a binary', parent=base, ref='other')
    mbox = tmp_path / 'binary.mbox'
    mbox.write_bytes(repo.format_patch('--binary', f'{base}..{commit}'))
    before = fingerprint(own_sample.tree)
    assert bot('check', '-q', '--tree', own_sample.tree, '--base', base, mbox).code == 0
    assert fingerprint(own_sample.tree) == before


@pytest.mark.parametrize(
    ('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)],
    ids=['int', 'term', 'kill'],
)  # fmt: skip
def test_byte_identical_after_a_signal(
    bot: Bot, sample: Demo, tmp_path: Path, temporary: Path, number: int, code: int
) -> None:
    config = tmp_path / 'config.toml'
    # A number of its own, so that no other test's sleep is taken for it.
    mark = f'6{os.getpid()}{number}'
    config.write_text(SLOW.replace('61', mark))
    before = fingerprint(sample.tree)
    process = start_bot(
        'check', '--config', config, '--tree', sample.tree, sample.mbox,
        env={'TMPDIR': str(temporary)},
    )  # fmt: skip
    wait_for(lambda: sleeping(f'sleep\0{mark}'.encode()))
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert b'Traceback' not in err
    assert out == b''
    assert fingerprint(sample.tree) == before
    wait_for(lambda: not sleeping(f'sleep\0{mark}'.encode()))
    if number == signal.SIGINT:
        assert err.splitlines()[-1] == b'bot: interrupted'
        assert list(temporary.iterdir()) == []
    # What a killed run left is taken away by the next one.
    env = {'TMPDIR': str(temporary)}
    assert (
        bot('check', '-q', '--harness', 'none', '--tree', sample.tree, sample.mbox, env=env).code
        == 1
    )
    assert not list(temporary.glob(f'{PREFIX}*'))
