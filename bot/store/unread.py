"""
Mails that could not be read: which, and why. They are passed over, and never silently.

A row is written in the transaction that moves the cursor past its mail. Of a
mail that comes twice (an archive that was rewritten has other commits) the last
row stays.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, and_, delete, func, insert, or_, select

from bot.errors import BotError
from bot.plain import one_line, storable
from bot.store.database import transaction
from bot.store.tables import UNREAD

LONGEST = 300
"""Characters of a reason."""


@dataclass(frozen=True)
class Fault:
    """Why a mail could not be read; `commit` is the archive's that brought it."""

    commit: str
    msgid: str
    reason: str


@dataclass(frozen=True)
class Unread:
    """A mail that could not be read, as `bot status --unread` shows it. `at` is a time."""

    list: str
    epoch: int
    commit: str
    msgid: str
    reason: str
    at: int


class PassedOver:
    """The mails of a database that could not be read. `clock` gives seconds since 1970."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock

    def count(self) -> int:
        """Return how many there are."""
        with transaction(self._engine) as db:
            return db.execute(select(func.count()).select_from(UNREAD)).scalar_one()

    def rows(self) -> list[Unread]:
        """Return them, the latest first."""
        with transaction(self._engine) as db:
            rows = db.execute(select(UNREAD).order_by(UNREAD.c.at.desc(), UNREAD.c.commit)).all()
        return [Unread(**row._mapping) for row in rows]

    def keep(self, db: Connection, name: str, epoch: int, faults: Iterable[Fault]) -> int:
        """Write down mails of a list, in the caller's transaction; how many."""
        count = 0
        for one in faults:
            count += 1
            msgid = storable(one.msgid, 1000)
            same = UNREAD.c.commit == one.commit
            if msgid:
                same = or_(same, UNREAD.c.msgid == msgid)
            db.execute(delete(UNREAD).where(and_(UNREAD.c.list == name, same)))
            db.execute(
                insert(UNREAD).values(
                    list=name, epoch=epoch, commit=one.commit, msgid=msgid,
                    reason=one_line(one.reason, LONGEST), at=int(self._clock()),
                )
            )  # fmt: skip
        return count


def prune(db: Connection, oldest: float) -> None:
    """Forget what could not be read before `oldest`."""
    db.execute(delete(UNREAD).where(UNREAD.c.at < oldest))


def reason_of(error: BaseException) -> str:
    """Say in one line what went wrong with a mail, a series or a reply."""
    if isinstance(error, BotError):
        return one_line(str(error), LONGEST)
    said = str(getattr(error, 'orig', None) or error)
    return one_line(f'{type(error).__name__}: {said}', LONGEST)
