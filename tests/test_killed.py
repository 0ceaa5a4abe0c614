"""
What the machine does to a build is never the author's.

Real builds in the real sandbox: compilers, make, the tests and the sandbox
itself are killed from outside, disks are full, tools fail. Judged again, the
series comes out as it does elsewhere, and nothing is left of the bad run. And
what a series does to itself (its words, a signal of its own) gains it nothing.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bot.harness import Builder, Event, builder, results
from bot.harness.builder import tools
from bot.limits import EACH
from bot.model import (
    AppliedSeries,
    Base,
    Build,
    BuildFailed,
    CouldNotRun,
    Limits,
    Passed,
    Review,
    Series,
    TestsFailed,
)
from bot.sandbox import PATH
from bot.walls import Bind
from tests.conftest import Bot, Demo
from tests.judging import AUTHOR, LIMITS, Edit, Judge

DIR = 'tools/testing/vma'
MAKEFILE = f'{DIR}/Makefile'
MAIN = f'{DIR}/main.c'
# Long enough for its process to be found, and killed.
INCLUDED: Edit = (MAIN, '#include', '#include <time.h>\n#include')
SLOW: Edit = (
    MAIN,
    'int run = 0',
    'struct timespec t = { 0, 400000000 };\n\tint run = nanosleep(&t, NULL)',
)
BASE = (INCLUDED, SLOW)
PATCHES: tuple[Edit, ...] = tuple(('mm/vma.c', '', f'\nint patch{n};\n') for n in (1, 2))
GOOD = ['Passed', 'Passed', 'Passed']


@pytest.fixture
def judge(own_sample: Demo, tmp_path: Path) -> Judge:
    return Judge(own_sample, tmp_path / 'cache')


def kinds(builds: Sequence[Build]) -> list[str]:
    return [type(build.outcome).__name__ for build in builds]


def reason(build: Build) -> str:
    assert isinstance(build.outcome, CouldNotRun), build
    assert build.outcome.limit is None
    assert build.outcome.began
    return build.outcome.reason


def stored(judge: Judge) -> list[str]:
    """What kind each kept result is of."""
    return [
        json.loads(path.read_text())['outcome']['kind']
        for path in (judge.cache / 'results').rglob('*.json')
    ]


def verdict(builds: Sequence[Build]) -> str:
    series = Series(None, 'x', AUTHOR, 1, ())
    return Review(
        series, AppliedSeries(series, Base('x', 'x', 'x', 'x'), ()), builds=tuple(builds)
    ).verdict


def below(pid: int) -> Iterator[int]:
    """Yield the processes below one, as far as they live."""
    try:
        for task in Path(f'/proc/{pid}/task').iterdir():
            for word in (task / 'children').read_text().split():
                yield int(word)
                yield from below(int(word))
    except OSError:
        return


@dataclass
class Killer:
    """
    Kills from outside the processes called `name` of the builds that `wanted` says.

    A build is known by the text of its mm/vma.c, seen in the process's own root.
    """

    name: str
    number: signal.Signals
    wanted: Callable[[bytes], bool]
    most: int = 1000
    killed: int = 0
    armed: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        while not self.done.is_set():
            for pid in below(os.getpid()) if self.armed.is_set() else ():
                if self.killed < self.most and self._is_it(pid):
                    try:
                        os.kill(pid, self.number)
                        self.killed += 1
                    except ProcessLookupError:
                        pass
            time.sleep(0.002)  # other processes are waited for

    def _is_it(self, pid: int) -> bool:
        try:
            if Path(f'/proc/{pid}/comm').read_text().strip() != self.name:
                return False
        except OSError:
            return False
        # bubblewrap itself stays outside of what it has made: it is known by its children.
        for one in (pid, *below(pid)):
            with suppress(OSError):
                if self.wanted(Path(f'/proc/{one}/root/build/mm/vma.c').read_bytes()):
                    return True
        return False

    @contextmanager
    def at_work(self, *, armed: bool = True) -> Iterator['Killer']:
        if armed:
            self.armed.set()
        thread = threading.Thread(target=self.look)
        thread.start()
        try:
            yield self
        finally:
            self.done.set()
            thread.join()

    def when_building(self, event: Event) -> None:
        """Begin once it is known what is read."""
        if event.kind == 'planned':
            self.armed.set()


def of_patch(n: int) -> Callable[[bytes], bool]:
    return lambda text: [b'patch1' in text, b'patch2' in text] == [n > 0, n > 1]


# --- killed from outside ---

VICTIMS = [
    ('cc1', signal.SIGKILL, 0),
    ('cc1', signal.SIGKILL, 1),
    ('cc1', signal.SIGTERM, 2),
    ('make', signal.SIGKILL, 2),
    ('make', signal.SIGTERM, 1),
    ('vma', signal.SIGKILL, 0),
    ('vma', signal.SIGKILL, 2),
    ('vma', signal.SIGTERM, 1),
    ('sh', signal.SIGKILL, 1),
]


@pytest.mark.parametrize(('name', 'number', 'n'), VICTIMS)
def test_killed_each_time(judge: Judge, name: str, number: signal.Signals, n: int) -> None:
    killer = Killer(name, number, of_patch(n))
    with killer.at_work(armed=False):
        bad = judge(*PATCHES, before=BASE, told=killer.when_building)
    assert killer.killed >= 3, 'it is tried again, twice'
    assert kinds(bad) == ['CouldNotRun' if m == n else 'Passed' for m in range(3)]
    assert '3 times of 3' in reason(bad[n])
    assert ('came to one' in reason(bad[n])) is (n > 0)
    assert verdict(bad) == 'could-not-check'
    assert set(stored(judge)) == {'Passed'}
    again = judge(*PATCHES, before=BASE)
    assert kinds(again) == GOOD
    assert [build.reused for build in again] == [m != n for m in range(3)]
    assert verdict(again) == 'clean'


@pytest.mark.parametrize(('name', 'n'), [('cc1', 0), ('cc1', 2), ('vma', 1), ('bwrap', 1)])
def test_killed_once(judge: Judge, name: str, n: int) -> None:
    killer = Killer(name, signal.SIGKILL, of_patch(n), most=1)
    with killer.at_work(armed=False):
        builds = judge(*PATCHES, before=BASE, told=killer.when_building)
    assert killer.killed == 1
    assert kinds(builds) == GOOD
    assert set(stored(judge)) == {'Passed'}


def test_killed_while_it_learns_what_is_read(judge: Judge) -> None:
    killer = Killer('cc1', signal.SIGKILL, of_patch(0))
    with killer.at_work():
        bad = judge(*PATCHES, before=BASE)
    assert killer.killed
    assert kinds(bad) == ['CouldNotRun'] * 3
    assert verdict(bad) == 'could-not-check'
    assert stored(judge) == []
    assert kinds(judge(*PATCHES, before=BASE)) == GOOD


def test_an_error_beside_a_killed_compiler_stands_and_is_not_kept(judge: Judge) -> None:
    makefile = b'vma:\n\t$(CC) -c bad.c -o vma; sh -c "kill -9 \\$$$$"\n'
    builds = judge({MAKEFILE: makefile, f'{DIR}/bad.c': b'int one\nint two;\n'})
    assert kinds(builds) == ['Passed', 'BuildFailed']
    assert 'Error 137' in builds[1].log
    assert stored(judge) == ['Passed']


# --- a base that fails ---


def test_a_base_that_fails_is_built_each_time(judge: Judge) -> None:
    breaks: Edit = ('mm/vma.c', '', '\nint broken\n')
    for _ in range(2):
        told: list[Event] = []
        builds = judge(*PATCHES, before=(breaks,), told=told.append)
        assert kinds(builds) == ['BuildFailed'] * 3
        assert not builds[0].reused
        assert ('started', 0) in [(event.kind, event.n) for event in told]
    assert stored(judge) == ['BuildFailed'] * 2, 'those of the patches'


def test_what_a_patch_failed_with_is_not_believed_of_a_base(judge: Judge) -> None:
    breaks: Edit = ('mm/vma.c', '', '\nint broken\n')
    assert kinds(judge(breaks)) == ['Passed', 'BuildFailed']
    told: list[Event] = []
    judge(PATCHES[0], before=(breaks,), told=told.append)
    assert ('started', 0) in [(event.kind, event.n) for event in told]


def test_an_entry_of_an_older_release_is_not_believed(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = TestsFailed(None, (), reason='it ends with status 137 and without a summary')
    with monkeypatch.context() as old:
        old.setattr(results, 'FORMAT', 3)
        old.setattr(Builder, 'outcome', lambda *_: said)
        assert kinds(judge(*PATCHES)) == ['TestsFailed'] * 3
    assert stored(judge)
    assert kinds(judge(*PATCHES)) == GOOD


# --- tools that fail ---

CC = """#!/bin/sh
if [ -e /planted/bad ] && [ -e "$(grep -l patch1 /build/mm/vma.c)" ]; then
    case " $* " in *" -M "*) exec /usr/bin/gcc "$@" ;; esac
    . /planted/bad
fi
exec /usr/bin/gcc "$@"
"""
CC1 = "gcc: fatal error: cannot execute 'cc1': execvp: No such file or directory"
COMPILES = 'case " $* " in *" -c "*)'
LINKS = 'case " $* " in *" -c "*) ;; *)'
ALLOCATOR = '==7==ERROR: AddressSanitizer: out of memory: allocator is trying to allocate 0x9 bytes'
LOADER = './vma: error while loading shared libraries: libasan.so.8: cannot open'
SCRIPT = """printf '#!/bin/sh\\necho "%s"; exit 1' >vma; chmod +x vma; exit 0 ;; esac"""


def says(text: str) -> str:
    return f'echo "{text}" >&2; exit 1'


BAD = {
    'eio': (says('cc1: fatal error: main.c: Input/output error'), 'read or written'),
    'enomem': (says('cc1: out of memory allocating 9 bytes after a total of 9 bytes'), 'no memory'),
    'enospc': (says('main.s: Fatal error: main.o: No space left on device'), 'no space'),
    'fork': (says('gcc: fatal error: fork: Resource temporarily unavailable'), 'no memory'),
    'emfile': (says('cc1: fatal error: a.h: Too many open files'), 'read or written'),
    'erofs': (says('cc1: fatal error: main.o: Read-only file system'), 'read or written'),
    'ice': (says('main.c:1:1: internal compiler error: Segmentation fault'), 'crashed'),
    'ccache': (says('ccache: error: x'), 'read or written'),
    'gone': (says(CC1), 'a tool or a library'),
    'status': ('exit 137', 'signal 9'),
    'empty': (f'{COMPILES} : >main.o; exit 0 ;; esac', 'empty or cut off'),
    'cut': (
        f'{COMPILES} /usr/bin/gcc "$@"; head -c 700 main.o >x; cat x >main.o; exit 0 ;; esac',
        'empty or cut off',
    ),
    'allocator': (f'{LINKS} {SCRIPT.replace("%s", ALLOCATOR)}', 'a sanitizer'),
    'loader': (f'{LINKS} {SCRIPT.replace("%s", LOADER)}', 'a tool or a library'),
}


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder before the others in PATH, whose compiler does what its file `bad` says."""
    folder = tmp_path / 'planted'
    folder.mkdir()
    (folder / 'cc').write_text(CC)
    (folder / 'cc').chmod(0o755)

    def binds(_: Builder, *, trusted: bool) -> tuple[tuple[Bind, ...], dict[str, str]]:
        del trusted
        return (Bind(folder, '/planted'),), {'PATH': f'/planted:{PATH}'}

    monkeypatch.setattr(Builder, '_ccache', binds)
    return folder


OF_LIMITS = {
    'enomem': f'{LIMITS.memory >> 20} MB of memory',
    'fork': f'{LIMITS.processes} processes',
    'emfile': f'{EACH["nofile"]} open files',
}
"""What a compiler says at a limit of the sandbox: that is named, and not repeated."""


@pytest.mark.parametrize('name', BAD)
def test_a_tool_that_fails(judge: Judge, planted: Path, name: str) -> None:
    script, said = BAD[name]
    (planted / 'bad').write_text(script)
    bad = judge(*PATCHES)
    assert kinds(bad) == ['Passed', 'CouldNotRun', 'CouldNotRun']
    if name in OF_LIMITS:
        assert isinstance(bad[1].outcome, CouldNotRun)
        assert bad[1].outcome.limit == OF_LIMITS[name]
    else:
        assert said in reason(bad[1])
        assert reason(bad[1]).endswith(', 3 times of 3, and the base came to one')
    assert verdict(bad) == 'could-not-check'
    assert stored(judge) == ['Passed']
    (planted / 'bad').unlink()
    again = judge(*PATCHES)
    assert kinds(again) == GOOD
    assert [build.reused for build in again] == [True, False, False]


def test_a_small_disk(judge: Judge) -> None:
    fills = recipe('head -c 90M /dev/zero >f')
    bad = judge(fills, limits=Limits(disk=64 << 20))
    # Seen from outside, or by what the tool says of it: either way it could not run.
    assert isinstance(bad[1].outcome, CouldNotRun)
    assert '64 MB' in bad[1].outcome.reason
    assert stored(judge) == ['Passed']
    again = judge(fills)
    assert kinds(again) == ['Passed', 'Passed']
    assert not again[1].reused


def test_a_tool_that_is_replaced_in_mid_work(
    judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'bin'
    folder.mkdir()
    tool = folder / 'cc'

    def install(version: int) -> None:
        new = folder / 'new'
        new.write_text(f'#!/bin/sh\necho version {version}\n')
        new.chmod(0o755)
        new.replace(tool)

    install(1)
    monkeypatch.setattr(builder, 'PATH', f'{folder}:{PATH}')
    before = tools(), builder.compiler()
    assert 'version 1;' in before[1]
    told: list[Event] = []

    def upgrade(event: Event) -> None:
        if event.kind == 'planned':
            install(2)
        told.append(event)

    bad = judge(PATCHES[0], told=upgrade)
    assert kinds(bad) == ['CouldNotRun', 'CouldNotRun']
    assert 'a tool was replaced' in reason(bad[1])
    assert stored(judge) == []
    assert tools() != before[0]
    assert 'version 2;' in builder.compiler()
    assert kinds(judge(PATCHES[0])) == ['Passed', 'Passed']


def test_a_tool_that_is_gone_in_mid_work(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks: Edit = ('mm/vma.c', '', '\nint broken\n')
    monkeypatch.setattr(builder, 'missing_tools', lambda: 'there is no cc in /usr/bin')
    assert reason(judge(breaks)[1]).startswith('there is no cc in /usr/bin')


# --- forged ---


def program(text: str) -> Edit:
    """Let the tests be one function."""
    head = '#include <signal.h>\n#include <stdio.h>\n'
    return {f'{DIR}/main.c': f'{head}int main(void)\n{{\n\t{text}\n}}\n'.encode()}


def recipe(line: str) -> Edit:
    """Let the build do something first."""
    return (MAKEFILE, 'vma: main.o\n', f'vma: main.o\n\t{line}\n')


FORGED: dict[str, Edit] = {
    'makefile': recipe('kill -9 $$$$'),
    'make': recipe('kill -9 $$PPID; sleep 9'),
    'test': program('return raise(SIGKILL);'),
    'words': recipe('@echo "cc: fatal error: Killed signal terminated program cc1"; false'),
    'library': (MAKEFILE, '-o $@ $^', '-o $@ $^ -lnosuchlibrary'),
}


@pytest.mark.parametrize('name', FORGED)
def test_what_a_series_does_to_itself(judge: Judge, name: str) -> None:
    told: list[Event] = []
    builds = judge(FORGED[name], PATCHES[1], told=told.append)
    assert kinds(builds) == ['Passed', 'CouldNotRun', 'CouldNotRun']
    assert reason(builds[1]).endswith(', 3 times of 3, and the base came to one')
    assert ' times of ' not in reason(builds[2]), 'a series is repeated twice, not each patch'
    started = [event.n for event in told if event.kind == 'started']
    assert [started.count(n) for n in range(3)] == [1, 3, 1]
    assert verdict(builds) == 'could-not-check'
    assert stored(judge) == ['Passed']


def test_check_says_at_once_that_it_could_not(judge: Judge, bot: Bot, tmp_path: Path) -> None:
    found: Edit = ('include/linux/mm_types.h', 'struct file *const file;', 'struct file *file;')
    base, _ = judge.series((FORGED['makefile'], found))
    around = {'XDG_CACHE_HOME': str(tmp_path / 'check')}
    words = ('check', '-q', '--tree', judge.sample.tree, f'{base}..x')
    result = bot(*words, '--format', 'json', env=around)
    said = json.loads(result.out)
    assert (result.code, said['verdict']) == (3, 'could-not-check')
    assert said['findings'], 'what the other rules found is there'
    assert {one['rule'] for one in said['findings']}.isdisjoint({'vma-test-build'})
    build = next(one for one in said['builds'] if one['n'] == 1)
    assert (build['outcome'], build['reused']) == ('could-not-run', False)
    assert 'killed by signal 9 (SIGKILL), 3 times of 3' in build['log']
    text = bot(*words, env=around)
    assert text.code == 3
    assert 'could not run: the build came to no result' in ' '.join(text.out.split())


NEAR: dict[str, tuple[Edit, type[object]]] = {
    'error': (('mm/vma.c', '', '\n#error Killed\n'), BuildFailed),
    'fatal': (('mm/vma.c', '', '\n#error No space left on device\n'), BuildFailed),
    'makefile': ((MAKEFILE, '', '\n$(error No space left on device)\n'), BuildFailed),
    'quoted': (
        ('mm/vma.c', '', '\nint x = f("make: *** [x] Killed: No space left on device");\n'),
        BuildFailed,
    ),
    'typo': ((MAKEFILE, '', '\nCC = gccc\n'), BuildFailed),
    'recipe': (recipe('false # Killed'), BuildFailed),
    'prints': (
        program(
            'puts("Assert FAILED at main.c:4:test_x(): No space left on device\\n'
            'Test x FAILED\\n1 tests run, 0 passed, 1 failed."); return 1;'
        ),
        TestsFailed,
    ),
    'says': (program('puts("Killed"); return 1;'), TestsFailed),
    'crashes': (program('return raise(SIGSEGV);'), TestsFailed),
}


@pytest.mark.parametrize('name', NEAR)
def test_what_only_looks_so_is_the_authors(judge: Judge, name: str) -> None:
    edit, kind = NEAR[name]
    builds = judge(edit)
    assert isinstance(builds[0].outcome, Passed)
    assert isinstance(builds[1].outcome, kind), builds[1]
    assert len(stored(judge)) == 2
