"""
`--format b4` and `b4-am`: what b4 wants of a check that it hands one mail.

`b4` is for `b4.review-perpatch-check-cmd` and `b4.review-series-check-cmd`:
JSON, what is found of the patch in `details`, which b4 wants as a string.
`b4-am` is for `b4.am-perpatch-check-cmd`: lines, as checkpatch prints them;
what is below --fail-on is left out, since b4 shows every line as a warning.

A patch gets its own findings, the first one also those of the series where
there is no cover letter; the cover letter gets all of them. What could not be
checked is a warning, never a failure: it is not the author's.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from bot.model import CouldNotRun, DoesNotApply, Failure, Finding, Passed, Review, Series, Severity
from bot.output.wording import failures_of, outcome, place, refused, sentence
from bot.plain import one_line
from bot.voice import named, reported, within

Status = Literal['pass', 'warn', 'fail']
STATUS: dict[Severity, Status] = {
    Severity.NOTE: 'pass', Severity.WARNING: 'warn', Severity.ERROR: 'fail',
}  # fmt: skip
ORDER: tuple[Status, ...] = ('pass', 'warn', 'fail')
TOOL = 'vma-review-bot'


@dataclass(frozen=True)
class Part:
    """
    Which part of a review is asked for.

    `n` is the patch (0: the cover letter). `alone` says why the rest of its
    series was not there, None where it was; `posted` is then the number that
    it was posted with.
    """

    n: int
    posted: int
    alone: str | None = None


@dataclass(frozen=True)
class _Entry:
    """One thing to say. `where` and `rule` are empty for what is no finding."""

    status: Status
    text: str
    severity: Severity | None = None
    where: str = ''
    rule: str = ''


def verdict(review: Review, part: Part) -> tuple[Status, str]:
    """Return how a part fares, in one word and in one line."""
    entries = list(_entries(review, part))
    worst = max((one.status for one in entries), key=ORDER.index, default=ORDER[0])
    return worst, _summary(entries)


def render(review: Review, part: Part, url: str = '') -> str:
    """Return the JSON for `b4 review`. `url` is where people read on, '' for nowhere."""
    entries = _entries(review, part)
    told = [{'status': one.status, 'description': _description(one)} for one in entries]
    status, summary = verdict(review, part)
    result = {
        'tool': TOOL,
        'status': status,
        'summary': summary,
        'url': url,
        'details': json.dumps(told, ensure_ascii=False),
    }
    return json.dumps([result], ensure_ascii=False)


def lines(review: Review, part: Part, fail_on: Severity = Severity.WARNING) -> str:
    """Return the lines for `b4 am`; '' where there is nothing to say."""
    said = []
    for one in _entries(review, part):
        if (one.severity or Severity.WARNING) < fail_on and one.severity is not None:
            continue
        if one.severity is None and one.status == 'pass':
            continue
        # b4 takes a line with this word for a failure, whoever wrote it.
        text = replace(one, text=one.text.replace('ERROR:', 'ERROR'))
        word = {'pass': 'CHECK', 'warn': 'WARNING', 'fail': 'ERROR'}[one.status]
        said.append(f'{_description(text, word)}\n')
    return ''.join(said)


def _description(one: _Entry, word: str = '') -> str:
    parts = [part for part in (one.where, word, one.text) if part]
    return ': '.join(parts) + (f' [{one.rule}]' if one.rule else '')


def _summary(entries: list[_Entry]) -> str:
    counts = [
        f'{count} {severity.label}{"s" if count > 1 else ""}'
        for severity in sorted(Severity, reverse=True)
        if (count := sum(one.severity == severity for one in entries))
    ]
    unchecked = next(
        (one.text for one in entries if one.severity is None and one.status == 'warn'), None
    )
    if not counts and unchecked is not None:
        return unchecked
    said = ', '.join(counts) or 'no findings'
    return f'{said}; {unchecked}' if unchecked is not None else said


def _entries(review: Review, part: Part) -> Iterator[_Entry]:
    series = review.series
    several = isinstance(series, Series) and len(series.patches) > 1
    mine = {part.n}
    if isinstance(series, Series):
        if part.n == 0:
            mine = {0, *(patch.n for patch in series.patches)}
        elif part.n == 1 and series.cover is None:
            mine = {0, 1}
    if part.alone is not None and part.n == 0:
        yield _Entry('warn', f'could not check: the series is not there: {part.alone}')
        return
    if part.alone is not None:
        yield _Entry('warn', f'judged alone: the rest of its series is not there: {part.alone}')
    # What a patch does not have since those before it are not there is no finding.
    astray = part.alone is not None and part.posted > 1
    if not (astray and isinstance(review.applied, DoesNotApply)):
        for finding in review.findings:
            if finding.hit.n in mine:
                one = _finding(finding, numbered=several and part.n == 0)
                yield replace(one, status='warn') if astray and one.status == 'fail' else one
    for failure in failures_of(review):
        if failure.n is None or failure.n in mine or failure.what == 'apply':
            yield _Entry('warn', _failure(failure, several=several))
    for build in review.builds:
        at = f'patch {build.n}: ' if part.n == 0 and build.n else ''
        match build.outcome:
            case CouldNotRun() if build.n in mine:
                yield _Entry('warn', f'{at}{build.harness} tests {outcome(build)}')
            case Passed() if build.n in mine and (build.n or part.n == 0):
                yield _Entry('pass', f'{at}{build.harness}: {outcome(build)}')
            case _:
                continue  # tests that fail are a rule's to tell, if they are the series' fault
    for aside in review.suppressed:
        if aside.finding.hit.n in mine:
            yield _Entry('pass', f'set aside: {aside.finding.rule}: {within(aside.reason)}')


def _finding(finding: Finding, *, numbered: bool) -> _Entry:
    where = place(finding)
    if numbered:
        which = f'patch {finding.hit.n}' if finding.hit.n else 'the series'
        where = f'{which}, {where}' if where else which
    shown = [f'{named(one.path)}:{one.line}' for one in finding.hit.evidence[:3]]
    see = f' (see {", ".join(shown)})' if shown else ''
    text = one_line(sentence(finding.hit), 600) + see
    return _Entry(STATUS[finding.severity], text, finding.severity, where, finding.rule)


def _failure(failure: Failure, *, several: bool) -> str:
    theirs = failure.what in ('apply', 'series')
    why = reported(failure.error) if theirs else one_line(failure.error, 300)
    match failure.what:
        case 'apply':
            of = failure.n if several and failure.n else None
            return f'could not check: {refused(of, why)}'
        case 'series':
            return f'could not check: the series is incomplete: {why}'
        case 'input':
            return f'could not check: {why}'
        case _:
            return f'could not check all of it: {failure.what}: {why}'
