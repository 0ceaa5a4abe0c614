"""
Names of code that a series mentions in prose: in commit messages and in comments.

What is quoted (code, logs, shell, titles of commits, URLs, paths, trailers), a
pattern (`foo_*()`), or a stand-in (`foo_xxx()`) is no mention. A comment's names
count only on lines that a patch adds.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from bot.model import Patch, Snapshot, Step, Subject
from bot.rule import edits

C_FILES = ('.c', '.h')
MOST = 3
"""Findings of a rule in one patch."""
LONG = 12
"""Characters of a name that two edits leave recognisable."""
BUDGET, CLOSE = 20, 400
"""Unknown names of a series that the like of is sought for, and words that are compared for one."""
WORDS = 3
"""Characters of a word, as part of a name."""
PASTED = 6
"""Characters of a fragment that is told from chance."""
AROUND = 160
"""Characters before and behind a name that say what is meant by it."""

MENTION = re.compile(
    r'(?<![\w/@$~+\\<{}\[\]*#?=^|)-])(?<!\w\.)(?<!\w::)(?<!\w>)'
    r'(?P<tag>(?:struct|union|enum)\s)?(?P<name>[A-Za-z_]\w{4,})(?P<call>\(\))?'
    r'(?![\w/@*\[{<>+\\$^=~|%-]|\.\w|::|\(s\)|,[^\s]{0,80}\})'
)
# Lines of a message that are no prose of its author's.
TRAILER = re.compile(
    r'(?:[A-Z][A-Za-z]*(?:-[A-Za-z]+)*-by|Fixes|Link|Closes|Cc|References|Bug\w*|Message-I[dD]'
    r'|Depends-on|Change-Id|base-commit|change-id|prerequisite-\S+|URL|Upstream|Cherry-picked)\s*:',
    re.I,
)
# (what begins with white space is quoted, unless it is an item of a list)
QUOTED = re.compile(r'\s(?!\s{0,3}(?:[-*o•]|\d+[.)])\s)|[$%>#|[+]|\w+@\w+[:$]|\S+:\d+:|diff |@@')
LOG = re.compile(
    r'0x[0-9a-fA-F]|\[ *\d+\.\d+\]|://|\b[RE]?[A-D]X:|Call Trace|\[inline\]|\bPID:|==='
)
# The list that an oops begins with: mailers wrap it, so it goes on to the end of its paragraph.
MODULES = re.compile(r'[>\s]*(?:\[[^\]]*\]\s*)?Modules linked in:')
ITEM = re.compile(r'\s{0,3}(?:[-*o•]|\d+[.)])\s')
CHANGES = re.compile(r'(?:changes|changelog|change log|since v\d|v\d+( ?->|:)|---)', re.I)
TITLE = re.compile(
    r'\(\s{0,9}"[^"]{0,300}"\s{0,9}\)|\b[0-9a-f]{7,40}\s{1,9}\(?"[^"]{0,300}"\)?'
    r'|"[^"]{0,200}\w: [^"]{0,200}"'
)
STAND_IN = re.compile(
    r'(?:^|_)(?:foo\d?|bar\d?|baz|qux|x+|y+|z+|n+|[A-Z]*XX+|[XYN]|pxx|pxd|p[XxYy]d|blah|something)(?:_|$)'
)
# (a string that has no end is one to the end of its line: time must not grow with its square)
COMMENT = re.compile(
    rb'/\*.*?(?:\*/|\Z)|//[^\n]*|"(?:\\.|[^"\\\n])*"?|\'(?:\\.|[^\'\\\n]){1,12}\'', re.S
)
WORD = re.compile(rb'[A-Za-z_]\w*')
MADE = re.compile(
    r'(?:trace|event|__tracepoint|__traceiter|sys|__se_sys|__do_sys|__x64_sys|ksys|SyS|CONFIG|__bpf|'
    r'class|DEFINE|DECLARE)_(\w+)'
)
"""What the kernel's own macros make of a name: trace_x(), sys_x(), CONFIG_X."""


ENDINGS = ('s', 'es', 'd', 'ed', 'ing')


@dataclass(frozen=True)
class Mention:
    """
    A name in the message (`path` None) or in a comment of patch `n`.

    `around` is the prose that it stands in.
    """

    n: int
    path: str | None
    line: int
    name: str
    form: Literal['call', 'tag', 'plain']
    around: str

    @property
    def shown(self) -> str:
        """Return the name as it was written."""
        return self.as_written(self.name)

    def as_written(self, name: str) -> str:
        """Write another name in the same form."""
        return f'{name}()' if self.form == 'call' else name


def mentions(subject: Subject) -> Iterator[Mention]:
    """Yield the names in the messages and added comments of the patches, in order."""
    patches = {patch.n: patch for patch in subject.series.patches}
    for step in subject.steps:
        if step.n in patches:
            yield from _in_message(patches[step.n])
        yield from _in_comments(step)


class Names:
    """What names there are: in the tree that a series begins with, and in the code that it adds."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._before = subject.steps[0].pre if subject.steps else None
        self._asked = 0

    @property
    def spent(self) -> bool:
        """Whether so much was sought that no more will be: a `None` of `like()` means nothing."""
        return self._asked >= BUDGET

    def known(self, name: str) -> bool:
        """Whether there is such a name, or one that it is a form of."""
        made = MADE.fullmatch(name)
        forms = [name, *([made[1]] if made else [])]
        forms += [name.removesuffix(one) for one in ENDINGS if name.endswith(one)]
        forms.append(f'{name}_')  # as `foo_*` writes it: the name of a family
        return any(self.exists(form) for form in forms) or self.pasted(name)

    def exists(self, name: str) -> bool:
        """Whether there is exactly this name."""
        return self.in_tree(name) or name in self._near

    def in_tree(self, name: str) -> bool:
        """Whether the name stands in the tree that the series begins with."""
        return self._before is None or self._before.knows(name)

    def pasted(self, name: str, *, whole: bool = True) -> bool:
        """
        Whether a macro may make the name, of a fragment of six characters or more.

        `whole`: the rest must be a word that exists.
        """
        for at in range(PASTED, len(name) - 1):
            for fragment, rest in ((f'{name[:at]}##', name[at:]), (f'##{name[-at:]}', name[:-at])):
                if self.in_tree(fragment) and (not whole or self.exists(rest)):
                    return True
        return False

    def like(self, name: str) -> str | None:
        """Return a name within two edits (one of a short name), None for none."""
        if self.spent:
            return None
        self._asked += 1
        most = 2 if len(name) >= LONG else 1
        third = len(name) // 3
        parts = (name[:third], name[third:-third], name[-third:])
        close = [
            other
            for other in self._near
            if abs(len(other) - len(name)) <= most and any(part in other for part in parts)
        ]
        found = {other: edits(name, other, most) for other in sorted(close)[:CLOSE]}
        tree = self._before.near(name) if self._before is not None else ()
        found |= {other: edits(name, other, most) for other in tree if other not in found}
        ranked = sorted(
            (distance, other not in self._near, other)
            for other, distance in found.items()
            if 0 < distance <= most and self._slip(name, other, distance)
        )
        return ranked[0][2] if ranked else None

    @cached_property
    def _near(self) -> set[str]:
        """The words that the series' files had before it, and those of their code after a step."""
        found: set[bytes] = set()
        for path in {diff.old_path for step in self._subject.steps for diff in step.files}:
            if self._before is not None:
                found.update(WORD.findall(text_of(self._before, path)))
        for step in self._subject.steps:
            for path in {diff.new_path for diff in step.files}:
                after = text_of(step.post, path)
                found.update(WORD.findall(code(after) if (path or '').endswith(C_FILES) else after))
        return {word.decode() for word in found}

    def _slip(self, name: str, other: str, distance: int) -> bool:
        """
        Whether one name is the other mistyped, and not a name of its own.

        That are members of a family that a number tells apart, a change of
        case, and one part of the name that is another word: set, test.
        """
        numbered = re.findall(r'\d', name) != re.findall(r'\d', other)
        if numbered and re.sub(r'\d', '', name) == re.sub(r'\d', '', other):
            return False
        if name.lower() == other.lower():
            return False
        mine, others = name.split('_'), other.split('_')
        if distance < 2 or len(mine) != len(others):
            return True
        differing = [one for one, two in zip(mine, others, strict=True) if one != two]
        return any(len(one) < WORDS or not self.exists(one) for one in differing)


def comments(text: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (line number of its begin, text) of each comment of a C file."""
    line, last = 1, 0
    for found in COMMENT.finditer(text):
        if found[0][:1] == b'/':
            line += text.count(b'\n', last, found.start())
            last = found.start()
            yield line, found[0]


@lru_cache(maxsize=64)
def code(text: bytes) -> bytes:
    """Return a C file without its comments, line for line; strings stay."""
    return COMMENT.sub(
        lambda found: b'\n' * found[0].count(b'\n') + b' ' if found[0][:1] == b'/' else found[0],
        text,
    )


def text_of(tree: Snapshot, path: str | None) -> bytes:
    """Return a file's bytes; none where there is no file."""
    return (tree.read(path) if path is not None else None) or b''


def _in_message(patch: Patch) -> Iterator[Mention]:
    lines = f'{patch.subject}\n\n{patch.message}'.split('\n')
    kept = list(_prose(lines))
    yield from _found(patch.n, None, kept)


def _prose(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Yield (number, line) of a message; lines that are no prose are empty."""
    fenced = item = listed = False
    for number, line in enumerate(lines, 1):
        if number > 2 and CHANGES.match(line):
            return
        item = bool(ITEM.match(line)) or (item and bool(line.strip()))
        if line.startswith(('```', '~~~')):
            fenced = not fenced
        quoted = QUOTED.match(line) and not (item and not line.startswith('\t'))
        listed = bool(MODULES.match(line)) or (listed and bool(line.strip()))
        if fenced or quoted or listed or TRAILER.match(line) or LOG.search(line):
            line = ''
        yield number, line


def _in_comments(step: Step) -> Iterator[Mention]:
    for diff in step.files:
        path = diff.new_path
        if path is None or not path.endswith(C_FILES) or not diff.added:
            continue
        added = {number for number, _ in diff.added}
        gone = {line.strip() for _, line in diff.removed}
        for first, comment in comments(text_of(step.post, path)):
            lines = comment.decode('utf-8', 'replace').split('\n')
            numbers = range(first, first + len(lines))
            if added.isdisjoint(numbers):
                continue
            shown = [
                (number, '' if LOG.search(line) else re.sub(r'^\s*/?\*+/?', ' ', line))
                for number, line in zip(numbers, lines, strict=True)
            ]
            for mention in _found(step.n, path, shown):
                own = lines[mention.line - first].strip().encode()
                if mention.line in added and own not in gone:
                    yield mention


def _found(n: int, path: str | None, lines: list[tuple[int, str]]) -> Iterator[Mention]:
    """Yield the names in some lines of prose, which may have gone on from line to line."""
    text = '\n'.join(line for _, line in lines)
    text = TITLE.sub(lambda found: re.sub(r'[^\n]', ' ', found[0]), text)
    starts, at = [], 0
    for number, line in lines:
        starts.append((at, number))
        at += len(line) + 1
    place = 0
    for found in MENTION.finditer(text):
        while place + 1 < len(starts) and starts[place + 1][0] <= found.start('name'):
            place += 1
        name = found['name']
        form: Literal['call', 'tag', 'plain'] = (
            'call' if found['call'] else 'tag' if found['tag'] else 'plain'
        )
        if STAND_IN.search(name):
            continue
        around = text[max(0, found.start() - AROUND) : found.end() + AROUND]
        yield Mention(n, path, starts[place][1], name, form, ' '.join(around.split()))
