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
message-id, and is written anew. In the body it is quoted (`quote.py`), or a
name in a sentence of ours (`voice.py`).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.charset import SHORTEST, Charset
from email.header import Header
from email.utils import formataddr, formatdate
from functools import lru_cache
from typing import Any

from jinja2 import DictLoader, StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import SandboxedEnvironment

from bot.envelope import Envelope, envelope
from bot.errors import ReplyError
from bot.model import (
    Author,
    Finding,
    Hit,
    Mail,
    Review,
    Series,
)
from bot.outgoing import Asked, History, Letterhead, Policy, Reply
from bot.output.wording import untested
from bot.plain import one_line, plain
from bot.policy import Recipients, asked_before, mentioned, recipients, rules
from bot.quote import Parent, Quoter, evidence, name_of, unmailed, wrote
from bot.voice import LONGEST_SENTENCE, fits, fold, quoted, settled, shown, theirs

MANY = 4
"""Mails. Where more patches have findings, there is one summary instead."""
LONGEST_SUBJECT = 400
MOST_REFERENCES = 30
LIMIT = 64 << 10
"""Characters of a mail. A longer one is cut, and says so."""
# Whatever a library makes of email's registry (b4 does).
UTF_8 = Charset('utf-8')
UTF_8.header_encoding = SHORTEST
TEMPLATES = ('patch', 'summary', 'places', 'closing', 'signature')
MSGID = re.compile(r'[!-;=?-~]{1,900}')
# One that every shell takes as one word, and no program for an option.
WORD = re.compile(r'[A-Za-z0-9][\w.+=%/-]{0,200}@[\w.-]{1,200}', re.A)
# Messages that begin with what the patch does.
VERB = re.compile(
    r'(?:adds|applies|assigns|breaks|builds|calls|casts|changes|describes|does|drops|ends|fails|fixes|'
    r'gains|has|hits|keeps|leaves|loses|makes|moves|names|needs|passes|prints|removes|renames|returns|'
    r'runs|says|sets|stores|takes|tests|touches|turns|uses|wants|writes) '
)
PROSE = re.compile(r'[a-z][a-z-]* ')


@dataclass(frozen=True)
class Writer:
    """
    What all mails share.

    `thread` are the mails of the series by message-id, `lists` the addresses
    that MAINTAINERS says are lists, `people` those whom it names for the files.
    `anyway`: the mails are only looked at.
    """

    policy: Policy
    letterhead: Letterhead
    history: History
    thread: Mapping[str, Mail]
    lists: frozenset[str] = frozenset()
    people: frozenset[str] = frozenset()
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
        parent: Parent,
        found: Sequence[Finding],
        fixed: Sequence[str],
    ) -> str:
        places = self._places(review, series, found)
        if not places[0]['quote']:
            places[0]['quote'] = [quoted(parent.subject, 160)]
        values = {'wrote': wrote(parent), 'places': places}
        return self._rendered('patch', review, series, fixed, values)

    def _summary(
        self,
        review: Review,
        series: Series,
        parent: Parent,
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
                    'title': theirs(patch.subject, 160) if patch is not None else '',
                    'places': self._places(review, series, mine),
                }
            )
        count = sum(1 for one in patches if one['title'])
        of = len(series.patches)
        values = {
            'wrote': wrote(parent),
            'quote': [quoted(parent.subject, 160)],
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
        words.append(_word(series))
        everything = {
            'author': name_of(series.author),
            'title': theirs(series.subject),
            'base': f'{theirs(base.ref)} {base.commit[:12]} ({why if fits(why) else theirs(why)})',
            'command': ' '.join(words),
            'fixed': list(fixed),
            'untested': untested(review),
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
        quoters: dict[int, Quoter] = {}
        places: list[dict[str, Any]] = []
        last = None
        for finding in found:
            hit = finding.hit
            quoter = quoters.setdefault(hit.n, Quoter(review, series, hit.n))
            if (hit.n, hit.path, hit.side, hit.line) != last:
                last = (hit.n, hit.path, hit.side, hit.line)
                places.append({'quote': quoter.upto(hit), 'findings': []})
            places[-1]['findings'].append(
                {
                    'text': self._said(finding),
                    'rule': finding.rule,
                    'severity': finding.severity.label,
                    'evidence': evidence(hit),
                }
            )
        return places

    def _said(self, finding: Finding) -> str:
        text = sentence(finding.hit)
        if not fits(text):
            text = theirs(text, LONGEST_SENTENCE)
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
            shown(f'{one.rule}: {one.symbol or one.path or "the series"} (v{one.revision})')
            for fingerprint, one in asked_before(self.history).items()
            if fingerprint not in there and one.rule not in self.history.acked
        )

    # --- the mail ---

    def _parent(self, series: Series, n: int) -> Parent:
        """The mail of patch `n` (0: the cover letter, or the first patch)."""
        patch = next((one for one in series.patches if one.n == n), None)
        msgid = patch.msgid if patch is not None else series.msgid
        mail = self.thread.get(msgid) if msgid is not None else None
        if mail is None and n == 0 and series.msgid is None:
            patch = series.patches[0]
            mail = self.thread.get(patch.msgid) if patch.msgid is not None else None
        if mail is not None:
            return Parent(
                mail.msgid if mail.msgid is not None and MSGID.fullmatch(mail.msgid) else '',
                mail.subject, mail.date, envelope(mail), mail.references,
            )  # fmt: skip
        return unmailed(series, patch)

    def _replies(
        self, series: Series, n: int, parent: Parent, body: str, found: Sequence[Finding]
    ) -> tuple[Reply, ...]:
        """Put a mail together; none where it would go to nobody."""
        to = recipients(
            parent.envelope, self.policy, self.history.opted_out, self.lists, self.people,
            anyway=self.anyway,
        )  # fmt: skip
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

    def _headers(self, parent: Parent, to: Recipients, subject: str, msgid: str) -> str:
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


def _tidy(text: str) -> str:
    """No trailing space but the signature's, no more than one empty line, not endless."""
    whole = plain(settled(text), LIMIT)
    lines = [line if line == '-- ' else line.rstrip() for line in whole.split('\n')]
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
    environment.filters['wrap'] = fold
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


# --- headers ------------------------------------------------------------------


def _subject(subject: str) -> str:
    text = one_line(subject, LONGEST_SUBJECT)
    return text if re.match(r're:', text, re.I) else f'Re: {text}'


def _encoded(name: str, text: str) -> str:
    """Fold a header's text, as encoded words where it is not ASCII."""
    return Header(
        text, 'us-ascii' if text.isascii() else UTF_8, header_name=name, maxlinelen=76
    ).encode()


def _people(people: Iterable[Author]) -> str:
    written = []
    for one in people:
        name = one_line(one.name, 80)
        written.append(formataddr((name, one.email), UTF_8))
    return ',\n\t'.join(written)


def _references(parent: Parent) -> str:
    known = [one for one in parent.references if MSGID.fullmatch(one) and one != parent.msgid]
    if len(known) > MOST_REFERENCES:
        known = [known[0], *known[-MOST_REFERENCES + 1 :]]
    return '\n\t'.join(f'<{one}>' for one in (*known, parent.msgid) if one)


def _addresses(read: Envelope) -> list[str]:
    return [one.email.lower() for one in (*read.to, *read.cc)]


def _word(series: Series) -> str:
    """Name a series for a command line; by a file where its message-id is no plain word."""
    if series.msgid is None:
        return 'SERIES'
    return f'-- {series.msgid}' if WORD.fullmatch(series.msgid) else 'series.mbox'
