"""
A file as the preprocessor may leave it: with the first, and with the last branch of each `#if`.

A statement that begins under an `#ifdef` and ends below its `#endif` is none
that can be parsed as it is. Each variant is as long as the text, byte for
byte, with blanks in the place of what is left out, so that positions agree.
"""

import re
from functools import lru_cache

DIRECTIVE = re.compile(rb'[ \t]*#[ \t]*(ifdef|ifndef|if|elif|else|endif)\b(.*)')
NEVER = re.compile(rb'\s*0\s*(?:/\*.*)?')


@lru_cache(maxsize=16)
def variants(text: bytes) -> tuple[bytes, ...]:
    """Return the variants of a text that has branches, none for one without."""
    if b'#if' not in text and b'# if' not in text:
        return ()
    lines = text.split(b'\n')
    return tuple(dict.fromkeys(b'\n'.join(_chosen(lines, last=last)) for last in (False, True)))


def _chosen(lines: list[bytes], *, last: bool) -> list[bytes]:
    out: list[bytes] = []
    kept: list[bool] = []  # for each `#if` around, whether this branch of it is kept
    continued = False
    for line in lines:
        found = None if continued else DIRECTIVE.match(line)
        blank = continued or found is not None
        continued = blank and line.rstrip().endswith(b'\\')
        if found is not None:
            word = found[1]
            if word == b'endif':
                del kept[-1:]
            elif word in (b'if', b'ifdef', b'ifndef'):
                kept.append(not last and not (word == b'if' and NEVER.fullmatch(found[2])))
            elif kept:
                kept[-1] = last and word == b'else'
        out.append(b' ' * len(line) if blank or not all(kept) else line)
    return out
