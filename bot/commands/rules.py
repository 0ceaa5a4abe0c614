"""`bot rules`: what the rules report, and why."""

import difflib
from pathlib import Path

import click

from bot.commands.common import CLEAN, configured, table_width
from bot.config import load
from bot.errors import UsageError
from bot.output import rules as rules_output
from bot.session import all_rules


@click.group()
def rules() -> None:
    """Say what the rules report, and why."""


@rules.command('list')
@configured
def list_rules(config: Path | None) -> int:
    """List the rules: id, severity, and what each reports."""
    found = load(config)
    print(rules_output.listing(all_rules(found), found.disabled, table_width()), end='')
    return CLEAN


@rules.command()
@click.argument('names', metavar='ID…', nargs=-1)
@click.option('--markdown', is_flag=True, help='As docs/rules.md has it.')
@configured
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
