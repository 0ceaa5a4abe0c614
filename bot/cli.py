"""
The command line: arguments in, reports on stdout, an exit code.

The only code that prints and parses arguments. Every error of its user's is
one line on stderr; exit codes are those of DESIGN: 0 clean, 1 findings, 2 wrong
usage or configuration, 3 could not check, 130 interrupted.
"""

import fnmatch
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pygit2
from rich.console import Console
from rich.status import Status

from bot import __version__, bases, mailbox
from bot.config import Config, load
from bot.errors import BotError, ConfigError, RuleLoadError, SandboxError, UsageError
from bot.harness import Workshop
from bot.model import Failure, Harness, Incomplete, Review, Severity, Tree
from bot.output import json as json_output
from bot.output import text as text_output
from bot.plain import one_line
from bot.review import review
from bot.rule import Rule
from bot.sandbox import Cage
from bot.series import assemble
from bot.tree import Quarantine

CLEAN, FINDINGS, USAGE, NOT_CHECKED, INTERRUPTED = 0, 1, 2, 3, 130
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
    """Says on stderr what is going on: a spinner on a terminal, plain lines elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._quiet = quiet
        self._status: Status | None = None

    def __call__(self, what: str) -> None:
        """Say `what` happens now."""
        if self._quiet:
            return
        if not self._console.is_terminal:
            print(f'bot: {what}', file=sys.stderr, flush=True)
        elif self._status is None:
            self._status = self._console.status(what)
            self._status.start()
        else:
            self._status.update(what)

    def done(self) -> None:
        """Take the spinner away."""
        if self._status is not None:
            self._status.stop()
            self._status = None


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
@shared
def check(series: tuple[str, ...], **given: Any) -> int:
    """
    Check patch SERIES: an mbox file, a folder of *.patch, or - for stdin.

    Each patch is applied in memory, looked at by the rules, and built and
    tested with tools/testing/vma in a sandbox. Nothing of the kernel
    repository is changed. Exit code: 0 clean, 1 findings at or above
    --fail-on, 2 wrong usage, 3 could not check.
    """
    options = _options(given)
    config = load(options.config)
    rules = _rules(options, config)
    harnesses = _harnesses(options, config)
    tree = _tree(options, config)
    progress = Progress(quiet=options.quiet)
    try:
        cage: Cage | SandboxError = Cage(config.limits, open_=not options.sandbox)
    except SandboxError as error:
        cage = error
    worst = CLEAN
    for number, one in enumerate(series):
        try:
            found = _judge(one, options, config, tree, rules, harnesses, cage, progress)
        finally:
            progress.done()
        if found.series is None and options.format == 'text':
            _fail(found.failures[0].error, NOT_CHECKED)
        else:
            _print(found, options, first=number == 0)
        worst = max(worst, _exit_code(found, Severity[options.fail_on.upper()]))
    return worst


def _judge(
    source: str,
    options: Options,
    config: Config,
    tree: Tree,
    rules: Sequence[Rule],
    harnesses: Sequence[Harness],
    cage: Cage | SandboxError,
    progress: Progress,
) -> Review:
    try:
        series = assemble(mailbox.read(source))
        if isinstance(series, Incomplete):
            return Review(series)
        with Quarantine(Path(tree.path)) as quarantine:
            base = bases.choose(series, tree, quarantine, options.base)

            def tell(harness: str, n: int, what: str) -> None:
                where = f'patch {n}/{len(series.patches)}' if n else 'base'
                progress(f'{harness}: {what} ({where})')

            workshop = (
                cage
                if isinstance(cage, SandboxError)
                else Workshop(cage, config.cache, options.jobs, tell)
            )
            return review(series, quarantine, base, rules, harnesses, workshop, progress)
    except (ConfigError, UsageError):
        raise
    except BotError as error:
        return Review(None, failures=(Failure('input', str(error)),))


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


def _rules(options: Options, config: Config) -> list[Rule]:
    from rules import ALL  # here, so that a rule that does not load is an error with a name

    known = [rule.id for rule in ALL]
    for rule in config.disabled:
        if rule not in known:
            raise ConfigError(f'{config.path}: [rules] disable: there is no rule "{rule}"')
    chosen = [rule for rule in ALL if rule.id not in config.disabled]
    if options.rules is None:
        return chosen
    globs = options.rules.split(',')
    for glob in globs:
        if not fnmatch.filter(known, glob):
            raise UsageError(f'--rules: there is no rule "{glob}"; there are {", ".join(known)}')
    return [rule for rule in ALL if any(fnmatch.fnmatch(rule.id, glob) for glob in globs)]


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


def _tree(options: Options, config: Config) -> Tree:
    """--tree (a path, or a configured name), the first configured one, or where one stands."""
    if options.tree is not None:
        named = [tree for tree in config.trees if tree.name == options.tree]
        return named[0] if named else Tree(options.tree, options.tree)
    if config.trees:
        return config.trees[0]
    found = pygit2.discover_repository(str(Path.cwd()))
    if found is not None and _is_kernel(found):
        return Tree(Path.cwd().name, str(Path.cwd()))
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
