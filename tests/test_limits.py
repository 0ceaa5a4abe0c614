"""
What a build may use up, tried by real programs in real sandboxes, as root and as a user.

Each is counted from outside (`counted`), and again with the kernel's own control groups
(`group`) where root may make some of version 1. Those of version 2 need a group that a service
manager delegates. All attacks are bounded (`attacks.c`).
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import bot.machine
from bot.cgroup import ControlGroup, OldGroup, delegated
from bot.harness import Builder, Workshop
from bot.limits import CpuTime
from bot.machine import Machine, Turn
from bot.model import CouldNotRun, Limits
from bot.sandbox import Cage, Ran
from bot.walls import Bind
from tests.conftest import Demo
from tests.judging import Judge, harness, outcomes
from tests.persons import as_person

LIMITS = Limits(
    time=60, cpu=40, memory=256 << 20, processes=40, disk=32 << 20, output=1 << 20
)  # fmt: skip
SOURCE = (Path(__file__).parent / 'attacks.c').read_bytes()
MEMORY, CPU, PROCESSES = '256 MB of memory', '2 s of cpu time', '40 processes'
DISK = '32 MB of disk'
CASES: dict[str, tuple[Limits, str]] = {
    'shared': (LIMITS, MEMORY),
    'unmapped': (LIMITS, MEMORY),
    'tables': (LIMITS, MEMORY),
    'links': (replace(LIMITS, memory=128 << 20, disk=1 << 30), '128 MB of memory'),
    'leader': (LIMITS, MEMORY),
    'untraced': (LIMITS, MEMORY),
    'threads': (LIMITS, PROCESSES),
    'lost': (replace(LIMITS, cpu=2), CPU),
    'lost-short': (replace(LIMITS, cpu=2), CPU),
    'places': (LIMITS, DISK),
}
WAYS = ['root', 'user', 'root-group']


def attack(limits: Limits, name: str) -> Ran:
    commands = [('build', 'gcc -O1 -o attacks attacks.c -lpthread'), ('run', f'./attacks {name}')]
    return Cage(limits).run([('attacks.c', 0o100644, SOURCE)], '', commands)


def uncounted() -> None:
    """Have no control group from now on, in a process that ends soon."""
    pytest.MonkeyPatch().setattr('bot.limits.made', lambda limits: None)


def run_as(way: str, call: Callable[[], Ran]) -> Ran:
    """Run as somebody, with control groups or without."""
    person, _, group = way.partition('-')
    if group and os.geteuid() == 0:
        try:
            OldGroup(LIMITS).close()
        except OSError as error:
            pytest.skip(f'{error}: what the kernel keeps of the limits is not tested')

    def running() -> Ran:
        if not group:
            uncounted()
        return call()

    return as_person(person, running)


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('name', CASES)
def test_what_is_used_up_is_counted(name: str, way: str) -> None:
    limits, limit = CASES[name]
    ran = run_as(way, lambda: attack(limits, name))
    assert ran.limit == limit, ran
    assert ran.lack is None
    assert all('through' not in one.output for one in ran.phases)


@pytest.mark.parametrize('way', WAYS)
def test_a_process_has_limits_of_its_own(way: str) -> None:
    ran = run_as(way, lambda: attack(LIMITS, 'refused'))
    assert ran.phases[-1].output.split('\n')[1:-1] == [
        'few files',
        'no queue',
        'stays so',
        'not locked',
    ]


def test_a_user_can_not_even_start_more() -> None:
    """As root the kernel does not count: there the group does, or the one who looks."""

    def call() -> Ran:
        return Cage(LIMITS).run([], '', [('c', 'grep processes /proc/self/limits')])

    release = [int(part) for part in os.uname().release.split('.')[:2]]
    if release < [5, 14]:
        pytest.skip('before Linux 5.14 the processes of all sandboxes of a user count as one')
    assert run_as('user', call).phases[0].output.split()[2:4] == ['56', '56']


@pytest.mark.parametrize('way', ['root', 'user'])
def test_the_kernel_would_end_a_build_first(way: str) -> None:
    text = 'cat /proc/self/oom_score_adj; (echo 0 >/proc/self/oom_score_adj) 2>/dev/null; cat /proc'
    ran = run_as(way, lambda: Cage(LIMITS).run([], '', [('c', f'{text}/self/oom_score_adj')]))
    assert ran.phases[0].output == '1000\n1000\n'


# --- what is honest ---


@pytest.mark.parametrize('way', WAYS)
def test_what_is_honest_goes_through(way: str) -> None:
    text = """
        cat >x.c <<'END'
        #include <stdlib.h>
        int main(void)
        {
            char *p = malloc(5 << 20);
            for (int n = 0; n < 5 << 20; n += 999) p[n] = 1;
            free(p);
        }
END
        gcc -g1 -fsanitize=address,undefined -o x x.c && ./x &&
        for n in 1 2 3 4 5 6 7 8; do ./x & done; wait
        head -c 20M /dev/zero >/tmp/x && echo well
    """
    ran = run_as(way, lambda: Cage(LIMITS).run([], '', [('c', text)]))
    assert (ran.limit, ran.lack) == (None, None)
    assert ran.phases[0].output == 'well\n'
    assert ran.phases[0].status == 0


def test_a_folder_that_is_bound_is_as_full_as_its_disk(tmp_path: Path) -> None:
    """`bot doctor --harness` builds in one: what the disk has on it is not the build's."""
    taken = os.statvfs(tmp_path)
    assert (taken.f_blocks - taken.f_bfree) * taken.f_frsize > 1 << 20
    cage = Cage(replace(Limits(), disk=1 << 20))
    room = Bind(tmp_path, '/build', writable=True)
    ran = cage.run([('x', 0o644, b'one\n')], '.', [('read', 'cat x; sleep 1')], binds=[room])
    assert ran.stopped is None
    assert [(one.status, one.output) for one in ran.phases] == [(0, 'one\n')]


def test_time_that_was_waited_for_counts_once() -> None:
    def call() -> Ran:
        loop = "awk 'BEGIN { for (n = 0; n < 3000000; n++) x += n }'"
        return Cage(replace(LIMITS, cpu=30)).run(
            [], '', [('c', f'for n in 1 2 3; do {loop}; done')]
        )

    used: list[float] = []
    seen = CpuTime.seen

    def noting(self: CpuTime, pids: list[int], now: float) -> float:
        used.append(seen(self, pids, now))
        return used[-1]

    CpuTime.seen = noting  # type: ignore[method-assign]
    try:
        ran = run_as_here(call)
    finally:
        CpuTime.seen = seen  # type: ignore[method-assign]
    assert ran.limit is None
    # What the loops took by the clock, one after the other, is the most that they can have used.
    assert 0 < used[-1] <= ran.seconds + 0.2


def run_as_here(call: Callable[[], Ran]) -> Ran:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('bot.limits.made', lambda limits: None)
        return call()


# --- the machine ---


@pytest.fixture
def little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says how many megabytes of a gigabyte are left."""
    said = tmp_path / 'meminfo'
    monkeypatch.setattr(bot.machine, 'MEMINFO', said)

    def left(megabytes: int) -> None:
        said.write_text(
            f'MemTotal: {1 << 20} kB\nMemAvailable: {megabytes << 10} kB\nShmem: 0 kB\n'
        )

    return left


def test_a_build_is_ended_before_the_machine_runs_out(little: Callable[[int], None]) -> None:
    little(50)
    ran = Cage(LIMITS).run([], '', [('build', 'sleep 60')])
    assert ran.lack == 'this machine has 50 MB of memory left'
    assert ran.limit is None
    outcome = Builder(harness(), Workshop(Cage(LIMITS), Path('/nonexistent'))).outcome(ran)
    assert outcome == CouldNotRun(
        'the build was stopped: this machine has 50 MB of memory left', None
    )
    little(100)
    assert Cage(LIMITS).run([], '', [('build', 'sleep 0.5')]).lack is None


def test_they_are_ended_one_by_one(little: Callable[[int], None]) -> None:
    first, second = Turn(), Turn()
    assert first.mine()
    assert first.mine()
    assert not second.mine()
    first.over()
    assert second.mine()
    second.over()


def test_who_gave_back_more_than_it_may_have_was_to_blame(
    little: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    little(50)
    kill = os.kill

    def freeing(pid: int, number: int) -> None:
        kill(pid, number)
        little(400)

    monkeypatch.setattr(os, 'kill', freeing)
    ran = Cage(LIMITS).run([], '', [('build', 'sleep 60')])
    assert (ran.limit, ran.lack) == (MEMORY, None)


def test_groups_around_us_count(tmp_path: Path, little: Callable[[int], None]) -> None:
    little(900)
    group = tmp_path / 'a' / 'b'
    group.mkdir(parents=True)
    (tmp_path / 'own').write_text('0::/a/b\n')
    (group / 'memory.max').write_text('max\n')
    (group.parent / 'memory.max').write_text(f'{512 << 20}\n')
    (group.parent / 'memory.current').write_text(f'{500 << 20}\n')
    (group.parent / 'memory.stat').write_text(f'anon 1\ninactive_file {100 << 20}\nactive_file 0\n')
    machine = Machine(tmp_path, tmp_path / 'own')
    assert machine.left() == 112 << 20
    assert machine.short() is None
    (group.parent / 'memory.current').write_text(f'{599 << 20}\n')
    assert machine.short() == 'this machine has 13 MB of memory left'


@pytest.fixture
def narrow() -> Iterator[Path]:
    """A control group with half a gigabyte, for a whole bot."""
    if os.geteuid():
        pytest.skip('not root: a bot in a small group of its own is not tested')
    try:
        group = OldGroup(replace(LIMITS, memory=512 << 20, processes=200))
    except OSError as error:
        pytest.skip(f'{error}: a bot in a small group of its own is not tested')
    yield group.paths['memory']
    group.close()


@pytest.mark.parametrize('name', ['shared', 'leader'])
def test_a_bot_in_a_small_group_lives(narrow: Path, name: str) -> None:
    """Its builds may have more than there is; whoever ends them, the bot goes on."""

    def call() -> Ran:
        (narrow / 'cgroup.procs').write_text(str(os.getpid()))
        uncounted()
        return attack(replace(LIMITS, memory=4 << 30), name)

    ran = as_person('root', call)
    assert all('through' not in one.output for one in ran.phases)
    assert ran.lack is not None or ran.phases[-1].status == 128 + signal.SIGKILL or ran.limit


# --- groups ---


@pytest.mark.parametrize('name', ['shared', 'threads', 'lost'])
def test_a_delegated_group_holds_them(name: str) -> None:
    parent = delegated()
    if parent is None:
        pytest.skip(
            'no control group (v2) is delegated here: memory.max, pids.max and cpu.stat are not '
            'tested with a kernel'
        )
    ControlGroup(parent, LIMITS).close()
    limits, limit = CASES[name]
    assert attack(limits, name).limit == limit


def test_groups_of_killed_bots_are_removed() -> None:
    if os.geteuid():
        pytest.skip('not root: control groups (v1) are not tested')
    with subprocess.Popen(['true']) as gone:
        pass
    try:
        first = OldGroup(LIMITS)
    except OSError as error:
        pytest.skip(f'{error}: not tested')
    left = first.paths['memory'].with_name(f'vma-bot-{gone.pid}-0')
    left.mkdir()
    OldGroup(LIMITS).close()
    assert not left.exists()
    assert first.paths['memory'].exists()
    first.close()
    assert not first.paths['memory'].exists()


# --- a series ---

DIR = 'tools/testing/vma'
HANGS = (f'{DIR}/main.c', 'int run = 0', 'for (;;);\n\tint run = 0')


@pytest.fixture
def judge(own_sample: Demo, tmp_path: Path) -> Judge:
    return Judge(own_sample, tmp_path / 'cache')


def change(n: int) -> tuple[str, str, str]:
    return f'{DIR}/main.c', '', f'\n/* {n} */\n'


def test_a_harness_is_left_after_its_first_limit(judge: Judge) -> None:
    builds = judge(change(0), HANGS, *(change(n) for n in range(1, 7)), limits=Limits(time=8))
    assert [n for n, _, _ in outcomes(builds)] == list(range(9))
    assert [type(build.outcome).__name__ for build in builds[:2]] == ['Passed', 'Passed']
    stopped = [build.outcome for build in builds[2:]]
    assert all(isinstance(one, CouldNotRun) and one.limit == '8 s of time' for one in stopped)
    said = [one.reason for one in stopped if isinstance(one, CouldNotRun)]
    assert said[0] == 'the tests stopped at a limit: 8 s of time'
    # Another may have been begun beside it; none is begun after it.
    assert said.count('the tests stopped at a limit: 8 s of time') <= 2
    assert said[-1].startswith('not built, since patch ')
    assert said[-1].endswith(' hit a limit: 8 s of time')
    # Nothing of that is kept: with more time, all are built.
    assert {build.reused for build in builds[2:]} == {False}


def test_a_series_has_a_budget(judge: Judge) -> None:
    builds = judge(HANGS, change(1), limits=Limits(time=600, series=6))
    last = builds[-1].outcome
    assert isinstance(last, CouldNotRun)
    assert last.limit == '6 s of time for all builds of the series'
    spent = Workshop(Cage(Limits(series=0)), judge.cache)
    assert spent.budget.left() <= 0


def test_a_makefile_that_runs_what_it_builds_with_sanitizers(judge: Judge) -> None:
    """Compilers have a limit on address space, which sanitizers can't live with."""
    text = b"""vma:
\t@echo 'int main(void) { return 0; }' >x.c; gcc -fsanitize=address -o x x.c && ./x
\t@printf '#!/bin/sh\\necho 5 tests run, 5 passed, 0 failed.\\n' >vma; chmod +x vma
"""
    builds = judge({f'{DIR}/Makefile': text})
    assert outcomes(builds)[-1][1] == 'Passed'


def test_a_compiler_that_needs_too_much_is_stopped(judge: Judge) -> None:
    text = b'vma:\n\t@ulimit -v\n\t@exit 1\n'
    build = judge({f'{DIR}/Makefile': text})[-1]
    assert build.log.split('\n')[0] == str((4 << 20) + (256 << 10))
    said = 'cc1: out of memory allocating 65536 bytes after a total of 1 bytes'
    outcome = judge({f'{DIR}/Makefile': f"vma:\n\t@echo '{said}'; exit 1\n".encode()})[-1].outcome
    assert isinstance(outcome, CouldNotRun)
    assert outcome.limit == '4096 MB of memory'
