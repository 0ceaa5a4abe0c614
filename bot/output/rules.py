"""`bot rules`: the rules as a table, explained one by one, and as docs/rules.md."""

import difflib
import textwrap
from collections.abc import Collection, Sequence

from bot.model import BuildFailed, BuildOutcome, CouldNotRun, Passed, TestsFailed
from bot.rule import Case, Rule

HEAD = """\
Made by `make docs` from the rules themselves; `bot rules explain ID` shows every case.
Only what a series introduces is reported. A finding is set aside, and listed with its
reason, by a line below the `---` of a patch or in the cover letter:"""
SUPPRESS = 'vma-bot: ignore {} -- the reason'


def listing(rules: Sequence[Rule], disabled: Collection[str], width: int) -> str:
    """Return a line a rule: id, severity, what it reports."""
    longest = max(len(rule.id) for rule in rules)
    lines = []
    for rule in rules:
        state = 'off' if rule.id in disabled else rule.severity.label
        summary = rule.summary + (' (on request)' if rule.on_request else '')
        lines.append(f'{rule.id:{longest}}  {state:7}  {summary}'[: max(width, longest + 20)])
    return ''.join(f'{line.rstrip()}\n' for line in lines)


def explained(rule: Rule) -> str:
    """Return a rule's documentation, all its cases as diffs, and how to suppress it."""
    parts = [f'{rule.id} ({rule.severity.label})', rule.doc.strip()]
    for title, cases in (('reported', rule.bad), ('not reported', rule.good)):
        for number, case in enumerate(cases, 1):
            parts.append(f'{title}, {number} of {len(cases)}:\n\n{_indented(_case(case))}')
    parts.append(
        'To have it set aside, below the --- of a patch or in the cover letter:\n\n'
        f'    {SUPPRESS.format(rule.id)}\n\n'
        'or an [[ignore]] table in config.toml, or [rules] disable.'
    )
    return '\n\n'.join(parts) + '\n'


def document(rules: Sequence[Rule]) -> str:
    """Return docs/rules.md."""
    parts = [
        '# The rules',
        HEAD,
        f'    {SUPPRESS.format("RULE [symbol]")}',
        '| rule | severity | reports |\n|---|---|---|\n'
        + '\n'.join(
            f'| [`{rule.id}`](#{rule.id}) | {rule.severity.label} | {rule.summary} |'
            for rule in rules
        ),
    ]
    for rule in rules:
        on_request = ', on request only' if rule.on_request else ''
        parts += [f'## {rule.id}', f'*{rule.severity.label}{on_request}.* {rule.doc.strip()}']
        for title, cases in (('Reported', rule.bad), ('Not reported', rule.good)):
            parts.append(f'{title}, for instance:\n\n```diff\n{_case(cases[0])}\n```')
    return '\n\n'.join(parts) + '\n'


def _case(case: Case) -> str:
    """Show a case's patches as diffs, and what its builds came to."""
    files = dict(case.before)
    shown = []
    for n, edit in enumerate(case.patches, 1):
        lines = [f'[{n}/{len(case.patches)}] {edit.message}'] if _tells(case) else []
        for path, after in edit.files.items():
            before = files.get(path)
            lines += difflib.unified_diff(
                (before or '').splitlines(),
                (after or '').splitlines(),
                f'a/{path}' if before is not None else '/dev/null',
                f'b/{path}' if after is not None else '/dev/null',
                lineterm='',
            )
            if after is None:
                files.pop(path, None)
            else:
                files[path] = after
        shown.append('\n'.join(line.rstrip() for line in lines))
    for build in case.builds:
        where = f'patch {build.n}' if build.n else 'base'
        shown.append(f'({build.harness} at the {where}: {_outcome(build.outcome)})')
    if case.fails is not None:
        shown.append(f'({case.fails})')
    return '\n'.join(shown)


def _tells(case: Case) -> bool:
    """Whether the messages of a case's patches matter, or their order."""
    return len(case.patches) > 1 or case.patches[0].message != 'mm: change something'


def _outcome(outcome: BuildOutcome) -> str:
    match outcome:
        case Passed(run=run):
            return f'{run} tests passed'
        case TestsFailed():
            return outcome.reason or 'tests failed'
        case BuildFailed(errors=errors):
            return f'does not build: {errors[0].text}' if errors else 'does not build'
        case CouldNotRun(reason=reason):
            return f'could not run: {reason}'


def _indented(text: str) -> str:
    return textwrap.indent(text, '    ', lambda _: True)
