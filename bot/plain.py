"""
Making a stranger's text safe to show: pure.

Whatever came from a mail or a build passes through here before it is printed,
stored as a summary, or mailed: no control character (escape sequences among
them), nothing that reorders or hides text, and not too long.
"""

import re

# C0 without tab and newline, DEL, C1; bidi controls; zero-width and other invisible ones.
HIDDEN = re.compile(
    '[\x00-\x08\x0b-\x1f\x7f-\x9f'
    '\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb'
    '\U000e0000-\U000e007f\ud800-\udfff]'
)
UNSTORABLE = re.compile('[\x00\ud800-\udfff]')
ESCAPES = re.compile('\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[@-Z\\\\-_])')


def plain(text: str, limit: int = 2000) -> str:
    """Return `text` without control and invisible characters, cut to `limit` characters."""
    if len(text) > 4 * limit + 64:
        text = text[: 4 * limit + 64]
    cleaned = HIDDEN.sub('', ESCAPES.sub('', text))
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + '…'


def storable(text: str, limit: int | None = None) -> str:
    """Return what any database, file and terminal can take: no NUL, no lone surrogate."""
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + '…'
    if text.isascii():
        return text.replace('\0', '\ufffd') if '\0' in text else text
    return UNSTORABLE.sub('\ufffd', text)


def one_line(text: str, limit: int = 200) -> str:
    """Return `text` as a single line: white space folded, the rest as `plain()` does."""
    return plain(' '.join(text[: 4 * limit + 64].split()), limit)


def tail(text: str, lines: int = 40, width: int = 400) -> str:
    """Return the last lines of an output, each cleaned and shortened."""
    return '\n'.join(plain(line, width) for line in text[-lines * 4096 :].split('\n')[-lines:])
