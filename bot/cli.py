"""
The command line: arguments in, reports on stdout, an exit code.

The only code that prints and parses arguments. Every error of its user's is
one line on stderr; exit codes are those of DESIGN: 0 clean, 1 findings, 2 wrong
usage or configuration, 3 could not check, 130 interrupted.
"""

import contextlib
import difflib
import fnmatch
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import pygit2
import rich.progress
from rich.console import Console
from rich.progress_bar import ProgressBar

from bot import __version__, bases
from bot.attest import Attester
from bot.b4 import B4
from bot.config import Config, load
from bot.errors import BotError, ConfigError, RuleLoadError, SandboxError, UsageError
from bot.harness import Builder, Event, Workshop, compare
from bot.lore import Archive
from bot.model import (
    AppliedSeries,
    CouldNotRun,
    DoesNotApply,
    Failure,
    Harness,
    Incomplete,
    Review,
    Severity,
    Tree,
)
from bot.output import json as json_output
from bot.output import rules as rules_output
from bot.output import text as text_output
from bot.plain import one_line
from bot.review import review
from bot.rule import Rule
from bot.sandbox import Cage
from bot.sources import Finder
from bot.tree import Quarantine, Source

CLEAN, FINDINGS, USAGE, NOT_CHECKED, INTERRUPTED = 0, 1, 2, 3, 130
ATTEST_SECONDS = 20.0
"""For all the name look-ups of one series."""
KERNEL_HAS = ('MAINTAINERS', 'Kbuild', 'mm', 'include')


@dataclass(frozen=True)
class Options:
    """What `check` and `gate` share."""

    config: Path | None
    tree: str | None
    base: str | None
    rules: str | None
    harness: str | None
    jobs: int
    format: str
    fail_on: str
    sandbox: bool
    verbose: bool
    quiet: bool


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


@click.group(context_settings={'help_option_names': ['-h', '--help']})
@click.version_option(__version__, prog_name='bot')
def bot() -> None:
    """Review kernel patch series that touch the VMA code."""


def shared(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that `check` and `gate` share."""
    levels = click.Choice([severity.label for severity in reversed(Severity)])
    for option in reversed(
        (
            click.option('--config', type=click.Path(path_type=Path), help='Configuration file.'),
            click.option('--tree', metavar='PATH', help='Kernel repository (read only).'),
            click.option('--base', metavar='REF', help='Commit that the series applies to.'),
            click.option('--rules', metavar='GLOB,…', help='Only these rules.'),
            click.option('--harness', metavar='NAME,…', help='Only these harnesses, or "none".'),
            click.option('--jobs', type=click.IntRange(1), help='Compilers at once.'),
            click.option('--format', type=click.Choice(['text', 'json']), default='text'),
            click.option('--fail-on', type=levels, default='warning', show_default=True),
            click.option('--no-sandbox', 'sandbox', flag_value=False, default=True,
                         help='Build without a cage: for code that you trust.'),
            click.option('-v', '--verbose', is_flag=True, help='Say more.'),
            click.option('-q', '--quiet', is_flag=True, help='No progress on stderr.'),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@bot.command()
@click.argument('series', nargs=-1, required=True)
@click.option('--revision', type=click.IntRange(1), help='Not the newest, but this one.')
@shared
def check(series: tuple[str, ...], revision: int | None, **given: Any) -> int:
    """
    Check patch SERIES.

    Each is a message-id, a link to lore, an mbox file, a maildir, a folder of
    *.patch, a git range A..B, or - for standard input. Each patch is applied
    in memory, looked at by the rules, and built and tested with
    tools/testing/vma in a sandbox. Nothing of the kernel repository is
    changed. Exit code: 0 clean, 1 findings at or above --fail-on, 2 wrong
    usage, 3 could not check.
    """
    options = _options(given)
    config = load(options.config)
    session = _Session(options, config, revision)
    worst = CLEAN
    for number, one in enumerate(series):
        with contextlib.ExitStack() as stack:
            stack.callback(session.progress.done)
            found = session.judge(one, stack)
            session.progress.done()
            if found.series is None and options.format == 'text':
                _fail(found.failures[0].error, NOT_CHECKED)
            else:
                _print(found, options, first=number == 0)
            worst = max(worst, _exit_code(found, Severity[options.fail_on.upper()]))
    return worst


@bot.group()
def rules() -> None:
    """Say what the rules report, and why."""


@rules.command('list')
@click.option('--config', type=click.Path(path_type=Path), help='Configuration file.')
def list_rules(config: Path | None) -> int:
    """List the rules: id, severity, and what each reports."""
    configured = load(config)
    width = Console().width if sys.stdout.isatty() else 1000
    print(rules_output.listing(_all_rules(configured), configured.disabled, width), end='')
    return CLEAN


@rules.command()
@click.argument('names', metavar='ID…', nargs=-1)
@click.option('--markdown', is_flag=True, help='As docs/rules.md has it.')
@click.option('--config', type=click.Path(path_type=Path), help='Configuration file.')
def explain(names: tuple[str, ...], markdown: bool, config: Path | None) -> int:
    """Explain rules: documentation, cases as diffs, how to suppress (without ID: all of them)."""
    known = {rule.id: rule for rule in _all_rules(load(config))}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f'; did you mean {near[0]}?' if near else ': see bot rules list'
            raise UsageError(f'there is no rule "{name}"{hint}')
    chosen = [known[name] for name in names] or list(known.values())
    if markdown:
        print(rules_output.document(chosen), end='')
    else:
        print('\n'.join(rules_output.explained(rule) for rule in chosen), end='')
    return CLEAN


@bot.group()
def tree() -> None:
    """Look after the configured kernel trees."""


@tree.command()
@click.argument('names', nargs=-1)
@click.option('--config', type=click.Path(path_type=Path), help='Configuration file.')
def sync(names: tuple[str, ...], config: Path | None) -> int:
    """Run git fetch in the trees that have `fetch = true` (or in NAMES of them)."""
    configured = load(config)
    known = {one.name: one for one in configured.trees if one.fetch}
    for name in names:
        if name not in known:
            raise UsageError(f'no [[tree]] "{name}" with fetch = true')
    if not known:
        raise UsageError('no [[tree]] has fetch = true')
    for one in known.values():
        if not names or one.name in names:
            said = Source(Path(one.path)).fetch()
            print(f'{one.name}: {"updated" if said.strip() else "up to date"}')
    return CLEAN


@bot.command()
@click.option(
    '--harness',
    metavar='NAME,…',
    is_flag=False,
    flag_value='',
    default=None,
    help='Build once in the full tree and once as laid out, and compare.',
)
@click.option('--config', type=click.Path(path_type=Path), help='Configuration file.')
@click.option('--tree', metavar='PATH', help='Kernel repository (read only).')
@click.option('--base', metavar='REF', default=None, help='Its commit; default: the first ref.')
@click.option('-q', '--quiet', is_flag=True, help='No progress on stderr.')
def doctor(
    harness: str | None, config: Path | None, tree: str | None, base: str | None, quiet: bool
) -> int:
    """
    Say whether the parts that the bot relies on work here.

    With --harness, each harness is built at a tree's first ref twice: in the
    full tree, and in the files that it was learnt to read. Exit code: 0 both
    gave the same, 1 not, 3 could not be done.
    """
    if harness is None:
        raise UsageError('doctor looks at the harnesses only, so far: bot doctor --harness')
    configured = load(config)
    options = Options(config, tree, base, None, harness or None, len(os.sched_getaffinity(0)),
                      'text', 'warning', True, False, quiet)  # fmt: skip
    progress = Progress(quiet=quiet)
    cage = Cage(replace(configured.limits, disk=max(configured.limits.disk, 4 << 30)))
    worst = CLEAN
    for one in _trees(options, configured):
        with Quarantine(Path(one.path)) as quarantine, contextlib.ExitStack() as stack:
            stack.callback(progress.done)
            ref = base or one.refs[0]
            commit = quarantine.resolve(ref)
            ground = quarantine.at(commit)
            for each in _harnesses(options, configured):
                if ground.entry(each.dir) is None:
                    continue
                progress(f'{each.name}: building {one.name} {ref} {commit[:12]} twice')
                workshop = Workshop(
                    cage, configured.cache, options.jobs, configured.cache_size,
                    lambda event: progress.build(event, 0),
                )  # fmt: skip
                found = compare(Builder(each, workshop), ground)
                progress.done()
                print(text_output.comparison(each.name, f'{one.name} {ref} {commit[:12]}', found))
                could = not isinstance(found.full, CouldNotRun)
                worst = max(worst, (CLEAN if found.same else FINDINGS) if could else NOT_CHECKED)
    return worst


class _Session:
    """What the judging of several series shares."""

    def __init__(self, options: Options, config: Config, revision: int | None) -> None:
        self.options = options
        self.config = config
        every = _all_rules(config)
        self.known = [rule.id for rule in every]
        self.rules = _rules(every, options, config)
        self.harnesses = _harnesses(options, config)
        self.trees = _trees(options, config)
        self.progress = Progress(quiet=options.quiet)
        self.archive = Archive(config.lore, config.cache)
        self.b4 = B4(config.b4)
        attester = Attester(ATTEST_SECONDS, config.keyrings) if config.attest else None
        self.finder = Finder(self.archive, self.b4, attester, revision)
        try:
            self.cage: Cage | SandboxError = Cage(config.limits, open_=not options.sandbox)
        except SandboxError as error:
            self.cage = error

    def judge(self, source: str, stack: contextlib.ExitStack) -> Review:
        """Review what `source` names; what it borrows lives as long as `stack`."""
        try:
            return self._judge(source, stack)
        except (ConfigError, UsageError):
            raise
        except BotError as error:
            return Review(None, failures=(Failure('input', str(error)),))

    def _judge(self, source: str, stack: contextlib.ExitStack) -> Review:
        self.progress(f'looking for {source}')
        places = [
            bases.Place(
                one,
                stack.enter_context(Quarantine(Path(one.path), self.config.cache, self.progress)),
            )
            for one in self.trees
        ]
        found = self.finder.find(source, [(one.tree.name, one.quarantine) for one in places])
        if isinstance(found.series, Incomplete):
            return Review(found.series)
        series = found.series
        applied: AppliedSeries | DoesNotApply
        if found.applied is not None:
            left = source.partition('..')[0]
            named = left if re.fullmatch(r'[\w./-]+', left) else None
            applied = bases.vouched(found.applied, places[0], named)
        else:
            needed = bases.prerequisites(series, self.archive, self.b4, self.progress)
            guess = bases.guess_with(self.b4, series, found.thread)
            applied = bases.choose(series, places, self.options.base, needed, guess, self.progress)
        of = len(series.patches)
        workshop = (
            self.cage
            if isinstance(self.cage, SandboxError)
            else Workshop(
                self.cage,
                self.config.cache,
                self.options.jobs,
                self.config.cache_size,
                lambda event: self.progress.build(event, of),
            )
        )
        return review(
            applied, self.rules, self.harnesses, workshop, self.progress,
            self.config.ignores, self.known,
        )  # fmt: skip


def _print(found: Review, options: Options, *, first: bool) -> None:
    if options.format == 'json':
        print(json_output.render(found))
        return
    if not first:
        print()
    terminal = sys.stdout.isatty()
    width = Console().width if terminal else 100
    colour = terminal and not os.environ.get('NO_COLOR')
    shown = text_output.render(found, width=min(width, 120), colour=colour, verbose=options.verbose)
    print(shown, end='')


def _exit_code(found: Review, fail_on: Severity) -> int:
    if found.verdict == 'could-not-check':
        return NOT_CHECKED
    return FINDINGS if any(one.severity >= fail_on for one in found.findings) else CLEAN


def _options(given: dict[str, Any]) -> Options:
    return Options(**{**given, 'jobs': given['jobs'] or len(os.sched_getaffinity(0))})


def _rules(every: list[Rule], options: Options, config: Config) -> list[Rule]:
    known = [rule.id for rule in every]
    for rule in config.disabled:
        if rule not in known:
            raise ConfigError(f'{config.path}: [rules] disable: there is no rule "{rule}"')
    for one in config.ignores:
        if one.rule not in known:
            raise ConfigError(f'{config.path}: [[ignore]]: there is no rule "{one.rule}"')
    chosen = [rule for rule in every if rule.id not in config.disabled]
    if options.rules is None:
        return [rule for rule in chosen if not rule.on_request]
    globs = options.rules.split(',')
    for glob in globs:
        if not fnmatch.filter(known, glob):
            raise UsageError(f'--rules: there is no rule "{glob}"; there are {", ".join(known)}')
    return [rule for rule in every if any(fnmatch.fnmatch(rule.id, glob) for glob in globs)]


def _all_rules(config: Config) -> list[Rule]:
    """Return the shipped rules and those of the configured folders, by id."""
    from rules import ALL, load_folder  # here, so that one that does not load is an error

    found = {rule.id: rule for rule in ALL}
    for folder in config.rule_paths:
        if not folder.is_dir():
            raise ConfigError(f'{config.path}: [rules] paths: {folder} is no folder')
        for rule in load_folder(str(folder)):
            if rule.id in found:
                raise ConfigError(f'{folder}: there is a rule "{rule.id}" already')
            found[rule.id] = rule
    return [found[name] for name in sorted(found)]


def _harnesses(options: Options, config: Config) -> list[Harness]:
    if options.harness is None:
        return list(config.harnesses)
    if options.harness == 'none':
        return []
    known = {harness.name: harness for harness in config.harnesses}
    for name in options.harness.split(','):
        if name not in known:
            raise UsageError(f'--harness: no harness "{name}"; there are {", ".join(known)}, none')
    return [known[name] for name in options.harness.split(',')]


def _trees(options: Options, config: Config) -> list[Tree]:
    """--tree (a path, or a configured name), else the configured ones, else where one stands."""
    if options.tree is not None:
        named = [one for one in config.trees if one.name == options.tree]
        return named or [Tree(options.tree, options.tree)]
    if config.trees:
        return list(config.trees)
    found = pygit2.discover_repository(str(Path.cwd()))
    if found is not None and _is_kernel(found):
        return [Tree(Path.cwd().name, str(Path.cwd()))]
    raise UsageError('no kernel tree: name one with --tree PATH, or as [[tree]] in config.toml')


def _is_kernel(repository: str) -> bool:
    try:
        head = pygit2.Repository(repository).revparse_single('HEAD').peel(pygit2.Tree)
    except (KeyError, ValueError, pygit2.GitError):
        return False
    return all(name in head for name in KERNEL_HAS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; its exit code."""
    try:
        code = bot.main(
            args=list(arguments) if arguments is not None else None,
            prog_name='bot',
            standalone_mode=False,
        )
        sys.stdout.flush()
    except (UsageError, ConfigError, RuleLoadError) as error:
        return _fail(str(error), USAGE)
    except BotError as error:
        return _fail(str(error), NOT_CHECKED)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return USAGE
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else 'bot'
        return _fail(f'{error.format_message()} (see {where} --help)', USAGE)
    except (KeyboardInterrupt, click.exceptions.Abort):
        return _fail('interrupted', INTERRUPTED)
    except BrokenPipeError:
        # The reader of stdout has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_CHECKED
    except OSError as error:
        name = f'{error.filename}: ' if error.filename else ''
        return _fail(f'{name}{error.strerror or error}', NOT_CHECKED)
    return code if isinstance(code, int) else CLEAN


def _fail(message: str, code: int) -> int:
    print(f'bot: {one_line(message, 600)}', file=sys.stderr)
    return code
