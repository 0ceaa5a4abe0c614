"""
Mails of strangers, from the list to what goes out: nothing that policy does not allow, no crash.

All of it is ours and real but the judgement (one remark a patch), the server
that mails are handed to, and the archive that brings them back.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.policy import default
from email.utils import formatdate
from pathlib import Path

import pytest

from bot.assembly import Letter
from bot.attest import Attester
from bot.daemon import Watcher, Worker
from bot.mail import unfit
from bot.mirror import Arrival
from bot.model import AppliedSeries, Review, Scope, Series
from bot.outgoing import Accepted, Delivery, Policy, Smtp, TryLater
from bot.respond import Response, respond
from bot.rule import Case, Edit, subject_of
from bot.sender import Sender
from bot.series import assemble, parse_mail
from bot.store import Fault, Store, Taken
from bot.store.database import opened
from tests.attesting import published, signed
from tests.lettering import telling
from tests.replying import BASE, BEFORE, FILE, LETTERHEAD, LIST, edited, finding, hit

NOW = 1_774_000_000.0
US = 'vma-bot@bot.example'
POLICY = Policy(mode='send', address=US, lists=(LIST,))
SCOPE = Scope(paths=('mm/vma*',), symbols=(), subjects=())
MAINTAINERS = f'MM\nM:\tMo <mo@example.net>\nL:\t{LIST}\nF:\tmm/\n'
PATCH = (
    'Because.\n\nSigned-off-by: A Developer <dev@example.org>\n---\n'
    'diff --git a/mm/vma.c b/mm/vma.c\n--- a/mm/vma.c\n+++ b/mm/vma.c\n'
    '@@ -12 +12 @@\n-int line_12;\n+long line_12;\n'
)
HEADERS = {
    'From', 'To', 'Cc', 'Reply-To', 'Subject', 'Date', 'Message-ID', 'In-Reply-To', 'References',
    'Auto-Submitted', 'MIME-Version', 'Content-Type', 'Content-Transfer-Encoding',
}  # fmt: skip


def raw(
    msgid: str = 'a@x',
    subject: str = '[PATCH] mm: a',
    body: str = PATCH,
    *parents: str,
    author: str = 'A Developer <dev@example.org>',
    to: str = LIST,
    date: str = formatdate(NOW),
    more: str = '',
) -> bytes:
    """A mail as it lies in the archive."""
    heads = [f'From: {author}', f'To: {to}', f'Date: {date}', f'Subject: {subject}']
    heads += [f'Message-ID: <{msgid}>'] if msgid else []
    if parents:
        heads.append(f'In-Reply-To: <{parents[-1]}>')
        heads.append('References: ' + ' '.join(f'<{one}>' for one in parents))
    heads += [more] if more else []
    return ('\n'.join(heads) + f'\n\n{body}').encode('utf-8', 'surrogateescape')


@dataclass
class Exchange:
    """The list, and the bot on it. `answers` is what others say to a mail of ours."""

    store: Store
    clock: Callable[[], float]
    policy: Policy = POLICY
    answers: Callable[[bytes], Sequence[bytes]] = lambda _: ()
    went: list[tuple[tuple[str, ...], bytes]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def post(self, *mails: bytes) -> None:
        """The list has new mails."""
        watcher = Watcher(
            self.store, (), SCOPE, 0, 0, 0, self.clock, telling(self.said),
            Attester(5, look=published).own,
        )  # fmt: skip
        read = [watcher._read(Arrival('c', 0, one)) for one in mails]
        letters = [one for one in read if isinstance(one, Letter)]
        faults = [one for one in read if isinstance(one, Fault)]
        self.store.take_in('linux-mm', letters, None, faults)
        watcher.attest()

    def rounds(self, count: int = 3) -> list[bytes]:
        """Work and send, so often; what went. The list brings it back, and answers to it."""
        for _ in range(count):
            for series in self.store.due():
                Worker(self.store, self._judge, 0, telling(self.said)).one(series)
            before = len(self.went)
            self._sender().once()
            sent = [one for _, one in self.went[before:]]
            self.post(*sent, *(mail for one in sent for mail in self.answers(one)))
        assert [line for line in self.said if 'failed' in line] == []
        return [one for _, one in self.went]

    def decision(self, series: int = 1) -> str:
        decided = self.store.decision(series)
        assert decided is not None
        return ': '.join(decided)

    def _judge(self, taken: Taken) -> tuple[Review, Response]:
        thread = tuple(parse_mail(one) for one in taken.mails)
        series = assemble(thread)
        assert isinstance(series, Series)
        edits = tuple(
            Edit({FILE: edited(line_12=f'long line_{patch.n};')}) for patch in series.patches
        )
        subject = subject_of(Case({FILE: BEFORE, 'MAINTAINERS': MAINTAINERS}, edits))
        assert isinstance(subject.applied, AppliedSeries)
        applied = replace(subject.applied, series=series, base=BASE)
        found = tuple(finding(hit(12, n=patch.n)) for patch in series.patches)
        review = Review(series, applied, found, thread=thread)
        history = self.store.outbox.history(taken.series)
        return review, respond(review, self.policy, LETTERHEAD, history)

    def _sender(self) -> Sender:
        return Sender(
            self.store.outbox, self, Smtp('mx.example'), self.policy, lambda _: False, 600.0,  # type: ignore[arg-type]  # it stands for a Mailer
            self.clock, lambda: False, telling(self.said),
        )  # fmt: skip

    def send(
        self, sender: str, recipients: list[str], raw: bytes, claim: Callable[[], bool]
    ) -> Delivery:
        """What the mail server gets. Whatever it is, it is a mail that we may send."""
        if not claim():
            return TryLater('no longer wanted')
        assert unfit(raw) is None
        read = message_from_bytes(raw, policy=default)
        assert set(read.keys()) <= HEADERS
        assert len(set(read.keys())) == len(read.keys())
        assert sender == US
        assert US not in recipients
        named = {
            one.addr_spec for name in ('To', 'Cc') if read[name] for one in read[name].addresses
        }
        assert set(recipients) == named
        assert len(recipients) <= 61
        assert LIST in recipients
        assert not set('\u202e\x1b\0') & set(raw.decode())
        assert len(raw) < 1 << 17
        self.went.append((tuple(recipients), raw))
        return Accepted()


@contextmanager
def exchange(url: str) -> Iterator[Exchange]:
    times = itertools.count()
    store = Store(opened(url), lambda: NOW + 60 + next(times) / 1000)
    store.first_start(NOW - 30 * 86400)
    try:
        yield Exchange(store, store._clock)
    finally:
        store.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Exchange]:
    with exchange(f'sqlite:///{tmp_path / "state.db"}') as made:
        yield made


def test_an_ordinary_patch_is_answered_once(here: Exchange) -> None:
    here.post(raw())
    (reply,) = here.rounds()
    assert here.went[0][0] == ('dev@example.org', LIST)
    assert b'In-Reply-To: <a@x>' in reply
    assert [one.state for one in here.store.outbox.rows()] == ['sent']


ENCODED = '=?utf-8?q?=5BPATCH=5D_a=0D=0ABcc=3A_all=40example=2Eorg?='
MANY = ', '.join(f'victim{n}@example.com' for n in range(5000))
STRANGE = {
    'folded subject': raw(subject='[PATCH] a\n Bcc: all@example.org\n\tX: y'),
    'encoded subject': raw(subject=ENCODED),
    'nul in a subject': raw(subject='=?utf-8?q?=5BPATCH=5D_a=00b=1B=5B31m?='),
    'bad bytes in a subject': raw(subject='[PATCH] \udcff\udcfe mm \udc80'),
    'surrogates in a subject': raw(subject='=?utf-8?b?W1BBVENIXSDtoIA=?='),
    'endless subject': raw(subject=f'[PATCH] {"x" * (1 << 20)}'),
    'endless words': raw(subject=f'[PATCH] {"ü " * (1 << 19)}'),
    'encoded name': raw(author='=?utf-8?q?A=0ABcc:_all=40example.org?= <dev@example.org>'),
    'quoted name': raw(author='"A\\" <x@y.z>, \\"B" <dev@example.org>'),
    'nul in a name': raw(author='=?utf-8?q?A=00=E2=80=AEB?= <dev@example.org>'),
    'two froms': raw(more='From: Mo <mo@example.net>'),
    'message-id with brackets': raw(msgid='a@x> <b@x'),
    'message-id with controls': raw(msgid='a\x1b[31m@x'),
    'message-id with a line end': raw(msgid='a@x>\n <b@x'),
    'long message-id': raw(msgid=f'{"a" * 990}@x'),
    'nul in a message-id': raw(msgid='a\0b@x'),
    'not ascii in a message-id': raw(msgid='ä@x'),
    'message-id for a shell': raw(msgid="$(reboot)';`x`@x"),
    'references': raw('a@x', '[PATCH] a', PATCH, 'b@x>\n Bcc: <c@x', '\x1b]0;x@x'),
    'many references': raw('a@x', '[PATCH] a', PATCH, *(f'{n}.{"r" * 200}@x' for n in range(2000))),
    'reply-to a victim': raw(more='Reply-To: victim@example.com\nErrors-To: victim@example.com'),
    'sender and return-path': raw(more='Sender: victim@example.com\nReturn-Path: <v@example.com>'),
    'address with a line end': raw(to=f'"a\r\nBcc: v@example.com" <b@example.org>, {LIST}'),
    'date in the future': raw(date='Fri, 20 Mar 2126 09:46:40 +0000'),
    'recode': raw(more='Content-Type: text/plain; charset=utf-7\nContent-Transfer-Encoding: x'),
    'nul in a body': raw(body=PATCH.replace('Because.', 'Be\0cause.\x1b[2J\u202e')),
    'templates': raw(subject='[PATCH] {{ 7 * 7 }}{% for x in y %}'),
}  # fmt: skip


@pytest.mark.parametrize('name', STRANGE)
def test_a_strange_patch_gets_one_plain_answer_at_most(here: Exchange, name: str) -> None:
    one_at_most(here, STRANGE[name])


@pytest.mark.parametrize('name', [name for name in STRANGE if name.startswith('nul ')])
def test_every_database_can_hold_it(database: str, name: str) -> None:
    with exchange(database) as here:
        one_at_most(here, STRANGE[name])


def one_at_most(here: Exchange, mail: bytes) -> None:
    here.post(mail)
    for reply in here.rounds(2):
        to = set(here.went[0][0])
        assert to <= {'dev@example.org', 'mo@example.net', 'b@example.org', LIST}
        assert message_from_bytes(reply, policy=default).defects == []
    assert len(here.went) <= 1
    # What comes behind it is served as ever.
    here.post(raw('next@x', '[PATCH] mm: next', author='next@example.org'))
    assert b'In-Reply-To: <next@x>' in here.rounds(1)[-1]


@pytest.mark.parametrize(
    ('mail', 'why'),
    [
        (raw(author=f'Bot <{US.upper()}>'), 'from ourselves'),
        (raw(more=f'X-Original-From: {US}'), 'from ourselves'),
        (raw(author='kernel test robot <lkp@intel.example>'), 'from a bot, lkp@intel.example'),
        (raw(more='Auto-Submitted: auto-generated'), 'not from a person: Auto-Submitted: auto-g'),
        (raw(more='Auto-Submitted: auto-replied; x'), 'not from a person: Auto-Submitted: auto-r'),
        (raw(more='Precedence: bulk'), 'not from a person: Precedence: bulk'),
        (raw(more='Precedence: junk\nList-Id: x'), 'not from a person: Precedence: junk'),
        (raw(more='Return-Path: <>'), 'not from a person: a bounce'),
        (raw(author='MAILER-DAEMON@example.org'), 'not from a person: a bounce'),
        (raw(to='linux-kernel@vger.kernel.org'), 'no list that it went to has consented'),
        (raw(to='undisclosed-recipients:;'), 'no list that it went to has consented'),
        (raw(author=''), 'its author has no address'),
        (raw(author='dev@localhost'), 'its author has no address'),
        (raw(date=formatdate(NOW - 10 * 86400)), 'older than 3 days'),
        (raw(date='yesterday'), 'when it was posted can not be believed'),
        (raw(date='Thu, 01 Jan 1970 00:00:00 +0000'), 'when it was posted can not be believed'),
    ],
)  # fmt: skip
def test_nothing_is_said_to(here: Exchange, mail: bytes, why: str) -> None:
    here.post(mail)
    assert here.rounds(2) == []
    assert here.decision().startswith(f'silent: {why}')


def test_nobody_is_mailed_by_being_named(here: Exchange) -> None:
    """Thousands in To and Cc: a human says whether such a mail goes, and then it is bounded."""
    here.post(raw(to=f'{LIST}, {MANY}', more=f'Cc: {MANY}'))
    assert here.rounds(2) == []
    assert here.decision() == 'hold: it went to more than 100 addresses'


def test_a_crowd_below_that_is_not_written_to_either(here: Exchange) -> None:
    crowd = ', '.join(f'victim{n}@example.com' for n in range(96))
    here.post(raw(to=f'{LIST}, Mo <mo@example.net>', more=f'Cc: {crowd}'))
    assert len(here.rounds(2)) == 1
    assert here.went[0][0] == ('dev@example.org', LIST, 'mo@example.net')


# --- mails that answer each other ---


def of(mail: bytes) -> tuple[str, str, tuple[str, ...]]:
    """Subject, message-id, and the references of an answer to it."""
    read = parse_mail(mail)
    assert read.msgid is not None
    return read.subject, read.msgid, (*read.references, read.msgid)


def test_two_bots_do_not_talk_for_ever(here: Exchange) -> None:
    """The other one answers each mail with patches and words, and says not what it is."""

    def answers(mail: bytes) -> Sequence[bytes]:
        subject, msgid, references = of(mail)
        other = 'Helper <helper@ci.example>'
        title = subject.removeprefix('Re: [PATCH] ')
        return (
            raw(f'p-{msgid}', f'[PATCH] fix {title}', PATCH, *references, author=other),
            raw(f'v-{msgid}', f'[PATCH v2] {title}', PATCH, msgid, author=other),
            raw(f'r-{msgid}', subject, 'vma-bot: more\nThanks!\n', *references, author=other),
        )

    here.answers = answers
    here.post(raw())
    assert len(here.rounds(20)) == 1
    assert [one.state for one in here.store.outbox.rows()] == ['held', 'held', 'sent']
    assert here.decision(2) == 'hold: it answers a mail of ours: two programs may be at it'


def test_an_author_who_sends_the_next_revision_in_reply_to_us_is_answered(here: Exchange) -> None:
    here.post(raw())
    (reply,) = here.rounds(1)
    _, _, references = of(reply)
    here.post(raw('b@x', '[PATCH v2] mm: a', f'{PATCH}+int more;\n', *references))
    assert len(here.rounds(2)) == 2


def test_revisions_without_an_end_are_held_by_the_cap(here: Exchange) -> None:
    def answers(mail: bytes) -> Sequence[bytes]:
        _, _, references = of(mail)
        revision = len(here.went) + 1
        body = f'{PATCH}+int v{revision};\n'
        return (raw(f'{revision}@x', f'[PATCH v{revision}] mm: a', body, *references),)

    here.answers = answers
    here.post(raw())
    assert len(here.rounds(20)) == POLICY.per_author
    assert here.store.outbox.rows()[0].why == '5 mails a day to one author ([mail] per_author)'


def test_words_about_us_are_no_reason_to_speak(here: Exchange) -> None:
    here.post(raw())
    (reply,) = here.rounds(1)
    subject, _, references = of(reply)
    first = raw('r1@x', subject, 'Is that so?\n', *references, author='b@example.org')
    again = raw('r2@x', subject, f'> Is that so?\n\nIt is.\n\n{PATCH}', *references, 'r1@x')
    here.post(first, again)
    assert len(here.rounds(3)) == 1


def test_a_patch_that_says_it_is_our_mail(here: Exchange) -> None:
    """Message-ids can be foretold. Whoever was first has it, and nobody is mailed about it."""
    here.post(raw())
    here.policy = replace(POLICY, mode='hold')
    assert here.rounds(1) == []
    (held,) = here.store.outbox.rows()
    here.policy = POLICY
    here.post(raw(held.msgid, '[PATCH] mm: b', PATCH, 'a@x', author='evil@evil.example'))
    assert here.rounds(2) == []
    assert here.decision(2) == 'hold: it answers a mail of ours: two programs may be at it'
    assert here.store.outbox.get(1) == held


# --- orders, and who gives them ---

STOP = 'vma-bot: stop\n'
RE = 'Re: [PATCH] mm: a'
MO = 'Mo <mo@example.net>'
DEV = 'A Developer <dev@example.org>'
JUNK = 'DKIM-Signature: v=1; a=rsa-sha256; d=example.net; s=no-such; h=from; bh=eA==; b=eA=='
ORDERS = {
    'the author': (signed(raw('o@x', RE, STOP, 'a@x'), 'example.org'), True),
    'a maintainer': (signed(raw('o@x', RE, STOP, 'a@x', author=MO), 'example.net'), True),
    'a stranger': (
        signed(raw('o@x', RE, STOP, 'a@x', author='e@evil.example'), 'evil.example'), False,
    ),
    'the author, unsigned': (raw('o@x', RE, STOP, 'a@x'), False),
    'a maintainer, unsigned': (raw('o@x', RE, STOP, 'a@x', author=MO), False),
    'a maintainer, signed by another': (
        signed(raw('o@x', RE, STOP, 'a@x', author=MO), 'evil.example'), False,
    ),
    'a maintainer, without a key': (raw('o@x', RE, STOP, 'a@x', author=MO, more=JUNK), False),
    'a maintainer, from elsewhere': (
        signed(raw('o@x', RE, STOP, 'a@x', author='e@evil.example', more=f'X-Original-From: {MO}'),
               'evil.example'), False,
    ),
    'a maintainer, changed on its way': (
        signed(raw('o@x', RE, 'Thanks.\n', 'a@x', author=MO), 'example.net').replace(
            b'Thanks.\n', STOP.encode()), False,
    ),
    'a maintainer, below his own From': (
        b'From: Mo <mo@example.net>\n'
        + signed(raw('o@x', RE, STOP, 'a@x', author='e@evil.example'), 'evil.example'), False,
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', ORDERS)
def test_whose_orders_count(here: Exchange, name: str) -> None:
    order, counts = ORDERS[name]
    here.policy = replace(POLICY, embargo=3600.0)
    here.post(signed(raw(), 'example.org'))
    assert here.rounds(1) == []
    here.post(order)
    here.policy = POLICY
    here.store.outbox.approve(1)
    assert here.store.outbox.history(1).stopped is counts


def test_an_author_whose_mails_no_one_signs_is_held_for_the_operator(here: Exchange) -> None:
    """A stranger writes such a mail as well; and who signs for the whole list, signs for nobody."""
    here.post(signed(raw(author='b@elsewhere.example'), 'example.org'))
    order = raw('o@x', RE, STOP, 'a@x', author='b@elsewhere.example')
    here.post(signed(order, 'example.org'))
    here.rounds(1)
    assert not here.store.outbox.history(1).stopped
    (said,) = here.store.said()
    assert (said.state, said.by) == ('held', 'b@elsewhere.example')
    assert here.store.honour(said.order)
    assert here.store.outbox.history(1).stopped
