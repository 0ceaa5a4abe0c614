"""
The trailers of a commit message: pure.

Answers what liblore's `find_trailers` does, line by line, in time that grows with
the length and nothing else: its patterns take minutes for one line of 5,000
characters, and a stranger writes the message. One thing is otherwise: a title of
`Fixes:` that is never closed takes no other trailer with it.
"""

import re

IGNORED = frozenset({'phone', 'email', 'mail', 'e-mail', 'prerequisite-message-id'})
OF_MAILS = frozenset({'from', 'subject', 'date'})
"""Headers of a patch, not trailers, once anything else was said."""
HASH = re.compile(r'[0-9a-f]{6,}')
OPENED = re.compile(r'[0-9a-f]+\s+\([^)]+')


def trailers(text: str) -> list[tuple[str, str]]:
    """Return the lines `Name: value` of a text, without comments (`# …`) after a value."""
    found: list[tuple[str, str]] = []
    others = after = False
    for line in _joined(text.split('\n-- \n', 1)[0].strip()):
        one = _split(line)
        if one is None:
            # `[name: what he changed]` goes with the trailer before it.
            others = others or not (after and _is_note(line))
            after = False
            continue
        name, value = one
        lower = name.lower()
        if lower in IGNORED or (others and lower in OF_MAILS):
            continue
        if lower == 'fixes' and not HASH.match(value):
            continue
        after = True
        found.append((name, _uncommented(value).strip()))
    return found


def _joined(text: str) -> list[str]:
    """Return the lines; an address or the end of a title that was wrapped is joined again."""
    lines: list[str] = []
    for line in text.split('\n'):
        before = _split(lines[-1], indented=False) if lines else None
        if before is not None and (
            (_is_address(line) and '<' not in before[1])
            or (OPENED.fullmatch(before[1]) and ')' in line)
        ):
            lines[-1] += f' {line}'
        else:
            lines.append(line)
    return lines


def _split(line: str, *, indented: bool = True) -> tuple[str, str] | None:
    if not indented and line[:1].isspace():
        return None
    words = line.strip('\r').split(None, 1)
    if len(words) < 2 or not words[0].endswith(':') or len(words[0]) < 3:
        return None
    name = words[0][:-1]
    return (name, words[1]) if name[0].isalnum() or name[0] == '_' else None


def _is_address(line: str) -> bool:
    return len(line) > 2 and line[0] == '<' and line[-1] == '>' and line.find('>') == len(line) - 1


def _is_note(line: str) -> bool:
    stripped = line.strip()
    return stripped.startswith('[') and stripped.endswith(']')


def _uncommented(value: str) -> str:
    before, sign, comment = value.rpartition('#')
    said = before.rstrip()
    return said if sign and comment and said and said != before else value
