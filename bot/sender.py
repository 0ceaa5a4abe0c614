"""
Sending what is ready: claim, send, mark. When in doubt, not twice.

A mail is claimed in the database when all that can fail harmlessly is behind
us, just before its bytes leave. What became of one that was claimed and not
settled (the sender was killed, the connection broke) nobody knows: it is
looked up in the archive by its Message-ID, and after a grace time left to a
human. Before each mail policy is asked once more.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bot.errors import BotError
from bot.mail import Mailer
from bot.outgoing import Accepted, Delivery, Outgoing, Policy, Post, Smtp, TryLater
from bot.plain import one_line
from bot.policy import release
from bot.store.outbox import Outbox

Say = Callable[[str], None]
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
    say: Say

    def recover(self) -> None:
        """Take up what a killed sender left. Only where there is no other."""
        for one in self.outbox.recover():
            self.say(f'mail {one.id}: may have gone or not: asking the archive')

    def once(self) -> int:
        """Send all that may go now; how many went. Raises `BotError`."""
        self._find_out()
        count = 0
        for one in self.outbox.ready():
            if self.stopped():
                self.say('stopped: the stop file is there')
                break
            delivery = self._one(one)
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
                self.say(f'mail {one.id}: the archive does not say whether it is there: {error}')
                return
            if there:
                self.outbox.found(one.msgid)
                self.say(f'mail {one.id}: the archive has it')
            elif one in unknown and self.clock() - one.since >= self.grace:
                self.outbox.give_up(
                    one.id, f'it may have gone: {one.why}; the archive does not have it'
                )
                self.say(f'mail {one.id}: held: the archive does not have it')

    def _one(self, one: Outgoing) -> Delivery | None:
        """Send a mail, where policy still wants it; what became of it, None where it does not."""
        history = self.outbox.history(one.series)
        traffic = self.outbox.traffic()
        decision = release(
            one.author, one.lists, self.policy, history, traffic, approved=one.approved
        )
        if not isinstance(decision, Post):
            self.outbox.decided(one.id, decision)
            self.say(f'mail {one.id}: not sent: {decision.reason}')
            return None
        if decision.not_before > self.clock():
            self.outbox.decided(one.id, decision)
            return None
        recipients = [
            address for address in one.recipients if address.lower() not in history.opted_out
        ]
        sender = self.smtp.envelope or self.policy.address
        delivery = self.mailer.send(sender, recipients, one.raw, lambda: self.outbox.claim(one.id))
        state = self.outbox.settle(one.id, delivery)
        reason = getattr(delivery, 'reason', '')
        said = f' ({one_line(reason, 300)})' if reason else ''
        self.say(f'mail {one.id} to {one.author}: {state}{said}')
        return delivery
