"""
No content goes unjudged: the real store, over generated histories.

Authors post revisions, send them again, change a message and nothing else; mails come in any
order, some late; signatures turn out to be worth anything; series are judged meanwhile, or fail.
At the end each complete posting is judged, or what stands for it is, or its row says why not.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, event, select

from bot.assembly import letter
from bot.lifecycle import LEAST, Attested
from bot.model import Finding, Hit, Scope, Severity
from bot.outgoing import Hold, Silent
from bot.respond import Response
from bot.signatures import Worth
from bot.store import Store, Taken
from bot.store.database import opened
from bot.store.tables import MAILS, METADATA, SERIES
from tests.attesting import ALL
from tests.lettering import DIFF, Post, post

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get('EXAMPLES') or 100)
"""Histories; `EXAMPLES=5000 pytest tests/test_unjudged.py` tries more."""

SCOPE = Scope(paths=('mm/vma*',), symbols=(), subjects=())
FAKE = (
    b'DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=sel; h=from:subject:date;\n'
    b'\tbh=eA==; b=eA==\n'
)
WORTH: dict[str, Worth] = {
    'pass': Worth('pass', '', ALL),
    'loose': Worth('pass', '', frozenset()),
    'unsigned': Worth('fail', 'x'),
}
DATES = ('Fri, 20 Mar 2026 09:46:40 +0000', 'Sat, 21 Mar 2026 09:46:40 +0000')
SETTLE = 3600
MISSING = 'patch 1 of 2 is missing'
FINDING = Finding('compat-pair', Severity.ERROR, 'f', Hit(1, 'mm/vma.c', 2, 'm'))


@dataclass(frozen=True)
class Posting:
    """One posting of a series: who, what, and how it comes."""

    author: int
    topic: int
    revision: int
    again: bool
    of: int
    diff: int
    message: int
    cover: bool
    attested: str
    out_of_scope: bool
    below: bool
    late: bool
    date: int

    def content(self) -> tuple[object, ...]:
        """What of it has to be judged."""
        return (
            self.author, self.topic, self.of, self.diff, self.message, self.cover and self.of > 1,
            self.out_of_scope,
        )  # fmt: skip

    def mails(self, name: str, above: str | None) -> list[Post]:
        """Its mails: the cover letter where there is one, then the patches."""
        author = f'dev{self.author}@example.org'
        prefix = 'PATCH RESEND' if self.again else 'PATCH'
        version = f' v{self.revision}' if self.revision > 1 else ''
        root = (above,) if above is not None and self.below else ()
        found: list[Post] = []
        path = 'fs/x.c' if self.out_of_scope else 'mm/vma.c'
        if self.cover and self.of > 1:
            subject = f'[{prefix}{version} 0/{self.of}] mm: topic {self.topic}'
            found.append(
                post(f'{name}.0@x', subject, 'Hello.\n', *root, author=author,
                     date=DATES[self.date])
            )  # fmt: skip
            root = (*root, f'{name}.0@x')
        for n in range(1, self.of + 1):
            count = f' {n}/{self.of}' if self.of > 1 else ''
            text = f'Because {self.message}.\n---\n' + DIFF.format(path=path, what=self.diff)
            subject = f'[{prefix}{version}{count}] mm: topic {self.topic} part {n}'
            found.append(
                post(f'{name}.{n}@x', subject, text, *root, author=author, date=DATES[self.date])
            )
            if n == 1 and not (self.cover and self.of > 1):
                root = (*root, f'{name}.1@x')
        if self.attested == 'unsigned':
            return found
        return [Post(one.msgid, FAKE + one.raw) for one in found]


POSTINGS = st.lists(
    st.builds(
        Posting,
        author=st.integers(0, 1),
        topic=st.integers(0, 1),
        revision=st.integers(1, 3),
        again=st.sampled_from((False, False, True)),
        of=st.integers(1, 2),
        diff=st.integers(0, 1),
        message=st.integers(0, 1),
        cover=st.booleans(),
        attested=st.sampled_from(('pass', 'pass', 'loose', 'unsigned')),
        out_of_scope=st.sampled_from((False, False, False, True)),
        below=st.booleans(),
        late=st.sampled_from((False, False, True)),
        date=st.integers(0, 1),
    ),
    min_size=1,
    max_size=5,
)


@dataclass
class World:
    """A store, what it was told, and what of it was judged."""

    engine: Engine
    now: float = 1_800_000_000.0
    worth: dict[bytes, str] = field(default_factory=dict)
    judged: dict[int, frozenset[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = Store(self.engine, lambda: self.now)

    def comes(self, one: Post) -> None:
        read = letter(one.raw, SCOPE, attest=True)
        assert read is not None
        self.store.take_in('l', [read], None)

    def attest(self) -> None:
        while waiting := self.store.unattested():
            self.store.attest({one.mail: WORTH[self.worth[one.raw]] for one in waiting})

    def settle(self) -> None:
        self.now += SETTLE
        self.store.settle(SETTLE)

    def judge(self, choose: random.Random) -> None:
        due = self.store.due()
        taken = self.store.take(choose.choice(due), most_kills=25) if due else None
        if taken is None:
            return
        match choose.randrange(6):
            case 0:
                self.store.give_back(taken.series, 'no space', most=2, wait=60)
            case 1:
                self.store.postpone(taken.series, 'does not apply', 60)
            case _:
                self.ends(taken, choose)

    def ends(self, taken: Taken, choose: random.Random) -> None:
        """b4 puts together what there is, and a review is kept where it is whole."""
        own = self.own(taken.series)
        if any(n not in own.values() for n in range(1, self.of(taken.series) + 1)) and not any(
            row.id != taken.series and row.id == self.row(taken.series).before
            for row in self.rows()
        ):
            self.store.lacking(taken.series, taken.parts, MISSING)
            return
        answer = choose.choice((Response(Silent('x')), Response(Hold('x'))))
        found = choose.choice(((), (FINDING,)))
        verdict = 'findings' if found else 'clean'
        if self.store.finish(taken.series, 1.0, verdict, '{}', found, answer):
            self.judged[taken.series] = frozenset(taken.mails)

    def rows(self) -> list[Any]:
        with self.engine.begin() as db:
            return list(db.execute(select(SERIES)).all())

    def row(self, series: int) -> Any:
        (found,) = [one for one in self.rows() if one.id == series]
        return found

    def of(self, series: int) -> int:
        return int(self.row(series).of)

    def own(self, series: int) -> dict[bytes, int]:
        with self.engine.begin() as db:
            wanted = select(MAILS.c.raw, MAILS.c.n).where(MAILS.c.series == series)
            return {bytes(row.raw): row.n for row in db.execute(wanted)}

    def series_of(self, one: Post) -> int:
        with self.engine.begin() as db:
            return int(
                db.execute(select(MAILS.c.series).where(MAILS.c.raw == one.raw)).scalar_one()
            )


@pytest.fixture(scope='module')
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    made = opened(f'sqlite:///{tmp_path_factory.mktemp("lives") / "state.db"}')
    made.dispose()
    # Nothing of it has to outlive a power cut.
    event.listen(
        made, 'connect', lambda connection, _: connection.execute('PRAGMA synchronous=OFF')
    )
    yield made
    made.dispose()


def emptied(engine: Engine) -> Engine:
    with engine.begin() as db:
        for table in reversed(METADATA.sorted_tables):
            db.execute(delete(table))
    return engine


def lived(engine: Engine, postings: list[Posting], choose: random.Random) -> World:
    """Let the mails of some postings come, in any order, while series are judged."""
    world = World(emptied(engine))
    early: list[Post] = []
    late: list[Post] = []
    above: dict[tuple[int, int], str] = {}
    for number, one in enumerate(postings):
        thread = (one.author, one.topic)
        mails = one.mails(f's{number}', above.get(thread))
        above.setdefault(thread, mails[0].msgid)
        world.worth |= {mail.raw: one.attested for mail in mails}
        kept = choose.randrange(len(mails)) if one.late else -1
        for n, mail in enumerate(mails):
            (late if n == kept else early).append(mail)
    if choose.random() < 0.5:
        choose.shuffle(early)
    for number, mail in enumerate((*early, *late)):
        if number == len(early):
            world.settle()
        world.comes(mail)
        for step in (world.attest, world.settle):
            if choose.random() < 0.2:
                step()
        if choose.random() < 0.4:
            world.judge(choose)
    for _ in range(60):
        world.attest()
        world.settle()
        world.now += 7200
        if not world.store.due():
            break
        world.judge(choose)
    return world


def stands_for(world: World, rows: dict[int, Any], row: Any) -> None:
    """What stands for a series is judged, or says why not, and is attested as well."""
    seen = [row]
    while row.state in ('superseded', 'resent'):
        assert row.stand_in in rows, row
        other = rows[row.stand_in]
        assert other.author == row.author
        assert LEAST[other.attested] >= LEAST[row.attested]
        if row.state == 'superseded':
            assert other.revision > row.revision
            assert other.state in ('reviewed', 'parked', 'superseded'), (row, other)
        else:
            assert other.content == row.content
            assert other.state in ('reviewed', 'parked'), (row, other)
        assert other not in seen
        row = other
        seen.append(row)


# To shrink a history takes minutes; the assertions name what was lost.
@settings(
    max_examples=EXAMPLES, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate)
)
@given(postings=POSTINGS, choose=st.randoms(use_true_random=False))
def test_no_content_goes_unjudged(
    engine: Engine, postings: list[Posting], choose: random.Random
) -> None:
    world = lived(engine, postings, choose)
    rows = {row.id: row for row in world.rows()}
    names = {thread: n for n, thread in reversed(list(enumerate(_threads(postings))))}
    content: dict[int, tuple[object, ...]] = {}
    placed: list[tuple[Posting, list[Post], Any]] = []
    for number, one in enumerate(postings):
        first = names[(one.author, one.topic)]
        root = postings[first].mails(f's{first}', None)[0].msgid if first != number else None
        mails = one.mails(f's{number}', root)
        places = {world.series_of(mail) for mail in mails}
        if len(places) == 1:
            placed.append((one, mails, rows[places.pop()]))
            content[placed[-1][2].id] = one.content()
        else:
            # Its mails met those of another posting, and nothing is lost for want of one.
            assert one.late or len(postings) > 1
    for one, mails, row in placed:
        patches = {mail.raw for mail in mails if b' 0/' not in mail.raw.split(b'\n\n')[0]}
        if row.state == 'reviewed':
            assert patches <= world.judged[row.id], (one, row)
        elif row.state == 'skipped':
            assert one.out_of_scope
            assert row.why
        else:
            assert row.state in ('superseded', 'resent', 'parked'), (one, row)
            assert row.why
            stands_for(world, rows, row)
        if row.state == 'resent':
            assert content[row.stand_in] == one.content()
    for row in rows.values():
        assert row.state not in ('assembling', 'pending', 'working'), row
        assert row.why
        stands_for(world, rows, row)


def _threads(postings: list[Posting]) -> list[tuple[int, int]]:
    return [(one.author, one.topic) for one in postings]


def test_every_worth_is_tried() -> None:
    assert {*WORTH, 'unknown', 'off'} == set(get_args(Attested))
