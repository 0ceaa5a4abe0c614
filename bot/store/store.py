"""Every transition of the database, one transaction each."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, func, insert, or_, select, update

from bot.assembly import Letter, Reason
from bot.errors import BotError, LetterError, StoreError
from bot.lifecycle import ENDED, JUDGED, OPEN, STANDS, Revision, holds, relate, twin
from bot.lookup import Kept
from bot.model import Finding
from bot.output.wording import fact
from bot.respond import Response
from bot.signatures import Worth
from bot.store import attested, orders, unread
from bot.store.attested import Unchecked
from bot.store.database import is_down, only, transaction
from bot.store.figures import Figures
from bot.store.outbox import UNKNOWN, Outbox, forget, forget_replies
from bot.store.tables import (
    CURSORS,
    FACTS,
    FINDINGS,
    LOOKUPS,
    MAILS,
    NODES,
    ORDERS,
    PATCHES,
    REPLIES,
    REVIEWS,
    SERIES,
    WAITING,
    WORK,
)
from bot.store.unread import Fault, PassedOver, reason_of

DAY = 86_400
FURTHEST = DAY
"""Seconds. What is to wait longer was put off by a clock that has jumped back since."""
AHEAD = 3600
"""Seconds by which our clock may differ from the archive's."""
MOST_ANSWERS = 500
"""
Answers of a series that are read for their trailers. b4 takes seconds for some hundred, and comes
to no end with 10,000: anybody may write them, and the series is to be judged all the same.
"""
LARGEST_ANSWERS = 16 << 20
"""Bytes of all of these."""
SAID = 2000
MOST_PATCHES = 10_000
MOST_NODES = 200
"""Message-ids that a series is known by, besides two for each of its patches."""
LARGEST = 64 << 20
"""Bytes of the patches that a series is judged with; twice as many are too much."""
WAITED = 'its cover letter did not come'
PARTIAL = 'part '
"""What the content of a part of a series begins with, which b4 puts together with what it is of."""
NOT_AGAIN = ', and mailed about: what came later is not judged'
CHANGED = 'another mail counts for one of its patches'
UNATTESTED = 3600
"""Seconds for which a series waits to be judged until its signatures are checked."""
AT_ONCE = 200
"""Mails whose signatures are checked in one go."""


@dataclass(frozen=True)
class Cursor:
    """How far an epoch was walked: the commit, the mail that it holds, and its date."""

    epoch: int
    commit: str
    msgid: str
    date: int
    fingerprint: str = ''


@dataclass(frozen=True)
class TakenIn:
    """How many mails were new, and how many could not be read and were passed over."""

    new: int
    unread: int


@dataclass(frozen=True)
class Taken:
    """
    A series to judge: its mails, and those of the revisions before it, for a partial reroll.

    `parts` counts its own patches and cover letters, `age` the seconds since
    the last of them came. `lookups` is what the archive said of its
    prerequisites.
    """

    series: int
    revision: int
    title: str
    msgid: str
    mails: tuple[bytes, ...]
    tries: int
    parts: int
    age: float
    lookups: Kept = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A series as `bot status` shows it. `since` is a time."""

    series: int
    list: str
    title: str
    author: str
    revision: int
    patches: str
    state: str
    since: int
    why: str


class Store:
    """The database. `clock` gives seconds since 1970."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock
        self.outbox = Outbox(engine, clock)
        self.figures = Figures(engine, clock)
        self.unread = PassedOver(engine, clock)

    @property
    def _now(self) -> int:
        return int(self._clock())

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def alone(self, what: str) -> Iterator[Callable[[], None]]:
        """
        Hold the lock of the one `what` that a database has. Raises `StoreError`.

        It gives what is to be called before each step: it sees that the lock is still held.
        """
        with only(self._engine, what) as keep:
            yield keep

    def first_start(self, when: float) -> None:
        """Say when the bot first started: nothing older is ever mailed about."""
        with transaction(self._engine) as db:
            db.execute(update(FACTS).where(FACTS.c.name == 'started').values(value=str(int(when))))

    def started_by(self, when: float) -> None:
        """Put right a first start that is later than `when`: the clock was ahead."""
        mine = FACTS.c.name == 'started'
        with transaction(self._engine) as db:
            said = db.execute(select(FACTS.c.value).where(mine)).scalar()
            if said is not None and float(said) > when + AHEAD:
                db.execute(update(FACTS).where(mine).values(value=str(int(when))))

    # --- what arrives ---

    def cursors(self, name: str) -> dict[int, Cursor]:
        """Return how far each epoch of a list was walked."""
        with transaction(self._engine) as db:
            rows = db.execute(select(CURSORS).where(CURSORS.c.list == name)).all()
        return {
            row.epoch: Cursor(row.epoch, row.commit, row.msgid, row.date, row.fingerprint)
            for row in rows
        }

    def take_in(
        self,
        name: str,
        letters: Iterable[Letter],
        cursor: Cursor | None,
        faults: Sequence[Fault] = (),
        dropped: Mapping[Reason, int] | None = None,
    ) -> TakenIn:
        """
        Store what was found in a list up to `cursor`, and the cursor with it.

        `dropped` counts the mails that are nothing to the bot.

        A mail that is known (another list had it, or the same commit is walked
        again) changes nothing. One that can't be stored joins the `faults`, those
        that could not be read. Raises `StoreError` where the database fails.
        """
        count = 0
        found = list(faults)
        with transaction(self._engine) as db:
            for letter in letters:
                try:
                    with db.begin_nested():
                        new = self._is_new(db, letter)
                        if new:
                            self._arrives(db, name, letter)
                    count += new
                except Exception as error:  # one mail must not stop the others
                    if is_down(error) or isinstance(error, BotError):
                        raise
                    found.append(Fault(letter.commit, letter.msgid, reason_of(error)))
            passed = self.unread.keep(db, name, cursor.epoch if cursor else 0, found)
            self.figures.dropped(db, dropped or {})
            if cursor is not None:
                where = and_(CURSORS.c.list == name, CURSORS.c.epoch == cursor.epoch)
                db.execute(delete(CURSORS).where(where))
                db.execute(
                    insert(CURSORS).values(
                        list=name,
                        epoch=cursor.epoch,
                        commit=cursor.commit,
                        msgid=cursor.msgid,
                        date=cursor.date,
                        fingerprint=cursor.fingerprint,
                    )
                )
        return TakenIn(count, passed)

    def _is_new(self, db: Connection, letter: Letter) -> bool:
        # Another mail under a known Message-ID is another mail: see `lifecycle.py`.
        same = and_(MAILS.c.msgid == letter.msgid, MAILS.c.digest.in_((letter.digest, '')))
        return db.execute(select(MAILS.c.id).where(same)).first() is None

    def _arrives(self, db: Connection, name: str, letter: Letter) -> None:
        series = (
            self._answered(db, letter)
            if letter.kind == 'answer'
            else self._joined(db, name, letter)
        )
        made = db.execute(
            insert(MAILS).values(
                msgid=letter.msgid,
                series=series,
                kind=letter.kind,
                date=letter.date,
                arrived=self._now,
                parents=json.dumps(letter.parents),
                raw=letter.raw,
                digest=letter.digest,
                n=None if letter.kind == 'answer' else letter.n,
                machine=letter.machine,
                attested=letter.attested,
            )
        )
        assert made.inserted_primary_key is not None
        mail = int(made.inserted_primary_key[0])
        if letter.kind == 'answer':
            if series is None and letter.parents:
                rows = [{'parent': parent, 'mail': mail} for parent in letter.parents]
                db.execute(insert(WAITING), rows)
            self.outbox.arrived(db, mail, letter.msgid, series, letter.orders, letter.raw)
        if series is None or letter.kind == 'answer':
            return
        if letter.kind == 'patch':
            there = and_(PATCHES.c.series == series, PATCHES.c.n == letter.n)
            if db.execute(select(PATCHES.c.n).where(there)).first() is None:
                db.execute(
                    insert(PATCHES).values(
                        series=series,
                        n=letter.n,
                        msgid=letter.msgid,
                        title=letter.title,
                        content=letter.content,
                        mail=mail,
                    )
                )
        self._judge_completeness(db, series)

    def _answered(self, db: Connection, letter: Letter) -> int | None:
        """Return the series that an answer belongs to, of several the nearest."""
        for parent in letter.parents:
            found = db.execute(
                select(MAILS.c.series)
                .where(MAILS.c.msgid == parent, MAILS.c.series.is_not(None))
                .order_by(MAILS.c.id)
            ).scalar()
            if found is not None:
                return int(found)
        return None

    def _joined(self, db: Connection, name: str, letter: Letter) -> int:
        """Return the series that a patch or cover letter is part of: a known one, or a new one."""
        # What was sent again, or is not reviewed at all, is a series of its own in any thread.
        apart = (letter.author, 'RESEND' if letter.resend else '', letter.aside)
        author = ' '.join(one for one in apart if one)
        mine = and_(
            NODES.c.author == author,
            NODES.c.revision == letter.revision,
            NODES.c.of == letter.of,
        )
        nodes = (letter.msgid, *letter.parents)
        found = db.execute(
            select(NODES.c.series).distinct().where(mine, NODES.c.msgid.in_(nodes))
        ).scalars()
        known = self._oldest(db, found.all())
        if letter.of == 1 and not (known and self._is_own(db, known[0], letter)):
            known = []  # single patches that answer the same mail are not one series
        if known:
            series = known[0]
            for other in known[1:]:
                if not self._overlap(db, other, series):
                    self._merge(db, other, series)
            self._grows(db, series, letter)
        else:
            series = self._new(db, name, letter)
        there = select(func.count()).select_from(NODES).where(NODES.c.series == series)
        if db.execute(there).scalar_one() > MOST_NODES + 2 * letter.of:
            nodes = ()  # whatever else comes knows the series by what it answers
        for node in nodes if letter.of > 1 else nodes[:1]:
            exists = db.execute(select(NODES.c.series).where(mine, NODES.c.msgid == node)).first()
            if exists is None:
                db.execute(
                    insert(NODES).values(
                        msgid=node,
                        author=author,
                        revision=letter.revision,
                        of=letter.of,
                        series=series,
                    )
                )
        self._answers_of(db, letter.msgid, series)
        return series

    def _answers_of(self, db: Connection, msgid: str, series: int) -> None:
        """Join answers that came before what they answer, and the orders in them."""
        waiting = select(WAITING.c.mail).where(WAITING.c.parent == msgid)
        if db.execute(waiting.limit(1)).first() is None:
            return
        db.execute(update(MAILS).where(MAILS.c.id.in_(waiting)).values(series=series))
        orders.found(db, waiting, series)
        db.execute(delete(WAITING).where(WAITING.c.mail.in_(waiting)))

    def _oldest(self, db: Connection, series: Sequence[int]) -> list[int]:
        """Sort beginnings of one series: what is judged is not judged again with what joins it."""
        rows = db.execute(select(SERIES.c.id, SERIES.c.state).where(SERIES.c.id.in_(series))).all()
        return [row.id for row in sorted(rows, key=lambda row: (row.state != 'reviewed', row.id))]

    def _is_own(self, db: Connection, series: int, letter: Letter) -> bool:
        row = db.execute(select(SERIES.c.title).where(SERIES.c.id == series)).one()
        return bool(row.title == letter.title)

    def _new(self, db: Connection, name: str, letter: Letter) -> int:
        made = db.execute(
            insert(SERIES).values(
                list=name,
                author=letter.author,
                name=letter.name,
                revision=letter.revision,
                of=letter.of,
                title=letter.title,
                again=letter.resend,
                aside=letter.aside,
                change_id=letter.change_id,
                in_scope=letter.in_scope,
                needs=letter.needs,
                state='assembling',
                why='',
                since=self._now,
                first_seen=self._now,
                last_seen=self._now,
                posted=letter.date,
            )
        )
        assert made.inserted_primary_key is not None
        return int(made.inserted_primary_key[0])

    def _grows(self, db: Connection, series: int, letter: Letter) -> None:
        changes: dict[str, Any] = {'last_seen': self._now}
        row = db.execute(select(SERIES).where(SERIES.c.id == series)).one()
        if letter.kind == 'cover':
            changes['title'] = letter.title
        if letter.change_id is not None:
            changes['change_id'] = letter.change_id
        if letter.in_scope:
            changes['in_scope'] = True
        if letter.needs:
            changes['needs'] = True
        if letter.date and (not row.posted or letter.date < row.posted):
            changes['posted'] = letter.date
        db.execute(update(SERIES).where(SERIES.c.id == series).values(**changes))

    def _overlap(self, db: Connection, one: int, other: int) -> bool:
        """Whether two series have the same patch: they are two, whatever a mail says of them."""
        mine = select(PATCHES.c.n).where(PATCHES.c.series == one)
        both = select(PATCHES.c.n).where(PATCHES.c.series == other, PATCHES.c.n.in_(mine))
        return db.execute(both).first() is not None

    def _merge(self, db: Connection, other: int, series: int) -> None:
        """Two beginnings turn out to be of one series."""
        row = db.execute(select(SERIES).where(SERIES.c.id == other)).one()
        for table in (MAILS, NODES, REPLIES, ORDERS):
            db.execute(update(table).where(table.c.series == other).values(series=series))
        there = select(PATCHES.c.n).where(PATCHES.c.series == series)
        moved = and_(PATCHES.c.series == other, PATCHES.c.n.not_in(there))
        db.execute(update(PATCHES).where(moved).values(series=series))
        for column in (SERIES.c.before, SERIES.c.stand_in):
            db.execute(update(SERIES).where(column == other).values({column: series}))
        for name in ('in_scope', 'needs'):
            if getattr(row, name):
                db.execute(update(SERIES).where(SERIES.c.id == series).values({name: True}))
        db.execute(delete(SERIES).where(SERIES.c.id == other))

    # --- what becomes of a series ---

    def _judge_completeness(self, db: Connection, series: int) -> None:
        """Decide what becomes of a series, and again on those that it stood for."""
        other = attested.part(db, series)
        self._decide(db, series)
        self._recheck(db, series)
        if other is not None:
            self._judge_completeness(db, other)
            self._judge_completeness(db, series)  # there may be one more

    def _decide(self, db: Connection, series: int) -> None:
        changed = attested.recount(db, series)
        row = db.execute(select(SERIES).where(SERIES.c.id == series)).one()
        if row.aside:
            if row.state != 'skipped':
                self._to(db, series, 'skipped', row.aside)
            return
        if not self._stood_for(db, row):
            self._to(db, series, 'assembling', '')
        elif row.state not in OPEN and (changed or self._grew(db, row)):
            if not self._reopened(db, row):
                if row.state == 'reviewed' and not row.why.endswith(NOT_AGAIN):
                    why = row.why + NOT_AGAIN
                    db.execute(update(SERIES).where(SERIES.c.id == series).values(why=why))
                return
            changed = True
        self._relate(db, series)
        row = db.execute(select(SERIES).where(SERIES.c.id == series)).one()
        if row.state not in OPEN:
            return
        if self._missing(db, series, row.of):
            if row.state != 'assembling':
                self._to(db, series, 'assembling', '')
            return
        if row.why != WAITED and self._wants_cover(db, series, row.of):
            if row.state != 'assembling':
                self._to(db, series, 'assembling', '')
            return
        content = self._content(db, series)
        db.execute(update(SERIES).where(SERIES.c.id == series).values(content=content))
        other = self._twin(db, row, content)
        if other is not None:
            self._to(db, series, 'resent', f'the same as series {other}', other)
        elif row.in_scope:
            self._pend(db, series, CHANGED if changed else '')
            if row.state not in STANDS:
                self._relate(db, series)  # from now on it replaces what is earlier
        else:
            self._to(db, series, 'skipped', 'out of scope')

    def _grew(self, db: Connection, row: Any) -> bool:
        """Whether more came of a series that was judged, or is, for a part of one."""
        if row.state not in ('working', 'reviewed') or not (row.content or '').startswith(PARTIAL):
            return False
        return bool(row.content != self._content(db, row.id))

    def _stood_for(self, db: Connection, row: Any) -> bool:
        """Whether what stood for a series that is not judged still does; True of all others."""
        if row.state not in ('superseded', 'resent') or row.stand_in is None:
            return True
        other = db.execute(select(SERIES).where(SERIES.c.id == row.stand_in)).first()
        if other is None:
            return True  # it is forgotten, as it was done with
        content = row.content
        if row.state == 'resent':
            if self._missing(db, row.id, row.of):
                return False
            content = self._content(db, row.id)
        silent = bool(self._silent(db, [other.id]))
        mine = replace(_revision(row), content=content or '')
        return holds(mine, _revision(other, silent=silent), row.state)

    def _recheck(self, db: Connection, series: int) -> None:
        """Decide again on the series that one stood for and does no longer."""
        rows = db.execute(
            select(SERIES)
            .where(SERIES.c.stand_in == series, SERIES.c.state.in_(('superseded', 'resent')))
            .order_by(SERIES.c.id)
        ).all()
        for row in rows:
            if not self._stood_for(db, row):
                self._judge_completeness(db, row.id)

    def _reopened(self, db: Connection, row: Any) -> bool:
        """
        Judge a series again of which a better attested mail shows that a patch was somebody else's.

        Or of which more came than the part that was judged.

        Not where it was mailed about: then it was not silenced, and is not to be answered twice.
        """
        went = select(REPLIES.c.id).where(
            REPLIES.c.series == row.id, REPLIES.c.state.in_(('sent', 'claimed', 'unsure'))
        )
        if db.execute(went).first() is not None:
            return False
        forget_replies(db, row.id)
        for table in (FINDINGS, REVIEWS):
            db.execute(delete(table).where(table.c.series == row.id))
        self._to(db, row.id, 'assembling', CHANGED)
        return True

    def _twin(self, db: Connection, row: Any, content: str) -> int | None:
        """Return the series that this one only repeats."""
        same = db.execute(
            select(SERIES).where(
                SERIES.c.content == content,
                SERIES.c.author == row.author,
                SERIES.c.id != row.id,
                SERIES.c.state.in_(JUDGED),
            )
        ).all()
        silent = self._silent(db, [one.id for one in same])
        return twin(_revision(row), [_revision(one, silent=one.id in silent) for one in same])

    def _silent(self, db: Connection, series: Sequence[int]) -> frozenset[int]:
        """Return those of which something was found that nobody is told."""
        rows = db.execute(
            select(REVIEWS.c.series).where(
                REVIEWS.c.series.in_(series),
                REVIEWS.c.decision == 'silent',
                REVIEWS.c.verdict == 'findings',
            )
        ).scalars()
        return frozenset(rows)

    def _wants_cover(self, db: Connection, series: int, of: int) -> bool:
        """Whether all patches answer a mail that is not there yet: their cover letter, surely."""
        if of == 1:
            return False
        cover = select(MAILS.c.id).where(MAILS.c.series == series, MAILS.c.kind == 'cover')
        if db.execute(cover.limit(1)).first() is not None:
            return False
        # One mail a patch: anybody may send the same patch thousands of times.
        mails = db.execute(
            select(MAILS.c.msgid, MAILS.c.parents)
            .join(PATCHES, PATCHES.c.msgid == MAILS.c.msgid)
            .where(PATCHES.c.series == series)
        ).all()
        own = {one.msgid for one in mails}
        parents = {json.loads(one.parents)[:1][0] for one in mails if json.loads(one.parents)}
        outside = parents - own
        if len(outside) != 1 or any(not json.loads(one.parents) for one in mails):
            return False
        there = select(MAILS.c.id).where(MAILS.c.msgid.in_(outside))
        return db.execute(there).first() is None

    def _missing(self, db: Connection, series: int, of: int) -> list[int]:
        there = set(db.execute(select(PATCHES.c.n).where(PATCHES.c.series == series)).scalars())
        return [n for n in range(1, min(of, 10_000) + 1) if n not in there]

    def _content(self, db: Connection, series: int) -> str:
        rows = db.execute(
            select(PATCHES.c.content).where(PATCHES.c.series == series).order_by(PATCHES.c.n)
        ).scalars()
        contents = [one[:16] for one in rows]
        cover = attested.cover(db, series)
        whole = ' '.join([*contents, cover[:16]] if cover else contents)
        of = db.execute(select(SERIES.c.of).where(SERIES.c.id == series)).scalar_one()
        return PARTIAL + whole if self._missing(db, series, of) else whole

    def _relate(self, db: Connection, series: int) -> list[int]:
        """Find the other revisions of a series, and what it is to them; which ones these are."""
        row = db.execute(select(SERIES).where(SERIES.c.id == series)).one()
        parents = select(NODES.c.msgid).where(NODES.c.series == row.id)
        owned = select(MAILS.c.series).where(MAILS.c.msgid.in_(parents), MAILS.c.kind != 'answer')
        # And those that answer it, where it comes after them.
        mine = select(MAILS.c.msgid).where(MAILS.c.series == row.id, MAILS.c.kind != 'answer')
        below = select(NODES.c.series).where(NODES.c.msgid.in_(mine))
        alike = [SERIES.c.title == row.title, SERIES.c.id.in_(owned), SERIES.c.id.in_(below)]
        if row.change_id is not None:
            alike.append(SERIES.c.change_id == row.change_id)
        others = db.execute(
            select(SERIES).where(
                SERIES.c.author == row.author, SERIES.c.id != row.id, or_(*alike),
                or_(SERIES.c.revision != row.revision, SERIES.c.again != row.again),
                SERIES.c.aside == '',
            )
        ).all()  # fmt: skip
        revisions = {one.id: one.revision for one in others}
        found = relate(_revision(row), [_revision(one) for one in others])
        if found.before is not None or any(one.revision < row.revision for one in others):
            db.execute(update(SERIES).where(SERIES.c.id == row.id).values(before=found.before))
        for one in found.ends:
            self._to(db, one, 'superseded', f'by v{row.revision} (series {row.id})', row.id)
        if found.by is not None:
            why = f'by v{revisions[found.by]} (series {found.by})'
            self._to(db, row.id, 'superseded', why, found.by)
        return list(revisions)

    def _to(
        self, db: Connection, series: int, state: str, why: str, stand_in: int | None = None
    ) -> None:
        db.execute(
            update(SERIES)
            .where(SERIES.c.id == series)
            .values(state=state, why=why[:SAID], since=self._now, stand_in=stand_in)
        )
        if state not in ('pending', 'working', 'parked'):
            db.execute(delete(WORK).where(WORK.c.series == series))
        if state != 'assembling':
            self._recheck(db, series)

    def _pend(self, db: Connection, series: int, why: str) -> None:
        if db.execute(select(WORK.c.series).where(WORK.c.series == series)).first() is None:
            db.execute(
                insert(WORK).values(series=series, tries=0, kills=0, reason='', not_before=0)
            )
        self._to(db, series, 'pending', why)

    def settle(self, seconds: float) -> int:
        """Declare incomplete what has waited long enough for more; how many that were."""
        count = 0
        with transaction(self._engine) as db:
            # Later than now: the clock has jumped back, and the wait begins again.
            ahead = and_(SERIES.c.state == 'assembling', SERIES.c.last_seen > self._now)
            db.execute(update(SERIES).where(ahead).values(last_seen=self._now))
            rows = db.execute(
                select(SERIES).where(
                    SERIES.c.state == 'assembling', SERIES.c.last_seen <= self._now - seconds
                )
            ).all()
            for row in rows:
                try:
                    with db.begin_nested():
                        count += self._settled(db, row)
                except Exception as error:  # one series must not stop the others
                    if is_down(error):
                        raise
                    self._to(db, row.id, 'incomplete', reason_of(error))
        return count

    def _settled(self, db: Connection, row: Any) -> bool:
        missing = self._missing(db, row.id, row.of)
        if not missing:
            where = SERIES.c.id == row.id
            db.execute(update(SERIES).where(where).values(why=WAITED))
            self._judge_completeness(db, row.id)
            return False
        shown = ', '.join(str(n) for n in missing[:10]) + (', …' if missing[10:] else '')
        why = f'patch {shown} of {row.of} is missing'
        if row.before is not None and len(missing) < row.of and row.in_scope:
            # Part of a series sent again: b4 puts both together, or says why not.
            where = SERIES.c.id == row.id
            db.execute(update(SERIES).where(where).values(content=self._content(db, row.id)))
            self._pend(db, row.id, f'{why}: a partial reroll?')
        else:
            self._to(db, row.id, 'incomplete', why)
        return True

    # --- work ---

    def due(self) -> list[int]:
        """Return the series that wait to be judged, in the order in which they came."""
        now = self._now
        ripe = or_(WORK.c.not_before <= now, WORK.c.not_before > now + FURTHEST)
        known = or_(
            SERIES.c.attested != 'unknown',
            SERIES.c.first_seen <= now - UNATTESTED,
            SERIES.c.first_seen > now,
        )
        with transaction(self._engine) as db:
            rows = db.execute(
                select(WORK.c.series)
                .join(SERIES, SERIES.c.id == WORK.c.series)
                .where(SERIES.c.state == 'pending', ripe, known)
                .order_by(WORK.c.series)
            ).scalars()
            return [int(one) for one in rows]

    def take(self, series: int, *, most_kills: int) -> Taken | None:
        """
        Begin to judge a series; None where it is no longer wanted.

        One that somebody has begun and not ended may be begun again, as its
        worker was killed: who calls this knows that there is nobody else (a
        lock file, a job's own lock). It is parked where `most_kills` were.
        """
        with transaction(self._engine) as db:
            row = db.execute(select(SERIES).where(SERIES.c.id == series)).first()
            work = db.execute(select(WORK).where(WORK.c.series == series)).first()
            if row is None or work is None or row.state not in ('pending', 'working'):
                return None
            tries = work.tries
            if row.state == 'pending':
                tries += 1
            elif self._killed(db, series, work.kills + 1, most_kills):
                return None
            db.execute(update(WORK).where(WORK.c.series == series).values(tries=tries))
            self._to(db, series, 'working', '')
            return self._taken(db, row, tries)

    def _taken(self, db: Connection, row: Any, tries: int) -> Taken:
        wanted, seen = [row.id], [row.id]
        whole = not self._missing(db, row.id, row.of)
        before = row.before
        while before is not None and before not in seen and len(seen) < 10:
            seen.append(int(before))
            earlier = db.execute(
                select(SERIES.c.revision, SERIES.c.before).where(SERIES.c.id == before)
            ).one()
            # Of what was sent again as a whole, the first posting would only be in the way.
            if not (whole and earlier.revision == row.revision):
                wanted.append(int(before))
            before = earlier.before
        there = db.execute(
            select(MAILS.c.id, MAILS.c.raw, MAILS.c.msgid, MAILS.c.series, MAILS.c.kind)
            .where(MAILS.c.id.in_(_bounded(db, wanted)))
            .order_by(MAILS.c.date, MAILS.c.id)
        ).all()
        parts = sum(one.series == row.id and one.kind != 'answer' for one in there)
        # Of several mails that claim a place or a Message-ID, b4 gets the one that counts.
        picked = {number for one in wanted for number in attested.counted(db, one)}
        taken = {one.msgid for one in there if one.id in picked}
        answers: dict[str, int] = {}
        for one in there:
            if one.kind == 'answer' and one.msgid not in taken:
                answers.setdefault(one.msgid, one.id)
        mails = [one for one in there if one.id in picked or answers.get(one.msgid) == one.id]
        own = [one for one in mails if one.series == row.id and one.kind != 'answer']
        first = next((one for one in own if one.kind == 'cover'), own[0])
        return Taken(
            row.id,
            row.revision,
            row.title,
            first.msgid,
            tuple(bytes(one.raw) for one in mails),
            tries,
            parts,
            self._now - row.last_seen,
            _lookups(db, row.id) if row.needs else {},
        )

    # --- what a series needs below it ---

    def needing(self) -> list[int]:
        """Return the series whose prerequisites have to be looked up."""
        looked = select(LOOKUPS.c.series)
        with transaction(self._engine) as db:
            rows = db.execute(
                select(SERIES.c.id).where(
                    SERIES.c.needs.is_(True),
                    SERIES.c.state == 'pending',
                    SERIES.c.id.not_in(looked),
                )
            ).scalars()
            return [int(one) for one in rows]

    def shown(self, series: int) -> Taken | None:
        """Return a series as `take()` would, and leave it as it is; None where it has gone."""
        with transaction(self._engine) as db:
            row = db.execute(select(SERIES).where(SERIES.c.id == series)).first()
            return None if row is None else self._taken(db, row, 0)

    def looked_up(self, series: int, kept: Kept) -> None:
        """Keep what the archive said of a series' prerequisites."""
        with transaction(self._engine) as db:
            db.execute(delete(LOOKUPS).where(LOOKUPS.c.series == series))
            if db.execute(select(SERIES.c.id).where(SERIES.c.id == series)).first() is None:
                return
            rows = [{'series': series, 'asked': '', 'n': 0, 'raw': None}]
            for asked, raws in kept.items():
                rows += [
                    {'series': series, 'asked': asked, 'n': n, 'raw': raw}
                    for n, raw in enumerate(raws or (None,))
                ]
            db.execute(insert(LOOKUPS), rows)

    def _killed(self, db: Connection, series: int, kills: int, most: int) -> bool:
        """Count the workers that died over a series; whether it is parked for that."""
        db.execute(update(WORK).where(WORK.c.series == series).values(kills=kills))
        if kills < most:
            return False
        self._to(db, series, 'parked', f'its worker died {kills} times')
        return True

    def _again(self, db: Connection, series: int, why: str) -> None:
        """Let it wait again, unless a newer revision came while it was judged."""
        self._to(db, series, 'pending', why)
        self._relate(db, series)

    def finish(
        self,
        series: int,
        seconds: float,
        verdict: str,
        report: str,
        findings: Sequence[Finding],
        response: Response,
        why: str = '',
    ) -> bool:
        """
        Keep a review and its mails, once: whether it is the first one of this series.

        `why` is the verdict with what it is about.
        """
        with transaction(self._engine) as db:
            wanted = select(SERIES).where(SERIES.c.id == series)
            row = db.execute(wanted).first()
            there = select(REVIEWS.c.series).where(REVIEWS.c.series == series)
            if row is None or (row.state in ('pending', 'assembling') and row.why == CHANGED):
                return False  # what was judged is not what counts now
            if db.execute(there).first() is not None:
                self._to(db, series, 'reviewed', why or verdict)
                return False
            db.execute(
                insert(REVIEWS).values(
                    series=series, at=self._now, seconds=seconds, verdict=verdict, report=report
                )
            )
            for finding in findings:
                hit = finding.hit
                db.execute(
                    insert(FINDINGS).values(
                        series=series,
                        n=hit.n,
                        rule=finding.rule,
                        severity=finding.severity.label,
                        fingerprint=finding.fingerprint,
                        path=hit.path,
                        line=hit.line,
                        message=fact(hit),
                    )
                )
            self.outbox.keep(db, series, row.author, response)
            self._to(db, series, 'reviewed', why or verdict)
        return True

    # --- who wrote it ---

    def unattested(self) -> list[Unchecked]:
        """Return mails of series whose signatures are to be checked, the longest waiting first."""
        with transaction(self._engine) as db:
            return attested.unattested(db, self._now, AT_ONCE)

    def attest(self, found: Mapping[int, Worth]) -> None:
        """Keep what the signatures of mails are worth, and what follows for their series."""
        with transaction(self._engine) as db:
            series: dict[int, None] = {}
            for mail, worth in found.items():
                try:
                    with db.begin_nested():
                        one = attested.attest(db, mail, worth, self._now)
                        if one is not None:
                            series[one] = None
                except Exception as error:  # one mail must not stop the others
                    if is_down(error) or isinstance(error, StoreError):
                        raise
                    attested.give_up(db, mail)
            for one in series:
                self._judge_completeness(db, one)
                for other in self._relate(db, one):
                    self._relate(db, other)

    def unweighed(self) -> list[Unchecked]:
        """Return mails with orders whose signatures are to be checked."""
        with transaction(self._engine) as db:
            return orders.unweighed(db, self._now, AT_ONCE)

    def weigh(self, mail: int, worth: Worth) -> None:
        """Decide on the orders of a mail by what its signature is worth."""
        with transaction(self._engine) as db:
            try:
                with db.begin_nested():
                    orders.weigh(db, mail, worth, self._now)
            except Exception as error:  # one mail must not stop the others
                if is_down(error) or isinstance(error, StoreError):
                    raise
                orders.give_up(db, mail, f'it can not be read: {reason_of(error)}')

    def said(self, most: int = 100) -> list[orders.Said]:
        """Return the orders that were not obeyed (yet), those to decide on first."""
        with transaction(self._engine) as db:
            return orders.said(db, most)

    def honour(self, order: int) -> bool:
        """Obey an order, as the operator says; False where there is none to obey."""
        with transaction(self._engine) as db:
            return orders.honour(db, order, self._now)

    def refuse(self, order: int) -> bool:
        """Turn an order down, as the operator says; False where there is none."""
        with transaction(self._engine) as db:
            return orders.refuse(db, order)

    def give_back(
        self, series: int, reason: str, *, most: int, wait: float, last: str = 'parked'
    ) -> None:
        """
        Try again later what failed on our side, at `most` so often.

        Then it is parked, or whatever `last` says.
        """
        with transaction(self._engine) as db:
            work = db.execute(select(WORK).where(WORK.c.series == series)).first()
            if work is None:
                return
            self._put_off(db, series, reason, wait * 2 ** min(work.tries, 10))
            why = f'tried {work.tries} times: {reason}'
            if work.tries >= most:
                self._to(db, series, last, why)
            else:
                self._again(db, series, why)

    def park(self, series: int, reason: str) -> None:
        """Set aside a series that can't even be taken up; `unpark()` has it tried again."""
        with transaction(self._engine) as db:
            self._to(db, series, 'parked', reason)

    def postpone(self, series: int, reason: str, wait: float) -> None:
        """Judge it again after `wait` seconds: nobody's fault, and it counts for nothing."""
        with transaction(self._engine) as db:
            self._put_off(db, series, reason, wait)
            counted = WORK.c.tries - 1
            db.execute(update(WORK).where(WORK.c.series == series).values(tries=counted))
            self._again(db, series, reason)

    def _put_off(self, db: Connection, series: int, reason: str, seconds: float) -> None:
        later = self._now + int(seconds)
        db.execute(
            update(WORK)
            .where(WORK.c.series == series)
            .values(reason=reason[:SAID], not_before=later)
        )

    def lacking(self, series: int, parts: int, why: str) -> None:
        """Keep as incomplete what could not be put together of `parts` mails; more wake it."""
        own = and_(MAILS.c.series == series, MAILS.c.kind != 'answer')
        with transaction(self._engine) as db:
            now = db.execute(select(func.count()).select_from(MAILS).where(own)).scalar_one()
            if now > parts:
                self._again(db, series, why)
            else:
                self._to(db, series, 'incomplete', why)

    def put_back(self, series: int, *, killed: bool = False, most: int = 1) -> None:
        """
        Undo `take()`: it was interrupted, and nobody's fault.

        `killed`: its worker came to no end of its own, which after `most` times
        is taken for the series' doing.
        """
        with transaction(self._engine) as db:
            row = db.execute(
                select(SERIES.c.state, WORK.c.kills)
                .join(WORK, WORK.c.series == SERIES.c.id)
                .where(SERIES.c.id == series)
            ).first()
            if row is None or row.state != 'working':
                return
            counted = WORK.c.tries - 1
            db.execute(update(WORK).where(WORK.c.series == series).values(tries=counted))
            if not (killed and self._killed(db, series, row.kills + 1, most)):
                self._again(db, series, '')

    def unpark(self) -> int:
        """Try what is parked anew, from the beginning; how many that are."""
        with transaction(self._engine) as db:
            parked = db.execute(select(SERIES.c.id).where(SERIES.c.state == 'parked')).scalars()
            count = 0
            for series in parked.all():
                fresh = {'tries': 0, 'kills': 0, 'not_before': 0}
                db.execute(update(WORK).where(WORK.c.series == series).values(**fresh))
                self._again(db, series, '')
                count += 1
        return count

    def begun(self) -> list[int]:
        """Return the series that somebody began to judge, and has not ended."""
        with transaction(self._engine) as db:
            rows = db.execute(
                select(SERIES.c.id).where(SERIES.c.state == 'working').order_by(SERIES.c.id)
            ).scalars()
            return [int(one) for one in rows]

    # --- what people see ---

    def rows(self, states: Sequence[str] = ()) -> Iterator[Row]:
        """Yield the series for `bot status`, the latest change first."""
        patches = (
            select(PATCHES.c.series, func.count().label('there'))
            .group_by(PATCHES.c.series)
            .subquery()
        )
        wanted = (
            select(SERIES, patches.c.there)
            .join(patches, patches.c.series == SERIES.c.id, isouter=True)
            .order_by(SERIES.c.since.desc(), SERIES.c.id.desc())
        )
        if states:
            wanted = wanted.where(SERIES.c.state.in_(states))
        with transaction(self._engine) as db:
            found = db.execute(wanted).all()
        for row in found:
            yield Row(
                row.id, row.list, row.title, row.name or row.author, row.revision,
                f'{row.there or 0}/{row.of}', row.state, row.since, row.why,
            )  # fmt: skip

    def report(self, series: int) -> str | None:
        """Return the review of a series as it was printed, None where there is none."""
        with transaction(self._engine) as db:
            return db.execute(select(REVIEWS.c.report).where(REVIEWS.c.series == series)).scalar()

    def decision(self, series: int) -> tuple[str, str] | None:
        """Return what was decided of mailing a review, and why; None where there is none."""
        with transaction(self._engine) as db:
            wanted = select(REVIEWS.c.decision, REVIEWS.c.decision_why)
            row = db.execute(wanted.where(REVIEWS.c.series == series)).first()
        return None if row is None else (str(row.decision), str(row.decision_why))

    def prune(self, keep: float, now: float | None = None) -> int:
        """
        Forget series that nothing has happened to for `keep` seconds; how many mails went.

        Never one that a mail of ours may still go for. `now`: it is no later
        than that, whatever our clock says.
        """
        oldest = min(self._now, self._now if now is None else now) - keep
        done = ('reviewed', 'superseded', 'resent', 'skipped', 'incomplete', 'parked')
        waiting = select(REPLIES.c.series).where(REPLIES.c.state.in_(('ready', *UNKNOWN)))
        # By its own date, too: a clock that was behind at first has marked as old what was new.
        old = or_(SERIES.c.posted < oldest, SERIES.c.posted > oldest + keep + AHEAD)
        with transaction(self._engine) as db:
            gone = select(SERIES.c.id).where(
                SERIES.c.state.in_(done), SERIES.c.since < oldest, old, SERIES.c.id.not_in(waiting)
            )
            forget(db, gone)
            for table in (LOOKUPS, FINDINGS, REVIEWS, WORK, PATCHES, NODES):
                db.execute(delete(table).where(table.c.series.in_(gone)))
            count = db.execute(delete(MAILS).where(MAILS.c.series.in_(gone))).rowcount
            for column in (SERIES.c.before, SERIES.c.stand_in):
                db.execute(update(SERIES).where(column.in_(gone)).values({column: None}))
            db.execute(delete(SERIES).where(SERIES.c.id.in_(gone)))
            attested.forget(db, self._now)
            lone = and_(MAILS.c.series.is_(None), MAILS.c.arrived < oldest)
            count += db.execute(delete(MAILS).where(lone)).rowcount
            db.execute(delete(ORDERS).where(ORDERS.c.series.is_(None), ORDERS.c.at < oldest))
            unread.prune(db, oldest)
        return count


def _bounded(db: Connection, wanted: Sequence[int]) -> list[int]:
    """
    Return the mails to judge a series with: all its patches, and answers, the first first.

    Anybody can answer, as often and at such length as he likes. Raises `LetterError`
    where the patches alone are too much.
    """
    rows = db.execute(
        select(MAILS.c.id, MAILS.c.kind, func.length(MAILS.c.raw).label('size'))
        .where(MAILS.c.series.in_(wanted))
        .order_by(MAILS.c.kind == 'answer', MAILS.c.date, MAILS.c.id)
    ).all()
    chosen = [row.id for row in rows if row.kind != 'answer']
    if len(chosen) > MOST_PATCHES:
        raise LetterError(f'it has more than {MOST_PATCHES} mails')
    if sum(row.size for row in rows if row.kind != 'answer') > 2 * LARGEST:
        raise LetterError(f'its mails have more than {2 * LARGEST >> 20} MB')
    left = LARGEST_ANSWERS
    for row in [row for row in rows if row.kind == 'answer'][:MOST_ANSWERS]:
        left -= row.size
        if left >= 0:
            chosen.append(row.id)
    return chosen


def _revision(row: Any, *, silent: bool = False) -> Revision:
    return Revision(
        row.id,
        row.revision,
        row.attested,
        row.machine,
        open=row.state in ENDED,
        silent=silent,
        stands=row.state in STANDS,
        judged=row.state in JUDGED,
        again=row.again,
        posted=row.posted,
        content=row.content or '',
    )


def _lookups(db: Connection, series: int) -> dict[str, tuple[bytes, ...]]:
    rows = db.execute(
        select(LOOKUPS).where(LOOKUPS.c.series == series).order_by(LOOKUPS.c.asked, LOOKUPS.c.n)
    ).all()
    found: dict[str, tuple[bytes, ...]] = {}
    for row in rows:
        if row.asked:
            mails = () if row.raw is None else (bytes(row.raw),)
            found[row.asked] = (*found.get(row.asked, ()), *mails)
    return found
