"""
`make evaluate`: how silent the rules are over harmless patches, and what they find of mistakes.

    python -m tests.evaluate [silence|mutation|all] [--rule GLOB] [--kernel 7.3] [--write FILE]

Silence: files of a real kernel that a patch names and leaves as they are, and
generated patches that do no harm; no rule may say more than a note. Mutation:
every rule's mistake, planted by program wherever the kernel has a place for
it. Exits with 1 where a rule spoke up wrongly, or found less than 95 %.
"""

import argparse
import fnmatch
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TypeVar

from bot.config import load
from bot.errors import SandboxError
from bot.harness import Workshop
from bot.model import Severity, Snapshot
from bot.review import run_rules
from bot.rule import Rule
from bot.sandbox import Cage
from bot.tree import Quarantine
from tests.evaluate import harmless
from tests.evaluate.planting import EVALUATED, Kept, Plant, judge, judge_in, kernels, subject

T = TypeVar('T')
ENOUGH = 0.95
SEED = 1
SHOWN = 12
MARKS = '<!-- tables: begin -->', '<!-- tables: end -->'


@dataclass(frozen=True)
class Told:
    """What the rules said of one harmless patch: lines for people. `loud` is above note."""

    kind: str
    name: str
    loud: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of one plant."""

    name: str
    found: bool
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One rule's line of the table. `without` says why nothing was planted."""

    rule: str
    outcomes: tuple[Outcome, ...] = ()
    without: str = ''

    @property
    def missed(self) -> tuple[str, ...]:
        """The plants that were not found."""
        return tuple(one.name for one in self.outcomes if not one.found)

    @property
    def wrong(self) -> tuple[str, ...]:
        """What other rules said without reason, and what crashed."""
        return tuple(f'{one.name}: {said}' for one in self.outcomes for said in one.wrong)

    @property
    def found(self) -> int:
        """How many were found."""
        return sum(one.found for one in self.outcomes)

    @property
    def good(self) -> bool:
        """Whether it is good enough."""
        return not self.wrong and self.found >= ENOUGH * len(self.outcomes)


# --- one process's share ---


@dataclass
class Bench:
    """A kernel, opened by one process; the rules to judge with."""

    quarantine: Quarantine
    tree: Snapshot
    rules: Sequence[Rule]
    folder: Path

    def workshop(self) -> Workshop | None:
        """What real builds need; None where there is no cage."""
        try:
            return Workshop(Cage(load().limits), self.folder, 1)
        except SandboxError:
            return None


Task = Callable[[Bench], list[T]]


def planted(rule: str, part: int, of: int, bench: Bench) -> list[tuple[str, Outcome]]:
    """Judge every `of`th plant of a rule, from `part` on."""
    module = import_module(f'tests.evaluate.mutations.{rule.replace("-", "_")}')
    return [
        (rule, judged(bench, rule, plant))
        for plant in islice(module.plants(bench.tree), part, None, of)
    ]


def judged(bench: Bench, rule: str, plant: Plant) -> Outcome:
    """Judge one plant."""
    if plant.real:
        verdict = judge_in(bench.quarantine, plant, rule, bench.rules, bench.workshop())
    else:
        verdict = judge(bench.tree, plant, rule, bench.rules)
    said = [f'{one.rule} says "{one.hit.message}" of {one.hit.path}' for one in verdict.wrong]
    return Outcome(plant.name, verdict.found, (*said, *verdict.failures))


def unharmed(kinds: Sequence[str], seed: int, bench: Bench) -> list[Told]:
    """Judge the harmless patches of some kinds."""
    return [
        _told(bench, one.kind, Plant(one.name, one.patches))
        for kind in kinds
        for one in harmless.patches(bench.tree, kind, seed)
    ]


def unchanged(part: int, of: int, bench: Bench) -> list[Told]:
    """Judge patches that name many files of the kernel and change nothing in them."""
    told = []
    for chunk in islice(harmless.untouched(bench.tree), part, None, of):
        findings, failures = run_rules(bench.rules, chunk.subject)
        said = tuple(_said(one.rule, one.hit.path, one.hit.message) for one in findings)
        crashed = tuple(f'{one.what}: {one.error}' for one in failures)
        told += [Told(chunk.kind, path) for path in chunk.paths[1:]]
        told.append(Told(chunk.kind, chunk.paths[0], (*said, *crashed)))
    return told


def _told(bench: Bench, kind: str, plant: Plant) -> Told:
    findings, failures = run_rules(bench.rules, subject(bench.tree, plant))
    loud = [
        _said(one.rule, one.hit.path, one.hit.message)
        for one in findings
        if one.severity > Severity.NOTE
    ]
    loud += [f'{one.what}: {one.error}' for one in failures]
    notes = [
        _said(one.rule, one.hit.path, one.hit.message)
        for one in findings
        if one.severity == Severity.NOTE
    ]
    return Told(kind, plant.name, tuple(loud), tuple(notes))


def _said(rule: str, path: str | None, message: str) -> str:
    return f'{rule}: {path}: {message}'


# --- all processes ---

_HERE: list[Bench] = []


def _open(kernel: Path, rules: Sequence[Rule], folder: Path) -> None:
    quarantine = Quarantine(kernel, load().cache).__enter__()
    tree = Kept(quarantine.at(quarantine.resolve('HEAD')))
    _HERE[:] = [Bench(quarantine, tree, rules, folder)]


def _run(task: Task[T]) -> list[T]:
    started, used = time.monotonic(), time.process_time()
    results = task(_HERE[0])
    seconds, cpu = time.monotonic() - started, time.process_time() - used
    what = ' '.join(str(word) for word in getattr(task, 'args', ()))
    told = [f'  {what}: {len(results)} in {seconds:.0f} s, {cpu:.0f} of cpu']
    told += [f'    {line}' for result in results for line in _amiss(result)]
    print('\n'.join(told), file=sys.stderr, flush=True)
    return results


def _amiss(result: object) -> Iterator[str]:
    """What is wrong with a result, for those who wait for the tables."""
    match result:
        case Told(name=name, loud=loud):
            yield from (f'{name}: {line}' for line in loud)
        case (_, Outcome() as outcome):
            if not outcome.found:
                yield f'{outcome.name}: missed'
            yield from (f'{outcome.name}: wrong: {line}' for line in outcome.wrong)


def run_all(
    kernel: Path, rules: Sequence[Rule], tasks: Sequence[Task[T]], jobs: int
) -> Iterator[T]:
    """Run tasks over a kernel, in `jobs` processes; their results in any order."""
    with tempfile.TemporaryDirectory(prefix='evaluate-') as folder:
        if jobs == 1:
            _open(kernel, rules, Path(folder))
            for task in tasks:
                yield from _run(task)
            _HERE.pop().quarantine.__exit__()
            return
        with Quarantine(kernel, load().cache) as quarantine:
            # The index of its words is made once, for all processes.
            quarantine.at(quarantine.resolve('HEAD')).knows('planted')
        # Forked, so that rules need not be pickled.
        forking = multiprocessing.get_context('fork')
        with forking.Pool(jobs, partial(_open, kernel, rules, Path(folder))) as pool:
            for results in pool.imap_unordered(_run, tasks):
                yield from results


def mutation(kernel: Path, rules: Sequence[Rule], glob: str = '*', jobs: int = 1) -> Iterator[Row]:
    """Plant the mistakes of the rules that fit `glob`; a row for each of these rules."""
    wanted = [rule.id for rule in rules if fnmatch.fnmatch(rule.id, glob)]
    missing = [rule for rule in wanted if not has_plants(rule)]
    tasks = [
        partial(planted, rule, part, jobs)
        for rule in wanted
        for part in range(jobs)
        if rule not in missing
    ]
    outcomes: dict[str, list[Outcome]] = {rule: [] for rule in wanted}
    for rule, outcome in run_all(kernel, rules, tasks, jobs):
        outcomes[rule].append(outcome)
    for rule in wanted:
        without = 'has no module in tests/evaluate/mutations' if rule in missing else ''
        yield Row(rule, tuple(sorted(outcomes[rule], key=lambda one: one.name)), without)


def has_plants(rule: str) -> bool:
    """Whether there is a generator for a rule."""
    name = f'{rule.replace("-", "_")}.py'
    return (Path(__file__).parent / 'mutations' / name).exists()


def silence(kernel: Path, rules: Sequence[Rule], seed: int = SEED, jobs: int = 1) -> list[Told]:
    """Judge what does no harm."""
    tasks: list[Task[Told]] = [partial(unharmed, (kind,), seed) for kind in harmless.KINDS]
    tasks += [partial(unchanged, part, 2 * jobs) for part in range(2 * jobs)]
    return list(run_all(kernel, rules, tasks, jobs))


# --- tables ---


def silence_table(told: Sequence[Told]) -> Iterator[str]:
    """Print what was said of harmless patches."""
    yield f'{"harmless":44} {"judged":>8} {"findings":>9} {"notes":>7}'
    kinds = sorted({one.kind for one in told})
    for kind in kinds:
        mine = [one for one in told if one.kind == kind]
        loud = sum(len(one.loud) for one in mine)
        notes = sum(len(one.notes) for one in mine)
        yield f'{kind:44} {len(mine):8} {loud:9} {notes:7}'
    patches = [one for one in told if one.kind in harmless.KINDS]
    loud, notes = sum(len(one.loud) for one in told), sum(len(one.notes) for one in told)
    title = f'all (generated patches: {len(patches)})'
    yield f'{title:44} {len(told):8} {loud:9} {notes:7}'
    for title, said in (
        ('findings', [(one.name, line) for one in told for line in one.loud]),
        ('notes', [(one.name, line) for one in told for line in one.notes]),
    ):
        if said:
            yield ''
            yield f'{title}:'
            yield from (f'  {name}: {line}' for name, line in sorted(said))


def mutation_table(rows: Sequence[Row]) -> Iterator[str]:
    """Print what was found of what was planted."""
    yield f'{"rule":26} {"planted":>8} {"found":>6} {"missed":>7} {"wrong":>6} {"share":>7}'
    for row in rows:
        if row.without:
            yield f'{row.rule:26} {row.without}'
            continue
        planted_ = len(row.outcomes)
        share = f'{100 * row.found / planted_:.1f} %' if planted_ else '-'
        yield (
            f'{row.rule:26} {planted_:8} {row.found:6} {len(row.missed):7} {len(row.wrong):6} '
            f'{share:>7}'
        )
    totals = [sum(len(row.outcomes) for row in rows), sum(row.found for row in rows)]
    wrong = sum(len(row.wrong) for row in rows)
    yield f'{"all":26} {totals[0]:8} {totals[1]:6} {totals[0] - totals[1]:7} {wrong:6}'
    for title, listed in (
        ('missed', [(row.rule, row.missed) for row in rows]),
        ('wrong', [(row.rule, row.wrong) for row in rows]),
    ):
        if any(names for _, names in listed):
            yield ''
            yield f'{title}:'
        for rule, names in listed:
            yield from (f'  {rule}: {name}' for name in names[:SHOWN])
            if len(names) > SHOWN:
                yield f'  {rule}: and {len(names) - SHOWN} more'


def written(document: Path, tables: str) -> None:
    """Put tables between the two marker lines of a document."""
    text = document.read_text()
    begin, end = MARKS
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f'{document}: no place for tables: {begin} … {end}')
    tables = tables.rstrip('\n')
    document.write_text(
        re.sub(
            re.escape(begin) + '.*' + re.escape(end),
            lambda _: f'{begin}\n```\n{tables}\n```\n{end}',
            text,
            flags=re.S,
        )
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='make evaluate')
    parser.add_argument('part', nargs='?', choices=('silence', 'mutation', 'all'), default='all')
    parser.add_argument('--rule', default='*', help='only these rules (a pattern)')
    parser.add_argument('--kernel', help='only this version')
    parser.add_argument('--seed', type=int, default=SEED)
    parser.add_argument('--jobs', type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument('--write', type=Path, metavar='FILE', help='put the tables into FILE')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the two tables for each kernel."""
    options = _options(arguments)
    found = [one for one in kernels() if options.kernel in (None, one[0])]
    if not found:
        print('evaluate: no such kernel: make kernel', file=sys.stderr)
        return 1
    lines: list[str] = []

    def show(line: str = '') -> None:
        lines.append(line)
        print(line, flush=True)

    good = True
    for version, kernel in found:
        started = time.monotonic()
        if options.part != 'mutation':
            show(f'Linux {version}: silence (seed {options.seed})\n')
            told = silence(kernel, EVALUATED, options.seed, options.jobs)
            good = good and not any(one.loud for one in told)
            for line in silence_table(told):
                show(line)
            show()
        if options.part != 'silence':
            show(f'Linux {version}: mistakes planted\n')
            rows = list(mutation(kernel, EVALUATED, options.rule, options.jobs))
            good = good and all(row.good for row in rows)
            for line in mutation_table(rows):
                show(line)
            show()
        seconds = time.monotonic() - started
        print(f'{seconds / 60:.1f} minutes, {options.jobs} processes\n', file=sys.stderr)
    if options.write is not None:
        written(options.write, '\n'.join(lines))
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
