"""What the archive was asked for, kept for those who may not ask it."""

from dataclasses import dataclass, field

import pytest

from bot.errors import LoreError
from bot.lookup import Recorder, Stored
from bot.model import Mail
from bot.series import parse_mail
from tests.lettering import post


def mail(name: str) -> Mail:
    return parse_mail(post(f'{name}@x', '[PATCH] x', 'y\n').raw)


@dataclass
class Archive:
    """Has one thread and finds one mail, unless it is down."""

    down: bool = False
    asked: list[str] = field(default_factory=list)

    def thread(self, msgid: str) -> list[Mail]:
        return self._answer(msgid)

    def search(self, query: str) -> list[Mail]:
        return self._answer(query)

    def _answer(self, what: str) -> list[Mail]:
        self.asked.append(what)
        if self.down:
            raise LoreError('down')
        if what != 'a@x':
            raise LoreError('no such message', missing=True)
        return [mail('a'), mail('b')]


def test_what_was_asked_is_answered_without_an_archive() -> None:
    recorder = Recorder(Archive())
    assert [one.msgid for one in recorder.thread('a@x')] == ['a@x', 'b@x']
    with pytest.raises(LoreError):
        recorder.search('nothing')
    assert recorder.whole
    stored = Stored(recorder.kept)
    assert [one.msgid for one in stored.thread('a@x')] == ['a@x', 'b@x']
    with pytest.raises(LoreError, match='there is no such mail') as caught:
        stored.search('nothing')
    assert caught.value.missing
    with pytest.raises(LoreError, match='was not looked up yet') as caught:
        stored.thread('other@x')
    assert not caught.value.missing


def test_only_what_was_not_asked_is_asked_of_an_archive() -> None:
    archive = Archive()
    stored = Stored({'thread c@x': (mail('c').raw,)}, archive)
    assert [one.msgid for one in stored.thread('c@x')] == ['c@x']
    assert [one.msgid for one in stored.search('a@x')] == ['a@x', 'b@x']
    assert archive.asked == ['a@x']


def test_an_archive_that_is_down_has_not_said_anything() -> None:
    recorder = Recorder(Archive(down=True))
    with pytest.raises(LoreError):
        recorder.thread('a@x')
    assert not recorder.whole
    assert recorder.kept == {}
