"""
Sending what is ready: claim, send, mark. When in doubt, not twice.

A mail is claimed in the database when all that can fail harmlessly is behind
us, just before its bytes leave. What became of one that was claimed and not
settled (the sender was killed, the connection broke) nobody knows: it is
looked up in the archive by its Message-ID, and after a grace time left to a
human. Before each mail policy is asked once more.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bot.errors import BotError, StoreError
from bot.events import Tell
from bot.mail import Mailer
from bot.outgoing import (
    Accepted,
    Delivery,
    Outgoing,
    Policy,
    Post,
    Refused,
    Smtp,
    TryLater,
    Unsure,
)
from bot.policy import release
from bot.store.outbox import Outbox
from bot.store.unread import reason_of

OUTCOMES = {
    Accepted: 'accepted', TryLater: 'try-later', Refused: 'refused', Unsure: 'unsure',
}  # fmt: skip
"""What became of an attempt, as it is told."""
Look = Callable[[str], bool]
"""Whether the archive has a message-id; raises `LoreError` where it does not answer."""


@dataclass(frozen=True)
class Sender:
    """
    Sends the mails of an outbox, one after the other; there is only one.

    `grace` is how long, in seconds, the archive is asked for a mail that may
    have gone. `stopped` says that the stop file is there.
    """

    outbox: Outbox
    mailer: Mailer
    smtp: Smtp
    policy: Policy
    look: Look
    grace: float
    clock: Callable[[], float]
    stopped: Callable[[], bool]
    tell: Tell
    _taken: dict[int, Accepted] = field(default_factory=dict)
    """Mails that the server took, and the database did not hear of: it was away just then."""

    def recover(self) -> None:
        """Take up what a killed sender left. Only where there is no other."""
        for one in self.outbox.recover():
            self.tell('in-doubt', mail=one.id, series=one.series, msgid=one.msgid)

    def once(self) -> int:
        """Send all that may go now; how many went. Raises `BotError`."""
        for mail, accepted in list(self._taken.items()):
            self.outbox.settle(mail, accepted)
            del self._taken[mail]
        self._find_out()
        count = 0
        for one in self.outbox.ready():
            if self.stopped():
                self.tell('stopped')
                break
            delivery = self._guarded(one)
            count += isinstance(delivery, Accepted)
            if isinstance(delivery, TryLater) and delivery.unusable:
                break  # of no use to the others either
        return count

    def _find_out(self) -> None:
        """Ask the archive for the mails that may have gone."""
        # None is on its way just now: what is claimed was left so, by us too (a full disk).
        unknown = self.outbox.recover()
        for one in (*unknown, *self.outbox.waiting()):
            try:
                there = self.look(one.msgid)
            except BotError as error:
                self.tell('no-answer', mail=one.id, msgid=one.msgid, reason=str(error))
                return
            if there:
                self.outbox.found(one.msgid)
                self.tell('found', mail=one.id, series=one.series, msgid=one.msgid)
            elif one in unknown and self.clock() - one.since >= self.grace:
                self.outbox.give_up(
                    one.id, f'it may have gone: {one.why}; the archive does not have it'
                )
                self.tell('given-up', mail=one.id, series=one.series, msgid=one.msgid)

    def _guarded(self, one: Outgoing) -> Delivery | None:
        """
        Send a mail; one that can't be is failed, and said.

        Where its bytes may have left, it stays claimed: nobody knows whether it went, and
        the archive is asked for it.
        """
        try:
            if one.broken:
                self._unsendable(one, one.broken)
                return None
            return self._one(one)
        except BotError:
            raise  # the database's or the settings', and no mail's
        except Exception as error:  # noqa: BLE001  # one mail must not stop the others
            self._unsendable(one, reason_of(error))
            return None

    def _unsendable(self, one: Outgoing, reason: str) -> None:
        self.outbox.fail(one.id, reason)
        self.tell('unsendable', mail=one.id, series=one.series, msgid=one.msgid, reason=reason)

    def _one(self, one: Outgoing) -> Delivery | None:
        """Send a mail, where policy still wants it; what became of it, None where it does not."""
        history = self.outbox.history(one.series)
        traffic = self.outbox.traffic()
        decision = release(
            one.author, one.lists, self.policy, history, traffic, approved=one.approved
        )
        if not isinstance(decision, Post):
            self.outbox.decided(one.id, decision)
            self.tell('withheld', mail=one.id, series=one.series, reason=decision.reason)
            return None
        if decision.not_before > self.clock():
            self.outbox.decided(one.id, decision)
            return None
        recipients = [
            address for address in one.recipients if address.lower() not in history.opted_out
        ]
        sender = self.smtp.envelope or self.policy.address
        started = time.monotonic()
        delivery = self.mailer.send(sender, recipients, one.raw, lambda: self.outbox.claim(one.id))
        try:
            state = self.outbox.settle(one.id, delivery)
        except StoreError:
            if isinstance(delivery, Accepted):
                self._taken[one.id] = delivery
            raise
        self.tell(
            'sent' if isinstance(delivery, Accepted) else 'not-sent',
            mail=one.id, series=one.series, patch=one.n, msgid=one.msgid, author=one.author,
            lists=one.lists, state=state, outcome=OUTCOMES[type(delivery)],
            reason=getattr(delivery, 'reason', ''), seconds=round(time.monotonic() - started, 3),
        )  # fmt: skip
        return delivery
