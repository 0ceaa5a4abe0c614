"""
The VMA tests no longer build, or no longer pass, at a patch.

Every patch is built and run on its own, against the result of the patch before
it: a series that breaks tools/testing/vma in the middle and mends it later
can't be bisected, even though its tip passes.

Reported is what the patch introduces: the first new compiler or linker error,
each test that passed before and fails now, a new sanitizer report, and (as a
warning) fewer tests than before. What the base had already is silent; a
harness that could not be run on our side is never the author's.
"""

import re
from collections.abc import Iterator

from bot.model import (
    Build,
    BuildFailed,
    Diagnostic,
    Evidence,
    Hit,
    Passed,
    Severity,
    Side,
    Step,
    Subject,
    TestsFailed,
)
from bot.rule import Case, Edit, Rule

STUBS = 'include/stubs.h'
UNRESOLVED_NAME = re.compile(r'undefined reference|implicit declaration|call to undeclared')


def check(subject: Subject) -> Iterator[Hit]:
    for harness in dict.fromkeys(build.harness for build in subject.builds):
        builds = [build for build in subject.builds if build.harness == harness]
        yield from _harness(subject, builds)


def _harness(subject: Subject, builds: list[Build]) -> Iterator[Hit]:
    built: Passed | TestsFailed | None = None  # the last result of a build that ran
    broken: BuildFailed | None = None  # the build before, where it failed
    for build in builds:
        outcome = build.outcome
        step = next((step for step in subject.steps if step.n == build.n), None)
        if isinstance(outcome, BuildFailed):
            if broken is None and built is not None and step is not None:
                yield _build_broken(subject, builds, build, outcome, step)
            broken = outcome
        elif isinstance(outcome, Passed | TestsFailed):
            if built is not None and step is not None:
                yield from _tests(subject, builds, build, built, outcome, step)
            built, broken = outcome, None


def _build_broken(
    subject: Subject, builds: list[Build], build: Build, outcome: BuildFailed, step: Step
) -> Hit:
    mended = next(
        (b.n for b in builds if b.n > build.n and isinstance(b.outcome, Passed | TestsFailed)), None
    )
    first = outcome.errors[0] if outcome.errors else Diagnostic('error', 'make fails')
    unknown = next((d for d in outcome.errors if d.symbol is not None), None)
    said = unknown or first
    advice = None
    if unknown is not None and UNRESOLVED_NAME.match(unknown.text):
        advice = f'Does {unknown.symbol} want a stub in {build.dir}/{STUBS}?'
    if mended is not None:
        advice = f'Patch {mended} mends it; could the two be one, so that each patch builds?'
    message = f'the {build.harness} tests no longer build from here on: {said.text}'
    if mended is not None:
        message = f'the {build.harness} tests do not build from here to patch {mended}: {said.text}'
    path, line, side = _where(step, build.dir, said)
    return Hit(
        build.n, path, line, message, advice, side=side,
        symbol=said.symbol, evidence=_evidence(said, path, line),
    )  # fmt: skip


def _tests(
    subject: Subject,
    builds: list[Build],
    build: Build,
    before: Passed | TestsFailed,
    outcome: Passed | TestsFailed,
    step: Step,
) -> Iterator[Hit]:
    if isinstance(outcome, TestsFailed):
        known = {failed.symbol for failed in _failures(before)}
        for failed in _failures(outcome):
            if failed.symbol in known:
                continue
            mended = next(
                (
                    b.n
                    for b in builds
                    if b.n > build.n
                    and isinstance(b.outcome, Passed | TestsFailed)
                    and failed.symbol not in {one.symbol for one in _failures(b.outcome)}
                ),
                None,
            )
            until = f'from here to patch {mended}' if mended else 'from here on'
            what = (
                f'test {failed.symbol} fails'
                if failed.kind == 'assert'
                else 'a sanitizer speaks up'
            )
            path, line, side = _where(step, build.dir, failed)
            yield Hit(
                build.n, path, line, f'{build.harness}: {what} {until}: {failed.text}', side=side,
                symbol=failed.symbol, evidence=_evidence(failed, path, line),
            )  # fmt: skip
        if not _failures(outcome) and not isinstance(before, TestsFailed):
            path, line, side = _where(step, build.dir, Diagnostic('error', ''))
            yield Hit(
                build.n, path, line,
                f'the {build.harness} tests no longer pass: {outcome.reason}', side=side,
            )  # fmt: skip
    if outcome.run is not None and before.run is not None and outcome.run < before.run:
        path, line, side = _where(step, build.dir, Diagnostic('error', ''))
        yield Hit(
            build.n, path, line,
            f'{build.harness} runs {outcome.run} tests, {before.run} before this patch',
            'Is that meant?', side=side, severity=Severity.WARNING,
        )  # fmt: skip


def _failures(outcome: Passed | TestsFailed) -> tuple[Diagnostic, ...]:
    if not isinstance(outcome, TestsFailed):
        return ()
    # A test that fails returns early, and leaks: that says nothing new.
    leaks = bool(outcome.failed)
    return outcome.failed + tuple(
        one for one in outcome.sanitizer if not (leaks and one.text.startswith('LeakSanitizer'))
    )


def _where(step: Step, folder: str, said: Diagnostic) -> tuple[str | None, int | None, Side]:
    """
    Return the place in the step's diff that `said` is about.

    The line that it names, if the patch adds it; else an added line that names
    the symbol; else the first line of the diff.
    """
    named = step.file(said.path) if said.path is not None else None
    if named is not None and any(number == said.line for number, _ in named.added):
        return said.path, said.line, 'new'
    # Nearest first: the file itself, the tests, the code that they include, the rest.
    near = (said.path or folder, folder, 'mm/vma')
    ordered = sorted(
        step.files,
        key=lambda diff: next((i for i, one in enumerate(near) if diff.path.startswith(one)), 9),
    )
    if said.symbol is not None:
        name = re.compile(rb'\b' + re.escape(said.symbol.encode()) + rb'\b')
        for diff in ordered:
            for number, line in diff.added:
                if diff.new_path is not None and name.search(line):
                    return diff.new_path, number, 'new'
            for number, line in diff.removed:
                if diff.old_path is not None and name.search(line):
                    return diff.old_path, number, 'old'
    for diff in ordered:
        if diff.added:
            return diff.path, diff.added[0][0], 'new'
        if diff.removed:
            return diff.path, diff.removed[0][0], 'old'
    return None, None, 'new'


def _evidence(said: Diagnostic, path: str | None, line: int | None) -> tuple[Evidence, ...]:
    if said.path is None or said.line is None or (said.path, said.line) == (path, line):
        return ()
    return (Evidence(said.path, said.line, said.code or said.text),)


FILE = 'mm/vma.c'
TREE = {FILE: 'int x;\n'}
EDITS = tuple(Edit({FILE: f'int x;\nint y{n};\n'}) for n in (1, 2, 3))
OK, FEWER = Passed(27), Passed(26)
UNRESOLVED = BuildFailed(
    (Diagnostic('error', "undefined reference to 'y2'", FILE, 2, symbol='y2'),)
)
FAILS = TestsFailed(27, (Diagnostic('assert', 'a == b is FALSE', 'tests/x.c', 3, symbol='merge'),))
FAILS_AND_LEAKS = TestsFailed(
    27, FAILS.failed, (Diagnostic('sanitizer', 'LeakSanitizer: detected memory leaks'),)
)
LEAKS = TestsFailed(27, (), (Diagnostic('sanitizer', 'heap-use-after-free in f', FILE, 1, 'f'),))


def _case(*outcomes: Passed | TestsFailed | BuildFailed, expect: tuple[int, ...] = ()) -> Case:
    builds = tuple(
        Build('vma', n, outcome, 'tools/testing/vma') for n, outcome in enumerate(outcomes)
    )
    return Case(TREE, EDITS[: len(outcomes) - 1], builds, expect or None)


RULE = Rule(
    id='vma-test-build',
    severity=Severity.ERROR,
    check=check,
    bad=(
        _case(OK, UNRESOLVED, expect=(1,)),
        _case(OK, OK, UNRESOLVED, OK, expect=(2,)),
        _case(OK, FAILS, FAILS, expect=(1,)),
        _case(OK, FAILS_AND_LEAKS, expect=(1,)),
        _case(OK, OK, LEAKS, expect=(2,)),
        _case(OK, FEWER, expect=(1,)),
        _case(OK, UNRESOLVED, FAILS, expect=(1, 2)),
    ),
    good=(
        _case(OK, OK, OK),
        _case(UNRESOLVED, UNRESOLVED, OK),
        _case(FAILS, FAILS, FAILS),
        _case(FAILS, OK),
    ),
)
