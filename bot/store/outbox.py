"""
Replies: from composed to sent, one transaction a step.

A row is *held* until a human approves it, *ready* to go, *claimed* by the
sender just before its bytes leave, then *sent*; or *unsure*, where it was
claimed and nobody knows what became of it. *failed* is what the server will
not take, *rejected* what a human turned down, *dropped* what policy no longer
wants. Nothing leaves *claimed* or *unsure* for *ready* but by a human.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, or_, select, update

from bot.outgoing import (
    DAY,
    Accepted,
    Asked,
    Decision,
    Delivery,
    History,
    Hold,
    Order,
    Outgoing,
    Post,
    Refused,
    Silent,
    Traffic,
    TryLater,
    Unsure,
)
from bot.plain import one_line
from bot.respond import Response
from bot.series import parse_mail
from bot.store import orders
from bot.store.database import transaction
from bot.store.tables import ASKED, ORDERS, REPLIES, REVIEWS

OPEN = ('held', 'ready')
DONE = ('sent', 'failed', 'rejected', 'dropped')
UNKNOWN = ('claimed', 'unsure')
MOST_TRIES = 8
FURTHEST = 7 * int(DAY)
"""Seconds. Longer waits are looked at again, as the store does."""
FIRST_WAIT = 60
"""Seconds until a mail is tried again; twice as long each time."""


class Outbox:
    """The replies of a database. `clock` gives seconds since 1970."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock

    @property
    def _now(self) -> int:
        return int(self._clock())

    # --- within the store's transactions ---

    def keep(self, db: Connection, series: int, author: str, response: Response) -> None:
        """Keep what was decided of a review, and its mails."""
        match response.decision:
            case Post():
                name, state = 'post', 'ready'
            case Hold():
                name, state = 'hold', 'held'
            case Silent():
                name, state = 'silent', ''
        decision = response.decision
        db.execute(
            update(REVIEWS)
            .where(REVIEWS.c.series == series)
            .values(
                decision=name,
                decision_why=decision.reason,
                maintainers=json.dumps(sorted(response.maintainers)),
            )
        )
        if isinstance(decision, Silent):
            return
        for reply in response.replies:
            made = db.execute(
                insert(REPLIES).values(
                    series=series,
                    n=reply.n,
                    msgid=reply.msgid,
                    parent=reply.parent,
                    author=author,
                    subject=reply.subject,
                    recipients=json.dumps(reply.recipients),
                    lists=json.dumps(reply.lists),
                    raw=reply.raw,
                    state=state,
                    why=decision.reason,
                    since=self._now,
                    not_before=int(decision.not_before),
                    tries=0,
                    approved=False,
                    refused='{}',
                )
            )
            assert made.inserted_primary_key is not None
            self._asked(db, int(made.inserted_primary_key[0]), reply.asked)

    def _asked(self, db: Connection, reply: int, asked: Sequence[Asked]) -> None:
        known: set[str] = set()
        for one in asked:
            if one.fingerprint in known:
                continue
            known.add(one.fingerprint)
            db.execute(
                insert(ASKED).values(
                    reply=reply, fingerprint=one.fingerprint, revision=one.revision,
                    rule=one.rule, path=one.path, symbol=one.symbol,
                )
            )  # fmt: skip

    def arrived(
        self,
        db: Connection,
        mail: int,
        msgid: str,
        series: int | None,
        said: Sequence[Order],
        raw: bytes,
    ) -> None:
        """Take note of a mail that the list has: it may be ours, or have orders for us."""
        ours = db.execute(select(REPLIES.c.raw).where(REPLIES.c.msgid == msgid)).scalar()
        # Anybody may write our Message-ID: only what says what we say is our mail.
        if ours is not None and _words(bytes(ours)) in _words(raw):
            self._seen(db, msgid)
        if said:
            orders.keep(db, mail, msgid, series, said, self._now)

    def _seen(self, db: Connection, msgid: str) -> bool:
        """The archive has a mail of ours: whatever we thought of it, it was sent."""
        done = db.execute(
            update(REPLIES)
            .where(REPLIES.c.msgid == msgid, REPLIES.c.state.in_((*UNKNOWN, *OPEN, 'failed')))
            .where(or_(REPLIES.c.tries > 0, REPLIES.c.approved.is_(True)))
            .values(state='sent', why='the archive has it', since=self._now)
        )
        return done.rowcount > 0

    # --- what is known ---

    def history(self, series: int) -> History:
        """Return what is known of a series besides its mails."""
        with transaction(self._engine) as db:
            return orders.history(db, series, self._clock())

    def traffic(self) -> Traffic:
        """Count the mails of the last 24 hours; one that may have gone counts too."""
        since = self._now - int(DAY)
        with transaction(self._engine) as db:
            rows = db.execute(
                select(REPLIES.c.author, REPLIES.c.lists).where(
                    REPLIES.c.state.in_(('sent', *UNKNOWN)), REPLIES.c.since > since
                )
            ).all()
        by_list: dict[str, int] = {}
        by_author: dict[str, int] = {}
        for row in rows:
            by_author[row.author] = by_author.get(row.author, 0) + 1
            for name in json.loads(row.lists):
                by_list[name] = by_list.get(name, 0) + 1
        return Traffic(by_list, by_author)

    # --- sending ---

    def ready(self) -> list[Outgoing]:
        """
        Return the mails that may go now, those that came first first.

        And those that are put off for very long: policy is asked again, since
        it may have been by a clock that was ahead.
        """
        now = self._now
        ripe = or_(REPLIES.c.not_before <= now, REPLIES.c.not_before > now + FURTHEST)
        return list(self._rows(REPLIES.c.state == 'ready', ripe))

    def unknown(self) -> list[Outgoing]:
        """Return the mails that may have gone or not."""
        return list(self._rows(REPLIES.c.state.in_(UNKNOWN)))

    def waiting(self) -> list[Outgoing]:
        """Return the mails that are held because they may have gone: the archive may be slow."""
        since = self._now - 7 * int(DAY)
        return list(
            self._rows(REPLIES.c.state == 'held', REPLIES.c.tries > 0, REPLIES.c.since > since)
        )

    def claim(self, reply: int) -> bool:
        """Say that a mail's bytes leave now; False where it is no longer to go."""
        with transaction(self._engine) as db:
            done = db.execute(
                update(REPLIES)
                .where(REPLIES.c.id == reply, REPLIES.c.state == 'ready')
                .values(state='claimed', why='', since=self._now, tries=REPLIES.c.tries + 1)
            )
            return done.rowcount == 1

    def settle(self, reply: int, delivery: Delivery) -> str:
        """Keep what became of an attempt; the state that the mail is in now."""
        with transaction(self._engine) as db:
            row = db.execute(select(REPLIES).where(REPLIES.c.id == reply)).one()
            known = isinstance(delivery, Accepted) and row.state == 'unsure'
            if row.state not in ('ready', 'claimed') and not known:
                return str(row.state)  # the archive was quicker than we
            # An attempt counts however far it got.
            tries = row.tries + (row.state == 'ready')
            changes: dict[str, Any] = {'since': self._now, 'tries': tries}
            match delivery:
                case Accepted(refused=refused):
                    left = f', but not for {_counted(len(refused), "recipient")}' if refused else ''
                    changes |= {
                        'state': 'sent', 'why': f'the server took it{left}',
                        'refused': json.dumps(dict(refused)),
                    }  # fmt: skip
                case TryLater(reason=reason, unusable=True):
                    # The server's fault, or ours, and no mail's: it waits, and is never parked.
                    changes |= {
                        'state': 'ready', 'tries': tries - 1, 'why': reason,
                        'not_before': self._now + FIRST_WAIT,
                    }  # fmt: skip
                case TryLater(reason=reason) if tries >= MOST_TRIES:
                    changes |= {
                        'state': 'failed',
                        'why': f'tried {_counted(tries, "time")}: {reason}',
                    }
                case TryLater(reason=reason):
                    later = self._now + FIRST_WAIT * 2 ** (tries - 1)
                    changes |= {
                        'state': 'ready', 'not_before': later,
                        'why': f'tried {_counted(tries, "time")}: {reason}',
                    }  # fmt: skip
                case Refused(reason=reason, refused=refused):
                    changes |= {
                        'state': 'failed', 'why': reason, 'refused': json.dumps(dict(refused)),
                    }  # fmt: skip
                case Unsure(reason=reason):
                    changes |= {'state': 'unsure', 'why': reason}
            db.execute(update(REPLIES).where(REPLIES.c.id == reply).values(**changes))
            return str(changes['state'])

    def decided(self, reply: int, decision: Decision) -> None:
        """Keep what policy says of a mail that was ready."""
        match decision:
            case Silent(reason=reason):
                self._to(reply, 'dropped', reason, ('ready',))
            case Hold(reason=reason):
                self._to(reply, 'held', reason, ('ready',))
            case Post(reason=reason, not_before=when):
                with transaction(self._engine) as db:
                    db.execute(
                        update(REPLIES)
                        .where(REPLIES.c.id == reply, REPLIES.c.state == 'ready')
                        .values(why=reason, not_before=int(when))
                    )

    def recover(self) -> list[Outgoing]:
        """Take up what was claimed and never settled: nobody knows whether it went."""
        with transaction(self._engine) as db:
            db.execute(
                update(REPLIES)
                .where(REPLIES.c.state == 'claimed')
                .values(
                    state='unsure', why='the sender did not come to write down what became of it'
                )
            )
        return self.unknown()

    def fail(self, reply: int, reason: str) -> bool:
        """Say that a mail can't be sent; False where its bytes may have left already."""
        return self._to(reply, 'failed', reason, ('ready',))

    def found(self, msgid: str) -> bool:
        """Say that the archive has a mail; whether it was one of ours that we were unsure of."""
        with transaction(self._engine) as db:
            return self._seen(db, msgid)

    def give_up(self, reply: int, reason: str) -> None:
        """Leave a mail that may have gone to a human: it is not sent again by itself."""
        self._to(reply, 'held', reason, ('unsure',))

    # --- people ---

    def rows(self, states: Sequence[str] = ()) -> list[Outgoing]:
        """Return the mails for `bot outbox list`, the latest change first."""
        wanted = [REPLIES.c.state.in_(states)] if states else []
        return sorted(self._rows(*wanted), key=lambda one: (-one.since, -one.id))

    def get(self, reply: int) -> Outgoing | None:
        """Return one mail, None where there is none of that number."""
        return next(self._rows(REPLIES.c.id == reply), None)

    def approve(self, reply: int) -> bool:
        """Let a mail go that was held or has failed; False where it is neither."""
        with transaction(self._engine) as db:
            done = db.execute(
                update(REPLIES)
                .where(REPLIES.c.id == reply, REPLIES.c.state.in_(('held', 'failed')))
                .values(state='ready', why='approved', approved=True, since=self._now, tries=0)
            )
            return done.rowcount == 1

    def reject(self, reply: int, reason: str) -> bool:
        """Turn a mail down; False where it went, or may have."""
        return self._to(reply, 'rejected', reason, (*OPEN, 'failed'))

    def edit(self, reply: int, raw: bytes) -> bool:
        """Put other bytes in a mail's place; False where it is not held."""
        with transaction(self._engine) as db:
            done = db.execute(
                update(REPLIES)
                .where(REPLIES.c.id == reply, REPLIES.c.state == 'held')
                .values(raw=raw)
            )
            return done.rowcount == 1

    def counts(self) -> dict[str, int]:
        """Count the mails by state."""
        with transaction(self._engine) as db:
            rows = db.execute(select(REPLIES.c.state, func.count()).group_by(REPLIES.c.state)).all()
        return {str(state): int(count) for state, count in rows}

    def _to(self, reply: int, state: str, why: str, states: Sequence[str]) -> bool:
        with transaction(self._engine) as db:
            done = db.execute(
                update(REPLIES)
                .where(REPLIES.c.id == reply, REPLIES.c.state.in_(states))
                .values(state=state, why=why, since=self._now)
            )
            return done.rowcount == 1

    def _rows(self, *wanted: Any) -> Iterator[Outgoing]:
        with transaction(self._engine) as db:
            rows = db.execute(select(REPLIES).where(*wanted).order_by(REPLIES.c.id)).all()
        for row in rows:
            broken, recipients, lists, refused = '', [], [], {}
            try:
                recipients, lists = json.loads(row.recipients), json.loads(row.lists)
                refused = dict(json.loads(row.refused))
                if not all(isinstance(one, str) for one in (*recipients, *lists)):
                    raise TypeError('a recipient is no text')
            except (ValueError, TypeError, RecursionError) as error:  # one must not hide the others
                broken, recipients, lists = f'its row can not be read: {error}', [], []
            yield Outgoing(
                row.id, row.series, row.n, row.msgid, row.author, row.subject,
                tuple(recipients), tuple(lists), bytes(row.raw),
                row.state, row.why, row.since, row.not_before, row.tries, row.approved,
                refused, one_line(broken),
            )  # fmt: skip


def _words(raw: bytes) -> bytes:
    return b' '.join(parse_mail(raw).body.split())


def _counted(count: int, what: str) -> str:
    return f'{count} {what}{"s" * (count != 1)}'


def forget(db: Connection, series: Any) -> None:
    """Delete the mails of series that are pruned. `series` selects their ids."""
    _forget(db, REPLIES.c.series.in_(series))
    db.execute(delete(ORDERS).where(ORDERS.c.series.in_(series)))


def forget_replies(db: Connection, series: int) -> None:
    """Delete the mails about a series that is judged again."""
    _forget(db, REPLIES.c.series == series)


def _forget(db: Connection, which: Any) -> None:
    gone = select(REPLIES.c.id).where(which)
    db.execute(delete(ASKED).where(ASKED.c.reply.in_(gone)))
    db.execute(delete(REPLIES).where(which))
