"""
What judging several series shares: rules, trees, a cage, an archive.

From what a user names, or from mails that the store kept, to a `Review`.
"""

import contextlib
import fnmatch
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pygit2

from bot import bases, handed
from bot.attest import Attester
from bot.b4 import B4, thread_blob
from bot.config import Config
from bot.errors import BotError, ConfigError, SandboxError, TreeError, UsageError
from bot.harness import Workshop
from bot.lookup import Lookup, Stored
from bot.lore import Archive
from bot.model import (
    AppliedSeries,
    DoesNotApply,
    Facts,
    Failure,
    Harness,
    Incomplete,
    Mail,
    Review,
    Series,
    Tree,
    Tried,
)
from bot.outgoing import History, Reply
from bot.output.b4 import Part
from bot.progress import Progress
from bot.respond import Response, preview, respond
from bot.review import review
from bot.reviewers import people
from bot.rule import FIXES, Rule
from bot.sandbox import Cage
from bot.series import parse_mail, patch_of, posted, split, trailers_of
from bot.sources import Finder, Found
from bot.tree import Quarantine, merge_of, prepared, subjects, whole

if TYPE_CHECKING:  # `bot check` waits for no database
    from bot.store import Taken

ATTEST_SECONDS = 20.0
"""For the name look-ups of one mail's signatures, its author's own domain apart."""
MOST_OTHERS = 3
"""Bases that are tried instead of one whose own tests fail."""
COVERAGE = 'review-coverage'
KERNEL_HAS = ('MAINTAINERS', 'Kbuild', 'mm', 'include')


@dataclass(frozen=True)
class Choice:
    """
    What a user chose of what is configured. None: what the configuration says.

    `gate`: with the rules that only a gate asks. `besides` are folders of
    objects beside the tree's own. `only`: the one patch that is judged, on top
    of those before it.
    """

    tree: str | None = None
    base: str | None = None
    rules: str | None = None
    harness: str | None = None
    jobs: int = 1
    sandbox: bool = True
    revision: int | None = None
    gate: bool = False
    besides: tuple[Path, ...] = ()
    only: int | None = None


class Session:
    """What the judging of several series shares."""

    def __init__(
        self, choice: Choice, config: Config, *, quiet: bool = False,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.choice = choice
        self.config = config
        every = all_rules(config)
        self.known = [rule.id for rule in every]
        self.rules = _rules(every, choice, config)
        self.harnesses = harnesses(choice, config)
        self.trees = trees(choice, config)
        self.progress = progress or Progress(quiet=quiet)
        self.archive = Archive(config.lore, config.cache)
        self.b4 = B4(config.b4)
        attester = (
            Attester(ATTEST_SECONDS, config.keyrings, servers=config.name_servers)
            if config.attest
            else None
        )
        self.finder = Finder(self.archive, self.b4, attester, choice.revision)
        try:
            self.cage: Cage | SandboxError = Cage(config.limits, open_=not choice.sandbox)
        except SandboxError as error:
            self.cage = error

    def judge(self, source: str | tuple[str, ...], stack: contextlib.ExitStack) -> Review:
        """
        Review what `source` names; several are the files of one series.

        What it borrows lives as long as `stack`.
        """
        try:
            return self._judge(source, stack)
        except (ConfigError, UsageError):
            raise
        except BotError as error:
            return Review(None, failures=(Failure('input', str(error)),))

    def judge_merge(self, name: str, commit: str, stack: contextlib.ExitStack) -> Review:
        """Review what a merge's author wrote into it; what it borrows lives as long as `stack`."""
        try:
            places = self._places(stack)
            written, whole_merge = merge_of(places[0].quarantine, places[0].tree.name, name, commit)
            written = bases.vouched(written, places[0])
            return self._reviewed(
                written, places[0], (), replace(whole_merge, ground=written.ground)
            )
        except (ConfigError, UsageError):
            raise
        except BotError as error:
            return Review(None, failures=(Failure('input', str(error)),))

    def judge_handed(
        self, raw: bytes, tracking: Path | None, stack: contextlib.ExitStack
    ) -> tuple[Review, Part]:
        """
        Review the series that one mail is of, as b4 hands it to a check.

        `tracking` is the file that `b4 review` names. What is borrowed lives as long as `stack`.
        """
        try:
            mail = handed.read(raw)
            if tracking is None and (own := self._prepared(mail, stack)) is not None:
                return own
            part = handed.find(mail, self._kept(tracking), self.archive, self.b4)
            found = Found(part.series, part.thread)
            asked = Part(part.n, part.posted, part.alone)
            return self._found(found, self._places(stack), None, self.archive), asked
        except (ConfigError, UsageError):
            raise
        except BotError as error:
            return Review(None, failures=(Failure('input', str(error)),)), Part(0, 0)

    def _prepared(self, mail: Mail, stack: contextlib.ExitStack) -> tuple[Review, Part] | None:
        """Review a patch that `b4 prep --check` hands over before it is sent: it is a commit."""
        subject = posted(mail)
        here = pygit2.discover_repository(str(Path.cwd()))
        if subject is None or subject.counter == 0 or here is None:
            return None
        patch = patch_of(subject, mail)
        quarantine = stack.enter_context(Quarantine(Path.cwd(), self.config.cache, self.progress))
        n, of = subject.counter, subject.expected
        applied = prepared(quarantine, Path.cwd().name, patch.subject, patch.diff, n, of)
        if applied is None:
            return None
        place = bases.Place(Tree(Path.cwd().name, str(Path.cwd())), quarantine)
        judged = self._reviewed(bases.vouched(applied, place), place, (mail,))
        return judged, Part(n, n)

    def _kept(self, tracking: Path | None) -> tuple[Mail, ...]:
        """Return the thread that `b4 review` keeps in the repository that it runs in."""
        blob = thread_blob(tracking) if tracking is not None else None
        if blob is None or pygit2.discover_repository(str(Path.cwd())) is None:
            return ()
        try:
            with Quarantine(Path.cwd()) as quarantine:
                data = quarantine.blob(blob)
        except TreeError:
            return ()
        if data is None or len(data) > self.config.lore.largest:
            return ()
        return tuple(parse_mail(raw) for raw in split(data))

    def judge_mails(self, taken: 'Taken', history: History) -> tuple[Review, Response]:
        """
        Review a series of which its mails are all there is to know.

        Only for prerequisites that nobody has looked up yet the archive is
        asked. Raises `BotError` for what is our own fault.
        """
        thread = tuple(parse_mail(raw) for raw in taken.mails)
        found = Found(self.b4.series(thread, taken.msgid, taken.revision), thread)
        with contextlib.ExitStack() as stack:
            archive = Stored(taken.lookups, self.archive)
            judged = self._found(found, self._places(stack), None, archive)
            config = self.config
            return judged, respond(judged, config.mail, config.letterhead, history)

    def mails(self, judged: Review) -> tuple[Reply, ...]:
        """Return the mails that a review is worth, only to be looked at."""
        now = time.time()
        history = History(now, started=0, posted=now)
        return preview(judged, self.config.mail, self.config.letterhead, history)

    def _judge(self, source: str | tuple[str, ...], stack: contextlib.ExitStack) -> Review:
        named = source if isinstance(source, str) else f'{source[0]} … {source[-1]}'
        self.progress(f'looking for {named}')
        places = self._places(stack)
        found = self.finder.find(source, [(one.tree.name, one.quarantine) for one in places])
        return self._found(found, places, named, self.archive)

    def _places(self, stack: contextlib.ExitStack) -> list[bases.Place]:
        return [
            bases.Place(
                one,
                stack.enter_context(
                    Quarantine(
                        Path(one.path), self.config.cache, self.progress, self.choice.besides
                    )
                ),
            )
            for one in self.trees
        ]

    def _found(
        self,
        found: Found,
        places: list[bases.Place],
        source: str | None,
        archive: Lookup,
    ) -> Review:
        if isinstance(found.series, Incomplete):
            return Review(found.series)
        series = found.series
        only = self.choice.only
        if only is not None:
            of = len(series.patches)
            if only > of:
                raise UsageError(f'--only {only}: the series has {_counted(of, "patch")}')
            series = replace(series, patches=series.patches[:only])
            if found.applied is not None:
                steps = found.applied.steps[:only]
                found = replace(found, applied=replace(found.applied, series=series, steps=steps))
        applied: AppliedSeries | DoesNotApply
        if found.applied is not None:
            left = (source or '').partition('..')[0]
            named = left if re.fullmatch(r'[\w./-]+', left) else None
            applied = bases.vouched(found.applied, places[0], named)
        else:
            needed = bases.prerequisites(series, archive, self.b4, self.progress)
            guess = bases.guess_with(self.b4, series, found.thread)
            applied = bases.choose(series, places, self.choice.base, needed, guess, self.progress)
        judged = self._reviewed(applied, places[0], found.thread)
        if found.applied is None and self.choice.base is None:
            judged = self._testable(judged, series, places, needed)
        return judged if only is None else _of_patch(judged, only)

    def _testable(
        self,
        judged: Review,
        series: Series,
        places: list[bases.Place],
        needed: bases.Needed,
    ) -> Review:
        """Return the review on another base, where one takes the series and its tests pass."""
        first, seen = judged, set[str]()
        tried: list[Tried] = []
        last = judged
        for _ in range(MOST_OTHERS):
            if not last.untested or last.applied is None:
                break
            base = last.applied.base
            seen.add(base.commit)
            reason = last.untested[0].error
            tried.append(Tried(base.ref, base.commit, 0, None, reason))
            try:
                applied = bases.choose(series, places, None, needed, None, self.progress, seen)
            except TreeError:
                break  # there is no other
            if isinstance(applied, DoesNotApply):
                break
            base = replace(applied.base, tried=(*applied.base.tried, *tried))
            last = self._reviewed(replace(applied, base=base), places[0], first.thread)
            if not last.untested:
                return last
        return first

    def _reviewed(
        self,
        applied: AppliedSeries | DoesNotApply,
        place: bases.Place,
        thread: tuple[Mail, ...],
        built: AppliedSeries | None = None,
    ) -> Review:
        """Review what was applied; `built` is what is built in its place."""
        of = len(applied.series.patches)
        workshop = (
            self.cage
            if isinstance(self.cage, SandboxError)
            else Workshop(
                self.cage,
                self.config.cache,
                self.choice.jobs,
                self.config.cache_size,
                lambda event: self.progress.build(event, of),
            )
        )
        facts, failed = self._facts(applied, place) if self.choice.gate else (None, ())
        judged = review(
            applied, self.rules, self.harnesses, workshop, self.progress,
            self.config.ignores, self.known, facts, built,
        )  # fmt: skip
        return replace(judged, thread=thread, failures=(*judged.failures, *failed))

    def _facts(
        self, applied: AppliedSeries | DoesNotApply, place: bases.Place
    ) -> tuple[Facts, tuple[Failure, ...]]:
        """Find out what only the gate's rules ask; what of it could not be."""
        quarantine = place.quarantine
        ids = [
            found['id'].lower()
            for patch in applied.series.patches
            for trailer in trailers_of(patch.message)
            if (found := FIXES.match(trailer.partition(': ')[2]))
            and trailer.lower().startswith('fixes: ')
        ]
        facts = Facts(subjects(quarantine, ids), whole(quarantine), self.config.gate_reviews)
        if not facts.reviews or not any(rule.id == COVERAGE for rule in self.rules):
            return facts, ()
        paths = {
            step.n: [path for diff in step.files for path in {diff.old_path, diff.new_path} if path]
            for step in applied.steps
        }
        self.progress('asking who looks after these files')
        try:
            if isinstance(self.cage, SandboxError):
                raise self.cage
            ground = applied.steps[0].pre
            return replace(facts, people=people(self.cage, ground, paths)), ()
        except SandboxError as error:
            return facts, (Failure(COVERAGE, str(error)),)


def _of_patch(judged: Review, n: int) -> Review:
    """Leave what is about one patch."""
    return replace(
        judged,
        findings=tuple(one for one in judged.findings if one.hit.n == n),
        suppressed=tuple(one for one in judged.suppressed if one.finding.hit.n == n),
        builds=tuple(one for one in judged.builds if one.n == n),
    )


def _counted(count: int, what: str) -> str:
    return f'{count} {what}' if count == 1 else f'{count} {what}es'


def _rules(every: list[Rule], choice: Choice, config: Config) -> list[Rule]:
    known = [rule.id for rule in every]
    for rule in config.disabled:
        if rule not in known:
            raise ConfigError(f'{config.path}: [rules] disable: there is no rule "{rule}"')
    for one in config.ignores:
        if one.rule not in known:
            raise ConfigError(f'{config.path}: [[ignore]]: there is no rule "{one.rule}"')
    chosen = [rule for rule in every if rule.id not in config.disabled]
    if choice.rules is None:
        return [rule for rule in chosen if choice.gate or not rule.on_request]
    globs = choice.rules.split(',')
    for glob in globs:
        if not fnmatch.filter(known, glob):
            raise UsageError(f'--rules: there is no rule "{glob}"; there are {", ".join(known)}')
    return [rule for rule in every if any(fnmatch.fnmatch(rule.id, glob) for glob in globs)]


def all_rules(config: Config) -> list[Rule]:
    """Return the shipped rules and those of the configured folders, by id."""
    from rules import ALL, load_folder  # here, so that one that does not load is an error

    found = {rule.id: rule for rule in ALL}
    for folder in config.rule_paths:
        if not folder.is_dir():
            raise ConfigError(f'{config.path}: [rules] paths: {folder} is no folder')
        for rule in load_folder(str(folder)):
            if rule.id in found:
                raise ConfigError(f'{folder}: there is a rule "{rule.id}" already')
            found[rule.id] = rule
    return [found[name] for name in sorted(found)]


def harnesses(choice: Choice, config: Config) -> list[Harness]:
    """Return the harnesses to build: all of them, or those that were chosen."""
    if choice.harness is None:
        return list(config.harnesses)
    if choice.harness == 'none':
        return []
    known = {harness.name: harness for harness in config.harnesses}
    for name in choice.harness.split(','):
        if name not in known:
            raise UsageError(f'--harness: no harness "{name}"; there are {", ".join(known)}, none')
    return [known[name] for name in choice.harness.split(',')]


def trees(choice: Choice, config: Config) -> list[Tree]:
    """--tree (a path, or a configured name), else the configured ones, else where one stands."""
    if choice.tree is not None:
        named = [one for one in config.trees if one.name == choice.tree]
        return named or [Tree(choice.tree, choice.tree)]
    if config.trees:
        return list(config.trees)
    found = pygit2.discover_repository(str(Path.cwd()))
    if found is not None and _is_kernel(found):
        return [Tree(Path.cwd().name, str(Path.cwd()))]
    raise UsageError('no kernel tree: name one with --tree PATH, or as [[tree]] in config.toml')


def _is_kernel(repository: str) -> bool:
    try:
        head = pygit2.Repository(repository).revparse_single('HEAD').peel(pygit2.Tree)
    except (KeyError, ValueError, pygit2.GitError):
        return False
    return all(name in head for name in KERNEL_HAS)
