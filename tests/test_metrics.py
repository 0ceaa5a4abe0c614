"""Figures for Prometheus: what is counted, what is read, and what the documents say of them."""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from bot.metrics import registry_of
from bot.store import Store
from bot.store.database import opened
from tests.conftest import Bot, Demo
from tests.lettering import series
from tests.services.publicinbox import free_port
from tests.test_daemon import Desk
from tests.test_work import Place, until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
NAMES = re.compile(r'vma_bot_[a-z_]+')
Figures = dict[str, float]


def figures(text: str, parse: Callable[[str], Iterable[Metric]] = plain) -> Figures:
    """Each sample, as one would write it."""
    found = {}
    for family in parse(text):
        for one in family.samples:
            labels = ','.join(f'{k}={v}' for k, v in sorted(one.labels.items()) if k != 'process')
            found[f'{one.name}{{{labels}}}' if labels else one.name] = one.value
    return found


def shown(store: Store, *events: tuple[str, dict[str, object]], stopped: bool = False) -> Figures:
    from prometheus_client import generate_latest

    registry, counts = registry_of('run', store, lambda: stopped)
    for event, values in events:
        counts(event, **values)
    return figures(generate_latest(registry).decode())


JUDGED: dict[str, object] = {
    'series': 1, 'verdict': 'findings', 'findings': 3, 'seconds': 2.5,
    'rules': [{'rule': 'compat-pair', 'severity': 'error', 'count': 3}],
    'builds': [{'harness': 'vma', 'outcome': 'passed', 'reused': True, 'count': 4}],
}  # fmt: skip
POLLED: dict[str, object] = {
    'list': 'l', 'mails': 40, 'new': 3, 'unread': 2, 'seconds': 0.1,
    'dropped': {'other': 30, 'no-diff': 5},
}  # fmt: skip
SENT: dict[str, object] = {'mail': 1, 'outcome': 'accepted'}
EVENTS: tuple[tuple[str, dict[str, object]], ...] = (
    ('polled', POLLED),
    ('poll-failed', {'list': 'l', 'reason': 'x'}),
    ('judged', JUDGED),
    ('try-failed', {'series': 1, 'tries': 1, 'reason': 'x'}),
    ('process-died', {'series': 1}),
    ('sent', SENT),
    ('not-sent', {'mail': 2, 'outcome': 'unsure'}),
    ('news', {'list': 'l', 'new': 3}),
)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.post(series('a', 1))
    yield made
    made.store.close()


def test_what_happened_is_counted(desk: Desk) -> None:
    found = shown(desk.store, *EVENTS)
    expected = {
        'vma_bot_mails_seen_total{list=l}': 40,
        'vma_bot_mails_kept_total{list=l}': 3,
        'vma_bot_mails_unread_total{list=l}': 2,
        'vma_bot_mails_dropped_total{list=l,reason=other}': 30,
        'vma_bot_mails_dropped_total{list=l,reason=no-diff}': 5,
        'vma_bot_polls_total{list=l,outcome=ok}': 1,
        'vma_bot_polls_total{list=l,outcome=failed}': 1,
        'vma_bot_reviews_total{verdict=findings}': 1,
        'vma_bot_review_seconds_bucket{le=1.0}': 0,
        'vma_bot_review_seconds_bucket{le=3.0}': 1,
        'vma_bot_review_seconds_sum': 2.5,
        'vma_bot_findings_total{rule=compat-pair,severity=error}': 3,
        'vma_bot_builds_total{harness=vma,outcome=passed,reused=yes}': 4,
        'vma_bot_failed_reviews_total{why=error}': 1,
        'vma_bot_failed_reviews_total{why=died}': 1,
        'vma_bot_send_attempts_total{outcome=accepted}': 1,
        'vma_bot_send_attempts_total{outcome=unsure}': 1,
    }
    assert {name: found[name] for name in expected} == expected


def test_how_things_stand_is_read(desk: Desk) -> None:
    desk.store.figures.polled('l')
    desk.now += 1
    desk.store.figures.polled('l')
    found = shown(desk.store, stopped=True)
    assert found['vma_bot_series{state=pending}'] == 1
    assert found['vma_bot_last_poll_timestamp_seconds{list=l}'] == desk.now
    assert found['vma_bot_oldest_waiting_timestamp_seconds'] == desk.now - 1
    assert (found['vma_bot_stopped'], found['vma_bot_database_up']) == (1, 1)
    # What is put off waits for nobody; what is due again, from then on.
    desk.store.take(1, most_kills=3)
    assert shown(desk.store)['vma_bot_oldest_waiting_timestamp_seconds'] == desk.now
    desk.store.postpone(1, 'does not apply', 60)
    assert 'vma_bot_oldest_waiting_timestamp_seconds' not in shown(desk.store)
    desk.now += 100
    assert shown(desk.store)['vma_bot_oldest_waiting_timestamp_seconds'] == desk.now - 40


def test_either_database_says_how_things_stand(database: str) -> None:
    store = Store(opened(database), lambda: 1000.0)
    store.figures.polled('l')
    found = shown(store)
    assert found['vma_bot_last_poll_timestamp_seconds{list=l}'] == 1000
    store.close()


def test_a_database_that_does_not_answer_is_a_figure(tmp_path: Path) -> None:
    store = Store(opened(f'sqlite:///{tmp_path}/state.db'), time.time)
    store.close()
    for path in tmp_path.iterdir():
        path.unlink()
    (tmp_path / 'state.db').mkdir()
    found = shown(store)
    assert (found['vma_bot_database_up'], 'vma_bot_series' in str(found)) == (0, False)


def test_each_figure_is_documented_and_each_that_is_named_exists(desk: Desk) -> None:
    desk.store.figures.polled('l')
    there = {
        re.sub(r'_(?:bucket|sum|count)$', '', name.partition('{')[0])
        for name in shown(desk.store, *EVENTS)
    }
    there |= {'vma_bot_replies'}  # there are none here
    page = (ROOT / 'docs' / 'metrics.md').read_text()
    documented = set(re.findall(r'^\| `(vma_bot_[a-z_]+)`', page, re.M))
    assert documented == there
    assert set(NAMES.findall(page)) == there
    alerts = (ROOT / 'docs' / 'alerts.yml').read_text()
    assert set(NAMES.findall(alerts)) <= there


@pytest.fixture
def place(sample: Demo, tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, sample.tree, 1)
    yield made
    made.stop()


def test_a_file_has_them_at_the_end(place: Place, bot: Bot, tmp_path: Path) -> None:
    place.config.write_text(
        place.config.read_text() + f'[metrics]\nfile = "{tmp_path}/vma-bot.prom"\n'
    )
    place.post('one')
    assert bot('work', '--once', '--config', place.config).code == 0
    text = (tmp_path / 'vma-bot-work.prom').read_text()
    found = figures(text)
    assert found['vma_bot_reviews_total{verdict=clean}'] == 1
    assert found['vma_bot_review_seconds_count'] == 1
    assert found['vma_bot_series{state=reviewed}'] == 1
    assert '_created' not in text
    assert 'process="work"' in text
    assert list(tmp_path.glob('vma-bot*')) == [tmp_path / 'vma-bot-work.prom']
    place.config.write_text(place.config.read_text().replace('vma-bot.prom', 'no/x.prom'))
    done = bot('work', '--once', '--config', place.config)
    assert done.code == 2
    assert (
        done.err == f'bot: [metrics] file: {tmp_path}/no/x-work.prom: No such file or directory\n'
    )


def test_a_port_has_them_as_openmetrics(place: Place, bot: Bot) -> None:
    port = free_port()
    place.config.write_text(place.config.read_text() + f'[metrics]\nport = {port}\n')
    place.post('waits')
    place.start()
    until(lambda: place.seen())
    url = f'http://127.0.0.1:{port + 1}/metrics'
    answer = requests.get(url, headers={'Accept': 'application/openmetrics-text'}, timeout=10)
    assert answer.headers['Content-Type'].startswith('application/openmetrics-text')
    assert figures(answer.text, openmetrics)['vma_bot_series{state=working}'] == 1
    taken = bot('send', '--once', '--config', place.config)
    assert taken.code == 2  # nothing to send with, but a port of its own
    place.config.write_text(place.config.read_text().replace(str(port), str(port + 1)))
    refused = bot('watch', '--once', '--config', place.config)
    assert refused.code == 2
    assert f'[metrics] port: 127.0.0.1:{port + 1} can not be had' in refused.err
