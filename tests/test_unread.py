"""What a stranger writes is read as far as it goes; what can't be is kept, and stops nothing."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from bot import headers
from bot.assembly import Letter, letter
from bot.daemon import Watcher, Worker
from bot.errors import LetterError, StoreError
from bot.mirror import Arrival
from bot.model import Mail, Scope
from bot.series import assemble, parse_mail
from bot.signatures import Worth
from bot.store import Cursor, Fault, Store, Taken
from bot.store.database import opened
from bot.subjects import read
from tests.fuzzing import bases, mutated
from tests.lettering import post, series, telling
from tests.poison import UNREADABLE, poisons

SCOPE = Scope(paths=('mm/vma*',), symbols=(), subjects=())
OTHERS = bases()
BIT_31 = 1 << 31


def store_at(url: str, now: float = 1_774_000_000.0) -> Store:
    return Store(opened(url), lambda: now)


def sound(found: Letter) -> None:
    """A letter holds nothing that a database can't."""
    said = (found.msgid, found.author, found.name, found.title, *found.parents)
    for one in said:
        one.encode()
        assert '\0' not in one
    assert len(found.title) <= headers.LONGEST_TEXT
    assert len(found.author) <= 2 * headers.LONGEST_ADDRESS
    assert all(0 <= one < BIT_31 for one in (found.revision, found.n, found.of))


@pytest.mark.parametrize('name', poisons())
def test_a_poison_is_read_or_refused(name: str) -> None:
    raw = poisons()[name].raw
    mail = parse_mail(raw)
    assemble([mail])
    if name in UNREADABLE:
        with pytest.raises(LetterError):
            letter(raw, SCOPE)
        return
    found = letter(raw, SCOPE)
    if found is not None:
        sound(found)


@given(choose=st.randoms(use_true_random=False), number=st.integers(0, len(OTHERS) - 1))
def test_a_mutated_mail_is_read_or_refused(choose: random.Random, number: int) -> None:
    raw = mutated(choose, OTHERS[number], OTHERS)
    assemble([parse_mail(raw)])
    try:
        found = letter(raw, SCOPE)
    except LetterError:
        return
    if found is not None:
        sound(found)


@given(
    st.one_of(
        st.text(),
        st.builds(
            '=?{}?{}?{}?='.format,
            st.sampled_from(['utf-7', 'idna', 'undefined', 'unicode_escape', 'a\0', 'utf-8', '']),
            st.sampled_from('QBqX'),
            st.text(),
        ),
    )
)
def test_no_header_raises(value: str) -> None:
    headers.decoded(value).encode('utf-8', 'surrogatepass')
    headers.addresses(value, f'{value} <a@b.org>')
    read(f'[PATCH {value}] x')


@pytest.mark.parametrize(
    ('header', 'said'),
    [
        ('=?utf-8?B?w6k=?= x', 'é x'),
        ('=?utf-8?Q?a=C3?= =?utf-8?Q?=A9b?=', 'aéb'),
        ('=?iso-8859-1?Q?=E9_=E8?=', 'é è'),
        ('=?gb2312?B?xOO6w w==?=', '=?gb2312?B?xOO6w w==?='),
        ('=?utf-8?q?=5BPATCH?= v2] x', '[PATCH v2] x'),
        ('a =?utf-8?Q?b?= c', 'a b c'),
        ('=?utf-7?Q?+2AA-?=', '+2AA-'),
        ('=?koi8-r?B?8NLJ18XU?=', 'Привет'),
    ],
)
def test_encoded_words(header: str, said: str) -> None:
    assert headers.decoded(header) == said


def test_what_can_not_be_stored_is_passed_over_with_the_cursor(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(database)
    good = [letter(one.raw, SCOPE) for name in 'ab' for one in series(name, 1)]
    bad = letter(series('bad', 1)[0].raw, SCOPE)
    assert bad is not None
    # Past the reading, whose bounds are not what holds this.
    object.__setattr__(bad, 'revision', 1 << 70)
    object.__setattr__(bad, 'commit', 'c' * 40)
    letters = [one for one in (good[0], bad, good[1]) if one]
    cursor = Cursor(3, 'end', 'm', 5)
    taken = store.take_in('l', letters, cursor, [Fault('d' * 40, '', 'ValueError: \0\udcff')])
    assert (taken.new, taken.unread) == (2, 2)
    assert store.cursors('l') == {3: cursor}
    assert [(one.commit[0], one.epoch) for one in store.unread.rows()] == [('c', 3), ('d', 3)]
    # The same commits again, and the same mail by another commit: no more rows.
    object.__setattr__(bad, 'commit', 'e' * 40)
    assert store.take_in('l', letters, cursor).new == 0
    assert {one.commit[0] for one in store.unread.rows()} == {'d', 'e'}
    assert [row.title for row in store.rows()] == ['mm: b part 1', 'mm: a part 1']
    store.close()


def test_a_database_that_fails_is_no_mails_fault(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(database)
    found = [letter(one.raw, SCOPE) for one in series('a', 1)]

    def failing(*_: Any) -> None:
        raise OperationalError('INSERT', {}, Exception('the disk is full'))

    monkeypatch.setattr(store, '_arrives', failing)
    with pytest.raises(StoreError):
        store.take_in('l', [one for one in found if one], Cursor(0, 'c', 'm', 5))
    monkeypatch.undo()
    assert store.cursors('l') == {}
    assert store.unread.count() == 0
    # Nor is a table that is not there, or a right that was taken away.
    with store._engine.begin() as db:
        db.execute(text('DROP TABLE nodes'))
    with pytest.raises(StoreError):
        store.take_in('l', [one for one in found if one], Cursor(0, 'c', 'm', 5))
    assert store.unread.count() == 0
    store.close()


def test_a_server_that_goes_within_a_savepoint_loses_nothing(database: str) -> None:
    if not database.startswith('postgresql'):
        pytest.skip('a server only')
    store, other = store_at(database), store_at(database)
    read = [letter(one.raw, SCOPE) for one in series('a', 3)]
    letters = [one for one in read if one]
    arrives = store._arrives

    def losing(db: Any, name: str, one: Letter) -> None:
        if one.n == 2:
            pid = db.execute(text('SELECT pg_backend_pid()')).scalar()
            with other._engine.connect() as beside:
                admin = beside.execution_options(isolation_level='AUTOCOMMIT')
                admin.exec_driver_sql(f'SELECT pg_terminate_backend({pid})')
        arrives(db, name, one)

    store._arrives = losing  # type: ignore[method-assign, assignment]
    cursor = Cursor(0, 'c', 'm', 5)
    other._engine.dispose()
    with pytest.raises(StoreError):
        store.take_in('l', letters, cursor)
    store._arrives = arrives  # type: ignore[method-assign]
    assert store.unread.count() == 0
    assert store.take_in('l', letters, cursor).new == len(letters)
    store.close()
    other.close()


def test_whatever_a_weigher_raises_is_of_its_mail(tmp_path: Path) -> None:
    store = store_at(f'sqlite:///{tmp_path / "state.db"}')

    def weigh(_: Mail) -> Worth:
        raise RecursionError('deep')

    said: list[str] = []
    watcher = Watcher(store, (), SCOPE, 0, 0, 0, lambda: 0.0, telling(said), weigh)
    patch = series('a', 1)[0]
    read = [
        watcher._read(Arrival('c', 0, one.raw))
        for one in (patch, post('r@x', 'Re: [PATCH] mm: a', 'vma-bot: stop\n', patch.msgid))
    ]
    store.take_in('l', [one for one in read if isinstance(one, Letter)], None)
    watcher.attest()
    (order,) = store.said()
    assert (order.state, order.why) == (
        'held',
        'its signature can not be read: RecursionError: deep',
    )
    assert isinstance(watcher._read(Arrival('c', 0, None, 'too large')), Fault)
    store.close()


def test_prerequisites_of_one_series_stop_no_other(tmp_path: Path) -> None:
    store = store_at(f'sqlite:///{tmp_path / "state.db"}')
    said: list[str] = []
    needy = [
        letter(one.raw + b'\nDepends-on: <p@x>\n', SCOPE)
        for name in 'ab'
        for one in series(name, 1)
    ]
    store.take_in('l', [one for one in needy if one], None)

    def ask(taken: Taken) -> dict[str, tuple[bytes, ...]]:
        if taken.series == 1:
            raise RecursionError('deep')
        return {'thread p@x': (b'one',)}

    now = 1_774_000_000.0
    watcher = Watcher(
        store, (), SCOPE, 0, 0, 9 * 10**9, lambda: now, telling(said), look_up=ask
    )  # fmt: skip
    watcher.once()
    assert store.needing() == []
    assert said == ['series 1: its prerequisites can not be looked up: RecursionError: deep']
    store.close()


def test_a_series_that_can_not_be_taken_up_is_parked(tmp_path: Path) -> None:
    store = store_at(f'sqlite:///{tmp_path / "state.db"}')
    read = [letter(one.raw, SCOPE) for name in 'ab' for one in series(name, 1)]
    store.take_in('l', [one for one in read if one], None)
    with store._engine.begin() as db:
        db.execute(text("DELETE FROM mails WHERE msgid = 'a.1.1@x'"))
    worker = Worker(store, lambda taken: (_ for _ in ()).throw(MemoryError()), 0, telling())
    for series_ in store.due():
        assert worker.one(series_)
    states = {row.title: (row.state, row.why) for row in store.rows()}
    assert states['mm: a part 1'][0] == 'parked'
    assert states['mm: b part 1'] == ('pending', 'tried 1 times: MemoryError:')
    store.close()


def test_thousands_of_answers_wait_without_a_scan(tmp_path: Path) -> None:
    """Orders that come before their series join it in a few statements, however many there are."""
    store = store_at(f'sqlite:///{tmp_path / "state.db"}')
    patch = series('a', 1)[0]
    orders = ''.join(f'vma-bot: ack rule-{n}\n' for n in range(20))
    early = [
        letter(post(f'r{n}@x', 'Re: [PATCH] mm: a', orders, patch.msgid).raw, SCOPE)
        for n in range(250)
    ]
    store.take_in('l', [one for one in early if one], None)
    asked: list[str] = []
    engine = store._engine

    event.listen(engine, 'before_cursor_execute', lambda *words: asked.append(words[2]))
    made = letter(patch.raw, SCOPE)
    assert made is not None
    store.take_in('l', [made], None)
    assert len(asked) < 60
    with engine.begin() as db:
        count = db.execute(
            text("SELECT count(*) FROM orders WHERE state = 'pending' AND series IS NOT NULL")
        ).scalar()
        waiting = db.execute(text('SELECT count(*) FROM waiting')).scalar()
    assert (count, waiting) == (250 * 20, 0)
    store.close()


def test_pruned_with_the_rest(tmp_path: Path) -> None:
    now = [1_774_000_000.0]
    store = Store(opened(f'sqlite:///{tmp_path / "state.db"}'), lambda: now[0])
    store.take_in('l', (), Cursor(0, 'c', 'm', 5), [Fault('c', 'a@x', 'x')])
    store.prune(86_400)
    assert store.unread.count() == 1
    now[0] += 2 * 86_400
    store.prune(86_400)
    assert store.unread.count() == 0
    store.close()
