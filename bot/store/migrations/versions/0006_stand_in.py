"""Which series stands for one that is not judged itself; series that are not reviewed at all."""

import re

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'

ID = sa.BigInteger().with_variant(sa.Integer, 'sqlite')
NAMED = re.compile(r'\bseries (\d+)')


def upgrade() -> None:
    """Make the columns, and find what stands for a series in the words that said so."""
    op.add_column('series', sa.Column('stand_in', ID))
    op.add_column(
        'series', sa.Column('again', sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.add_column('series', sa.Column('aside', sa.Text, nullable=False, server_default=''))
    op.create_index('series_by_stand_in', 'series', ['stand_in'])
    series = sa.table(
        'series', sa.column('id'), sa.column('state'), sa.column('why'), sa.column('stand_in')
    )
    db = op.get_bind()
    there = set(db.execute(sa.select(series.c.id)).scalars())
    closed = sa.select(series.c.id, series.c.why).where(
        series.c.state.in_(('superseded', 'resent'))
    )
    for row in db.execute(closed).all():
        found = NAMED.search(row.why)
        if found is not None and int(found[1]) in there:
            mine = series.c.id == row.id
            db.execute(sa.update(series).where(mine).values(stand_in=int(found[1])))
