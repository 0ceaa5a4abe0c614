"""
Build and run a userland test harness for every patch, against the patch before.

Answers: what `tools/testing/vma` (or any other harness of the configuration)
says at the base and at each patch that touches one of its inputs; for the
others the result is that of the patch before, by construction. Only the files
that the build reads are laid out. They are learnt once from a build of the
base (depfiles, makefiles, what make demands), and checked by building again
from them alone. Leaves the judgement to the rule `vma-test-build`.
"""

import hashlib
import json
import posixpath
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from bot.diagnose import LIBRARY, misses_a_file, of_build, of_run, relative
from bot.errors import SandboxError
from bot.model import (
    AppliedSeries,
    Build,
    BuildFailed,
    BuildOutcome,
    CouldNotRun,
    Harness,
    Passed,
    Step,
)
from bot.plain import one_line, tail
from bot.sandbox import PATH, Cage, File, Ran
from bot.tree import GitSnapshot

INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include\b.*$', re.M)
DEMANDED = re.compile(r"No rule to make target [`'](?P<path>[^']+)'")
MAKEFILE = re.compile(r'(?:^|/)(?:Makefile|Kbuild)|\.(?:mk|include|arch|am)$')
MARK = '--- inputs ---'

Progress = Callable[[str, int, str], None]
"""Told (harness, patch number, what happens)."""


@dataclass(frozen=True)
class Inputs:
    """The files that a harness reads at a base; `whole` where they could not be told apart."""

    paths: frozenset[str]
    whole: bool = False


@dataclass
class Workshop:
    """What builds need: a cage, a cache folder, jobs for make, and whom to tell."""

    cage: Cage
    cache: Path
    jobs: int = 2
    tell: Progress = field(default=lambda *_: None)


def build_series(
    harness: Harness, applied: AppliedSeries, workshop: Workshop | SandboxError
) -> Iterator[Build]:
    """
    Yield a `Build` for the base and for each patch, none at all where no input is touched.

    `workshop` may be the reason why there is none: each build is then a
    `CouldNotRun`.
    """
    base = applied.steps[0].pre
    assert isinstance(base, GitSnapshot)
    if base.entry(harness.dir) is None and not any(
        step.file(path) for step in applied.steps for path in step.post.list(harness.dir)
    ):
        return
    near = [step for step in applied.steps if _near(harness, step)]
    if not near:
        return
    reason = str(workshop) if isinstance(workshop, SandboxError) else _missing_tools()
    if isinstance(workshop, SandboxError) or reason is not None:
        outcome = CouldNotRun(reason or '')
        yield from (Build(harness.name, step.n, outcome, harness.dir) for step in near)
        return
    yield from _Series(harness, applied, workshop).builds()


class _Series:
    """One harness over one series."""

    def __init__(self, harness: Harness, applied: AppliedSeries, workshop: Workshop) -> None:
        self.harness = harness
        self.applied = applied
        self.workshop = workshop
        base = applied.steps[0].pre
        assert isinstance(base, GitSnapshot)
        self.base = base

    def builds(self) -> Iterator[Build]:
        inputs, build = self._known_inputs(), None
        if inputs is None:
            self._tell(0, 'learning what it reads')
            inputs, build = self._learn()
        if isinstance(build, Build) and isinstance(build.outcome, CouldNotRun):
            near = (step.n for step in self.applied.steps if _near(self.harness, step))
            yield from (replace(build, n=n) for n in (0, *near))
            return
        if not any(self._touches(inputs, step) for step in self.applied.steps):
            return
        if build is None:
            self._tell(0, 'building')
            build = self._build(0, self.base, inputs)
        yield build
        for step in self.applied.steps:
            if self._touches(inputs, step):
                self._tell(step.n, 'building')
                assert isinstance(step.post, GitSnapshot)
                build = self._build(step.n, step.post, inputs)
            else:
                build = replace(build, n=step.n, reused=True, seconds=0.0)
            yield build

    # --- inputs ---

    def _touches(self, inputs: Inputs, step: Step) -> bool:
        if inputs.whole:
            return _near(self.harness, step)
        for diff in step.files:
            for path in (diff.old_path, diff.new_path):
                if path is None:
                    continue
                if path in inputs.paths or path.startswith(f'{self.harness.dir}/'):
                    return True
            # A new file can be found by an #include that looked elsewhere before.
            if diff.old_path is None and diff.new_path is not None:
                name = posixpath.basename(diff.new_path)
                if any(posixpath.basename(known) == name for known in inputs.paths):
                    return True
        return False

    def _key(self) -> str:
        """What the inputs of a base depend on: its folders, the harness, the compiler."""
        said = hashlib.sha256(repr((self.harness, _compiler(), 2)).encode())
        for path in (*self.harness.within, self.harness.dir):
            said.update(f'{path} {self.base.entry(path)}\n'.encode())
        return said.hexdigest()[:32]

    def _known_inputs(self) -> Inputs | None:
        try:
            found = json.loads((self.workshop.cache / 'inputs' / f'{self._key()}.json').read_text())
            return Inputs(frozenset(found['paths']), bool(found['whole']))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remember(self, inputs: Inputs) -> Inputs:
        folder = self.workshop.cache / 'inputs'
        said = json.dumps({'paths': sorted(inputs.paths), 'whole': inputs.whole})
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile('w', dir=folder, delete=False) as file:
                temporary = Path(file.name)
                file.write(said)
            temporary.replace(folder / f'{self._key()}.json')
        except OSError as error:
            self._tell(0, f'what it reads could not be kept in {folder}: {error.strerror}')
        return inputs

    def _learn(self) -> tuple[Inputs, Build]:
        """Build the base from all of its folders, with depfiles, then from what they name alone."""
        whole = Inputs(frozenset(), whole=True)
        wide = dict(self._wide(self.base))
        ran = self._run(wide, depfiles=True)
        outcome = self._outcome(ran)
        if isinstance(outcome, CouldNotRun | BuildFailed):
            return whole, self._made(0, outcome, ran)
        listed = ran.phases[-1].output.partition(MARK)[2]
        read = {path for path in _listed(listed, self.harness.dir) if path in wide}
        folders = {posixpath.dirname(path) for path in read if MAKEFILE.search(path)}
        paths = {
            path
            for path in wide
            if path in read
            or path.startswith(f'{self.harness.dir}/')
            or posixpath.dirname(path) in folders
        }
        for _ in range(20):  # what make wants to see, though no compiler reads it
            dry = self._run({path: wide[path] for path in paths}, dry=True)
            output = ''.join(phase.output for phase in dry.phases)
            demanded = {
                path
                for found in DEMANDED.finditer(output)
                if (path := relative(found['path'], self.harness.dir)) in wide
            } - paths
            if not demanded:
                break
            paths |= demanded
        again = self._run({path: wide[path] for path in paths})
        same = self._outcome(again) == outcome
        inputs = Inputs(frozenset(paths)) if same else whole
        return self._remember(inputs), self._made(0, outcome, again if same else ran)

    def _wide(self, tree: GitSnapshot) -> Iterator[tuple[str, File]]:
        for folder in (*self.harness.within, self.harness.dir):
            for path, mode, _ in tree.files(folder):
                yield path, (path, mode, tree.read(path) or b'')

    def _narrow(self, tree: GitSnapshot, inputs: Inputs) -> dict[str, File] | None:
        """Return the files to lay out, None where the patch changes what is included."""
        if inputs.whole:
            return None
        paths = set(inputs.paths)
        paths.update(path for path, _, _ in tree.files(self.harness.dir))
        laid: dict[str, File] = {}
        for path in sorted(paths):
            entry, content = tree.entry(path), tree.read(path)
            if entry is None or content is None:
                continue
            laid[path] = (path, entry[0], content)
            if entry == self.base.entry(path):
                continue
            before = self.base.read(path) or b''
            if MAKEFILE.search(path) or set(INCLUDE.findall(content)) - set(
                INCLUDE.findall(before)
            ):
                return None
        return laid

    # --- one build ---

    def _build(self, n: int, tree: GitSnapshot, inputs: Inputs) -> Build:
        narrow = self._narrow(tree, inputs)
        if narrow is not None:
            ran = self._run(narrow)
            if not any(phase.status and misses_a_file(phase.output) for phase in ran.phases):
                return self._made(n, self._outcome(ran), ran)
        ran = self._run(dict(self._wide(tree)))
        return self._made(n, self._outcome(ran), ran)

    def _run(self, files: dict[str, File], *, depfiles: bool = False, dry: bool = False) -> Ran:
        words = ' '.join(_shell(word) for word in self._words(depfiles=depfiles))
        if dry:
            commands = [('build', f'make -n -k {words}')]
        else:
            commands = [
                ('build', f'make -j{self.workshop.jobs} {words}'),
                ('run', self.harness.run),
            ]
        if depfiles:
            show = f"echo; echo '{MARK}'; find . -name '*.d' -exec cat {{}} +; echo"
            makefiles = r"--eval='vma-bot-makefiles:;@echo : $(MAKEFILE_LIST)'"
            commands.append(('inputs', f'{show}; make {makefiles} {words} vma-bot-makefiles'))
        return self.workshop.cage.run(files.values(), self.harness.dir, commands)

    def _words(self, *, depfiles: bool) -> list[str]:
        if not depfiles:
            return [*self.harness.make]
        flags = [word for word in self.harness.make if word.startswith('EXTRA_CFLAGS=')]
        others = [word for word in self.harness.make if not word.startswith('EXTRA_CFLAGS=')]
        return [*others, f'{flags[0]} -MD' if flags else 'EXTRA_CFLAGS=-MD']

    def _outcome(self, ran: Ran) -> BuildOutcome:
        phases = {phase.name: phase for phase in ran.phases}
        if ran.limit is not None:
            return CouldNotRun(f'stopped at a limit: {ran.limit}', ran.limit)
        build = phases.get('build')
        if build is None or build.status is None:
            return CouldNotRun(one_line(f'the build did not start: {ran.complaint}'))
        errors, warnings = of_build(build.output, self.harness.dir)
        if build.status:
            absent = _absent(build.output)
            if absent is not None:
                packages = ' '.join(self.harness.packages)
                return CouldNotRun(f'{absent} is not installed: apt install {packages}')
            return BuildFailed(errors, warnings)
        run = phases.get('run')
        if run is None or run.status is None:
            return CouldNotRun(one_line(f'the tests did not start: {ran.complaint}'))
        return of_run(run.output, run.status, self.harness.dir, warnings)

    def _made(self, n: int, outcome: BuildOutcome, ran: Ran) -> Build:
        log = '' if isinstance(outcome, Passed) else tail(''.join(p.output for p in ran.phases))
        return Build(
            self.harness.name,
            n,
            outcome,
            self.harness.dir,
            flags=self.harness.make,
            seconds=round(ran.seconds, 3),
            log=log,
        )

    def _tell(self, n: int, what: str) -> None:
        self.workshop.tell(self.harness.name, n, what)


def _near(harness: Harness, step: Step) -> bool:
    """Whether a step touches a folder that the harness may read from."""
    folders = tuple(f'{folder}/' for folder in (*harness.within, harness.dir))
    return any(
        path is not None and path.startswith(folders)
        for diff in step.files
        for path in (diff.old_path, diff.new_path)
    )


def _listed(text: str, folder: str) -> Iterator[str]:
    """Yield the paths of depfiles and of make's own list, relative to the tree."""
    for word in text.replace('\\\n', ' ').split():
        if not word.endswith(':'):
            path = relative(word, folder)
            if path is not None:
                yield path


def _absent(output: str) -> str | None:
    """Name what is missing on this machine rather than in the tree."""
    for line in output.split('\n'):
        if found := LIBRARY.match(line[:4000]):
            return f'lib{found["symbol"]}'
        if found := re.search(r'fatal error: ((?:urcu|sanitizer|stdlib|stdio)\S*): No such', line):
            return found[1]
    return None


def _missing_tools() -> str | None:
    for program, package in (('make', 'make'), ('cc', 'gcc'), ('tar', 'tar')):
        if shutil.which(program, path=PATH) is None:
            return f'there is no {program} in {PATH}: apt install {package}'
    return None


def _compiler() -> str:
    found = subprocess.run(
        ['cc', '--version'], capture_output=True, check=False, env={'PATH': PATH, 'LC_ALL': 'C'}
    )
    return found.stdout.decode('utf-8', 'replace').partition('\n')[0]


def _shell(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
