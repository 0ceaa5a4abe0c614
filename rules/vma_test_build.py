"""
The VMA tests no longer build, or no longer pass, at a patch.

Every patch is built and run on its own, against the result of the patch before
it: a series that breaks tools/testing/vma (or another harness) in the middle
and mends it later can't be bisected, even though its tip passes.

Reported is what the patch introduces: the compiler or linker error, with the
symbol that the test build lacks; each test that passed before and fails now; a
new sanitizer report. As warnings: a new compiler warning, fewer tests than
before, compiler flags that see less (a note where they see more), and a limit
that was not hit before. What the base had already is silent; a harness that
could not be run on our side is never the author's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bot.model import (
    OF_SERIES,
    Build,
    BuildFailed,
    BuildOutcome,
    CouldNotRun,
    Diagnostic,
    Evidence,
    FileDiff,
    Hit,
    Passed,
    Severity,
    Side,
    Step,
    Subject,
    TestsFailed,
)
from bot.rule import Case, Edit, Rule, named

STUBS = 'include/stubs.h'
NO_FUNCTION = re.compile(
    r'undefined (?:reference|symbol)|implicit declaration|call to undeclared function'
)
NO_NAME = re.compile(r"unknown type name|use of undeclared|'\w+' undeclared")
# A removed one, or another in its place, lets less be seen; a new one asks for more.
WEIGHTY_GONE = re.compile(r'-(?:[DfmO]|std=|W(?!no-|l,))')
WEIGHTY_NEW = re.compile(r'-(?:[UmO]|f(?!sanitize=)|std=|Wno-|w\Z)')
MAKEFILE = re.compile(r'(?:\A|/)(?:Makefile|Kbuild)[^/]*\Z|\.mk\Z')
MAKE_FAILS = Diagnostic('error', 'make fails')
BAILS = 'it bails out: '
SHOWN = {'warnings': 5, 'tests': 10, 'flags': 6}

Ran = Passed | TestsFailed
Place = tuple[str | None, int | None, Side]


def check(subject: Subject) -> Iterator[Hit]:
    for harness in dict.fromkeys(build.harness for build in subject.builds):
        builds = tuple(build for build in subject.builds if build.harness == harness)
        yield from _harness(subject, builds)


@dataclass(frozen=True)
class _At:
    """
    One build of a step: what it is compared with, and how to speak of it.

    `before` is the last result of tests that ran, `broken` the builds since
    then that failed. `skipped`: a patch between could not be run.
    """

    of: int
    builds: tuple[Build, ...]
    build: Build
    step: Step
    before: Ran
    broken: tuple['_At', ...]
    skipped: bool

    @property
    def tests(self) -> str:
        return f'the {self.build.harness} tests'

    def when(self, mended: int | None = None, how: str = '') -> str:
        """` at 3/7 (mended at 5/7)`; nothing where the series is one patch."""
        if self.of < 2:
            return ''
        until = f' ({how} at {mended}/{self.of})' if mended is not None else ''
        # The patches before it could not show whether it began with them.
        at = 'as of' if self.skipped or self.broken else 'at'
        return f' {at} {self.build.n}/{self.of}{until}'

    def later(self) -> Iterator[tuple[int, Ran]]:
        """The results of later patches."""
        for build in self.builds:
            if build.n > self.build.n and isinstance(build.outcome, Ran):
                yield build.n, build.outcome

    def hit(
        self,
        said: Diagnostic | None,
        message: str,
        advice: str | None = None,
        *,
        severity: Severity | None = None,
        by_name: bool = True,
        place: Place | None = None,
        words: tuple[str, ...] = (),
        key: str | None = None,
    ) -> Hit:
        """
        Make a hit of what was said, with its place as evidence where the diff lacks it.

        `words` are the build's own. `by_name`: the name that was said stands for it.
        """
        where = said or Diagnostic('error', '')
        path, line, side = place or _where(self, where)
        return Hit(
            self.build.n, path, line, message, advice, side=side, severity=severity,
            symbol=where.symbol if by_name else None, evidence=_evidence(self, where, path, line),
            said=words, key=key,
        )  # fmt: skip


def _harness(subject: Subject, builds: tuple[Build, ...]) -> Iterator[Hit]:
    before: Ran | None = None  # the last result of tests that ran
    flags: tuple[str, ...] = ()  # the last that were seen
    broken: tuple[_At, ...] = ()
    skipped = False
    steps = {step.n: step for step in subject.steps}
    of = subject.series.patches[-1].of if subject.series.patches else 0
    for build in builds:
        at = None
        if build.n in steps and before is not None:
            at = _At(of, builds, build, steps[build.n], before, broken, skipped)
        match build.outcome:
            case BuildFailed() as outcome if at is not None:
                if not broken:
                    yield _build_broken(at, outcome)
                broken = (*broken, at)
            case Passed() | TestsFailed() as outcome:
                if at is not None:
                    yield from _tests(at, outcome)
                    yield from _warnings(at, outcome)
                    yield from _flags(at, flags, outcome.flags)
                before, broken, skipped = outcome, (), False
                flags = outcome.flags or flags
            case CouldNotRun(limit=limit):
                shared = limit is None or limit.endswith(OF_SERIES)
                if at is not None and limit is not None and not (shared or broken or skipped):
                    yield _limit(at, limit)
                skipped = True


# --- errors ---


def _build_broken(at: _At, outcome: BuildFailed) -> Hit:
    mended = next((n for n, _ in at.later()), None)
    said = _resolved(at, _cause(outcome))
    message = f'breaks {at.tests}{at.when(mended, "mended")}'
    key = f'{message}: {said.text.rstrip(".")}'
    lacks = None
    if said.symbol is None or named(said.symbol) != said.symbol:
        pass
    elif at.build.dir and NO_FUNCTION.match(said.text):
        stubs = f'{at.build.dir}/{STUBS}'
        where = stubs if at.step.post.read(stubs) is not None else at.build.dir
        lacks = f'a stub for {said.symbol}() in {where}'
    elif at.build.dir and NO_NAME.search(said.text):
        lacks = f'a definition of {said.symbol} in {at.build.dir}'
    advice = f'Does this want {lacks}?' if lacks else None
    if mended is not None and lacks:
        advice = f'Patch {mended} mends it; does this one want {lacks}, so that each builds?'
    elif mended is not None:
        advice = f'Patch {mended} mends it; could the two be one, so that each patch builds?'
    if said == MAKE_FAILS:
        return at.hit(said, key, advice)
    return at.hit(said, message, advice, words=(said.text,), key=key)


def _cause(outcome: BuildFailed) -> Diagnostic:
    """
    Choose the error to name: the first, or the first that names what the build lacks.

    A linker without debug information names no place; the compiler may have,
    when it warned of the same symbol.
    """
    if not outcome.errors:
        return MAKE_FAILS
    first = outcome.errors[0]
    lacking = [one for one in outcome.errors if one.symbol is not None and _lacks(one)]
    said = lacking[0] if lacking and not first.text.startswith('expected') else first
    if said.path is None and said.symbol is not None:
        for one in (*outcome.errors, *outcome.warnings):
            if one.symbol == said.symbol and one.path is not None:
                return replace(said, path=one.path, line=one.line, code=one.code)
    return said


def _lacks(said: Diagnostic) -> bool:
    return bool(NO_FUNCTION.match(said.text) or NO_NAME.search(said.text))


def _tests(at: _At, outcome: Ran) -> Iterator[Hit]:
    if isinstance(outcome, TestsFailed):
        # A parent that never came to its end has not shown what else fails.
        known = _failures(at.before)
        stopped = isinstance(at.before, TestsFailed) and at.before.run is None
        new = [one for one in _failures(outcome) if not (stopped or _known(one, known))]
        for failed in new[: SHOWN['tests']]:
            yield _failing(at, _resolved(at, failed))
        if more := new[SHOWN['tests'] :]:
            yield at.hit(None, f'{len(more)} more of {at.tests} fail{at.when()}')
        if not new and isinstance(at.before, Passed):
            mended = next((n for n, later in at.later() if isinstance(later, Passed)), None)
            when = at.when(mended, 'pass again')
            yield _no_pass(at, f'{at.tests} no longer pass{when}', outcome)
        elif not new and outcome.run is None and not stopped:
            yield at.hit(None, f'{at.tests} no longer run to their end{at.when()}')
    if outcome.run is not None and at.before.run is not None and outcome.run < at.before.run:
        yield at.hit(
            None, f'fewer of {at.tests} run: {outcome.run}, and {at.before.run} before this patch',
            'Is that meant?', severity=Severity.WARNING,
        )  # fmt: skip


def _no_pass(at: _At, message: str, outcome: TestsFailed) -> Hit:
    """Say why a run is none that passed: in our words, and what the run itself says in its own."""
    reason = outcome.reason.rstrip('.').replace('it ends', 'their run ends')
    key = f'{message}: {reason}'
    if outcome.sanitizer:
        return at.hit(None, message, words=(reason,), key=key)
    if (why := reason.removeprefix(BAILS)) != reason:
        return at.hit(None, f'{message}: {BAILS.rstrip(": ")}', words=(why,), key=key)
    return at.hit(None, key)


def _failing(at: _At, failed: Diagnostic) -> Hit:
    again = (
        n
        for n, later in at.later()
        if isinstance(later, Passed)
        or (later.run is not None and not _known(failed, _failures(later)))
    )
    if failed.kind == 'sanitizer':
        when = at.when(next(again, None), 'gone')
        message = f'a sanitizer reports an error in {at.tests}{when}'
        return at.hit(failed, message, words=(failed.text,), key=f'{failed.text}{when}')
    when = at.when(next(again, None), 'passes again')
    name = f' {failed.symbol}' if failed.symbol else ''
    key = f'the {at.build.harness} test{name} fails{when}: {failed.text}'
    if failed.symbol is None:
        return at.hit(
            failed, f'a test of {at.tests} fails{when}', words=(failed.text,), key=key
        )  # fmt: skip
    if named(failed.symbol) == failed.symbol:
        message = f'the {at.build.harness} test {failed.symbol} fails{when}'
        return at.hit(failed, message, words=(failed.text,))
    words = (f'{failed.symbol}: {failed.text}',)
    return at.hit(failed, f'a test of {at.tests} fails{when}', words=words)


def _failures(outcome: Ran) -> tuple[Diagnostic, ...]:
    if not isinstance(outcome, TestsFailed):
        return ()
    # A test that fails returns early, and leaks: that says nothing new.
    leaks = bool(outcome.failed)
    reports = {
        (one.path, one.line, None if one.line else one.text): one
        for one in reversed(outcome.sanitizer)  # what two sanitizers say of one line is one thing
        if not (leaks and one.text.startswith('LeakSanitizer'))
    }
    return (*outcome.failed, *reversed(reports.values()))


def _known(one: Diagnostic, known: tuple[Diagnostic, ...]) -> bool:
    """
    Whether the same test failed, or the same report was made, before.

    A test that aborts may be known by its function only (`c`), where its
    result (`a: b: c`) was lost with the rest of stdout.
    """
    if one.kind == 'sanitizer':
        return _report(one) in map(_report, known)
    name, *others = (f': {k.symbol or ""}' for k in (one, *known) if k.kind != 'sanitizer')
    return any(name.endswith(other) or other.endswith(name) for other in others)


def _report(said: Diagnostic) -> tuple[str | None, ...]:
    return re.sub(r'\d+', '#', said.text), said.symbol, said.path


# --- warnings and notes ---


def _warnings(at: _At, outcome: Ran) -> Iterator[Hit]:
    renamed = {diff.old_path: diff.new_path for diff in at.step.files}
    known = {_key(replace(one, path=renamed.get(one.path, one.path))) for one in at.before.warnings}
    known |= {_key(one) for one in at.before.warnings}
    new: dict[tuple[str | None, ...], Diagnostic] = {}
    for warning in outcome.warnings:
        if _key(warning) not in known:
            new.setdefault(_key(warning), warning)
    ordered = list(new.values())
    for warning in ordered[: SHOWN['warnings']]:
        there = next((one for one in at.broken if _warned(one.build.outcome, warning)), at)
        said = _resolved(there, warning)
        # The text tells two warnings of one name apart, so no symbol stands for it.
        message = f'adds a compiler warning to {at.tests}'
        yield there.hit(
            said, message, severity=Severity.WARNING, by_name=False,
            words=(said.text,), key=f'{message}: {said.text}',
        )  # fmt: skip
    if (more := len(ordered) - SHOWN['warnings']) > 0:
        message = f'adds {more} more compiler warning{"s" * (more > 1)} to {at.tests}'
        yield at.hit(None, message, severity=Severity.WARNING)


def _warned(outcome: BuildOutcome, warning: Diagnostic) -> bool:
    return isinstance(outcome, BuildFailed) and _key(warning) in map(_key, outcome.warnings)


def _key(said: Diagnostic) -> tuple[str | None, ...]:
    return said.kind, said.path, said.text, said.symbol


def _flags(at: _At, before: tuple[str, ...], now: tuple[str, ...]) -> Iterator[Hit]:
    if not now:
        if at.before.flags:
            message = f'{at.tests} no longer show how they are compiled'
            there, place = _flags_place(at, ())
            yield there.hit(None, message, severity=Severity.WARNING, place=place)
        return
    gone = [flag for flag in before if flag not in now]
    new = [flag for flag in now if flag not in before] if before else []
    if not gone and not new:
        return
    weighty = any(map(WEIGHTY_GONE.match, gone)) or any(map(WEIGHTY_NEW.match, new))
    said = tuple(
        f'{word} {_listed(sorted(flags, key=lambda one: not by.match(one)))}'
        for word, flags, by in (('no longer', gone, WEIGHTY_GONE), ('now', new, WEIGHTY_NEW))
        if flags
    )
    severity = Severity.WARNING if weighty else Severity.NOTE
    there, place = _flags_place(at, (*new, *gone))
    message = f'builds {at.tests} with other flags'
    key = f'{message}: {"; ".join(said)}'
    yield there.hit(None, message, severity=severity, place=place, words=said, key=key)


def _listed(words: list[str]) -> str:
    shown = words[: SHOWN['flags']]
    more = [f'and {len(words) - len(shown)} more'] if len(words) > len(shown) else []
    return ' '.join([*shown, *more])


def _limit(at: _At, limit: str) -> Hit:
    advice = 'Could they hang since this patch?' if ' s of ' in limit else None
    message = f'{at.tests} hit a limit here that they did not before: {limit}'
    return at.hit(None, message, advice, severity=Severity.WARNING)


# --- places ---


def _where(at: _At, said: Diagnostic) -> Place:
    """
    Return the place in the step's diff that `said` is about.

    The line that it names, if the patch adds it; else an added line that names
    the symbol; else the first line of the diff.
    """
    folder = at.build.dir
    named = at.step.file(said.path) if said.path is not None else None
    if named is not None and any(number == said.line for number, _ in named.added):
        return said.path, said.line, 'new'
    # Nearest first: the file itself, the tests, the code that they include, the rest.
    near = (said.path or folder, folder, f'mm/{at.build.harness}')
    ordered = sorted(
        at.step.files,
        key=lambda diff: next((i for i, one in enumerate(near) if diff.path.startswith(one)), 9),
    )
    if said.symbol is not None:
        last = said.symbol.rpartition(': ')[2].encode('utf-8', 'replace')
        # A test's name may be a word of everyday anywhere else.
        tests = said.kind == 'assert'
        name = re.compile((rb'\b(?:test_)?' if tests else rb'\b') + re.escape(last) + rb'\b')
        for diff in ordered:
            for place, line in _changed(diff):
                if (diff.path.startswith(folder) or not tests) and name.search(line):
                    return place
    everywhere = (place for diff in ordered for place, _ in _changed(diff))
    return next(everywhere, (None, None, 'new'))


def _changed(diff: FileDiff) -> Iterator[tuple[Place, bytes]]:
    """Yield the lines that a diff adds, then those that it removes, each with its place."""
    yield from (((diff.new_path, number, 'new'), line) for number, line in diff.added)
    yield from (((diff.old_path, number, 'old'), line) for number, line in diff.removed)


def _flags_place(at: _At, flags: tuple[str, ...]) -> tuple[_At, Place | None]:
    """Return the line of a makefile's diff that names a flag, else its first; None: no makefile."""
    lines: list[tuple[_At, Place, bytes]] = []
    for one in (*at.broken, at):
        diffs = [diff for diff in one.step.files if MAKEFILE.search(diff.path)]
        diffs.sort(key=lambda diff: not diff.path.startswith(f'{at.build.dir}/'))
        for diff in diffs:
            lines += [(one, place, line) for place, line in _changed(diff)]
    for flag in flags:
        # `-fsanitize=undefined` may stand there as `-fsanitize=address,undefined`.
        for word in (flag, flag.rpartition('=')[2], flag[2:]):
            for there, place, line in lines:
                if word and word.encode('utf-8', 'replace') in line:
                    return there, place
    return lines[0][:2] if lines else (at, None)


def _resolved(at: _At, said: Diagnostic) -> Diagnostic:
    """Name the kernel's file where the build knows it by a link that it makes in its folder."""
    path, read = said.path, at.step.post.read
    if path is None or not path.startswith(f'{at.build.dir}/') or read(path) is not None:
        return said
    name = path.rpartition('/')[2]
    touched = [diff.new_path or '' for diff in at.step.files]
    usual = (f'mm/{name}', f'include/linux/{name}', f'lib/{name}')
    for one in (*(path for path in touched if path.endswith(f'/{name}')), *usual):
        if not one.startswith('tools/') and read(one) is not None:
            return replace(said, path=one)
    return said


def _evidence(
    at: _At, said: Diagnostic, path: str | None, line: int | None
) -> tuple[Evidence, ...]:
    """Return the place that was named, with its line in the tree, safe to show."""
    if said.path is None or said.line is None or (said.path, said.line) == (path, line):
        return ()
    lines = (at.step.post.read(said.path) or b'').split(b'\n')
    code = lines[said.line - 1][:1000].decode('latin-1') if 0 < said.line <= len(lines) else ''
    code = re.sub(r'[\x00-\x1f\x7f-\x9f\xad]+', ' ', code).strip()
    code = code if len(code) <= 160 else f'{code[:159]}…'
    return (Evidence(said.path, said.line, said.code or code or said.text),)


# --- cases ---

DIR = 'tools/testing/vma'
FILE, MAKE, TEST = 'mm/vma.c', f'{DIR}/Makefile', f'{DIR}/tests/x.c'
TREE = {FILE: 'int x;\n', MAKE: 'CFLAGS += -fsanitize=undefined\n', TEST: '\n\nASSERT(a == b);\n'}
EDITS = tuple(Edit({FILE: f'int x;\nint y{n};\n'}) for n in (1, 2, 3))
UNSANITIZED = (Edit({MAKE: 'CFLAGS +=\n'}),)
FLAGS = ('-fsanitize=undefined',)
LOSES = BuildFailed((Diagnostic('error', "undefined reference to 'y2'", FILE, 2, symbol='y2'),))
SYNTAX = BuildFailed((Diagnostic('error', "expected ';' before 'int'", FILE, 2),))
OK, FEWER = Passed(27), Passed(26)
UNUSED = Diagnostic('warning', "unused variable 'y1'", FILE, 2, 'y1')
WARNS = Passed(27, (UNUSED,))
WARNS_ELSEWHERE = Passed(27, (replace(UNUSED, line=9),))
WARNS_OFTEN = Passed(27, tuple(Diagnostic('warning', f'w {n}', FILE, 2) for n in range(9)))
ASSERTION = Diagnostic('assert', 'a == b is FALSE', TEST, 3, symbol='merge')
FAILS = TestsFailed(27, (ASSERTION,))
CRASHES = TestsFailed(None, (), reason='it ends with status 139 and without a summary')
FAILS_AND_CRASHES = TestsFailed(None, (ASSERTION,), reason='a test fails')
FAILS_AND_LEAKS = TestsFailed(
    27, FAILS.failed, (Diagnostic('sanitizer', 'LeakSanitizer: detected memory leaks'),)
)
FREED = TestsFailed(
    27, (), (Diagnostic('sanitizer', 'AddressSanitizer: double-free in f()', FILE, 1, 'f'),)
)
SEEN, UNSEEN = Passed(27, flags=FLAGS), Passed(27, flags=('-O2',))
QUIET, MORE = Passed(27), Passed(27, flags=(*FLAGS, '-DMORE', '-Wextra'))
LIMIT, OURS = CouldNotRun('stopped', '3 s of time'), CouldNotRun('no sandbox')
USED_UP = CouldNotRun('stopped', f'3600 s of time {OF_SERIES}')


def _case(
    *outcomes: BuildOutcome,
    expect: tuple[int, ...] = (),
    before: dict[str, str] = TREE,
    edits: tuple[Edit, ...] = EDITS,
) -> Case:
    builds = tuple(Build('vma', n, outcome, DIR) for n, outcome in enumerate(outcomes))
    return Case(before, edits[: len(outcomes) - 1], builds, expect or None)


RULE = Rule(
    id='vma-test-build',
    severity=Severity.ERROR,
    check=check,
    bad=(
        _case(OK, LOSES, expect=(1,)),
        _case(OK, LOSES, expect=(1,), before={**TREE, f'{DIR}/{STUBS}': '\n'}),
        _case(OK, SYNTAX, expect=(1,)),
        _case(OK, OK, LOSES, OK, expect=(2,)),
        _case(OK, OURS, LOSES, expect=(2,)),
        _case(OK, FAILS, FAILS, expect=(1,)),
        _case(OK, FAILS, OK, FAILS, expect=(1, 3)),
        _case(OK, FAILS_AND_LEAKS, expect=(1,)),
        _case(OK, CRASHES, expect=(1,)),
        _case(FAILS, FAILS_AND_CRASHES, expect=(1,)),
        _case(OK, OK, FREED, expect=(2,)),
        _case(OK, FEWER, expect=(1,)),
        _case(OK, LOSES, FAILS, expect=(1, 2)),
        _case(OK, WARNS, WARNS, expect=(1,)),
        _case(OK, WARNS_OFTEN, expect=(1,) * 6),
        _case(OK, BuildFailed(LOSES.errors, (UNUSED,)), WARNS, expect=(1, 1)),
        _case(SEEN, UNSEEN, expect=(1,), edits=UNSANITIZED),
        _case(SEEN, MORE, expect=(1,)),
        _case(SEEN, LOSES, UNSEEN, expect=(1, 1), edits=(*UNSANITIZED, *EDITS)),
        _case(SEEN, QUIET, UNSEEN, expect=(1, 2)),
        _case(OK, LIMIT, LIMIT, expect=(1,)),
    ),
    good=(
        _case(OK, OK, OK),
        _case(LOSES, LOSES, OK),
        _case(FAILS, FAILS, FAILS),
        _case(FAILS, OK),
        _case(WARNS, WARNS_ELSEWHERE),
        _case(SEEN, SEEN),
        _case(QUIET, SEEN),
        _case(LOSES, LIMIT, LIMIT),
        _case(OURS, LIMIT),
        _case(OK, USED_UP, USED_UP),
        _case(OK, OURS, OURS),
        _case(CRASHES, FAILS),
    ),
)
