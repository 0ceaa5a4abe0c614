"""
Patches that do not apply, each for its own reason, and ones that want another below them.

Sent as git would send them, then spoilt: made against another text, damaged by
a mailer, for a file that is not there. What git places elsewhere all the same
(an offset, lines that moved) is no mistake and is not planted.
"""

import re
from collections.abc import Callable, Iterator

from bot.model import Snapshot
from bot.rule import Edit
from tests.evaluate.planting import Overlay, Plant, mailed, text

FILES = (
    'mm/vma.c', 'mm/util.c', 'mm/mmap.c', 'mm/vma.h', 'mm/shmem.c', 'include/linux/mm.h',
    'include/linux/mm_types.h', 'include/linux/fs.h', 'fs/aio.c', 'drivers/char/mem.c',
    'drivers/uio/uio.c', 'tools/testing/vma/include/dup.h',
)  # fmt: skip
NEEDED = '#define PLANTED_BEFORE 1'


def plants(tree: Snapshot) -> Iterator[Plant]:
    for n, path in enumerate(FILES):
        whole = text(tree, path)
        at = _place(whole)
        if not at:
            continue
        edit = Edit({path: _edited(whole, at)}, f'mm: change {path}\n\nA line more.')
        good = mailed(tree, edit)
        ways = list(SPOILT)
        for k in (n, n + 5):
            how = ways[k % len(ways)]
            if (spoilt := SPOILT[how](good)) != good:
                yield Plant(f'{path}: {how}', (edit,), diffs=(spoilt,))
        yield from _wants(tree, path, whole, at)


def _place(whole: str) -> int:
    """Return a line in the middle that stands once, as do its neighbours."""
    lines = whole.split('\n')
    for at in range(len(lines) // 2, len(lines) - 5):
        near = lines[at - 3 : at + 4]
        if all(len(line) > 12 and lines.count(line) == 1 for line in near):
            return at
    return 0


def _edited(whole: str, at: int) -> str:
    lines = whole.split('\n')
    return '\n'.join([*lines[:at], '#define PLANTED 1', *lines[at + 1 :]])


def _wants(tree: Snapshot, path: str, whole: str, at: int) -> Iterator[Plant]:
    """A patch on top of one that is not in the tree: sent without it, second, and with it named."""
    lines = whole.split('\n')
    below = '\n'.join([*lines[:at], NEEDED, *lines[at + 1 :]])
    on_top = '\n'.join([*lines[:at], NEEDED, '#define PLANTED 2', *lines[at + 1 :]])
    edit = Edit({path: on_top}, f'mm: more of {path}\n\nOn top of another patch.')
    diff = mailed(Overlay(tree, {path: below}), edit)
    yield Plant(f'{path}: the patch before is missing', (edit,), diffs=(diff,))
    first = Edit({path: whole + '\n/* The end. */\n'}, f'mm: end {path}\n\nIn words.')
    yield Plant(
        f'{path}: only the second does not', (first, edit), diffs=(mailed(tree, first), diff)
    )
    yield Plant(f'{path}: on top of another patch', (edit,), before={path: below}, on_top=True)


def _removed(diff: bytes) -> bytes:
    """The removed line reads otherwise."""
    return re.sub(rb'^-(?!--)', b'-planted_', diff, count=1, flags=re.M)


def _context(diff: bytes) -> bytes:
    """All lines around it read otherwise."""
    return re.sub(rb'^ (?=.)', b' planted_', diff, flags=re.M)


def _elsewhere(diff: bytes) -> bytes:
    """The file has another name."""
    return re.sub(rb'([ab]/[\w/-]+)(\.[ch])\b', rb'\1-planted\2', diff)


def _there(diff: bytes) -> bytes:
    """The file is said to be new."""
    added = re.findall(rb'^\+(?!\+\+).*\n', diff, flags=re.M)
    head = diff.partition(b'\n')[0]
    name = re.search(rb' b/(\S+)', head)
    assert name is not None
    return (
        head
        + b'\nnew file mode 100644\n--- /dev/null\n+++ b/'
        + name[1]
        + b'\n@@ -0,0 +1,%d @@\n' % len(added)
        + b''.join(added)
    )


def _wrapped(diff: bytes) -> bytes:
    """A mailer wrapped the lines of the hunk."""
    return re.sub(rb'^([ +-][^\n]{6,}?)[ \t]([^\n]+)$', rb'\1\n\2', diff, flags=re.M)


def _blanks(diff: bytes) -> bytes:
    """A mailer took away the leading white space of every line."""
    return re.sub(rb'^([ +-])\s*(\w)', rb'\1        \2', diff, flags=re.M)


def _short(diff: bytes) -> bytes:
    """The end is cut off."""
    return b''.join(diff.splitlines(keepends=True)[:-2])


def _counts(diff: bytes) -> bytes:
    """The hunk says that it is longer than it is."""
    return re.sub(rb'^@@ -(\d+),(\d+) ', rb'@@ -\1,9\2 ', diff, flags=re.M)


def _empty(_: bytes) -> bytes:
    """There is no diff at all."""
    return b'See the attachment.\n'


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    'the line that goes reads otherwise': _removed,
    'the lines around it read otherwise': _context,
    'no such file': _elsewhere,
    'a new file that is there': _there,
    'wrapped by a mailer': _wrapped,
    'white space changed by a mailer': _blanks,
    'cut off': _short,
    'wrong counts': _counts,
    'no diff': _empty,
}
