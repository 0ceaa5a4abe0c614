"""
Whether a test run passed, by its output and its exit status.

Answers what failed, how many tests ran, and why it is no pass, and reads the
VMA tests' own words for that. Leaves KTAP to `ktap`, glibc's assertions to
`glibc`, reports to `sanitizers`; and what is new in a patch to the rule
`vma-test-build`.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from bot.diagnose.glibc import assertions
from bot.diagnose.ktap import Ktap
from bot.diagnose.lines import each_once, lines_of, relative
from bot.diagnose.sanitizers import is_asan, reports
from bot.model import Diagnostic, Parser, Passed, TestsFailed
from bot.plain import one_line

ASSERT = re.compile(
    r'^Assert FAILED at (?P<path>[^\s:]+):(?P<line>\d{1,9}):(?P<test>\w+)\(\): (?P<text>.*)$'
)
TEST = re.compile(r'^Test (?P<name>\w+) FAILED$')
SUMMARY = re.compile(
    r'^(?P<run>\d{1,9}) tests run, (?P<passed>\d{1,9}) passed, (?P<failed>\d{1,9}) failed\.$'
)


def of_run(
    output: str,
    status: int,
    folder: str,
    warnings: tuple[Diagnostic, ...] = (),
    *,
    parser: Parser = 'vma',
) -> Passed | TestsFailed:
    """
    Judge a test run.

    Passed means exit status 0, no sanitizer report, no assertion of glibc's,
    and what the parser wants to see: `vma` one summary that counts no failure;
    `ktap` a result, every plan kept and no `not ok` but for TODO; `exit-code`
    nothing more. Anything less says what is missing.

    `run` counts, for `ktap`, the leaves that were not skipped: a result with
    subtests of its own is not counted, and is named as failed only where none
    of its subtests is. None: a run that did not come to its end has no count.
    """
    lines = lines_of(output, cut=True)
    sanitizer = each_once(reports(lines, folder))
    aborts = each_once(assertions(lines, folder))
    short: str | None = None  # what is missing though nothing failed
    run: int | None = None
    match parser:
        case 'vma':
            summaries = [found for line in lines if (found := SUMMARY.match(line))]
            run = int(summaries[-1]['run']) if summaries else None
            failed = each_once((*_failed_tests(lines, folder), *aborts))
            if run is None:
                short = f'it ends with status {status} and without a summary'
            elif status or len(summaries) > 1 or summaries[0]['passed'] != summaries[0]['run']:
                short = f'it ends with status {status}, after a summary of {run} tests'
        case 'ktap':
            ktap = Ktap(folder)
            for line in lines:
                ktap.read(line)
            failed = each_once(ktap.failures())
            broken = ktap.broken()
            stopped = broken or aborts or status >= 128 or any(map(is_asan, sanitizer))
            run = ktap.ran if ktap.seen and not stopped else None
            if broken or not ktap.seen:
                short = broken or f'it ends with status {status} and without a result'
            elif status:
                short = f'it ends with status {status}, after {_count(ktap.seen, "result")}'
        case 'exit-code':
            failed = aborts
            if status:
                short = f'it ends with status {status}'
    if not (failed or sanitizer or short):
        return Passed(run, warnings)
    if failed:
        reason = f'{len(failed)} of {run} tests fail' if run is not None else 'a test fails'
        if run is None and status:
            reason = f'{reason}, and it ends with status {status}'
    else:
        reason = sanitizer[0].text if sanitizer else short or ''
    return TestsFailed(run, failed, sanitizer, warnings, reason)


def _failed_tests(lines: list[str], folder: str) -> Iterator[Diagnostic]:
    """Pair each `Test NAME FAILED` with the assertion that was printed before it."""
    asserted: Diagnostic | None = None
    for line in lines:
        if found := ASSERT.match(line):
            asserted = Diagnostic(
                'assert',
                one_line(found['text'].rstrip('.')),
                relative(found['path'], folder),
                int(found['line']),
                found['test'].removeprefix('test_'),
            )
        elif found := TEST.match(line):
            if asserted is not None:  # perhaps in a helper that the test calls
                yield replace(asserted, symbol=found['name'])
            else:
                yield Diagnostic('assert', 'no assertion was printed', symbol=found['name'])
            asserted = None


def _count(number: int, what: str) -> str:
    return f'{number} {what}' if number == 1 else f'{number} {what}s'
