"""Replies, what they asked, orders from the list, prerequisites, and the first start."""

import time

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'

ID = sa.BigInteger().with_variant(sa.Integer, 'sqlite')


def upgrade() -> None:
    """Make the tables. What was judged before was never mailed, and never will be."""
    op.add_column(
        'reviews', sa.Column('decision', sa.String, nullable=False, server_default='silent')
    )
    op.add_column('reviews', sa.Column('decision_why', sa.Text, nullable=False, server_default=''))
    op.add_column('reviews', sa.Column('maintainers', sa.Text, nullable=False, server_default='[]'))
    op.add_column(
        'series', sa.Column('needs', sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.create_table(
        'lookups',
        sa.Column('series', ID, sa.ForeignKey('series.id', ondelete='CASCADE'), primary_key=True),
        sa.Column('asked', sa.String, primary_key=True),
        sa.Column('n', sa.Integer, primary_key=True),
        sa.Column('raw', sa.LargeBinary),
    )
    op.create_table(
        'replies',
        sa.Column('id', ID, primary_key=True),
        sa.Column('series', ID, sa.ForeignKey('series.id', ondelete='CASCADE'), nullable=False),
        sa.Column('n', sa.Integer, nullable=False),
        sa.Column('msgid', sa.String, nullable=False, unique=True),
        sa.Column('parent', sa.String, nullable=False),
        sa.Column('author', sa.String, nullable=False),
        sa.Column('subject', sa.Text, nullable=False),
        sa.Column('recipients', sa.Text, nullable=False),
        sa.Column('lists', sa.Text, nullable=False),
        sa.Column('raw', sa.LargeBinary, nullable=False),
        sa.Column('state', sa.String, nullable=False),
        sa.Column('why', sa.Text, nullable=False),
        sa.Column('since', sa.BigInteger, nullable=False),
        sa.Column('not_before', sa.BigInteger, nullable=False),
        sa.Column('tries', sa.Integer, nullable=False),
        sa.Column('approved', sa.Boolean, nullable=False),
        sa.Column('refused', sa.Text, nullable=False),
    )
    op.create_table(
        'asked',
        sa.Column('reply', ID, sa.ForeignKey('replies.id', ondelete='CASCADE'), primary_key=True),
        sa.Column('fingerprint', sa.String, primary_key=True),
        sa.Column('revision', sa.Integer, nullable=False),
        sa.Column('rule', sa.String, nullable=False),
        sa.Column('path', sa.String),
        sa.Column('symbol', sa.Text),
    )
    op.create_table(
        'orders',
        sa.Column('msgid', sa.String, primary_key=True),
        sa.Column('kind', sa.String, primary_key=True),
        sa.Column('rule', sa.String, primary_key=True),
        sa.Column('series', ID, sa.ForeignKey('series.id', ondelete='CASCADE')),
        sa.Column('by', sa.String, nullable=False),
        sa.Column('standing', sa.String, nullable=False),
        sa.Column('at', sa.BigInteger, nullable=False),
        sa.Column('honoured', sa.Boolean, nullable=False),
        sa.Column('why', sa.Text, nullable=False),
    )
    op.create_table(
        'opt_outs',
        sa.Column('address', sa.String, primary_key=True),
        sa.Column('since', sa.BigInteger, nullable=False),
        sa.Column('msgid', sa.String, nullable=False),
    )
    facts = op.create_table(
        'facts',
        sa.Column('name', sa.String, primary_key=True),
        sa.Column('value', sa.Text, nullable=False),
    )
    op.create_index('replies_by_state', 'replies', ['state', 'not_before'])
    op.create_index('replies_by_series', 'replies', ['series'])
    op.create_index('orders_by_series', 'orders', ['series'])
    op.get_bind().execute(sa.insert(facts), {'name': 'started', 'value': str(int(time.time()))})
