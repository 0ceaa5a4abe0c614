"""Reviews and mails to write replies to: what the tests of replies and policy share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from email import message_from_bytes
from email.policy import default
from typing import Any

from bot.config import load
from bot.model import AppliedSeries, Base, Finding, Hit, Mail, Patch, Review, Series, Severity
from bot.outgoing import History, Letterhead, Policy, Reply
from bot.rule import Case, Edit, Rule, finding_of, subject_of
from bot.series import parse_mail

LIST = 'linux-mm@kvack.org'
OTHER_LIST = 'linux-kernel@vger.kernel.org'
AUTHOR = 'Ann Author <ann@example.org>'
MAINTAINER = 'Mo Maintainer <mo@example.net>'
NOW = 1_774_000_000.0 + 7200
POSTED = 1_774_000_000.0
POLICY = Policy(mode='send', address='vma-bot@bot.example', lists=(LIST,))
LETTERHEAD = Letterhead(
    'vma-bot@bot.example', 'VMA review bot', 'humans@bot.example',
    'https://bot.example/authors', 'humans@bot.example', load().letterhead.templates,
)  # fmt: skip
HISTORY = History(now=NOW, started=1.0, posted=POSTED)
BASE = Base('linux', 'mm-unstable', '5f6b1d6f1c9ad3c8ab15f8eb29ee6c8e4bd11ff0', 'a ref of linux')

FILE = 'mm/vma.c'
BEFORE = ''.join(f'int line_{n};\n' for n in range(1, 41))


def edited(**lines: str) -> str:
    """`BEFORE` with lines replaced: `line_12='…'`; '' takes one away."""
    text = BEFORE
    for name, new in lines.items():
        text = text.replace(f'int {name};\n', new and f'{new}\n')
    return text


def hit(line: int | None, message: str = 'drops const from mm', **more: Any) -> Hit:
    """A hit in `FILE` of patch 1, unless told otherwise."""
    return replace(Hit(1, FILE, line, message, 'Could the copy change too?'), **more)


def finding(
    one: Hit, rule: str = 'vma-test-drift', severity: Severity = Severity.WARNING
) -> Finding:
    """Stamp a hit, as the engine does."""
    made = finding_of(Rule(rule, severity, lambda _: iter(()), (), ()), one)
    return replace(made, severity=one.severity or severity)


def mail(
    msgid: str,
    subject: str,
    body: str = 'Hello.\n',
    *,
    parents: Sequence[str] = (),
    author: str = AUTHOR,
    to: str = MAINTAINER,
    cc: str = f'{LIST}, {OTHER_LIST}',
    more: str = '',
) -> Mail:
    """A mail of a series."""
    heads = [f'From: {author}', 'Date: Fri, 20 Mar 2026 09:46:40 +0000', f'To: {to}']
    heads += [f'Cc: {cc}'] if cc else []
    heads += [f'Message-ID: <{msgid}>'] if msgid else []
    if parents:
        heads.append(f'In-Reply-To: <{parents[-1]}>')
        heads.append('References: ' + '\n '.join(f'<{one}>' for one in parents))
    heads += [f'Subject: {subject}', *([more] if more else [])]
    return parse_mail(('\n'.join(heads) + f'\n\n{body}').encode())


def reviewed(
    texts: Sequence[str],
    findings: Sequence[Finding],
    *,
    revision: int = 1,
    cover: bool | None = None,
    messages: Mapping[int, str] | None = None,
    **more: str,
) -> Review:
    """
    Review a series, one text of `FILE` a patch, each mailed in reply to the cover letter.

    `more` goes to each mail (`author`, `to`, `cc`, …).
    """
    of = len(texts)
    cover = of > 1 if cover is None else cover
    edits = tuple(Edit({FILE: text}, f'mm: change {n}') for n, text in enumerate(texts, 1))
    subject = subject_of(Case({FILE: BEFORE}, edits))
    tag = f'PATCH v{revision}' if revision > 1 else 'PATCH'
    mails = []
    root: tuple[str, ...] = ()
    if cover:
        mails.append(mail('cover@x', f'[{tag} 0/{of}] mm: change it all', **more))
        root = ('cover@x',)
    patches: list[Patch] = []
    for n, patch in enumerate(subject.series.patches, 1):
        count = f' {n}/{of}' if of > 1 else ''
        msgid = f'patch-{n}@x'
        message = (messages or {}).get(n, 'Because.')
        mails.append(mail(msgid, f'[{tag}{count}] mm: change {n}', message, parents=root, **more))
        author = mails[-1].author
        patches.append(replace(patch, msgid=msgid, message=message, author=author))
        root = root or (msgid,)
    series = Series(
        mails[0].msgid,
        'mm: change it all' if cover else 'mm: change 1',
        mails[0].author,
        revision,
        tuple(patches),
        'Hello.\n' if cover else None,
    )
    applied = subject.applied
    assert isinstance(applied, AppliedSeries)
    applied = replace(applied, series=series, base=BASE)
    order = sorted(findings, key=lambda one: (one.hit.n, one.hit.path or '', one.hit.line or 0))
    return Review(series, applied, tuple(order), thread=tuple(mails))


def well_formed(reply: Reply) -> None:
    """What every mail of ours is, whatever it answers."""
    assert b'\r' not in reply.raw
    assert b'\0' not in reply.raw
    assert max(len(line) for line in reply.raw.split(b'\n')) <= 998
    head, _, body = reply.raw.partition(b'\n\n')
    assert head.isascii()
    read = message_from_bytes(reply.raw, policy=default)
    assert read.defects == []
    assert not any(value.defects for value in read.values())
    assert read['Message-ID'] == f'<{reply.msgid}>'
    assert read['Auto-Submitted'] == 'auto-generated'
    assert [name.lower() for name in read].count('subject') == 1
    assert read['In-Reply-To'] == (f'<{reply.parent}>' if reply.parent else None)
    for line in body.decode().split('\n'):
        code = line.startswith(('> ', '| ', '  ')) or ' ' not in line
        assert code or len(line) <= 72, line
