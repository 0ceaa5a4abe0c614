"""
How a build was compiled, read from the command lines that make echoes.

Answers which of the compiler's words change what is built or how strictly.
Leaves what the compiler answered to `builds`, and whether a word matters to the
rule `vma-test-build`.
"""

import re
from collections.abc import Iterator

from bot.diagnose.lines import lines_of
from bot.plain import one_line

FLAGS = 200
"""Compiler words that are kept."""

WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""")
QUOTES = re.compile(r"""\\(.)|["']""")
CALLED = re.compile(r'(?:[\w.]+-){0,4}(?:cc|gcc|clang|c89|c99|[cg]\+\+|clang\+\+)(?:-[\d.]{1,8})?')
END = re.compile(r'\A(?:[;&|<>)]|\d>)')
TAKES_A_WORD = {
    '-D': '', '-U': '', '-I': '', '-L': '', '-l': '',
    '-include': ' ', '-imacros': ' ', '-isystem': ' ', '-iquote': ' ', '-idirafter': ' ',
}  # fmt: skip
NO_FLAG = ('-Wp,-M',)
FLAG = re.compile(
    r'-(?:[DUIL].|l\w|[fmW].|O|std=|w\Z|ansi\Z|pedantic|pthread\Z|static|shared\Z|nostd'
    r'|include|imacros|isystem|iquote|idirafter)'
)


def flags_of(output: str) -> tuple[str, ...]:
    """
    Return the compiler's words that change what is built or how strictly, sorted.

    Read from the command lines that make echoes; a build that echoes none has
    none. Names of files, `-c`, `-o` and `-M…` are left out, a separate word is
    joined (`-D X` is `-DX`).
    """
    found: dict[str, None] = {}
    for line in dict.fromkeys(lines_of(output.replace('\\\n', ' '))):
        for flag in _flags(line):
            found[one_line(flag)] = None
            if len(found) == FLAGS:
                return tuple(sorted(found))
    return tuple(sorted(found))


def _flags(line: str) -> Iterator[str]:
    """Yield a command line's flags, none where it is no compiler's."""
    first, _, rest = line.lstrip().partition(' ')
    if first.rpartition('/')[2] == 'ccache':
        first, _, rest = rest.lstrip().partition(' ')
    if not CALLED.fullmatch(first.rpartition('/')[2][:80]):
        return
    words = (found[0] for found in WORD.finditer(rest))
    for raw in words:
        if END.match(raw):
            return
        word, last = _bare(raw), raw.endswith(';')
        if word in TAKES_A_WORD:
            word += TAKES_A_WORD[word] + _bare(next(words, ''))
        if FLAG.match(word) and not word.startswith(NO_FLAG):
            yield word
        if last:
            return


def _bare(word: str) -> str:
    return QUOTES.sub(lambda found: found[1] or '', word.rstrip(';'))
