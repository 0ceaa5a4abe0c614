"""Series on the sample kernel, built by its harness: what the harness's tests share."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot.config import MEMBLOCK, VMA, load
from bot.harness import Event, Workshop, build_series
from bot.model import (
    AppliedSeries,
    Author,
    Base,
    Build,
    Harness,
    Limits,
    NotNeeded,
    Patch,
    Series,
)
from bot.sandbox import Cage
from bot.tree import Quarantine
from tests.conftest import Demo
from tests.gitrepo import File

AUTHOR = Author('A', 'a@example.org')
LIMITS = Limits()
Edit = tuple[str, str, str] | Mapping[str, File]
"""(path, old, new), '' for old appends; or whole files."""


def harness(name: str = 'vma') -> Harness:
    """A shipped harness, as the configuration without a file has it."""
    assert name in (VMA.name, MEMBLOCK.name)
    return next(one for one in load().harnesses if one.name == name)


def built(made: Iterable[Build | NotNeeded]) -> list[Build]:
    """Leave out what was not needed."""
    return [one for one in made if isinstance(one, Build)]


@dataclass(frozen=True)
class Judge:
    """Judges series on a sample kernel with one cache."""

    sample: Demo
    cache: Path

    def series(
        self, edits: Sequence[Edit], before: Sequence[Edit] = ()
    ) -> tuple[str, tuple[Patch, ...]]:
        """Commit edits, one a patch, on `before`; the base and the patches."""
        repo = self.sample.repo
        base = last = repo.git('rev-parse', 'HEAD').decode().strip()
        for number, edit in enumerate((*before, *edits)):
            files = edit if isinstance(edit, Mapping) else self._edited(last, *edit)
            last = repo.commit(repo.write(files, base=last), 'x', parent=last, ref='x')
            if number + 1 == len(before):
                base = last
        listed = repo.git('rev-list', '--reverse', f'{base}..{last}').decode().split()
        patches = tuple(
            Patch(
                n, len(listed), None, None, 'x', AUTHOR, '', '',
                repo.git('diff-tree', '-p', '--binary', '--full-index', f'{commit}^', commit),
            )
            for n, commit in enumerate(listed, 1)
        )  # fmt: skip
        return base, patches

    def __call__(
        self,
        *edits: Edit,
        before: Sequence[Edit] = (),
        limits: Limits = LIMITS,
        told: Callable[[Event], None] = lambda _: None,
        vouched: bool = True,
        by: Harness | None = None,
        largest: int = 1 << 30,
    ) -> list[Build]:
        """Return the builds of edits, one a patch."""
        return self.built(
            *self.series(edits, before),
            limits=limits,
            told=told,
            vouched=vouched,
            by=by,
            largest=largest,
        )

    def built(
        self,
        base: str,
        patches: tuple[Patch, ...],
        *,
        limits: Limits = LIMITS,
        told: Callable[[Event], None] = lambda _: None,
        vouched: bool = True,
        by: Harness | None = None,
        largest: int = 1 << 30,
    ) -> list[Build]:
        """Return the builds of a series that is there already."""
        workshop = Workshop(Cage(limits), self.cache, 2, largest, told)
        with Quarantine(self.sample.tree) as quarantine:
            series = Series(None, 'x', AUTHOR, 1, patches)
            applied = quarantine.apply(series, Base('x', base, base, 'x'))
            assert isinstance(applied, AppliedSeries), applied
            if not vouched:
                applied = AppliedSeries(series, applied.base, applied.steps)
            return built(build_series(by or harness(), applied, workshop))

    def _edited(self, commit: str, path: str, old: str, new: str) -> dict[str, File]:
        repo = self.sample.repo
        text = b''
        if old or path in repo.git('ls-tree', '-r', '--name-only', commit).decode().split():
            text = repo.git('cat-file', 'blob', f'{commit}:{path}')
        assert old.encode() in text
        return {path: text.replace(old.encode(), new.encode()) if old else text + new.encode()}


def outcomes(builds: Sequence[Build]) -> list[tuple[int, str, bool]]:
    """(n, outcome's name, reused) of each build."""
    return [(build.n, type(build.outcome).__name__, build.reused) for build in builds]
