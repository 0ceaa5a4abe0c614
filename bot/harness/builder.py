"""One build in the cage: its command, its environment, and what it comes to."""

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

from bot import files
from bot.cgroup import memory_limit, process_limit
from bot.diagnose import (
    EMPTY,
    LIBRARY,
    MISSING_HEADER,
    Fault,
    flags_of,
    of_build,
    of_failed_build,
    of_failed_run,
    of_run,
    stands,
)
from bot.harness.layout import Layout
from bot.harness.scrub import scrubbed, scrubber
from bot.limits import EACH
from bot.model import OF_SERIES, Build, BuildFailed, BuildOutcome, CouldNotRun, Harness, Limits
from bot.plain import one_line, tail
from bot.sandbox import PATH, Cage, Ran
from bot.walls import Bind

CCACHE = '/usr/lib/ccache'
"""Where Debian puts compilers' names that lead to ccache."""
SHARED = '/ccache'
AROUND = 256 << 20
"""Bytes of address space that a compiler has besides its memory: its own code, libraries."""
MARK = '--- inputs ---'
UNLISTED = 'vma-bot-unlisted:'
"""Stands among the inputs where a compiler could not list one's."""
PROGRAMS = ('cc', 'as', 'ld', 'ldd', 'make', 'sh', 'tar', 'ccache')
# GNU ld takes an empty object for one without symbols, and then names those as undefined.
EMPTIES = (
    f'|| {{ s=$?; [ -z "$(find . -maxdepth 4 -type f -name \'*.[oa]\' -size 0 | head -n 1)" ]'
    f" || echo '{EMPTY}'; exit $s; }}"
)
FULL = re.compile(r'File size limit exceeded')
NO_MEMORY = re.compile(r'(?:virtual )?memory exhausted|out of memory allocating')
NO_PROCESS = re.compile(r'[Ff]ork: (?:retry: )?Resource temporarily unavailable|Cannot fork')
NO_FILES = re.compile(r'Too many open files')
SANITIZED = re.compile(
    r'ReserveShadowMemoryRange failed|sanitizer_allocator_primary64|using ulimit -v'
)
"""What a program with sanitizers says where address space is short: it needs a lot."""

# A compiler that also lists what a file includes, and one that does only that. It stands
# before the real ones in PATH.
SHIM = """mkdir -p /tmp/shim /tmp/deps
cat >/tmp/shim/cc <<'END'
#!/bin/sh
me=${{0##*/}}
case " $* " in *" -c "*) "/usr/bin/$me" "$@" -M -MF "/tmp/deps/$$" >/dev/null 2>&1{also} ;; esac
{then}
END
chmod +x /tmp/shim/cc
for name in gcc clang c99; do ln -sf cc /tmp/shim/$name; done
PATH=/tmp/shim:$PATH; export PATH
"""
BUILDS = SHIM.format(
    also=f' || echo {UNLISTED} >/tmp/deps/unlisted', then='PATH=${PATH#/tmp/shim:} exec "$me" "$@"'
)
LISTS = SHIM.format(
    also=' || exit',
    then="""for word; do
	[ "$last" = -o ] && { echo '#!/bin/sh' >"$word" && chmod +x "$word" && exit; }
	last=$word
done
exit 1""",
)


How = Literal['build', 'learn', 'list', 'dry']
Kind = Literal['learning', 'planned', 'started', 'going', 'done', 'note']


@dataclass(frozen=True)
class Event:
    """
    What happens to a harness.

    `planned`: `n` builds will run. `started` and `done`: patch `n` (0: the
    base). `going`: a build goes on. `learning`: it is found out what the harness
    reads. `note`: `text`.
    """

    kind: Kind
    harness: str
    n: int = 0
    text: str = ''


class Budget:
    """The time that all builds of a series have together, from the first one on, in seconds."""

    def __init__(self, seconds: float) -> None:
        self.name = f'{seconds:g} s of time {OF_SERIES}'
        self._seconds = seconds
        self._began: float | None = None

    def left(self) -> float:
        """Return the seconds that are left, none or fewer where it is used up."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
        return self._seconds - (now - self._began)


@dataclass
class Workshop:
    """
    What the builds of one series need.

    A cage, a cache folder and its size, jobs, whom to tell, and their time.
    """

    cage: Cage
    cache: Path
    jobs: int = 2
    largest: int = 2 << 30
    tell: Callable[[Event], None] = field(default=lambda _: None)

    def __post_init__(self) -> None:
        self.budget = Budget(self.cage.limits.series)


class Builder:
    """Builds one harness in a workshop."""

    def __init__(self, harness: Harness, workshop: Workshop) -> None:
        self.harness = harness
        self.workshop = workshop

    def run(
        self,
        layout: Layout,
        jobs: int,
        *,
        trusted: bool,
        how: How = 'build',
        room: Bind | None = None,
    ) -> Ran:
        """
        Build `layout` and run the tests.

        `trusted`: it is a configured ref's, and may fill the shared ccache.
        `how` to do it: 'learn' also lists what is read; 'list' does that, but
        compiles nothing; 'dry' says what make would do. `room`: a folder of the
        machine to do it in.
        """
        words = ' '.join(_shell(word) for word in (*self.harness.make, *self.harness.target))
        match how:
            case 'dry':
                commands = [('build', f'make -n -k {words}')]
            case 'list':
                commands = [('build', f'{LISTS}make -j{jobs} {words}')]
            case _:
                shim = BUILDS if how == 'learn' else ''
                run = ('run', self.harness.run)
                commands = [('build', f'{shim}make -j{jobs} {words} {EMPTIES}'), run]
        if how in ('learn', 'list'):
            makefiles = r"--eval='vma-bot-makefiles:;@echo : $(MAKEFILE_LIST)'"
            # A build may read by way of links of its own making: what they lead to counts.
            real = "cat /tmp/deps/* | tr -s ' \\\\' '\\n\\n' | xargs realpath -q"
            listed = f'make {makefiles} {words} vma-bot-makefiles'
            said = f"echo; echo '{MARK}'; cat /tmp/deps/*; {real}; echo; {listed}"
            commands.append(('inputs', said))
        binds, environment = self._ccache(trusted=trusted) if how != 'list' else ((), {})
        if room is not None:
            binds = (room, *binds)
        build, *others = commands
        space = f'ulimit -v {(self.workshop.cage.limits.memory + AROUND) >> 10} 2>/dev/null'
        bounded = [(build[0], f'{space}\n{build[1]}'), *others]
        ran = self._ran(layout, bounded, binds, environment)
        made = next((one for one in ran.phases if one.name == build[0]), None)
        if made is not None and made.status and SANITIZED.search(made.output):
            # It runs what it has built, with sanitizers. Its memory is counted all the same.
            ran = self._ran(layout, commands, binds, environment)
        return ran

    def _ran(
        self,
        layout: Layout,
        commands: list[tuple[str, str]],
        binds: tuple[Bind, ...],
        environment: dict[str, str],
    ) -> Ran:
        """Run commands in what time the series has left."""
        budget = self.workshop.budget
        left = budget.left()
        if left <= 0:
            return Ran((), budget.name, 0.0)
        limits = self.workshop.cage.limits
        ran = self.workshop.cage.run(
            layout.files, self.harness.dir, commands,
            binds=binds, environment=environment, seconds=left, going=lambda: self.tell('going'),
        )  # fmt: skip
        if left < limits.time and ran.limit == f'{left:g} s of time':
            ran = replace(ran, limit=budget.name)
        names = scrubber(binds)
        phases = (replace(one, output=scrubbed(one.output, names)) for one in ran.phases)
        return replace(ran, phases=tuple(phases))

    def _ccache(self, *, trusted: bool) -> tuple[tuple[Bind, ...], dict[str, str]]:
        """
        Let a build find objects that builds of configured refs left behind.

        Only those write there. A stranger's build reads, and keeps its own in
        a folder that goes with the cage.
        """
        folder = self.workshop.cache / 'ccache'
        if not Path(CCACHE).is_dir() or self.workshop.cage.open or not _made_folder(folder):
            return (), {}
        how = f'file:{SHARED}' if trusted else f'file:{SHARED}|read-only=true'
        return (Bind(folder, SHARED, writable=trusted),), {
            'PATH': f'{CCACHE}:{PATH}',
            'CCACHE_DIR': '/tmp/ccache',
            'CCACHE_REMOTE_STORAGE': how,
            'CCACHE_RESHARE': '1',
            'CCACHE_NOCOMPRESS': '1',
        }

    def outcome(self, ran: Ran) -> BuildOutcome:
        """
        Return what a run comes to.

        What was seen from outside (a limit, a tool that is gone) comes before
        what the output says, and that before what it says of the code.
        """
        phases = {phase.name: phase for phase in ran.phases}
        build, run = phases.get('build'), phases.get('run')
        doing = 'the tests' if run is not None or (build and build.status == 0) else 'the build'
        limit = ran.limit or _hit(ran, self.workshop.cage.limits)
        if limit is not None:
            return CouldNotRun(f'{doing} stopped at a limit: {limit}', limit)
        if ran.lack is not None:
            return CouldNotRun(one_line(f'the build was stopped: {ran.lack}'))
        if build is None or build.status is None:
            what = 'start' if build is None else 'come to its end'
            return _not_run(f'the build did not {what}: {ran.complaint}')
        errors, warnings = of_build(build.output, self.harness.dir)
        flags = flags_of(build.output)
        if build.status:
            absent = _absent(build.output)
            if absent is not None:
                packages = ' '.join(self.harness.packages)
                return _not_run(f'{absent} is not installed: apt install {packages}')
            if (gone := missing_tools()) is not None:
                return _not_run(gone)
            fault = of_failed_build(build.output, build.status)
            if fault is None or stands(fault, errors):
                return BuildFailed(errors, warnings, flags)
            return self._fault(doing, fault)
        if run is None or run.status is None:
            what = 'start' if run is None else 'come to their end'
            return _not_run(f'the tests did not {what}: {ran.complaint}')
        if run.status and (fault := of_failed_run(run.output, run.status)):
            return self._fault(doing, fault)
        found = of_run(
            run.output, run.status, self.harness.dir, warnings, parser=self.harness.parser
        )
        return replace(found, flags=flags)

    def doubtful(self, ran: Ran) -> bool:
        """Whether something on our side failed, though the code may have as well."""
        ways = {'build': of_failed_build, 'run': of_failed_run}
        return any(
            one.status and one.name in ways and ways[one.name](one.output, one.status)
            for one in ran.phases
        )

    def _fault(self, doing: str, fault: Fault) -> CouldNotRun:
        """Return what our side did to a build, with the limit that it may be about."""
        limits = self.workshop.cage.limits
        if fault.kind == 'cpu':
            limit = f'{limits.cpu:g} s of cpu time'
            return CouldNotRun(f'{doing} stopped at a limit: {limit}', limit)
        text = fault.text
        if fault.kind == 'space':
            text += f' ([sandbox] disk is {limits.disk >> 20} MB)'
        return CouldNotRun(f'{doing} came to no result: {text}', began=True)

    def made(self, n: int, outcome: BuildOutcome, ran: Ran) -> Build:
        """Return a run as patch `n`'s build."""
        whole = '\n'.join(phase.output for phase in ran.phases if phase.name != 'inputs')
        quiet = isinstance(outcome, CouldNotRun) and not whole
        log = '' if quiet or type(outcome).__name__ == 'Passed' else tail(whole)
        return Build(
            self.harness.name,
            n,
            outcome,
            self.harness.dir,
            flags=self.harness.make,
            seconds=round(ran.seconds, 3),
            log=log,
        )

    def tell(self, kind: Kind, n: int = 0, text: str = '') -> None:
        """Tell what happens."""
        self.workshop.tell(Event(kind, self.harness.name, n, text))

    def note(self, text: str | None) -> None:
        """Tell what did not go, where something did not."""
        if text is not None:
            self.tell('note', 0, text)


def _absent(output: str) -> str | None:
    """Name what is missing on this machine rather than in the tree."""
    for line in output.split('\n'):
        if found := LIBRARY.match(line[:4000]):
            return f'lib{found["symbol"]}'
        if found := MISSING_HEADER.search(line[:4000]):
            return str(found[1])
    return None


def _not_run(reason: str) -> CouldNotRun:
    return CouldNotRun(one_line(reason.removesuffix(': ')), began=True)


def _hit(ran: Ran, limits: Limits) -> str | None:
    """Name the limit that a failed command ran into without being stopped by it."""
    for phase in ran.phases:
        if not phase.status:
            continue
        if FULL.search(phase.output):
            return f'{limits.disk >> 20} MB of disk'
        if 'CPU time limit exceeded' in phase.output:
            return f'{limits.cpu:g} s of cpu time'
        # Tests may speak of these on purpose; make and a compiler do not.
        if phase.name == 'build':
            for said, limit in (
                (NO_MEMORY, memory_limit(limits)),
                (NO_PROCESS, process_limit(limits)),
                (NO_FILES, f'{EACH["nofile"]} open files'),
            ):
                if said.search(phase.output):
                    return limit
    return None


def missing_tools() -> str | None:
    """Say which program that every build needs is missing."""
    for program, package in (('make', 'make'), ('cc', 'gcc'), ('tar', 'tar')):
        if shutil.which(program, path=PATH) is None:
            return f'there is no {program} in {PATH}: apt install {package}'
    return None


def compiler() -> str:
    """Return what the compiler, the linker and the C library call themselves, as of now."""
    return _described(tools())


Tools = tuple[tuple[str, int, int, int], ...]


def tools() -> Tools:
    """
    Return (path, inode, size, time in ns) of the files that builds are made with.

    Another answer than before means that one was replaced.
    """
    found = []
    programs = (shutil.which(name, path=PATH) for name in PROGRAMS)
    for path in (*programs, *_inner(shutil.which('cc', path=PATH) or 'cc')):
        if path is not None:
            with contextlib.suppress(OSError):
                stat = Path(path).stat()
                found.append((path, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


@cache
def _inner(cc: str) -> tuple[str, ...]:
    """Return the files that the compiler `cc` uses besides: the compiler proper, and libraries."""
    said = []
    for name in ('prog-name=cc1', 'file-name=libc.so.6', 'file-name=libasan.so'):
        path = _said([cc, f'-print-{name}']).strip()
        if path.startswith('/'):
            said.append(path)
    return tuple(said)


@lru_cache(maxsize=4)
def _described(_: Tools) -> str:
    said = [
        _said([name, '--version']).partition('\n')[0]
        for name in ('cc', 'ld', 'ldd')
        if shutil.which(name, path=PATH) is not None
    ]
    return f'{"; ".join(said)}; {os.uname().machine}'


def _said(words: list[str]) -> str:
    try:
        found = subprocess.run(
            words, capture_output=True, check=False, env={'PATH': PATH, 'LC_ALL': 'C'}
        )
    except OSError:
        return ''
    return found.stdout.decode('utf-8', 'replace')


def _made_folder(folder: Path) -> bool:
    try:
        files.ours(folder)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _shell(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
