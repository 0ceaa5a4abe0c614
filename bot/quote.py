"""
What a mail shows of what others wrote: the hunk, the message, the evidence. Pure.

Answers which lines are quoted, and how much of each: the hunk down to the line
in question, the sentence of a commit message, what a compiler said. Each line
begins with `> ` (what is answered) or `| ` (the rest), and is never wrapped.
"""

from dataclasses import dataclass
from email.utils import formatdate, mktime_tz, parsedate_tz

from bot.envelope import Envelope
from bot.model import AppliedSeries, Author, Hit, Hunk, Patch, Review, Series, Step
from bot.voice import person, quoted, shown

BEFORE, AFTER = 5, 2
"""Lines of a hunk that are quoted around the line in question."""
GAP = '> [ ... ]'
LONGEST_LINE = 400
MOST_EVIDENCE = 5
MOST_SAID = 3
"""Lines of what a build or a mail said; the first ones name what is wrong."""
LAST = 4_102_444_800
"""The year 2100: a later date is not one of a mail."""


@dataclass(frozen=True)
class Parent:
    """The mail that is answered. `msgid` is '' for a patch that was never mailed."""

    msgid: str
    subject: str
    date: str
    envelope: Envelope
    references: tuple[str, ...]


class Quoter:
    """Quotes the lines of one patch, in their order, each once."""

    def __init__(self, review: Review, series: Series, n: int) -> None:
        steps = review.applied.steps if isinstance(review.applied, AppliedSeries) else ()
        self.step: Step | None = next((one for one in steps if one.n == n), None)
        self.patch = next((one for one in series.patches if one.n == n), None)
        self.cover = series.cover
        self.path: str | None = None
        self.hunk: Hunk | None = None
        self.done = 0

    def upto(self, hit: Hit) -> list[str]:
        """Return the quote that ends at (or just behind) the line of a hit."""
        if hit.side == 'message':
            return self._message(hit.line)
        diff = self.step.file(hit.path) if self.step is not None and hit.path else None
        if diff is None or hit.line is None:
            return [quoted(hit.path)] if hit.path is not None else []
        lines: list[str] = []
        if hit.path != self.path:
            self.path, self.hunk = hit.path, None
            lines += [_file('---', 'a', diff.old_path), _file('+++', 'b', diff.new_path)]
        for hunk in diff.hunks:
            at = _index(hunk, hit)
            if at is not None:
                return lines + self._hunk(hunk, at)
        return lines

    def _hunk(self, hunk: Hunk, at: int) -> list[str]:
        lines = []
        if hunk is not self.hunk:
            self.hunk, self.done = hunk, 0
            lines.append(
                f'> @@ -{hunk.old_start},{hunk.old_count} +{hunk.new_start},{hunk.new_count} @@'
            )
        start = max(self.done, at - BEFORE)
        if start > self.done:
            lines.append(GAP)
        end = max(min(at + 1 + AFTER, len(hunk.lines)), self.done)
        # Not into the next change: what stands below is about this one.
        while end > at + 1 and hunk.lines[end - 1][:1] != b' ':
            end -= 1
        lines += [_code(line) for line in hunk.lines[start:end]]
        self.done = max(self.done, end)
        return lines

    def _message(self, number: int | None) -> list[str]:
        text = self.cover or ''
        if self.patch is not None:
            text = f'{self.patch.subject}\n\n{self.patch.message}'
        lines = text.split('\n')
        if number is None or not 1 <= number <= len(lines):
            return [quoted(lines[0], 160)] if lines[0].strip() else []
        first = number - 1
        while first > 0 and number - first < 3 and lines[first - 1].strip():
            first -= 1
        return [quoted(line, 160) for line in lines[first:number]]


def evidence(hit: Hit) -> list[str]:
    """Return what was said, and the places that show it, as lines that begin with `| `."""
    lines = [shown(one, 300) for one in hit.said[:MOST_SAID]]
    places = hit.evidence[:MOST_EVIDENCE]
    lines += [shown(f'{one.path}:{one.line}: {one.text}', LONGEST_LINE) for one in places]
    more = len(hit.evidence) - len(places) + max(len(hit.said) - MOST_SAID, 0)
    return [*lines, f'| and {more} more'] if more else lines


def wrote(parent: Parent) -> str:
    """Return the line above a quotation; its date is read and written anew."""
    date, name = _date(parent.date), name_of(parent.envelope.sender)
    return f'On {date}, {name} wrote:' if date else f'Earlier, {name} wrote:'


def name_of(author: Author) -> str:
    """Return whom we answer, by nothing but a name."""
    return person(author.name) or person(author.email.partition('@')[0]) or 'somebody'


def unmailed(series: Series, patch: Patch | None) -> Parent:
    """Stand in for the mail of a commit, or of a file that has no message-id."""
    of = len(series.patches)
    title = patch.subject if patch is not None else series.subject
    author = patch.author if patch is not None else series.author
    number = f' {patch.n}/{of}' if patch is not None and of > 1 else ''
    return Parent('', f'[PATCH{number}] {title}', '', Envelope(author, (), (), None), ())


def _date(text: str) -> str:
    """Write a date in the form of RFC 5322, in its own time zone; '' where it is none."""
    try:
        read = parsedate_tz(text[:200])
        if read is None:
            return ''
        at, offset = mktime_tz(read), read[9] or 0
        if not (0 < at < LAST and abs(offset) < 86_400):
            return ''
        minutes = abs(offset) // 60
        zone = f'{"-" if offset < 0 else "+"}{minutes // 60:02}{minutes % 60:02}'
        return formatdate(at + offset).replace('-0000', zone)
    except (ValueError, TypeError, IndexError, OverflowError):
        return ''  # email.utils does not say what it raises of what a stranger wrote


def _file(mark: str, side: str, path: str | None) -> str:
    return quoted(f'{mark} /dev/null' if path is None else f'{mark} {side}/{path}', LONGEST_LINE)


def _index(hunk: Hunk, hit: Hit) -> int | None:
    """Which line of a hunk is the one that is meant."""
    skip = b'-' if hit.side == 'new' else b'+'
    number = hunk.new_start if hit.side == 'new' else hunk.old_start
    for at, line in enumerate(hunk.lines):
        if line[:1] == skip:
            continue
        if number == hit.line:
            return at
        number += 1
    return None


def _code(line: bytes) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode('latin-1')  # what the rest of the kernel's old files is in
    return quoted(text, LONGEST_LINE)
