"""Threads as lists have them, made here, with what must be made of each."""

import base64
from dataclasses import dataclass, field

AUTHOR = 'A Developer <dev@example.org>'
REVIEWER = 'R Reviewer <rev@example.org>'


def diff(name: str, old: str = 'one', new: str = 'two') -> str:
    """A diff of one line in a file of its own."""
    return (
        f'diff --git a/mm/{name}.c b/mm/{name}.c\nindex 5626abf..f719efd 100644\n'
        f'--- a/mm/{name}.c\n+++ b/mm/{name}.c\n@@ -1 +1 @@\n-{old}\n+{new}\n'
    )


def mail(
    msgid: str,
    subject: str,
    *,
    parent: str | None = None,
    body: str = 'Why.\n',
    patch: str = '',
    author: str = AUTHOR,
    day: int = 1,
    headers: str = '',
    sign: bool = True,
) -> bytes:
    """One mail of a thread."""
    reply = f'In-Reply-To: <{parent}>\nReferences: <{parent}>\n' if parent else ''
    signed = f'\nSigned-off-by: {AUTHOR}\n' if patch and sign else ''
    text = f'{body}{signed}---\n mm/x.c | 2 +-\n\n{patch}-- \n2.39\n' if patch else body
    return (
        f'From: {author}\nTo: linux-mm@kvack.org\nSubject: {subject}\nMessage-ID: <{msgid}>\n{reply}'
        f'Date: Mon, {day:02} Jun 2026 10:00:00 +0000\n{headers}\n{text}'
    ).encode()


@dataclass(frozen=True)
class Thread:
    """
    A thread, and what is to be made of the message-id `ask`.

    `patches` are the message-ids of the series, in order; `reason` is why it is
    incomplete, where it is. `b4_differs` says why b4 alone chooses otherwise.
    """

    mails: list[bytes]
    ask: str
    patches: list[str] = field(default_factory=list)
    revision: int = 1
    reason: str | None = None
    trailers: dict[int, list[str]] = field(default_factory=dict)
    b4_differs: str | None = None


def two(
    prefix: str,
    tag: str = '',
    parent: str | None = None,
    *,
    names: str = '',
    day: int = 1,
    only: tuple[int, ...] = (0, 1, 2),
) -> list[bytes]:
    """A cover letter and two patches."""
    names = names or prefix
    cover = f'{prefix}-0@example.org'
    made = [
        mail(cover, f'[PATCH{tag} 0/2] mm: {names}', parent=parent, body='Both.\n', day=day),
        *(
            mail(
                f'{prefix}-{n}@example.org', f'[PATCH{tag} {n}/2] mm: {names} {n}', parent=cover,
                patch=diff(f'{names}{n}', new=f'two of {prefix}'), day=day,
            )
            for n in (1, 2)
        ),
    ]  # fmt: skip
    return [one for n, one in enumerate(made) if n in only]


def ids(prefix: str, count: int = 2) -> list[str]:
    """The message-ids of a series' patches."""
    return [f'{prefix}-{n}@example.org' for n in range(1, count + 1)]


def _acked(name: str, author: str = REVIEWER) -> str:
    return f'On Monday somebody wrote:\n> Why.\n\nAcked-by: {name}\n'


LATIN = 'From: =?iso-8859-1?q?J=F6rg_M=FCller?= <jm@example.org>'

THREADS: dict[str, Thread] = {
    'two-revisions-in-one-thread': Thread(
        [*two('one-v1', names='one'), *two('one-v2', ' v2', 'one-v1-0@example.org', names='one', day=2)],
        'one-v1-0@example.org', ids('one-v2'), 2,
    ),
    'two-revisions-in-two-threads': Thread(
        [*two('sep-v1', names='sep'), *two('sep-v2', ' v2', names='sep', day=2)],
        'sep-v1-1@example.org', ids('sep-v1'), 1,
    ),
    'a-revision-as-reply-to-the-last-patch': Thread(
        [*two('rep-v1', names='rep'), *two('rep-v2', ' v2', 'rep-v1-2@example.org', names='rep', day=2)],
        'rep-v2-1@example.org', ids('rep-v2'), 2,
    ),
    'a-patch-is-missing': Thread(
        two('mis', only=(0, 1)), 'mis-0@example.org', reason='patch 2 of 2 is missing',
    ),
    'a-patch-arrives-late': Thread(
        [*two('late', only=(0, 2)), *two('late', only=(1,), day=9)], 'late-0@example.org', ids('late'),
    ),
    'a-partial-reroll': Thread(
        [*two('roll', names='roll'),
         mail('roll-2b@example.org', '[PATCH v2 2/2] mm: roll 2', parent='roll-2@example.org',
              patch=diff('roll2', new='better'), day=2)],
        'roll-0@example.org', ['roll-1@example.org', 'roll-2b@example.org'], 2,
    ),
    'many-words-in-the-brackets': Thread(
        [mail(f'brk-{n}@example.org', f'[PATCH RFC net-next v3 {n:02}/10] mm: brk {n}',
              parent=None if n == 1 else 'brk-1@example.org', patch=diff(f'brk{n}'))
         for n in range(1, 11)],
        'brk-1@example.org', ids('brk', 10), 3,
    ),
    'a-cover-letter-in-html': Thread(
        [mail('htm-0@example.org', '[PATCH 0/1] mm: htm', body='<p>Both.</p>\n',
              headers='Content-Type: text/html; charset=utf-8\n'),
         mail('htm-1@example.org', '[PATCH 1/1] mm: htm 1', parent='htm-0@example.org', patch=diff('htm'))],
        'htm-0@example.org', ids('htm', 1),
    ),
    'one-patch-without-a-cover': Thread(
        [mail('one@example.org', '[PATCH] mm: single', patch=diff('single'))],
        'one@example.org', ['one@example.org'],
    ),
    'a-patch-sent-twice': Thread(
        [*two('twi'), mail('twi-1b@example.org', '[PATCH 1/2] mm: twi 1', parent='twi-0@example.org',
                           patch=diff('twi1', new='two of twi'))],
        'twi-0@example.org', ids('twi'),
        b4_differs='b4 takes the second one for the start of a v2 that lacks the rest',
    ),
    'a-reply-with-a-diff-in-it': Thread(
        [*two('dif'), mail('dif-r@example.org', 'Re: [PATCH 1/2] mm: dif 1', parent='dif-1@example.org',
                           author=REVIEWER, body='Like this?\n\n' + diff('dif1', new='three'))],
        'dif-0@example.org', ids('dif'),
    ),
    'trailers-in-replies': Thread(
        [*two('tra'),
         mail('tra-r0@example.org', 'Re: [PATCH 0/2] mm: tra', parent='tra-0@example.org',
              author=REVIEWER, body=_acked(REVIEWER)),
         mail('tra-r1@example.org', 'Re: [PATCH 1/2] mm: tra 1', parent='tra-1@example.org',
              author='T Tester <tst@example.org>', body=_acked('x').replace(
                  'Acked-by: x', 'Tested-by: T Tester <tst@example.org>')),
         # For somebody else: b4 does not take these, nor do we.
         mail('tra-r2@example.org', 'Re: [PATCH 2/2] mm: tra 2', parent='tra-2@example.org',
              author=REVIEWER, body=_acked('Somebody Else <else@example.com>'))],
        'tra-0@example.org', ids('tra'),
        trailers={
            1: [f'Signed-off-by: {AUTHOR}', 'Tested-by: T Tester <tst@example.org>',
                f'Acked-by: {REVIEWER}'],
            2: [f'Signed-off-by: {AUTHOR}', f'Acked-by: {REVIEWER}'],
        },
    ),
    'a-series-sent-again': Thread(
        [*two('res', ' RESEND', day=2)], 'res-0@example.org', ids('res'),
    ),
    'a-b4-change-id': Thread(
        [mail('chg-0@example.org', '[PATCH v4 0/1] mm: chg',
              body='Both.\n\n---\nbase-commit: ' + 'a' * 40 + '\nchange-id: 20260601-chg-0123456789ab\n\n'
                   'Best regards,\n-- \nA Developer <dev@example.org>\n'),
         mail('chg-1@example.org', '[PATCH v4 1/1] mm: chg 1', parent='chg-0@example.org', patch=diff('chg'))],
        'chg-1@example.org', ids('chg', 1), 4,
    ),
    'base64-with-crlf': Thread(
        [b'From: A Developer <dev@example.org>\nSubject: [PATCH] mm: b64\nMessage-ID: <b64@example.org>\n'
         b'Date: Mon, 01 Jun 2026 10:00:00 +0000\nContent-Type: text/plain; charset=utf-8\n'
         b'Content-Transfer-Encoding: base64\n\n'
         + base64.encodebytes(f'Why.\n---\n{diff("b64")}'.replace('\n', '\r\n').encode())],
        'b64@example.org', ['b64@example.org'],
    ),
    'a-latin-1-author': Thread(
        [mail('lat@example.org', '[PATCH] mm: lat', patch=diff('lat')).replace(
            b'From: A Developer <dev@example.org>', LATIN.encode())],
        'lat@example.org', ['lat@example.org'],
    ),
    'two-replies-naming-each-other': Thread(
        [mail('lop@example.org', '[PATCH] mm: lop', patch=diff('lop')),
         mail('lop-a@example.org', 'Re: [PATCH] mm: lop', author=REVIEWER, body=_acked(REVIEWER),
              headers='In-Reply-To: <lop-b@example.org>\nReferences: <lop@example.org> <lop-b@example.org>\n'),
         mail('lop-b@example.org', 'Re: [PATCH] mm: lop', author=REVIEWER, body=_acked(REVIEWER),
              headers='In-Reply-To: <lop-a@example.org>\nReferences: <lop@example.org> <lop-a@example.org>\n')],
        'lop@example.org', ['lop@example.org'],
        b4_differs='b4 hangs; it is asked again without the answers',
    ),
    'control-characters-in-the-diff': Thread(
        [mail('rtl@example.org', '[PATCH] mm: rtl', patch=diff('rtl', new='two \u202e evil'))],
        'rtl@example.org', ['rtl@example.org'],
        b4_differs='b4 exits; it is shown the mail without them',
    ),
    'no-message-id': Thread(
        # b4 raises on such a mail, so it is left out; the rest of its thread is judged.
        [mail('x', '[PATCH 1/1] mm: noid', patch=diff('noid'), parent='noid-0@example.org').replace(
            b'Message-ID: <x>\n', b''),
         mail('noid-0@example.org', '[PATCH 0/1] mm: noid', body='Both.\n')],
        'noid-0@example.org', reason='no patch in this thread',
        b4_differs='b4 raises; the mail is left out',
    ),
    'only-words': Thread(
        [mail('wrd@example.org', 'a question about mm', body='How does it work?\n')],
        'wrd@example.org', reason='no patch in this thread',
    ),
    'prerequisite-series': Thread(
        [mail('pre-1@example.org', '[PATCH 1/1] mm: pre 1', patch=diff('below', 'one', 'two'))],
        'pre-1@example.org', ['pre-1@example.org'],
    ),
    'prerequisite-with-a-change-id': Thread(
        [mail('prc-0@example.org', '[PATCH v2 0/1] mm: prc', body='x\n\n---\nchange-id: 20260602-prc-1\n'),
         mail('prc-1@example.org', '[PATCH v2 1/1] mm: prc 1', parent='prc-0@example.org',
              patch=diff('below', 'one', 'two'))],
        'prc-0@example.org', ['prc-1@example.org'], 2,
    ),
}  # fmt: skip
