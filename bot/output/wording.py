"""What the formats say of a finding in the same words: the sentence, the patch, the failures."""

from bot.model import (
    Build,
    BuildFailed,
    CouldNotRun,
    DoesNotApply,
    Failure,
    Finding,
    Hit,
    Incomplete,
    NotNeeded,
    Passed,
    Review,
    TestsFailed,
)
from bot.plain import one_line, plain
from bot.voice import named, placed, reported, within

MOST_SAID = 3


def fact(hit: Hit) -> str:
    """Return the fact in one line, what others said of it in quotation marks."""
    said = ', '.join(within(one) for one in hit.said[:MOST_SAID])
    return f'{plain(hit.message)}: {said}' if said else plain(hit.message)


def sentence(hit: Hit) -> str:
    """Return the fact, and the advice where there is one."""
    said = fact(hit)
    return f'{said}. {plain(hit.advice)}' if hit.advice else said


def spoken(hit: Hit) -> str:
    """Return our own words alone: what others said of it is shown in lines below."""
    return f'{plain(hit.message)}. {plain(hit.advice)}' if hit.advice else plain(hit.message)


def patch_name(review: Review, n: int) -> str:
    """Return `3/6 the subject`; for 0 the name of the series."""
    series = review.series
    patches = series.patches if series is not None else ()
    patch = next((patch for patch in patches if patch.n == n), None)
    if patch is not None:
        return f'{patch.n}/{patch.of} {one_line(patch.subject)}'
    of = patches[0].of if patches else 0
    return f'0/{of} {one_line((series.subject if series is not None else None) or "the series")}'


def place(finding: Finding) -> str:
    """Return where a finding is, as compilers and checkpatch say it; '' where it is nowhere."""
    hit = finding.hit
    if hit.side == 'message':
        where = 'commit message' if hit.n else 'cover letter'
        return f'{where}, line {hit.line}' if hit.line is not None else where
    if hit.path is None:
        return ''
    removed = ' (removed line)' if hit.side == 'old' and hit.line is not None else ''
    path = placed(hit.path)
    return f'{path}:{hit.line}{removed}' if hit.line is not None else path


def outcome(build: Build) -> str:
    """Return in a few words what a build came to."""
    match build.outcome:
        case Passed(run=run):
            return f'{run} tests passed' if run is not None else 'passed'
        case TestsFailed(run=run, failed=failed, reason=reason):
            names = [_name(one.symbol or '?') for one in failed]
            listed = ', '.join([*names[:4], '…'] if len(names) > 4 else names)
            return (
                f'{len(failed)} of {run} tests failed: {listed}'
                if failed and run
                else reported(reason)
            )
        case BuildFailed():
            return 'does not build'
        case CouldNotRun(reason=reason):
            return f'could not run: {one_line(reason, 300)}'


def why_failed(build: Build) -> str:
    """Return in one line what a failed build said first: the compiler's words, or the tests'."""
    if isinstance(build.outcome, BuildFailed) and build.outcome.errors:
        first = build.outcome.errors[0]
        where = f'{placed(first.path)}:{first.line}: ' if first.path and first.line else ''
        return f'{where}{within(first.text)}'
    return outcome(build)


def looked_at(review: Review) -> str:
    """Return in one line what a verdict is about: patches, rules, and what of tests was run."""
    patches = len(review.series.patches) if review.series is not None else 0
    rules = len(review.rules)
    said = [_count(patches, 'patch', 'patches'), _count(rules, 'rule', 'rules')]
    ran = list(dict.fromkeys(one.harness for one in review.builds))
    said += [f'{" and ".join(ran)} tests'] if ran else []
    said += [not_needed(one) for one in review.not_needed]
    return ', '.join(said if ran or review.not_needed else [*said, 'no tests'])


def in_short(review: Review) -> str:
    """Return the verdict in one line: what was looked at, or why not all of it was."""
    if review.verdict == 'clean':
        return f'clean: {looked_at(review)}'
    if review.verdict == 'findings':
        return 'findings'
    for failure in failures_of(review):
        where = f'patch {failure.n}: ' if failure.n else ''
        return one_line(f'could-not-check: {failure.what}: {where}{failure.error}', 300)
    for build in not_run(review):
        return f'could-not-check: {build.harness} at patch {build.n} {outcome(build)}'
    return 'could-not-check'


def not_needed(one: NotNeeded) -> str:
    """Return why nothing of a harness was built."""
    return f'{one.harness} tests not needed: {one_line(one.reason)}'


def _count(count: int, one: str, several: str) -> str:
    return f'{count} {one if count == 1 else several}'


def _name(test: str) -> str:
    return test if named(test) == test else within(test, 60)


def refused(n: int | None, reason: str) -> str:
    """Say which patch does not apply (None: the one that is spoken of), and why."""
    what = 'it' if n is None else f'patch {n}' if n else 'the series'
    if ' does not apply to ' in reason:
        return reason if n is None else f'{what}: {reason}'
    return f'{what} does not apply: {reason}'


def failures_of(review: Review) -> list[Failure]:
    """Return why not all could be judged: the series' own state, our failures, the base's tests."""
    found: list[Failure] = []
    if isinstance(review.series, Incomplete):
        found.append(Failure('series', review.series.reason))
    if isinstance(review.applied, DoesNotApply):
        found.append(Failure('apply', review.applied.reason, review.applied.n))
    return [*found, *review.failures, *review.untested]


def untested(review: Review) -> str:
    """Return what of the tests says nothing of the series, as a sentence; '' where all do."""
    reasons: dict[str, str] = {one.what: 'they fail without it' for one in review.untested}
    for build in review.builds:
        if isinstance(build.outcome, CouldNotRun):
            reason = 'they hit a limit' if build.outcome.limit else 'they could not be run'
            reasons.setdefault(build.harness, reason)
    listed = ', '.join(f'the {harness} tests ({why})' for harness, why in reasons.items())
    return f'Not all of it was tested: {listed}.' if listed else ''


def not_run(review: Review) -> list[Build]:
    """Return the builds that our side could not do."""
    return [build for build in review.builds if isinstance(build.outcome, CouldNotRun)]
