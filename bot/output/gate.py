"""The end of a gate's report: a row a patch, and the verdict in one line. Pure."""

import io
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from bot.model import Build, Review, Severity
from bot.output.text import STYLES, outcome_of
from bot.plain import one_line

HEADS = ('patch', 'commit', 'findings', 'builds')


def table(review: Review, *, width: int = 100, colour: bool = False) -> str:
    """Return the table of one range's patches; only the subjects are shortened to `width`."""
    series = review.series
    patches = series.patches if series is not None else ()
    rows: list[tuple[Text, ...]] = [tuple(Text(head, 'bold') for head in HEADS)]
    for patch in patches:
        builds = [build for build in review.builds if build.n == patch.n]
        rows.append(
            (
                Text(f'{patch.n}/{patch.of}'),
                Text((patch.commit or '')[:12]),
                _findings(review, patch.n),
                _builds(builds),
            )
        )
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEADS))]
    left = max(width - sum(widths) - 2 * len(widths), 20)
    lines = Text()
    for row, subject in zip(rows, ('subject', *(one.subject for one in patches)), strict=True):
        for cell, wide in zip(row, widths, strict=True):
            lines.append(cell)
            lines.append(' ' * (wide + 2 - len(cell)))
        lines.append(f'{one_line(subject, left)}\n')
    buffer = io.StringIO()
    console = Console(
        file=buffer, width=1000, force_terminal=colour,
        color_system='standard' if colour else None, highlight=False, legacy_windows=False,
    )  # fmt: skip
    console.print(lines, end='', soft_wrap=True)
    return buffer.getvalue()


def verdict(reviews: Sequence[Review], fail_on: Severity, *, opened: bool) -> str:
    """
    Return the verdict over all that was judged, in one line.

    `opened`: what could not be checked lets pass.
    """
    found = [one for review in reviews for one in review.findings]
    counts = _counts([one.severity for one in found])
    grave = any(one.severity >= fail_on for one in found)
    unchecked = [one for one in reviews if one.verdict == 'could-not-check']
    if unchecked and not opened:
        return f'gate: closed: {_reason(unchecked[0])}' + (f'; {counts}' if counts else '')
    if grave:
        return f'gate: refused: {counts}'
    said = f'gate: passed{f": {counts}" if counts else ""}'
    return said + (f' (not all of it was checked: {_reason(unchecked[0])})' if unchecked else '')


def _reason(review: Review) -> str:
    for failure in (*review.failures, *review.untested):
        return one_line(f'{failure.what}: {failure.error}', 300)
    for build in review.builds:
        reason = getattr(build.outcome, 'limit', None) or getattr(build.outcome, 'reason', None)
        if reason and not hasattr(build.outcome, 'run'):
            return one_line(f'{build.harness} at patch {build.n}: {reason}', 300)
    return 'it does not apply'


def _findings(review: Review, n: int) -> Text:
    severities = [one.severity for one in review.findings if one.hit.n == n]
    style = STYLES[max(severities)] if severities else ''
    return Text(_counts(severities) or '-', style)


def _counts(severities: Sequence[Severity]) -> str:
    return ', '.join(
        f'{count} {severity.label}{"s" if count > 1 else ""}'
        for severity in sorted(Severity, reverse=True)
        if (count := severities.count(severity))
    )


def _builds(builds: Sequence[Build]) -> Text:
    said = Text()
    for build in builds:
        if said:
            said.append(', ')
        said.append(f'{build.harness}: ')
        said.append(outcome_of(build))
    return said if builds else Text('-')
