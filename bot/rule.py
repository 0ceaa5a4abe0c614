"""
What a rule is, and the little trees that its cases are made of.

A rule is a function from `Subject` to hits, with its documentation (the
docstring of its file), its severity, and the code that it reports (`bad`) and
does not report (`good`). Tests, `bot rules explain` and `docs/rules.md` are
made from those. Running the rules is `review.py`'s.
"""

import difflib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from bot.model import (
    AppliedSeries,
    Author,
    Base,
    Build,
    DoesNotApply,
    Facts,
    FileDiff,
    Finding,
    Hit,
    Hunk,
    Patch,
    Series,
    Severity,
    Step,
    Subject,
)
from bot.series import trailers_of
from bot.voice import fits
from bot.voice import named as named  # for rules, which import no more of bot than this

Check = Callable[[Subject], Iterator[Hit]]
FIXES = re.compile(r'(?:commit\s+)?(?P<id>[0-9a-fA-F]{5,40})\b')
"""How the value of a Fixes: tag begins."""
WORD = re.compile(r'[A-Za-z_]\w*')
SHOWN = re.compile(r'(?<=[ \t])struct (\w+) \{')
UNSAID = 'needs a look, for the reason below'
"""Said where a rule's own words are none that we would say."""
AUTHOR = Author('A Developer', 'dev@example.org')
BASE = Base('case', 'base', '0' * 40, 'the case')


@dataclass(frozen=True)
class Edit:
    """One patch of a case: whole texts of the files it changes (None: deleted), its message."""

    files: Mapping[str, str | None]
    message: str = 'mm: change something'
    author: Author = AUTHOR
    committer: Author | None = None


@dataclass(frozen=True)
class Case:
    """
    A little tree and the patches on top of it.

    `expect` are the patch numbers that the hits of a bad case point at, in
    order; None leaves that open. `fails` says that the last patch does not
    apply, and why. `base` is what the series is on. `facts` are what the gate
    knows; `commits`: the patches are commits, and no mails.
    """

    before: Mapping[str, str]
    patches: tuple[Edit, ...]
    builds: tuple[Build, ...] = ()
    expect: tuple[int, ...] | None = None
    fails: str | None = None
    base: Base = BASE
    facts: Facts | None = None
    commits: bool = False


@dataclass(frozen=True)
class Rule:
    """
    One rule. `id` is the name of its file, with `-` for `_`.

    `on_request`: run only by the gate, and where `--rules` names it.
    `about_applying`: it has something to say of a series that does not apply.
    """

    id: str
    severity: Severity
    check: Check
    bad: tuple[Case, ...] = field(repr=False)
    good: tuple[Case, ...] = field(repr=False)
    doc: str = field(repr=False, default='')
    on_request: bool = False
    about_applying: bool = False

    @property
    def summary(self) -> str:
        """The first line of its documentation."""
        return self.doc.strip().partition('\n')[0]


def finding_of(rule: Rule, hit: Hit) -> Finding:
    """
    Stamp a hit with rule id, severity and fingerprint.

    What a rule says that is no sentence of ours (it may have a stranger's text
    in it) is shown as somebody's words, not said.
    """
    return Finding(rule.id, hit.severity or rule.severity, _fingerprint(rule, hit), _voiced(hit))


def _voiced(hit: Hit) -> Hit:
    if not fits(hit.message):
        hit = replace(hit, message=UNSAID, said=(hit.message, *hit.said))
    if hit.advice is not None and not fits(hit.advice):
        hit = replace(hit, advice=None, said=(*hit.said, hit.advice))
    return hit


def _fingerprint(rule: Rule, hit: Hit) -> str:
    """Stay the same from v1 to v2: no line number, no patch number, white space folded."""
    said = hit.symbol or re.sub(r'\d+', '#', hit.key or hit.message)
    parts = [rule.id, hit.path or '', said]
    parts += [f'{shown.path}:{" ".join(shown.text.split())}' for shown in hit.evidence]
    return hashlib.sha256('\0'.join(parts).encode('utf-8', 'surrogatepass')).hexdigest()[:16]


# --- cases --------------------------------------------------------------------


class Files:
    """A `Snapshot` over a dict."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = dict(files)

    def read(self, path: str) -> bytes | None:
        """Return the bytes of a file."""
        text = self._files.get(path)
        return None if text is None else text.encode()

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the paths below `prefix`, sorted."""
        below = prefix.rstrip('/') + '/' if prefix else ''
        yield from sorted(path for path in self._files if path.startswith(below))

    def knows(self, word: str) -> bool:
        """Whether a word stands in one of the files."""
        return word in self._words

    def near(self, word: str) -> tuple[str, ...]:
        """Return the words of the files within two edits of `word`, nearest first."""
        found = ((edits(word, other), other) for other in self._words if other.isidentifier())
        return tuple(other for distance, other in sorted(found) if 0 < distance <= 2)

    @cached_property
    def _words(self) -> frozenset[str]:
        texts = self._files.values()
        shown = (f'{struct}{{' for text in texts for struct in SHOWN.findall(text))
        return frozenset((*shown, *(word for text in texts for word in WORD.findall(text))))


def edits(one: str, two: str, most: int = 2) -> int:
    """Count the edits (insert, delete, replace, swap) between two words; `most` + 1 for more."""
    if abs(len(one) - len(two)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(two) + 1))
    for i, a in enumerate(one, 1):
        older, before, row = before, row, [i]
        for j, b in enumerate(two, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == two[j - 2] and b == one[i - 2]:
                best = min(best, older[j - 2] + 1)
            row.append(best)
        if min(row) > most:
            return most + 1
    return min(row[-1], most + 1)


def subject_of(case: Case) -> Subject:
    """Make of a case what a rule is handed."""
    files: dict[str, str] = dict(case.before)
    patches, steps = [], []
    for n, edit in enumerate(case.patches, 1):
        after = dict(files)
        for path, text in edit.files.items():
            if text is None:
                del after[path]
            else:
                after[path] = text
        diffs = tuple(
            diff_of(path, _bytes(files.get(path)), _bytes(after.get(path)))
            for path in sorted(edit.files)
            if files.get(path) != after.get(path)
        )
        steps.append(Step(n, Files(files), Files(after), diffs))
        subject, _, body = edit.message.partition('\n')
        body = body.strip()
        commit = f'{n:040x}' if case.commits or edit.committer is not None else None
        patches.append(
            Patch(
                n, len(case.patches), None, commit, subject, edit.author, body, '', b'',
                trailers_of(body), committer=edit.committer,
            )
        )  # fmt: skip
        files = after
    series = Series(None, patches[0].subject, AUTHOR, 1, tuple(patches))
    if case.fails is not None:
        last = steps.pop()
        where = last.files[0].path if last.files else None
        failed = DoesNotApply(series, case.base, last.n, case.fails, where, tuple(steps))
        return Subject(series, failed, case.builds, case.facts)
    applied = AppliedSeries(series, case.base, tuple(steps))
    return Subject(series, applied, case.builds, case.facts)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def diff_of(path: str, before: bytes | None, after: bytes | None, context: int = 3) -> FileDiff:
    """Compare two texts of a file, None standing for no file."""
    old = (before or b'').splitlines(keepends=True)
    new = (after or b'').splitlines(keepends=True)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    matcher.opcodes = _opcodes(old, new)  # type: ignore[attr-defined]  # what get_opcodes() keeps
    hunks = []
    for group in matcher.get_grouped_opcodes(context):
        lines: list[bytes] = []
        for tag, i1, i2, j1, j2 in group:
            if tag == 'equal':
                lines += [b' ' + line for line in old[i1:i2]]
                continue
            lines += [b'-' + line for line in old[i1:i2]]
            lines += [b'+' + line for line in new[j1:j2]]
        first, last = group[0], group[-1]
        hunks.append(
            Hunk(first[1] + 1, last[2] - first[1], first[3] + 1, last[4] - first[3], tuple(lines))
        )
    return FileDiff(
        None if before is None else path, None if after is None else path, hunks=tuple(hunks)
    )


def _opcodes(old: list[bytes], new: list[bytes]) -> list[tuple[str, int, int, int, int]]:
    """Compare only what lies between the same beginning and end: difflib is slow on long files."""
    shorter = min(len(old), len(new))
    first = next((n for n in range(shorter) if old[n] != new[n]), shorter)
    left = shorter - first
    last = next((n for n in range(left) if old[-1 - n] != new[-1 - n]), left)
    middle = difflib.SequenceMatcher(
        None, old[first : len(old) - last], new[first : len(new) - last], autojunk=False
    )
    found = [('equal', 0, first, 0, first)] if first else []
    for tag, *at in middle.get_opcodes():
        i1, i2, j1, j2 = (one + first for one in at)
        found.append((tag, i1, i2, j1, j2))
    if last:
        found.append(('equal', len(old) - last, len(old), len(new) - last, len(new)))
    return found
