"""
What strangers do in other people's names: nothing that lasts.

The watcher's part and the store are real, on each database; only the list and
the name servers are played. `tests/services/test_forged.py` plays nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from bot import attest
from bot.assembly import letter
from bot.attest import Attester, Look
from bot.daemon import Watcher
from bot.envelope import envelope
from bot.model import Scope
from bot.outgoing import Hold, Post, Reply, Silent, TryLater
from bot.policy import decide
from bot.respond import Response
from bot.store import Store
from bot.store.database import opened
from tests.attesting import KERNEL, Names, signed
from tests.lettering import DIFF, QUIET, answer, post, series, telling
from tests.replying import POLICY, finding, hit, mail

LIST = 'linux-mm'
SCOPE = Scope(paths=('mm/vma*',), symbols=(), subjects=())
START = 1_774_000_060
DAY = 86_400
DEV = 'dev@example.org'
RE = 'Re: [PATCH] mm: a part 1'
OPT_OUT = 'vma-bot: opt-out\n'
PATCH = DIFF.format(path='mm/vma.c', what='z')


class Town:
    """A list that mails come to, and the bot that reads it. `now` is what its clock shows."""

    def __init__(self, url: str) -> None:
        self.now = float(START)
        self.names = Names()
        self.store = Store(opened(url), lambda: self.now)
        self.start()

    def start(self, look: Look | None = None) -> None:
        """Start the watcher, again: it knows no name yet."""
        self.watcher = Watcher(
            self.store, (), SCOPE, 0, 0, 0, lambda: self.now, telling(),
            Attester(20, look=look or self.names).own,
        )  # fmt: skip

    def post(self, *raws: bytes) -> None:
        """The list has new mails; one poll."""
        for raw in raws:
            read = letter(raw, SCOPE, attest=True)
            assert read is not None
            self.store.take_in(LIST, [read], None)
        self.watcher.attest()

    def states(self) -> dict[str, str]:
        """The state of each series, by title and revision."""
        return {f'{row.title} v{row.revision}': row.state for row in self.store.rows()}

    def opted_out(self, series: int = 1) -> bool:
        """Whether nothing is mailed to an author any more."""
        return bool(self.store.outbox.history(series).opted_out)

    def judged(self, number: int, response: Response = QUIET) -> None:
        """A worker has judged a series."""
        assert self.store.take(number, most_kills=25) is not None
        found = (finding(hit(12)),)
        assert self.store.finish(number, 1.0, 'findings', '{}', found, response)


@pytest.fixture
def town(database: str) -> Iterator[Town]:
    made = Town(database)
    yield made
    made.store.close()


def patch(
    revision: int = 1, *, of: int = 1, author: str = DEV, title: str = 'a', cover: bool = True
) -> list[bytes]:
    return [one.raw for one in series(title, of, revision, author=author, cover=cover)]


def ordered(body: str = OPT_OUT, *parents: str, msgid: str = 'o@x', author: str = DEV) -> bytes:
    return post(msgid, RE, body, *(parents or ('a.1.1@x',)), author=author).raw


# --- orders -----------------------------------------------------------------

FAKE = (
    'DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s={}; h=from:subject:date:in-reply-to;\n'
    '\tbh=eA==; b=eA==\n'
)


@pytest.mark.parametrize('selector', ['s' * 64, 'a..b', 'a.', 'no-such', '.'.join(['x' * 50] * 6)])
def test_a_selector_that_can_not_be_looked_up(town: Town, selector: str) -> None:
    town.post(*patch())
    town.post(FAKE.format(selector).encode() + ordered())
    assert not town.opted_out()
    (said,) = town.store.said()
    assert (said.state, said.by) == ('held', DEV)


def test_name_servers_that_do_not_answer(town: Town) -> None:
    """It never counts meanwhile, is asked for again, and counts when they answer."""
    town.post(*patch())
    town.names.up = False
    town.post(signed(ordered()), FAKE.format('sel').encode() + ordered(msgid='forged@x'))
    assert not town.opted_out()
    assert [one.state for one in town.store.said()] == ['pending', 'pending']
    asked = len(town.names.asked)
    town.watcher.attest()
    assert len(town.names.asked) == asked  # not before its time
    town.names.up = True
    town.now += 7 * 3600
    town.start()
    town.watcher.attest()
    assert town.opted_out()
    (said,) = town.store.said()
    assert (said.state, said.why) == (
        'held', 'its DKIM signature does not fit: body hash mismatch',
    )  # fmt: skip


def test_name_servers_that_never_answer(town: Town) -> None:
    """After three days the operator has to say; the names are not asked for for ever."""
    town.post(*patch())
    town.names.up = False
    town.post(signed(ordered()))
    for _ in range(20):
        town.now += 6 * 3600
        town.watcher.attest()
    (said,) = town.store.said()
    assert (said.state, said.why) == (
        'held', 'its signature could not be checked in 3 days: no answer from DNS',
    )  # fmt: skip
    asked = len(town.names.asked)
    assert asked < 25
    town.now += DAY
    town.watcher.attest()
    assert len(town.names.asked) == asked
    assert town.store.honour(said.order)
    assert town.opted_out()


def test_a_first_signature_that_uses_up_the_time(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr('bot.attest.time.monotonic', lambda: clock[0])
    keys = Names()

    def slow(name: str, seconds: float) -> bytes | None:
        if 'slow' in name:
            clock[0] += seconds
            raise attest.NoAnswerError('too slow')
        return keys(name, seconds)

    town.start(slow)
    town.post(*patch())
    top = FAKE.replace('example.org', 'slow.example').format('s').encode()
    town.post(top + FAKE.format('sel').encode() + ordered(msgid='forged@x'))
    assert not town.opted_out()
    own = FAKE.format('slow').encode()
    town.post(own * 3 + top + signed(ordered()))
    assert town.opted_out()


def test_more_signatures_than_are_looked_at(town: Town) -> None:
    """Each takes its time, so few are checked: what comes after them does not count."""
    town.post(*patch())
    town.post(FAKE.format('sel').encode() * 50 + signed(ordered()))
    assert not town.opted_out()
    assert [one.state for one in town.store.said()] == ['held']
    # The mail as it was sent is another one, and counts.
    town.post(signed(ordered()))
    assert town.opted_out()


@pytest.mark.parametrize('length', [True, False])
def test_text_appended_to_a_signed_body(town: Town, length: bool) -> None:
    town.post(*patch())
    thanks = signed(ordered('Thanks.\n'), length=length)
    town.post(thanks + OPT_OUT.encode())
    assert not town.opted_out()
    assert [one.state for one in town.store.said()] == ['held']


def test_white_space_that_a_signature_lets_change(town: Town) -> None:
    town.post(*patch())
    quoted = signed(ordered('You wrote:\n    vma-bot: opt-out\nWhy?\n'), body=b'relaxed')
    town.post(quoted.replace(b'\n    vma', b'\n vma'))
    assert not town.opted_out()


@pytest.mark.parametrize('heads', [KERNEL, ('from', 'subject', 'date'), ('from', 'subject')])
def test_an_order_replayed_into_another_thread(town: Town, heads: Sequence[str]) -> None:
    town.post(*patch(), *patch(title='b'))
    order = signed(ordered('vma-bot: stop\n'), heads=heads)
    for n, other in enumerate((b'b.1.1@x', b'a.1.1@x')):
        town.post(order.replace(b'<o@x>', b'<o%d@x>' % n).replace(b'<a.1.1@x>', b'<%s>' % other))
    assert not town.store.outbox.history(2).stopped
    assert town.store.outbox.history(1).stopped is (heads is KERNEL)


def test_an_order_counts_once_and_where_its_signature_says(town: Town) -> None:
    town.post(*patch(), *patch(title='b'))
    heads = ('from', 'subject', 'date', 'references')
    order = signed(ordered('vma-bot: stop\n'), heads=heads)
    # In-Reply-To is not signed: what it says is nothing.
    town.post(order.replace(b'In-Reply-To: <a.1.1@x>', b'In-Reply-To: <b.1.1@x>'))
    assert town.store.outbox.history(1).stopped
    assert not town.store.outbox.history(2).stopped
    town.post(order.replace(b'<o@x>', b'<again@x>'))
    (said,) = town.store.said()
    assert (said.state, said.why) == ('refused', 'the same signed mail was obeyed before, as o@x')


def test_a_stranger_has_no_name_servers_asked(town: Town) -> None:
    """His are his own, and may be slow."""
    town.post(*patch())
    town.names.asked.clear()
    town.post(signed(ordered(author='e@evil.example'), 'evil.example'))
    assert town.names.asked == []
    town.judged(1, Response(Silent('x'), (), frozenset({'mo@example.net'})))
    town.post(signed(ordered(author='mo@example.net', msgid='mo@x'), 'example.net'))
    assert town.opted_out()
    assert [(one.state, one.by) for one in town.store.said()] == [('refused', 'e@evil.example')]


def test_an_order_that_comes_before_its_series(town: Town) -> None:
    town.post(signed(ordered()))
    assert [one.state for one in town.store.said()] == ['pending']
    town.post(*patch())
    assert town.opted_out()


def test_a_stranger_takes_the_message_id_of_a_series(town: Town) -> None:
    """His own series under the same Message-ID: the author's order is still about the author's."""
    forged = post('a.1.1@x', '[PATCH] mm: mine', 'x\n---\n' + PATCH, author='e@evil.example').raw
    town.post(signed(forged, 'evil.example'))
    town.post(*(signed(one) for one in patch()))
    town.post(signed(ordered()))
    assert town.opted_out(2)
    assert town.states() == {'mm: mine v1': 'pending', 'mm: a part 1 v1': 'pending'}
    # A maintainer's may be about either: a human has to say.
    town.judged(2, Response(Silent('x'), (), frozenset({'mo@example.net'})))
    town.post(
        signed(ordered('vma-bot: stop\n', author='mo@example.net', msgid='mo@x'), 'example.net')
    )
    assert 'several series' in next(one.why for one in town.store.said() if one.kind == 'stop')


# --- series -----------------------------------------------------------------


def test_a_forged_revision_replaces_nothing(town: Town) -> None:
    town.post(*(signed(one) for one in patch(of=2)))
    town.post(*patch(99, of=2))
    town.post(*(signed(one) for one in patch(2, of=2)))
    assert town.states() == {
        'mm: a v1': 'superseded', 'mm: a v99': 'pending', 'mm: a v2': 'pending',
    }  # fmt: skip
    for one, superseded in ((1, True), (2, False), (3, False)):
        assert town.store.outbox.history(one).superseded is superseded


def test_a_forged_revision_that_comes_first(town: Town) -> None:
    town.post(*patch(99, of=2))
    town.post(*(signed(one) for one in patch(of=2)))
    assert town.states() == {'mm: a v99': 'pending', 'mm: a v1': 'pending'}


def test_a_revision_whose_signature_is_not_known_replaces_nothing_yet(town: Town) -> None:
    town.post(*(signed(one) for one in patch()))
    town.names.up = False
    town.start()
    town.post(*(signed(one) for one in patch(2)))
    assert town.states()['mm: a part 1 v1'] == 'pending'
    assert town.store.due() == [1]
    town.names.up = True
    town.now += 7 * 3600
    town.start()
    town.watcher.attest()
    assert town.states() == {'mm: a part 1 v1': 'superseded', 'mm: a part 1 v2': 'pending'}
    assert town.store.due() == [2]


def test_a_series_waits_for_its_signature_but_not_for_ever(town: Town) -> None:
    town.names.up = False
    town.post(*(signed(one) for one in patch()))
    assert town.store.due() == []
    town.now += 3600
    assert town.store.due() == [1]
    assert town.store.outbox.history(1).attested == 'unknown'


def test_an_author_whom_nobody_signs_goes_on_as_before(town: Town) -> None:
    town.post(*patch(), *patch(2))
    assert town.states() == {'mm: a part 1 v1': 'superseded', 'mm: a part 1 v2': 'pending'}


@pytest.mark.parametrize('sign', [True, False], ids=['signed', 'unsigned'])
@pytest.mark.parametrize('same', [True, False], ids=['same-id', 'other-id'])
@pytest.mark.parametrize('judged', [True, False], ids=['judged', 'waiting'])
def test_a_machines_copy_sent_first(town: Town, sign: bool, same: bool, judged: bool) -> None:
    """It is nobody's twin, and takes nobody's Message-ID."""
    (honest,) = patch()
    honest = signed(honest) if sign else honest
    copy = b'Auto-Submitted: auto-generated\n' + honest
    town.post(copy if same else copy.replace(b'<a.1.1@x>', b'<copy@x>'))
    if judged:
        town.judged(1)
    town.post(honest)
    (due,) = town.store.due() if judged or same else town.store.due()[-1:]
    taken = town.store.take(due, most_kills=25)
    assert taken is not None
    assert taken.mails == (honest,)


@pytest.mark.parametrize('judged', [True, False], ids=['judged', 'waiting'])
def test_another_mail_under_the_same_message_id(town: Town, judged: bool) -> None:
    """The one that its author signed is the series, whichever list had it first."""
    (honest,) = (signed(one) for one in patch())
    forged = honest.replace(b'+int ya1_1;', b'+int nothing;')
    assert forged != honest
    town.post(forged)
    if judged:
        town.judged(1, Response(Hold('x'), (OURS,)))
    town.post(honest)
    assert town.store.due() == [1]
    assert town.store.outbox.rows() == []
    taken = town.store.take(1, most_kills=25)
    assert taken is not None
    assert taken.mails == (honest,)


OURS = Reply(
    1, 'us@bot.example', 'a.1.1@x', 'Re: x', (DEV,), (),
    b'From: bot@bot.example\nMessage-ID: <us@bot.example>\n\nThis drops const.\n',
)  # fmt: skip


def test_what_was_mailed_about_is_not_judged_again(town: Town) -> None:
    (honest,) = (signed(one) for one in patch())
    town.post(honest.replace(b'+int ya1_1;', b'+int nothing;'))
    town.judged(1, Response(Post('x'), (OURS,)))
    assert town.store.outbox.claim(1)
    town.post(honest)
    assert town.store.due() == []


def test_a_series_that_changes_while_it_is_judged_is_judged_again(town: Town) -> None:
    (honest,) = (signed(one) for one in patch())
    town.post(honest.replace(b'+int ya1_1;', b'+int nothing;'))
    assert town.store.take(1, most_kills=25) is not None
    town.post(honest)
    assert not town.store.finish(1, 1.0, 'clean', '{}', (), QUIET)
    town.judged(1)


def test_a_forged_patch_of_a_signed_series(town: Town) -> None:
    """Whichever comes first: the signed one is part of it, and b4 never sees the other."""
    mails = [signed(one) for one in patch(of=3)]
    forged = patch(of=3)[2].replace(b'a.1.2@x', b'forged@x').replace(b'+int y', b'+int evil')
    late = forged.replace(b'forged@x', b'late@x')
    town.post(*mails[:2], forged, *mails[2:], late)
    assert town.store.due() == [1]
    taken = town.store.take(1, most_kills=25)
    assert taken is not None
    assert set(taken.mails) == set(mails)
    assert town.store.outbox.history(1).attested == 'pass'


def test_a_forged_cover_letter(town: Town) -> None:
    """It says nothing of a series that its author sent without one: no date, no title."""
    mails = [signed(one) for one in patch(of=2, cover=False)]
    forged = post(
        'cover@x', '[PATCH 0/2] mm: forged', 'Hello.\n', 'a.1.1@x', author=DEV,
        date='Tue, 20 Mar 2001 09:46:40 +0000',
    ).raw  # fmt: skip
    town.post(mails[0], forged, mails[1])
    history = town.store.outbox.history(1)
    assert history.attested == 'pass'
    assert history.posted > START - DAY
    assert town.states() == {'mm: a part 1 v1': 'pending'}


def test_a_mail_that_says_two_series_are_one(town: Town) -> None:
    town.post(*(signed(one) for one in (*patch(of=2), *patch(of=2, title='b'))))
    forged = post('f@x', '[PATCH 1/2] mm: f', f'x\n---\n{PATCH}', 'a.1.0@x', 'b.1.0@x').raw
    town.post(forged)
    assert town.states() == {'mm: a v1': 'pending', 'mm: b v1': 'pending'}
    assert [row.patches for row in town.store.rows()] == ['2/2', '2/2']


def test_an_answer_with_a_patchs_message_id(town: Town) -> None:
    mails = [signed(one) for one in patch(of=2)]
    fake = answer(series('a', 2)[1], 'x').raw.replace(b'<x@x>', b'<a.1.1@x>')
    town.post(fake, *mails)
    taken = town.store.take(1, most_kills=25)
    assert taken is not None
    assert set(taken.mails) == set(mails)


def test_a_copy_that_nobody_is_told_about_silences_nobody(town: Town) -> None:
    """Sent before the honest one, to nobody: that is not answered, the honest one is."""
    (honest,) = patch()
    town.post(honest.replace(b'<a.1.1@x>', b'<copy@x>'))
    town.post(honest)
    assert sorted(row.state for row in town.store.rows()) == ['pending', 'resent']
    town.judged(1, Response(Silent('no list that it went to has consented ([mail] lists)')))
    assert town.store.due() == [2]
    town.judged(2)
    town.post(honest.replace(b'<a.1.1@x>', b'<third@x>'))
    assert town.store.due() == [3]


def test_a_stranger_says_our_mail_went(town: Town) -> None:
    town.post(*patch())
    town.judged(1, Response(Post('x'), (OURS,)))
    town.store.outbox.approve(1)
    town.store.outbox.settle(1, TryLater('come again'))
    town.post(post(OURS.msgid, RE, 'Nothing.\n', 'a.1.1@x', author='bot@bot.example').raw)
    assert [one.state for one in town.store.outbox.rows()] == ['ready']
    town.post(post(OURS.msgid, RE, 'This drops const.\n-- \nlist\n', 'a.1.1@x').raw)
    assert [one.state for one in town.store.outbox.rows()] == ['sent']


# --- an author who signs ------------------------------------------------------


def decided(town: Town, number: int) -> str:
    taken = town.store.outbox.history(number)
    history = replace(taken, now=START, started=1.0, posted=float(START))
    sent = envelope(mail('p@x', '[PATCH] x'))
    return decide(sent, (finding(hit(12)),), POLICY, history).reason


def test_a_series_that_comes_unsigned_from_who_signs_is_held(town: Town) -> None:
    town.post(*patch(title='z'))
    assert decided(town, 1) == 'it may go'
    town.post(*(signed(one) for one in patch()))
    assert decided(town, 2) == 'it may go'
    town.post(*patch(title='b'))
    assert decided(town, 3) == 'its author signs his mails, and this series is not signed'
    town.names.up = False
    town.start()
    town.post(*(signed(one) for one in patch(title='c')))
    assert decided(town, 4) == (
        'its author signs his mails, and this signature could not be checked'
    )
    # It is remembered for a while.
    town.now += 200 * DAY
    town.store.prune(1000 * DAY)
    assert decided(town, 3) == 'it may go'


def test_one_unsigned_patch_is_enough(town: Town) -> None:
    mails = patch(of=2)
    town.post(signed(mails[0]), signed(mails[1]), mails[2])
    assert town.store.outbox.history(1).attested == 'unsigned'
