"""What people on the list told the bot: kept, weighed, obeyed. In the caller's transaction."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from bot.headers import author, header_only
from bot.orders import Standing, signed_by, signs_for
from bot.outgoing import Asked, History, Order
from bot.store.tables import (
    ASKED,
    FACTS,
    MAILS,
    OPT_OUTS,
    ORDERS,
    REPLIES,
    REVIEWS,
    SERIES,
)

LONGEST_CHAIN = 50
"""Revisions of one series that are looked at."""
MOST_MAILS = 200
"""Mails of these that are looked at for a signature."""


def keep(
    db: Connection,
    msgid: str,
    series: int | None,
    orders: Iterable[Order],
    standing: Standing,
    now: int,
) -> None:
    """Keep the orders of a mail, and obey those that count."""
    for order in orders:
        db.execute(
            insert(ORDERS).values(
                msgid=msgid, kind=order.kind, rule=order.rule, series=series, by=order.by,
                standing=standing, at=now, honoured=False, why='its series is not known yet',
            )
        )  # fmt: skip
    if series is not None:
        obey(db, msgid, series, now)


def obey(db: Connection, msgid: str, series: int, now: int) -> None:
    """Weigh the orders of a mail, now that its series is known."""
    rows = db.execute(select(ORDERS).where(ORDERS.c.msgid == msgid)).all()
    # One mail's orders are of one author and one standing: they are weighed once.
    why = _why_not(db, series, rows[0]) if rows else ''
    for row in rows:
        mine = and_(ORDERS.c.msgid == msgid, ORDERS.c.kind == row.kind, ORDERS.c.rule == row.rule)
        db.execute(update(ORDERS).where(mine).values(series=series, honoured=not why, why=why))
        if not why and row.kind == 'opt-out':
            address = db.execute(select(SERIES.c.author).where(SERIES.c.id == series)).scalar_one()
            db.execute(delete(OPT_OUTS).where(OPT_OUTS.c.address == address))
            db.execute(insert(OPT_OUTS).values(address=address, since=now, msgid=msgid))


def _why_not(db: Connection, series: int, row: Any) -> str:
    """Say why an order does not count, '' where it does."""
    revisions = chain(db, series)
    authors = set(db.execute(select(SERIES.c.author).where(SERIES.c.id.in_(revisions))).scalars())
    listed = {
        address
        for said in db.execute(
            select(REVIEWS.c.maintainers).where(REVIEWS.c.series.in_(revisions))
        ).scalars()
        for address in json.loads(said)
    }
    if row.by not in authors | listed:
        return 'neither from the author nor from a maintainer of these files'
    if row.standing == 'fail':
        return 'its DKIM signature does not fit'
    if row.standing == 'unsigned' and row.by not in authors:
        return 'a maintainer is known by his signature, and this mail has none that counts'
    if row.standing == 'unsigned' and _signs(db, revisions, row.by, row.msgid):
        return f'other mails of {row.by} are signed, this one is not'
    return ''


def _signs(db: Connection, revisions: Sequence[int], address: str, but: str) -> bool:
    """Whether an address' other mails on a series are signed by its own domain."""
    # Anybody can send thousands of answers: these come last, and not all of them are read.
    raws = db.execute(
        select(MAILS.c.raw)
        .where(MAILS.c.series.in_(revisions), MAILS.c.msgid != but)
        .order_by(MAILS.c.kind == 'answer', MAILS.c.id)
        .limit(MOST_MAILS)
    ).scalars()
    return any(
        signs_for(signed_by(bytes(raw)), address)
        and author(header_only(bytes(raw))).email.lower() == address
        for raw in raws
    )


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
            ORDERS.c.series.in_(revisions), ORDERS.c.honoured.is_(True)
        )
    ).all()
    asked = db.execute(
        select(ASKED)
        .join(REPLIES, REPLIES.c.id == ASKED.c.reply)
        .where(
            REPLIES.c.series.in_(revisions), REPLIES.c.series != series, REPLIES.c.state == 'sent'
        )
    ).all()
    newer = db.execute(select(SERIES.c.id).where(SERIES.c.before == series)).first()
    return History(
        now=now,
        started=started(db, now),
        # A mail that says it is of the future, or of long ago, is of when it came.
        posted=float(min(row.posted, row.first_seen) if row.posted else 0),
        asked=tuple(
            Asked(one.revision, one.fingerprint, one.rule, one.path, one.symbol)
            for one in asked
            if one.revision < row.revision
        ),
        acked=frozenset(one.rule for one in orders if one.kind == 'ack'),
        stopped=any(one.kind == 'stop' for one in orders),
        opted_out=frozenset(db.execute(select(OPT_OUTS.c.address)).scalars()),
        superseded=newer is not None or row.state == 'superseded',
        below_ours=_below_ours(db, series, revisions),
    )


def _below_ours(db: Connection, series: int, revisions: Sequence[int]) -> bool:
    """Whether a series answers a mail of ours on another one, or says it is such a mail."""
    mails = db.execute(
        select(MAILS.c.msgid, MAILS.c.parents).where(
            MAILS.c.series == series, MAILS.c.kind != 'answer'
        )
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
