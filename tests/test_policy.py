"""Post, Hold or Silent: each reason by itself, and the strictest of several."""

from dataclasses import replace

import pytest

from bot.envelope import Envelope, envelope
from bot.model import Author, Finding, Severity
from bot.outgoing import (
    DAY,
    Decision,
    History,
    Hold,
    ListPolicy,
    Policy,
    Post,
    Silent,
    Traffic,
)
from bot.policy import decide, is_bot, is_list, release
from tests.replying import HISTORY, LIST, NOW, OTHER_LIST, POLICY, POSTED, finding, hit, mail

FOUND = (finding(hit(12)),)
SENT_TO = envelope(mail('patch-1@x', '[PATCH] x'))


def decided(
    policy: Policy = POLICY,
    history: History = HISTORY,
    read: Envelope = SENT_TO,
    found: tuple[Finding, ...] = FOUND,
) -> Decision:
    return decide(read, found, policy, history)


def of(raw: str, **more: str) -> Envelope:
    return envelope(mail('patch-1@x', '[PATCH] x', more=raw, **more))


def test_nothing_speaks_against_it() -> None:
    assert decided() == Post('it may go', 0.0)


SILENT = {
    'nothing found': lambda: decided(found=()),
    'nothing found that is a warning or worse': lambda: decided(
        found=(finding(hit(1), severity=Severity.NOTE),)
    ),
    'all that was found is acknowledged': lambda: decided(
        history=replace(HISTORY, acked=frozenset({'vma-test-drift'}))
    ),
    'no list that it went to has consented ([mail] lists)': lambda: decided(
        read=of('', cc=OTHER_LIST)
    ),
    'the bot has no address ([mail] from)': lambda: decided(replace(POLICY, address='')),
    'from ourselves': lambda: decided(read=of('', author='Bot <VMA-bot@bot.example>')),
    'from a bot, lkp@intel.example': lambda: decided(read=of('', author='lkp@intel.example')),
    'from a bot, odd@example.org': lambda: decided(
        replace(POLICY, bots=('odd@*',)), read=of('', author='odd@example.org')
    ),
    'ann@example.org opted out': lambda: decided(replace(POLICY, opt_out=('ANN@example.org',))),
    'not from a person: Auto-Submitted: auto-replied': lambda: decided(
        read=of('Auto-Submitted: auto-replied (vacation)')
    ),
    'not from a person: Precedence: bulk': lambda: decided(read=of('Precedence: bulk')),
    'not from a person: Precedence: junk': lambda: decided(read=of('Precedence: junk')),
    'not from a person: a bounce': lambda: decided(read=of('', author='mailer-daemon@mx.example')),
    'not from a person: X-Auto-Response-Suppress': lambda: decided(
        read=of('X-Auto-Response-Suppress: All')
    ),
    'its author, or a maintainer, said stop': lambda: decided(
        history=replace(HISTORY, stopped=True)
    ),
    'a newer revision is there': lambda: decided(history=replace(HISTORY, superseded=True)),
    'older than the first start of the bot': lambda: decided(
        history=replace(HISTORY, started=POSTED + 1)
    ),
    'older than 3 days ([mail] max_age)': lambda: decided(
        history=replace(HISTORY, now=POSTED + 3 * DAY + 1)
    ),
    'older than 12 hours ([mail] max_age)': lambda: decided(
        replace(POLICY, max_age=43200.0), replace(HISTORY, now=POSTED + 43201)
    ),
    'when it was posted can not be believed': lambda: decided(history=replace(HISTORY, posted=0.0)),
    'mail is off ([mail] mode)': lambda: decided(replace(POLICY, mode='off')),
}  # fmt: skip


@pytest.mark.parametrize('reason', SILENT)
def test_it_is_silent_and_says_why(reason: str) -> None:
    assert SILENT[reason]() == Silent(reason)


def test_a_date_in_the_future_is_not_believed() -> None:
    future = replace(HISTORY, posted=NOW + 2 * DAY)
    assert decided(history=future) == Silent('when it was posted can not be believed')


def test_an_opt_out_from_the_list_counts() -> None:
    history = replace(HISTORY, opted_out=frozenset({'ann@example.org'}))
    assert decided(history=history) == Silent('ann@example.org opted out')


def test_a_list_that_sends_as_bulk_is_no_machine() -> None:
    assert of('Precedence: bulk\nList-Id: <linux-mm.kvack.org>').machine is None
    assert of('Precedence: list').machine is None
    assert of('Auto-Submitted: no').machine is None


def test_it_is_held_unless_told_otherwise() -> None:
    assert Policy().mode == 'hold'
    assert decided(replace(POLICY, mode='hold')) == Hold('to be approved ([mail] mode)', 0.0)
    assert Policy().lists == ()


def test_humans_go_first() -> None:
    policy = replace(POLICY, embargo=6 * 3600.0)
    assert decided(policy) == Post('it may go', POSTED + 6 * 3600)
    assert decided(replace(policy, mode='hold')) == Hold(
        'to be approved ([mail] mode)', POSTED + 6 * 3600
    )


def narrowed(*policies: ListPolicy) -> Policy:
    return replace(POLICY, by_list=policies)


def test_the_most_restrictive_of_several_policies_wins() -> None:
    lax = ListPolicy('linux-*', mode='send', severity=Severity.NOTE, embargo=60.0)
    strict = ListPolicy(LIST, mode='hold', severity=Severity.ERROR, embargo=7200.0)
    assert decided(narrowed(lax, strict)) == Silent('nothing found that is an error or worse')
    grave = (finding(hit(1), severity=Severity.ERROR),)
    assert decided(narrowed(lax, strict), found=grave) == Hold(
        'to be approved ([mail] mode)', POSTED + 7200
    )
    assert decided(narrowed(lax)) == Post('it may go', POSTED + 60)
    assert decided(narrowed(ListPolicy('other@*', mode='off'))) == Post('it may go')
    # A list that only copies the series can forbid it as well.
    assert decided(narrowed(ListPolicy(OTHER_LIST, mode='off'))) == Silent(
        'mail is off ([mail] mode)'
    )


# --- each time before a mail goes ---


def released(
    policy: Policy = POLICY,
    history: History = HISTORY,
    by_list: int = 0,
    by_author: int = 0,
    *,
    approved: bool = False,
    lists: tuple[str, ...] = (LIST,),
) -> Decision:
    traffic = Traffic({LIST: by_list}, {'ann@example.org': by_author})
    return release('ann@example.org', lists, policy, history, traffic, approved=approved)


def test_it_may_go() -> None:
    assert released() == Post('it may go')


def test_caps() -> None:
    assert released(by_author=POLICY.per_author - 1, by_list=POLICY.per_list - 1) == Post(
        'it may go'
    )
    assert released(by_author=POLICY.per_author) == Hold(
        '5 mails a day to one author ([mail] per_author)'
    )
    assert released(by_list=POLICY.per_list) == Hold(f'20 mails a day to {LIST} ([mail] per_list)')
    fewer = narrowed(ListPolicy(LIST, daily=2))
    assert isinstance(released(fewer, by_list=2), Hold)
    assert isinstance(released(fewer, by_list=1), Post)


def test_approved_is_held_by_no_cap_and_no_mode() -> None:
    held = replace(POLICY, mode='hold')
    assert released(held) == Hold('to be approved ([mail] mode)')
    assert released(held, by_author=99, by_list=99, approved=True) == Post('approved')


@pytest.mark.parametrize(
    'history',
    [
        replace(HISTORY, superseded=True),
        replace(HISTORY, stopped=True),
        replace(HISTORY, opted_out=frozenset({'ann@example.org'})),
        replace(HISTORY, now=POSTED + 4 * DAY),
    ],
)
def test_what_changed_since_holds_even_for_an_approved_one(history: History) -> None:
    assert isinstance(released(history=history, approved=True), Silent)


def test_a_list_that_no_longer_consents_gets_nothing() -> None:
    assert isinstance(released(replace(POLICY, lists=()), approved=True), Silent)
    assert isinstance(released(replace(POLICY, mode='off'), approved=True), Silent)


# --- whose an address is ---


@pytest.mark.parametrize(
    ('address', 'yes'),
    [
        ('linux-mm@kvack.org', True),
        ('linux-kernel@vger.kernel.org', True),
        ('stable@vger.kernel.org', True),
        ('dri-devel@lists.freedesktop.org', True),
        ('damon@lists.linux.dev', True),
        ('linux-something@example.org', True),
        ('odd@example.org', False),
        ('akpm@linux-foundation.org', False),
        ('ljs@kernel.org', False),
    ],
)
def test_what_is_a_list(address: str, yes: bool) -> None:
    assert is_list(address) is yes
    assert is_list(address, {address})


@pytest.mark.parametrize(
    ('address', 'yes'),
    [
        ('lkp@intel.com', True),
        ('syzbot+0a1b2c@syzkaller.appspotmail.com', True),
        ('kernel-test-robot@example.org', True),
        ('patchwork-bot+linux@kernel.org', True),
        ('noreply@example.org', True),
        ('abbot@example.org', False),
        ('botho@example.org', False),
        ('robot.maker@example.org', True),
        ('ann@example.org', False),
    ],
)
def test_what_is_a_bot(address: str, yes: bool) -> None:
    assert is_bot(address, POLICY) is yes


def test_an_author_without_an_address_gets_nothing() -> None:
    read = replace(SENT_TO, sender=Author('A', 'nobody'))
    assert isinstance(decided(read=read), Silent)
