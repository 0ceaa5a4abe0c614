"""
What the tests of hostile series share: a court that judges them, and what they are after.

Each attack goes the whole way of a series: applied, laid out, caged, compiled
with the shared ccache, its result kept. It prints that it ran; what it was
after is then looked at, and an honest series judged with the same cache comes
out as before. All are bounded, so that a cage that is open would survive them;
those that do no harm are run in an open one too, where they must succeed.
"""

import contextlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bot import demo
from bot.harness import Workshop, build_series
from bot.model import (
    AppliedSeries,
    Base,
    Build,
    BuildFailed,
    DoesNotApply,
    Limits,
    Patch,
    Series,
)
from bot.sandbox import Cage
from bot.tree import Quarantine
from bot.tree.snapshot import GitSnapshot
from tests.gitrepo import File
from tests.judging import AUTHOR, LIMITS, Edit, Judge, built, harness

DIR = 'tools/testing/vma'
HONEST: tuple[Edit, ...] = (
    ('mm/vma.c', '', '\n'),
    ('mm/vma.c', '\treturn 0;\n}\n\n/* The area', '\treturn nosuch();\n}\n\n/* The area'),
)
TIGHT = Limits(time=120, memory=256 << 20, processes=40, disk=32 << 20, output=1 << 20)
RAN, THROUGH = 'the attack runs', 'the attack is through'
AS_TEST = b'vma:\n\t@cp attack.sh vma; chmod +x vma\n'
SUMMARY = '5 tests run, 5 passed, 0 failed.'
MARKED = 'MARKED'
USER = 61235
"""An ordinary user, who need not have an account."""
DIGITS = "$(head -c 5000 /dev/zero | tr '\\0' 9)"

Seen = list[tuple[int, object, tuple[str, ...], str]]


def seen(builds: Iterable[Build]) -> Seen:
    return [(build.n, build.outcome, build.flags, build.log) for build in builds]


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def script(text: str) -> dict[str, File]:
    """Let the makefile be a shell script that fails in the end, so that its output is kept."""
    said = f'echo {RAN}\n{text}\necho {THROUGH}\nexit 1\n'
    return {f'{DIR}/Makefile': b'vma:\n\t@sh attack.sh\n', f'{DIR}/attack.sh': said.encode()}


def bare(text: str) -> str:
    """Return what a script prints without a cage: that the attack is one."""
    ran = Cage(TIGHT, open_=True).run([], '.', [('attack', text)])
    return ran.phases[0].output


def texts(value: object) -> Iterator[str]:
    """Yield every string in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts(one)


def everything(build: Build) -> str:
    return '\n'.join(texts(asdict(build)))


@dataclass(frozen=True)
class Court:
    """Judges hostile series, and after each the honest one; `expected` is what that gave."""

    judge: Judge
    expected: Seen

    def __call__(
        self,
        *edits: Edit,
        before: Sequence[Edit] = (),
        limits: Limits = LIMITS,
        vouched: bool = True,
    ) -> list[Build]:
        with self.nothing_else_written() as builds:
            builds += self.judge(*edits, before=before, limits=limits, vouched=vouched)
        return builds

    def diffs(
        self,
        *diffs: bytes,
        on_top: Sequence[bytes] = (),
        limits: Limits = LIMITS,
    ) -> tuple[AppliedSeries | DoesNotApply, list[Build]]:
        """Judge raw diffs, which git need not have made."""
        base = self.judge.sample.repo.git('rev-parse', 'HEAD').decode().strip()
        own = files_below(self.judge.sample.tree)
        with self.nothing_else_written() as builds, Quarantine(self.judge.sample.tree) as there:
            applied = there.apply(
                Series(None, 'x', AUTHOR, 1, patches(diffs)),
                Base('x', base, base, 'x'),
                patches(on_top),
            )
            if isinstance(applied, AppliedSeries):
                tree = applied.steps[-1].post
                assert isinstance(tree, GitSnapshot)
                for path, mode, _ in tree.files(''):
                    assert mode in (0o100644, 0o100755, 0o120000)
                    assert not {'', '.', '..', '.git'} & set(path.lower().split('/'))
                workshop = Workshop(Cage(limits), self.judge.cache, 2, 1 << 30)
                builds += built(build_series(harness(), applied, workshop))
        assert files_below(self.judge.sample.tree) == own
        return applied, builds

    @contextlib.contextmanager
    def nothing_else_written(self) -> Iterator[list[Build]]:
        """Only results of the builds themselves come into the cache, and no other changes."""
        builds: list[Build] = []
        kept = files_below(self.judge.cache)
        yield builds
        now = files_below(self.judge.cache)
        assert {path: now.get(path) for path in kept} == kept
        kinds = {type(build.outcome).__name__ for build in builds}
        for path in set(now) - set(kept):
            assert re.fullmatch(r'results/([0-9a-f]{2})/\1[0-9a-f]{62}\.json', path)
            found = json.loads(now[path])
            assert found['key'] == Path(path).stem
            assert found['outcome']['kind'] in kinds
        assert seen(self.judge(*HONEST)) == self.expected

    def rebuilt(self) -> None:
        """Judge the honest series anew, with the shared ccache and no result that is kept."""
        shutil.rmtree(self.judge.cache / 'results')
        assert seen(self.judge(*HONEST)) == self.expected


def patches(diffs: Sequence[bytes]) -> tuple[Patch, ...]:
    return tuple(
        Patch(n, len(diffs), None, None, 'x', AUTHOR, '', '', diff)
        for n, diff in enumerate(diffs, 1)
    )


@dataclass(frozen=True)
class Bait:
    """What a stranger would like to read; all of it holds `token`."""

    token: str
    key: Path
    config: Path
    pid: int


def ran(build: Build) -> str:
    """Return the log of a script that ran to its end."""
    assert isinstance(build.outcome, BuildFailed), build
    assert RAN in build.log
    assert THROUGH in build.log
    return build.log


def added(path: str, mode: str = '100644', text: str = 'x') -> bytes:
    """Add a file by a diff that git would not make."""
    return (
        f'diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n'
        f'@@ -0,0 +1 @@\n+{text}\n'
    ).encode('utf-8', 'surrogateescape')


def made(files: Mapping[str, File]) -> bytes:
    """Write files anew: a diff that takes away what was there and adds these."""
    diff = b''
    for path, content in files.items():
        assert isinstance(content, bytes)
        there = demo.TREE / path
        old = there.read_bytes().splitlines(keepends=True) if there.exists() else []
        new = content.splitlines(keepends=True)
        name = path.encode()
        diff += b'diff --git a/%s b/%s\n' % (name, name)
        diff += b'--- a/%s\n' % name if old else b'new file mode 100644\n--- /dev/null\n'
        diff += b'+++ b/%s\n@@ -%d,%d +1,%d @@\n' % (name, bool(old), len(old), len(new))
        diff += b''.join(b'-' + line for line in old) + b''.join(b'+' + line for line in new)
    return diff
