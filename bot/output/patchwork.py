"""
What Patchwork is told of each patch of a series: a state and one line.

The same words as `b4 review` gets. Patchwork has checks on patches alone, so
what is found of the series as a whole goes to the first. Commits, which no
list has seen, have none.
"""

from dataclasses import replace

from bot.model import CheckState, PatchCheck, Review, Series
from bot.output.b4 import Part, Status, verdict
from bot.plain import one_line

STATES: dict[Status, CheckState] = {'pass': 'success', 'warn': 'warning', 'fail': 'fail'}


def checks(review: Review) -> tuple[PatchCheck, ...]:
    """Return the check of each patch that has a message-id, in order."""
    series = review.series
    if series is None:
        return ()
    if isinstance(series, Series):
        review = replace(review, series=replace(series, cover=None))
    found = []
    for patch in series.patches:
        if patch.msgid is not None:
            status, summary = verdict(review, Part(patch.n, patch.n))
            found.append(PatchCheck(patch.msgid, STATES[status], one_line(summary, 250)))
    return tuple(found)
