"""Which mails of a thread b4 is shown, and that an answer that it fails on stops no series."""

from pathlib import Path

import pytest

from bot.b4 import B4, Ended
from bot.model import Incomplete, Series
from bot.series import parse_mail
from bot.thread import of_one_series
from tests.lettering import answer, series


def test_a_mail_that_is_there_twice_counts_once() -> None:
    """As an mbox has that was put together from two."""
    posts = series('twice', 2)
    raws = [one.raw for one in (*posts, posts[1], posts[2])]
    shown = of_one_series(map(parse_mail, raws), None)
    assert [mail.msgid for mail in shown] == [one.msgid for one in posts]


def test_another_mail_under_a_known_message_id_takes_nothing() -> None:
    posts = series('known', 2)
    forged = posts[1].raw.replace(b'Because.', b'Because of another.')
    shown = of_one_series([parse_mail(one) for one in (*(p.raw for p in posts), forged)], None)
    assert [mail.raw for mail in shown] == [one.raw for one in posts]


@pytest.mark.slow
def test_b4_gets_a_series_whose_mails_are_there_twice() -> None:
    posts = series('twice', 2)
    mails = [parse_mail(one.raw) for one in (*posts, *posts, answer(posts[1], 'ack'))]
    found = B4().series(mails)
    assert isinstance(found, Series)
    assert [patch.msgid for patch in found.patches] == [one.msgid for one in posts[1:]]
    assert 'Acked-by: B Reviewer <b@example.org>' in found.patches[0].trailers


class Choosy(B4):
    """b4, as it would be with a fault that an answer brings out."""

    def _child(self, words: list[str], stdin: bytes, home: Path, cwd: Path) -> Ended | None:
        if b'Subject: Re:' in stdin:
            return Ended(1, b'', b'Traceback (most recent call last):\nKeyError: "x"\n')
        return super()._child(words, stdin, home, cwd)


@pytest.mark.slow
def test_an_answer_that_b4_fails_on_is_left_out() -> None:
    posts = series('choosy', 2)
    reply = answer(posts[1], 'ack')
    mails = [parse_mail(one.raw) for one in (*posts, reply, answer(reply, 'deep'))]
    for asked in (None, posts[0].msgid, reply.msgid, 'deep@x'):
        found = Choosy().series(mails, asked)
        assert isinstance(found, Series)
        assert [patch.msgid for patch in found.patches] == [one.msgid for one in posts[1:]]
        assert found.remarks == (
            (
                'b4 fails on this thread: KeyError: "x": its answers are left out, and their '
                'trailers do not count'
            ),
        )


def test_without_a_patch_that_is_left_the_reason_stays() -> None:
    (first, *_) = series('none', 2)
    found = Choosy().series([parse_mail(answer(first, 'ack').raw)])
    assert isinstance(found, Incomplete)
    assert found.reason == 'b4 fails on this thread: KeyError: "x"'
