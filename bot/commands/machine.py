"""`bot doctor` and `bot tree`: the machine, and the kernel trees on it."""

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import click

from bot import doctor as doctors
from bot.commands.common import CLEAN, FINDINGS, NOT_CHECKED, configured, terminal
from bot.config import Config, load
from bot.errors import UsageError
from bot.harness import Builder, Workshop, compare
from bot.model import CouldNotRun
from bot.output import doctor as doctor_output
from bot.output import text as text_output
from bot.progress import Progress
from bot.sandbox import Cage
from bot.session import Choice, harnesses, trees
from bot.tree import Quarantine, Source


@click.group()
def tree() -> None:
    """Look after the configured kernel trees."""


@tree.command()
@click.argument('names', nargs=-1)
@configured
def sync(names: tuple[str, ...], config: Path | None) -> int:
    """Run git fetch in the trees that have `fetch = true` (or in NAMES of them)."""
    known = {one.name: one for one in load(config).trees if one.fetch}
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


@click.command()
@click.option(
    '--harness',
    metavar='NAME,…',
    is_flag=False,
    flag_value='',
    default=None,
    help='Build once in the full tree and once as laid out, and compare.',
)
@configured
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
    found = load(config)
    if harness is not None:
        choice = Choice(tree, base, None, harness or None, len(os.sched_getaffinity(0)))
        return _compare(choice, found, Progress(quiet=quiet))
    parts = doctors.examine(found)
    width, colour = terminal()
    shown = doctor_output.as_json(parts) if as_json else None
    print(shown or doctor_output.render(parts, width, colour=colour), end='')
    return doctors.worst(parts)


def _compare(choice: Choice, config: Config, progress: Progress) -> int:
    """Build each harness at each tree's first ref twice."""
    cage = Cage(replace(config.limits, disk=max(config.limits.disk, 4 << 30)))
    worst = CLEAN
    for one in trees(choice, config):
        with Quarantine(Path(one.path)) as quarantine, contextlib.ExitStack() as stack:
            stack.callback(progress.done)
            ref = choice.base or one.refs[0]
            commit = quarantine.resolve(ref)
            ground = quarantine.at(commit)
            for each in harnesses(choice, config):
                if ground.entry(each.dir) is None:
                    continue
                progress(f'{each.name}: building {one.name} {ref} {commit[:12]} twice')
                workshop = Workshop(
                    cage, config.cache, choice.jobs, config.cache_size,
                    lambda event: progress.build(event, 0),
                )  # fmt: skip
                found = compare(Builder(each, workshop), ground)
                progress.done()
                print(text_output.comparison(each.name, f'{one.name} {ref} {commit[:12]}', found))
                could = not isinstance(found.full, CouldNotRun)
                worst = max(worst, (CLEAN if found.same else FINDINGS) if could else NOT_CHECKED)
    return worst
