"""
The mails that a review is worth: pure.

Answers what is written, to whom, and as what: one mail for each patch with
findings, in reply to that patch; one summary in reply to the cover letter
where more than `MANY` patches have some, or the series as a whole has. Whether
a mail goes at all is `policy.py`'s to say. The words around the findings are
Jinja2 templates (`bot/templates/`), which an operator can override; a
stranger's text comes into them as values only.

Whatever the text, the headers are made here: nothing that came from a mail
gets into one unless it was read as a subject, a name, an address or a
message-id, and is written anew.
"""

import hashlib
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.header import Header
from email.utils import formataddr, formatdate
from functools import lru_cache
from typing import Any

from jinja2 import DictLoader, StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import SandboxedEnvironment

from bot.envelope import Envelope, envelope
from bot.errors import ReplyError
from bot.model import (
    AppliedSeries,
    Author,
    Finding,
    Hit,
    Hunk,
    Mail,
    Patch,
    Review,
    Series,
    Step,
)
from bot.outgoing import Asked, History, Letterhead, Policy, Reply
from bot.plain import one_line, plain
from bot.policy import Recipients, asked_before, mentioned, recipients, rules

MANY = 4
"""Mails. Where more patches have findings, there is one summary instead."""
WIDTH = 72
BEFORE, AFTER = 5, 2
"""Lines of a hunk that are quoted around the line in question."""
GAP = '> [ ... ]'
LONGEST_LINE = 400
LONGEST_SUBJECT = 400
MOST_REFERENCES = 30
MOST_EVIDENCE = 5
LIMIT = 64 << 10
"""Characters of a mail. A longer one is cut, and says so."""
TEMPLATES = ('patch', 'summary', 'places', 'closing', 'signature')
MSGID = re.compile(r'[!-;=?-~]{1,900}')
LONGEST_WORD = 500
"""Characters of a message-id in a command: no line of a mail has more than 998 bytes."""
# Messages that begin with what the patch does.
VERB = re.compile(
    r'(?:adds|applies|assigns|breaks|builds|calls|casts|changes|describes|does|drops|ends|fails|fixes|'
    r'gains|has|hits|keeps|leaves|loses|makes|moves|names|needs|passes|prints|removes|renames|returns|'
    r'runs|says|sets|stores|takes|tests|touches|turns|uses|wants|writes) '
)
PROSE = re.compile(r'[a-z][a-z-]* ')


@dataclass(frozen=True)
class _Parent:
    """The mail that is answered. `msgid` is '' for a patch that was never mailed."""

    msgid: str
    subject: str
    date: str
    envelope: Envelope
    references: tuple[str, ...]


@dataclass(frozen=True)
class Writer:
    """
    What all mails share.

    `thread` are the mails of the series by message-id, `lists` the addresses
    that MAINTAINERS says are lists. `anyway`: the mails are only looked at.
    """

    policy: Policy
    letterhead: Letterhead
    history: History
    thread: Mapping[str, Mail]
    lists: frozenset[str] = frozenset()
    anyway: bool = False

    def first(self, series: Series) -> Envelope:
        """Return the envelope of a series' first mail."""
        return self._parent(series, 0).envelope

    def compose(self, review: Review) -> tuple[Reply, ...]:
        """
        Return the mails that a review is worth; none where there is nothing to say.

        Raises `ReplyError`: a template that does not work.
        """
        series = review.series
        if not isinstance(series, Series):
            return ()
        first = self._parent(series, 0)
        here = rules(self.policy, _addresses(first.envelope))
        found = mentioned(review.findings, here.severity, self.history)
        if not found:
            return ()
        numbers = sorted({one.hit.n for one in found})
        fixed = self._fixed(review)
        if len(numbers) > MANY or (0 in numbers and len(series.patches) > 1):
            body = self._summary(review, series, first, found, fixed)
            return self._replies(series, 0, first, body, found)
        if 0 in numbers:
            numbers = [1]  # of the one patch, and of the series that is no more than it
        replies: list[Reply] = []
        for n in numbers:
            mine = [one for one in found if one.hit.n in (0, n)]
            parent = self._parent(series, n)
            body = self._about_patch(review, series, parent, mine, () if replies else fixed)
            replies += self._replies(series, n, parent, body, mine)
        return tuple(replies)

    # --- what is said ---

    def _about_patch(
        self,
        review: Review,
        series: Series,
        parent: _Parent,
        found: Sequence[Finding],
        fixed: Sequence[str],
    ) -> str:
        places = self._places(review, series, found)
        if not places[0]['quote']:
            places[0]['quote'] = _quoted_subject(parent)
        values = {'wrote': _wrote(parent), 'places': places}
        return self._rendered('patch', review, series, fixed, values)

    def _summary(
        self,
        review: Review,
        series: Series,
        parent: _Parent,
        found: Sequence[Finding],
        fixed: Sequence[str],
    ) -> str:
        patches = []
        for n in sorted({one.hit.n for one in found}):
            patch = next((one for one in series.patches if one.n == n), None)
            mine = [one for one in found if one.hit.n == n]
            patches.append(
                {
                    'number': f'{n}/{len(series.patches)}',
                    'title': one_line(patch.subject) if patch is not None else '',
                    'places': self._places(review, series, mine),
                }
            )
        count = sum(1 for one in patches if one['title'])
        of = len(series.patches)
        values = {
            'wrote': _wrote(parent),
            'quote': _quoted_subject(parent),
            'intro': f'{count} of the {of} patches may want another look.'
            if count
            else 'The series as a whole may want another look.',
            'patches': patches,
        }
        return self._rendered('summary', review, series, fixed, values)

    def _rendered(
        self,
        name: str,
        review: Review,
        series: Series,
        fixed: Sequence[str],
        values: Mapping[str, Any],
    ) -> str:
        applied = review.applied
        assert applied is not None
        base = applied.base
        tree = base.tree.rstrip('/').rpartition('/')[2]
        why = base.why.replace(base.tree, tree)
        words = ['bot check']
        if series.patches and series.patches[0].commit is None:
            words.append(f'--base {base.commit[:12]}')
        if series.revision > 1 and series.msgid is not None:
            words.append(f'--revision {series.revision}')
        words.append(_word(series.msgid))
        everything = {
            'author': one_line(series.author.name or series.author.email),
            'title': one_line(series.subject),
            'base': f'{base.ref} {base.commit[:12]} ({one_line(why)})',
            'command': ' '.join(words),
            'fixed': list(fixed),
            'documentation': self.letterhead.documentation,
            'contact': self.letterhead.contact,
            'places': [],
            **values,
        }
        try:
            text = (
                _environment(tuple(sorted(self.letterhead.templates.items())))
                .get_template(name)
                .render(everything)
            )
        except TemplateError as error:
            raise _broken(getattr(error, 'name', None) or name, error) from error
        return _tidy(text)

    def _places(
        self, review: Review, series: Series, found: Sequence[Finding]
    ) -> list[dict[str, Any]]:
        """The quotes of a patch, each with what is said below it."""
        quoters: dict[int, _Quoter] = {}
        places: list[dict[str, Any]] = []
        last = None
        for finding in found:
            hit = finding.hit
            quoter = quoters.setdefault(hit.n, _Quoter(review, series, hit.n))
            if (hit.n, hit.path, hit.side, hit.line) != last:
                last = (hit.n, hit.path, hit.side, hit.line)
                places.append({'quote': quoter.upto(hit), 'findings': []})
            places[-1]['findings'].append(
                {
                    'text': self._said(finding),
                    'rule': finding.rule,
                    'severity': finding.severity.label,
                    'evidence': _evidence(hit),
                }
            )
        return places

    def _said(self, finding: Finding) -> str:
        text = sentence(finding.hit)
        before = asked_before(self.history).get(finding.fingerprint)
        if before is not None:
            text += f' I asked this of v{before.revision} too.'
        return f'{text} [{finding.rule}]'

    def _fixed(self, review: Review) -> tuple[str, ...]:
        """What earlier mails asked and is gone: only where all of it could be looked at."""
        if review.verdict == 'could-not-check':
            return ()
        there = {one.fingerprint for one in review.findings}
        there |= {one.finding.fingerprint for one in review.suppressed}
        return tuple(
            f'{one.rule}: {one_line(one.symbol or one.path or "the series", 100)} (v{one.revision})'
            for fingerprint, one in asked_before(self.history).items()
            if fingerprint not in there and one.rule not in self.history.acked
        )

    # --- the mail ---

    def _parent(self, series: Series, n: int) -> _Parent:
        """The mail of patch `n` (0: the cover letter, or the first patch)."""
        patch = next((one for one in series.patches if one.n == n), None)
        msgid = patch.msgid if patch is not None else series.msgid
        mail = self.thread.get(msgid) if msgid is not None else None
        if mail is None and n == 0 and series.msgid is None:
            patch = series.patches[0]
            mail = self.thread.get(patch.msgid) if patch.msgid is not None else None
        if mail is not None:
            return _Parent(
                mail.msgid if mail.msgid is not None and MSGID.fullmatch(mail.msgid) else '',
                mail.subject, mail.date, envelope(mail), mail.references,
            )  # fmt: skip
        return _unmailed(series, patch)

    def _replies(
        self, series: Series, n: int, parent: _Parent, body: str, found: Sequence[Finding]
    ) -> tuple[Reply, ...]:
        """Put a mail together; none where it would go to nobody."""
        to = recipients(
            parent.envelope, self.policy, self.history.opted_out, self.lists, anyway=self.anyway
        )
        if to.refused or not (parent.msgid or self.anyway):
            return ()  # it goes to nobody, or would stand beside what it answers
        said = (series.msgid or '', str(series.revision), str(n), parent.msgid, body)
        digest = hashlib.sha256('\0'.join(said).encode('utf-8', 'replace')).hexdigest()[:32]
        msgid = f'vma-bot-{digest}@{self.letterhead.address.rpartition("@")[2]}'
        subject = _subject(parent.subject)
        asked = tuple(
            Asked(series.revision, one.fingerprint, one.rule, one.hit.path, one.hit.symbol)
            for one in found
        )
        addresses = dict.fromkeys(one.email for one in (*to.to, *to.cc))
        raw = self._headers(parent, to, subject, msgid) + '\n' + body
        reply = Reply(
            n, msgid, parent.msgid, subject, tuple(addresses), to.lists,
            raw.encode('utf-8', 'replace'), asked,
        )  # fmt: skip
        return (reply,)

    def _headers(self, parent: _Parent, to: Recipients, subject: str, msgid: str) -> str:
        head = self.letterhead
        lines = [
            ('From', _people((Author(head.name, head.address),))),
            ('To', _people(to.to)),
            ('Cc', _people(to.cc)),
            ('Reply-To', head.reply_to),
            ('Subject', _encoded('Subject', subject)),
            ('Date', formatdate(self.history.now).replace('-0000', '+0000')),
            ('Message-ID', f'<{msgid}>'),
            ('In-Reply-To', f'<{parent.msgid}>' if parent.msgid else ''),
            ('References', _references(parent)),
            ('Auto-Submitted', 'auto-generated'),
            ('MIME-Version', '1.0'),
            ('Content-Type', 'text/plain; charset=utf-8'),
            ('Content-Transfer-Encoding', '8bit'),
        ]
        return ''.join(f'{name}: {value}\n' for name, value in lines if value)


class _Quoter:
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
            return [f'> {hit.path}'] if hit.path is not None else []
        lines: list[str] = []
        if hit.path != self.path:
            self.path, self.hunk = hit.path, None
            lines += [f'> --- {_named("a", diff.old_path)}', f'> +++ {_named("b", diff.new_path)}']
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
        lines += [_quoted(line) for line in hunk.lines[start:end]]
        self.done = max(self.done, end)
        return lines

    def _message(self, number: int | None) -> list[str]:
        text = self.cover or ''
        if self.patch is not None:
            text = f'{self.patch.subject}\n\n{self.patch.message}'
        lines = text.split('\n')
        if number is None or not 1 <= number <= len(lines):
            return [f'> {one_line(lines[0], 160)}'] if lines[0].strip() else []
        first = number - 1
        while first > 0 and number - first < 3 and lines[first - 1].strip():
            first -= 1
        return [f'> {plain(line, 160).rstrip()}' for line in lines[first:number]]


def sentence(hit: Hit) -> str:
    """Return a hit's message and advice as sentences of a mail."""
    message = plain(hit.message)
    if VERB.match(message):
        message = f'This {message}' if hit.n else f'This series {message}'
    elif PROSE.match(message) and not message.startswith(('struct ', 'union ', 'enum ')):
        message = message[:1].upper() + message[1:]
    advice = plain(hit.advice) if hit.advice else ''
    return ' '.join(
        text if text[-1:] in '.?!' else f'{text}.' for text in (message, advice) if text
    )


def _evidence(hit: Hit) -> list[str]:
    shown = [
        f'{one_line(one.path)}:{one.line}: {one_line(one.text, 160)}'
        for one in hit.evidence[:MOST_EVIDENCE]
    ]
    if len(hit.evidence) > MOST_EVIDENCE:
        shown.append(f'and {len(hit.evidence) - MOST_EVIDENCE} more')
    return shown


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


def _quoted(line: bytes) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode('latin-1')  # what the rest of the kernel's old files is in
    return f'> {plain(text, LONGEST_LINE)}'.rstrip()


def _quoted_subject(parent: _Parent) -> list[str]:
    return [f'> {one_line(parent.subject, 160)}']


def _named(side: str, path: str | None) -> str:
    return '/dev/null' if path is None else f'{side}/{one_line(path, LONGEST_LINE)}'


def _wrote(parent: _Parent) -> str:
    name = one_line(parent.envelope.sender.name or parent.envelope.sender.email, 80)
    date = one_line(parent.date, 60)
    return f'On {date}, {name} wrote:' if date else f'{name} wrote:'


def _tidy(text: str) -> str:
    """No trailing space but the signature's, no more than one empty line, not endless."""
    lines = [line if line == '-- ' else line.rstrip() for line in plain(text, LIMIT).split('\n')]
    tidy = re.sub(r'\n{3,}', '\n\n', '\n'.join(lines)).strip('\n')
    return f'{tidy}\n'


@lru_cache(maxsize=4)
def _environment(templates: tuple[tuple[str, str], ...]) -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        loader=DictLoader(dict(templates)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # plain text
    )
    environment.filters['wrap'] = _wrap
    return environment


def check_templates(templates: Mapping[str, str]) -> None:
    """Raise `ReplyError` where a template can't be parsed, with its name and line."""
    for name, text in templates.items():
        try:
            SandboxedEnvironment().parse(text)
        except TemplateError as error:
            raise _broken(getattr(error, 'name', None) or name, error) from error


def _broken(name: str, error: TemplateError) -> ReplyError:
    where = f' (line {error.lineno})' if isinstance(error, TemplateSyntaxError) else ''
    return ReplyError(f'template {name}{where}: {one_line(str(error))}')


def _wrap(text: str, width: int = WIDTH) -> str:
    return '\n'.join(
        textwrap.fill(paragraph, width, break_long_words=False, break_on_hyphens=False)
        for paragraph in str(text).split('\n')
    )


# --- headers ------------------------------------------------------------------


def _subject(subject: str) -> str:
    text = one_line(subject, LONGEST_SUBJECT)
    return text if re.match(r're:', text, re.I) else f'Re: {text}'


def _encoded(name: str, text: str) -> str:
    """Fold a header's text, as encoded words where it is not ASCII."""
    charset = 'us-ascii' if text.isascii() else 'utf-8'
    return Header(text, charset, header_name=name, maxlinelen=76).encode()


def _people(people: Iterable[Author]) -> str:
    written = []
    for one in people:
        name = one_line(one.name, 80)
        written.append(formataddr((name, one.email), 'utf-8'))
    return ',\n\t'.join(written)


def _references(parent: _Parent) -> str:
    known = [one for one in parent.references if MSGID.fullmatch(one) and one != parent.msgid]
    if len(known) > MOST_REFERENCES:
        known = [known[0], *known[-MOST_REFERENCES + 1 :]]
    return '\n\t'.join(f'<{one}>' for one in (*known, parent.msgid) if one)


def _addresses(read: Envelope) -> list[str]:
    return [one.email.lower() for one in (*read.to, *read.cc)]


def _unmailed(series: Series, patch: Patch | None) -> _Parent:
    """Stand in for the mail of a commit, or of a file that has no message-id."""
    of = len(series.patches)
    title = patch.subject if patch is not None else series.subject
    author = patch.author if patch is not None else series.author
    number = f' {patch.n}/{of}' if patch is not None and of > 1 else ''
    return _Parent('', f'[PATCH{number}] {title}', '', Envelope(author, (), (), None), ())


def _word(text: str | None) -> str:
    """Write a stranger's message-id so that a shell takes it as one word."""
    if text is None or len(text) > LONGEST_WORD or not text.isprintable():
        return 'SERIES'
    return text if re.fullmatch(r'[\w@.,:/+=%-]+', text) else "'" + text.replace("'", "'\\''") + "'"
