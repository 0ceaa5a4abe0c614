"""How the bot is doing, as the database knows it: for metrics, `bot status` and `bot doctor`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, func, insert, select

from bot.assembly import Reason
from bot.store.database import transaction
from bot.store.tables import FACTS, REPLIES, SERIES, WORK

POLLED = 'polled '
"""What stands before a list's name in `facts`: when it was last read to its end."""

DROPPED = 'dropped '
"""What stands before the reason for which mails were dropped: how many, from the first start on."""


@dataclass(frozen=True)
class Standing:
    """
    Series and mails of ours by state; times in seconds since 1970.

    `polls` says when each list was last read to its end, `oldest` since when
    something that is due has waited to be judged (None: nothing does).
    """

    series: Mapping[str, int]
    replies: Mapping[str, int]
    polls: Mapping[str, int]
    oldest: int | None


class Figures:
    """The figures of a database. `clock` gives seconds since 1970."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock

    def polled(self, name: str) -> None:
        """Say that a list was read to its end just now."""
        with transaction(self._engine) as db:
            db.execute(delete(FACTS).where(FACTS.c.name == POLLED + name))
            now = str(int(self._clock()))
            db.execute(insert(FACTS).values(name=POLLED + name, value=now))

    def dropped(self, db: Connection, more: Mapping[Reason, int]) -> None:
        """Count mails that are nothing to the bot, in the caller's transaction."""
        for reason, count in more.items():
            mine = FACTS.c.name == DROPPED + reason
            said = db.execute(select(FACTS.c.value).where(mine)).scalar()
            db.execute(delete(FACTS).where(mine))
            value = str(int(said or 0) + count)
            db.execute(insert(FACTS).values(name=DROPPED + reason, value=value))

    def left_out(self) -> dict[str, int]:
        """Return how many mails were nothing to the bot, by reason, from the first start on."""
        with transaction(self._engine) as db:
            rows = db.execute(select(FACTS).where(FACTS.c.name.startswith(DROPPED))).all()
        return {row.name.removeprefix(DROPPED): int(row.value) for row in rows}

    def standing(self) -> Standing:
        """Return how things stand now. Raises `StoreError`."""
        with transaction(self._engine) as db:
            series, replies = (
                db.execute(select(table.c.state, func.count()).group_by(table.c.state)).all()
                for table in (SERIES, REPLIES)
            )
            polls = db.execute(select(FACTS).where(FACTS.c.name.startswith(POLLED))).all()
            waiting = db.execute(
                select(SERIES.c.state, SERIES.c.since, WORK.c.not_before)
                .join(WORK, WORK.c.series == SERIES.c.id)
                .where(SERIES.c.state.in_(('pending', 'working')))
            ).all()
        now = int(self._clock())
        # What is put off (it does not apply yet, say) waits for nobody.
        since = [
            max(row.since, row.not_before) if row.state == 'pending' else row.since
            for row in waiting
            if row.state == 'working' or row.not_before <= now
        ]
        return Standing(
            {str(state): int(count) for state, count in series},
            {str(state): int(count) for state, count in replies},
            {row.name.removeprefix(POLLED): int(row.value) for row in polls},
            min(since, default=None),
        )

    def latest(self) -> float | None:
        """Return when any list was last read to its end, None where none was."""
        with transaction(self._engine) as db:
            said = db.execute(
                select(FACTS.c.value).where(FACTS.c.name.startswith(POLLED))
            ).scalars()
            return max((float(one) for one in said), default=None)
