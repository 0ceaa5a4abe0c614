"""The findings of a review, each in a row of its own; those of old reviews out of their reports."""

import json

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'

ID = sa.BigInteger().with_variant(sa.Integer, 'sqlite')
KEYS = ('n', 'rule', 'severity', 'fingerprint', 'path', 'line', 'message')


def upgrade() -> None:
    """Make the table, and fill it."""
    findings = op.create_table(
        'findings',
        sa.Column('id', ID, primary_key=True),
        sa.Column('series', ID, sa.ForeignKey('series.id', ondelete='CASCADE'), nullable=False),
        sa.Column('n', sa.Integer, nullable=False),
        sa.Column('rule', sa.String, nullable=False),
        sa.Column('severity', sa.String, nullable=False),
        sa.Column('fingerprint', sa.String, nullable=False),
        sa.Column('path', sa.String),
        sa.Column('line', sa.Integer),
        sa.Column('message', sa.Text, nullable=False),
    )
    op.create_index('findings_by_series', 'findings', ['series'])
    db = op.get_bind()
    for series, report in db.execute(sa.text('SELECT series, report FROM reviews')).all():
        try:
            read = json.loads(report)['findings']
            rows = [{'series': series, **{key: one[key] for key in KEYS}} for one in read]
        except (ValueError, KeyError, TypeError):
            continue
        if rows:
            db.execute(sa.insert(findings), rows)
