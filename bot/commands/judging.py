"""`bot check` and `bot gate`: a series, or commits, judged and shown."""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bot import mailbox
from bot.commands.common import CLEAN, FINDINGS, NOT_CHECKED, configured, fail, terminal, write
from bot.config import Config, load
from bot.errors import UsageError
from bot.gate import Gate, mailed
from bot.model import Review, Severity
from bot.output import b4 as b4_output
from bot.output import gate as gate_output
from bot.output import json as json_output
from bot.output import ktap as ktap_output
from bot.output import mbox as mbox_output
from bot.output import sarif as sarif_output
from bot.output import text as text_output
from bot.output.patchwork import checks
from bot.patchwork import Client as Patchwork
from bot.pushes import HOOKS, Hook
from bot.ranges import last
from bot.rule import Rule
from bot.session import Choice, Session, all_rules

FORMATS = ('text', 'json', 'sarif', 'ktap', 'mbox', 'b4', 'b4-am')
FOR_B4 = ('b4', 'b4-am')
"""Formats for a check that b4 hands one mail."""
TOGETHER = ('sarif', 'ktap')
"""Formats that hold several series in one document."""
MANY_PARTS = 3
"""Parts of a range. Of more only those are shown in which something was found."""
OF_MAILS = ('mbox', *FOR_B4)


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

    @property
    def threshold(self) -> Severity:
        """The least severity that counts."""
        return Severity[self.fail_on.upper()]

    def choice(self, revision: int | None = None, only: int | None = None) -> Choice:
        """What of it says how to judge."""
        return Choice(
            self.tree, self.base, self.rules, self.harness, self.jobs, self.sandbox, revision,
            only=only,
        )  # fmt: skip


def shared(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that `check` and `gate` share."""
    levels = click.Choice([severity.label for severity in reversed(Severity)])
    for option in reversed(
        (
            configured,
            click.option('--tree', metavar='PATH', help='Kernel repository (read only).'),
            click.option('--base', metavar='REF', help='Commit that the series applies to.'),
            click.option('--rules', metavar='GLOB,…', help='Only these rules.'),
            click.option('--harness', metavar='NAME,…', help='Only these harnesses, or "none".'),
            click.option('--jobs', type=click.IntRange(1), help='Compilers at once.'),
            click.option('--format', type=click.Choice(FORMATS), default='text'),
            click.option('--fail-on', type=levels, default='warning', show_default=True),
            click.option('--no-sandbox', 'sandbox', flag_value=False, default=True,
                         help='Build without a cage: for code that you trust.'),
            click.option('-v', '--verbose', is_flag=True, help='Say more.'),
            click.option('-q', '--quiet', is_flag=True, help='No progress on stderr.'),
        )
    ):  # fmt: skip
        command = option(command)
    return command


class Ranged(click.Command):
    """A command that takes `-3` for the last three commits, as git log does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words, after what looks like an option and is none."""
        end = args.index('--') if '--' in args else len(args)
        words = [last(word) or word for word in args[:end]]
        return super().parse_args(ctx, words + args[end:])


@click.command(cls=Ranged)
@click.argument('series', nargs=-1, required=True)
@click.option('--revision', type=click.IntRange(1), help='Not the newest, but this one.')
@click.option(
    '--only', type=click.IntRange(1), metavar='N', help='Only patch N, on its predecessors.'
)
@shared
def check(series: tuple[str, ...], revision: int | None, only: int | None, **given: Any) -> int:
    """
    Check patch SERIES.

    Each is a message-id, a link to lore, an mbox file, a maildir, a folder of
    *.patch, commits (A..B, HEAD, -3), or - for standard input. Each patch is applied
    in memory, looked at by the rules, and built and tested with
    tools/testing/vma in a sandbox. Nothing of the kernel repository is
    changed. Exit code: 0 clean, 1 findings at or above --fail-on, 2 wrong
    usage, 3 could not check.
    """
    options = _options(given)
    config = load(options.config)
    if options.format in FOR_B4:
        return _for_b4(series, options, config)
    session = Session(options.choice(revision, only), config, quiet=options.quiet)
    worst = CLEAN
    together = []
    sources: Sequence[str | tuple[str, ...]] = series
    if mailbox.of_one_series(series):
        sources = (series,)
    for number, one in enumerate(sources):
        with contextlib.ExitStack() as stack:
            stack.callback(session.progress.done)
            found = session.judge(one, stack)
            session.progress.done()
            if options.format in TOGETHER:
                together.append(found)
            elif found.series is None and options.format != 'json':
                fail(found.failures[0].error, NOT_CHECKED)
            elif options.format == 'mbox':
                sys.stdout.buffer.write(mbox_output.render(session.mails(found)))
            else:
                _print(found, options, first=number == 0)
            worst = max(worst, _exit_code(found, options.threshold))
    if options.format in TOGETHER:
        write(_together(together, session.rules, options, config))
    return worst


@click.command(cls=Ranged)
@click.argument('words', metavar='[RANGE]', nargs=-1)
@click.option('--hook', type=click.Choice(HOOKS), help='Read what git hands this hook.')
@click.option(
    '--on-error',
    type=click.Choice(('open', 'closed')),
    help='What can not be checked passes, or not.',
)
@click.option('--patchwork', is_flag=True, help='Post a check for each patch: [patchwork].')
@shared
def gate(
    words: tuple[str, ...], hook: Hook | None, on_error: str | None, patchwork: bool, **given: Any
) -> int:
    """
    Judge commits before they are merged or pushed.

    RANGE is A..B, or a branch (against its upstream); without, the current
    branch. A message-id or a link stands for the series that was mailed. The
    rules of bot check, and those that only a gate asks: sign-offs, Fixes: and
    Link: tags, reviews. In a git hook: bot gate --hook NAME "$@". Exit code: 0
    pass, 1 findings at or above --fail-on, 2 wrong usage, 3 could not check
    (with --on-error=closed).
    """
    options = _options(given)
    config = load(options.config)
    if hook is None and len(words) > 1:
        raise UsageError('bot gate judges one range: A..B')
    if options.format in OF_MAILS:
        raise UsageError(f'--format {options.format} is for mails: bot gate judges commits')
    closed = config.gate_closed if on_error is None else on_error == 'closed'
    keeper = Gate(options.choice(), config, quiet=options.quiet)
    if patchwork and config.patchwork is None:
        raise UsageError('--patchwork: config.toml has no [patchwork]')
    first = True

    def show(name: str, found: Review) -> None:
        nonlocal first
        if options.format in TOGETHER:
            return
        if options.format == 'text' and found.verdict == 'clean' and many and not options.verbose:
            return  # of a maintainer's tree only the parts with findings are of interest
        if options.format == 'text' and found.series is None:
            print(f'{name}: {found.failures[0].error}')
        else:
            _print(found, options, first=first)
        if options.format == 'text' and found.series is not None:
            width, colour = terminal()
            print()
            print(gate_output.table(found, width=width, colour=colour), end='')
        first = False

    wanted = (
        keeper.named(words[0] if words else None)
        if hook is None
        else keeper.pushed(hook, words, sys.stdin.read() if hook != 'update' else '')
    )
    many = len(wanted) > MANY_PARTS
    reviews = keeper.judge(wanted, show)
    if patchwork and config.patchwork is not None:
        client = Patchwork(config.patchwork)
        told = [check for one in reviews for check in checks(mailed(one))]
        posted = sum(client.report(check) for check in told)
        print(f'patchwork: {posted} of {len(told)} checks are new', file=sys.stderr)
    fail_on = options.threshold
    if options.format in TOGETHER:
        every = [rule for rule in all_rules(config) if rule.id not in config.disabled]
        write(_together(reviews, every, options, config))
    if options.format == 'text' and reviews:
        print(gate_output.verdict(reviews, fail_on, opened=not closed))
    codes = [_exit_code(one, fail_on) for one in reviews]
    if not closed:
        codes = [
            FINDINGS if any(one.severity >= fail_on for one in found.findings) else CLEAN
            for found in reviews
        ]
    return max(codes, default=CLEAN)


def _for_b4(series: tuple[str, ...], options: Options, config: Config) -> int:
    """
    Judge the mail on standard input; the result is what is printed, the exit code says nothing.

    b4 takes what is on stderr, and a code without any output, for a failure.
    """
    if series != ('-',):
        raise UsageError(f'--format {options.format} judges the mail that b4 hands it: name -')
    session = Session(options.choice(), config, quiet=True)
    named = os.environ.get('B4_TRACKING_FILE')
    with contextlib.ExitStack() as stack:
        raw = mailbox.standard_input()
        found, part = session.judge_handed(raw, Path(named) if named else None, stack)
        if options.format == 'b4':
            write(b4_output.render(found, part, config.letterhead.documentation) + '\n')
        else:
            write(b4_output.lines(found, part, options.threshold))
    return CLEAN


def _together(
    reviews: Sequence[Review], rules: Sequence[Rule], options: Options, config: Config
) -> str:
    """Return the one document of all reviews."""
    if options.format == 'sarif':
        return sarif_output.render(reviews, rules, config.letterhead.documentation) + '\n'
    return ktap_output.render(reviews, options.threshold)


def _print(found: Review, options: Options, *, first: bool) -> None:
    if options.format == 'json':
        print(json_output.render(found))
        return
    if not first:
        print()
    width, colour = terminal()
    shown = text_output.render(found, width=width, colour=colour, verbose=options.verbose)
    print(shown, end='')


def _exit_code(found: Review, fail_on: Severity) -> int:
    if found.verdict == 'could-not-check':
        return NOT_CHECKED
    return FINDINGS if any(one.severity >= fail_on for one in found.findings) else CLEAN


def _options(given: dict[str, Any]) -> Options:
    return Options(**{**given, 'jobs': given['jobs'] or len(os.sched_getaffinity(0))})
