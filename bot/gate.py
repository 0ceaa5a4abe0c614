"""
The gate: ranges of commits, judged for who is to merge or take them.

From what a user or a git hook names to reviews. A push is judged as what it
adds to the refs that were there; git's own quarantine of its objects is read
beside the repository's.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bot.config import Config
from bot.errors import BotError, TreeError, UsageError
from bot.lore import message_id
from bot.model import Failure, Patch, Review, Series
from bot.pushes import Hook, Push, pushes
from bot.ranges import stretch
from bot.session import Choice, Session
from bot.tree import Quarantine, Source, beginning, count, runs

Show = Callable[[str, Review], None]
"""Handed the name of what was judged, while its snapshots can still be read."""


MOST_COMMITS = 50_000
"""Commits that are looked at in one push: two releases of Linux, with room."""


@dataclass(frozen=True)
class Stretch:
    """What is judged: commits of `old..new`, called `name`; or `new`, a merge onto `old`."""

    name: str
    old: str
    new: str
    merge: bool = False
    part: int = 1
    parts: int = 1

    @property
    def source(self) -> str:
        """How `Session.judge()` is told of it."""
        return f'{self.old}..{self.new}'

    @property
    def title(self) -> str:
        """What its report is called."""
        return self.name if self.parts == 1 else f'{self.name}, part {self.part} of {self.parts}'


@dataclass(frozen=True)
class Posted:
    """A series that was mailed: a message-id or a link to one."""

    name: str

    @property
    def source(self) -> str:
        """How `Session.judge()` is told of it."""
        return self.name


Wanted = Stretch | Posted | Failure


class Gate:
    """What the judging of several ranges shares."""

    def __init__(self, choice: Choice, config: Config, *, quiet: bool) -> None:
        tree = choice.tree or _here()
        besides = _quarantined()
        self.choice = replace(choice, gate=True, besides=besides)
        self.config = config
        self.quiet = quiet
        self.tree = tree
        self.besides = besides

    def judge(self, wanted: Sequence[Wanted], show: Show) -> list[Review]:
        """Review each range, and show it; a failure is one that can't be."""
        session: Session | None = None
        reviews = []
        for one in wanted:
            if isinstance(one, Failure):
                found = Review(None, failures=(one,))
                show(one.what, found)
                reviews.append(found)
                continue
            if session is None:
                # A range is in the repository that one stands in; a mail may be for any tree.
                tree = self.choice.tree if isinstance(one, Posted) else self.tree
                choice = replace(self.choice, tree=tree)
                session = Session(choice, self.config, quiet=self.quiet)
            with contextlib.ExitStack() as stack:
                stack.callback(session.progress.done)
                if isinstance(one, Stretch) and one.parts > 1:
                    session.progress(f'{one.name}: part {one.part} of {one.parts}')
                if isinstance(one, Stretch) and one.merge:
                    found = session.judge_merge(one.name, one.new, stack)
                else:
                    found = session.judge(one.source, stack)
                if isinstance(one, Stretch):
                    found = _called(one.title, found)
                session.progress.done()
                show(one.name, found)
            reviews.append(found)
        return reviews

    def named(self, text: str | None) -> list[Wanted]:
        """
        Return what a user names: `A..B`, a branch, a message-id, or None for the current branch.

        A branch is judged against its upstream. Raises `UsageError`.
        """
        if text is not None and message_id(text) is not None:
            return [Posted(text)]
        source = Source(Path(self.tree))
        if text is None or source.resolve(f'refs/heads/{text}') is not None:
            text = _against_upstream(source, text)
        between = stretch(text, source.resolve)
        if between is None:
            raise UsageError(f'no commits {text!r} in {source.path}: name a range, A..B')
        with self._quarantine() as quarantine:
            old, new = quarantine.resolve(between.old), quarantine.resolve(between.new)
            return self._parts(quarantine, text, old, new)

    def pushed(self, hook: Hook, words: Sequence[str], lines: str) -> list[Wanted]:
        """Return what git hands a hook, as far as it brings something that was not there."""
        found: list[Wanted] = []
        with self._quarantine() as quarantine:
            for push in pushes(hook, words, lines):
                name = push.ref.removeprefix('refs/heads/')
                try:
                    old = self._old(quarantine, push)
                except BotError as error:
                    found.append(Failure(name, str(error)))
                    continue
                if old is not None:
                    found += self._parts(quarantine, name, old, push.new)
        return found

    def _old(self, quarantine: Quarantine, push: Push) -> str | None:
        """Return the commit that a push is judged against; None where it brings nothing."""
        if push.old is not None and push.old in quarantine.repo:
            if count(quarantine, push.old, push.new, 0) == 0:
                return None  # back to where it was
            return push.old
        under = ('refs/remotes',) if push.remote is not None else ()
        if push.remote is not None and '/' not in push.remote and ':' not in push.remote:
            under = (f'refs/remotes/{push.remote}',)
        known = quarantine.source.refs(*under)
        if not known and push.remote is None:
            return None  # the first push to an empty repository: nothing was there to break
        if not known:
            raise TreeError(f'{push.remote}: git fetch it first: what it has is not known here')
        return beginning(quarantine, push.new, list(known.values()))

    def _parts(self, quarantine: Quarantine, name: str, old: str, new: str) -> list[Wanted]:
        """Return a range as what is judged by itself: topics, merges, no more than so many."""
        if count(quarantine, old, new, MOST_COMMITS) > MOST_COMMITS:
            return [Failure(name, f'more than {MOST_COMMITS} commits: name a part of them')]
        try:
            found = runs(quarantine, old, new, self.config.gate_most)
        except BotError as error:
            return [Failure(name, str(error))]
        if not found:
            return [Failure(name, 'no commit in this range')]
        return [
            Stretch(name, one.old, one.new, one.merge, number, len(found))
            for number, one in enumerate(found, 1)
        ]

    def _quarantine(self) -> Quarantine:
        return Quarantine(Path(self.tree), besides=self.besides)


def mailed(review: Review) -> Review:
    """
    Give commits the message-ids of the mails that they were applied from.

    Their Link: trailers name them; a commit without one has none.
    """
    series = review.series
    if not isinstance(series, Series):
        return review
    patches = tuple(
        patch if patch.msgid is not None else replace(patch, msgid=_linked(patch))
        for patch in series.patches
    )
    return replace(review, series=replace(series, patches=patches))


def _linked(patch: Patch) -> str | None:
    for trailer in patch.trailers:
        name, _, value = trailer.partition(': ')
        if name.lower() == 'link' and (named := message_id(value.split()[0])) is not None:
            return named[0]
    return None


def _called(name: str, found: Review) -> Review:
    """Call what was judged as its user does."""
    series = found.series
    return found if series is None else replace(found, series=replace(series, subject=name))


def _here() -> str:
    """The repository that git called us in, or that one stands in."""
    return os.environ.get('GIT_DIR') or str(Path.cwd())


def _quarantined() -> tuple[Path, ...]:
    """The folders where git keeps the objects of a push that is not accepted yet."""
    first = os.environ.get('GIT_OBJECT_DIRECTORY')
    others = os.environ.get('GIT_ALTERNATE_OBJECT_DIRECTORIES', '').split(':')
    return tuple(Path(one).absolute() for one in (first, *others) if one)


def _against_upstream(source: Source, branch: str | None) -> str:
    name = branch or source.branch()
    if name is None:
        raise UsageError('HEAD is on no branch: name a range, A..B')
    upstream = source.upstream(name)
    if upstream is None:
        if branch is not None and source.resolve(branch) is None:
            raise UsageError(f'no branch {branch!r} in {source.path}: name a range, A..B')
        raise UsageError(f'{name} follows no upstream: name a range, A..B')
    return f'{upstream}..{name}'
