"""
What people on the list told the bot: kept, weighed, obeyed. In the caller's transaction.

An order waits until its mail's signature is checked, which is done only where
whoever it says it is from has a say on the series. It counts where that
signature is good, on the thread that it names, and once. Whatever nobody can
vouch for is the operator's to decide: a stranger writes such mails as well.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, or_, select, update

from bot.lifecycle import STANDS
from bot.model import Mail
from bot.orders import orders_under
from bot.outgoing import Asked, History, Order
from bot.series import parse_mail
from bot.signatures import Worth, names_its_thread, parents, seal
from bot.store import attested
from bot.store.attested import ASKED_FOR, FIRST_ASK, LAST_ASK, Unchecked
from bot.store.tables import (
    ASKED,
    FACTS,
    MAILS,
    OPT_OUTS,
    ORDERS,
    REPLIES,
    REVIEWS,
    SEALS,
    SERIES,
)

LONGEST_CHAIN = 50
"""Revisions of one series that are looked at."""
STRANGER = 'neither from the author nor from a maintainer of these files'
UNKNOWN = 'its series is not known yet'
AMBIGUOUS = 'the Message-ID that it answers is that of several series'
SHOWN = 200
"""Characters of a reason."""


@dataclass(frozen=True)
class Said:
    """An order as `bot status` shows it. `at` is when it came, `series` what it is about."""

    order: int
    state: str
    kind: str
    rule: str
    by: str
    series: int | None
    at: int
    why: str


def keep(
    db: Connection, mail: int, msgid: str, series: int | None, orders: Iterable[Order], now: int
) -> None:
    """Keep the orders of a mail, until its signature is checked."""
    for order in orders:
        db.execute(
            insert(ORDERS).values(
                mail=mail, msgid=msgid, kind=order.kind, rule=order.rule, series=series,
                by=order.by, standing='pending', at=now, state='pending',
                why=UNKNOWN if series is None else 'its signature is not checked yet',
            )
        )  # fmt: skip


def found(db: Connection, mails: Select[tuple[int]], series: int) -> None:
    """Say which series mails with orders answer, now that it has come."""
    waiting = (ORDERS.c.mail.in_(mails), ORDERS.c.state == 'pending')
    db.execute(update(ORDERS).where(*waiting).values(series=series, not_before=0))


def unweighed(db: Connection, now: int, most: int) -> list[Unchecked]:
    """
    Return the mails with orders whose signatures are to be checked.

    Only of those who have a say on the series: nobody else has name servers asked.
    """
    due = or_(ORDERS.c.not_before <= now, ORDERS.c.not_before > now + LAST_ASK)
    rows = db.execute(
        select(ORDERS.c.mail, ORDERS.c.by, ORDERS.c.at, MAILS.c.parents)
        .distinct()
        .join(MAILS, MAILS.c.id == ORDERS.c.mail)
        .where(ORDERS.c.state == 'pending', due)
        .order_by(ORDERS.c.mail)
    ).all()
    chosen: list[int] = []
    for row in rows:
        # By all that it answers, as it says: what of that is signed is not known yet.
        series = _named(db, json.loads(row.parents), row.by)
        if any(_may(db, one, row.by) for one in series):
            chosen.append(row.mail)
        elif now - row.at >= ASKED_FOR or (series and all(_judged(db, one) for one in series)):
            _decide(db, row.mail, 'refused', STRANGER if series else UNKNOWN)
        if len(chosen) == most:
            break
    raws = db.execute(
        select(MAILS.c.id, MAILS.c.raw).where(MAILS.c.id.in_(chosen)).order_by(MAILS.c.id)
    ).all()
    return [Unchecked(row.id, bytes(row.raw)) for row in raws]


def weigh(db: Connection, number: int, worth: Worth, now: int) -> None:
    """Decide on the orders of a mail, now that somebody has looked at its signature."""
    rows = db.execute(
        select(ORDERS).where(ORDERS.c.mail == number, ORDERS.c.state == 'pending')
    ).all()
    raw = db.execute(select(MAILS.c.raw).where(MAILS.c.id == number)).scalar()
    if not rows or raw is None:
        return
    mine = (ORDERS.c.mail == number, ORDERS.c.state == 'pending')
    db.execute(update(ORDERS).where(*mine).values(standing=worth.standing))
    if worth.standing == 'pending':
        _ask_again(db, number, rows[0], worth.why, now)
    elif worth.standing == 'not-checked':
        _decide(db, number, 'held', 'signatures are not checked here ([attestation] check)')
    elif worth.standing != 'pass':
        _decide(db, number, 'held', worth.why)
    elif not names_its_thread(worth.covers):
        _decide(db, number, 'held', 'its DKIM signature does not cover what it answers')
    else:
        _signed(db, number, rows, parse_mail(bytes(raw)), worth.covers, now)


def give_up(db: Connection, mail: int, why: str) -> None:
    """Leave the orders of a mail that can't be weighed to the operator."""
    _decide(db, mail, 'held', why)


def honour(db: Connection, number: int, now: int) -> bool:
    """Obey an order that was not obeyed, as the operator says; False where there is none."""
    row = db.execute(
        select(ORDERS).where(ORDERS.c.id == number, ORDERS.c.state != 'honoured')
    ).first()
    if row is None or row.series is None:
        return False
    _obey(db, row, row.series, now, 'the operator said so')
    return True


def refuse(db: Connection, number: int) -> bool:
    """Turn an order down that was not obeyed, as the operator says; False where there is none."""
    done = db.execute(
        update(ORDERS)
        .where(ORDERS.c.id == number, ORDERS.c.state.in_(('held', 'pending')))
        .values(state='refused', why='the operator said so')
    )
    return done.rowcount == 1


def said(db: Connection, most: int) -> list[Said]:
    """Return the orders that were not obeyed, those to decide on first."""
    found = []
    for state in ('held', 'pending', 'refused'):  # so that none of them hides another kind
        rows = db.execute(
            select(ORDERS)
            .where(ORDERS.c.state == state)
            .order_by(ORDERS.c.at.desc(), ORDERS.c.id.desc())
            .limit(most)
        ).all()
        found += [
            Said(row.id, row.state, row.kind, row.rule, row.by, row.series, row.at, row.why)
            for row in rows
        ]
    return found


def _ask_again(db: Connection, number: int, row: Any, why: str, now: int) -> None:
    """Put an order off whose signature could not be checked; in the end it is unsigned."""
    if now - row.at >= ASKED_FOR:
        _decide(db, number, 'held', f'its signature could not be checked in 3 days: {why}')
        return
    later = now + min(FIRST_ASK * 2 ** min(row.tries, 10), LAST_ASK)
    db.execute(
        update(ORDERS)
        .where(ORDERS.c.mail == number, ORDERS.c.state == 'pending')
        .values(
            tries=row.tries + 1, not_before=later,
            why=f'its signature is not checked yet: {why}'[:SHOWN],
        )
    )  # fmt: skip


def _signed(
    db: Connection, number: int, rows: Sequence[Any], mail: Mail, covers: frozenset[str], now: int
) -> None:
    """Obey the orders of a mail that its author's domain signed, on the thread that it names."""
    by = mail.author.email.lower()
    named = _named(db, parents(mail, covers), by)
    if not named:
        _decide(db, number, 'refused' if now - rows[0].at >= ASKED_FOR else 'pending', UNKNOWN)
        later = (ORDERS.c.mail == number, ORDERS.c.state == 'pending')
        db.execute(update(ORDERS).where(*later).values(not_before=now + LAST_ASK))
        return
    if len(named) > 1:
        _decide(db, number, 'held', AMBIGUOUS)
        return
    series = named[0]
    if not _may(db, series, by):
        _decide(db, number, 'refused', f'{STRANGER}, on the thread that its signature names')
        return
    key = seal(mail)
    before = db.execute(select(SEALS.c.msgid).where(SEALS.c.seal == key)).scalar()
    if before is not None:
        _decide(db, number, 'refused', f'the same signed mail was obeyed before, as {before}')
        return
    covered = {(one.kind, one.rule) for one in orders_under(mail, covers)}
    honoured = [row for row in rows if (row.kind, row.rule) in covered]
    if honoured:
        db.execute(insert(SEALS).values(seal=key, msgid=rows[0].msgid, at=now))
    for row in honoured:
        _obey(db, row, series, now, '')
    _decide(db, number, 'held', 'the line is not in what its DKIM signature covers')


def _named(db: Connection, named: Sequence[str], by: str) -> list[int]:
    """Return the series that a mail answers: the nearest known, several where that is not sure."""
    for parent in named:
        rows = db.execute(
            select(SERIES.c.id, SERIES.c.author)
            .join(MAILS, MAILS.c.series == SERIES.c.id)
            .where(MAILS.c.msgid == parent)
            .distinct()
        ).all()
        own = [int(row.id) for row in rows if row.author == by]
        if len(own) == 1:
            return own
        if rows:
            return sorted(int(row.id) for row in rows)
    return []


def _obey(db: Connection, row: Any, series: int, now: int, why: str) -> None:
    mine = ORDERS.c.id == row.id
    db.execute(update(ORDERS).where(mine).values(state='honoured', why=why, series=series))
    if row.kind == 'opt-out':
        address = db.execute(select(SERIES.c.author).where(SERIES.c.id == series)).scalar_one()
        db.execute(delete(OPT_OUTS).where(OPT_OUTS.c.address == address))
        db.execute(insert(OPT_OUTS).values(address=address, since=now, msgid=row.msgid))


def _decide(db: Connection, mail: int, state: str, why: str) -> None:
    db.execute(
        update(ORDERS)
        .where(ORDERS.c.mail == mail, ORDERS.c.state == 'pending')
        .values(state=state, why=why[:SHOWN])
    )


def _may(db: Connection, series: int, by: str) -> bool:
    """Whether an address has a say on a series: its author, or a maintainer of its files."""
    revisions = chain(db, series)
    authors = set(db.execute(select(SERIES.c.author).where(SERIES.c.id.in_(revisions))).scalars())
    listed = {
        address
        for named in db.execute(
            select(REVIEWS.c.maintainers).where(REVIEWS.c.series.in_(revisions))
        ).scalars()
        for address in json.loads(named)
    }
    return by in authors | listed


def _judged(db: Connection, series: int) -> bool:
    """Whether it is known who the maintainers of a series are."""
    there = select(REVIEWS.c.series).where(REVIEWS.c.series.in_(chain(db, series)))
    return db.execute(there).first() is not None


def chain(db: Connection, series: int) -> list[int]:
    """Return all revisions of a series that are known to be one, itself among them."""
    found = [series]
    for one in found:
        related = db.execute(
            select(SERIES.c.id, SERIES.c.before).where(
                or_(SERIES.c.before == one, SERIES.c.id == one)
            )
        ).all()
        for row in related:
            for other in (row.id, row.before):
                if other is not None and other not in found and len(found) < LONGEST_CHAIN:
                    found.append(int(other))
    return found


def history(db: Connection, series: int, now: float) -> History:
    """Return what is known of a series besides its mails."""
    row = db.execute(select(SERIES).where(SERIES.c.id == series)).one()
    revisions = chain(db, series)
    orders = db.execute(
        select(ORDERS.c.kind, ORDERS.c.rule).where(
            ORDERS.c.series.in_(revisions), ORDERS.c.state == 'honoured'
        )
    ).all()
    asked = db.execute(
        select(ASKED)
        .join(REPLIES, REPLIES.c.id == ASKED.c.reply)
        .where(
            REPLIES.c.series.in_(revisions), REPLIES.c.series != series, REPLIES.c.state == 'sent'
        )
    ).all()
    # A revision that comes to nothing, or is only a copy, keeps back no mail.
    newer = db.execute(
        select(SERIES.c.id).where(SERIES.c.before == series, SERIES.c.state.in_(STANDS))
    ).first()
    return History(
        now=now,
        started=started(db, now),
        # A mail that says it is of the future, or of long ago, is of when it came.
        posted=float(min(row.posted, row.first_seen) if row.posted else 0),
        asked=tuple(
            Asked(one.revision, one.fingerprint, one.rule, one.path, one.symbol)
            for one in asked
            if one.revision <= row.revision
        ),
        acked=frozenset(one.rule for one in orders if one.kind == 'ack'),
        stopped=any(one.kind == 'stop' for one in orders),
        opted_out=frozenset(db.execute(select(OPT_OUTS.c.address)).scalars()),
        superseded=newer is not None or row.state == 'superseded',
        below_ours=_below_ours(db, series, revisions),
        attested=row.attested,
        signs=attested.signs(db, row.author),
    )


def _below_ours(db: Connection, series: int, revisions: Sequence[int]) -> bool:
    """Whether a series answers a mail of ours on another one, or says it is such a mail."""
    mails = db.execute(
        select(MAILS.c.msgid, MAILS.c.parents).where(MAILS.c.id.in_(attested.counted(db, series)))
    ).all()
    named = {one for row in mails for one in (row.msgid, *json.loads(row.parents))}
    ours = select(REPLIES.c.series).where(REPLIES.c.msgid.in_(named))
    own = {row.msgid for row in mails}
    claimed = select(REPLIES.c.id).where(REPLIES.c.msgid.in_(own))
    return db.execute(claimed).first() is not None or any(
        other not in revisions for other in db.execute(ours).scalars()
    )


def started(db: Connection, now: float) -> float:
    """Return when this database was first used: now, where nobody has said."""
    said = db.execute(select(FACTS.c.value).where(FACTS.c.name == 'started')).scalar()
    return float(said) if said is not None else now
