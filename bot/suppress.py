"""
Findings that somebody asked not to count, and who asked.

A line below the `---` of a patch, or in the cover letter:

    vma-bot: ignore RULE [symbol] -- reason

stands for that patch, or for all; of a commit it counts below a `---` of its
message, or in git notes. `[[ignore]]` of the configuration stands for every
series. What is ignored is listed with its reason, never dropped. A line that
can't be honoured (no reason, no such rule) is a remark.
"""

import fnmatch
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from bot.model import Finding, Ignore, Series, Suppressed
from bot.plain import one_line

LINE = re.compile(r'^\s*vma-bot:\s*ignore\b(?P<what>.*)$', re.M | re.I)
WHAT = re.compile(r'\s+(?P<rule>[a-z0-9-]+)(?:\s+(?P<symbol>[^\s]+))?\s+--\s+(?P<reason>\S.*)')

CONFIGURED = ' (configured)'
"""Ends a reason that the configuration gives, not the series."""


@dataclass(frozen=True)
class Split:
    """The findings that count, those that do not, and what is to be said of the lines."""

    findings: tuple[Finding, ...]
    suppressed: tuple[Suppressed, ...]
    remarks: tuple[str, ...]


def split(
    findings: Sequence[Finding], series: Series, ignores: Sequence[Ignore], known: Collection[str]
) -> Split:
    """Part `findings` by the lines of `series` and by `ignores`. `known` are the rules' ids."""
    asked: list[tuple[int, Ignore]] = []
    remarks: list[str] = []
    for n, text in _texts(series):
        where = f'patch {n}' if n else 'the cover letter'
        for line in LINE.finditer(text):
            found = WHAT.fullmatch(line['what'].rstrip())
            if found is None:
                remarks.append(
                    f'{where}: not honoured: "{one_line(line[0], 120)}": '
                    'it needs a rule and, after " -- ", a reason'
                )
            elif found['rule'] not in known:
                remarks.append(f'{where}: not honoured: there is no rule "{found["rule"]}"')
            else:
                symbol = (found['symbol'] or '').removesuffix('()') or None
                asked.append((n, Ignore(found['rule'], found['reason'].strip(), symbol=symbol)))
    remarks += [
        f'patch {patch.n}: not honoured: "{one_line(line[0], 120)}": '
        'it counts below the ---, or in git notes, not in the message'
        for patch in series.patches
        for line in LINE.finditer(patch.message)
    ]
    kept: list[Finding] = []
    suppressed: list[Suppressed] = []
    for finding in findings:
        reason = next(_reasons(finding, asked, ignores), None)
        if reason is None:
            kept.append(finding)
        else:
            suppressed.append(Suppressed(finding, reason))
    return Split(tuple(kept), tuple(suppressed), tuple(remarks))


def _texts(series: Series) -> Iterator[tuple[int, str]]:
    if series.cover is not None:
        yield 0, series.cover
    for patch in series.patches:
        yield patch.n, patch.notes


def _reasons(
    finding: Finding, asked: Sequence[tuple[int, Ignore]], ignores: Sequence[Ignore]
) -> Iterator[str]:
    for n, one in asked:
        if n in (0, finding.hit.n) and _covers(one, finding):
            yield one.reason
    for one in ignores:
        if _covers(one, finding):
            yield one.reason + CONFIGURED


def _covers(one: Ignore, finding: Finding) -> bool:
    hit = finding.hit
    if one.rule != finding.rule:
        return False
    if one.path is not None and not fnmatch.fnmatchcase(hit.path or '', one.path):
        return False
    return one.symbol is None or one.symbol in re.split(r'[^\w.]+', hit.symbol or '')
