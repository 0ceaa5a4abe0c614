"""
What a build and a test run said: from output to diagnostics, pure.

Reads gcc, clang, ld, lld and make (in the C locale), the VMA tests' own words,
KTAP, glibc's assertions, and ASan, UBSan and LSan; and what of it says that the
machine failed, not the code. Paths come out relative to
the kernel tree. An output is a stranger's: each pattern is linear, lines and
the number of diagnostics are bounded.
"""

from bot.diagnose.builds import LIBRARY, MISSING_HEADER, misses_a_file, of_build
from bot.diagnose.flags import flags_of
from bot.diagnose.lines import ROOT, relative
from bot.diagnose.ours import EMPTY, Fault, of_failed_build, of_failed_run, of_status, stands
from bot.diagnose.runs import of_run

__all__ = [
    'EMPTY',
    'LIBRARY',
    'MISSING_HEADER',
    'ROOT',
    'Fault',
    'flags_of',
    'misses_a_file',
    'of_build',
    'of_failed_build',
    'of_failed_run',
    'of_run',
    'of_status',
    'relative',
    'stands',
]
