"""
One series, judged: built, and looked at by every rule it is handed.

The only place where rules run. What a rule raises is our own fault and becomes
a `Failure`; the other rules go on.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from bot.csyntax import C_FILES, parse
from bot.errors import SandboxError
from bot.harness import Workshop, build_series
from bot.model import (
    AppliedSeries,
    Build,
    BuildFailed,
    DoesNotApply,
    Facts,
    Failure,
    Finding,
    Harness,
    Ignore,
    NotNeeded,
    Review,
    Subject,
    TestsFailed,
)
from bot.output.wording import why_failed
from bot.plain import one_line
from bot.rule import Rule, finding_of
from bot.shown import shown
from bot.suppress import split

Tell = Callable[[str], None]
"""Told in a few words what happens now."""


def review(
    applied: AppliedSeries | DoesNotApply,
    rules: Sequence[Rule],
    harnesses: Sequence[Harness],
    workshop: Workshop | SandboxError,
    tell: Tell = lambda _: None,
    ignores: Sequence[Ignore] = (),
    known: Collection[str] = (),
    facts: Facts | None = None,
    built: AppliedSeries | None = None,
) -> Review:
    """
    Build what applies with every harness, and run the rules.

    Where the series does not apply, only rules about that have a say. Findings
    that the series or `ignores` ask not to count are set aside; `known` are
    the ids of all rules that there are, besides those that are run; `facts` what
    only the gate knows. `built` is built in the place of `applied` where a
    merge is judged: rules look at what its author wrote, a build at all of it.
    """
    made: tuple[Build | NotNeeded, ...] = ()
    if isinstance(applied, AppliedSeries):
        made = tuple(
            build
            for harness in harnesses
            for build in build_series(harness, built or applied, workshop)
        )
    else:
        rules = [rule for rule in rules if rule.about_applying]
    builds = tuple(one for one in made if isinstance(one, Build))
    tell(f'running {len(rules)} rules')
    findings, failures = run_rules(rules, Subject(applied.series, applied, builds, facts))
    parted = split(findings, applied.series, ignores, {*known, *(rule.id for rule in rules)})
    return Review(
        applied.series,
        applied,
        parted.findings,
        parted.suppressed,
        builds,
        (*failures, *_unread(applied)),
        (*applied.series.remarks, *parted.remarks),
        untested=tuple(untested(builds)),
        not_needed=tuple(one for one in made if isinstance(one, NotNeeded)),
        rules=tuple(rule.id for rule in rules),
    )


def untested(builds: Sequence[Build]) -> Iterator[Failure]:
    """
    Yield the harnesses with which a patch could not be judged, since its base fails.

    What the base has already is no patch's fault, and what a patch breaks
    besides is hidden behind it. Where the first patch passes, it mended that.
    """
    for harness in dict.fromkeys(build.harness for build in builds):
        mine = [build for build in builds if build.harness == harness]
        base = next((build for build in mine if build.n == 0), None)
        if base is None or not isinstance(base.outcome, BuildFailed | TestsFailed):
            continue
        first = next((build.outcome for build in mine if build.n), None)
        what = 'do not build' if isinstance(base.outcome, BuildFailed) else 'fail'
        if isinstance(first, BuildFailed | TestsFailed) and not (
            isinstance(base.outcome, TestsFailed) and isinstance(first, BuildFailed)
        ):
            why = f'the tests of the base {what} ({why_failed(base)})'
            yield Failure(harness, f'{why}: the series is not tested with them')


def run_rules(
    rules: Sequence[Rule], subject: Subject
) -> tuple[tuple[Finding, ...], tuple[Failure, ...]]:
    """Run rules over a subject: what they found, in the order of the patches, and what crashed."""
    findings: list[Finding] = []
    failures: list[Failure] = []
    for rule in rules:
        try:
            findings += [finding_of(rule, hit) for hit in rule.check(subject)]
        except Exception as error:  # noqa: BLE001  # a rule's fault is never the author's
            failures.append(Failure(rule.id, one_line(shown(f'{type(error).__name__}: {error}'))))
    findings.sort(key=_order)
    return tuple(findings), tuple(failures)


def _unread(applied: AppliedSeries | DoesNotApply) -> Iterator[Failure]:
    """Yield the files that rules had to leave out, since they take too long to parse."""
    told: set[str] = set()
    for step in applied.steps:
        for path in (diff.new_path or '' for diff in step.files):
            if not path.endswith(C_FILES) or path in told:
                continue
            if parse(step.post.read(path) or b'').given_up:
                told.add(path)
                error = f'{one_line(path)} takes too long to parse: what it says is not judged'
                yield Failure('parse', error, step.n)


def _order(finding: Finding) -> tuple[int, str, int, int, str]:
    hit = finding.hit
    return hit.n, hit.path or '', hit.line or 0, -finding.severity, finding.rule
