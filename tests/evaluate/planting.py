"""
Mistakes planted into correct code of a real kernel, and how the rules take them.

A module of `tests/evaluate/mutations/`, named as its rule's file, has a
function `plants(tree)` that yields a `Plant` for every place where the rule's
mistake can be made by program.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bot.model import (
    AppliedSeries,
    Base,
    Build,
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

BASE = Base('kernel', 'HEAD', '0' * 40, 'the kernel as it is')


class Overlay:
    """A `Snapshot`: some files on top of another one. Texts are latin-1, as bytes."""

    def __init__(self, below: Snapshot, files: Mapping[str, str | None]) -> None:
        self._below = below
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
        if self._below.knows(word):
            return True
        return any(word.encode() in text for text in self._files.values() if text is not None)

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
    """

    name: str
    patches: tuple[Edit, ...]
    path: str | None = None
    before: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    builds: tuple[Build, ...] = ()


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
        title, _, body = edit.message.partition('\n')
        patches.append(
            Patch(n, len(plant.patches), None, None, title, AUTHOR, body.strip(), '', b'')
        )
        before = after
    series = Series(None, patches[0].subject, AUTHOR, 1, tuple(patches))
    return Subject(series, AppliedSeries(series, BASE, tuple(steps)), plant.builds)


def judge(tree: Snapshot, plant: Plant, rule: str, rules: Sequence[Rule]) -> Verdict:
    """Run all rules over a plant of `rule`."""
    findings, failures = run_rules(rules, subject(tree, plant))
    mine = [one for one in findings if one.rule == rule]
    found = any(plant.path in (None, one.hit.path) for one in mine)
    wrong = tuple(
        one
        for one in findings
        if one.rule not in (rule, *plant.also) and one.severity > Severity.NOTE
    )
    return Verdict(plant, found, wrong, tuple(f'{one.what}: {one.error}' for one in failures))


def kernels() -> list[tuple[str, Path]]:
    """The two newest kernels in the cache."""
    from tests.kernel import debian

    return debian.cached()[:2]
