"""Cursors, mails, series, work and reviews."""

import sqlalchemy as sa
from alembic import op

revision = '0001'
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer, 'sqlite')


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        'cursors',
        sa.Column('list', sa.String, primary_key=True),
        sa.Column('epoch', sa.Integer, primary_key=True),
        sa.Column('commit', sa.String, nullable=False),
        sa.Column('msgid', sa.String, nullable=False),
        sa.Column('date', sa.BigInteger, nullable=False),
        sa.Column('fingerprint', sa.String, nullable=False),
    )
    op.create_table(
        'series',
        sa.Column('id', ID, primary_key=True),
        sa.Column('list', sa.String, nullable=False),
        sa.Column('author', sa.String, nullable=False),
        sa.Column('name', sa.String, nullable=False),
        sa.Column('revision', sa.Integer, nullable=False),
        sa.Column('of', sa.Integer, nullable=False),
        sa.Column('title', sa.String, nullable=False),
        sa.Column('change_id', sa.String),
        sa.Column('content', sa.String),
        sa.Column('in_scope', sa.Boolean, nullable=False),
        sa.Column('state', sa.String, nullable=False),
        sa.Column('why', sa.Text, nullable=False),
        sa.Column('since', sa.BigInteger, nullable=False),
        sa.Column('first_seen', sa.BigInteger, nullable=False),
        sa.Column('last_seen', sa.BigInteger, nullable=False),
        sa.Column('posted', sa.BigInteger, nullable=False),
        sa.Column('before', ID, sa.ForeignKey('series.id', ondelete='SET NULL')),
    )
    op.create_table(
        'mails',
        sa.Column('id', ID, primary_key=True),
        sa.Column('msgid', sa.String, nullable=False, unique=True),
        sa.Column('series', ID, sa.ForeignKey('series.id', ondelete='CASCADE')),
        sa.Column('kind', sa.String, nullable=False),
        sa.Column('date', sa.BigInteger, nullable=False),
        sa.Column('arrived', sa.BigInteger, nullable=False),
        sa.Column('parents', sa.Text, nullable=False),
        sa.Column('raw', sa.LargeBinary, nullable=False),
    )
    op.create_table(
        'patches',
        sa.Column('series', ID, sa.ForeignKey('series.id', ondelete='CASCADE'), primary_key=True),
        sa.Column('n', sa.Integer, primary_key=True),
        sa.Column('msgid', sa.String, nullable=False),
        sa.Column('title', sa.String, nullable=False),
        sa.Column('content', sa.String, nullable=False),
    )
    op.create_table(
        'nodes',
        sa.Column('msgid', sa.String, primary_key=True),
        sa.Column('author', sa.String, primary_key=True),
        sa.Column('revision', sa.Integer, primary_key=True),
        sa.Column('of', sa.Integer, primary_key=True),
        sa.Column('series', ID, sa.ForeignKey('series.id', ondelete='CASCADE'), nullable=False),
    )
    op.create_table(
        'work',
        sa.Column('series', ID, sa.ForeignKey('series.id', ondelete='CASCADE'), primary_key=True),
        sa.Column('tries', sa.Integer, nullable=False),
        sa.Column('kills', sa.Integer, nullable=False),
        sa.Column('reason', sa.Text, nullable=False),
        sa.Column('not_before', sa.BigInteger, nullable=False),
    )
    op.create_table(
        'reviews',
        sa.Column('series', ID, sa.ForeignKey('series.id', ondelete='CASCADE'), primary_key=True),
        sa.Column('at', sa.BigInteger, nullable=False),
        sa.Column('seconds', sa.Float, nullable=False),
        sa.Column('verdict', sa.String, nullable=False),
        sa.Column('report', sa.Text, nullable=False),
    )
    op.create_index('mails_by_series', 'mails', ['series'])
    op.create_index('series_by_state', 'series', ['state', 'since'])
    op.create_index('series_by_author', 'series', ['author', 'revision'])
    op.create_index('nodes_by_series', 'nodes', ['series'])
