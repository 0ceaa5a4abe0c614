"""What signatures say of series and orders; several mails of one Message-ID; orders that wait."""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'

ID = sa.BigInteger().with_variant(sa.Integer, 'sqlite')
MAILS = ('id', 'msgid', 'series', 'kind', 'date', 'arrived', 'parents', 'raw')


def upgrade() -> None:
    """
    Make the columns and tables. Series that were there before are not attested.

    Orders keep what was decided of them: those that were not obeyed for want of
    a signature are the operator's now, those without a series wait on.
    """
    # No batch: it would drop the table, and with it every row that refers to one of its rows.
    op.add_column('series', sa.Column('attested', sa.String, nullable=False, server_default='off'))
    op.add_column(
        'series', sa.Column('machine', sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.add_column('patches', sa.Column('mail', ID))
    _mails()
    _orders()
    op.create_table(
        'seals',
        sa.Column('seal', sa.String, primary_key=True),
        sa.Column('msgid', sa.String, nullable=False),
        sa.Column('at', sa.BigInteger, nullable=False),
    )
    op.create_table(
        'signers',
        sa.Column('address', sa.String, primary_key=True),
        sa.Column('last', sa.BigInteger, nullable=False),
    )


def _mails() -> None:
    """Make the table again: SQLite can not drop the constraint that a Message-ID is there once."""
    op.rename_table('mails', 'mails_before')
    op.drop_index('mails_by_series', 'mails_before')
    op.create_table(
        'mails',
        sa.Column('id', ID, primary_key=True),
        sa.Column('msgid', sa.String, nullable=False),
        sa.Column('series', ID, sa.ForeignKey('series.id', ondelete='CASCADE')),
        sa.Column('kind', sa.String, nullable=False),
        sa.Column('date', sa.BigInteger, nullable=False),
        sa.Column('arrived', sa.BigInteger, nullable=False),
        sa.Column('parents', sa.Text, nullable=False),
        sa.Column('raw', sa.LargeBinary, nullable=False),
        sa.Column('digest', sa.String, nullable=False, server_default=''),
        sa.Column('n', sa.Integer),
        sa.Column('machine', sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column('attested', sa.String, nullable=False, server_default='off'),
        sa.Column('ask_at', sa.BigInteger, nullable=False, server_default='0'),
        sa.UniqueConstraint('msgid', 'digest', name='mails_once'),
    )
    names = ', '.join(MAILS)
    op.execute(f'INSERT INTO mails ({names}) SELECT {names} FROM mails_before')
    op.drop_table('mails_before')
    op.create_index('mails_by_series', 'mails', ['series'])
    op.create_index('mails_by_attested', 'mails', ['attested', 'ask_at'])
    _count_on('mails')


def _orders() -> None:
    op.rename_table('orders', 'orders_before')
    op.drop_index('orders_by_series', 'orders_before')
    op.create_table(
        'orders',
        sa.Column('id', ID, primary_key=True),
        sa.Column('mail', ID, sa.ForeignKey('mails.id', ondelete='CASCADE')),
        sa.Column('msgid', sa.String, nullable=False),
        sa.Column('kind', sa.String, nullable=False),
        sa.Column('rule', sa.String, nullable=False),
        sa.Column('series', ID, sa.ForeignKey('series.id', ondelete='CASCADE')),
        sa.Column('by', sa.String, nullable=False),
        sa.Column('standing', sa.String, nullable=False),
        sa.Column('at', sa.BigInteger, nullable=False),
        sa.Column('state', sa.String, nullable=False),
        sa.Column('why', sa.Text, nullable=False),
        sa.Column('tries', sa.Integer, nullable=False, server_default='0'),
        sa.Column('not_before', sa.BigInteger, nullable=False, server_default='0'),
    )
    op.execute(
        'INSERT INTO orders (mail, msgid, kind, rule, series, "by", standing, at, state, why)'
        ' SELECT mails.id, o.msgid, o.kind, o.rule, o.series, o."by", o.standing, o.at,'
        " CASE WHEN o.honoured THEN 'honoured' WHEN o.series IS NULL THEN 'pending'"
        " WHEN o.why LIKE 'neither%' THEN 'refused' ELSE 'held' END, o.why"
        ' FROM orders_before o LEFT JOIN mails ON mails.msgid = o.msgid'
    )
    op.drop_table('orders_before')
    op.create_index('orders_by_series', 'orders', ['series'])
    op.create_index('orders_by_state', 'orders', ['state', 'not_before'])
    op.create_index('orders_by_mail', 'orders', ['mail'])


def _count_on(table: str) -> None:
    """Have PostgreSQL number new rows after those that were put in with their numbers."""
    bind = op.get_bind()
    if bind.dialect.name == 'postgresql':
        bind.execute(
            sa.text(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'),"
                f' (SELECT coalesce(max(id), 0) + 1 FROM {table}), false)'
            )
        )
