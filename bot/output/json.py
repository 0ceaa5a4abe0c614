"""`--format json`: one object a series, the contract of docs/check.schema.json."""

import json
from typing import Any

from bot import __version__
from bot.model import (
    AppliedSeries,
    Build,
    BuildFailed,
    CouldNotRun,
    Diagnostic,
    DoesNotApply,
    Evidence,
    Finding,
    Incomplete,
    Passed,
    Review,
    Series,
    TestsFailed,
)
from bot.output.wording import fact, failures_of
from bot.plain import one_line, plain

SCHEMA = 1


def render(review: Review) -> str:
    """Return the review as one line of JSON."""
    return json.dumps(as_object(review), ensure_ascii=False)


def as_object(review: Review) -> dict[str, Any]:
    """Return the review as the object that is written."""
    applied = review.applied
    return {
        'schema': SCHEMA,
        'bot': __version__,
        'series': _series(review.series),
        'base': _base(applied),
        'applied': [
            {'n': step.n, 'how': step.how, 'tree': step.tree}
            for step in (applied.steps if applied is not None else ())
        ],
        'findings': [_finding(review, finding) for finding in review.findings],
        'suppressed': [
            {'finding': _finding(review, one.finding), 'reason': one_line(one.reason)}
            for one in review.suppressed
        ],
        'builds': builds(review),
        'not_needed': [
            {'harness': one.harness, 'files': one.files, 'reason': one_line(one.reason)}
            for one in review.not_needed
        ],
        'looked_at': {
            'patches': len(review.series.patches) if review.series is not None else 0,
            'rules': list(review.rules),
            'harnesses': list(dict.fromkeys(one.harness for one in review.builds)),
        },
        'failures': [
            {'what': one.what, 'n': one.n, 'error': one_line(one.error, 500)}
            for one in failures_of(review)
        ],
        'verdict': review.verdict,
    }


def builds(review: Review) -> list[dict[str, Any]]:
    """Return the builds of a review as they are written."""
    return [_build(build) for build in review.builds]


def _series(series: Series | Incomplete | None) -> dict[str, Any] | None:
    if series is None:
        return None
    return {
        'msgid': series.msgid,
        'subject': one_line(series.subject) if series.subject is not None else None,
        'author': one_line(str(series.author)) if series.author is not None else None,
        'revision': series.revision,
        'complete': isinstance(series, Series),
        'missing': list(series.missing) if isinstance(series, Incomplete) else [],
        'patches': [
            {
                'n': patch.n,
                'of': patch.of,
                'msgid': patch.msgid,
                'commit': patch.commit,
                'subject': one_line(patch.subject),
                'trailers': [one_line(trailer) for trailer in patch.trailers],
                'attestation': [
                    {
                        'kind': one.kind,
                        'identity': one_line(one.identity),
                        'result': one.result,
                        'reason': one_line(one.reason),
                    }
                    for one in patch.attestation
                ],
            }
            for patch in series.patches
        ],
    }


def _base(applied: AppliedSeries | DoesNotApply | None) -> dict[str, Any] | None:
    if applied is None:
        return None
    base = applied.base
    return {
        'tree': base.tree,
        'ref': base.ref,
        'commit': base.commit,
        'why': base.why,
        'tried': [
            {
                'ref': one.ref,
                'commit': one.commit,
                'n': one.n,
                'path': one.path,
                'reason': one.reason,
            }
            for one in base.tried
        ],
    }


def _finding(review: Review, finding: Finding) -> dict[str, Any]:
    hit = finding.hit
    patches = review.series.patches if review.series is not None else ()
    return {
        'rule': finding.rule,
        'severity': finding.severity.label,
        'n': hit.n,
        'msgid': next((patch.msgid for patch in patches if patch.n == hit.n), None),
        'path': hit.path,
        'line': hit.line,
        'side': hit.side,
        'symbol': hit.symbol,
        'message': fact(hit),
        'advice': plain(hit.advice) if hit.advice is not None else None,
        'fingerprint': finding.fingerprint,
        'evidence': [_evidence(one) for one in hit.evidence],
        'flow': [_evidence(one) for one in hit.flow],
    }


def _evidence(shown: Evidence) -> dict[str, Any]:
    return {'path': shown.path, 'line': shown.line, 'text': one_line(shown.text)}


def _build(build: Build) -> dict[str, Any]:
    run: int | None = None
    failed: list[str] = []
    warnings: tuple[Diagnostic, ...] = ()
    sanitizer: tuple[Diagnostic, ...] = ()
    limit: str | None = None
    match build.outcome:
        case Passed():
            name, run, warnings = 'passed', build.outcome.run, build.outcome.warnings
        case TestsFailed():
            name, run, warnings = 'tests-failed', build.outcome.run, build.outcome.warnings
            failed = [one.symbol or one.text for one in build.outcome.failed]
            sanitizer = build.outcome.sanitizer
        case BuildFailed():
            name, warnings = 'build-failed', build.outcome.warnings
        case CouldNotRun():
            name, limit = 'could-not-run', build.outcome.limit
    return {
        'harness': build.harness,
        'n': build.n,
        'outcome': name,
        'reused': build.reused,
        'tests': {'run': run, 'failed': failed},
        'warnings': [_diagnostic(one) for one in warnings],
        'sanitizer': [_diagnostic(one) for one in sanitizer],
        'flags': list(build.flags),
        'limit': limit,
        'seconds': build.seconds,
        'log': build.outcome.reason if isinstance(build.outcome, CouldNotRun) else build.log,
    }


def _diagnostic(one: Diagnostic) -> str:
    where = f'{one.path}:{one.line}: ' if one.path is not None else ''
    return f'{where}{one_line(one.text)}'
