"""
From a review to what becomes of it: a decision, and the mails. Pure.

Puts `policy.py` and `reply.py` together, with what MAINTAINERS of the base
says of lists and people.
"""

from dataclasses import dataclass, replace

from bot.maintainers import PATH, Maintainers, parse
from bot.model import AppliedSeries, Review, Series
from bot.outgoing import Decision, History, Letterhead, Policy, Reply, Silent
from bot.policy import decide
from bot.reply import Writer

NOBODY = 'vma-bot@example.invalid'
"""Who a mail is from where it is only shown, and the bot has no address."""


@dataclass(frozen=True)
class Response:
    """What becomes of a review. `maintainers` are the addresses that may give us orders on it."""

    decision: Decision
    replies: tuple[Reply, ...] = ()
    maintainers: frozenset[str] = frozenset()


def respond(
    review: Review,
    policy: Policy,
    letterhead: Letterhead,
    history: History,
) -> Response:
    """
    Decide, and compose. Reads the base's MAINTAINERS, so the review's snapshots have to be open.
    Raises `ReplyError`.
    """
    series = review.series
    if not isinstance(series, Series):
        return Response(Silent('the series is not complete'))
    known = _maintainers(review)
    people = known.people(_paths(review))
    writer = _writer(review, policy, letterhead, history, known)
    decision = decide(writer.first(series), review.findings, policy, history)
    if isinstance(decision, Silent):
        return Response(decision, (), people)
    replies = writer.compose(review)
    if not replies:
        why = 'none of its mails went to a list that consented, and has a message-id to answer'
        return Response(Silent(why), (), people)
    return Response(decision, replies, people)


def preview(
    review: Review,
    policy: Policy,
    letterhead: Letterhead,
    history: History,
) -> tuple[Reply, ...]:
    """Return the mails as they would be, whatever policy says of sending them."""
    address = letterhead.address or NOBODY
    policy = replace(policy, address=address, opt_out=())
    letterhead = replace(letterhead, address=address)
    writer = _writer(review, policy, letterhead, history, _maintainers(review))
    return replace(writer, anyway=True).compose(review)


def _writer(
    review: Review,
    policy: Policy,
    letterhead: Letterhead,
    history: History,
    known: Maintainers,
) -> Writer:
    mails = {mail.msgid: mail for mail in review.thread if mail.msgid is not None}
    people = known.people(_paths(review))
    return Writer(policy, letterhead, history, mails, known.lists, people)


def _maintainers(review: Review) -> Maintainers:
    applied = review.applied
    if not isinstance(applied, AppliedSeries) or not applied.steps:
        return Maintainers(())
    return parse(applied.steps[0].pre.read(PATH))


def _paths(review: Review) -> list[str]:
    applied = review.applied
    steps = applied.steps if applied is not None else ()
    return sorted({diff.path for step in steps for diff in step.files})
