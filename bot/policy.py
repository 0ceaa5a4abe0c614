"""
Whether a review is mailed: Post, Hold or Silent, with the reason. Pure.

Asked twice. `decide()`, when a series was judged: may there be mails at all?
`release()`, each time before one goes: may it still? Every reason not to is
looked at, and the most restrictive wins: Silent, then Hold, then Post, and of
the times the latest. Whom a mail goes to is said here too (`recipients()`).
What the mail says is `reply.py`'s.
"""

import fnmatch
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bot.envelope import Envelope, is_address
from bot.model import Author, Finding, Severity
from bot.outgoing import (
    Asked,
    Decision,
    History,
    Hold,
    ListPolicy,
    Mode,
    Policy,
    Post,
    Silent,
    Traffic,
)

# Where no MAINTAINERS says it: hosts that have nothing but lists, and names that lists have.
LIST_HOSTS = re.compile(
    r'@(?:vger\.kernel\.org|lists?\..*|.*\.lists?\..*|kvack\.org|lists\.linux\.dev|'
    r'googlegroups\.com|groups\.io|freelists\.org)\Z'
)
LIST_NAMES = re.compile(r'(?:linux-.*|.*-(?:devel|dev|list|discuss|users?|bugs?)|lkml)@')
BOTS = re.compile(
    r'(?:.*[-_.+])?(?:bot|robot|lkp|syzbot(?:\+.*)?|noreply|no-reply)(?:[-_.+].*)?@', re.I
)
SLACK = 3600.0
"""Seconds that a sender's clock may be ahead of ours."""
MANY = 100
"""People whom a patch goes to. More are somebody's game, or a human's to decide on."""

COPIED = 60
"""Addresses that a mail of ours is copied to. Whoever posts a patch writes its Cc as he likes."""


@dataclass(frozen=True)
class Recipients:
    """
    Whom a mail goes to. `lists` are the consented lists among them, in lower case.

    `refused` says why it goes to nobody, '' where it does.
    """

    to: tuple[Author, ...] = ()
    cc: tuple[Author, ...] = ()
    lists: tuple[str, ...] = ()
    refused: str = ''


@dataclass(frozen=True)
class Rules:
    """What holds for one series: `[mail]`, narrowed by each `[[mail.policy]]` that fits."""

    mode: Mode
    severity: Severity
    embargo: float
    daily: int


def is_list(address: str, known: Collection[str] = ()) -> bool:
    """Whether an address is a list. `known` are those that MAINTAINERS names."""
    lower = address.lower()
    return lower in known or bool(LIST_HOSTS.search(lower) or LIST_NAMES.match(lower))


def is_bot(address: str, policy: Policy) -> bool:
    """Whether an address is a program's: by its name, or configured."""
    return bool(BOTS.match(address)) or _fits(address, policy.bots)


def recipients(
    envelope: Envelope,
    policy: Policy,
    opted_out: Collection[str],
    known: Collection[str] = (),
    people: Collection[str] = (),
    *,
    anyway: bool = False,
) -> Recipients:
    """
    Return whom an answer to a mail goes to; `known` are MAINTAINERS' lists.

    `people` are those whom MAINTAINERS names for the files (lower case).

    The author; and the people of its own To and Cc, unless `recipients` is
    'author'. Lists only where they consented, and nobody at all unless one of
    these is among the mail's To and Cc (but `anyway`: only to be looked at).
    Where these are more than `COPIED`, it goes to the author, the lists, and
    those of `people` alone: nobody can have the bot write to a crowd.
    """
    there = (*envelope.to, *envelope.cc)
    consented = tuple(
        one.email.lower() for one in there if one.email.lower() in _lower(policy.lists)
    )
    author = envelope.sender
    if not consented and not anyway:
        return Recipients(refused='no list that it went to has consented ([mail] lists)')
    if not is_address(author.email):
        return Recipients(refused='its author has no address that can be mailed to')
    if policy.recipients == 'author':
        return Recipients((author,), (), (), '')
    left_out = {author.email.lower(), policy.address.lower()}
    copied = []
    for one in there:
        lower = one.email.lower()
        if lower in left_out or lower in opted_out or _fits(lower, policy.opt_out):
            continue
        left_out.add(lower)
        if lower in _lower(policy.lists) or not (is_list(lower, known) or is_bot(lower, policy)):
            copied.append(one)
    if len(copied) > COPIED:
        ours = {*_lower(policy.lists), *people}
        copied = [one for one in copied if one.email.lower() in ours][:COPIED]
    return Recipients((author,), tuple(copied), tuple(dict.fromkeys(consented)), '')


def rules(policy: Policy, addresses: Collection[str]) -> Rules:
    """Narrow `[mail]` by what is said of the lists that a series went to."""
    fitting = [
        one for one in policy.by_list if any(_fits(address, (one.list,)) for address in addresses)
    ]
    order: Sequence[Mode] = ('send', 'hold', 'off')
    return Rules(
        max((policy.mode, *_said(fitting, 'mode')), key=order.index),
        max((policy.severity, *_said(fitting, 'severity'))),
        max((policy.embargo, *_said(fitting, 'embargo'))),
        min((policy.per_list, *_said(fitting, 'daily'))),
    )


def mentioned(
    findings: Sequence[Finding], severity: Severity, history: History
) -> tuple[Finding, ...]:
    """Return the findings that a mail speaks of: grave enough, and not acknowledged."""
    return tuple(
        one for one in findings if one.severity >= severity and one.rule not in history.acked
    )


def decide(
    envelope: Envelope, found: Sequence[Finding], policy: Policy, history: History
) -> Decision:
    """
    Return what becomes of a review.

    `envelope` is that of the series' first mail, `found` its findings.
    """
    here = rules(policy, [one.email.lower() for one in (*envelope.to, *envelope.cc)])
    return _strictest(
        (
            *_about_findings(found, here.severity, history),
            *_about_sender(envelope, policy, history),
            *_about_signature(history),
            *_about_time(policy, history),
            *_about_mode(here, history),
        )
    )


def release(
    author: str,
    lists: Sequence[str],
    policy: Policy,
    history: History,
    traffic: Traffic,
    *,
    approved: bool,
) -> Decision:
    """
    Return whether a composed mail may go now.

    `author` is whom it answers, `lists` the lists that it goes to, `approved`
    that a human said so: then neither the mode nor a cap holds it back.
    """
    here = rules(policy, lists)
    reasons: list[Decision] = [*_about_time(policy, history), *_about_mode(here, history)]
    reasons += _about_address(author, policy, history)
    if approved:
        reasons = [one for one in reasons if isinstance(one, Silent)]
        reasons.append(Post('approved'))
    else:
        reasons += _about_traffic(author, lists, policy, here, traffic)
    if set(lists) - _lower(policy.lists):
        reasons.append(Silent('a list that it goes to has not consented ([mail] lists)'))
    return _strictest(reasons)


def _about_findings(
    found: Sequence[Finding], severity: Severity, history: History
) -> Iterator[Decision]:
    if not found:
        yield Silent('nothing found')
    elif not mentioned(found, severity, history):
        grave = [one for one in found if one.severity >= severity]
        if grave:
            yield Silent('all that was found is acknowledged')
        else:
            a = 'an' if severity is Severity.ERROR else 'a'
            yield Silent(f'nothing found that is {a} {severity.label} or worse')


def _about_sender(envelope: Envelope, policy: Policy, history: History) -> Iterator[Decision]:
    if envelope.machine is not None:
        yield Silent(f'not from a person: {envelope.machine}')
    yield from _about_address(envelope.sender.email, policy, history)
    refused = recipients(envelope, policy, history.opted_out).refused
    if refused:
        yield Silent(refused)
    if history.below_ours:
        yield Hold('it answers a mail of ours: two programs may be at it')
    if len(envelope.to) + len(envelope.cc) > MANY:
        yield Hold(f'it went to more than {MANY} addresses')


def _about_signature(history: History) -> Iterator[Decision]:
    """A stranger can write in an author's name, but not sign: then a human is asked first."""
    if history.signs and history.attested == 'unsigned':
        yield Hold('its author signs his mails, and this series is not signed')
    elif history.signs and history.attested == 'unknown':
        yield Hold('its author signs his mails, and this signature could not be checked')


def _about_address(author: str, policy: Policy, history: History) -> Iterator[Decision]:
    lower = author.lower()
    if not policy.address:
        yield Silent('the bot has no address ([mail] from)')
    elif lower == policy.address.lower():
        yield Silent('from ourselves')
    elif is_bot(lower, policy):
        yield Silent(f'from a bot, {lower}')
    if lower in history.opted_out or _fits(lower, policy.opt_out):
        yield Silent(f'{lower} opted out')
    if history.stopped:
        yield Silent('its author, or a maintainer, said stop')
    if history.superseded:
        yield Silent('a newer revision is there')


def _about_time(policy: Policy, history: History) -> Iterator[Decision]:
    if not 0 < history.posted <= history.now + SLACK:
        yield Silent('when it was posted can not be believed')
    elif history.posted < history.started:
        yield Silent('older than the first start of the bot')
    elif history.now - history.posted > policy.max_age:
        yield Silent(f'older than {_days(policy.max_age)} ([mail] max_age)')


def _about_mode(here: Rules, history: History) -> Iterator[Decision]:
    not_before = history.posted + here.embargo if here.embargo else 0.0
    match here.mode:
        case 'off':
            yield Silent('mail is off ([mail] mode)')
        case 'hold':
            yield Hold('to be approved ([mail] mode)', not_before)
        case 'send':
            yield Post('it may go', not_before)


def _about_traffic(
    author: str, lists: Sequence[str], policy: Policy, here: Rules, traffic: Traffic
) -> Iterator[Decision]:
    if traffic.by_author.get(author.lower(), 0) >= policy.per_author:
        yield Hold(f'{policy.per_author} mails a day to one author ([mail] per_author)')
    for name in lists:
        if traffic.by_list.get(name, 0) >= here.daily:
            yield Hold(f'{here.daily} mails a day to {name} ([mail] per_list)')


def _strictest(reasons: Sequence[Decision]) -> Decision:
    for one in reasons:
        if isinstance(one, Silent):
            return one
    latest = max((one.not_before for one in reasons if not isinstance(one, Silent)), default=0.0)
    for held in reasons:
        if isinstance(held, Hold):
            return Hold(held.reason, latest)
    said = next((one.reason for one in reasons), 'nothing speaks against it')
    return Post(said, latest)


def asked_before(history: History) -> dict[str, Asked]:
    """Return what was asked on earlier revisions, by fingerprint; of several the first."""
    found: dict[str, Asked] = {}
    for one in sorted(history.asked, key=lambda one: one.revision):
        found.setdefault(one.fingerprint, one)
    return found


def _said(policies: Sequence[ListPolicy], name: str) -> Iterator[Any]:
    return (value for one in policies if (value := getattr(one, name)) is not None)


def _fits(address: str, globs: Collection[str]) -> bool:
    return any(fnmatch.fnmatchcase(address.lower(), glob.lower()) for glob in globs)


def _lower(addresses: Collection[str]) -> frozenset[str]:
    return frozenset(one.lower() for one in addresses)


def _days(seconds: float) -> str:
    return f'{seconds / 86_400:g} days' if seconds >= 86_400 else f'{seconds / 3600:g} hours'
