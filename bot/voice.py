"""
Whose words a line is: ours, or somebody else's. Pure.

What a mail of ours says in its own voice is believed, quoted, and taken by b4
into commits. So a mail has two kinds of lines: ours, and those that begin with
`> ` or `| `, which show what somebody else wrote, cut but never wrapped. In
our own lines others are heard by name only: an identifier, a path, a short
expression, a person.

Answers which words may stand in a sentence of ours (`fits`, `named`,
`person`), and carries the rest through a template to its own lines: `theirs()`
marks a text by control characters, which `plain()` takes out of whatever comes
from outside, and `settled()` takes the marks off again, wherever a template
has put them. What is quoted, and how much of it, is `quote.py`'s.
"""

import re
from collections.abc import Iterable

from bot.plain import one_line, plain

WIDTH = 72
LONGEST_NAME = 100
LONGEST_SENTENCE = 600
MOST_BYTES = 900
"""Bytes of a line; a mail may have 998, and some may be added on its way (`>From`)."""

BEGIN, END = '\x02', '\x03'
PERSON_BEGIN, PERSON_END = '\x0e', '\x0f'
MARKS = str.maketrans('', '', BEGIN + END + PERSON_BEGIN + PERSON_END)
RUN = re.compile(f'{BEGIN}([^{END}]*)(?:{END}|\\Z)')
NAME_RUN = re.compile(f'{PERSON_BEGIN}[^{PERSON_END}]*(?:{PERSON_END}|\\Z)')
GAP = '\x04'
"""Stands for a blank that no line may be broken at."""

QUOTED = re.compile(r'[ \t]*[>|](?: |\Z)')
# What b4, git or we ourselves read as more than a sentence: a trailer, an order.
LABEL = re.compile(r'\s*\W?\w\S*:(?:\s|\Z)')

KEYWORDS = frozenset(
    ('struct', 'union', 'enum', 'const', 'unsigned', 'signed', 'long', 'short', 'int', 'char')
)
# What an expression of C is made of that holds no text and no comment.
TOKEN = re.compile(r'[A-Za-z_]\w*|\d\w*|->|[.()\[\]&*+!~-]| ', re.A)
PATH = re.compile(r'[\w.][\w.+-]*(?:/[\w.+-]+)*', re.A)
PLACE = re.compile(r':\d{1,9}\Z')
# Words of a sentence: letters, names of code, numbers, and what stands at the end of a word.
WORD = re.compile(
    r"[(]?(?:#(?=if|el|end|def|inc))?[@&*.]{0,3}(?:->)?[\w./+*()\[\]'&%=~…-]+(?:->[\w.()\[\]…-]+)*(?::\d{1,9})?[,.;:?!)]{0,3}",
    re.A,
)
OPENS = re.compile(r"[\w([.@&*'…-]")
NO_WORD = re.compile(r'/\*|\*/|//|-by:|\A--|vma-bot:', re.I)
NO_PERSON = re.compile(r"[^\w .,'\u2019()&+-]+|_")
BLANKS = re.compile(r'\s+')


def theirs(text: str, limit: int = 200) -> str:
    """Mark what somebody else wrote, as one line of at most `limit` characters."""
    return f'{BEGIN}{one_line(text, limit)}{END}'


def quoted(text: str, limit: int = 200) -> str:
    """Return a line of a mail or of code as a reviewer quotes it."""
    line = plain(text, limit).replace('\n', ' ').rstrip()
    return f'> {BEGIN}{line}{END}' if line else '>'


def shown(text: str, limit: int = 200) -> str:
    """Return a line of what a program printed, or of another place's code."""
    return f'| {theirs(text, limit)}'


def named(text: str, limit: int = LONGEST_NAME) -> str:
    """
    Return a name of the tree as it may stand in a sentence: an expression of C, or a path.

    '…' where it is no name, but could say something.
    """
    name = BLANKS.sub(' ', text.strip())
    if len(name) > limit:
        return '…'
    good = PATH.fullmatch(PLACE.sub('', name)) or _is_expression(name)
    return name if good and not name.startswith('-') else '…'


def _is_expression(text: str) -> bool:
    """Whether words are parted by operators, or belong together in C (`struct x`)."""
    text = re.sub(r' ?([^\w ]+) ?', r'\1', text, flags=re.A)
    tokens = TOKEN.findall(text)
    if ''.join(tokens) != text or not any(one[0].isalpha() or one[0] == '_' for one in tokens):
        return False
    blanks = (at for at, one in enumerate(tokens) if one == ' ')
    return all(tokens[at - 1] in KEYWORDS for at in blanks)


def person(name: str, limit: int = 60) -> str:
    """Return a person's name with nothing but what names have; '' where nothing is left."""
    cleaned = NO_PERSON.sub(' ', plain(name, 4 * limit))
    short = one_line(cleaned, limit).strip(" .,'-")
    return f'{PERSON_BEGIN}{short}{PERSON_END}' if short else ''


def fits(sentence: str) -> bool:
    """
    Whether a text may stand as a sentence of ours.

    It is plain words and names, of a length that people read: no quotation, no
    address, no link, no markup, nothing that reads as a trailer or an order.
    """
    return LABEL.match(sentence) is None and _is_plain(sentence)


def _is_plain(sentence: str) -> bool:
    if not sentence.isprintable() or not 0 < len(sentence) <= LONGEST_SENTENCE:
        return False
    words = sentence.split()
    return (
        all(len(one) <= LONGEST_NAME for one in words)
        and all(WORD.fullmatch(one) for one in words)
        and not any(NO_WORD.search(one) for one in words)
    )


def within(text: str, limit: int = 300) -> str:
    """Return what somebody else wrote for a report that has but one line: in quotation marks."""
    return f'"{one_line(text, limit).replace(chr(34), chr(39))}"'


def placed(path: str) -> str:
    """Return a path for a report: in quotation marks where it is more than a path."""
    return path if PATH.fullmatch(path) and len(path) <= 200 else within(path, 200)


def reported(text: str, limit: int = 300) -> str:
    """Return a reason for one line of a report: in quotation marks unless it is a sentence."""
    said = one_line(text, limit)
    return said if _is_plain(said) else within(said, limit)


def fold(text: str, width: int = WIDTH) -> str:
    """
    Wrap our sentences; what is marked in them is one word.

    No line begins with a word that could make it a trailer: the word before
    such a one goes along.
    """
    return '\n'.join(_folded(one, width) for one in str(text).split('\n'))


def _folded(paragraph: str, width: int) -> str:
    glued = paragraph
    for runs in (RUN, NAME_RUN):
        glued = runs.sub(lambda run: run[0].replace(' ', GAP), glued)
    words = glued.split()
    lines: list[list[str]] = [[]]
    for number, word in enumerate(words, 1):
        head, last = [word], number == len(words)
        if lines[-1] and _length([*lines[-1], word]) > width:
            while _bound(head[0], last) and len(lines[-1]) > 1:
                head.insert(0, lines[-1].pop())
                last = False
            if not _bound(head[0], last):
                lines.append(head)
                continue
        lines[-1] += head
    return '\n'.join(' '.join(line) for line in lines).replace(GAP, ' ')


def _length(words: list[str]) -> int:
    return len(' '.join(words).translate(MARKS))


def _bound(word: str, last: bool) -> bool:
    """Whether a line that begins with a word would be read as more than a sentence."""
    bare = word.translate(MARKS)
    return (bare.endswith(':') and not last) or not OPENS.match(bare) or bare.startswith('--')


def settled(text: str) -> str:
    """
    Take the marks off a text that a template made, so that each line has one voice.

    What somebody else wrote stays in a line that begins with `> ` or `| `, and
    as a name within one of ours; anything else goes into a line of its own
    below. No line is longer than a mail may have.
    """
    lines: list[str] = []
    for line in text.split('\n'):
        lines += _settled(line)
    return '\n'.join(lines)


def _settled(line: str) -> Iterable[str]:
    bare = line.translate(MARKS)
    if bare == line:
        return (_cut(line),)
    if QUOTED.match(bare):
        return (_cut(bare),)
    moved: list[str] = []

    def kept(run: re.Match[str]) -> str:
        if not run[1] or named(run[1]) == run[1]:
            return run[1]
        moved.append(f'| {run[1]}'.translate(MARKS))
        return '…'

    own = RUN.sub(kept, line).translate(MARKS)
    if LABEL.match(own):
        return (_cut(f'| {own.strip()}'), *map(_cut, moved))
    return (_cut(own), *map(_cut, moved))


def _cut(line: str) -> str:
    if len(line) <= MOST_BYTES // 4:
        return line
    raw = line.encode('utf-8', 'replace')
    if len(raw) <= MOST_BYTES:
        return line
    return raw[: MOST_BYTES - 3].decode('utf-8', 'ignore') + '…'
