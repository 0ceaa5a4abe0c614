"""The builds of a series: which are needed, which run at once, what each says."""

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from posixpath import dirname

from bot.diagnose import misses_a_file
from bot.errors import SandboxError
from bot.harness.builder import Builder, Workshop, compiler, missing_tools, tools
from bot.harness.layout import WHOLE, Inputs, Layout, asked_for, narrow, only, shadows, wide
from bot.harness.learn import inputs, proof
from bot.harness.results import Results, prune, same_as
from bot.model import AppliedSeries, Build, CouldNotRun, Harness, NotNeeded, Step
from bot.sandbox import Ran
from bot.tree import GitSnapshot

PER_BUILD = 1 << 30
"""Bytes of memory that a build is taken to need, where there is little."""
MOST_WIDENED = 5
"""Times that a series may turn out to read more than was thought."""
MOST_REPEATS = 2
"""Builds of a series that are done again at once, since our side may have failed them."""


def build_series(
    harness: Harness, applied: AppliedSeries, workshop: Workshop | SandboxError
) -> Iterator[Build | NotNeeded]:
    """
    Yield a `Build` for the base and for each patch, in order.

    A `NotNeeded` alone where no patch touches what the harness reads. `workshop` may
    be the reason why there is none: each build is then a `CouldNotRun`.
    """
    if not any(
        isinstance(tree, GitSnapshot) and tree.entry(harness.dir)
        for step in applied.steps
        for tree in (step.pre, step.post)
    ):
        yield NotNeeded(harness.name, f'the tree has no {harness.dir}')
        return
    near = [step.n for step in applied.steps if _near(harness, step)]
    if not near:
        yield NotNeeded(harness.name, 'no patch changes a file in the folders that it reads from')
        return
    reason = str(workshop) if isinstance(workshop, SandboxError) else missing_tools()
    if isinstance(workshop, SandboxError) or reason is not None:
        outcome = CouldNotRun(reason or '')
        yield from (Build(harness.name, n, outcome, harness.dir) for n in near)
        return
    yield from _Series(harness, applied, workshop).builds()


class WiderError(Exception):
    """More is read than was laid out: all the folders are wanted, and `folders` besides."""

    def __init__(self, folders: frozenset[str] = frozenset()) -> None:
        super().__init__(*folders)
        self.folders = folders


@dataclass(frozen=True)
class _Plan:
    """What is laid out for the base and each patch, and the key of each result."""

    known: Inputs
    layouts: tuple[Layout, ...]
    keys: tuple[str, ...]


class _Series:
    """One harness over one series."""

    def __init__(self, harness: Harness, applied: AppliedSeries, workshop: Workshop) -> None:
        self.harness = harness
        self.builder = Builder(harness, workshop)
        self.applied = applied
        self.workshop = workshop
        first, ground = applied.steps[0].pre, applied.ground
        assert isinstance(first, GitSnapshot)
        assert ground is None or isinstance(ground, GitSnapshot)
        # What is learnt and what fills the shared ccache is the configured tree's own;
        # prerequisites of the series are a stranger's already.
        self.ground = ground
        self.base = first
        self.tools = tools()
        self.results = Results(workshop.cache, (compiler(), workshop.cage.version))
        self.repeats = MOST_REPEATS
        self.doubtful: set[int] = set()  # patches whose build is not to be kept
        self.left: CouldNotRun | None = None  # what later patches are, once a limit was hit

    def builds(self) -> Iterator[Build | NotNeeded]:
        known = inputs(self.builder, self.ground)
        if isinstance(known, Build):
            near = (step.n for step in self.applied.steps if _near(self.harness, step))
            yield from (replace(known, n=n) for n in (0, *near))
            return
        done = 0
        for _ in range(MOST_WIDENED + 1):
            try:
                for build in self._of(self._plan(known)):
                    if isinstance(build, NotNeeded):
                        yield build
                    elif build.n >= done:
                        done = build.n + 1
                        yield build
                return
            except WiderError as wider:
                known = WHOLE
                self._widen(wider.folders)

    def _widen(self, folders: frozenset[str]) -> None:
        within = tuple(dict.fromkeys((*self.harness.within, *sorted(folders))))
        self.harness = replace(self.harness, within=within)
        self.builder = Builder(self.harness, self.workshop)

    def _plan(self, known: Inputs) -> _Plan:
        layouts = [self._layout(self.base, known, None)]
        for step in self.applied.steps:
            assert isinstance(step.post, GitSnapshot)
            touched = _near(self.harness, step)
            layouts.append(self._layout(step.post, known, step) if touched else layouts[-1])
        keys: list[str] = []
        for n, layout in enumerate(layouts):
            same = n and layout is layouts[n - 1]
            keys.append(keys[-1] if same else self.results.key(self.harness, layout))
        return _Plan(known, tuple(layouts), tuple(keys))

    def _of(self, plan: _Plan) -> Iterator[Build | NotNeeded]:
        """Run what is not kept, several at once, and yield all in order."""
        if len(set(plan.keys)) == 1:
            files = sum(1 for _ in plan.layouts[0].files)
            reason = f'none of the {files} files that it reads changes'
            yield NotNeeded(self.harness.name, reason, files)
            return
        self.left = None
        kept: dict[str, Build | None] = {}
        for n, key in enumerate(plan.keys):
            if key not in kept:
                kept[key] = self.results.get(key, self.harness, n)
        prove = not (plan.known.proven or plan.known.whole)
        if prove and self.base is not self._proving(plan):
            prove = False
        if prove:
            kept[plan.keys[0]] = None
        todo = [key for key, build in kept.items() if build is None]
        self.builder.tell('planned', len(todo))
        at_once = max(min(self.workshop.jobs, len(todo), _room()), 1)
        # The base with all processors beside the others: each unit of it that is ready
        # is one that they find in the ccache.
        jobs = [self.workshop.jobs, max(self.workshop.jobs // at_once, 1)]
        futures: dict[str, Future[Build]] = {}
        with ThreadPoolExecutor(max_workers=at_once) as pool:
            try:
                for n, key in enumerate(plan.keys):
                    if kept[key] is None and key not in futures:
                        unproven = plan.known if prove else None
                        futures[key] = pool.submit(
                            self._build, n, plan.layouts[n], jobs[n > 0], unproven
                        )
                first: dict[str, Build] = {}
                for n, key in enumerate(plan.keys):
                    if key in first:
                        yield same_as(first[key], n)
                        continue
                    build = kept[key]
                    if build is None:
                        build = futures[key].result()
                        if _unsure(build) and self.repeats:
                            wait(futures.values())  # with nothing beside it
                            before = first[plan.keys[n - 1]] if n else None
                            build = self._repeated(plan, build, before, prove=prove)
                        if n not in self.doubtful:
                            self.builder.note(self.results.put(key, build))
                    first[key] = replace(build, n=n)
                    yield first[key]
            except BaseException:
                for future in futures.values():
                    future.cancel()
                self.workshop.cage.stop()
                raise
        if todo:
            prune(self.workshop.cache, self.workshop.largest)

    def _proving(self, plan: _Plan) -> GitSnapshot:
        """
        Return the tree whose build is the proof of what was listed.

        That is the base's own build, done anyway; but with prerequisites below
        the series one of the ground is needed, now.
        """
        assert self.ground is not None
        if self.base.id == self.ground.id:
            return self.base
        layout = only(wide(self.harness, self.ground), set(plan.known.paths))
        ran = self.builder.run(layout, self.workshop.jobs, trusted=True, how='learn')
        if not proof(self.builder, self.ground, plan.known, ran):
            raise WiderError
        return self.ground

    def _layout(self, tree: GitSnapshot, known: Inputs, step: Step | None) -> Layout:
        added = [diff.new_path for diff in step.files if diff.old_path is None] if step else []
        shadowed = any(path is not None and shadows(known, path) for path in added)
        if self.ground is not None and not shadowed:
            laid = narrow(self.harness, known, self.ground, tree)
            if laid is not None:
                return laid
        return wide(self.harness, tree)

    # --- one build ---

    def _build(self, n: int, layout: Layout, jobs: int, unproven: Inputs | None) -> Build:
        if self.left is not None:
            return Build(self.harness.name, n, self.left, self.harness.dir)
        self.builder.tell('started', n)
        trusted = n == 0 and self.ground is not None and self.base.id == self.ground.id
        if n == 0 and unproven is not None and self.ground is not None:
            ran = self.builder.run(layout, jobs, trusted=trusted, how='learn')
            ours = isinstance(self.builder.outcome(ran), CouldNotRun)
            if not ours and not proof(self.builder, self.ground, unproven, ran):
                raise WiderError
        else:
            ran = self.builder.run(layout, jobs, trusted=trusted)
        if self.builder.doubtful(ran):
            self.doubtful.add(n)
        else:
            self._complete(n, layout, ran)
        outcome = self.builder.outcome(ran)
        if tools() != self.tools:
            outcome = CouldNotRun('a tool was replaced while this was built', began=True)
        build = self.builder.made(n, outcome, ran)
        match build.outcome:
            case CouldNotRun(limit=str(limit)) if limit != 'interrupted' and self.left is None:
                # What makes one build so large is in all that follow, as a rule: a series
                # of a hundred patches must not take a hundred times the limit.
                where = f'patch {n}' if n else 'the base'
                self.left = CouldNotRun(f'not built, since {where} hit a limit: {limit}', limit)
        self.builder.tell('done', n)
        return build

    def _repeated(self, plan: _Plan, build: Build, before: Build | None, *, prove: bool) -> Build:
        """
        Build again, at once and alone, what our side may have failed.

        The first result counts. Without one, how often it was tried is said:
        what is the same each time may be the series' own doing.
        """
        n, times = build.n, 1
        while _unsure(build) and self.repeats:
            self.repeats, times = self.repeats - 1, times + 1
            self.doubtful.discard(n)
            build = self._build(n, plan.layouts[n], 1, plan.known if prove and not n else None)
        if _unsure(build) and isinstance(build.outcome, CouldNotRun):
            said = f'{build.outcome.reason}, {times} times of {times}'
            if before is not None and not isinstance(before.outcome, CouldNotRun):
                said += f', and {"the patch before" if n > 1 else "the base"} came to one'
            build = replace(build, outcome=replace(build.outcome, reason=said))
        return build

    def _complete(self, n: int, layout: Layout, ran: Ran) -> None:
        """Raise where a build failed for want of a file that the tree has."""
        missed = [one.output for one in ran.phases if one.status and misses_a_file(one.output)]
        if not missed:
            return
        if not layout.wide:
            raise WiderError
        tree = self.base if n == 0 else self.applied.steps[n - 1].post
        assert isinstance(tree, GitSnapshot)
        there = {path for path, _, _ in layout.files}
        folders = {
            dirname(path) or path
            for output in missed
            for path in asked_for(tree, output)
            if path not in there
        }
        if folders:
            raise WiderError(frozenset(folders))


def _unsure(build: Build) -> bool:
    """Whether a build began and came to no result, and hit no limit."""
    outcome = build.outcome
    return isinstance(outcome, CouldNotRun) and outcome.began and outcome.limit is None


def _near(harness: Harness, step: Step) -> bool:
    """Whether a step touches what the harness may read from."""
    within = (*harness.within, harness.dir)
    folders = tuple(f'{folder}/' for folder in within)
    return any(
        path is not None and (path.startswith(folders) or path in within)
        for diff in step.files
        for path in (diff.old_path, diff.new_path)
    )


def _room() -> int:
    """Return how many builds the free memory is good for, at least one."""
    try:
        said = Path('/proc/meminfo').read_text()
    except OSError:
        return 1
    found = re.search(r'^MemAvailable:\s+(\d+) kB', said, re.M)
    return max(int(found[1]) * 1024 // PER_BUILD, 1) if found else 1
