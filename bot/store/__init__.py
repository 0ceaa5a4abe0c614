"""
The database: what was seen, what is to be done, what was found. It is the truth.

Answers what is pending, and keeps every step in one transaction, so that a
killed process loses nothing and does nothing twice. SQLite in a file, or
PostgreSQL. Leaves to others what a mail means (`assembly.py`) and what a
series is worth (`review.py`).
"""

from bot.store.store import Cursor, Row, Store, Taken, TakenIn
from bot.store.tables import METADATA
from bot.store.unread import Fault, Unread, reason_of

__all__ = [
    'METADATA', 'Cursor', 'Fault', 'Row', 'Store', 'Taken', 'TakenIn', 'Unread', 'reason_of',
]  # fmt: skip
