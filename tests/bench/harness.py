"""
The harness: cold, known, repeated; against plain make, and against the floor.

The floor of a series is what no scheduling can beat with these compilers:
max(longest unit, seconds of all units whose preprocessed text changed from the
patch before ÷ cores), the base's units included when it is cold. Every unit is
compiled and timed alone for it, without ccache.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from bot.bases import Place, choose
from bot.config import VMA, load
from bot.harness import Builder, Workshop, build_series
from bot.harness.layout import Layout, only, wide
from bot.harness.learn import inputs
from bot.model import AppliedSeries, Build, Harness, Passed, Tree
from bot.sandbox import Cage
from bot.tree import GitSnapshot, Quarantine
from tests.bench.tools import Row, checkout, compare, git, made, series_of, series_on, timed
from tests.judging import built
from tests.kernel.conftest import share_words

INPUTS = ('mm/vma.c', 'mm/vma.h', 'mm/vma.c', f'{VMA.dir}/tests/merge.c', 'mm/vma.c', 'mm/vma.h')
OTHERS = (
    'mm/util.c', 'mm/memory.c', 'mm/mmap.c', 'fs/exec.c', 'kernel/fork.c', 'mm/ksm.c',
    'mm/nommu.c', 'fs/coredump.c', 'mm/mlock.c', 'mm/madvise.c', 'mm/mprotect.c', 'mm/rmap.c',
    'mm/vmscan.c', 'fs/namei.c', 'kernel/exit.c',
)  # fmt: skip
# A compiler that takes the time of each unit and the hash of its preprocessed text.
TIMED = """cat >/tmp/cc <<'END'
#!/bin/sh
case " $* " in
*" -c "*)
	words=
	skip=
	for word; do
		case $skip$word in
		-o) skip=1 ;;
		-c) ;;
		1*) skip= ;;
		*) words="$words $word" ;;
		esac
	done
	hash=$(/usr/bin/cc $words -E | sha256sum | cut -c1-16)
	start=$(date +%s.%N)
	/usr/bin/cc "$@" || exit
	echo "unit $hash $start $(date +%s.%N)" >>/tmp/units ;;
*) exec /usr/bin/cc "$@" ;;
esac
END
chmod +x /tmp/cc
"""

T = TypeVar('T')


def vma() -> Harness:
    """The shipped harness."""
    return next(one for one in load().harnesses if one.name == VMA.name)


class Bench:
    """One series on one kernel: judged by us, and built the plain way."""

    def __init__(self, kernel: Path, folder: Path, paths: list[str]) -> None:
        self.folder = folder
        self.paths = paths
        self.repo, self.base, self.mbox = series_on(kernel, folder, paths)
        self.tree = checkout(kernel, self.base, self.repo, folder)
        self.cache = folder / 'cache'
        self.harness = vma()
        self.workshop = Workshop(Cage(load().limits), self.cache, len(os.sched_getaffinity(0)))

    def judged(self, work: Callable[[AppliedSeries], T]) -> T:
        """Apply the series, and do something with that."""
        with Quarantine(self.repo.path) as quarantine:
            place = Place(Tree('x', str(self.repo.path)), quarantine)
            applied = choose(series_of(self.mbox), [place], self.base)
            assert isinstance(applied, AppliedSeries)
            assert applied.ground is not None
            return work(applied)

    def ours(self) -> list[Build]:
        """Every patch, as `bot check` does it."""
        builds = self.judged(lambda one: built(build_series(self.harness, one, self.workshop)))
        assert all(isinstance(build.outcome, Passed) for build in builds), builds
        return builds

    def cold(self) -> None:
        """The same, with nothing known of this kernel."""
        shutil.rmtree(self.cache, ignore_errors=True)
        self.ours()

    def known(self) -> None:
        """The same, with what it reads and the base's objects there, but no result."""
        shutil.rmtree(self.cache / 'results', ignore_errors=True)
        self.ours()

    def plain(self, *make: str) -> None:
        """Every patch in a work tree of the full kernel; each built whole."""
        git(self.tree, 'reset', '-q', '--hard', self.base)
        mails = self.folder / 'mails'
        shutil.rmtree(mails, ignore_errors=True)
        git(self.tree, 'mailsplit', f'-o{made(mails)}', str(self.mbox))
        for mail in sorted(mails.iterdir()):
            git(self.tree, 'am', '-q', str(mail))
            for command in (['make', 'clean'], list(make), ['./vma']):
                where = self.tree / self.harness.dir
                subprocess.run(command, cwd=where, check=True, capture_output=True)

    # --- the floor ---

    def floor(self, *, cold: bool) -> float:
        """Seconds that no scheduling can beat."""
        changed = self.judged(self._changed)
        seconds = [second for n, second in changed if n or cold]
        return max(max(seconds), sum(seconds) / self.workshop.jobs)

    def _changed(self, applied: AppliedSeries) -> list[tuple[int, float]]:
        """(patch, seconds) of each unit whose preprocessed text changed; all of the base's."""
        ground = applied.ground
        assert isinstance(ground, GitSnapshot)
        builder = Builder(self.harness, self.workshop)
        known = inputs(builder, ground)
        assert not isinstance(known, Build)
        found: list[tuple[int, float]] = []
        before: set[str] = set()
        for n in range(len(applied.steps) + 1):
            if n and self.paths[n - 1] not in INPUTS:
                continue
            tree = applied.steps[n - 1].post if n else ground
            assert isinstance(tree, GitSnapshot)
            units = self._units(only(wide(self.harness, tree), set(known.paths)))
            found += [(n, seconds) for digest, seconds in units.items() if digest not in before]
            before = set(units)
        return found

    def _units(self, layout: Layout) -> dict[str, float]:
        """Seconds of each unit, by the hash of its preprocessed text."""
        make = f'make CC=/tmp/cc {" ".join(self.harness.make)} >/dev/null 2>&1; cat /tmp/units'
        ran = self.workshop.cage.run(layout.files, self.harness.dir, [('units', TIMED + make)])
        units = {}
        for line in ran.phases[0].output.splitlines():
            _, digest, start, end = line.split()
            units[digest] = float(end) - float(start)
        assert units, ran
        return units


def one_patch(name: str, kernel: Path, folder: Path) -> tuple[list[Row], list[str]]:
    """One patch that touches mm/vma.c."""
    bench = Bench(kernel, folder, ['mm/vma.c'])
    rows = [
        compare(f'one patch ({name}), cold: make', bench.cold, lambda: bench.plain('make'), 3),
        compare(f'one patch ({name}), known: make', bench.known, lambda: bench.plain('make'), 1),
        compare(f'one patch ({name}), cold: make -j2', bench.cold,
                lambda: bench.plain('make', '-j2'), 1),
    ]  # fmt: skip
    floors = [
        _against_floor(f'one patch ({name}), cold', rows[0].ours, bench.floor(cold=True)),
        _against_floor(f'one patch ({name}), known', rows[1].ours, bench.floor(cold=False)),
    ]
    return rows, floors


def whole(kernel: Path, folder: Path) -> list[Row]:
    """`bot check` on 10 patches of which 4 touch what the harness reads: rules and all."""
    bench = Bench(kernel, folder, [*OTHERS[:3], *INPUTS[:2], *OTHERS[3:6], *INPUTS[3:5]])
    share_words(bench.cache)
    config = folder / 'config.toml'
    config.write_text(f'[state]\ncache = "{bench.cache}"\n')

    def check() -> None:
        done = subprocess.run(
            [sys.executable, '-P', '-m', 'bot', 'check', '-q', '--config', str(config),
             '--tree', str(bench.repo.path), '--base', bench.base, str(bench.mbox)],
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done

    check()  # the words of this kernel are known from now on

    def cold() -> None:
        for one in bench.cache.iterdir():
            if one.name != 'words':
                shutil.rmtree(one)
        check()

    name = 'bot check, 10 patches, 4 touch inputs, cold: make'
    return [compare(name, cold, lambda: bench.plain('make'), 3)]


def many(kernel: Path, folder: Path) -> tuple[list[Row], list[str]]:
    """21 patches of which 6 touch what the harness reads."""
    paths = []
    for n, path in enumerate(INPUTS):
        paths += [*OTHERS[2 * n : 2 * n + 2], path]
    paths += OTHERS[12:]
    bench = Bench(kernel, folder, paths)
    cold = timed(bench.cold)
    again = timed(bench.ours)
    known = timed(bench.known)
    plain = timed(lambda: bench.plain('make'))
    rows = [
        Row('21 patches, 6 touch inputs, cold: loop of make', cold, plain, plain / cold),
        Row('21 patches, inputs known: loop of make', known, plain, plain / known),
        Row('21 patches, repeated: loop of make', again, plain, plain / again),
    ]
    floors = [
        _against_floor('21 patches, cold', cold, bench.floor(cold=True)),
        _against_floor('21 patches, inputs known', known, bench.floor(cold=False)),
    ]
    return rows, floors


def overhead(kernel: Path, folder: Path) -> Row:
    """
    The same build in the cage and in a plain temporary folder, without ccache in both.

    Both at once, each on a core of its own, and then with the cores changed: a few
    per cent are less than what a machine's speed does from one build to the next.
    """
    bench = Bench(kernel, folder, ['mm/vma.c'])
    bench.ours()

    def layout(applied: AppliedSeries) -> Layout:
        ground = applied.ground
        assert isinstance(ground, GitSnapshot)
        builder = Builder(bench.harness, bench.workshop)
        known = inputs(builder, ground)
        assert not isinstance(known, Build)
        return only(wide(bench.harness, ground), set(known.paths))

    files = list(bench.judged(layout).files)
    make = f'make {" ".join(bench.harness.make)} && ./vma'

    def built(cage: Cage, core: int) -> float:
        os.sched_setaffinity(0, {core})  # of this thread, and of what it starts
        started = time.perf_counter()
        ran = cage.run(files, bench.harness.dir, [('build', make)])
        assert ran.phases[0].status == 0, ran
        return time.perf_counter() - started

    limits = load().limits
    cages = Cage(limits), Cage(limits, open_=True)
    cores = sorted(os.sched_getaffinity(0))
    cores = [cores[0], cores[-1]]
    pairs = []
    for _ in range(10):
        with ThreadPoolExecutor(2) as pool:
            pairs.append(tuple(pool.map(built, cages, cores)))
        cores.reverse()
    mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(theirs / ours for ours, theirs in pairs)
    return Row('one build: the same without a cage, at once', mine, other, ratio)


def _against_floor(what: str, seconds: float, floor: float) -> str:
    return f'{what}: {seconds:.2f} s, the floor is {floor:.2f} s: {seconds / floor:.2f} of it'
