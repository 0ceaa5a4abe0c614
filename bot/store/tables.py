"""
The tables, as `docs/state.md` draws them. Times are seconds since 1970, by our own clock.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

METADATA = MetaData()
# SQLite numbers rows by itself only where the key is called INTEGER.
ID = BigInteger().with_variant(Integer, 'sqlite')

CURSORS = Table(
    'cursors',
    METADATA,
    Column('list', String, primary_key=True),
    Column('epoch', Integer, primary_key=True),
    Column('commit', String, nullable=False),
    Column('msgid', String, nullable=False),
    Column('date', BigInteger, nullable=False),
    Column('fingerprint', String, nullable=False),
)
"""How far each epoch of each list was walked: the last commit, and the mail it held."""

SERIES = Table(
    'series',
    METADATA,
    Column('id', ID, primary_key=True),
    Column('list', String, nullable=False),
    Column('author', String, nullable=False),
    Column('name', String, nullable=False),
    Column('revision', Integer, nullable=False),
    Column('of', Integer, nullable=False),
    Column('title', String, nullable=False),
    Column('change_id', String),
    Column('content', String),
    Column('in_scope', Boolean, nullable=False),
    Column('state', String, nullable=False),
    Column('why', Text, nullable=False),
    Column('since', BigInteger, nullable=False),
    Column('first_seen', BigInteger, nullable=False),
    Column('last_seen', BigInteger, nullable=False),
    Column('posted', BigInteger, nullable=False),
    Column('before', ID, ForeignKey('series.id', ondelete='SET NULL')),
    Column('needs', Boolean, nullable=False, server_default=false()),
    Column('attested', String, nullable=False, server_default='off'),
    Column('machine', Boolean, nullable=False, server_default=false()),
    Column('stand_in', ID),
    Column('again', Boolean, nullable=False, server_default=false()),
    Column('aside', Text, nullable=False, server_default=''),
)
"""
One revision of one series. `before` is the revision that it replaces, where that is known; `needs`:
it names prerequisites. `attested` is what the weakest signature of its mails says (`lifecycle.py`),
`machine`: one of them is no person's.
"""

MAILS = Table(
    'mails',
    METADATA,
    Column('id', ID, primary_key=True),
    Column('msgid', String, nullable=False),
    Column('series', ID, ForeignKey('series.id', ondelete='CASCADE')),
    Column('kind', String, nullable=False),
    Column('date', BigInteger, nullable=False),
    Column('arrived', BigInteger, nullable=False),
    Column('parents', Text, nullable=False),
    Column('raw', LargeBinary, nullable=False),
    Column('digest', String, nullable=False, server_default=''),
    Column('n', Integer),
    Column('machine', Boolean, nullable=False, server_default=false()),
    Column('attested', String, nullable=False, server_default='off'),
    Column('ask_at', BigInteger, nullable=False, server_default='0'),
    UniqueConstraint('msgid', 'digest', name='mails_once'),
)
"""
Mails that matter, whole. An answer whose series is not there yet has none. Several may claim one
Message-ID: `digest` tells them apart ('' where an earlier version kept them). `n` is the place in
its series that a mail claims, `attested` what its signature says of that; where that is unknown,
the name servers are asked again at `ask_at`.
"""

PATCHES = Table(
    'patches',
    METADATA,
    Column('series', ID, ForeignKey('series.id', ondelete='CASCADE'), primary_key=True),
    Column('n', Integer, primary_key=True),
    Column('msgid', String, nullable=False),
    Column('title', String, nullable=False),
    Column('content', String, nullable=False),
    Column('mail', ID),
)
"""
What is there of a series, by number. `mail` is the one of `mails` that counts, of those that claim
the number.
"""

NODES = Table(
    'nodes',
    METADATA,
    Column('msgid', String, primary_key=True),
    Column('author', String, primary_key=True),
    Column('revision', Integer, primary_key=True),
    Column('of', Integer, primary_key=True),
    Column('series', ID, ForeignKey('series.id', ondelete='CASCADE'), nullable=False),
)
"""The message-ids that a series has or answers: how its mails find each other, in any order."""

WORK = Table(
    'work',
    METADATA,
    Column('series', ID, ForeignKey('series.id', ondelete='CASCADE'), primary_key=True),
    Column('tries', Integer, nullable=False),
    Column('kills', Integer, nullable=False),
    Column('reason', Text, nullable=False),
    Column('not_before', BigInteger, nullable=False),
)
"""
Series to be judged (states pending, working and parked): how often that was tried, and how often
its worker died of it, or was killed at it.
"""

REVIEWS = Table(
    'reviews',
    METADATA,
    Column('series', ID, ForeignKey('series.id', ondelete='CASCADE'), primary_key=True),
    Column('at', BigInteger, nullable=False),
    Column('seconds', Float, nullable=False),
    Column('verdict', String, nullable=False),
    Column('report', Text, nullable=False),
    Column('decision', String, nullable=False, server_default='silent'),
    Column('decision_why', Text, nullable=False, server_default=''),
    Column('maintainers', Text, nullable=False, server_default='[]'),
)
"""
The one review of a series; `report` is what `bot check --format json` prints. `decision` is post,
hold or silent; `maintainers` the addresses whose orders on it count.
"""

FINDINGS = Table(
    'findings',
    METADATA,
    Column('id', ID, primary_key=True),
    Column('series', ID, ForeignKey('series.id', ondelete='CASCADE'), nullable=False),
    Column('n', Integer, nullable=False),
    Column('rule', String, nullable=False),
    Column('severity', String, nullable=False),
    Column('fingerprint', String, nullable=False),
    Column('path', String),
    Column('line', Integer),
    Column('message', Text, nullable=False),
)

LOOKUPS = Table(
    'lookups',
    METADATA,
    Column('series', ID, ForeignKey('series.id', ondelete='CASCADE'), primary_key=True),
    Column('asked', String, primary_key=True),
    Column('n', Integer, primary_key=True),
    Column('raw', LargeBinary),
)
"""
What the archive said when it was asked for a series' prerequisites, mail by mail. A row without a
mail says that this was asked, and nothing found; one that asked nothing, that all was asked.
"""

REPLIES = Table(
    'replies',
    METADATA,
    Column('id', ID, primary_key=True),
    Column('series', ID, ForeignKey('series.id', ondelete='CASCADE'), nullable=False),
    Column('n', Integer, nullable=False),
    Column('msgid', String, nullable=False, unique=True),
    Column('parent', String, nullable=False),
    Column('author', String, nullable=False),
    Column('subject', Text, nullable=False),
    Column('recipients', Text, nullable=False),
    Column('lists', Text, nullable=False),
    Column('raw', LargeBinary, nullable=False),
    Column('state', String, nullable=False),
    Column('why', Text, nullable=False),
    Column('since', BigInteger, nullable=False),
    Column('not_before', BigInteger, nullable=False),
    Column('tries', Integer, nullable=False),
    Column('approved', Boolean, nullable=False),
    Column('refused', Text, nullable=False),
)
"""
A mail of ours, whole, and how far it got. `author` is the address that it answers, `refused` the
recipients that the server did not take, and why.
"""

ASKED = Table(
    'asked',
    METADATA,
    Column('reply', ID, ForeignKey('replies.id', ondelete='CASCADE'), primary_key=True),
    Column('fingerprint', String, primary_key=True),
    Column('revision', Integer, nullable=False),
    Column('rule', String, nullable=False),
    Column('path', String),
    Column('symbol', Text),
)
"""The findings that a mail speaks of."""

ORDERS = Table(
    'orders',
    METADATA,
    Column('id', ID, primary_key=True),
    Column('mail', ID, ForeignKey('mails.id', ondelete='CASCADE')),
    Column('msgid', String, nullable=False),
    Column('kind', String, nullable=False),
    Column('rule', String, nullable=False),
    Column('series', ID, ForeignKey('series.id', ondelete='CASCADE')),
    Column('by', String, nullable=False),
    Column('standing', String, nullable=False),
    Column('at', BigInteger, nullable=False),
    Column('state', String, nullable=False),
    Column('why', Text, nullable=False),
    Column('tries', Integer, nullable=False, server_default='0'),
    Column('not_before', BigInteger, nullable=False, server_default='0'),
)
"""
Lines `vma-bot: …` of answers on the list. `standing` is what DKIM says. `state`: *pending* until it
is known whether one counts, then *honoured*, *refused* (it can not count), or *held* (nobody can
tell that it is from whom it says: the operator decides).
"""

SEALS = Table(
    'seals',
    METADATA,
    Column('seal', String, primary_key=True),
    Column('msgid', String, nullable=False),
    Column('at', BigInteger, nullable=False),
)
"""Signed mails whose orders were obeyed: each counts once. Never pruned."""

SIGNERS = Table(
    'signers',
    METADATA,
    Column('address', String, primary_key=True),
    Column('last', BigInteger, nullable=False),
)
"""Authors whose own domain signed a mail, and when last. Pruned after half a year."""

OPT_OUTS = Table(
    'opt_outs',
    METADATA,
    Column('address', String, primary_key=True),
    Column('since', BigInteger, nullable=False),
    Column('msgid', String, nullable=False),
)
"""Authors that nothing is mailed to any more. Never pruned."""

UNREAD = Table(
    'unread',
    METADATA,
    Column('list', String, primary_key=True),
    Column('epoch', Integer, primary_key=True),
    Column('commit', String, primary_key=True),
    Column('msgid', String, nullable=False),
    Column('reason', Text, nullable=False),
    Column('at', BigInteger, nullable=False),
)
"""Mails that could not be read, and were passed over: the commit that brought each, and why."""

WAITING = Table(
    'waiting',
    METADATA,
    Column('parent', String, primary_key=True),
    Column('mail', ID, ForeignKey('mails.id', ondelete='CASCADE'), primary_key=True),
)
"""The message-ids that an answer waits for, while none of them is of a series."""

FACTS = Table(
    'facts',
    METADATA,
    Column('name', String, primary_key=True),
    Column('value', Text, nullable=False),
)
"""`started`: when this database was first used."""

Index('replies_by_state', REPLIES.c.state, REPLIES.c.not_before)
Index('replies_by_series', REPLIES.c.series)
Index('orders_by_series', ORDERS.c.series)
Index('waiting_by_mail', WAITING.c.mail)
Index('orders_by_state', ORDERS.c.state, ORDERS.c.not_before)
Index('orders_by_mail', ORDERS.c.mail)
Index('mails_by_attested', MAILS.c.attested, MAILS.c.ask_at)
Index('mails_by_series', MAILS.c.series)
Index('series_by_state', SERIES.c.state, SERIES.c.since)
Index('series_by_stand_in', SERIES.c.stand_in)
Index('series_by_author', SERIES.c.author, SERIES.c.revision)
Index('nodes_by_series', NODES.c.series)
Index('findings_by_series', FINDINGS.c.series)
