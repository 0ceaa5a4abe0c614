"""
Build and run a userland test harness for every patch, against the patch before.

Answers: what `tools/testing/vma` (or any other harness of the configuration)
says at the base and at each patch. Only the files that a build reads are laid
out; where they are the same as before, the result is the same by construction.
Leaves the judgement to the rule `vma-test-build`.
"""

from bot.harness.builder import Builder, Event, Workshop
from bot.harness.learn import compare
from bot.harness.runs import build_series

__all__ = ['Builder', 'Event', 'Workshop', 'build_series', 'compare']
