"""
One series, judged: applied, built, and looked at by every rule it is handed.

The only place where rules run. What a rule raises is our own fault and becomes
a `Failure`; the other rules go on.
"""

from collections.abc import Callable, Sequence

from bot.errors import SandboxError
from bot.harness import Workshop, build_series
from bot.model import (
    AppliedSeries,
    Base,
    Build,
    DoesNotApply,
    Failure,
    Finding,
    Harness,
    Review,
    Series,
    Subject,
)
from bot.plain import one_line
from bot.rule import Rule, finding_of
from bot.tree import Quarantine

Tell = Callable[[str], None]
"""Told in a few words what happens now."""


def review(
    series: Series,
    quarantine: Quarantine,
    base: Base,
    rules: Sequence[Rule],
    harnesses: Sequence[Harness],
    workshop: Workshop | SandboxError,
    tell: Tell = lambda _: None,
) -> Review:
    """Apply `series` to `base`, build it with every harness, and run the rules."""
    tell(f'applying the series to {base.commit[:12]}')
    applied = quarantine.apply(series, base)
    if isinstance(applied, DoesNotApply):
        return Review(series, applied)
    builds = tuple(
        build for harness in harnesses for build in build_series(harness, applied, workshop)
    )
    tell(f'running {len(rules)} rules')
    findings, failures = _run(rules, series, applied, builds)
    return Review(series, applied, findings, builds=builds, failures=failures)


def _run(
    rules: Sequence[Rule], series: Series, applied: AppliedSeries, builds: tuple[Build, ...]
) -> tuple[tuple[Finding, ...], tuple[Failure, ...]]:
    subject = Subject(series, applied, builds)
    findings: list[Finding] = []
    failures: list[Failure] = []
    for rule in rules:
        try:
            findings += [finding_of(rule, hit) for hit in rule.check(subject)]
        except Exception as error:  # noqa: BLE001  # a rule's fault is never the author's
            failures.append(Failure(rule.id, one_line(f'{type(error).__name__}: {error}')))
    findings.sort(key=_order)
    return tuple(findings), tuple(failures)


def _order(finding: Finding) -> tuple[int, str, int, int, str]:
    hit = finding.hit
    return hit.n, hit.path or '', hit.line or 0, -finding.severity, finding.rule
