"""Mails that could not be read, and an index of the mails that answers wait for."""

import json

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'

ID = sa.BigInteger().with_variant(sa.Integer, 'sqlite')
MOST = 998
"""Bytes of a message-id: more do not fit into PostgreSQL's index."""


def upgrade() -> None:
    """Make the tables, and fill the index from what waits now."""
    op.create_table(
        'unread',
        sa.Column('list', sa.String, primary_key=True),
        sa.Column('epoch', sa.Integer, primary_key=True),
        sa.Column('commit', sa.String, primary_key=True),
        sa.Column('msgid', sa.String, nullable=False),
        sa.Column('reason', sa.Text, nullable=False),
        sa.Column('at', sa.BigInteger, nullable=False),
    )
    waiting = op.create_table(
        'waiting',
        sa.Column('parent', sa.String, primary_key=True),
        sa.Column('mail', ID, sa.ForeignKey('mails.id', ondelete='CASCADE'), primary_key=True),
    )
    op.create_index('waiting_by_mail', 'waiting', ['mail'])
    mails = sa.table(
        'mails', sa.column('id'), sa.column('series'), sa.column('kind'), sa.column('parents')
    )
    db = op.get_bind()
    lone = sa.select(mails.c.id, mails.c.parents).where(
        mails.c.series.is_(None), mails.c.kind == 'answer'
    )
    rows = [
        {'parent': parent, 'mail': row.id}
        for row in db.execute(lone).all()
        for parent in dict.fromkeys(json.loads(row.parents))
        if len(parent.encode('utf-8', 'replace')) <= MOST
    ]
    if rows:
        db.execute(sa.insert(waiting), rows)
