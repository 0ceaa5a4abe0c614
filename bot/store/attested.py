"""
Who wrote a series: what its mails' signatures say, and which mails count.

In the caller's transaction.

Several mails may claim one place of a series, or one Message-ID. Which of them
counts, `lifecycle.py` says; here it is looked up and written down.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from bot.assembly import letter
from bot.lifecycle import Attested, Part, another, chosen, weakest
from bot.model import Mail, Scope
from bot.series import parse_mail
from bot.signatures import Standing, Worth, fixes_its_place
from bot.store.tables import MAILS, NODES, ORDERS, PATCHES, SERIES, SIGNERS

DAY = 86_400
ASKED_FOR = 3 * DAY
"""Seconds for which name servers that do not answer are asked again; then a mail is unsigned."""
FIRST_ASK = 300
LAST_ASK = 6 * 3600
REMEMBERED = 183 * DAY
"""Seconds for which it is remembered that an author signs."""
NOWHERE = Scope((), (), ())
CLAIM = (
    MAILS.c.id, MAILS.c.msgid, MAILS.c.kind, MAILS.c.n, MAILS.c.attested, MAILS.c.machine,
    MAILS.c.parents,
)  # fmt: skip
KNOWN: Mapping[Standing, Attested] = {
    'pass': 'pass', 'fail': 'unsigned', 'unsigned': 'unsigned', 'not-checked': 'off',
}  # fmt: skip


@dataclass(frozen=True)
class Unchecked:
    """A mail whose signature is to be checked. `mail` is its number in the store."""

    mail: int
    raw: bytes


def unattested(db: Connection, now: int, most: int) -> list[Unchecked]:
    """Return mails whose signatures matter and are not known, those that wait longest first."""
    # What is out of scope matters where it may be a revision of what is in it.
    authors = select(SERIES.c.author).where(SERIES.c.in_scope.is_(True))
    rows = db.execute(
        select(MAILS.c.id, MAILS.c.raw)
        .join(SERIES, SERIES.c.id == MAILS.c.series)
        .where(
            MAILS.c.attested == 'unknown',
            or_(MAILS.c.ask_at <= now, MAILS.c.ask_at > now + LAST_ASK),
            or_(SERIES.c.in_scope.is_(True), SERIES.c.author.in_(authors)),
        )
        .order_by(MAILS.c.ask_at, MAILS.c.id)
        .limit(most)
    ).all()
    return [Unchecked(row.id, bytes(row.raw)) for row in rows]


def attest(db: Connection, number: int, worth: Worth, now: int) -> int | None:
    """Keep what the signature of a mail is worth; the series that it may change."""
    row = db.execute(
        select(MAILS.c.series, MAILS.c.raw, MAILS.c.arrived, MAILS.c.ask_at).where(
            MAILS.c.id == number, MAILS.c.attested == 'unknown'
        )
    ).first()
    if row is None:
        return None
    mine = MAILS.c.id == number
    if worth.standing == 'pending' and now - row.arrived < ASKED_FOR:
        waited = max(now - row.arrived, FIRST_ASK)
        db.execute(update(MAILS).where(mine).values(ask_at=now + min(waited, LAST_ASK)))
        return None
    mail = parse_mail(bytes(row.raw))
    found = KNOWN.get(worth.standing, 'unsigned')
    if found == 'pass':
        _signs(db, mail, now)
        found = 'pass' if fixes_its_place(mail, worth.covers) else 'loose'
    db.execute(update(MAILS).where(mine).values(attested=found))
    return None if row.series is None else int(row.series)


def give_up(db: Connection, number: int) -> None:
    """Count a mail whose signature makes us fail as unsigned."""
    db.execute(update(MAILS).where(MAILS.c.id == number).values(attested='unsigned'))


def signs(db: Connection, address: str) -> bool:
    """Whether an author's own domain is known to sign his mails."""
    found = select(SIGNERS.c.address).where(SIGNERS.c.address == address)
    return db.execute(found).first() is not None


def forget(db: Connection, now: int) -> None:
    """Forget who signed long ago."""
    db.execute(delete(SIGNERS).where(SIGNERS.c.last < now - REMEMBERED))


def counted(db: Connection, series: int) -> frozenset[int]:
    """Return the mails that a series is made of, by number: what less than they is left out."""
    parts, _ = _parts(db, series)
    return frozenset(one.id for one in chosen(parts).values())


def cover(db: Connection, series: int) -> str:
    """Return `Letter.content` of the cover letter of a series; '' where there is none."""
    parts, _ = _parts(db, series)
    one = chosen(parts).get(0)
    if one is None:
        return ''
    raw = db.execute(select(MAILS.c.raw).where(MAILS.c.id == one.id)).scalar_one()
    read = letter(bytes(raw), NOWHERE)
    return read.content if read is not None else ''


def part(db: Connection, series: int) -> int | None:
    """Make a series of its own of a second posting among a series' mails; None: there is none."""
    row = db.execute(select(SERIES).where(SERIES.c.id == series)).one()
    parts, _ = _parts(db, series)
    moved = another(parts, row.of)
    if not moved:
        return None
    numbers = [one.id for one in moved]
    kept = {'list', 'author', 'name', 'revision', 'of', 'in_scope', 'again', 'aside', 'first_seen'}
    kept |= {'last_seen', 'title', 'posted', 'needs', 'change_id'}
    values = {name: value for name, value in row._mapping.items() if name in kept}
    values |= {'state': 'assembling', 'why': '', 'since': row.last_seen, **_said(db, numbers)}
    made = db.execute(insert(SERIES).values(**values)).inserted_primary_key
    assert made is not None
    new = int(made[0])
    db.execute(update(MAILS).where(MAILS.c.id.in_(numbers)).values(series=new))
    names = {one.msgid for one in moved}
    mine = and_(NODES.c.series == series, NODES.c.msgid.in_(names))
    db.execute(update(NODES).where(mine).values(series=new))
    for one in chosen(moved).values():
        if one.n:
            db.execute(
                insert(PATCHES).values(
                    series=new, n=one.n, msgid=one.msgid, title='', content='', mail=one.id
                )
            )
            _replace(db, new, one.n, one.id)
    _answers(db, series, new, names)
    return new


def _answers(db: Connection, series: int, new: int, names: set[str]) -> None:
    """Move the answers to some mails along, and the answers to these, with the orders in them."""
    rows = db.execute(
        select(MAILS.c.id, MAILS.c.msgid, MAILS.c.parents)
        .where(MAILS.c.series == series, MAILS.c.kind == 'answer')
        .order_by(MAILS.c.id)
    ).all()
    for row in rows:
        if names.intersection(json.loads(row.parents)[:1]):
            names.add(row.msgid)
            db.execute(update(MAILS).where(MAILS.c.id == row.id).values(series=new))
            db.execute(update(ORDERS).where(ORDERS.c.mail == row.id).values(series=new))


def recount(db: Connection, series: int) -> bool:
    """
    Find out anew which mails a series is made of, and what they are worth.

    Returns whether another mail than before counts for one of its patches.
    """
    parts, places = _parts(db, series)
    picked = chosen(parts)
    changed = False
    for n, one in picked.items():
        if n and places.get(n) not in (one.id, None):
            changed = True
            _replace(db, series, n, one.id)
    values: dict[str, Any] = {
        'attested': weakest(one.attested for one in picked.values()),
        'machine': any(one.machine for one in picked.values()),
    }
    if len(picked) < len(parts):
        values |= _said(db, [one.id for one in picked.values()])
    db.execute(update(SERIES).where(SERIES.c.id == series).values(**values))
    return changed


def _parts(db: Connection, series: int) -> tuple[list[Part], dict[int, int | None]]:
    """Return the mails that claim a place in a series, and which one each patch has now."""
    rows = db.execute(
        select(*CLAIM)
        .where(MAILS.c.series == series, MAILS.c.kind != 'answer')
        .order_by(MAILS.c.id)
    ).all()  # fmt: skip
    patches = db.execute(select(PATCHES).where(PATCHES.c.series == series)).all()
    by_msgid = {one.msgid: one.n for one in patches}
    parts: list[Part] = []
    first: dict[str, int] = {}
    for row in rows:
        # An earlier version of the bot wrote no place down: it kept one mail for each.
        n = row.n if row.n is not None else 0 if row.kind == 'cover' else by_msgid.get(row.msgid)
        if n is not None:
            above = next(iter(json.loads(row.parents)), '')
            parts.append(Part(row.id, n, row.attested, row.machine, row.msgid, above))
            first.setdefault(row.msgid, row.id)
    return parts, {one.n: one.mail or first.get(one.msgid) for one in patches}


def _replace(db: Connection, series: int, n: int, number: int) -> None:
    raw = db.execute(select(MAILS.c.raw).where(MAILS.c.id == number)).scalar_one()
    read = letter(bytes(raw), NOWHERE)
    if read is None:
        return
    db.execute(
        update(PATCHES)
        .where(and_(PATCHES.c.series == series, PATCHES.c.n == n))
        .values(msgid=read.msgid, title=read.title, content=read.content, mail=number)
    )


def _said(db: Connection, numbers: list[int]) -> dict[str, Any]:
    """Return what a series says of itself, by the mails that count alone."""
    raws = db.execute(
        select(MAILS.c.raw).where(MAILS.c.id.in_(numbers)).order_by(MAILS.c.n, MAILS.c.id)
    ).scalars()
    read = [one for raw in raws if (one := letter(bytes(raw), NOWHERE)) is not None]
    if not read:
        return {}
    changes = [one.change_id for one in read if one.change_id is not None]
    return {
        'title': next((one.title for one in read if one.kind == 'cover'), read[0].title),
        'posted': min((one.date for one in read if one.date), default=0),
        'needs': any(one.needs for one in read),
        'change_id': changes[-1] if changes else None,
    }


def _signs(db: Connection, mail: Mail, now: int) -> None:
    address = mail.author.email.lower()
    db.execute(delete(SIGNERS).where(SIGNERS.c.address == address))
    db.execute(insert(SIGNERS).values(address=address, last=now))
