"""Progress on stderr: live bars on a terminal, plain lines elsewhere."""

import sys

import rich.progress
from rich.console import Console
from rich.progress_bar import ProgressBar

from bot.harness import Event


class Progress:
    """Says on stderr what is going on: live on a terminal, plain lines elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._quiet = quiet
        self._live: rich.progress.Progress | None = None
        self._now: rich.progress.TaskID | None = None
        self._bars: dict[str, rich.progress.TaskID] = {}

    def __call__(self, what: str) -> None:
        """Say `what` happens now."""
        if self._quiet:
            return
        if not self._console.is_terminal:
            print(f'bot: {what}', file=sys.stderr, flush=True)
            return
        live = self._started()
        if self._now is None:
            self._now = live.add_task(what, total=None, note='')
        live.update(self._now, description=what)

    def build(self, event: Event, of: int) -> None:
        """Say what happens to a harness: a bar for each, with the patch that is built."""
        where = f'patch {event.n}/{of}' if event.n else 'base'
        if self._quiet:
            return
        if event.kind == 'note':
            print(f'bot: {event.harness}: {event.text}', file=sys.stderr, flush=True)
        elif not self._console.is_terminal:
            if event.kind == 'learning':
                self(f'{event.harness}: learning what it reads')
            elif event.kind == 'started':
                self(f'{event.harness}: building ({where})')
        else:
            self._bar(event, where)

    def _bar(self, event: Event, where: str) -> None:
        live = self._started()
        if event.harness not in self._bars:
            self._bars[event.harness] = live.add_task(event.harness, total=None, note='')
        bar = self._bars[event.harness]
        match event.kind:
            case 'learning':
                live.update(bar, note='learning what it reads')
            case 'planned':
                live.update(bar, total=event.n, completed=0, note='')
            case 'started':
                live.update(bar, note=where)
            case 'done':
                live.advance(bar)

    def _started(self) -> rich.progress.Progress:
        if self._live is None:
            self._live = rich.progress.Progress(
                rich.progress.SpinnerColumn(),
                rich.progress.TextColumn('{task.description}', markup=False),
                _Bar(bar_width=24),
                rich.progress.TextColumn('{task.fields[note]}', markup=False),
                console=self._console,
                transient=True,
            )
            self._live.start()
        return self._live

    def done(self) -> None:
        """Take all of it away."""
        if self._live is not None:
            self._live.stop()
            self._live = self._now = None
            self._bars = {}


class _Bar(rich.progress.BarColumn):
    """A bar where it is known how much there is to do, nothing elsewhere."""

    def render(self, task: rich.progress.Task) -> ProgressBar:
        bar = super().render(task)
        return bar if task.total is not None else ProgressBar(total=0, width=0)
