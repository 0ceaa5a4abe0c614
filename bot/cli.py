"""
The command line: arguments in, reports on stdout, an exit code.

The only code that prints and parses arguments. Every error of its user's is
one line on stderr; exit codes are those of DESIGN: 0 clean, 1 findings, 2 wrong
usage or configuration, 3 could not check, 130 interrupted.
"""

import contextlib
import difflib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bot import __version__, mailbox, maintenance
from bot import doctor as doctors
from bot import log as logs
from bot import service as services
from bot.config import Config, load
from bot.errors import BotError, ConfigError, RuleLoadError, UsageError
from bot.gate import Gate, mailed
from bot.harness import Builder, Workshop, compare
from bot.mail import unfit
from bot.model import (
    CouldNotRun,
    Review,
    Severity,
)
from bot.outgoing import Outgoing
from bot.output import b4 as b4_output
from bot.output import doctor as doctor_output
from bot.output import gate as gate_output
from bot.output import json as json_output
from bot.output import ktap as ktap_output
from bot.output import mbox as mbox_output
from bot.output import outbox as outbox_output
from bot.output import rules as rules_output
from bot.output import sarif as sarif_output
from bot.output import text as text_output
from bot.output.patchwork import checks
from bot.patchwork import Client as Patchwork
from bot.progress import Progress
from bot.pushes import HOOKS, Hook
from bot.rule import Rule
from bot.sandbox import Cage
from bot.session import Choice, Session, all_rules, harnesses, trees
from bot.store import Store
from bot.tree import Quarantine, Source

FORMATS = ('text', 'json', 'sarif', 'ktap', 'mbox', 'b4', 'b4-am')
FOR_B4 = ('b4', 'b4-am')
"""Formats for a check that b4 hands one mail."""
TOGETHER = ('sarif', 'ktap')
"""Formats that hold several series in one document."""
OF_MAILS = ('mbox', *FOR_B4)
WAITING = ('held', 'ready', 'claimed', 'unsure', 'failed')
CLEAN, FINDINGS, USAGE, NOT_CHECKED, INTERRUPTED = 0, 1, 2, 3, 130


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

    def choice(self, revision: int | None = None) -> Choice:
        """What of it says how to judge."""
        return Choice(
            self.tree, self.base, self.rules, self.harness, self.jobs, self.sandbox, revision
        )


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
    if options.format in FOR_B4:
        return _for_b4(series, options, config)
    session = Session(options.choice(revision), config, quiet=options.quiet)
    worst = CLEAN
    together = []
    for number, one in enumerate(series):
        with contextlib.ExitStack() as stack:
            stack.callback(session.progress.done)
            found = session.judge(one, stack)
            session.progress.done()
            if options.format in TOGETHER:
                together.append(found)
            elif found.series is None and options.format != 'json':
                _fail(found.failures[0].error, NOT_CHECKED)
            elif options.format == 'mbox':
                sys.stdout.buffer.write(mbox_output.render(session.mails(found)))
            else:
                _print(found, options, first=number == 0)
            worst = max(worst, _exit_code(found, options.threshold))
    if options.format in TOGETHER:
        _write(_together(together, session.rules, options, config))
    return worst


@bot.command()
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
        if options.format == 'text' and found.series is None:
            print(f'{name}: {found.failures[0].error}')
        else:
            _print(found, options, first=first)
        if options.format == 'text' and found.series is not None:
            width, colour = _terminal()
            print()
            print(gate_output.table(found, width=width, colour=colour), end='')
        first = False

    wanted = (
        keeper.named(words[0] if words else None)
        if hook is None
        else keeper.pushed(hook, words, sys.stdin.read() if hook != 'update' else '')
    )
    reviews = keeper.judge(wanted, show)
    if patchwork and config.patchwork is not None:
        client = Patchwork(config.patchwork)
        told = [check for one in reviews for check in checks(mailed(one))]
        posted = sum(client.report(check) for check in told)
        print(f'patchwork: {posted} of {len(told)} checks are new', file=sys.stderr)
    fail_on = options.threshold
    if options.format in TOGETHER:
        every = [rule for rule in all_rules(config) if rule.id not in config.disabled]
        _write(_together(reviews, every, options, config))
    if options.format == 'text' and reviews:
        print(gate_output.verdict(reviews, fail_on, opened=not closed))
    codes = [_exit_code(one, fail_on) for one in reviews]
    if not closed:
        codes = [
            FINDINGS if any(one.severity >= fail_on for one in found.findings) else CLEAN
            for found in reviews
        ]
    return max(codes, default=CLEAN)


@bot.group()
def rules() -> None:
    """Say what the rules report, and why."""


@rules.command('list')
@click.option('--config', type=click.Path(path_type=Path), help='Configuration file.')
def list_rules(config: Path | None) -> int:
    """List the rules: id, severity, and what each reports."""
    configured = load(config)
    width = Console().width if sys.stdout.isatty() else 1000
    print(rules_output.listing(all_rules(configured), configured.disabled, width), end='')
    return CLEAN


@rules.command()
@click.argument('names', metavar='ID…', nargs=-1)
@click.option('--markdown', is_flag=True, help='As docs/rules.md has it.')
@click.option('--config', type=click.Path(path_type=Path), help='Configuration file.')
def explain(names: tuple[str, ...], markdown: bool, config: Path | None) -> int:
    """Explain rules: documentation, cases as diffs, how to suppress (without ID: all of them)."""
    known = {rule.id: rule for rule in all_rules(load(config))}
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


def service(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command of the service its options: it gets a configuration, and a log."""

    @functools.wraps(command)
    def logging(config: Path | None, log: logs.Format | None, *, verbose: bool, quiet: bool,
                **given: Any) -> int:  # fmt: skip
        configured = load(config)
        form = configured.log_format if log is None else log
        kept = logs.keep(logs.chosen(form, configured.log_level, verbose=verbose, quiet=quiet))
        return command(configured, kept, **given)

    served: Callable[..., int] = logging
    for option in reversed(
        (
            click.option('--config', type=click.Path(path_type=Path), help='Configuration file.'),
            click.option('--once', is_flag=True, help='Do what there is to do, and end.'),
            click.option('--log', type=click.Choice(['auto', 'text', 'json']),
                         help='What is said on stderr: for people, or one object a line.'),
            click.option('-v', '--verbose', is_flag=True, help='Say more.'),
            click.option('-q', '--quiet', is_flag=True, help='Say what goes wrong alone.'),
        )
    ):  # fmt: skip
        served = option(served)
    return served


@bot.command()
@service
def watch(config: Config, log: logs.Log, once: bool) -> int:
    """Watch the configured lists: keep each series that matters, whole, to be judged."""
    services.watch(config, log, once=once)
    return CLEAN


@bot.command()
@service
@click.option('--parked', is_flag=True, help='Try what is parked anew: its cause was mended.')
def work(config: Config, log: logs.Log, once: bool, parked: bool) -> int:
    """
    Judge the series that were kept, one review each.

    On SQLite one of these at a time; on PostgreSQL any number, on any number
    of machines.
    """
    services.work(config, log, once=once, parked=parked)
    return CLEAN


@bot.command()
@service
def run(config: Config, log: logs.Log, once: bool) -> int:
    """Watch and work in one process, for a laptop."""
    services.run(config, log, once=once)
    return CLEAN


@bot.command()
@service
def send(config: Config, log: logs.Log, once: bool) -> int:
    """
    Send the mails that are ready to go.

    One process at a time. Nothing is sent twice: a mail of which nobody knows
    whether it went is looked up in the archive, and else left to a human.
    """
    services.send(config, log, once=once)
    return CLEAN


@bot.group()
def outbox() -> None:
    """Look at the mails that the bot would send, and say which may go."""


def of_outbox(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the mails that it is about."""
    command = click.option('--config', type=click.Path(path_type=Path), help='Configuration file.')(
        command
    )
    return click.argument('ids', metavar='ID…', nargs=-1, required=True, type=int)(command)


@outbox.command('list')
@click.option('--all', 'every', is_flag=True, help='Also those that are done with.')
@click.option('--config', type=click.Path(path_type=Path), help='Configuration file.')
def list_mails(every: bool, config: Path | None) -> int:
    """List the mails that wait: id, state, and why."""
    width = Console().width if sys.stdout.isatty() else 1000
    configured = load(config)
    with services.store_of(configured) as store:
        mails = store.outbox.rows(() if every else WAITING)
    maintenance.warn(configured)
    print(outbox_output.listing(mails, width), end='')
    return CLEAN


@outbox.command()
@of_outbox
def show(ids: tuple[int, ...], config: Path | None) -> int:
    """Show mails whole, as they will go."""
    with services.store_of(load(config)) as store:
        for mail in _mails(store, ids):
            print(outbox_output.whole(mail))
    return CLEAN


@outbox.command()
@of_outbox
def edit(ids: tuple[int, ...], config: Path | None) -> int:
    """Edit what held mails say, in $EDITOR; their headers stay."""
    with services.store_of(load(config)) as store:
        for mail in _mails(store, ids):
            if mail.state != 'held':
                raise UsageError(f'mail {mail.id} is {mail.state}: only a held one can be edited')
            head, _, body = mail.raw.partition(b'\n\n')
            before = body.decode('utf-8', 'replace')
            try:
                text = click.edit(before, extension='.eml')
            except click.ClickException as error:
                raise UsageError(f'mail {mail.id}: as it was: {error.message}') from error
            if text is None or text == before or not text.strip():
                print(f'mail {mail.id}: as it was')
                continue
            raw = head + b'\n\n' + text.rstrip('\n').encode('utf-8', 'replace') + b'\n'
            if reason := unfit(raw, head.count(b'\n') + 2):
                raise UsageError(f'mail {mail.id}: as it was: {reason}')
            if not store.outbox.edit(mail.id, raw):
                raise UsageError(f'mail {mail.id}: as it was: it is no longer held')
            print(f'mail {mail.id}: changed')
    return CLEAN


@outbox.command()
@of_outbox
def approve(ids: tuple[int, ...], config: Path | None) -> int:
    """Let held mails go."""
    with services.store_of(load(config)) as store:
        for mail in _mails(store, ids):
            if not store.outbox.approve(mail.id):
                raise UsageError(f'mail {mail.id} is {mail.state}: it can not be approved')
            print(f'mail {mail.id}: ready')
    return CLEAN


@outbox.command()
@of_outbox
@click.option('--reason', required=True, help='Why; it is kept.')
def reject(ids: tuple[int, ...], config: Path | None, reason: str) -> int:
    """Turn mails down."""
    with services.store_of(load(config)) as store:
        for mail in _mails(store, ids):
            if not store.outbox.reject(mail.id, reason):
                raise UsageError(f'mail {mail.id} is {mail.state}: it can not be turned down')
            print(f'mail {mail.id}: rejected')
    return CLEAN


def _mails(store: Store, ids: Sequence[int]) -> Iterator[Outgoing]:
    for number in ids:
        mail = store.outbox.get(number)
        if mail is None:
            raise UsageError(f'there is no mail {number}: see bot outbox list')
        yield mail


@bot.command()
@click.option('--config', type=click.Path(path_type=Path), help='Configuration file.')
@click.option('--json', 'as_json', is_flag=True, help='One object a line.')
def status(config: Path | None, as_json: bool) -> int:
    """List the series: state, since when, and why."""
    configured = load(config)
    maintenance.warn(configured)
    print(services.status(configured, as_json=as_json), end='')
    return CLEAN


for command in maintenance.COMMANDS:
    bot.add_command(command)


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
@click.option('--json', 'as_json', is_flag=True, help='One object a line.')
@click.option('-q', '--quiet', is_flag=True, help='No progress on stderr.')
def doctor(
    harness: str | None, config: Path | None, tree: str | None, base: str | None, as_json: bool,
    quiet: bool,
) -> int:  # fmt: skip
    """
    Say whether the parts that the bot relies on work here, and what mends them.

    Nothing is sent or changed. Ask as the user that the service runs as. Exit
    code: 0, or 1 where a part has an error.

    With --harness instead, each harness is built at a tree's first ref twice: in the
    full tree, and in the files that it was learnt to read. Exit code: 0 both
    gave the same, 1 not, 3 could not be done.
    """
    configured = load(config)
    if harness is None:
        parts = doctors.examine(configured)
        width, colour = _terminal()
        shown = doctor_output.as_json(parts) if as_json else None
        print(shown or doctor_output.render(parts, width, colour=colour), end='')
        return doctors.worst(parts)
    options = Options(config, tree, base, None, harness or None, len(os.sched_getaffinity(0)),
                      'text', 'warning', True, False, quiet)  # fmt: skip
    progress = Progress(quiet=quiet)
    cage = Cage(replace(configured.limits, disk=max(configured.limits.disk, 4 << 30)))
    worst = CLEAN
    for one in trees(options.choice(), configured):
        with Quarantine(Path(one.path)) as quarantine, contextlib.ExitStack() as stack:
            stack.callback(progress.done)
            ref = base or one.refs[0]
            commit = quarantine.resolve(ref)
            ground = quarantine.at(commit)
            for each in harnesses(options.choice(), configured):
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
            _write(b4_output.render(found, part, config.letterhead.documentation) + '\n')
        else:
            _write(b4_output.lines(found, part, options.threshold))
    return CLEAN


def _together(
    reviews: Sequence[Review], rules: Sequence[Rule], options: Options, config: Config
) -> str:
    """Return the one document of all reviews."""
    if options.format == 'sarif':
        return sarif_output.render(reviews, rules, config.letterhead.documentation) + '\n'
    return ktap_output.render(reviews, options.threshold)


def _write(text: str) -> None:
    """Write what programs read: UTF-8, whatever the locale."""
    sys.stdout.buffer.write(text.encode())


def _print(found: Review, options: Options, *, first: bool) -> None:
    if options.format == 'json':
        print(json_output.render(found))
        return
    if not first:
        print()
    width, colour = _terminal()
    shown = text_output.render(found, width=width, colour=colour, verbose=options.verbose)
    print(shown, end='')


def _terminal() -> tuple[int, bool]:
    """How wide a report is, and whether it has colour."""
    terminal = sys.stdout.isatty()
    width = Console().width if terminal else 100
    return min(width, 120), terminal and not os.environ.get('NO_COLOR')


def _exit_code(found: Review, fail_on: Severity) -> int:
    if found.verdict == 'could-not-check':
        return NOT_CHECKED
    return FINDINGS if any(one.severity >= fail_on for one in found.findings) else CLEAN


def _options(given: dict[str, Any]) -> Options:
    return Options(**{**given, 'jobs': given['jobs'] or len(os.sched_getaffinity(0))})


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
    logs.now()('failed', reason=message)
    return code
