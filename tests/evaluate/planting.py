"""
Mistakes planted into correct code of a real kernel, and how the rules take them.

A module of `tests/evaluate/mutations/`, named as its rule's file, has a
function `plants(tree)` that yields a `Plant` for every place where the rule's
mistake can be made by program.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pygit2

from bot.config import load
from bot.harness import Workshop, build_series
from bot.model import (
    AppliedSeries,
    Base,
    Build,
    CouldNotRun,
    DoesNotApply,
    Finding,
    Patch,
    Series,
    Severity,
    Snapshot,
    Step,
    Subject,
)
from bot.review import run_rules
from bot.rule import AUTHOR, Edit, Rule, diff_of
from bot.tree import Quarantine
from bot.tree.words import identifiers
from rules import ALL

EVALUATED = tuple(one for one in ALL if not one.on_request or one.about_applying)
"""The rules about code and its messages; what only a gate asks is of tags and people."""
BASE = Base('kernel', 'HEAD', '0' * 40, 'the kernel as it is')


class Overlay:
    """A `Snapshot`: some files on top of another one. Texts are latin-1, as bytes."""

    def __init__(self, below: Snapshot, files: Mapping[str, str | None]) -> None:
        self._below = below
        self.ground: Snapshot = below.ground if isinstance(below, Overlay) else below
        self._files = {
            path: None if text is None else text.encode('latin-1') for path, text in files.items()
        }

    def read(self, path: str) -> bytes | None:
        return self._files[path] if path in self._files else self._below.read(path)

    def list(self, prefix: str) -> Iterator[str]:
        below = prefix.rstrip('/') + '/' if prefix else ''
        mine = {path for path in self._files if path.startswith(below) or path == prefix}
        if not mine:
            yield from self._below.list(prefix)
            return
        kept = (path for path in self._below.list(prefix) if path not in mine)
        yield from sorted([*kept, *(path for path in mine if self._files[path] is not None)])

    def knows(self, word: str) -> bool:
        return self._below.knows(word) or word.encode() in self._words

    @cached_property
    def _words(self) -> frozenset[bytes]:
        texts = (text for text in self._files.values() if text is not None)
        return frozenset().union(*map(identifiers, texts))

    def near(self, word: str) -> tuple[str, ...]:
        return self._below.near(word)


@dataclass(frozen=True)
class Plant:
    """
    One planted mistake.

    `name` says where (file and function, say). `before` are edits of the
    kernel that the series starts from; `patches` hold whole texts, read as
    latin-1. Expected is a finding of the rule that has `path` (None: any);
    `also` are the rules that rightly have something to say of this as well.

    `diffs` are the patches' diffs as they were mailed, where these do not fit
    what `patches` say; `on_top` makes `before` a prerequisite patch; `built`
    wants the harnesses to build every patch. All three take a repository.
    """

    name: str
    patches: tuple[Edit, ...]
    path: str | None = None
    before: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    builds: tuple[Build, ...] = ()
    diffs: tuple[bytes, ...] = ()
    on_top: bool = False
    built: bool = False

    @property
    def real(self) -> bool:
        """Whether it takes a repository: `judge_in()` instead of `judge()`."""
        return bool(self.diffs) or self.on_top or self.built


@dataclass(frozen=True)
class Verdict:
    """What became of a plant. `wrong` are findings above note that nobody asked for."""

    plant: Plant
    found: bool
    wrong: tuple[Finding, ...]
    failures: tuple[str, ...] = ()


def text(tree: Snapshot, path: str) -> str:
    """Return a file as text; '' where there is none."""
    return (tree.read(path) or b'').decode('latin-1')


def subject(tree: Snapshot, plant: Plant) -> Subject:
    """Make of a plant what a rule is handed."""
    before: Snapshot = Overlay(tree, dict(plant.before))
    patches, steps = [], []
    for n, edit in enumerate(plant.patches, 1):
        after = Overlay(before, edit.files)
        diffs = tuple(
            diff_of(path, before.read(path), after.read(path))
            for path in sorted(edit.files)
            if before.read(path) != after.read(path)
        )
        steps.append(Step(n, before, after, diffs))
        patches.append(_patch(n, len(plant.patches), edit, b''))
        before = after
    series = Series(None, patches[0].subject, AUTHOR, 1, tuple(patches))
    return Subject(series, AppliedSeries(series, BASE, tuple(steps)), plant.builds)


def judge(tree: Snapshot, plant: Plant, rule: str, rules: Sequence[Rule]) -> Verdict:
    """Run all rules over a plant of `rule`."""
    return _verdict(plant, rule, rules, subject(tree, plant))


def judge_in(
    quarantine: Quarantine,
    plant: Plant,
    rule: str,
    rules: Sequence[Rule],
    workshop: Workshop | None = None,
) -> Verdict:
    """Do the same with patches that are applied by the bot's own means, and built if `built`."""
    applied = apply(quarantine, plant)
    if isinstance(applied, DoesNotApply):
        rules = [one for one in rules if one.about_applying]
        return _verdict(plant, rule, rules, Subject(applied.series, applied))
    builds: list[Build] = []
    if plant.built:
        assert workshop is not None
        made = [one for h in load().harnesses for one in build_series(h, applied, workshop)]
        builds = [one for one in made if isinstance(one, Build)]
    verdict = _verdict(plant, rule, rules, Subject(applied.series, applied, tuple(builds)))
    stopped = tuple(
        f'{build.harness} at {build.n}: {build.outcome.reason}'
        for build in builds
        if isinstance(build.outcome, CouldNotRun)
    )
    return replace(verdict, failures=verdict.failures + stopped)


def apply(quarantine: Quarantine, plant: Plant) -> AppliedSeries | DoesNotApply:
    """Apply a plant's patches in the quarantine, as those of a mail would be."""
    head = quarantine.resolve('HEAD')
    tree: Snapshot = quarantine.at(head)
    base = Base('kernel', 'HEAD', head, 'the kernel as it is')
    below = []
    if plant.before:
        edit = Edit(dict(plant.before), 'mm: prepare')
        below = [_patch(1, 1, edit, mailed(tree, edit))]
        tree = Overlay(tree, edit.files)
    patches = []
    for n, edit in enumerate(plant.patches, 1):
        diff = plant.diffs[n - 1] if plant.diffs else mailed(tree, edit)
        patches.append(_patch(n, len(plant.patches), edit, diff))
        tree = Overlay(tree, edit.files)
    series = Series(None, patches[0].subject, AUTHOR, 1, tuple(patches))
    applied = quarantine.apply(series, base, below)
    if isinstance(applied, AppliedSeries) and not plant.on_top:
        return replace(applied, base=base)
    return applied


def _patch(n: int, of: int, edit: Edit, diff: bytes) -> Patch:
    title, _, body = edit.message.partition('\n')
    return Patch(n, of, None, None, title, AUTHOR, body.strip(), '', diff)


def mailed(tree: Snapshot, edit: Edit) -> bytes:
    """Return an edit of `tree` as git's diff."""
    after = Overlay(tree, edit.files)
    return b''.join(
        pygit2.Patch.create_from(
            tree.read(path), after.read(path), old_as_path=path, new_as_path=path
        ).data
        for path in sorted(edit.files)
        if tree.read(path) != after.read(path)
    )


def _verdict(plant: Plant, rule: str, rules: Sequence[Rule], judged: Subject) -> Verdict:
    findings, failures = run_rules(rules, judged)
    mine = [one for one in findings if one.rule == rule]
    found = any(plant.path in (None, one.hit.path) for one in mine)
    wrong = tuple(
        one
        for one in findings
        if one.rule not in (rule, *plant.also) and one.severity > Severity.NOTE
    )
    return Verdict(plant, found, wrong, tuple(f'{one.what}: {one.error}' for one in failures))


class Kept:
    """A `Snapshot` that remembers what was read below `KEPT` (all of drivers/ is too much)."""

    def __init__(self, below: Snapshot) -> None:
        self._below = below
        self._texts: dict[str, bytes | None] = {}
        self._lists: dict[str, tuple[str, ...]] = {}

    def read(self, path: str) -> bytes | None:
        if path not in self._texts:
            text = self._below.read(path)
            if not path.startswith(KEPT):
                return text
            self._texts[path] = text
        return self._texts[path]

    def list(self, prefix: str) -> Iterator[str]:
        if prefix not in self._lists:
            self._lists[prefix] = tuple(self._below.list(prefix))
        yield from self._lists[prefix]

    def knows(self, word: str) -> bool:
        return self._below.knows(word)

    def near(self, word: str) -> tuple[str, ...]:
        return self._below.near(word)


KEPT = ('include/linux/', 'mm/', 'tools/testing/vma/', 'Documentation/')


# What was found in which tree; the tree is kept, so that its id stays its own.
_MENTIONING: dict[tuple[int, tuple[bytes, ...], tuple[str, ...]], tuple[Snapshot, list[str]]] = {}


def mentioning(tree: Snapshot, words: tuple[bytes, ...], folders: tuple[str, ...]) -> list[str]:
    """Return the C files below `folders` that hold one of `words`. Reads them all, once."""
    key = id(tree), words, folders
    if key not in _MENTIONING:
        found = [
            path
            for folder in folders
            for path in tree.list(folder)
            if path.endswith(('.c', '.h')) and _holds(tree.read(path) or b'', words)
        ]
        _MENTIONING[key] = tree, found
    return list(_MENTIONING[key][1])


def _holds(text: bytes, words: Iterable[bytes]) -> bool:
    return any(word in text for word in words)


def kernels() -> list[tuple[str, Path]]:
    """The two newest kernels in the cache."""
    from tests.kernel import debian

    return debian.cached()[:2]
