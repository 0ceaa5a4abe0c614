"""
`--format text`: a report that a person reads in a terminal.

What others wrote begins no line, and is never wrapped: it comes after a word of
ours, or after `> ` (the series) or `| ` (a compiler, another place).
"""

import io

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bot.model import (
    Build,
    BuildFailed,
    BuildOutcome,
    Comparison,
    CouldNotRun,
    DoesNotApply,
    Finding,
    Incomplete,
    Passed,
    Review,
    Series,
    Severity,
    Suppressed,
    TestsFailed,
)
from bot.output.wording import looked_at, outcome, refused, spoken
from bot.plain import one_line, plain
from bot.quote import evidence
from bot.series import trailers_of
from bot.voice import placed, settled, within

STYLES = {Severity.ERROR: 'bold red', Severity.WARNING: 'bold yellow', Severity.NOTE: 'bold cyan'}


def render(review: Review, *, width: int = 100, colour: bool = False, verbose: bool = False) -> str:
    """Return the report. `width` is the terminal's; code is never wrapped."""
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=max(width, 40),
        force_terminal=colour,
        color_system='standard' if colour else None,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    _Report(review, console, verbose).print()
    return ''.join(f'{line.rstrip()}\n' for line in buffer.getvalue().splitlines())


def comparison(harness: str, where: str, found: Comparison) -> str:
    """Return the line (and what follows from it) that `bot doctor --harness` prints."""
    counts = [f'{count} files' for count in found.files]
    said = [_said(found.full), _said(found.reduced)]
    verdict = 'ok' if found.same else 'error'
    both = f'full tree ({counts[0]}): {said[0]}; as laid out ({counts[1]}): {said[1]}'
    lines = [f'{verdict}: {harness} at {where}: {both}']
    if found.whole:
        lines.append('  nothing smaller than all its folders builds: see docs/harness.md')
    lines += [f'  read in the full tree only: {path}' for path in found.unlearnt[:20]]
    if not found.same:
        lines.append('  name the missing folder in [[harness]] within')
    return '\n'.join(lines)


def _said(outcome: BuildOutcome) -> str:
    words = outcome_of(Build('', 0, outcome)).plain
    warnings = () if isinstance(outcome, CouldNotRun) else outcome.warnings
    return f'{words}, {len(warnings)} warnings' if warnings else words


class _Report:
    def __init__(self, review: Review, console: Console, verbose: bool) -> None:
        self.review = review
        self.console = console
        self.verbose = verbose

    def print(self) -> None:
        self._head()
        numbers = sorted({finding.hit.n for finding in self.review.findings})
        for n in numbers:
            self._patch(n, [one for one in self.review.findings if one.hit.n == n])
        if self.review.builds or self.review.not_needed:
            self._builds()
        for failure in (*self.review.failures, *self.review.untested):
            said = f': {failure.what}: {one_line(failure.error, 500)}'
            self._line(('failed', 'bold red'), said, wrap=False)
        if self.review.suppressed:
            self._line(('set aside', 'bold'))
            for one in self.review.suppressed:
                self._suppressed(one)
            self.console.print()
        for remark in self.review.remarks:
            self._line(('remark', 'bold cyan'), f': {one_line(remark, 300)}', wrap=False)
        self._verdict()

    def _head(self) -> None:
        series = self.review.series
        if series is not None:
            count = len(series.patches)
            said = [f'v{series.revision}'] if series.revision and series.revision > 1 else []
            said.append(f'{count} patch' if count == 1 else f'{count} patches')
            if series.author is not None:
                said.append(one_line(series.author.name or series.author.email))
            title = one_line(series.subject or 'a series without a subject')
            self._line('> ', (title, 'bold'), f' ({", ".join(said)})', wrap=False)
        self._attestation()
        self._trailers()
        applied = self.review.applied
        if applied is not None:
            base = applied.base
            ref = '' if base.ref == base.commit else f'{base.ref} '
            self._line(f'base: {ref}{base.commit[:12]} ({one_line(base.why)})', wrap=False)
            for subject in base.on_top:
                self._line(f'      with the prerequisite {within(subject)} on top', wrap=False)
            for one in base.tried:
                # What is about no patch (a base that is not there, tests that fail) is always said.
                if one.n and not (self.verbose or isinstance(applied, DoesNotApply)):
                    continue
                at = f'patch {one.n}: ' if one.n else ''
                self._line(
                    f'      not {one.ref} {one.commit[:12]}: {at}{one_line(one.reason, 300)}',
                    wrap=False,
                )
            hows = [f'{step.n} by {step.how}' for step in applied.steps if step.how != 'exact']
            if hows and (self.verbose or any('3way' in how for how in hows)):
                self._line(f'applied: patch {", ".join(hows)}')
        self.console.print()

    def _attestation(self) -> None:
        """Say what signatures are worth, once where all patches have the same."""
        patches = self.review.series.patches if self.review.series is not None else ()
        said: dict[str, list[int]] = {}
        for patch in patches:
            for one in patch.attestation:
                why = f' ({one_line(one.reason, 80)})' if one.reason else ''
                result = one.result.replace('-', ' ')
                text = f'{one.kind} {one_line(one.identity, 80)}: {result}{why}'
                said.setdefault(text, []).append(patch.n)
        for text, numbers in said.items():
            where = '' if len(numbers) == len(patches) else f', patch {_numbers(numbers)}'
            self._line(f'signed: {text}{where}', wrap=False)

    def _trailers(self) -> None:
        """Say which trailers came from replies."""
        patches = self.review.series.patches if self.review.series is not None else ()
        gathered: dict[str, list[int]] = {}
        for patch in patches:
            own = trailers_of(patch.message)
            for trailer in patch.trailers:
                if trailer not in own and patch.commit is None:
                    gathered.setdefault(one_line(trailer), []).append(patch.n)
        for trailer, numbers in gathered.items():
            where = '' if len(patches) == 1 else f' (patch {_numbers(numbers)})'
            self._line(f'+ {trailer}{where}', wrap=False)

    def _patch(self, n: int, findings: list[Finding]) -> None:
        self._line((self._title(n), 'bold'), wrap=False)
        place = None
        for finding in findings:
            hit = finding.hit
            if (hit.path, hit.line, hit.side) != place:
                place = (hit.path, hit.line, hit.side)
                if hit.side == 'message':
                    self._line(('  commit message' if hit.n else '  cover letter', 'magenta'))
                elif hit.path is not None:
                    path = placed(hit.path)
                    where = f'{path}:{hit.line}' if hit.line is not None else path
                    self._line((f'  {where}', 'magenta'), wrap=False)
                quoted = self._quoted(finding)
                if quoted:
                    style = 'green' if quoted[:1] == '+' else 'red' if quoted[:1] == '-' else ''
                    self._line('    > ', (quoted, style), wrap=False)
            self._finding(finding)
        self.console.print()

    def _finding(self, finding: Finding) -> None:
        text = Text()
        text.append(finding.severity.label, STYLES[finding.severity])
        text.append(f': {spoken(finding.hit)}')
        text.append(f'  [{finding.rule}]', 'dim')
        self.console.print(Padding(text, (0, 0, 0, 4)))
        for line in evidence(finding.hit):
            self._line((f'      {settled(line)}', 'dim'), wrap=False)
        if self.verbose:
            for one in finding.hit.flow:
                self._line((f'      → {one.line}: {one_line(one.text)}', 'dim'), wrap=False)

    def _suppressed(self, one: Suppressed) -> None:
        hit = one.finding.hit
        where = f'patch {hit.n}' if hit.n else 'the series'
        if hit.path is not None:
            where += f', {one_line(hit.path)}' + (f':{hit.line}' if hit.line is not None else '')
        said = f'  {one.finding.severity.label} of {one.finding.rule} in {where}: '
        self._line(f'{said}{one_line(one.reason, 300)}', wrap=False)

    def _title(self, n: int) -> str:
        series = self.review.series
        patches = series.patches if series is not None else ()
        patch = next((patch for patch in patches if patch.n == n), None)
        if patch is None:
            return 'the series as a whole'
        return f'[{patch.n}/{patch.of}] {one_line(patch.subject)}'

    def _quoted(self, finding: Finding) -> str:
        """The line of the diff that a reply would quote."""
        hit, applied = finding.hit, self.review.applied
        if hit.side == 'message':
            return self._said(hit.n, hit.line) if hit.line is not None else ''
        if applied is None or hit.path is None or hit.line is None:
            return ''
        step = next((step for step in applied.steps if step.n == hit.n), None)
        diff = step.file(hit.path) if step is not None else None
        line = diff.line_at(hit.side, hit.line) if diff is not None else None
        if line is None:
            return ''
        return plain(line.decode('utf-8', 'replace').rstrip('\r\n').expandtabs(8), 160)

    def _said(self, n: int, line: int) -> str:
        """The line of a commit message, or of the cover letter."""
        series = self.review.series
        if not isinstance(series, Series):
            return ''
        patch = next((patch for patch in series.patches if patch.n == n), None)
        text = f'{patch.subject}\n\n{patch.message}' if patch is not None else series.cover or ''
        lines = text.split('\n')
        return plain(lines[line - 1], 160) if 1 <= line <= len(lines) else ''

    def _builds(self) -> None:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
        for build in self.review.builds:
            took = 'reused' if build.reused else f'{build.seconds:.1f} s'
            series = self.review.series
            of = len(series.patches) if series is not None else 0
            patch = 'base' if build.n == 0 else f'{build.n}/{of}'
            table.add_row(f'  {build.harness}', patch, outcome_of(build), took)
        self._line(('builds', 'bold'))
        if self.review.builds:
            self.console.print(table)
        for one in self.review.not_needed:
            self._line(f'  {one.harness}: not needed: {one_line(one.reason)}', wrap=False)
        flags = sorted({flag for build in self.review.builds for flag in build.flags})
        if flags:
            self._line((f'  (with {" ".join(flags)})', 'dim'))
        self.console.print()

    def _verdict(self) -> None:
        review = self.review
        counts = [
            f'{count} {severity.label}{"s" if count > 1 else ""}'
            for severity in sorted(Severity, reverse=True)
            if (count := sum(one.severity == severity for one in review.findings))
        ]
        said = ', '.join(counts) or 'no findings'
        red = ('could not check', 'bold red')
        match review:
            case Review(series=Incomplete(reason=reason)):
                said = f': the series is incomplete: {one_line(reason, 500)}'
                self._line(red, said, wrap=False)
            case Review(applied=DoesNotApply(n=n, reason=reason)):
                self._line(red, f': {one_line(refused(n, reason), 500)}', wrap=False)
            case _ if review.verdict == 'could-not-check':
                self._line(red, f' all of it; {said}')
            case _ if review.findings:
                self._line((said, STYLES[max(one.severity for one in review.findings)]))
            case _:
                self._line(('clean', 'bold green'), f': {looked_at(review)}', wrap=False)

    def _line(self, *parts: str | tuple[str, str], wrap: bool = True) -> None:
        text = Text(no_wrap=not wrap, overflow='fold' if wrap else 'ignore')
        for part in parts:
            text.append(*((part,) if isinstance(part, str) else part))
        self.console.print(text, soft_wrap=not wrap)


def outcome_of(build: Build) -> Text:
    """Return how a build went, in a few words."""
    match build.outcome:
        case Passed():
            style = 'green'
        case TestsFailed() | BuildFailed():
            style = 'red'
        case CouldNotRun():
            style = 'yellow'
    return Text(outcome(build), style)


def _numbers(numbers: list[int]) -> str:
    """Write patch numbers as ranges: 1, 3-21."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ', '.join(str(run[0]) if len(run) == 1 else f'{run[0]}-{run[-1]}' for run in runs)
