"""
Keeping names of the machine out of what is kept, shown and mailed.

A build sees where a folder that is bound into its sandbox comes from, and the
device that it is on, in /proc/self/mountinfo, which cannot be covered: each
process has its own. Answers the same output without them. That is no wall: who
encodes what he reads gets it out, and learns where the cache is.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from bot.walls import Bind

HIDDEN = '[hidden]'
MOUNTS = Path('/proc/self/mountinfo')
CAGED = frozenset(('/', '/build', '/ccache', '/dev', '/proc', '/tmp', '/usr'))
"""Paths that mean something inside, too."""


def scrubber(binds: Iterable[Bind]) -> re.Pattern[str]:
    """Return what matches the names of the machine that a build with `binds` can read."""
    names = {name for name in _names(binds) if name not in CAGED}
    names |= {name.replace(' ', r'\040') for name in names}  # as mountinfo has it
    longest = sorted(names, key=lambda name: (-len(name), name))
    return re.compile(rf'(?<![\w.-])(?:{"|".join(map(re.escape, longest)) or "(?!)"})(?![\w-])')


def scrubbed(text: str, names: re.Pattern[str]) -> str:
    """Return `text` without the machine's names."""
    return names.sub(HIDDEN, text)


def _names(binds: Iterable[Bind]) -> Iterator[str]:
    """Yield devices and servers, and each bound folder, by path and by path within its device."""
    try:
        lines = MOUNTS.read_text('utf-8', 'surrogateescape').split('\n')
    except OSError:
        lines = []
    mounts: dict[str, str] = {}
    for line in lines:
        fields, _, rest = line.partition(' - ')
        words, (_, source, options) = fields.split(), [*rest.split(), '', '', ''][:3]
        if len(words) < 5:
            continue
        root, where = (word.replace(r'\040', ' ') for word in words[3:5])
        mounts[where] = root
        if '/' in source:
            yield source.replace(r'\040', ' ')
        for option in options.split(','):  # lowerdir=/…:/… of a container, addr=… of a server
            name, _, value = option.partition('=')
            yield from (one for one in value.split(':') if '/' in one)
            if name.endswith('addr') and value:
                yield value
    for bind in binds:
        path = str(bind.host.resolve())
        yield from {str(bind.host), path}
        for above in (path, *map(str, Path(path).parents)):
            if above in mounts:
                yield f'{mounts[above]}/{path[len(above) :]}'.replace('//', '/').rstrip('/')
                break
