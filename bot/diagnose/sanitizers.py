"""
What ASan, UBSan and LSan report.

Answers what each report says, and which frame of its stack is to blame: the
kernel's code before the tests'. Leaves the addresses out, and what a report
makes of the run to `runs`.
"""

import re
from collections.abc import Iterator

from bot.diagnose.lines import WHERE, relative, straight_quotes
from bot.model import Diagnostic
from bot.plain import one_line

LEAK, LEAKS = 'Direct leak of ', 2000
"""What begins LSan's account of one leak, and the lines in which those are looked for."""

SANITIZER = re.compile(r'^==\d+==\s*ERROR: (?P<who>\w+Sanitizer):? (?P<text>.*)$')
PLACE = re.compile(r' on (?:unknown )?address(?= 0x| \(pc).*| on 0x.*')
FRAME = re.compile(
    r'^\s*#(?P<depth>\d+) 0x[0-9a-f]+ (?:in (?P<function>[\w.$]+) ?)?'
    r'(?:(?P<path>/[^\s:()]+):(?P<line>\d{1,9}))?(?P<module>\(/build/)?'
)


def reports(lines: list[str], folder: str) -> Iterator[Diagnostic]:
    """Yield what the sanitizers reported, in the order of the output."""
    for number, line in enumerate(lines):
        if ': runtime error: ' in line:
            before, _, text = line.partition(': runtime error: ')
            if found := WHERE.match(before.rpartition(' ')[2]):
                frames = tuple(_stack(lines, number + 1, folder, 0))
                if not any(path for _, path, _ in frames):
                    function = frames[0][0] if frames else ''
                    frames = ((function, relative(found['path'], folder), int(found['line'])),)
                yield _report(f'UBSan: {_without_addresses(text)}', frames)
        elif found := SANITIZER.match(line):
            said = f'{found["who"]}: {PLACE.sub("", _without_addresses(found["text"]))}'
            leaks = tuple(_leaks(lines, number)) if found['who'] == 'LeakSanitizer' else ()
            for at in leaks or (number,):
                yield _report(said, tuple(_stack(lines, at + 1, folder, 12)))


def _leaks(lines: list[str], number: int) -> Iterator[int]:
    for at in range(number + 1, min(number + LEAKS, len(lines))):
        if lines[at].startswith('SUMMARY: ') or SANITIZER.match(lines[at]):
            return
        if lines[at].startswith(LEAK):
            yield at


_Frame = tuple[str, str | None, int]
"""Function ('' where it is not known), path in the tree (None: it has none), line."""


def _stack(lines: list[str], start: int, folder: str, near: int) -> Iterator[_Frame]:
    """Yield the frames in the tree of the stack that begins within `near` lines."""
    began = False
    for number in range(start, min(start + 256, len(lines))):
        found = FRAME.match(lines[number])
        if found is None:
            if began or number >= start + near:
                return
            continue
        began = True
        # A clone (`f.part.0`) is called as the function that it was made of.
        function = (found['function'] or '').partition('.')[0]
        path = relative(found['path'], folder) if found['path'] else None
        if path is not None or (found['module'] and function):
            yield function, path, int(found['line'] or 0)


def _report(said: str, frames: tuple[_Frame, ...]) -> Diagnostic:
    """Blame the first frame in the kernel's code, else in the tests', else one without place."""
    ordered = sorted(frames, key=lambda one: 2 if one[1] is None else one[1].startswith('tools/'))
    if not ordered:
        return Diagnostic('sanitizer', said)
    function, path, line = ordered[0]
    if function:
        said = f'{said} in {one_line(function)}()'
    return Diagnostic('sanitizer', said, path, line if path else None, one_line(function) or None)


def _without_addresses(text: str) -> str:
    return re.sub(r'\b0x[0-9a-f]+', '0x…', straight_quotes(text))


def is_asan(said: Diagnostic) -> bool:
    """Whether a report is one of ASan's, which stops the program."""
    return said.text.startswith('AddressSanitizer')
