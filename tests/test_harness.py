"""The harness over the sample kernel: every patch against the one before it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bot.errors import SandboxError
from bot.harness import Event, build_series
from bot.harness.results import prune
from bot.model import (
    AppliedSeries,
    Base,
    BuildFailed,
    CouldNotRun,
    Limits,
    Passed,
    Series,
    TestsFailed,
)
from bot.sandbox import Cage
from bot.tree import Quarantine
from tests.conftest import Demo
from tests.judging import AUTHOR, Judge, built, harness, outcomes
from tests.test_repository import wait_for

DIR = 'tools/testing/vma'
BREAKS = ('mm/vma.c', '\treturn 0;\n}\n\n/* The area', '\treturn nosuch();\n}\n\n/* The area')
MENDS = (BREAKS[0], BREAKS[2], BREAKS[1])
TOUCH = ('mm/vma.c', '', '\n')


@pytest.fixture
def judge(own_sample: Demo, tmp_path: Path) -> Judge:
    return Judge(own_sample, tmp_path / 'cache')


def teller(told: list[str]) -> Callable[[Event], None]:
    return lambda event: told.append(f'{event.kind} {event.n}{event.text}')


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


# --- per patch ---


def test_what_touches_no_input_is_reused(judge: Judge) -> None:
    builds = judge(
        ('mm/vma.c', '', '\nint one;\n'),
        ('mm/util.c', '', '\n'),
        ('drivers/demo/ring.c', '', '\n'),
        ('mm/vma.h', '#endif', '\nextern int one;\n#endif'),
    )
    assert outcomes(builds) == [
        (0, 'Passed', False),
        (1, 'Passed', False),
        (2, 'Passed', True),
        (3, 'Passed', True),
        (4, 'Passed', False),
    ]
    assert all(isinstance(b.outcome, Passed) and b.outcome.run == 5 for b in builds)
    assert builds[0].flags == ('EXTRA_CFLAGS=-g1',)


def test_nothing_is_built_where_nothing_is_touched(judge: Judge) -> None:
    told: list[str] = []
    assert judge(('drivers/demo/ring.c', '', '\n'), told=teller(told)) == []
    assert told == []


def test_what_it_reads_is_learnt_once(judge: Judge) -> None:
    told: list[str] = []
    judge(TOUCH, told=teller(told))
    assert told[0] == 'learning 0'
    told.clear()
    judge(('mm/vma.c', '', '\n\n'), told=teller(told))
    assert told == ['planned 1', 'started 1', 'done 1']


def test_the_same_again_is_not_built(judge: Judge) -> None:
    first = judge(TOUCH, BREAKS)
    told: list[str] = []
    second = judge(TOUCH, BREAKS, told=teller(told))
    assert told == ['planned 0']
    assert [(b.n, b.outcome, b.log) for b in second] == [(b.n, b.outcome, b.log) for b in first]
    assert all(build.reused for build in second)


def test_broken_in_the_middle(judge: Judge) -> None:
    builds = judge(BREAKS, ('mm/util.c', '', '\n'), MENDS)
    assert [type(build.outcome) for build in builds] == [Passed, BuildFailed, BuildFailed, Passed]
    assert [build.reused for build in builds] == [False, False, True, True]
    assert isinstance(builds[1].outcome, BuildFailed)
    first = builds[1].outcome.errors[0]
    assert (first.path, first.symbol) == ('mm/vma.c', 'nosuch')
    assert 'nosuch' in builds[1].log


def test_an_include_that_is_new_to_the_tests_is_found(judge: Judge) -> None:
    builds = judge(
        ('mm/fresh.h', '', '#define FRESH 1\n'),
        ('mm/vma.c', '#include "vma.h"\n', '#include "vma.h"\n#include "fresh.h"\n'),
        ('mm/fresh.h', '', 'static int fresh(void) { return FRESH; }\n'),
    )
    assert [type(build.outcome) for build in builds] == [Passed, Passed, Passed, Passed]
    assert isinstance(builds[3].outcome, Passed)
    assert [one.symbol for one in builds[3].outcome.warnings] == ['fresh']


def test_a_file_that_is_new_to_the_makefile_is_found(judge: Judge) -> None:
    builds = judge(
        ('mm/extra.c', '', 'int extra;\n'),
        (f'{DIR}/Makefile', 'vma: main.o', 'vma: main.o ../../../mm/extra.o'),
    )
    assert outcomes(builds) == [(0, 'Passed', False), (1, 'Passed', True), (2, 'Passed', False)]


def test_a_file_outside_of_all_its_folders_is_found(judge: Judge) -> None:
    include = ('mm/vma.c', '#include "vma.h"\n', '#include "vma.h"\n#include "../kernel/far.h"\n')
    builds = judge(
        ('kernel/far.h', '', '#define FAR 1\n'),
        TOUCH,
        include,
        ('kernel/far.h', '#define FAR 1', '#error far'),
    )
    assert [type(b.outcome) for b in builds] == [Passed, Passed, Passed, Passed, BuildFailed]
    assert [b.n for b in builds] == [0, 1, 2, 3, 4]
    again = judge(('mm/vma.c', '', '\n\n'), (*include[:2], include[2].replace('far.h', 'no.h')))
    assert [type(b.outcome) for b in again] == [Passed, Passed, BuildFailed]


def test_what_is_built_and_run_by_the_makefile_is_learnt_too(judge: Judge) -> None:
    tool = 'vma: main.o\n\t$(CC) -o tool ../../../mm/tool.c && ./tool | grep -q tool\n'
    builds = judge(
        ('mm/vma.c', '', '\nint one;\n'),
        ('mm/tool.c', 'tool', 'other'),
        before=[
            ('mm/tool.c', '', '#include <stdio.h>\nint main(void) { return puts("tool") < 0; }\n'),
            (f'{DIR}/Makefile', 'vma: main.o\n', tool),
        ],
    )
    assert [type(b.outcome) for b in builds] == [Passed, Passed, BuildFailed]


def test_a_failing_test_is_named(judge: Judge) -> None:
    builds = judge((f'{DIR}/tests/merge.c', 'mm.total_vm == 2', 'mm.total_vm == 3'))
    assert isinstance(builds[1].outcome, TestsFailed)
    (failed,) = builds[1].outcome.failed
    assert (failed.symbol, failed.path) == ('link_in_order', f'{DIR}/tests/merge.c')
    assert builds[1].outcome.run == 5


def test_a_sanitizer_report_is_a_failure(judge: Judge) -> None:
    builds = judge(
        (
            'mm/vma.c',
            '\twhile (*at && (*at)->vm_end',
            '\tint a[1]; volatile int i = 9;\n\ta[i] = 1;\n\twhile (*at && (*at)->vm_end',
        )
    )
    assert isinstance(builds[1].outcome, TestsFailed)
    assert builds[1].outcome.sanitizer[0].path == 'mm/vma.c'


def test_flags_are_those_that_the_build_shows(judge: Judge) -> None:
    builds = judge((f'{DIR}/Makefile', '-fsanitize=undefined', '-fno-sanitize=alignment'))
    before, after = (build.outcome for build in builds)
    assert isinstance(before, Passed)
    assert isinstance(after, Passed)
    assert set(before.flags) - set(after.flags) == {'-fsanitize=undefined'}
    assert set(after.flags) - set(before.flags) == {'-fno-sanitize=alignment'}


def test_a_base_that_does_not_build_is_told_and_goes_on(judge: Judge) -> None:
    builds = judge(TOUCH, MENDS, before=(BREAKS,))
    assert [type(build.outcome) for build in builds] == [BuildFailed, BuildFailed, Passed]


def test_a_limit_is_ours_and_named(judge: Judge) -> None:
    judge(TOUCH)
    builds = judge(
        (f'{DIR}/main.c', 'int run = 0', 'for (;;);\n\tint run = 0'), limits=Limits(time=3)
    )
    assert isinstance(builds[0].outcome, Passed)
    said = CouldNotRun('the tests stopped at a limit: 3 s of time', '3 s of time')
    assert builds[1].outcome == said


def test_a_full_disk_is_not_the_authors(judge: Judge) -> None:
    builds = judge(
        (f'{DIR}/Makefile', 'vma: main.o', 'vma: fill main.o\nfill:\n\thead -c 90M /dev/zero >x\n'),
        limits=Limits(disk=64 << 20),
    )
    assert isinstance(builds[1].outcome, CouldNotRun)
    assert '64 MB' in builds[1].outcome.reason


def test_without_a_cage_nothing_is_built(judge: Judge) -> None:
    base, patches = judge.series([TOUCH])
    with Quarantine(judge.sample.tree) as quarantine:
        applied = quarantine.apply(
            Series(None, 'x', AUTHOR, 1, patches), Base('x', base, base, 'x')
        )
        assert isinstance(applied, AppliedSeries)
        builds = built(build_series(harness(), applied, SandboxError('no cage')))
    assert [(build.n, build.outcome) for build in builds] == [(1, CouldNotRun('no cage'))]


def test_a_library_that_is_missing_here_is_not_the_authors(judge: Judge) -> None:
    builds = judge((f'{DIR}/Makefile', '-o $@ $^', '-o $@ $^ -lnosuchlibrary'))
    assert isinstance(builds[1].outcome, CouldNotRun)
    assert builds[1].outcome.reason.startswith('libnosuchlibrary is not installed: apt install ')


# --- trust ---


def test_only_the_base_of_a_configured_ref_fills_the_shared_ccache(judge: Judge) -> None:
    judge(TOUCH)
    shared = judge.cache / 'ccache'
    before = files_below(shared)
    assert before
    judge(('mm/vma.c', '', '\nint other;\n'))
    judge(('mm/vma.c', '', '\nint third;\n'), before=[('mm/vma.c', '', '\nint under;\n')])
    base_filled = set(files_below(shared)) - set(before)
    assert base_filled, 'the second base is a configured one too'
    kept = files_below(judge.cache)
    builds = judge(
        ('mm/vma.c', '', '\nint fourth;\n'),
        before=[('mm/vma.c', '', '\nint strange;\n')],
        vouched=False,
    )
    assert [type(build.outcome) for build in builds] == [Passed, Passed]
    after = files_below(judge.cache)
    assert {path for path in set(after) - set(kept) if not path.startswith('results/')} == set()
    assert files_below(shared) == {
        path.removeprefix('ccache/'): text
        for path, text in kept.items()
        if path.startswith('ccache/')
    }


# --- the cache ---


def results(judge: Judge) -> list[Path]:
    return sorted((judge.cache / 'results').rglob('*.json'))


@pytest.mark.parametrize(
    'torn',
    ['', '{', 'null', '[]', '{"key": "x"}', '\0' * 100],
    ids=['empty', 'half', 'null', 'list', 'other', 'zeros'],
)
def test_a_torn_entry_is_a_miss(judge: Judge, torn: str) -> None:
    first = judge(TOUCH)
    for path in (*results(judge), *(judge.cache / 'inputs').iterdir()):
        path.write_text(torn)
    told: list[str] = []
    again = judge(TOUCH, told=teller(told))
    assert [b.outcome for b in again] == [b.outcome for b in first]
    assert 'learning 0' in told
    for path in results(judge):
        assert json.loads(path.read_text())


def test_another_entrys_result_is_not_taken(judge: Judge) -> None:
    judge(TOUCH, BREAKS)
    one, two, *_ = results(judge)
    shutil.copy(one, two)
    told: list[str] = []
    builds = judge(TOUCH, BREAKS, told=teller(told))
    assert [type(build.outcome) for build in builds] == [Passed, Passed, BuildFailed]
    assert 'planned 1' in told


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / 'results' / f'{number:02}' / 'x.json'
        path.parent.mkdir(parents=True)
        path.write_bytes(b'x' * 1000)
        os.utime(path, (1000 + number, 1000 + number))
    (tmp_path / 'keep.git').write_bytes(b'x' * 100_000)
    prune(tmp_path, 20_000)
    assert len(results(Judge(Demo(tmp_path, tmp_path), tmp_path))) == 20
    prune(tmp_path, 10_000)
    left = [path.parent.name for path in results(Judge(Demo(tmp_path, tmp_path), tmp_path))]
    assert left == [f'{number:02}' for number in range(12, 20)]
    assert (tmp_path / 'keep.git').exists()


def test_a_cache_that_can_not_be_written_is_said_and_does_not_matter(judge: Judge) -> None:
    judge.cache.write_text('a file where the folder should be')
    told: list[str] = []
    builds = judge(BREAKS, told=teller(told))
    assert [type(build.outcome) for build in builds] == [Passed, BuildFailed]
    assert any(one.startswith('note') for one in told)


CHILD = """
import sys
from pathlib import Path
from tests.conftest import Demo
from tests.judging import Judge
tree, mbox, cache, start, count = sys.argv[1:]
judge = Judge(Demo(Path(tree), Path(mbox)), Path(cache))
for n in range(int(start), int(start) + int(count)):
    edit = ('mm/vma.c', '', f'\\nint extra{n};\\n')
    builds = judge(edit, ('mm/vma.c', 'return 0', 'return nosuch()'))
    print(n, *(type(build.outcome).__name__ for build in builds), flush=True)
"""


def child(judge: Judge, folder: Path, start: int, count: int) -> 'subprocess.Popen[str]':
    """A process of its own that judges `count` series with the same cache."""
    tree = folder / f'tree{start}.git'
    shutil.copytree(judge.sample.tree, tree)
    words = [tree, judge.sample.mbox, judge.cache, start, count]
    return subprocess.Popen(
        [sys.executable, '-c', CHILD, *(str(word) for word in words)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_several_processes_share_a_cache(judge: Judge, tmp_path: Path) -> None:
    children = [child(judge, tmp_path, start, 3) for start in (0, 1)]
    said = [process.communicate(timeout=300)[0] for process in children]
    for start, text in enumerate(said):
        assert text.splitlines() == [
            f'{n} Passed Passed BuildFailed' for n in range(start, start + 3)
        ]


def test_a_kill_at_any_moment_leaves_a_cache_that_works(judge: Judge, tmp_path: Path) -> None:
    expected = [b.outcome for b in Judge(judge.sample, tmp_path / 'other')(TOUCH, BREAKS)]
    for number in range(5):
        process = child(judge, tmp_path, number * 10, 5)
        seen = len(list(judge.cache.rglob('*')))
        wait_for(lambda seen=seen: len(list(judge.cache.rglob('*'))) > seen)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert [b.outcome for b in judge(TOUCH, BREAKS)] == expected
    for path in results(judge):
        assert json.loads(path.read_text())['key'] == path.stem


# --- other harnesses ---


MEMBLOCK = {
    'mm/memblock.c': b'#include <linux/memblock.h>\nint memblock_count(void) { return REGIONS; }\n',
    'include/linux/memblock.h': b'#define REGIONS 3\n',
    'tools/testing/memblock/Makefile': (
        b'CFLAGS += -Ilinux -I. -Wall -fsanitize=address\nLDFLAGS += -fsanitize=address\n'
        b'main: main.o memblock.o\nmain.o memblock.o: links\n'
        b'links:\n\t@mkdir -p linux; ln -sf ../../../../include/linux/memblock.h linux/memblock.h\n'
        b'memblock.c: ../../../mm/memblock.c\n\tln -sf $< $@\n.PHONY: links\n'
    ),
    'tools/testing/memblock/main.c': (
        b'#include <assert.h>\n#include <stdio.h>\nint memblock_count(void);\n'
        b'static void count_check(void) { assert(memblock_count() == 3); }\n'
        b'int main(void)\n{\n\tcount_check();\n'
        b'\tprintf("ok 1 : memblock: count_check: passed\\n");\n\treturn 0;\n}\n'
    ),
}


def test_another_harness_by_configuration(judge: Judge) -> None:
    memblock = harness('memblock')
    builds = judge(
        ('mm/vma.c', '', '\n'),
        ('include/linux/memblock.h', 'REGIONS 3', 'REGIONS 4'),
        ('include/linux/memblock.h', 'REGIONS 4', 'REGIONS 3'),
        ('mm/memblock.c', 'return REGIONS', 'return nosuch'),
        before=(MEMBLOCK,),
        by=memblock,
    )
    assert [type(build.outcome) for build in builds] == [
        Passed, Passed, TestsFailed, Passed, BuildFailed,
    ]  # fmt: skip
    assert [build.reused for build in builds] == [False, True, False, True, False]
    assert isinstance(builds[2].outcome, TestsFailed)
    (failed,) = builds[2].outcome.failed
    assert (failed.path, failed.line) == ('tools/testing/memblock/main.c', 4)


def test_each_runs_when_its_inputs_are_touched(judge: Judge) -> None:
    edits = [('include/linux/memblock.h', '', '\n')]
    assert judge(*edits, before=(MEMBLOCK,), by=harness('vma')) == []
    assert len(judge(*edits, before=(MEMBLOCK,), by=harness('memblock'))) == 2


def test_a_harness_that_only_exits(judge: Judge) -> None:
    plain = replace(harness('memblock'), name='plain', run='./main', parser='exit-code')
    builds = judge(
        ('include/linux/memblock.h', 'REGIONS 3', 'REGIONS 4'), before=(MEMBLOCK,), by=plain
    )
    assert isinstance(builds[0].outcome, Passed)
    assert builds[0].outcome.run is None
    assert isinstance(builds[1].outcome, TestsFailed)


def test_the_cages_version_is_part_of_a_results_key(judge: Judge) -> None:
    judge(TOUCH)
    count = len(results(judge))
    base, patches = judge.series([TOUCH])
    with Quarantine(judge.sample.tree) as quarantine:
        applied = quarantine.apply(
            Series(None, 'x', AUTHOR, 1, patches), Base('x', base, base, 'x')
        )
        assert isinstance(applied, AppliedSeries)
        from bot.harness import Workshop

        workshop = Workshop(Cage(Limits(), open_=True), judge.cache, 2)
        builds = built(build_series(harness(), applied, workshop))
    assert [type(build.outcome) for build in builds] == [Passed, Passed]
    assert len(results(judge)) == 2 * count
