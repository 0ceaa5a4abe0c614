"""
Why a patch does not apply, in our words and with the line of the mail. Pure.

Answers what a hunk that does not match, or git's stderr, comes to for the
person who reads the mail: which line of it, which file, which line of that.
git counts the lines of a file that nobody sees.
"""

import re

from bot.errors import PatchError
from bot.model import Patch

HUNK = re.compile(r'@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@')
GIT_ERROR = re.compile(r'^(?:error|fatal): (.*)$', re.M)
# git's stderr of a failed apply: `error: patch failed: PATH:LINE`, `error: PATH: reason`.
FAILED_AT = re.compile(r'^patch failed: (.*):(\d+)$')
AT_LINE = re.compile(r'\s*(?:\(line (\d+)\)|at line (\d+)(?::.*)?)$')
IN_OUR_WORDS = (
    (r'corrupt patch', 'not a line of a hunk: it is wrapped, or the hunk is cut short or edited'),
    (r'patch fragment without header', 'a hunk without the names of its file before it'),
    (r'git diff header lacks filename information.*', 'the diff names no file'),
    (r'patch with only garbage', 'the diff changes nothing'),
    (r'No valid patches in input.*', 'git finds no diff in it'),
    (r'(?P<path>.*): does not exist in index', '{path}: does not exist in the tree'),
    (r'(?P<path>.*): already exists in index', '{path}: is in the tree already'),
    (
        r"cannot apply binary patch to '(?P<path>.*)' without full index line",
        '{path}: binary, and the mail has not its bytes (git format-patch --binary)',
    ),
)  # fmt: skip
NO_PREFIX = 'made with --no-prefix: there is no a/ and b/ before the names of its files'


def of_git(stderr: str, diff: bytes, declined: PatchError) -> PatchError:
    """Return why git refused: what the fast path knows of the hunk, else git's, in our words."""
    if declined.path is not None and declined.line is not None:
        return declined
    errors = GIT_ERROR.findall(stderr)
    for one in errors:
        at = FAILED_AT.match(one)
        if at is not None:
            line = _hunk_line(diff, at[1], int(at[2]))
            return PatchError('does not match', at[1], line, at=int(at[2]))
    if not errors:
        return PatchError('git refuses it without a reason', declined.path)
    line_said = AT_LINE.search(errors[0])
    reason = errors[0][: line_said.start()] if line_said else errors[0]
    number = int(line_said[1] or line_said[2]) if line_said else None
    for pattern, words in IN_OUR_WORDS:
        found = re.fullmatch(pattern, reason)
        if found is not None:
            named = found.groupdict()
            return PatchError(words.format(**named), named.get('path', declined.path), number)
    return PatchError(reason[:300], declined.path, number)


def in_words(error: PatchError, patch: Patch) -> str:
    """Say why a patch does not apply, and where in its mail."""
    if error.line is None:
        return str(error)
    if patch.line:
        where = f'line {patch.line + error.line - 1} of the mail'
    else:
        where = f'line {error.line} of its diff'
    if error.at is None:
        return f'{where}: {error}'
    return f'hunk at {where} does not apply to {error.path} at line {error.at}'


def _hunk_line(diff: bytes, path: str, start: int) -> int | None:
    """Return the line of the hunk that changes a file at line `start`, None for none or several."""
    found: list[int] = []
    within = False
    for number, line in enumerate(diff.decode('utf-8', 'replace').split('\n'), 1):
        if line.startswith(('--- ', '+++ ', 'diff --git ')):
            within = path in line or (within and line.startswith('+++ '))
        hunk = HUNK.match(line)
        if within and hunk is not None and int(hunk[1]) == start:
            found.append(number)
    return found[0] if len(found) == 1 else None
