"""
`--format ktap`: KTAP version 1, as the kernel's own tools read it.

One test for each patch, with a subtest for the rules and one for each harness
that was built there; `0/N` stands for the series as a whole and its base. A
finding at or above --fail-on is `not ok`, and so are tests that the series
breaks, whoever asked that a finding be set aside. What could not be run, and
what failed on the base already, is skipped. All that is said of a test stands
in `# …` lines before its result.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bot.model import AppliedSeries, Build, CouldNotRun, Finding, Passed, Review, Severity
from bot.output.wording import failures_of, outcome, patch_name, place, sentence
from bot.plain import one_line

INDENT = '  '
# kunit.py takes a log with one of these for ended.
ENDS = re.compile(
    r'(?<=List of all partitions):|(?<=not syncing): (?=VFS:)|(?<=reboot): (?=System)'
)


@dataclass(frozen=True)
class _Result:
    """One test: what is said of it, and why it was skipped, if it was. `tests` are below it."""

    name: str
    good: bool
    said: tuple[str, ...] = ()
    skipped: str | None = None
    tests: tuple['_Result', ...] = ()


def render(reviews: Sequence[Review], fail_on: Severity = Severity.WARNING) -> str:
    """Return the document: the patches of all series, in order."""
    tests = [test for review in reviews for test in _tests(review, fail_on)]
    return '\n'.join(_block(tests, '')) + '\n'


def _block(tests: Sequence[_Result], indent: str, name: str | None = None) -> Iterator[str]:
    yield f'{indent}KTAP version 1'
    if name is not None:
        yield f'{indent}# Subtest: {name}'
    yield f'{indent}1..{len(tests)}'
    for number, test in enumerate(tests, 1):
        if test.tests:
            yield from _block(test.tests, indent + INDENT, test.name)
        yield from (f'{indent}# {_line(said)}' for said in test.said)
        result = 'ok' if test.good else 'not ok'
        skipped = f' # SKIP {_line(test.skipped)}' if test.skipped is not None else ''
        yield f'{indent}{result} {number} {test.name}{skipped}'


def _tests(review: Review, fail_on: Severity) -> Iterator[_Result]:
    patches = review.series.patches if review.series is not None else ()
    for n in (0, *(patch.n for patch in patches)):
        tests = [_applied(review)] if n == 0 else []
        tests.append(_rules(review, n, fail_on))
        tests += [_built(review, build) for build in review.builds if build.n == n]
        good = all(test.good for test in tests)
        why = 'nothing could be run'
        skipped = why if all(test.skipped is not None for test in tests) else None
        yield _Result(_name(patch_name(review, n)), good, (), skipped, tuple(tests))


def _applied(review: Review) -> _Result:
    match review.applied:
        case AppliedSeries(base=base):
            return _Result('applies', True, (f'base: {base.ref} {base.commit[:12]} ({base.why})',))
        case _:
            said = tuple(
                f'{one.what}: patch {one.n}: {one.error}' if one.n else f'{one.what}: {one.error}'
                for one in failures_of(review)
            )
            return _Result('applies', True, said, said[0] if said else 'it was not tried')


def _rules(review: Review, n: int, fail_on: Severity) -> _Result:
    findings = [finding for finding in review.findings if finding.hit.n == n]
    said = [line for finding in findings for line in _said(finding)]
    said += [
        f'set aside: {one.finding.rule}: {one.reason}'
        for one in review.suppressed
        if one.finding.hit.n == n
    ]
    failures = [one for one in review.failures if (one.n or 0) == n]
    said += [f'failed: {one.what}: {one.error}' for one in failures]
    bad = any(finding.severity >= fail_on for finding in findings)
    skipped = None
    if not isinstance(review.applied, AppliedSeries):
        skipped = 'does not apply' if review.applied is not None else 'there is no whole series'
    elif failures:
        skipped = f'not all could be run: {failures[0].what}'
    return _Result('rules', not bad, tuple(said), None if bad else skipped)


def _built(review: Review, build: Build) -> _Result:
    said = (f'{outcome(build)}{", reused" if build.reused else ""}',)
    passed_before = any(
        one.n < build.n and one.harness == build.harness and isinstance(one.outcome, Passed)
        for one in review.builds
    )
    match build.outcome:
        case Passed():
            return _Result(build.harness, True, said)
        case CouldNotRun():
            return _Result(build.harness, True, said, outcome(build))
        case _ if not passed_before:
            return _Result(build.harness, True, said, f'not of this series: {outcome(build)}')
        case _:
            return _Result(build.harness, False, said)


def _said(finding: Finding) -> Iterator[str]:
    where = f'{place(finding)}: ' if place(finding) else ''
    yield f'{finding.severity.label}: {where}{sentence(finding.hit)} [{finding.rule}]'
    for one in finding.hit.evidence[:5]:
        yield f'  see {one.path}:{one.line}: {one.text}'


def _line(text: str) -> str:
    return ENDS.sub(' ', one_line(text, 500))


def _name(text: str) -> str:
    """Return a test's name: no `#`, which begins a directive."""
    return _line(text.replace('#', ' ')).strip()
