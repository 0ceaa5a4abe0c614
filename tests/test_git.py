"""git as a child: what a patch may ask of it, and what its limits say."""

import base64
import hashlib
import os
import signal
import threading
import zlib
from pathlib import Path

import pytest

from bot import git
from bot.errors import TreeError
from bot.git import GitLimits
from bot.model import AppliedSeries, Base, DoesNotApply
from bot.tree import Quarantine, fallback, patch_id
from tests.gitrepo import Repo
from tests.test_repository import wait_for
from tests.test_tree import series_of

MB = 1 << 20


def binary(path: str, content: bytes) -> bytes:
    """Add a file by a binary patch, as git writes one."""
    packed = zlib.compress(content, 9)
    oid = hashlib.sha1(b'blob %d\0' % len(content) + content).hexdigest()  # git's own name for it
    lines = []
    for start in range(0, len(packed), 52):
        part = packed[start : start + 52]
        length = bytes([64 + len(part)]) if len(part) <= 26 else bytes([70 + len(part)])
        lines.append(length + base64.b85encode(part + b'\0' * (-len(part) % 4)) + b'\n')
    return (
        f'diff --git a/{path} b/{path}\nnew file mode 100644\nindex {"0" * 40}..{oid}\n'
        f'GIT binary patch\nliteral {len(content)}\n'
    ).encode() + b''.join((*lines, b'\nliteral 0\nHcmV?d00001\n\n'))


def applied(folder: Path, *diffs: bytes) -> AppliedSeries | DoesNotApply:
    repo = Repo(folder / 'linux')
    commit = repo.commit(repo.write({'a': b'x\n'}), 'x')
    with Quarantine(repo.path) as quarantine:
        return quarantine.apply(series_of(*diffs), Base('x', commit, commit, 'x'))


def refusal(folder: Path, *diffs: bytes) -> str:
    said = applied(folder, *diffs)
    assert isinstance(said, DoesNotApply)
    return said.reason


def test_a_small_one_applies(tmp_path: Path) -> None:
    assert isinstance(applied(tmp_path, binary('b', bytes(range(256)) * 40)), AppliedSeries)


def test_a_patch_that_asks_for_a_gigabyte(tmp_path: Path) -> None:
    diff = binary('b', b'') .replace(b'literal 0\n', b'literal 1073741824\n', 1)  # fmt: skip
    assert len(diff) < 400
    assert refusal(tmp_path, diff) == 'too large to try (limit: 512 MB of memory)'


@pytest.mark.parametrize(
    ('content', 'limit'),
    [(b'\0' * (20 * MB), '8 MB of files'), (b'\n' * (2 * MB), '500000 lines')],
    ids=['bytes', 'lines'],
)
def test_a_file_that_a_few_kilobytes_make(tmp_path: Path, content: bytes, limit: str) -> None:
    diff = binary('b', content)
    assert len(diff) < 64 << 10
    assert refusal(tmp_path, diff) == f'too large to try (limit: {limit})'


def test_many_small_ones_count_together(tmp_path: Path) -> None:
    diff = b''.join(binary(f'b{n}', b'\0' * (3 * MB)) for n in range(3))
    assert refusal(tmp_path, diff) == 'too large to try (limit: 8 MB of files)'


def test_all_of_a_series_has_one_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, 'MOST_TIME', 0.0)
    said = applied(tmp_path, binary('b', b'\0\1'), binary('c', b'\0\1'))
    assert isinstance(said, DoesNotApply)
    assert (said.n, said.reason) == (
        2,
        'too large to try (limit: 0 s of time for all that git has to apply of a series)',
    )


# --- one child ---


def test_what_it_says() -> None:
    done = git.run(['hash-object', '--stdin'], b'x\n')
    assert (done.status, done.out, done.limit) == (
        0,
        b'587be6b4c3f93f93c489c0111bba5596147a26cb\n',
        None,
    )
    done = git.run(['nonsense'])
    assert done.status == 1
    assert done.last.startswith('git: ')


def test_the_users_settings_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'config').write_text('[alias]\nx = !echo mine\n')
    monkeypatch.setenv('GIT_CONFIG_GLOBAL', str(tmp_path / 'config'))
    monkeypatch.setenv('GIT_DIR', str(tmp_path))
    assert git.run(['x']).status == 1
    assert git.run(['rev-parse', '--git-dir']).status == 128


def test_each_limit_is_named(tmp_path: Path) -> None:
    assert git._hit(-signal.SIGXCPU, b'', GitLimits()) == '15 s of cpu time'
    wait = ['-c', 'alias.x=!sleep 60', 'x']
    assert git.run(wait, limits=GitLimits(cpu=0.2)).limit == '0.8 s of time'
    work = Repo(tmp_path / 'a').path
    large = GitLimits(file=1 << 20)
    done = git.run(
        ['hash-object', '-w', '--stdin'], os.urandom(3 << 20),
        settings={'GIT_DIR': str(work)}, limits=large,
    )  # fmt: skip
    assert done.limit == 'a file of 1 MB'
    done = git.run(['hash-object', '--stdin'], bytes(64 << 20), limits=GitLimits(memory=48 << 20))
    assert done.limit == '48 MB of memory'


def test_who_is_killed_from_outside_hit_no_limit() -> None:
    mark = f'61.{os.getpid()}'

    def kill() -> None:
        found: list[int] = []

        def there() -> bool:
            for path in Path('/proc').glob('[0-9]*/cmdline'):
                try:
                    words = path.read_bytes().split(b'\0')
                except OSError:
                    continue
                if words[:1] == [b'git'] and any(mark.encode() in word for word in words):
                    found.append(int(path.parent.name))
            return bool(found)

        wait_for(there)
        os.killpg(found[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(TreeError, match='git was killed'):
        git.run(['-c', f'alias.x=!sleep {mark}', 'x'])
    killer.join()


def test_a_patch_id_within_limits() -> None:
    assert patch_id(b'') is None
    diff = b'diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n'
    assert patch_id(diff) is not None
