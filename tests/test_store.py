"""The store: series come together in any order, and every step is one transaction."""

import json
import random
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import text

from bot.assembly import Letter, letter
from bot.errors import StoreError
from bot.model import Finding, Hit, Scope, Severity
from bot.outgoing import Hold, Reply, Silent
from bot.outgoing import Post as May
from bot.respond import Response
from bot.store import Cursor, Row, Store
from bot.store.database import opened, upgrade, version
from bot.store.store import MOST_ANSWERS
from tests.attesting import weigh
from tests.lettering import DIFF, QUIET, Post, answer, post, series

SCOPE = Scope(paths=('mm/vma*',), symbols=(), subjects=())
LIST = 'linux-mm'


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def url(database: str) -> str:
    return database


@pytest.fixture
def store(database: str, clock: Clock) -> Iterator[Store]:
    made = Store(opened(database), clock)
    yield made
    made.close()


def letters(posts: Sequence[Post]) -> list[Letter]:
    found = [letter(one.raw, SCOPE) for one in posts]
    assert all(found)
    return [one for one in found if one is not None]


def take_in(store: Store, posts: Sequence[Post]) -> int:
    return store.take_in(LIST, letters(posts), None).new


def shown(store: Store) -> list[tuple[str, str]]:
    """(title, state) of all series, in the order in which they came."""
    return [(row.title, row.state) for row in sorted(store.rows(), key=lambda row: row.series)]


def only(store: Store) -> Row:
    (row,) = store.rows()
    return row


# --- coming together ---


@pytest.mark.parametrize('seed', range(12))
@pytest.mark.parametrize('shape', ['cover', 'first', 'deep', 'answered', 'deep-cover'])
def test_in_any_order_it_is_one_series(store: Store, shape: str, seed: int) -> None:
    posts = series(
        'a', 5, cover='cover' in shape or shape == 'answered', deep='deep' in shape,
        answers=('old.cover@x',) if shape == 'answered' else (),
    )  # fmt: skip
    random.Random(seed).shuffle(posts)
    for one in posts[:-1]:
        take_in(store, [one])
        assert {row.state for row in store.rows()} == {'assembling'}
    take_in(store, posts[-1:])
    row = only(store)
    assert (row.state, row.patches) == ('pending', '5/5')
    taken = store.take(row.series, most_kills=25)
    assert taken is not None
    assert sorted(taken.mails) == sorted(one.raw for one in posts)


def test_mails_of_many_series_at_once(store: Store) -> None:
    posts = [
        one
        for name, author in (('a', 'a@x'), ('b', 'b@x'), ('c', 'a@x'))
        for one in series(name, 3, author=author)
    ]
    random.Random(3).shuffle(posts)
    take_in(store, posts)
    assert sorted(row.state for row in store.rows()) == ['pending'] * 3
    assert all(row.patches == '3/3' for row in store.rows())


def test_a_mail_that_comes_twice_changes_nothing(store: Store) -> None:
    posts = series('a', 2)
    assert take_in(store, posts) == 3
    assert take_in(store, posts) == 0
    assert store.due() == [only(store).series]


def test_out_of_scope_is_skipped_unless_one_patch_is_not(store: Store) -> None:
    take_in(store, series('a', 2, path='fs/x.c'))
    assert shown(store) == [('mm: a', 'skipped')]
    mixed = [*series('b', 3, path='fs/x.c')[:3], series('b', 3)[3]]
    take_in(store, mixed)
    assert shown(store)[1] == ('mm: b', 'pending')


def test_what_is_answered_stays_so_when_another_beginning_joins_it(store: Store) -> None:
    """Its mails, and what was ordered of it, are not forgotten, and it is not judged again."""
    stray = post('stray@x', '[PATCH 0/2] mm: a', 'Hello.\n')
    take_in(store, [stray])
    posts = series('a', 2)
    take_in(store, posts)
    (number,) = store.due()
    assert store.take(number, most_kills=25) is not None
    mine = Reply(1, 'us@x', posts[1].msgid, 'Re: x', ('dev@example.org',), (), b'From: x\n\nx\n')
    assert store.finish(number, 1.0, 'findings', '{}', (), Response(Hold('x'), (mine,)))
    take_in(store, [post('stop@x', 'Re: [PATCH 1/2] x', 'vma-bot: stop\n', posts[1].msgid)])
    weigh(store)
    both = post('b@x', '[PATCH 2/2] mm: a part 2', f'x\n---\n{DIFF}', posts[0].msgid, stray.msgid)
    take_in(store, [both])
    assert shown(store) == [('mm: a', 'reviewed')]
    assert [(one.msgid, one.state) for one in store.outbox.rows()] == [('us@x', 'held')]
    assert store.outbox.history(number).stopped


# --- time ---


def test_incomplete_is_said_after_a_while_and_a_late_patch_wakes_it(
    store: Store, clock: Clock
) -> None:
    posts = series('a', 3)
    take_in(store, [posts[0], posts[1], posts[3]])
    assert store.settle(3600) == 0
    clock.now += 3600
    assert store.settle(3600) == 1
    assert (only(store).state, only(store).why) == ('incomplete', 'patch 2 of 3 is missing')
    assert store.due() == []
    take_in(store, [posts[2]])
    assert only(store).state == 'pending'


def test_a_cover_letter_that_never_comes_is_waited_for(store: Store, clock: Clock) -> None:
    take_in(store, series('a', 2)[1:])
    assert only(store).state == 'assembling'
    clock.now += 60
    store.settle(60)
    assert only(store).state == 'pending'


def test_a_new_revision_takes_the_place_of_the_old(store: Store) -> None:
    take_in(store, series('a', 2))
    take_in(store, series('a', 2, 2)[:1])
    assert shown(store) == [('mm: a', 'superseded'), ('mm: a', 'assembling')]
    assert store.due() == []
    take_in(store, series('a', 2, 2)[1:])
    assert [row.why for row in store.rows(['superseded'])] == ['by v2 (series 2)']
    assert store.due() == [2]


def test_an_old_revision_that_comes_late_is_superseded(store: Store) -> None:
    take_in(store, series('a', 2, 3))
    take_in(store, series('a', 2, 2))
    assert shown(store) == [('mm: a', 'pending'), ('mm: a', 'superseded')]


def test_a_new_title_is_known_by_what_it_answers(store: Store) -> None:
    old = series('a', 2)
    take_in(store, old)
    take_in(store, series('b', 2, 2, answers=(old[0].msgid,)))
    assert shown(store) == [('mm: a', 'superseded'), ('mm: b', 'pending')]


def test_a_reviewed_revision_stays_reviewed(store: Store) -> None:
    take_in(store, series('a', 2))
    store.take(1, most_kills=25)
    assert store.finish(1, 1.0, 'clean', '{}', (), QUIET)
    take_in(store, series('a', 2, 2))
    assert shown(store) == [('mm: a', 'reviewed'), ('mm: a', 'pending')]


def test_a_resend_is_not_judged_again(store: Store) -> None:
    take_in(store, series('a', 2))
    again = [
        Post(one.msgid, one.raw.replace(b'@x>', b'@again>'))
        for one in series('a', 2, prefix='PATCH RESEND')
    ]
    take_in(store, again)
    assert shown(store) == [('mm: a', 'pending'), ('mm: a', 'resent')]


def test_a_partial_reroll_is_for_b4_to_put_together(store: Store, clock: Clock) -> None:
    old = series('a', 3)
    take_in(store, old)
    new = series('a', 3, 2, cover=False, answers=(old[2].msgid,), title='a')[1:2]
    take_in(store, new)
    clock.now += 10
    store.settle(5)
    row = next(row for row in store.rows() if row.revision == 2)
    assert (row.state, 'partial reroll' in row.why) == ('pending', True)
    taken = store.take(row.series, most_kills=25)
    assert taken is not None
    assert set(taken.mails) == {one.raw for one in (*old, *new)}


# --- answers ---


@pytest.mark.parametrize('early', [False, True], ids=['after', 'before'])
def test_an_answer_is_kept_with_its_series_and_wakes_nothing(store: Store, early: bool) -> None:
    posts = series('a', 2)
    reply = answer(posts[1], 'r1')
    nested = answer(reply, 'r2')
    answers = [reply, nested]
    if early:
        take_in(store, answers[:1])
    take_in(store, posts)
    store.take(1, most_kills=25)
    store.finish(1, 1.0, 'clean', '{}', (), QUIET)
    if not early:
        take_in(store, answers[:1])
    take_in(store, answers[1:])
    assert only(store).state == 'reviewed'
    assert store.due() == []


def test_answers_come_along(store: Store) -> None:
    posts = series('a', 2)
    reply = answer(posts[1], 'r1')
    take_in(store, [reply, *posts, answer(reply, 'r2')])
    taken = store.take(1, most_kills=25)
    assert taken is not None
    assert len(taken.mails) == 5


# --- work ---


def test_a_review_is_kept_once(store: Store) -> None:
    take_in(store, series('a', 1))
    finding = Finding('compat-pair', Severity.ERROR, 'f', Hit(1, 'mm/vma.c', 2, 'm'))
    store.take(1, most_kills=25)
    assert store.finish(1, 1.5, 'findings', '{"x": 1}', (finding,), QUIET)
    assert not store.finish(1, 1.5, 'clean', '{}', (), QUIET)
    assert store.report(1) == '{"x": 1}'
    assert store.take(1, most_kills=25) is None
    assert store.due() == []


def test_what_fails_is_tried_again_later_and_then_parked(store: Store, clock: Clock) -> None:
    take_in(store, series('a', 1))
    for number in (1, 2, 3):
        assert store.due() == [1]
        assert store.take(1, most_kills=25) is not None
        store.give_back(1, 'no space left', most=3, wait=60)
        assert store.due() == []
        clock.now += 60 * 2**number
    assert only(store).state == 'parked'
    assert only(store).why == 'tried 3 times: no space left'
    assert store.take(1, most_kills=25) is None


def test_what_was_interrupted_counts_for_nothing(store: Store) -> None:
    take_in(store, series('a', 1))
    for _ in range(10):
        assert store.take(1, most_kills=25) is not None
        assert store.begun() == [1]
        store.put_back(1)
    assert store.due() == [1]


def test_what_kills_its_worker_every_time_is_parked(store: Store) -> None:
    take_in(store, series('a', 1))
    for _ in range(5):
        assert only(store).state == 'pending'
        assert store.take(1, most_kills=25) is not None
        store.put_back(1, killed=True, most=5)
    assert (only(store).state, only(store).why) == ('parked', 'its worker died 5 times')


def test_what_is_superseded_while_it_is_judged_is_still_kept(store: Store) -> None:
    take_in(store, series('a', 1))
    store.take(1, most_kills=25)
    take_in(store, series('a', 1, 2))
    assert store.finish(1, 1.0, 'clean', '{}', (), QUIET)
    assert shown(store) == [('mm: a part 1', 'reviewed'), ('mm: a part 1', 'pending')]


# --- cursors, pruning, the database itself ---


def test_the_cursor_moves_with_what_was_found(store: Store) -> None:
    first = Cursor(0, 'c1', 'm1', 5, '')
    store.take_in(LIST, letters(series('a', 2)), first)
    assert store.cursors(LIST) == {0: first}
    broken = (letter(b'', SCOPE) or 1 / 0 for _ in range(1))
    with pytest.raises(ZeroDivisionError):
        store.take_in(LIST, broken, Cursor(0, 'c2', 'm2', 6))  # type: ignore[arg-type]  # it raises before
    assert store.cursors(LIST) == {0: first}


def test_what_is_old_and_done_is_pruned(store: Store, clock: Clock) -> None:
    take_in(
        store, [*series('a', 2), answer(series('a', 2)[0], 'r'), answer(series('z', 1)[0], 's')]
    )
    store.take(1, most_kills=25)
    store.finish(1, 1.0, 'clean', '{}', (), QUIET)
    take_in(store, series('b', 2))
    clock.now += 100
    assert store.prune(200) == 0
    assert store.prune(50) == 5
    assert shown(store) == [('mm: b', 'pending')]


def test_a_mail_that_may_still_go_is_never_pruned(store: Store, clock: Clock) -> None:
    """Nor anything by our clock alone: one that is a year ahead would have all forgotten."""
    take_in(store, series('a', 1))
    store.take(1, most_kills=25)
    raw = b'From: x\n\nbody\n'
    reply = Reply(1, 'r@bot', 'a.1.1@x', 'Re: a', ('dev@example.org',), (), raw)
    store.finish(1, 1.0, 'findings', '{}', (), Response(May('x', clock.now + 3600), (reply,)))
    then = clock.now
    clock.now += 365 * 86400
    assert store.prune(86400, then) == 0
    assert store.prune(86400) == 0
    store.outbox.decided(1, Silent('x'))
    assert store.prune(86400, then) == 0
    assert store.prune(86400) == 1


def test_a_first_start_that_is_ahead_is_put_right(store: Store, clock: Clock) -> None:
    take_in(store, series('a', 1))
    store.first_start(clock.now + 365 * 86400)
    store.started_by(clock.now)
    assert store.outbox.history(1).started == clock.now
    store.started_by(clock.now + 86400)
    assert store.outbox.history(1).started == clock.now


def test_answers_without_an_end_do_not_keep_a_series_from_being_judged(store: Store) -> None:
    first = series('a', 2)
    take_in(store, [*first[:2], *(answer(first[1], f'r{n}') for n in range(MOST_ANSWERS + 20))])
    take_in(store, first[2:])
    taken = store.take(1, most_kills=25)
    assert taken is not None
    assert len(taken.mails) == MOST_ANSWERS + len(first)
    assert taken.parts == len(first)
    assert {one.raw for one in first} <= set(taken.mails)


@pytest.mark.parametrize('first', ['0001', '0002', '0003'])
def test_an_older_database_comes_up_to_date(url: str, clock: Clock, first: str) -> None:
    """All of it is kept; what was judged or posted by then is never mailed about."""
    engine = opened(url, migrate=False)
    upgrade(engine, first)
    report = {'findings': [{'n': 1, 'rule': 'r', 'severity': 'error', 'fingerprint': 'f',
                            'path': 'p', 'line': 3, 'message': 'm', 'more': 1}]}  # fmt: skip
    finding = "(9, 7, 1, 'r', 'error', 'f', 'p', 3, 'm')"
    statements = [
        'INSERT INTO series (id, list, author, name, revision, "of", title, in_scope, state, why,'
        f" since, first_seen, last_seen, posted) VALUES ({number}, 'l', 'a', 'n', {number}, 1,"
        f" 't', true, '{state}', '', 1, 1, 1, 1)"
        for number, state in ((7, 'reviewed'), (8, 'pending'))
    ]
    statements.append("INSERT INTO work VALUES (8, 0, 0, '', 0)")
    statements.append(
        'INSERT INTO reviews (series, at, seconds, verdict, report)'
        " VALUES (7, 1, 1.0, 'findings', :report)"
    )
    statements += [f'INSERT INTO findings VALUES {finding}'] if first != '0001' else []
    statements.append(
        'INSERT INTO mails (id, msgid, series, kind, date, arrived, parents, raw)'
        " VALUES (5, 'p@x', 8, 'patch', 1, 1, '[]', :raw),"
        " (6, 'o@x', 8, 'answer', 1, 1, '[]', :raw)"
    )
    statements.append("INSERT INTO patches VALUES (8, 1, 'p@x', 't', 'c')")
    if first == '0003':
        statements += [
            'INSERT INTO orders (msgid, kind, rule, series, "by", standing, at, honoured, why)'
            f" VALUES ('o@x', '{kind}', '', 8, 'a', '{standing}', 1, {honoured}, '{why}')"
            for kind, standing, honoured, why in (
                ('stop', 'not-checked', 'true', ''),
                ('opt-out', 'fail', 'false', 'its DKIM signature does not fit'),
            )
        ]
    with engine.begin() as db:
        for one in statements:
            given: dict[str, object] = {'raw': series('t', 1)[0].raw} if ':raw' in one else {}
            given |= {'report': json.dumps(report)} if ':report' in one else {}
            db.execute(text(one), given)
    engine.dispose()
    engine = opened(url)
    assert version(engine) == ('0006', '0006')
    store = Store(engine, clock)
    assert [(row.series, row.state) for row in store.rows()] == [(8, 'pending'), (7, 'reviewed')]
    assert json.loads(store.report(7) or '') == report
    with engine.begin() as db:
        rows = db.execute(text('SELECT series, n, rule, line FROM findings')).all()
        maintainers = db.execute(text('SELECT maintainers FROM reviews')).scalars().all()
    assert [tuple(row) for row in rows] == [(7, 1, 'r', 3)]
    assert maintainers == ['[]']
    assert store.decision(7) == ('silent', '')
    assert store.outbox.rows() == []
    assert store.due() == [8]
    history = store.outbox.history(8)
    assert history.stopped is (first == '0003')
    assert [(one.state, one.kind) for one in store.said()] == (
        [('held', 'opt-out')] if first == '0003' else []
    )
    taken = store.take(8, most_kills=25)
    assert taken is not None
    assert len(taken.mails) == 2
    assert take_in(store, series('new', 1)) == 1  # numbers go on after those that were there
    assert 0 < history.posted < history.started
    assert history.attested == 'off'
    store.close()


def test_a_later_database_is_refused(url: str) -> None:
    engine = opened(url)
    with engine.begin() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StoreError, match='a later version'):
        opened(url)


@pytest.mark.parametrize(
    ('wrong', 'said'),
    [
        ('nonsense', 'url'),
        ('mysql://x/y', 'neither sqlite nor postgresql'),
        ('postgresql://nobody@127.0.0.1:1/x', '127.0.0.1'),
        ('sqlite:////dev/null/x.db', 'dev/null'),
    ],
)
def test_a_database_that_can_not_be_had(wrong: str, said: str) -> None:
    with pytest.raises((StoreError, OSError), match=said):
        opened(wrong)


def test_sqlite_is_set_up_for_several_processes(tmp_path: Path) -> None:
    path = tmp_path / 'x.db'
    opened(f'sqlite:///{path}').dispose()
    with sqlite3.connect(path) as db:
        assert db.execute('PRAGMA journal_mode').fetchone() == ('wal',)
        assert db.execute('PRAGMA integrity_check').fetchone() == ('ok',)


def test_prerequisites_are_looked_up_once(store: Store, clock: Clock) -> None:
    needy = [
        Post(one.msgid, one.raw + b'\nprerequisite-message-id: <p@x>\n') for one in series('a', 2)
    ]
    take_in(store, [*needy[:2], *series('b', 1)])
    assert store.needing() == []  # it is not complete yet
    take_in(store, needy[2:])
    (number,) = store.needing()
    one = store.shown(number)
    assert one is not None
    assert (one.title, len(one.mails)) == ('mm: a', 3)
    kept = {'thread p@x': (b'one', b'two'), 'search z': ()}
    store.looked_up(one.series, kept)
    assert store.needing() == []
    taken = store.take(one.series, most_kills=25)
    assert taken is not None
    assert taken.lookups == kept
    store.looked_up(one.series, {})
    assert store.needing() == []
    store.looked_up(99, {'thread p@x': (b'one',)})
    clock.now += 10 * 86400
    store.finish(one.series, 1.0, 'clean', '{}', (), QUIET)
    clock.now += 10 * 86400
    assert store.prune(86400) > 0
