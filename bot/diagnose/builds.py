"""
What gcc, clang, ld, lld and make said of a build (in the C locale).

Answers which errors and warnings a build's output has, and whether it failed
for want of a file, a library or a header. Leaves the flags that it was built
with to `flags`, and what the tests then say to `runs`.
"""

import re
from collections.abc import Iterator

from bot.diagnose.lines import MOST, WHERE, WIDTH, each_once, lines_of, relative, straight_quotes
from bot.model import Diagnostic
from bot.plain import one_line

COMPILER = re.compile(
    r'^(?P<path>[^\s:]+\.[chS]):(?P<line>\d{1,9})(?::\d+)?: '
    r'(?P<kind>fatal error|error|warning): (?P<text>.*)$'
)
DRIVER = re.compile(
    r'^(?:[^\s:]*/)?(?:[\w.]+-){0,4}(?:cc1|cc|gcc|clang|c99)(?:-\d+)?: (?:fatal )?error: '
    r'(?!linker command failed)(?P<text>.*)$'
)
LINKER = re.compile(
    r"(?P<text>undefined reference to|multiple definition of) [`'\"](?P<symbol>[\w.$]+)"
)
LLD = re.compile(
    r'^\S*(?:ld|lld|mold): error: '
    r'(?P<text>undefined symbol|duplicate symbol): (?P<symbol>[\w.$]+)'
)
LIBRARY = re.compile(
    r'^\S*ld(?:\.\w+)?: (?:error: )?'
    r'(?P<text>(?:cannot find|unable to find library) -l(?P<symbol>[^\s:]+)(?:: .*)?)$'
)
MISSING_HEADER = re.compile(
    r"fatal error: '?((?:urcu|sanitizer|stdlib|stdio)[\w./+-]*)(?:: No such|' file not found)"
)
MAKE = re.compile(r'^g?make(?:\[\d+\])?: \*\*\* (?P<text>No rule to make target .*)$')
MAKEFILE = re.compile(r'^(?P<path>[^\s:]+):(?P<line>\d{1,9}): \*\*\* (?P<text>.*)$')
RECIPE = re.compile(
    r'^g?make(?:\[\d+\])?: \*\*\* \[(?P<path>[^\s:\]]+):(?P<line>\d{1,9}): '
    r'(?P<target>[^\]]+)\] (?P<text>Error \d+|[A-Z][\w ]*)'
)
QUOTED = re.compile(r'^\s*(\d+) \|(.*)$')
SYMBOL = re.compile(
    r'(?:implicit declaration of function|unknown type name|(?:has )?no member named'
    r'|read-only member|assignment of member|assign to non-static data member'
    r'|conflicting types for|redefinition of|invalid use of undefined type'
    r'|incomplete definition of type|has incomplete type|storage size of'
    r'|call to undeclared function|use of undeclared identifier|static declaration of'
    r'|no previous (?:prototype|declaration) for|unused (?:variable|function|parameter)|variable'
    r'|too (?:few|many) arguments to function'
    r"|passing argument \d+ of) '(?:(?:struct|union|enum) )?(\w+)'"
    r"|^'(\w+)' (?:undeclared|defined but not used|used but never defined|(?:is|may be) used)"
)
MISSING_FILE = re.compile(
    r'No such file or directory|No rule to make target|file not found|cannot open'
)


def of_build(output: str, folder: str) -> tuple[tuple[Diagnostic, ...], tuple[Diagnostic, ...]]:
    """Return (errors, warnings) of a build in `folder`, each once."""
    lines = lines_of(output)
    found = each_once(_build_lines(lines, folder), 2 * MOST)
    errors = tuple(one for one in found if one.kind == 'error')
    warnings = tuple(one for one in found if one.kind == 'warning')
    return errors or each_once(_recipes(lines, folder)), warnings


def misses_a_file(output: str) -> bool:
    """Whether a build failed for want of a file, which a wider layout might have."""
    return MISSING_FILE.search(output) is not None


def _build_lines(lines: list[str], folder: str) -> Iterator[Diagnostic]:
    for number, line in enumerate(lines):
        if ': ' not in line:
            continue
        if found := COMPILER.match(line):
            text = straight_quotes(found['text'])
            named = SYMBOL.search(text)
            yield Diagnostic(
                'warning' if found['kind'] == 'warning' else 'error',
                text,
                relative(found['path'], folder),
                int(found['line']),
                (named[1] or named[2]) if named else None,
                _quoted(lines, number, found['line']),
            )
        elif (found := LINKER.search(line)) and line[: found.start()][-2:] in ('', ': '):
            # `LD: OBJECT:PATH:LINE: text`, with as much before the text as ld knows.
            before = line[: found.start()].rstrip(': ').rpartition(' ')[2].rsplit(':', 2)
            text, place = f"{found['text']} '{found['symbol']}'", _place(before[-2:], folder)
            yield Diagnostic('error', one_line(text), *place, found['symbol'])
        elif found := LLD.match(line):
            text, place = f'{found["text"]}: {found["symbol"]}', _referenced(lines, number, folder)
            yield Diagnostic('error', one_line(text), *place, found['symbol'])
        elif found := LIBRARY.match(line) or MAKE.match(line) or DRIVER.match(line):
            yield Diagnostic('error', straight_quotes(found['text']))
        elif found := MAKEFILE.match(line):
            path = relative(found['path'], folder)
            yield Diagnostic('error', straight_quotes(found['text']), path, int(found['line']))


def _recipes(lines: list[str], folder: str) -> Iterator[Diagnostic]:
    """Yield where make stopped: all there is to say where no tool named an error."""
    for line in lines:
        if found := RECIPE.match(line):
            text = one_line(f"the recipe of '{found['target']}' fails: {found['text']}")
            path = relative(found['path'], folder)
            yield Diagnostic('error', text, path, int(found['line']))


def _quoted(lines: list[str], number: int, at: str) -> str | None:
    """Return the source line that is quoted below a message, as gcc and as old clangs do it."""
    below, marks = (lines[n][:WIDTH] if n < len(lines) else '' for n in (number + 1, number + 2))
    if quoted := QUOTED.match(below):
        return one_line(quoted[2]) if quoted[1] == at else None
    return one_line(below) if '^' in marks and not marks.strip(' \t~^') else None


def _place(words: list[str], folder: str) -> tuple[str | None, int | None]:
    """Return the place that `[PATH, LINE]` is, if it is one in the tree."""
    if len(words) != 2 or not WHERE.match(':'.join(words)):
        return None, None
    path = relative(words[0], folder) if words[0].endswith(('.c', '.h', '.S')) else None
    return (path, int(words[1])) if path is not None else (None, None)


def _referenced(lines: list[str], number: int, folder: str) -> tuple[str | None, int | None]:
    """Return lld's `>>> referenced by main.c:1 (/build/…/main.c:1)`."""
    for line in lines[number + 1 : number + 5]:
        if line.startswith('>>> '):
            place = _place(line.rstrip(')').rpartition('(')[2].split(':'), folder)
            if place == (None, None):
                place = _place(line.rpartition(' ')[2].split(':'), folder)
            if place != (None, None):
                return place
    return None, None
