"""
Trees and changes by chance, as commits: what the inputs of the `inputs` campaign are made from.

Names are those that trip programs: with blanks and accents, a folder where a
file was, links, submodules, executables, CRLF, no newline at the end, binary.
"""

from dataclasses import dataclass
from random import Random

import pygit2

REGULAR, EXECUTABLE, LINK, SUBMODULE = 0o100644, 0o100755, 0o120000, 0o160000
Files = dict[str, tuple[int, bytes]]
"""(mode, bytes) by path; of a submodule its commit's id."""

NAMES = (
    'mm/vma.c', 'mm/vma.h', 'mm/mmap.c', 'mm/util.c', 'tools/testing/vma/main.c', 'tools/run me.sh',
    'mm/größe.c', 'a', 'a/b', 'a/b/c', 'Documentation/two words/page.rst', 'lib/link', 'logo.bin',
    'module', 'x/y/z/deep.c', 'README', 'mm/tab\tname.c', 'mm/"quoted".c',
)  # fmt: skip
WORDS = (
    'int', 'vma', 'start', 'end', 'return', 'flags', 'struct', 'mm', 'goto', 'out', 'size', '=',
    '->', '&&', 'unlock', 'NULL', '0', 'pgoff', 'merge', 'äöü', 'len', '%s', '=3D', 'From',
)  # fmt: skip
PEOPLE = (
    ('A Developer', 'dev@example.org'), ('Jörg Müller', 'jm@example.org'),
    ('Doe, Jane', 'jane@example.org'), ('B. Other (Firm)', 'other@example.org'),
    ('Łukasz Żak', 'zak@example.org'),
)  # fmt: skip
SUBJECTS = (
    'mm: change something', 'mm/vma: größere Grenzen', 'tools: do it', 'mm: [x] in brackets',
    'mm: a subject that is so long that a mailer has to fold it somewhere behind its middle part',
    'Revert "mm: change something"', 'mm: vma: a: b', 'mm: fix 1/2 of it', 'x',
)  # fmt: skip
BODIES = (
    '', 'Because.\n', 'Why it is so:\n\n  - one\n  - two\n', 'Größe und Länge.\n',
    '> quoted\nand answered.\n', 'A line of many words that goes on ' * 6 + '\n',
    'The text says\n\n\tdiff it\n\nand goes on.\n', 'From here on it is as it was.\n',
    'Ends = like this=\n', '  indented first\n',
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """A commit to be: its tree, and what was done (`rename`, `mode`, …)."""

    files: Files
    did: frozenset[str]


def line(choose: Random) -> bytes:
    """Return a line of a file."""
    if choose.random() < 0.25:
        return choose.choice([b'', b'}', b'{', b'\t}', b'--', b'---', b'-- ', b'+', b'From x'])
    words = ' '.join(choose.choice(WORDS) for _ in range(choose.randint(1, 7)))
    blanks = choose.choice(['', '\t', '\t\t', '  '])
    return f'{blanks}{words}{choose.choice(["", "", "", " "])}'.encode()


def text(choose: Random, most: int = 50) -> bytes:
    """Return a file of text: LF or CRLF, with or without a newline at its end."""
    lines = [line(choose) for _ in range(choose.randint(1, most))]
    end = b'\r\n' if choose.random() < 0.08 else b'\n'
    whole = end.join(lines) + end
    return whole.removesuffix(b'\n') if choose.random() < 0.1 else whole


def binary(choose: Random) -> bytes:
    """Return bytes that git takes for binary."""
    return b'\0' + choose.randbytes(choose.randint(10, 300))


def file(choose: Random) -> tuple[int, bytes]:
    """Return a new file of any kind."""
    chance = choose.random()
    if chance < 0.07:
        return LINK, choose.choice([b'target', b'../mm/vma.c', 'größe'.encode()])
    if chance < 0.14:
        return REGULAR, binary(choose)
    if chance < 0.18:
        return SUBMODULE, choose.randbytes(20).hex().encode()
    if chance < 0.21:
        return REGULAR, b''
    if chance < 0.24:
        return REGULAR, text(choose).replace('äöü'.encode(), 'äöü'.encode('latin-1'))
    return (EXECUTABLE if chance < 0.34 else REGULAR), text(choose)


def tree(choose: Random) -> Files:
    """Return a tree of a few files."""
    found: Files = {}
    for name in choose.sample(NAMES, choose.randint(2, 7)):
        _put(found, name, file(choose))
    _put(found, 'mm/vma.c', (REGULAR, text(choose, 80)))
    return found


def change(choose: Random, files: Files) -> Change:
    """Change a tree in one to three ways."""
    new, did = dict(files), set[str]()
    for _ in range(choose.choice([1, 1, 2, 3])):
        did.add(_one(choose, new))
    if new == files:
        name = next((one for one, it in new.items() if it[0] in (REGULAR, EXECUTABLE)), 'mm/more.c')
        mode, content = new.get(name, (REGULAR, b''))
        _put(new, name, (mode, b'more\n' + content))
        did.add('edit')
    return Change(new, frozenset(did))


def edited(choose: Random, content: bytes, often: int = 3) -> bytes:
    """Change lines of a text."""
    end = b'\r\n' if b'\r\n' in content else b'\n'
    lines = content.split(end)
    for _ in range(choose.randint(1, often)):
        at = choose.randrange(len(lines))
        match choose.randrange(3):
            case 0:
                lines[at:at] = [line(choose) for _ in range(choose.randint(1, 4))]
            case 1:
                lines[at : at + choose.randint(1, 3)] = [line(choose)]
            case _:
                del lines[at : at + choose.randint(1, 3)]
                lines = lines or [b'']
    return end.join(lines)


def _one(choose: Random, files: Files) -> str:
    texts = [name for name, (mode, content) in files.items()
             if mode in (REGULAR, EXECUTABLE) and b'\0' not in content]  # fmt: skip
    name = choose.choice(sorted(files)) if files else 'mm/vma.c'
    chance = choose.random()
    if chance < 0.55 and texts:
        name = choose.choice(sorted(texts))
        mode, content = files[name]
        files[name] = (mode, edited(choose, content))
        return 'crlf-file' if b'\r\n' in content else 'edit'
    if chance < 0.65 or not files:
        _put(files, choose.choice(NAMES), file(choose))
        return 'new'
    mode, content = files[name]
    if chance < 0.72:
        del files[name]
        return 'delete'
    if chance < 0.82:
        del files[name]
        content = edited(choose, content, 1) if name in texts and choose.random() < 0.5 else content
        _put(files, choose.choice(NAMES) + choose.choice(['', ' moved', '.c']), (mode, content))
        return 'rename'
    if chance < 0.89 and mode in (REGULAR, EXECUTABLE):
        files[name] = (REGULAR if mode == EXECUTABLE else EXECUTABLE, content)
        return 'mode'
    if chance < 0.94:
        _put(files, f'{name}/inside', (REGULAR, text(choose)))
        return 'folder'
    if mode == SUBMODULE:
        files[name] = (mode, choose.randbytes(20).hex().encode())
        return 'submodule'
    files[name] = (REGULAR, binary(choose))
    return 'binary'


def _put(files: Files, name: str, it: tuple[int, bytes]) -> None:
    """Put a file, and take away what is in its place, above or below it."""
    parts = name.split('/')
    for depth in range(1, len(parts)):
        files.pop('/'.join(parts[:depth]), None)
    for below in [one for one in files if one.startswith(f'{name}/')]:
        del files[below]
    files[name] = it


def write(repo: pygit2.Repository, files: Files) -> pygit2.Oid:
    """Write a tree."""
    below: dict[str, Files] = {}
    builder = repo.TreeBuilder()
    for path, (mode, content) in files.items():
        first, slash, rest = path.partition('/')
        if slash:
            below.setdefault(first, {})[rest] = (mode, content)
        elif mode == SUBMODULE:
            builder.insert(first, pygit2.Oid(hex=content.decode()), pygit2.enums.FileMode(mode))
        else:
            builder.insert(first, repo.create_blob(content), pygit2.enums.FileMode(mode))
    for name, inner in below.items():
        builder.insert(name, write(repo, inner), pygit2.enums.FileMode.TREE)
    return builder.write()


def commit(
    repo: pygit2.Repository, choose: Random, files: Files, message: str,
    parent: pygit2.Oid | None,
) -> pygit2.Oid:  # fmt: skip
    """Commit a tree by somebody."""
    name, address = choose.choice(PEOPLE)
    when = 1_774_000_000 + choose.randrange(10**6)
    author = pygit2.Signature(name, address, when, 60 * choose.choice([0, 0, 60, -420]))
    committer = pygit2.Signature(*PEOPLE[0], when, 0)
    parents = [parent] if parent is not None else []
    return repo.create_commit(None, author, committer, message, write(repo, files), parents)


def message(choose: Random, subject: str) -> str:
    """Return a commit message."""
    name, address = choose.choice(PEOPLE)
    body = choose.choice(BODIES)
    signed = f'Signed-off-by: {name} <{address}>\n'
    return f'{subject}\n\n{body}' + ('\n' if body else '') + signed
