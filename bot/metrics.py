"""
Figures for Prometheus: on a loopback port as OpenMetrics, or in a file.

What happens is counted here, from the same events that are logged. How things
stand (series and mails by state, the last poll, the oldest series that waits)
is read from the database whenever somebody asks, so that it is true whichever
process answers: `bot send` shows that `bot watch` has stopped polling. Each
figure has the label `process`, so that those of several can lie side by side.
docs/metrics.md documents them.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from stat import S_IMODE

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from bot import __version__, files
from bot.config import Config
from bot.errors import ConfigError, StoreError
from bot.events import Tell
from bot.store import Store

PORTS = {'watch': 0, 'run': 0, 'work': 1, 'send': 2}
"""What is added to the configured port, so that the three services get along."""
EVERY = 15.0
"""Seconds between two writings of the file."""
SECONDS = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800)


class Counts:
    """Counts events; a process has one of these."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f'vma_bot_{name}', what, labels, registry=registry)

        self._seen = counter('mails_seen', 'Mails that were looked at.', 'list')
        self._kept = counter('mails_kept', 'Mails that matter, and are kept.', 'list')
        self._unread = counter(
            'mails_unread', 'Mails that could not be read, and were passed over.', 'list'
        )
        self._dropped = counter(
            'mails_dropped',
            'Mails that are nothing to the bot (other, announcement, no-message-id, no-diff).',
            'list', 'reason',
        )  # fmt: skip
        self._polls = counter(
            'polls', 'Polls of a list, by outcome (ok, failed).', 'list', 'outcome'
        )
        self._reviews = counter('reviews', 'Reviews that were kept, by verdict.', 'verdict')
        self._findings = counter('findings', 'Findings of these.', 'rule', 'severity')
        self._builds = counter(
            'builds', 'Builds of these; reused: the result was known.',
            'harness', 'outcome', 'reused',
        )  # fmt: skip
        self._failed = counter(
            'failed_reviews', 'Judgements that failed on our side (error, died).', 'why'
        )
        self._sent = counter(
            'send_attempts', 'Attempts to send (accepted, try-later, refused, unsure).', 'outcome'
        )
        self._seconds = Histogram(
            'vma_bot_review_seconds', 'How long a review took.', buckets=SECONDS, registry=registry
        )

    def __call__(self, event: str, /, **values: object) -> None:
        """Count an event."""
        match event, values:
            case 'polled', {
                'list': name, 'mails': int(mails), 'new': int(new), 'unread': int(unread),
            }:  # fmt: skip
                self._seen.labels(name).inc(mails)
                self._unread.labels(name).inc(unread)
                self._kept.labels(name).inc(new)
                self._polls.labels(name, 'ok').inc()
                dropped = values.get('dropped')
                for reason, number in dropped.items() if isinstance(dropped, dict) else ():
                    self._dropped.labels(name, reason).inc(number)
            case 'poll-failed', {'list': name}:
                self._polls.labels(name, 'failed').inc()
            case 'judged', {
                'verdict': verdict, 'seconds': float(seconds),
                'rules': list(rules), 'builds': list(builds),
            }:  # fmt: skip
                self._reviews.labels(verdict).inc()
                self._seconds.observe(seconds)
                for one in rules:
                    self._findings.labels(one['rule'], one['severity']).inc(one['count'])
                for one in builds:
                    reused = 'yes' if one['reused'] else 'no'
                    labels = (one['harness'], one['outcome'], reused)
                    self._builds.labels(*labels).inc(one['count'])
            case 'try-failed', _:
                self._failed.labels('error').inc()
            case 'process-died', _:
                self._failed.labels('died').inc()
            case (('sent' | 'not-sent'), {'outcome': outcome}):
                self._sent.labels(outcome).inc()


class State(Collector):
    """Reads how things stand when it is asked."""

    def __init__(self, store: Store, stopped: Callable[[], bool]) -> None:
        self._store = store
        self._stopped = stopped

    def describe(self) -> list[Metric]:
        """Name what there is, without asking the database."""
        return list(self._families().values())

    def collect(self) -> Iterator[Metric]:
        """Ask the database; where it does not answer, that is the figure."""
        found = self._families()
        found['info'].add_metric([__version__], 1)
        try:
            found['stopped'].add_metric([], float(self._stopped()))
        except OSError:
            found['stopped'].add_metric([], 1)  # nothing is sent then either
        try:
            now = self._store.figures.standing()
        except StoreError:
            found['database_up'].add_metric([], 0)
            yield from found.values()
            return
        found['database_up'].add_metric([], 1)
        for name, states in (('series', now.series), ('replies', now.replies)):
            for state, count in sorted(states.items()):
                found[name].add_metric([state], count)
        for name, when in sorted(now.polls.items()):
            found['last_poll_timestamp_seconds'].add_metric([name], when)
        if now.oldest is not None:
            found['oldest_waiting_timestamp_seconds'].add_metric([], now.oldest)
        yield from found.values()

    def _families(self) -> dict[str, GaugeMetricFamily]:
        said = {
            'info': ('The version that runs.', ('version',)),
            'database_up': ('Whether the database answers.', ()),
            'stopped': ('Whether the stop file is there: nothing is sent.', ()),
            'series': ('Series in the database.', ('state',)),
            'replies': ('Mails of ours in the database.', ('state',)),
            'last_poll_timestamp_seconds': ('When a list was last read to its end.', ('list',)),
            'oldest_waiting_timestamp_seconds': (
                'Since when a series that is due has waited to be judged.', (),
            ),
        }  # fmt: skip
        return {
            name: GaugeMetricFamily(f'vma_bot_{name}', what, labels=labels)
            for name, (what, labels) in said.items()
        }


class Named(Collector):
    """Puts the process's name to every figure of a registry."""

    def __init__(self, process: str, registry: CollectorRegistry) -> None:
        self._process = process
        self._registry = registry

    def describe(self) -> list[Metric]:
        """Describe nothing: another registry has seen to that."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Collect the figures, each with one label more."""
        for family in self._registry.collect():
            family.samples = [
                one._replace(labels={**one.labels, 'process': self._process})
                for one in family.samples
                if not one.name.endswith('_created')  # in a file, a figure of its own each
            ]
            yield family


def registry_of(
    process: str, store: Store, stopped: Callable[[], bool]
) -> tuple[CollectorRegistry, Counts]:
    """Return the figures of a process, and what counts for them."""
    inner, outer = CollectorRegistry(), CollectorRegistry()
    counts = Counts(inner)
    inner.register(State(store, stopped))
    outer.register(Named(process, inner))
    return outer, counts


@contextmanager
def measured(process: str, config: Config, store: Store, log: Tell) -> Iterator[Tell]:
    """
    Give what logs events, and counts them where that is configured.

    Raises `ConfigError`: the port is taken, or the file can't be written.
    """
    port, file = config.metrics_port, config.metrics_file
    if port is None and file is None:
        yield log
        return
    registry, counts = registry_of(process, store, config.stop_file.exists)

    def tell(event: str, /, **values: object) -> None:
        log(event, **values)
        counts(event, **values)

    with ExitStack() as stack:
        if port is not None:
            number = port + PORTS[process]
            try:
                server, thread = start_http_server(number, '127.0.0.1', registry)
            except OSError as error:
                why = f'[metrics] port: 127.0.0.1:{number} can not be had: {error.strerror}'
                raise ConfigError(why) from error
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            tell('metrics', where=f'http://127.0.0.1:{number}/metrics')
        if file is not None:
            path = file.with_name(f'{file.stem}-{process}{file.suffix}')
            stack.enter_context(_written(path, registry, tell))
            tell('metrics', where=str(path))
        yield tell


def _write(path: Path, registry: CollectorRegistry) -> None:
    """Write a file whole; it keeps the mode that an operator gave it for what collects it."""
    mode = S_IMODE(path.stat().st_mode) if path.exists() else None
    files.write(path, generate_latest(registry), mode=mode, durable=False)


@contextmanager
def _written(path: Path, registry: CollectorRegistry, tell: Tell) -> Iterator[None]:
    """Have a file written now, every few seconds, and at the end."""
    try:
        _write(path, registry)
    except OSError as error:
        raise ConfigError(f'[metrics] file: {path}: {error.strerror}') from error
    stop = threading.Event()

    def again() -> None:
        try:
            _write(path, registry)
        except OSError as error:  # no space, say: the figures are late, and nothing else
            tell('library', logger='metrics', reason=f'{path}: {error.strerror}')

    def going() -> None:
        while not stop.wait(EVERY):
            again()

    thread = threading.Thread(target=going, name='metrics', daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        again()
