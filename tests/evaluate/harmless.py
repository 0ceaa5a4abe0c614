"""
Patches that do no harm, generated over a real kernel; and files that a patch leaves as they are.

A kind is a name in `KINDS`; `patches()` makes its patches, the same for the
same seed. Where one changes a definition that the VMA tests copy, the copy
moves along: leaving it behind would be drift.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise

from bot.csyntax import Definition, Function, parse
from bot.csyntax.syntax import walk
from bot.model import AppliedSeries, FileDiff, Patch, Series, Snapshot, Step, Subject
from bot.rule import AUTHOR, Edit, diff_of
from rules import _copies as copies
from rules.struct_doc_stale import QUOTE
from tests.evaluate.drivers import drivers
from tests.evaluate.planting import BASE, Overlay, mentioning, text

CHUNK = 40
# How often a place for a patch is looked for: a small tree may have none.
TRIES = 1000
HEADERS = (
    'mm',
    'mm_types',
    'fs',
    'mman',
    'rmap',
    'ksm',
    'mmap_lock',
    'pagemap',
    'huge_mm',
    'hugetlb',
)
TESTS = 'tools/testing/vma'
CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
# In these a local's name may be a member's.
MEMBERS = r'container_of|offsetof|\w*_entry\w*|\w*for_each\w*|struct_size\w*|flex\w*|\w*typeof'


@dataclass(frozen=True)
class Harmless:
    """One patch or series, of a kind."""

    kind: str
    name: str
    patches: tuple[Edit, ...]


@dataclass(frozen=True)
class Untouched:
    """Files that a patch names; it changes nothing in them, or moves all of it by a line."""

    kind: str
    paths: tuple[str, ...]
    subject: Subject


def patches(tree: Snapshot, kind: str, seed: int) -> Iterator[Harmless]:
    """Yield the patches of one kind."""
    make, count = _MAKERS[kind]
    chance = random.Random(f'{kind} {seed}')
    for name, edits in islice(make(tree, chance), count):
        yield Harmless(kind, f'{kind}: {name}', edits)


def untouched(tree: Snapshot) -> Iterator[Untouched]:
    """Yield the files of mm/, the tests and all hooks, as patches that change nothing."""
    paths = {*_core(tree), *_tests(tree), *_hooked(tree)}
    headers = {path for path in tree.list('include/linux') if path.endswith('.h')}
    for chunk in _chunks(sorted(paths | headers)):
        yield _naming('files left as they are', tree, chunk, {})
    for chunk in _chunks(sorted(paths)):
        files = {path: f'/* A line more. */\n{text(tree, path)}' for path in chunk}
        yield _naming('files with a line on top', tree, chunk, files)


def _chunks(paths: list[str]) -> Iterator[tuple[str, ...]]:
    yield from (tuple(paths[at : at + CHUNK]) for at in range(0, len(paths), CHUNK))


def _naming(
    kind: str, tree: Snapshot, paths: tuple[str, ...], files: Mapping[str, str]
) -> Untouched:
    # Two overlays: no rule shall rely on one object being there twice.
    pre, post = Overlay(tree, {}), Overlay(tree, files)
    diffs = tuple(
        diff_of(path, pre.read(path), post.read(path)) if path in files else FileDiff(path, path)
        for path in paths
    )
    patch = Patch(1, 1, None, None, 'mm: nothing', AUTHOR, 'Nothing changes.', '', b'')
    series = Series(None, patch.subject, AUTHOR, 1, (patch,))
    applied = AppliedSeries(series, BASE, (Step(1, pre, post, diffs),))
    return Untouched(kind, paths, Subject(series, applied))


# --- which files ---


def _core(tree: Snapshot) -> list[str]:
    mm = [path for path in tree.list('mm') if re.fullmatch(r'mm/[^/]*\.[ch]', path)]
    return mm + [
        f'include/linux/{name}.h' for name in HEADERS if tree.read(f'include/linux/{name}.h')
    ]


def _tests(tree: Snapshot) -> list[str]:
    return [path for path in tree.list(TESTS) if path.endswith(('.c', '.h'))]


def _hooked(tree: Snapshot) -> list[str]:
    """The files of fs/ and drivers/ with hooks."""
    ground = tree.ground if isinstance(tree, Overlay) else tree
    return mentioning(ground, (b'mmap_prepare', b'vm_operations_struct'), ('fs', 'drivers'))


def _files(tree: Snapshot, chance: random.Random) -> Iterator[str]:
    """All kinds of files, in turn and at random."""
    groups = [group for group in (_core(tree), _hooked(tree), _tests(tree), _core(tree)) if group]
    for _ in range(TRIES):
        yield from (chance.choice(group) for group in groups)


# --- a definition and its copy ---


def _replaced(whole: str, definition: Definition | Function, change: Callable[[str], str]) -> str:
    lines = whole.split('\n')
    old = '\n'.join(lines[definition.start - 1 : definition.end])
    return '\n'.join([*lines[: definition.start - 1], change(old), *lines[definition.end :]])


def _along(
    tree: Snapshot, path: str, definition: Definition, change: Callable[[str], str]
) -> dict[str, str]:
    """Change a definition, and its copy in the tests where that was the same."""
    files = {path: _replaced(text(tree, path), definition, change)}
    if not copies.is_original(path):
        return files
    dup = text(tree, copies.COPIES)
    same = [
        copy
        for copy in copies.definitions(dup.encode('latin-1'))
        if copies.key(copy) == copies.key(definition) and copy.tokens == definition.tokens
    ]
    if same:
        files[copies.COPIES] = _replaced(dup, copies.alike(definition, same)[0], change)
    return files


def _functions(whole: str) -> list[tuple[Function, Definition]]:
    """The functions that were read cleanly, each with its definition."""
    source = parse(whole.encode('latin-1'))
    found = {(one.start, one.name): one for one in source.definitions if one.kind == 'function'}
    return [
        (function, found[function.start, function.name])
        for function in source.functions.values()
        if function.clean and (function.start, function.name) in found
    ]


def _edit(files: Mapping[str, str], what: str, why: str = 'No change in what it does.') -> Edit:
    prefix = min(files).rpartition('.')[0] or min(files)
    return Edit(dict(files), f'{prefix}: {what}\n\n{why}')


# --- the kinds ---

Made = Iterator[tuple[str, tuple[Edit, ...]]]


def _code(pattern: str, new: str, old: str) -> str:
    """Replace in code, not in comments and strings."""
    parts, last = [], 0
    for found in CODE.finditer(old):
        parts += [re.sub(pattern, new, old[last : found.start()]), found[0]]
        last = found.end()
    return ''.join([*parts, re.sub(pattern, new, old[last:])])


def _renamed(function: Function, old: str, whole: str, name: str) -> str | None:
    """Return a function with a local or parameter renamed, None where that is not safe."""
    new = f'{name}_here'
    own = rf'(?<![\w.>#])(?<!-> ){name}(?!\w)'
    if new in whole or re.search(rf'\b(?:{MEMBERS})\s*\([^;]*\b{name}\b', old):
        return None
    if re.search(
        rf'\b(?:struct|union|enum|goto)\s+{name}\b|[{{,]\s*\.{name}\b|^\s*{name}:', old, re.M
    ):
        return None
    if '#' in old:
        return None
    return _code(own, new, old)


def _renames(tree: Snapshot, chance: random.Random, *, parameters: bool) -> Made:
    for path in _files(tree, chance):
        whole = text(tree, path)
        found = _functions(whole)
        if not found or path == copies.COPIES:
            continue
        function, definition = chance.choice(found)
        if parameters and 'static' not in whole.split('\n')[function.start - 1]:
            continue
        names = [v.name for v in function.variables if v.parameter == parameters and not v.static]
        single = [name for name in names if names.count(name) == 1 and len(name) > 1]
        if not single:
            continue
        name = chance.choice(single)
        old = '\n'.join(whole.split('\n')[function.start - 1 : function.end])
        if _renamed(function, old, whole, name) is None:
            continue

        def change(part: str, name: str = name) -> str:
            return _code(rf'(?<![\w.>#])(?<!-> ){name}(?!\w)', f'{name}_here', part)

        files = _along(tree, path, definition, change)
        what = f'rename {name} in {function.name}()'
        yield f'{path}: {what}', (_edit(files, what, 'A name that says where it belongs.'),)


def _locals(tree: Snapshot, chance: random.Random) -> Made:
    yield from _renames(tree, chance, parameters=False)


def _parameters(tree: Snapshot, chance: random.Random) -> Made:
    yield from _renames(tree, chance, parameters=True)


def _pairs(whole: str) -> list[tuple[Definition, Definition]]:
    """Neighbouring functions that do not name each other."""
    lines = whole.split('\n')
    found = [one for one in parse(whole.encode('latin-1')).definitions if one.kind == 'function']
    return [
        (first, second)
        for first, second in pairwise(found)
        if not any(line.strip() for line in lines[first.end : second.start - 1])
        and first.context == second.context
        and first.name not in second.tokens
        and second.name not in first.tokens
        and first.end < second.start
    ]


def _swapped(whole: str, first: Definition, second: Definition) -> str:
    lines = whole.split('\n')
    one, between = lines[first.start - 1 : first.end], lines[first.end : second.start - 1]
    two = lines[second.start - 1 : second.end]
    return '\n'.join([*lines[: first.start - 1], *two, *between, *one, *lines[second.end :]])


def _moved(tree: Snapshot, chance: random.Random) -> Made:
    for path in _files(tree, chance):
        whole = text(tree, path)
        if pairs := _pairs(whole):
            first, second = chance.choice(pairs)
            files = {path: _swapped(whole, first, second)}
            what = f'move {first.name}() below {second.name}()'
            yield f'{path}: {what}', (_edit(files, what, 'Next to its callers.'),)


def _to_another_file(tree: Snapshot, chance: random.Random) -> Made:
    """A function of mm/ that nothing static of its file needs goes to the end of another file."""
    paths = [path for path in _core(tree) if path.endswith('.c')]
    for _ in range(4 * TRIES):
        path, target = chance.choice(paths), chance.choice(paths)
        whole = text(tree, path)
        statics = set(re.findall(r'^(?:static|#define)\b[^\n]*?\b(\w+)\(', whole, re.M))
        found = [
            definition
            for function, definition in _functions(whole)
            if 'static' not in whole.split('\n')[function.start - 1]
            and not statics & set(definition.tokens)
            and not definition.context
        ]
        if path == target or not found:
            continue
        moved = chance.choice(found)
        lines = whole.split('\n')
        body = '\n'.join(lines[moved.start - 1 : moved.end])
        files = {
            path: _replaced(whole, moved, lambda _: ''),
            target: f'{text(tree, target)}\n{body}\n',
        }
        what = f'move {moved.name}() to {target}'
        yield f'{path}: {what}', (_edit(files, what, 'Where its callers are.'),)


WORDS = (
    'The order matters: whoever comes later sees what was done before.',
    'Nothing else is held here.',
    'This is the slow path, taken seldom.',
    'What follows may sleep.',
    'Kept apart, so that both read the same.',
)


def _comments(tree: Snapshot, chance: random.Random) -> Made:
    for path in _files(tree, chance):
        whole = text(tree, path)
        words = chance.choice(WORDS)
        found = list(re.finditer(r'^([ \t]*)/\* [A-Z][^\n]*?\*/\n', whole, re.M))
        ends = list(re.finditer(r'^ \*/\n', whole, re.M))
        bodies = list(re.finditer(r'^\{\n', whole, re.M))
        ways = [
            (found, 'reword', rf'\1/* {words} */\n'),
            (found, 'remove', ''),
            (ends, 'add to', rf' *\n * {words}\n\g<0>'),
            (bodies, 'add', rf'\g<0>\t/* {words} */\n'),
        ]
        places, what, new = chance.choice(ways)
        if places:
            at = chance.choice(places)
            line = whole.count('\n', 0, at.start()) + 1
            files = {path: whole[: at.start()] + at.expand(new) + whole[at.end() :]}
            yield f'{path}:{line}: {what}', (_edit(files, f'{what} a comment', 'For readers.'),)


def _indented(old: str) -> str:
    return re.sub(r'^\t+', lambda found: '    ' * len(found[0]), old, flags=re.M)


def _joined(old: str) -> str:
    """Arguments go onto one line."""
    return re.sub(r',\n[ \t]+', ', ', old)


def _split(old: str) -> str:
    """Arguments go onto lines of their own (not those of macros, whose lines end otherwise)."""
    return old if '\\\n' in old else _code(r'(?<=\w), (?=\w)', ',\n\t\t', old)


def _airy(old: str) -> str:
    return re.sub(r'^(\t(?:return|if)\b)', r'\n\1', old, flags=re.M)


def _ended(old: str) -> str:
    return re.sub(r'(;|\{)$', r'\1 ', old, flags=re.M)


def _spaced(tree: Snapshot, chance: random.Random) -> Made:
    ways = (_indented, 'indent'), (_joined, 'join lines of'), (_split, 'split lines of')
    more = (_airy, 'blank lines in'), (_ended, 'blanks at line ends of')
    for path in _files(tree, chance):
        whole = text(tree, path)
        if not (found := _functions(whole)):
            continue
        function, definition = chance.choice(found)
        change, what = chance.choice((*ways, *more))
        old = '\n'.join(whole.split('\n')[function.start - 1 : function.end])
        if change(old) == old or '#' in old or '//' in old:
            continue
        files = {path: _replaced(whole, definition, change)}
        yield f'{path}: {what} {function.name}()', (_edit(files, f'{what} {function.name}()'),)


def _members(tree: Snapshot, chance: random.Random) -> Made:
    """Two plain members of a struct that no document shows change places; its copy, too."""
    shown: set[str] = set()
    for path in tree.list('Documentation'):
        if path.endswith(('.rst', '.txt')):
            shown |= {found[2].decode() for found in QUOTE.finditer(tree.read(path) or b'')}
    simple = re.compile(r'^(\t[\w \t*]+;\n)(\t[\w \t*]+;\n)', re.M)
    for path in _files(tree, chance):
        if path.startswith(TESTS):
            continue
        found = [
            one
            for one in parse(text(tree, path).encode('latin-1')).definitions
            if one.kind == 'struct' and one.name not in shown
        ]
        if not found:
            continue
        struct = chance.choice(found)
        files = _along(tree, path, struct, lambda old: simple.sub(r'\2\1', old, count=1))
        if files[path] != text(tree, path):
            what = f'order the members of struct {struct.name}'
            yield f'{path}: {what}', (_edit(files, what, 'Better for the cache.'),)


def _initialisers(tree: Snapshot, chance: random.Random) -> Made:
    """Designated members of a table of operations change places."""
    table = re.compile(r'^(\t\.(\w+)\s*=\s*[\w&]+,\n)(\t\.(\w+)\s*=\s*[\w&]+,\n)', re.M)
    paths = _hooked(tree)
    chance.shuffle(paths)
    for path in paths:
        whole = text(tree, path)
        if found := list(table.finditer(whole)):
            at = chance.choice(found)
            files = {path: whole[: at.start()] + at[3] + at[1] + whole[at.end() :]}
            what = f'put .{at[4]} before .{at[2]}'
            yield f'{path}: {what}', (_edit(files, what, 'As elsewhere.'),)


def _new_functions(tree: Snapshot, chance: random.Random) -> Made:
    """A function that nothing calls yet, at the end of a file of the kernel."""
    bodies = (
        (
            'unsigned long {name}(unsigned long start, unsigned long end)',
            '\tif (end < start)\n\t\treturn 0;\n\treturn (end - start) >> PAGE_SHIFT;',
        ),
        ('bool {name}(const struct vm_area_struct *vma)', '\treturn vma->vm_end > vma->vm_start;'),
        ('int {name}(struct file *file)', '\tif (!file)\n\t\treturn -EINVAL;\n\treturn 0;'),
    )
    for n, path in enumerate(_files(tree, chance)):
        if path.endswith('.c') and not path.startswith(TESTS):
            name = f'{path.rpartition("/")[2][:-2].replace("-", "_")}_helper'
            head, body = bodies[n % 3]
            new = f'static __maybe_unused {head.format(name=name)}\n{{\n{body}\n}}\n'
            files = {path: f'{text(tree, path)}\n{new}'}
            yield (
                f'{path}: add {name}()',
                (_edit(files, f'add {name}()', 'A later patch uses it.'),),
            )


def _tidied(tree: Snapshot, chance: random.Random) -> Made:
    """Another way to write the same, the copies included."""
    ways: tuple[tuple[str, str, str], ...] = (
        (r'\bif \((\w+(?:->\w+)*) == NULL\)', r'if (!\1)', 'no == NULL'),
        (r'\breturn \((\w+)\);', r'return \1;', 'no parentheses'),
        (
            r'^(\t+)(if \([^{}\n]*\))\n\1\t(\w[^;\n]*;)\n(?!\1else)',
            r'\1\2 {\n\1\t\3\n\1}\n',
            'braces',
        ),
        (r'\bunsigned int\b', 'unsigned', 'shorter types'),
        (r'\bunsigned (\w+)(?= =)', r'unsigned int \1', 'longer types'),
        (r'\breturn (\w+\([^;?]*\));', r'return (\1);', 'parentheses'),
    )
    for path in _files(tree, chance):
        found = _functions(text(tree, path))
        if not found or path == copies.COPIES:
            continue
        function, definition = chance.choice(found)
        pattern, new, what = chance.choice(ways)
        files = _along(tree, path, definition, partial(_substituted, pattern, new))
        if files[path] != text(tree, path):
            what = f'{function.name}(): {what}'
            yield f'{path}: {what}', (_edit(files, what, 'As elsewhere.'),)


def _substituted(pattern: str, new: str, old: str) -> str:
    return re.sub(pattern, new, old, flags=re.M)


def _copied(tree: Snapshot, chance: random.Random) -> Made:
    """A definition that the tests copy changes for good, its copy with it."""
    dup = copies.definitions(tree.read(copies.COPIES))
    found = copies.originals(tree, {copies.key(copy) for copy in dup})
    same = [
        (path, original)
        for copy in dup
        for path, original in found[copies.key(copy)][:1]
        if original.tokens == copy.tokens and copy.kind in ('function', 'macro')
    ]
    chance.shuffle(same)
    for path, original in same:
        if original.kind == 'function':
            files = _along(tree, path, original, _checked)
        else:
            files = _along(tree, path, original, _in_parentheses)
        if len(files) == 2 and all(new != text(tree, at) for at, new in files.items()):
            what = f'change {copies.shown(original)}, and its copy'
            yield f'{path}: {what}', (_edit(files, what, 'Both stay the same.'),)


def _checked(old: str) -> str:
    at = old.index('{') + 1
    return f'{old[:at]}\n\t/* Both. */\n\tbarrier();\n{old[at:]}'


def _in_parentheses(old: str) -> str:
    return re.sub(r'(#\s*define\s+\w+(?:\([^)]*\))?[ \t]+)(\w+)$', r'\1(\2)', old)


def _documents(tree: Snapshot, chance: random.Random) -> Made:
    paths = [
        path
        for folder in ('Documentation/mm', 'Documentation/filesystems')
        for path in tree.list(folder)
        if path.endswith('.rst')
    ]
    chance.shuffle(paths)
    for path in paths:
        whole = text(tree, path)
        files = {path: f'{whole.rstrip()}\n\nSee also\n========\n\n{chance.choice(WORDS)}\n'}
        yield f'{path}: a section more', (_edit(files, 'a section more', 'For readers.'),)


def _of_tests(tree: Snapshot, chance: random.Random) -> Made:
    """The VMA tests: another test, another order, another word."""
    for path in _tests(tree):
        whole = text(tree, path)
        for first, second in _pairs(whole)[:2]:
            what = f'move {first.name}() below {second.name}()'
            yield f'{path}: {what}', (_edit({path: _swapped(whole, first, second)}, what),)
        if path.endswith('.c'):
            test = 'static bool __attribute__((unused)) test_more(void)\n{\n\treturn true;\n}\n'
            yield f'{path}: another test', (_edit({path: f'{whole}\n{test}'}, 'test more'),)
        words = chance.choice(WORDS)
        yield f'{path}: a comment', (_edit({path: f'{whole}\n/* {words} */\n'}, 'say more'),)


def _new_drivers(tree: Snapshot, chance: random.Random) -> Made:
    yield from drivers(tree, chance)


# --- series ---


def _series(tree: Snapshot, chance: random.Random) -> Made:
    """Two to five harmless patches of several kinds, one on top of the other."""
    makers = (_locals, _moved, _comments, _spaced, _initialisers, _new_functions, _tidied)
    for _ in range(TRIES):
        of = chance.randrange(2, 6)
        now: Snapshot = tree
        edits: list[Edit] = []
        names = []
        for maker in chance.sample(makers, of):
            for name, (edit, *_) in islice(maker(now, chance), 1):
                edits.append(edit)
                names.append(name)
                now = Overlay(now, edit.files)
        if len(edits) > 1:
            yield '; '.join(names), tuple(edits)


def _closed_later(tree: Snapshot, chance: random.Random) -> Made:
    """The kernel's definition in one patch, its copy in the next: drift that is closed again."""
    for name, (edit,) in _copied(tree, chance):
        copy = {copies.COPIES: edit.files[copies.COPIES]}
        kernel = {path: new for path, new in edit.files.items() if path != copies.COPIES}
        title = edit.message.partition('\n')[0]
        first = Edit(kernel, f'{title}\n\nThe copy follows.')
        yield name, (first, Edit(copy, 'tools/testing/vma: follow\n\nThe kernel changed.'))


def _used_later(tree: Snapshot, chance: random.Random) -> Made:
    """A helper in one patch, its caller in the next, its removal in the third."""
    for path in _files(tree, chance):
        whole = text(tree, path)
        found = [pair for pair in _functions(whole) if walk(pair[0].body, 'return_statement')]
        if not path.endswith('.c') or path.startswith(TESTS) or not found:
            continue
        function, _ = chance.choice(found)
        line = whole.split('\n')[function.start - 1]
        if '#' in whole.split('\n')[function.start - 2] or not line.startswith('static '):
            continue
        helper = f'static void {function.name}_note(void)\n{{\n\tmight_sleep();\n}}\n\n'
        old = '\n'.join(whole.split('\n')[function.start - 1 : function.end])
        with_helper = whole.replace(old, helper + old, 1)
        called = whole.replace(old, helper + _calling(old, f'{function.name}_note'), 1)
        name = f'{path}: a note in {function.name}()'
        yield (
            name,
            (
                _edit({path: with_helper}, 'add a note', 'The next patch uses it.'),
                _edit({path: called}, 'use the note', 'Now it does.'),
                _edit({path: whole}, 'no note after all', 'It was not needed.'),
            ),
        )


def _calling(old: str, name: str) -> str:
    last = old.rindex('\n}')
    found = re.search(r'^\treturn\b', old, re.M)
    at = found.start() if found is not None else last + 1
    return f'{old[:at]}\t{name}();\n{old[at:]}'


_MAKERS: dict[str, tuple[Callable[[Snapshot, random.Random], Made], int]] = {
    'locals renamed': (_locals, 60),
    'parameters of static functions renamed': (_parameters, 24),
    'functions moved': (_moved, 40),
    'functions moved to another file': (_to_another_file, 12),
    'comments': (_comments, 40),
    'white space': (_spaced, 40),
    'members reordered': (_members, 24),
    'initialisers reordered': (_initialisers, 30),
    'new functions': (_new_functions, 18),
    'the same in other words': (_tidied, 40),
    'copies changed along': (_copied, 30),
    'documents': (_documents, 8),
    'the VMA tests': (_of_tests, 24),
    'new drivers with correct hooks': (_new_drivers, 40),
    'series of several kinds': (_series, 24),
    'series: a copy follows': (_closed_later, 10),
    'series: a helper, used later': (_used_later, 10),
}
KINDS = tuple(_MAKERS)
