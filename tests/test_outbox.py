"""From a review to a mail that was sent: the store's part, on each database, and the sender's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import update

from bot.assembly import letter
from bot.errors import LoreError, StoreError
from bot.model import Scope
from bot.outgoing import (
    Accepted,
    Asked,
    Decision,
    Delivery,
    Hold,
    Policy,
    Post,
    Refused,
    Reply,
    Silent,
    Smtp,
    TryLater,
    Unsure,
)
from bot.respond import Response
from bot.sender import Sender
from bot.signatures import Standing
from bot.store import Store
from bot.store.database import opened
from bot.store.outbox import MOST_TRIES
from bot.store.tables import REPLIES
from tests.attesting import weigh
from tests.lettering import Post as Mail
from tests.lettering import post, series, telling
from tests.replying import finding, hit

LIST = 'linux-mm'
LISTS = ('linux-mm@kvack.org',)
POSTED = 1_774_000_000
SCOPE = Scope(paths=('mm/vma*',), symbols=(), subjects=())
MAY_GO = Post('it may go')
POLICY = Policy(mode='send', address='bot@bot.example', lists=LISTS)


@dataclass
class Clock:
    """Time, as the test says."""

    now: float = POSTED + 60.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock(POSTED - 60)


@pytest.fixture
def store(database: str, clock: Clock) -> Iterator[Store]:
    opening = Store(opened(database), clock)
    opening.first_start(clock.now)
    clock.now = POSTED + 60
    yield opening
    opening.close()


def take(store: Store, *mails: Mail, standing: Standing = 'pass') -> None:
    read = [letter(one.raw, SCOPE) for one in mails]
    store.take_in(LIST, [one for one in read if one], None)
    weigh(store, standing)


def reply(n: int = 1, name: str = 'a', revision: int = 1) -> Reply:
    found = finding(hit(12))
    asked = (Asked(revision, found.fingerprint, found.rule, 'mm/vma.c', None),)
    return Reply(
        n, f'vma-bot-{name}-{revision}-{n}@bot.example', f'{name}.{revision}.{n}@x', 'Re: x',
        ('dev@example.org', *LISTS), LISTS, b'From: x\n\nbody\n', asked,
    )  # fmt: skip


def judged(
    store: Store, decision: Decision = MAY_GO, *replies: Reply,
    number: int = 1, maintainers: frozenset[str] = frozenset(),
) -> None:  # fmt: skip
    assert store.take(number, most_kills=25) is not None
    response = Response(decision, replies or (reply(),), maintainers)
    assert store.finish(number, 1.0, 'findings', '{}', (), response)


def states(store: Store) -> list[str]:
    return [one.state for one in sorted(store.outbox.rows(), key=lambda one: one.id)]


@dataclass
class PostOffice:
    """Answers as it is told; keeps what it was handed."""

    answers: list[Delivery | BaseException] = field(default_factory=list)
    sent: list[tuple[str, tuple[str, ...], bytes]] = field(default_factory=list)

    def send(
        self, sender: str, recipients: list[str], raw: bytes, claim: Callable[[], bool]
    ) -> Delivery:
        answer = self.answers.pop(0) if self.answers else Accepted()
        if isinstance(answer, TryLater) and answer.unusable:
            return answer
        if not claim():
            return TryLater('no longer wanted')
        self.sent.append((sender, tuple(recipients), raw))
        if isinstance(answer, BaseException):
            raise answer
        return answer


@dataclass
class Desk:
    """A sender with all that it needs."""

    store: Store
    clock: Clock
    policy: Policy = POLICY
    office: PostOffice = field(default_factory=PostOffice)
    archive: set[str] = field(default_factory=set)
    down: bool = False
    stopped: bool = False
    said: list[str] = field(default_factory=list)

    def sender(self) -> Sender:
        return Sender(
            self.store.outbox, self.office, Smtp('mx.example'), self.policy,  # type: ignore[arg-type]  # one that stands for a Mailer
            self.look, 600.0, self.clock, lambda: self.stopped, telling(self.said),
        )  # fmt: skip

    def look(self, msgid: str) -> bool:
        if self.down:
            raise LoreError('down')
        return msgid in self.archive

    def once(self) -> int:
        return self.sender().once()

    def killed(self) -> int:
        """What a new process does behind one that was killed."""
        sender = self.sender()
        sender.recover()
        return sender.once()


@pytest.fixture
def desk(store: Store, clock: Clock) -> Desk:
    take(store, *series('a', 1))
    return Desk(store, clock)


def test_it_is_sent_once(desk: Desk) -> None:
    judged(desk.store)
    assert desk.once() == 1
    assert desk.once() == 0
    assert desk.office.sent == [
        ('bot@bot.example', ('dev@example.org', *LISTS), b'From: x\n\nbody\n')
    ]
    assert states(desk.store) == ['sent']


def test_what_is_held_waits_for_a_human(desk: Desk) -> None:
    judged(desk.store, Hold('to be approved'))
    assert desk.once() == 0
    assert states(desk.store) == ['held']
    assert desk.store.outbox.edit(1, b'From: x\n\nbetter\n')
    assert desk.store.outbox.approve(1)
    assert not desk.store.outbox.approve(1)
    assert not desk.store.outbox.edit(1, b'x')
    assert desk.once() == 1
    assert desk.office.sent[0][2] == b'From: x\n\nbetter\n'
    assert not desk.store.outbox.reject(1, 'too late')


def test_what_is_rejected_does_not_go(desk: Desk) -> None:
    judged(desk.store, Hold('to be approved'))
    assert desk.store.outbox.reject(1, 'wrong')
    assert not desk.store.outbox.approve(1)
    assert desk.once() == 0
    assert [(one.state, one.why) for one in desk.store.outbox.rows()] == [('rejected', 'wrong')]


def test_silence_is_kept_with_its_reason(desk: Desk) -> None:
    judged(desk.store, Silent('older than 3 days'))
    assert desk.store.outbox.rows() == []
    assert desk.store.decision(1) == ('silent', 'older than 3 days')


def test_a_review_that_is_kept_twice_has_its_mails_once(desk: Desk) -> None:
    judged(desk.store)
    assert not desk.store.finish(1, 1.0, 'findings', '{}', (), Response(Post('x'), (reply(2),)))
    assert len(desk.store.outbox.rows()) == 1


def test_an_embargo_is_waited_for(desk: Desk) -> None:
    desk.policy = replace(POLICY, embargo=3600.0)
    judged(desk.store, Post('it may go', POSTED + 3600))
    assert desk.once() == 0
    desk.clock.now = POSTED + 3601
    assert desk.once() == 1


def test_later_is_tried_again_with_longer_waits_and_then_parked(desk: Desk) -> None:
    judged(desk.store)
    desk.policy = replace(POLICY, max_age=1e9)
    waits = []
    for _ in range(MOST_TRIES):
        desk.office.answers = [TryLater('451 busy')]
        assert desk.once() == 0
        assert desk.once() == 0
        (row,) = desk.store.outbox.rows()
        waits.append(row.not_before - desk.clock.now)
        desk.clock.now = row.not_before + 1
    assert len(desk.office.sent) == MOST_TRIES
    assert waits[:3] == [60, 120, 240]
    assert [(one.state, one.why) for one in desk.store.outbox.rows()] == [
        ('failed', f'tried {MOST_TRIES} times: 451 busy')
    ]
    assert desk.store.outbox.approve(1)
    assert desk.once() == 1


def test_a_useless_server_costs_no_try(desk: Desk) -> None:
    judged(desk.store, Post('x'), reply(), reply(2))
    desk.policy = replace(POLICY, max_age=1e9)
    for _ in range(3 * MOST_TRIES):
        desk.office.answers = [TryLater('does not log in', unusable=True)]
        assert desk.once() == 0
        assert desk.office.answers == []
        desk.clock.now += 61
    assert states(desk.store) == ['ready', 'ready']
    assert desk.office.sent == []
    assert desk.once() == 2


def test_what_is_refused_is_parked(desk: Desk) -> None:
    judged(desk.store)
    desk.office.answers = [Refused('550 no', {'dev@example.org': '550 who?'})]
    assert desk.once() == 0
    (row,) = desk.store.outbox.rows()
    assert (row.state, row.why, dict(row.refused)) == (
        'failed', '550 no', {'dev@example.org': '550 who?'},
    )  # fmt: skip
    assert desk.once() == 0


def test_some_recipients_are_refused(desk: Desk) -> None:
    judged(desk.store)
    desk.office.answers = [Accepted({'dev@example.org': '550 who?'})]
    assert desk.once() == 1
    (row,) = desk.store.outbox.rows()
    assert (row.state, dict(row.refused)) == ('sent', {'dev@example.org': '550 who?'})


# --- when in doubt, not twice ---


class KillError(BaseException):
    """The process ends here."""


def test_killed_behind_the_servers_answer(desk: Desk) -> None:
    judged(desk.store)
    desk.office.answers = [KillError()]
    with pytest.raises(KillError):
        desk.once()
    assert states(desk.store) == ['claimed']
    desk.archive.add(reply().msgid)
    assert desk.killed() == 0
    assert states(desk.store) == ['sent']
    assert len(desk.office.sent) == 1


@pytest.mark.parametrize('answer', [KillError(), Unsure('no answer')], ids=['killed', 'no answer'])
def test_nobody_knows_and_the_archive_has_it_not(
    desk: Desk, answer: Delivery | BaseException
) -> None:
    judged(desk.store)
    desk.office.answers = [answer]
    try:
        desk.once()
    except KillError:
        desk.killed()
    assert states(desk.store) == ['unsure']
    desk.clock.now += 599
    desk.down = True
    assert desk.once() == 0
    assert states(desk.store) == ['unsure']
    desk.clock.now += 599
    desk.once()
    assert states(desk.store) == ['unsure']  # an archive that does not answer says nothing
    desk.down = False
    desk.once()
    (row,) = desk.store.outbox.rows()
    assert row.state == 'held'
    assert row.why.startswith('it may have gone: ')
    assert len(desk.office.sent) == 1
    # The archive was slow, and has it after all.
    desk.archive.add(reply().msgid)
    desk.once()
    assert states(desk.store) == ['sent']


def test_it_went_and_could_not_be_written_down(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, or a database that restarts: the process knows, one after it has to ask."""
    judged(desk.store)
    sender = desk.sender()

    def full(*_: object) -> str:
        raise StoreError('no space left')

    with monkeypatch.context() as now:
        now.setattr(desk.store.outbox, 'settle', full)
        with pytest.raises(StoreError):
            sender.once()
    assert states(desk.store) == ['claimed']
    assert desk.sender().once() == 0
    assert states(desk.store) == ['unsure']
    assert sender.once() == 0
    assert states(desk.store) == ['sent']
    assert len(desk.office.sent) == 1


def test_one_that_can_not_be_sent_stops_no_other(desk: Desk) -> None:
    judged(desk.store, MAY_GO, reply(1), reply(2), reply(3))
    with desk.store._engine.begin() as db:
        for number, (name, value) in enumerate((('recipients', '[' * 5000), ('lists', '[1]')), 1):
            db.execute(update(REPLIES).where(REPLIES.c.n == number).values({name: value}))
    assert desk.once() == 1
    assert states(desk.store) == ['failed', 'failed', 'sent']
    assert [line for line in desk.said if 'can not be sent: its row can not be read' in line]
    assert all(one.why for one in desk.store.outbox.rows(('failed',)))


def test_what_raises_before_its_bytes_leave_is_failed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(desk.store, MAY_GO, reply(1), reply(2))
    send = desk.office.send

    def strange(sender: str, recipients: list[str], raw: bytes, claim: Callable[[], bool]) -> Any:
        if not desk.office.sent and 'failed' not in states(desk.store):
            raise UnicodeEncodeError('ascii', '\udcff', 0, 1, 'x')
        return send(sender, recipients, raw, claim)

    monkeypatch.setattr(desk.office, 'send', strange)
    assert desk.once() == 1
    assert states(desk.store) == ['failed', 'sent']


def test_what_raises_after_its_bytes_left_is_asked_for(desk: Desk) -> None:
    judged(desk.store, MAY_GO, reply(1), reply(2))
    desk.office.answers = [ValueError('strange'), Accepted()]
    assert desk.once() == 1
    assert states(desk.store) == ['claimed', 'sent']
    assert desk.once() == 0
    assert states(desk.store) == ['unsure', 'sent']
    assert len(desk.office.sent) == 2


def test_a_mail_put_off_by_a_clock_that_was_ahead_is_looked_at_again(desk: Desk) -> None:
    judged(desk.store, Post('x', desk.clock.now + 365 * 86400))
    assert desk.once() == 1
    assert states(desk.store) == ['sent']


def test_the_list_brings_our_mail_back(desk: Desk) -> None:
    judged(desk.store)
    desk.office.answers = [Unsure('no answer')]
    desk.once()
    said = ('Re: [PATCH] mm: a part 1', 'body\n-- \nfooter of the list\n', 'a.1.1@x')
    back = post(reply().msgid, *said, author='bot@bot.example')
    take(desk.store, back)
    assert states(desk.store) == ['sent']


def test_a_mail_of_somebody_else_with_our_id_changes_nothing(desk: Desk) -> None:
    judged(desk.store, Hold('x'))
    take(desk.store, post(reply().msgid, 'Re: [PATCH] mm: a part 1', 'x', 'a.1.1@x'))
    assert states(desk.store) == ['held']


def test_somebody_rejects_it_while_it_is_on_its_way(desk: Desk) -> None:
    judged(desk.store)
    office = desk.office
    original = office.send

    def send(sender: str, recipients: list[str], raw: bytes, claim: Callable[[], bool]) -> Delivery:
        desk.store.outbox.reject(1, 'stop')
        return original(sender, recipients, raw, claim)

    office.send = send  # type: ignore[method-assign]  # of this office alone
    assert desk.once() == 0
    assert office.sent == []
    assert states(desk.store) == ['rejected']


def test_there_is_one_sender(store: Store, database: str, clock: Clock) -> None:
    other = Store(opened(database), clock)
    with store.alone('send'):
        with pytest.raises(StoreError, match='another bot send'), other.alone('send'):
            pass
        with other.alone('work'):
            pass
    with other.alone('send'):
        pass
    other.close()


# --- what is known before each mail ---


def test_the_stop_file_stops_at_once(desk: Desk) -> None:
    judged(desk.store)
    desk.stopped = True
    assert desk.once() == 0
    desk.stopped = False
    assert desk.once() == 1


def test_caps_hold_the_rest(desk: Desk) -> None:
    desk.policy = replace(POLICY, per_author=2)
    judged(desk.store, Post('x'), *(reply(n) for n in range(1, 5)))
    assert desk.once() == 2
    assert states(desk.store) == ['sent', 'sent', 'held', 'held']
    desk.store.outbox.approve(3)
    assert desk.once() == 1


def test_a_newer_revision_silences(desk: Desk) -> None:
    judged(desk.store)
    take(desk.store, *series('a', 1, revision=2))
    assert desk.once() == 0
    (row,) = desk.store.outbox.rows()
    assert (row.state, row.why) == ('dropped', 'a newer revision is there')


def order(body: str, author: str = 'dev@example.org', to: str = 'a.1.1@x') -> Mail:
    """An answer on the list that tells the bot something."""
    name = f'{body} {author} {to}'.encode().hex()[:200]
    return post(f'{name}@x', 'Re: [PATCH] mm: a part 1', f'{body}\n', to, author=author)


def test_stop(desk: Desk) -> None:
    judged(desk.store, Post('x'), reply(), maintainers=frozenset({'mo@example.net'}))
    take(desk.store, order('vma-bot: stop', 'stranger@example.org'))
    assert not desk.store.outbox.history(1).stopped
    take(desk.store, order('vma-bot: stop', 'mo@example.net'))
    assert desk.once() == 0
    assert states(desk.store) == ['dropped']
    # For all revisions.
    take(desk.store, *series('a', 1, revision=2))
    assert desk.store.outbox.history(2).stopped


def test_opt_out_is_for_the_author_and_for_good(desk: Desk) -> None:
    judged(desk.store)
    take(desk.store, order('vma-bot: opt-out'))
    assert desk.once() == 0
    take(desk.store, *series('b', 1))
    assert desk.store.outbox.history(2).opted_out == {'dev@example.org'}
    desk.clock.now += 400 * 86400
    desk.store.prune(86400)
    take(desk.store, *series('c', 1))
    number = desk.store.due()[0]
    assert desk.store.outbox.history(number).opted_out == {'dev@example.org'}


def test_ack_goes_on_to_the_next_revision(desk: Desk) -> None:
    judged(desk.store)
    desk.once()
    take(desk.store, order('vma-bot: ack vma-test-drift'))
    take(desk.store, *series('a', 1, revision=2))
    history = desk.store.outbox.history(2)
    assert history.acked == {'vma-test-drift'}
    assert [(one.revision, one.rule) for one in history.asked] == [(1, 'vma-test-drift')]


def test_what_was_not_sent_was_not_asked(desk: Desk) -> None:
    judged(desk.store, Hold('x'))
    take(desk.store, *series('a', 1, revision=2))
    assert desk.store.outbox.history(2).asked == ()


def test_an_order_before_its_series(store: Store, clock: Clock) -> None:
    take(store, order('vma-bot: stop'))
    take(store, *series('a', 1))
    assert store.outbox.history(1).stopped


@pytest.mark.parametrize(
    ('standing', 'state'),
    [
        ('pass', 'honoured'),
        ('pending', 'pending'),
        ('not-checked', 'held'),
        ('fail', 'held'),
        ('unsigned', 'held'),
    ],
)
def test_whose_order_it_is(store: Store, clock: Clock, standing: Standing, state: str) -> None:
    """What nobody vouches for does nothing, and is not lost: the operator can have it obeyed."""
    take(store, *series('a', 1))
    take(store, order('vma-bot: stop'), standing=standing)
    assert store.outbox.history(1).stopped is (state == 'honoured')
    if state == 'honoured':
        assert store.said() == []
        return
    (said,) = store.said()
    assert (said.state, said.kind, said.by, said.series) == (state, 'stop', 'dev@example.org', 1)
    assert store.honour(said.order)
    assert store.outbox.history(1).stopped
    assert not store.honour(said.order)
    assert not store.refuse(said.order)


def test_the_first_start_is_remembered(store: Store, database: str, clock: Clock) -> None:
    take(store, *series('a', 1))
    clock.now += 1000
    other = Store(opened(database), clock)
    assert other.outbox.history(1).started == POSTED - 60
    other.close()
