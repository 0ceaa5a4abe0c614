"""What stands for a series that is not judged itself, and what becomes of it when that falls."""

from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import text

from bot.model import Finding, Hit, Severity
from bot.outgoing import Accepted, Asked, Hold, Reply, Silent
from bot.outgoing import Post as May
from bot.respond import Response
from bot.store import Store
from bot.store.database import opened, upgrade
from tests.lettering import DIFF, QUIET, Post, answer, post, series
from tests.test_store import Clock, shown, take_in

FINDING = Finding('compat-pair', Severity.ERROR, 'f', Hit(1, 'mm/vma.c', 2, 'm'))
BACKPORTS = ('PATCH AUTOSEL 6.1', 'PATCH 6.1', 'PATCH 6.12.y')


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: str, clock: Clock) -> Iterator[Store]:
    made = Store(opened(database), clock)
    yield made
    made.close()


def states(store: Store) -> list[str]:
    return [state for _, state in shown(store)]


def as_revision(posts: Sequence[Post], revision: int, name: str = 'again') -> list[Post]:
    """The same mails as another revision, under other message-ids."""
    return [
        Post(
            one.msgid.replace('@x', f'@{name}'),
            one.raw.replace(b'@x>', f'@{name}>'.encode()).replace(
                b'[PATCH', f'[PATCH v{revision}'.encode()
            ),
        )
        for one in posts
    ]


def settled(store: Store, clock: Clock) -> None:
    clock.now += 3600
    store.settle(3600)


def judged(store: Store, number: int, response: Response = QUIET) -> None:
    assert store.take(number, most_kills=25) is not None
    verdict = 'clean' if response is QUIET else 'findings'
    found = () if response is QUIET else (FINDING,)
    assert store.finish(number, 1.0, verdict, '{}', found, response)


def test_a_revision_that_changes_nothing_is_judged_instead(store: Store) -> None:
    take_in(store, series('a', 2))
    take_in(store, as_revision(series('a', 2), 2))
    assert states(store) == ['superseded', 'pending']
    judged(store, 2)
    take_in(store, as_revision(series('a', 2), 3, 'third'))
    assert states(store) == ['superseded', 'reviewed', 'resent']


@pytest.mark.parametrize('late', [False, True], ids=['in-order', 'late'])
def test_one_of_equals_is_always_judged(store: Store, late: bool) -> None:
    posts = [series('a', 1), as_revision(series('a', 1), 2), as_revision(series('a', 1), 3, 'c')]
    for one in reversed(posts) if late else posts:
        take_in(store, one)
    assert sorted(states(store)) == ['pending', 'superseded', 'superseded']
    (number,) = store.due()
    taken = store.take(number, most_kills=25)
    assert taken is not None
    assert taken.revision == 3


@pytest.mark.parametrize('before', ['pending', 'reviewed'])
def test_a_changed_message_is_judged(store: Store, before: str) -> None:
    take_in(store, series('a', 2))
    if before == 'reviewed':
        judged(store, 1)
    changed = [
        Post(one.msgid, one.raw.replace(b'Because.', b'Because of it.'))
        for one in as_revision(series('a', 2), 2)
    ]
    take_in(store, changed)
    assert states(store) == ['reviewed' if before == 'reviewed' else 'superseded', 'pending']


def test_a_changed_cover_letter_is_judged(store: Store) -> None:
    take_in(store, series('a', 2))
    judged(store, 1)
    posts = as_revision(series('a', 2), 2)
    take_in(store, [Post(posts[0].msgid, posts[0].raw.replace(b'Hello.', b'Tested.')), *posts[1:]])
    assert states(store) == ['reviewed', 'pending']


def test_a_revision_that_never_comes_whole_replaces_nothing(store: Store, clock: Clock) -> None:
    take_in(store, series('a', 2))
    new = series('a', 2, 2)
    take_in(store, new[:1])
    assert states(store) == ['superseded', 'assembling']
    settled(store, clock)
    assert states(store) == ['pending', 'incomplete']
    take_in(store, new[1:])
    assert states(store) == ['superseded', 'pending']


def test_a_revision_that_is_lacking_replaces_nothing(store: Store) -> None:
    take_in(store, series('a', 2))
    take_in(store, series('a', 2, 2))
    taken = store.take(2, most_kills=25)
    assert taken is not None
    store.lacking(2, taken.parts, 'patch 1 of 2 is missing')
    assert states(store) == ['pending', 'incomplete']


def test_a_revision_out_of_scope_replaces_nothing(store: Store) -> None:
    take_in(store, series('a', 2))
    take_in(store, series('a', 2, 2, path='fs/x.c'))
    assert states(store) == ['pending', 'skipped']
    assert [row.why for row in store.rows(['skipped'])] == ['out of scope']


def test_a_copy_is_judged_where_the_first_is_not(store: Store) -> None:
    take_in(store, series('a', 1))
    again = Post('again@x', series('a', 1, prefix='PATCH RESEND')[0].raw.replace(b'a.1.1@', b'z@'))
    take_in(store, [again])
    assert states(store) == ['pending', 'resent']
    taken = store.take(1, most_kills=25)
    assert taken is not None
    store.lacking(1, taken.parts, 'b4 refuses it')
    assert states(store) == ['incomplete', 'pending']


def test_a_copy_is_judged_where_nobody_was_told(store: Store) -> None:
    take_in(store, series('a', 1))
    for name in ('y', 'z'):
        raw = series('a', 1, prefix='PATCH RESEND')[0].raw
        take_in(store, [Post(name, raw.replace(b'a.1.1@', f'{name}@'.encode()))])
    judged(store, 1, Response(Silent('too old')))
    assert states(store) == ['reviewed', 'pending', 'resent']


def test_what_was_asked_is_known_when_it_is_sent_again(store: Store, clock: Clock) -> None:
    """A resend with another message is judged, and says nothing twice."""
    posts = series('a', 1)
    take_in(store, posts)
    mine = Reply(
        1, 'us@x', posts[0].msgid, 'Re: x', ('dev@example.org',), (), b'From: x\n\nx\n',
        asked=(Asked(1, 'f', 'compat-pair', 'mm/vma.c', None),),
    )  # fmt: skip
    judged(store, 1, Response(May('x', clock.now), (mine,)))
    (one,) = store.outbox.ready()
    assert store.outbox.claim(one.id)
    store.outbox.settle(one.id, Accepted())
    raw = series('a', 1, prefix='PATCH RESEND')[0].raw.replace(b'a.1.1@', b'z@')
    take_in(store, [Post('z', raw.replace(b'Because.', b'Because.\n\nAcked-by: B <b@x.org>'))])
    assert states(store) == ['reviewed', 'pending']
    assert [asked.fingerprint for asked in store.outbox.history(2).asked] == ['f']


def test_what_is_sent_again_is_judged_without_the_first(store: Store) -> None:
    first = series('a', 2)
    take_in(store, first)
    again = [
        Post(one.msgid, one.raw.replace(b'a.1.', b'z.1.').replace(b'part 1', b'part one'))
        for one in series('a', 2, prefix='PATCH RESEND', answers=(first[0].msgid,))
    ]
    take_in(store, again)
    assert states(store) == ['pending', 'pending']
    taken = store.take(2, most_kills=25)
    assert taken is not None
    assert not {one.raw for one in first} & set(taken.mails)
    assert len(taken.mails) == 3


def test_a_part_that_is_sent_again_is_judged_with_the_rest(store: Store, clock: Clock) -> None:
    first = series('a', 2)
    take_in(store, first)
    raw = series('a', 2, prefix='PATCH RESEND')[2].raw.replace(b'<a.1.2@', b'<z.1.2@')
    take_in(store, [Post('z', raw.replace(b'Because.', b'Because of it.'))])
    settled(store, clock)
    assert states(store) == ['pending', 'pending']
    taken = store.take(2, most_kills=25)
    assert taken is not None
    assert {one.raw for one in first} <= set(taken.mails)


def test_a_series_of_an_old_title_is_judged(store: Store) -> None:
    new = series('a', 1)[0].raw
    old = series('a', 1, 2)[0].raw.replace(b'20 Mar 2026', b'20 Jan 2026')
    take_in(store, [Post('old', old)])
    take_in(store, [Post('new', new)])
    assert states(store) == ['pending', 'pending']


@pytest.mark.parametrize('cover', [False, True])
def test_a_series_that_is_posted_twice_in_one_thread(
    store: Store, clock: Clock, cover: bool
) -> None:
    root = post('root@x', 'Re: something', 'Hm.\n')
    first = series('a', 2, cover=cover, answers=(root.msgid,))
    second = [
        Post(
            one.msgid.replace('@x', '@y'),
            one.raw.replace(b'<a.1.', b'<b.1.').replace(b'Because.', b'Because of it.'),
        )
        for one in first
    ]
    take_in(store, first)
    settled(store, clock)
    judged(store, 1)
    take_in(store, [*second, answer(Post('b.1.2@x', second[-1].raw), 'r')])
    settled(store, clock)
    assert states(store) == ['reviewed', 'pending']
    taken = store.take(2, most_kills=25)
    assert taken is not None
    assert {one.raw for one in second} <= set(taken.mails)
    assert len(taken.mails) == len(second) + 1
    assert not {one.raw for one in first} & set(taken.mails)


def test_a_part_that_was_judged_is_judged_whole(store: Store, clock: Clock) -> None:
    old = series('a', 2)
    take_in(store, old)
    judged(store, 1)
    new = series('a', 2, 2, cover=False, answers=(old[0].msgid,))
    take_in(store, new[1:])
    settled(store, clock)
    assert states(store) == ['reviewed', 'pending']
    judged(store, 2)
    take_in(store, new[:1])
    assert states(store) == ['reviewed', 'pending']
    taken = store.take(2, most_kills=25)
    assert taken is not None
    assert {one.raw for one in new} <= set(taken.mails)


def test_what_was_mailed_about_says_that_it_is_not_judged_again(store: Store, clock: Clock) -> None:
    old = series('a', 2)
    take_in(store, old)
    judged(store, 1)
    new = series('a', 2, 2, cover=False, answers=(old[0].msgid,))
    take_in(store, new[1:])
    settled(store, clock)
    mine = Reply(1, 'us@x', new[1].msgid, 'Re: x', ('dev@example.org',), (), b'From: x\n\nx\n')
    judged(store, 2, Response(May('x', clock.now), (mine,)))
    (one,) = store.outbox.ready()
    assert store.outbox.claim(one.id)
    take_in(store, new[:1])
    assert states(store) == ['reviewed', 'reviewed']
    assert [row.why for row in store.rows() if row.series == 2] == [
        'findings, and mailed about: what came later is not judged'
    ]


def test_more_comes_while_a_part_is_judged(store: Store, clock: Clock) -> None:
    old = series('a', 2)
    take_in(store, old)
    judged(store, 1)
    new = series('a', 2, 2, cover=False, answers=(old[0].msgid,))
    take_in(store, new[1:])
    settled(store, clock)
    assert store.take(2, most_kills=25) is not None
    take_in(store, new[:1])
    assert not store.finish(2, 1.0, 'clean', '{}', (), QUIET)
    assert states(store) == ['reviewed', 'pending']


# --- what is not the list's to judge ---


@pytest.mark.parametrize('prefix', BACKPORTS)
def test_a_backport_is_skipped_at_once_and_says_why(
    store: Store, clock: Clock, prefix: str
) -> None:
    posts = series('a', 3, prefix=prefix)
    for one in reversed(posts[:-1]):
        take_in(store, [one])
        assert states(store) == ['skipped']
    settled(store, clock)
    (row,) = store.rows()
    assert (row.state, row.why) == ('skipped', f'a backport ({prefix.removeprefix("PATCH ")})')
    assert store.due() == []


@pytest.mark.parametrize('first', [False, True], ids=['after', 'before'])
@pytest.mark.parametrize('prefix', BACKPORTS)
@pytest.mark.parametrize('revision', [1, 2])
def test_a_backport_takes_nothing_from_what_it_is_of(
    store: Store, prefix: str, revision: int, first: bool
) -> None:
    mine = series('a', 2)
    port = series('p', 2, revision, prefix=prefix, title='a', answers=(mine[0].msgid,))
    for one in (port, mine) if first else (mine, port):
        take_in(store, one)
    assert sorted(states(store)) == ['pending', 'skipped']
    judged(store, store.due()[0])
    take_in(store, series('a', 2, 3))
    assert sorted(states(store)) == ['pending', 'reviewed', 'skipped']
    assert not store.outbox.history(store.due()[0]).superseded


@pytest.mark.parametrize('subject', ['[PATCH] mm: more', '[PATCH v2] mm: more', '[PATCH 3/2] more'])
@pytest.mark.parametrize('place', [0, 1, 3])
def test_a_follow_up_in_the_thread_is_no_part_of_it(store: Store, subject: str, place: int) -> None:
    posts = series('a', 2)
    text = f'More.\n---\n{DIFF.format(path="mm/vma.c", what="more")}'
    more = post('more@x', subject, text, posts[0].msgid, posts[1].msgid)
    take_in(store, [*posts[:place], more, *posts[place:]])
    found = {row.title: (row.state, row.patches) for row in store.rows()}
    assert found['mm: a'] == ('pending', '2/2')
    other = next(state for title, state in found.items() if title != 'mm: a')
    assert other[0] == ('skipped' if '3/2' in subject else 'pending')


def test_what_is_dropped_is_counted(store: Store) -> None:
    store.take_in('l', (), None, (), {'other': 3, 'announcement': 1})
    store.take_in('l', (), None, (), {'other': 2})
    assert store.figures.left_out() == {'other': 5, 'announcement': 1}


def test_a_mail_on_hold_is_kept_back_by_no_copy(store: Store) -> None:
    posts = series('a', 1)
    take_in(store, posts)
    mine = Reply(1, 'us@x', posts[0].msgid, 'Re: x', ('dev@example.org',), (), b'From: x\n\nx\n')
    judged(store, 1, Response(Hold('x'), (mine,)))
    take_in(store, as_revision(posts, 2))
    assert states(store) == ['reviewed', 'resent']
    assert not store.outbox.history(1).superseded


def test_an_older_database_knows_what_stands_for_a_series(database: str, clock: Clock) -> None:
    engine = opened(database, migrate=False)
    upgrade(engine, '0005')
    rows = (
        (7, 1, 'superseded', 'by v2 (series 8)'),
        (8, 2, 'pending', ''),
        (9, 1, 'resent', 'the same as series 7'),
        (10, 1, 'resent', 'the same as series 99'),
    )
    with engine.begin() as db:
        for number, revision, state, why in rows:
            db.execute(
                text(
                    'INSERT INTO series (id, list, author, name, revision, "of", title, in_scope,'
                    " state, why, since, first_seen, last_seen, posted) VALUES (:id, 'l', 'a',"
                    " 'n', :revision, 1, 't', true, :state, :why, 1, 1, 1, 1)"
                ),
                {'id': number, 'revision': revision, 'state': state, 'why': why},
            )
    engine.dispose()
    engine = opened(database)
    with engine.begin() as db:
        found = db.execute(text('SELECT id, stand_in, again, aside FROM series ORDER BY id')).all()
    assert [(row.id, row.stand_in) for row in found] == [(7, 8), (8, None), (9, 7), (10, None)]
    assert {(bool(row.again), row.aside) for row in found} == {(False, '')}
    engine.dispose()
