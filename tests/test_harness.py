"""The harness over the sample kernel: every patch against the one before it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bot.config import load
from bot.errors import SandboxError
from bot.harness import Workshop, build_series
from bot.model import (
    AppliedSeries,
    Author,
    Base,
    Build,
    BuildFailed,
    CouldNotRun,
    Limits,
    Passed,
    Patch,
    Series,
    TestsFailed,
)
from bot.sandbox import Cage
from bot.tree import Quarantine
from tests.conftest import Demo

DIR = 'tools/testing/vma'
BREAKS = ('mm/vma.c', '\treturn 0;\n}\n\n/* The area', '\treturn nosuch();\n}\n\n/* The area')
LIMITS = Limits()
Edit = tuple[str, str, str]
Run = Callable[..., list[Build]]


@pytest.fixture
def run(own_sample: Demo, tmp_path: Path) -> Run:
    """Judge edits ((path, old, new), …), one a patch, on the sample kernel."""

    def judge(
        *edits: Edit,
        limits: Limits = LIMITS,
        told: list[str] | None = None,
        before: tuple[Edit, ...] = (),
    ) -> list[Build]:
        repo = own_sample.repo
        base = last = repo.git('rev-parse', 'HEAD').decode().strip()
        for number, (path, old, new) in enumerate((*before, *edits)):
            text = b''
            if old or path in repo.git('ls-tree', '-r', '--name-only', last).decode().split():
                text = repo.git('cat-file', 'blob', f'{last}:{path}')
            assert old.encode() in text
            after = text.replace(old.encode(), new.encode()) if old else text + new.encode()
            last = repo.commit(repo.write({path: after}, base=last), 'x', parent=last, ref='x')
            if number + 1 == len(before):
                base = last
        diffs = [
            repo.git('diff-tree', '-p', f'{commit}^', commit)
            for commit in repo.git('rev-list', '--reverse', f'{base}..{last}').decode().split()
        ]
        author = Author('A', 'a@example.org')
        patches = tuple(
            Patch(n, len(diffs), None, None, 'x', author, '', '', diff)
            for n, diff in enumerate(diffs, 1)
        )
        said = told if told is not None else []
        workshop = Workshop(
            Cage(limits), tmp_path / 'cache', 2, lambda *words: said.append(str(words))
        )
        with Quarantine(own_sample.tree) as quarantine:
            series = Series(None, 'x', author, 1, patches)
            applied = quarantine.apply(series, Base('x', base, base, 'x'))
            assert isinstance(applied, AppliedSeries)
            (harness,) = load().harnesses
            return list(build_series(harness, applied, workshop))

    return judge


def outcomes(builds: list[Build]) -> list[tuple[int, str, bool]]:
    return [(build.n, type(build.outcome).__name__, build.reused) for build in builds]


def test_what_touches_no_input_is_reused(run: Run) -> None:
    builds = run(
        ('mm/vma.c', '', '\n'),
        ('mm/util.c', '', '\n'),
        ('drivers/demo/ring.c', '', '\n'),
        ('mm/vma.h', '#endif', '\n#endif'),
    )
    assert outcomes(builds) == [
        (0, 'Passed', False),
        (1, 'Passed', False),
        (2, 'Passed', True),
        (3, 'Passed', True),
        (4, 'Passed', False),
    ]
    assert all(build.outcome == Passed(5) for build in builds)
    assert builds[0].flags == ('EXTRA_CFLAGS=-fno-var-tracking-assignments',)


def test_nothing_is_built_where_nothing_is_touched(run: Run) -> None:
    told: list[str] = []
    assert run(('drivers/demo/ring.c', '', '\n'), told=told) == []
    assert told == []


def test_what_it_reads_is_learnt_once(run: Run) -> None:
    told: list[str] = []
    run(('mm/vma.c', '', '\n'), told=told)
    assert any('learning' in one for one in told)
    told.clear()
    run(('mm/vma.c', '', '\n'), told=told)
    assert told
    assert not any('learning' in one for one in told)


def test_broken_in_the_middle(run: Run) -> None:
    builds = run(BREAKS, ('mm/util.c', '', '\n'), (BREAKS[0], BREAKS[2], BREAKS[1]))
    assert [type(build.outcome) for build in builds] == [Passed, BuildFailed, BuildFailed, Passed]
    assert builds[2].reused
    assert isinstance(builds[1].outcome, BuildFailed)
    first = builds[1].outcome.errors[0]
    assert (first.path, first.symbol) == ('mm/vma.c', 'nosuch')
    assert 'nosuch' in builds[1].log


def test_an_include_that_is_new_to_the_tests_is_found(run: Run) -> None:
    builds = run(
        ('mm/fresh.h', '', '#define FRESH 1\n'),
        ('mm/vma.c', '#include "vma.h"\n', '#include "vma.h"\n#include "fresh.h"\n'),
        ('mm/fresh.h', '', 'static int fresh(void) { return FRESH; }\n'),
    )
    assert [type(build.outcome) for build in builds] == [Passed, Passed, Passed, Passed]


def test_a_file_that_is_new_to_the_makefile_is_found(run: Run) -> None:
    builds = run(
        ('mm/extra.c', '', 'int extra;\n'),
        (f'{DIR}/Makefile', 'vma: main.o', 'vma: main.o ../../../mm/extra.o'),
    )
    assert outcomes(builds) == [(0, 'Passed', False), (1, 'Passed', True), (2, 'Passed', False)]


def test_a_failing_test_is_named(run: Run) -> None:
    builds = run((f'{DIR}/tests/merge.c', 'mm.total_vm == 2', 'mm.total_vm == 3'))
    assert isinstance(builds[1].outcome, TestsFailed)
    (failed,) = builds[1].outcome.failed
    assert (failed.symbol, failed.path) == ('link_in_order', f'{DIR}/tests/merge.c')
    assert builds[1].outcome.run == 5


def test_a_sanitizer_report_is_a_failure(run: Run) -> None:
    builds = run(
        (
            'mm/vma.c',
            '\twhile (*at && (*at)->vm_end',
            '\tint a[1]; volatile int i = 9;\n\ta[i] = 1;\n\twhile (*at && (*at)->vm_end',
        )
    )
    assert isinstance(builds[1].outcome, TestsFailed)
    assert builds[1].outcome.sanitizer[0].path == 'mm/vma.c'


def test_a_base_that_does_not_build_is_told_and_goes_on(run: Run) -> None:
    builds = run(('mm/vma.c', '', '\n'), (BREAKS[0], BREAKS[2], BREAKS[1]), before=(BREAKS,))
    assert [type(build.outcome) for build in builds] == [BuildFailed, BuildFailed, Passed]


def test_a_limit_is_ours_and_named(run: Run) -> None:
    builds = run(
        (f'{DIR}/main.c', 'int run = 0', 'for (;;);\n\tint run = 0'), limits=Limits(time=3)
    )
    assert isinstance(builds[0].outcome, Passed)
    assert builds[1].outcome == CouldNotRun('stopped at a limit: 3 s of time', '3 s of time')


def test_without_a_cage_nothing_is_built(own_sample: Demo) -> None:
    repo = own_sample.repo
    base = repo.git('rev-parse', 'HEAD').decode().strip()
    text = repo.git('cat-file', 'blob', f'{base}:mm/vma.c')
    after = repo.commit(
        repo.write({'mm/vma.c': text + b'\n'}, base=base), 'x', parent=base, ref='x'
    )
    author = Author('A', 'a@example.org')
    patch = Patch(1, 1, None, None, 'x', author, '', '', repo.git('diff-tree', '-p', base, after))
    with Quarantine(own_sample.tree) as quarantine:
        applied = quarantine.apply(
            Series(None, 'x', author, 1, (patch,)), Base('x', base, base, 'x')
        )
        assert isinstance(applied, AppliedSeries)
        builds = list(build_series(load().harnesses[0], applied, SandboxError('no cage')))
    assert [(build.n, build.outcome) for build in builds] == [(1, CouldNotRun('no cage'))]
