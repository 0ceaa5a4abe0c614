"""
What a build and a test run said: from output to diagnostics, pure.

Reads gcc, clang, ld and make (in the C locale), the VMA tests' own words, and
ASan, UBSan and LSan. Paths come out relative to the kernel tree.
"""

import posixpath
import re
from collections.abc import Iterator

from bot.model import Diagnostic, Passed, TestsFailed
from bot.plain import one_line

ROOT = '/build/'
"""Where the tree lies inside the cage."""

COMPILER = re.compile(
    r'^(?P<path>[^\s:]+\.[chS]):(?P<line>\d+)(?::\d+)?: '
    r'(?P<kind>fatal error|error|warning): (?P<text>.*)$'
)
LINKER = re.compile(
    r'^(?:\S*ld(?:\.\w+)?: )?(?:(?P<path>[^\s:]+\.[chS]):(?P<line>\d+): |\S+: )?'
    r"(?P<text>(?:undefined reference to|multiple definition of) [`'](?P<symbol>\w+)'.*)$"
)
LIBRARY = re.compile(r'^\S*ld(?:\.\w+)?: (?P<text>cannot find -l(?P<symbol>\S+?)(?:: .*)?)$')
MAKE = re.compile(r'^make(?:\[\d+\])?: \*\*\* (?P<text>No rule to make target .*)$')
QUOTED = re.compile(r'^\s*(\d+) \|(.*)$')
SYMBOL = re.compile(
    r'(?:implicit declaration of function|unknown type name|has no member named'
    r'|read-only member|conflicting types for|redefinition of|invalid use of undefined type'
    r'|call to undeclared function|use of undeclared identifier|static declaration of'
    r'|too (?:few|many) arguments to function'
    r"|passing argument \d+ of) '(?:struct )?(\w+)'|'(\w+)' undeclared"
)
MISSING_FILE = re.compile(
    r'No such file or directory|No rule to make target|file not found|cannot open'
)
ASSERT = re.compile(
    r'^Assert FAILED at (?P<path>[^\s:]+):(?P<line>\d+):(?P<test>\w+)\(\): (?P<text>.*)$'
)
TEST = re.compile(r'^Test (?P<name>\w+) FAILED$')
SUMMARY = re.compile(
    r'^(?P<run>\d+) tests run, (?P<passed>\d+) passed, (?P<failed>\d+) failed\.$', re.M
)
SANITIZER = re.compile(r'^==\d+==\s*ERROR: (?P<who>\w+Sanitizer): (?P<text>.*)$')
RUNTIME = re.compile(r'^(?P<path>[^\s:]+):(?P<line>\d+)(?::\d+)?: runtime error: (?P<text>.*)$')
FRAME = re.compile(r'^\s*#\d+ 0x[0-9a-f]+ in (?P<function>\S+) (?P<path>/[^\s:]+):(?P<line>\d+)')


def of_build(output: str, folder: str) -> tuple[tuple[Diagnostic, ...], tuple[Diagnostic, ...]]:
    """Return (errors, warnings) of a build in `folder`, each once."""
    found = list(dict.fromkeys(_build_lines(output, folder)))
    errors = tuple(one for one in found if one.kind == 'error')
    return errors, tuple(one for one in found if one.kind == 'warning')


def of_run(
    output: str, status: int, folder: str, warnings: tuple[Diagnostic, ...] = ()
) -> Passed | TestsFailed:
    """
    Judge a test run.

    Passed means exit status 0, and a summary that counts no failure, and no
    sanitizer report; anything less says what is missing.
    """
    lines = output.split('\n')
    failed = tuple(_failed_tests(lines, folder))
    sanitizer = tuple(_sanitizer(lines, folder))
    summaries = SUMMARY.findall(output)
    run = int(summaries[-1][0]) if summaries else None
    all_passed = len(summaries) == 1 and summaries[0][0] == summaries[0][1]
    if status == 0 and run is not None and all_passed and not failed and not sanitizer:
        return Passed(run, warnings)
    if failed:
        reason = f'{len(failed)} of {run} tests fail' if run is not None else 'a test fails'
    elif sanitizer:
        reason = sanitizer[0].text
    elif run is None:
        reason = f'it ends with status {status} and without a summary'
    else:
        reason = f'it ends with status {status}, after a summary of {run} tests'
    return TestsFailed(run, failed, sanitizer, warnings, reason)


def misses_a_file(output: str) -> bool:
    """Whether a build failed for want of a file, which a wider layout might have."""
    return MISSING_FILE.search(output) is not None


def relative(path: str, folder: str) -> str | None:
    """Return a path from an output relative to the tree, None where it lies outside."""
    absolute = posixpath.normpath(posixpath.join(ROOT, folder, path))
    return absolute.removeprefix(ROOT) if absolute.startswith(ROOT) else None


def _build_lines(output: str, folder: str) -> Iterator[Diagnostic]:
    lines = output.split('\n')
    for number, raw in enumerate(lines):
        if len(raw) > 4000:
            continue
        line = raw.rstrip()
        if found := COMPILER.match(line):
            quoted = QUOTED.match(lines[number + 1]) if number + 1 < len(lines) else None
            named = SYMBOL.search(found['text'])
            yield Diagnostic(
                'warning' if found['kind'] == 'warning' else 'error',
                one_line(found['text']),
                relative(found['path'], folder),
                int(found['line']),
                (named[1] or named[2]) if named else None,
                one_line(quoted[2]) if quoted and quoted[1] == found['line'] else None,
            )
        elif found := LINKER.match(line):
            text = one_line(found['text']).replace('`', "'")
            path = relative(found['path'], folder) if found['path'] else None
            at = int(found['line']) if found['line'] and path else None
            yield Diagnostic('error', text, path, at, found['symbol'])
        elif (found := LIBRARY.match(line)) or (found := MAKE.match(line)):
            yield Diagnostic('error', one_line(found['text']).replace('`', "'"))


def _failed_tests(lines: list[str], folder: str) -> Iterator[Diagnostic]:
    """Pair each `Test NAME FAILED` with the assertion that was printed before it."""
    asserted: Diagnostic | None = None
    for raw in lines:
        line = raw[:4000]
        if found := ASSERT.match(line):
            asserted = Diagnostic(
                'assert',
                one_line(found['text'].rstrip('.')),
                relative(found['path'], folder),
                int(found['line']),
                found['test'].removeprefix('test_'),
            )
        elif found := TEST.match(line):
            if asserted is not None and asserted.symbol == found['name']:
                yield asserted
            elif asserted is not None:  # in a helper that the test calls
                yield Diagnostic(
                    'assert', asserted.text, asserted.path, asserted.line, found['name']
                )
            else:
                yield Diagnostic('assert', 'no assertion was printed', symbol=found['name'])
            asserted = None


def _sanitizer(lines: list[str], folder: str) -> Iterator[Diagnostic]:
    for number, raw in enumerate(lines):
        line = raw[:4000]
        if found := RUNTIME.match(line):
            yield Diagnostic(
                'sanitizer',
                f'UBSan: {one_line(found["text"])}',
                relative(found['path'], folder),
                int(found['line']),
                'UBSan',
            )
        elif found := SANITIZER.match(line):
            kind = re.sub(r' on (?:unknown )?address .*', '', one_line(found['text']))
            kind = re.sub(r'0x[0-9a-f]+', '0x…', kind)
            frame = next(_frames(lines[number : number + 60], folder), None)
            said = f'{found["who"]}: {kind}'
            if frame is None:
                yield Diagnostic('sanitizer', said, symbol=found['who'])
            else:
                function, path, at = frame
                yield Diagnostic('sanitizer', f'{said} in {function}()', path, at, function)


def _frames(lines: list[str], folder: str) -> Iterator[tuple[str, str, int]]:
    for line in lines:
        if found := FRAME.match(line[:4000]):
            path = relative(found['path'], folder)
            if path is not None:
                yield found['function'], path, int(found['line'])
