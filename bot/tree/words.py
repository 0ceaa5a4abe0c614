"""
What an index of words holds, and how it is asked.

The index of a tree (`lexicon.py` makes it) is one file, mapped into memory.
A line is a character for the word's length, and the word: the lines of one
length lie together and are equally long, so a look-up is a binary search
without line ends, and words like another one are sought among lines of about
its length only. Beside the words stand the fragments that macros paste to
their arguments, as `folio_test_##` and `##_locked`, and the structs whose first
line stands indented, as documents show them, as `vm_area_desc{`.

Left out, and said to be known: words shorter than three characters or longer
than 93, and names of registers and pins (capitals and digits), of which Linux
7.2 has two and a half million.
"""

import contextlib
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from bot.rule import edits

SHORTEST, LONGEST = 3, 93
MOST, LONG, ALIKE = 2, 12, 5
"""`near()`: edits between words (one in words that are not `LONG`), and how many it returns."""
REGISTER = re.compile(rb'[a-z]{0,3}[A-Z_]*\d[A-Z0-9_]*')
SHOWN = re.compile(rb'struct (\w+) \{')
MACRO = re.compile(rb'#[ \t]*define[ \t]+\w+\(([^)#]{0,400})\)((?:[^\n\\]|\\\n|\\.)*)')
GLUED = 4
"""Characters that a fragment must have to be the better part of a name."""
APART = bytes(code if chr(code) in '_' or bytes([code]).isalnum() else 32 for code in range(256))
"""All that is no part of an identifier becomes a space."""


def identifiers(text: bytes) -> set[bytes]:
    """Return the words of a text that are looked up, and fragments; none where it is no text."""
    return {word for word in set(cut(text)) if not left_out(word)}


def cut(text: bytes) -> list[bytes]:
    """Return all words of a text, as often as they stand there, and its fragments."""
    if b'\0' in text[:8000]:
        return []
    cut = text.translate(APART).split()
    if b'##' in text:
        cut += _fragments(text)
    if b' {' in text:
        cut += _shown(text)
    return cut


def _shown(text: bytes) -> Iterator[bytes]:
    """Yield the structs whose first line is indented: `vm_area_desc{`."""
    for found in SHOWN.finditer(text):
        if text[max(found.start() - 1, 0) : found.start()] in (b' ', b'\t'):
            yield found[1] + b'{'


def _fragments(text: bytes) -> Iterator[bytes]:
    """Yield what macros paste to their arguments: `folio_test_##`, `##_locked`."""
    for macro in MACRO.finditer(text):
        arguments = {word.strip() for word in macro[1].split(b',')}
        for before in re.findall(rb'(\w+)[ \t]*(?=##)', macro[2]):
            if len(before) >= GLUED and before not in arguments:
                yield before + b'##'
        for behind in re.findall(rb'##[ \t]*(\w+)', macro[2]):
            if len(behind) >= GLUED and behind not in arguments:
                yield b'##' + behind


def left_out(word: bytes) -> bool:
    """Whether a word is in no index."""
    if not SHORTEST <= len(word) <= LONGEST or 0x30 <= word[0] <= 0x39:
        return True
    return not word.islower() and REGISTER.fullmatch(word) is not None


def near(word: bytes, words: 'Words | None', others: set[bytes]) -> list[bytes]:
    """
    Return up to five words of an index, and of `others`, that are like `word`; nearest first.

    Two edits leave one of a word's three parts as it was (but for letters
    swapped across their borders). In less than 12 characters one edit is all:
    there are too many words around a short one.
    """
    if len(word) < 2 * SHORTEST:
        return []
    parts = [part for _, part in _thirds(word)]
    found = set(words.like(word)) if words is not None else set()
    found |= {
        other
        for other in others
        if abs(len(other) - len(word)) <= MOST and any(part in other for part in parts)
    }
    most = MOST if len(word) >= LONG else 1
    # Not ASCII: no word of C, but a file of the cache that somebody wrote into.
    named = [one for one in found if one.isascii() and b'#' not in one and b'{' not in one]
    measured = sorted((edits(word.decode(), other.decode(), most), other) for other in named)
    return [other for distance, other in measured if 0 < distance <= most][:ALIKE]


def _thirds(word: bytes) -> list[tuple[int, bytes]]:
    """Cut a word into three; where each begins, and what it is."""
    third = len(word) // 3
    end = len(word) - third
    return [(0, word[:third]), (third, word[third:end]), (end, word[end:])]


class Words:
    """The index of one tree. Raises `ValueError` where the file is torn."""

    def __init__(self, path: Path) -> None:
        with path.open('rb') as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._end = self._map.rfind(b'~')
        if self._end < 0 or self._map[self._end :] != trailer(self._end):
            self._map.close()
            raise ValueError(f'{path}: torn')
        with contextlib.suppress(OSError):
            path.touch()  # what is used stays longest

    def __contains__(self, word: bytes) -> bool:
        line = line_of(word)
        at = self._first(line, len(line), *self._section(len(word)))
        return self._map[at : at + len(line)] == line

    def like(self, word: bytes) -> Iterator[bytes]:
        """Yield words that have a third of `word` where it has it, give or take two."""
        (_, head), *rest = _thirds(word)
        for length in range(len(word) - MOST, len(word) + MOST + 1):
            start, end = self._section(length)
            wide = length + 2
            at = self._first(mark(length) + head, wide, start, end)
            while at < end and self._map[at + 1 : at + 1 + len(head)] == head:
                yield self._map[at + 1 : at + 1 + length]
                at += wide
            for place, part in rest:
                at = self._map.find(part, start, end)
                while at >= 0:
                    line, column = divmod(at - start, wide)
                    if abs(column - 1 - place) <= MOST:
                        first = start + line * wide + 1
                        yield self._map[first : first + length]
                    at = self._map.find(part, at + 1, end)

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()

    def _section(self, length: int) -> tuple[int, int]:
        """Return where the words of a length begin and end."""
        if not SHORTEST <= length <= LONGEST:
            return 0, 0
        return self._start(length), self._start(length + 1)

    def _start(self, length: int) -> int:
        """Return where the first line of at least a length is."""
        first = mark(length)
        low, high = 0, self._end
        while low < high:
            at = self._map.rfind(b'\n', low, (low + high) // 2) + 1 or low
            if self._map[at : at + 1] < first:
                low = self._map.find(b'\n', at) + 1
            else:
                high = at
        return low

    def _first(self, line: bytes, wide: int, start: int, end: int) -> int:
        """Return where, in a section of lines that are `wide`, a line is or would be."""
        low, high = 0, (end - start) // wide
        while low < high:
            middle = (low + high) // 2
            at = start + middle * wide
            if self._map[at : at + len(line)] < line:
                low = middle + 1
            else:
                high = middle
        return start + low * wide


def mark(length: int) -> bytes:
    """Return the character that stands for a word's length."""
    return bytes([32 + length])


def line_of(word: bytes) -> bytes:
    """Return a word's line."""
    return mark(len(word)) + word + b'\n'


def trailer(size: int) -> bytes:
    """Return the last line, by which a file is known to be whole: behind all others, its size."""
    return b'~%d\n' % size
