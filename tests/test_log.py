"""What a running bot says: one line an event, for people or for machines, and nothing secret."""

import ast
import json
import logging
import os
import re
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.events import EVENTS, LONGEST, sentence
from bot.log import Log, chosen, take_over
from tests.conftest import Bot, Demo
from tests.test_work import Place

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
TELLERS = {'tell', '_tell', 'log'}
SECRET = 'correct-horse-battery'
CLOCK = re.compile(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z')


def told() -> Iterator[tuple[str, set[str], str]]:
    """Each event that the source tells, and the values that it gives."""
    for path in sorted([*(ROOT / 'bot').glob('*.py'), *(ROOT / 'bot/commands').glob('*.py')]):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
            whole = isinstance(node.func, ast.Call)  # logs.now()('failed', …)
            if name not in TELLERS and not whole:
                continue
            first = node.args[0]
            either = (first.body, first.orelse) if isinstance(first, ast.IfExp) else (first,)
            for one in either:
                if isinstance(one, ast.Constant) and isinstance(one.value, str):
                    values = {word.arg for word in node.keywords if word.arg}
                    yield one.value, values, f'{path.name}:{node.lineno}'


def test_each_event_is_known_and_has_what_its_sentence_says() -> None:
    seen = set()
    for event, values, where in told():
        assert event in EVENTS, where
        wanted = {name for _, name, _, _ in string.Formatter().parse(EVENTS[event].sentence)}
        assert wanted - {None} <= values, where
        seen.add(event)
    assert seen == set(EVENTS)


@pytest.fixture
def place(sample: Demo, tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, sample.tree, 2)
    yield made
    made.stop()


def objects(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_judgement_as_json(place: Place, bot: Bot) -> None:
    """All of it, what is told in a process of the pool too."""
    place.post('one')
    done = bot('work', '--once', '--log', 'json', '-v', '--config', place.config)
    said = objects(done.err)
    steps = [one['event'] for one in said if one['event'] not in ('step', 'building')]
    assert steps == ['judging', 'judged']
    assert any(one['event'] == 'step' for one in said)
    assert all(CLOCK.fullmatch(str(one['time'])) for one in said)
    judging, judged = (one for one in said if one['event'] in steps)
    del judging['time']
    assert judging == {
        'level': 'info', 'event': 'judging', 'text': 'series 1: judging "mm: one part 1" v1',
        'series': 1, 'msgid': 'onev1.1@x', 'title': 'mm: one part 1', 'revision': 1,
    }  # fmt: skip
    assert (judged['series'], judged['msgid'], judged['verdict']) == (1, 'onev1.1@x', 'clean')
    assert judged['rules'] == []
    assert isinstance(judged['seconds'], float)
    builds = judged['builds']
    assert isinstance(builds, list)
    assert {one['outcome'] for one in builds} <= {'passed'}


def test_how_much_is_said(place: Place, bot: Bot) -> None:
    place.post('one')
    assert bot('work', '--once', '-q', '--config', place.config).err == ''
    place.post('two')
    done = bot('work', '--once', '--config', place.config)
    said = done.err.splitlines()
    assert said[0] == 'bot: series 2: judging "mm: two part 1" v1'
    assert re.fullmatch(r'bot: series 2: clean, 0 findings, [\d.]+ s', said[1])
    assert len(said) == 2
    text = place.config.read_text() + '[log]\nformat = "json"\nlevel = "warning"\n'
    place.config.write_text(text)
    place.post('three')
    assert bot('work', '--once', '--config', place.config).err == ''
    failed = bot('watch', '--once', '--config', place.config)
    assert [one['event'] for one in objects(failed.err)] == ['poll-failed', 'failed']
    assert failed.code == 3


def test_the_journal_gets_json_and_priorities(place: Place) -> None:
    words = [sys.executable, '-P', '-m', 'bot', 'watch', '--once', '--config', str(place.config)]
    mine, theirs = os.pipe()
    there = os.fstat(theirs)
    env = {**os.environ, 'JOURNAL_STREAM': f'{there.st_dev}:{there.st_ino}'}
    subprocess.run(words, env=env, stderr=theirs, check=False)
    os.close(theirs)
    with os.fdopen(mine) as pipe:
        lines = pipe.read().splitlines()
    found = [(line[:3], json.loads(line[3:])['event']) for line in lines]
    assert found == [('<4>', 'poll-failed'), ('<3>', 'failed')]
    # Inherited from a service's own parent, and not what stderr is: people read it.
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert all(line.startswith('bot: ') for line in done.stderr.splitlines())


def test_a_strangers_text_is_plain_and_short(capsys: pytest.CaptureFixture[str]) -> None:
    nasty = 'a\x1b[31mb\n<3>c\u202e' + 'x' * 5000
    values = {'series': 1, 'title': nasty, 'revision': 1, 'msgid': [{'k\n': nasty}]}
    for log in (Log(), Log(json=True)):
        log('judging', **values)
        said = capsys.readouterr().err
        assert said.count('\n') == 1
        assert len(said) < 4 * LONGEST
        assert not set(said) & {'\x1b', '\u202e'}
        assert 'ab <3>c' in said


def test_no_secret_is_said(place: Place, bot: Bot, tmp_path: Path) -> None:
    (tmp_path / 'password').write_text(f'{SECRET}\n')
    (tmp_path / 'password').chmod(0o600)
    text = place.config.read_text() + (
        '[mail]\nfrom = "bot@x.example"\n[smtp]\nhost = "127.0.0.1"\nport = 9\nuser = "u"\n'
        f'encryption = "none"\npassword_file = "{tmp_path}/password"\n'
    )
    url = f'sqlite:///{place.database}'
    for config in (text, text.replace(url, f'postgresql://bot:{SECRET}@127.0.0.1:9/x')):
        place.config.write_text(config)
        for command in ('send', 'watch', 'work'):
            done = bot(command, '--once', '-v', '--log', 'json', '--config', place.config)
            assert SECRET not in done.err + done.out
            objects(done.err)


def test_libraries_warn_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    take_over(Log(json=True))
    take_over(Log(json=True))  # the last one counts, once
    try:
        logging.getLogger('lib').info('nothing of interest')
        try:
            raise ValueError('why')
        except ValueError:
            logging.getLogger('lib').exception('odd %s', 'thing')
    finally:
        root = logging.getLogger()
        root.handlers[:] = [one for one in root.handlers if 'bot.log' not in str(type(one))]
    (said,) = objects(capsys.readouterr().err)
    assert (said['event'], said['logger'], said['reason']) == ('library', 'lib', 'odd thing: why')


def test_a_log_that_can_not_be_written_stops_nothing(
    place: Place, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.post('one')
    with open('/dev/full', 'wb') as full:  # noqa: PTH123  # a device
        words = [sys.executable, '-P', '-m', 'bot', 'work', '--once', '--config', str(place.config)]
        subprocess.run(words, stderr=full, stdout=full, check=False)
    assert place.states() == {'mm: one part 1': 'reviewed'}


def test_levels() -> None:
    assert chosen('text', 'info') == Log(level='info')
    assert chosen('json', 'info', verbose=True) == Log(json=True, level='debug')
    assert chosen('auto', 'error', quiet=True) == Log(level='warning')
    assert sentence('sent', {'mail': 1, 'author': 'a@x', 'state': 'sent', 'reason': ''}) == (
        'mail 1 to a@x: sent'
    )
