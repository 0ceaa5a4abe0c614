"""
A struct file_operations has an .mmap and an .mmap_prepare hook.

The two exclude each other: can_mmap_file() (include/linux/fs.h) warns where a
file has both, and no mmap() of it succeeds. The usual way to get there is a
conversion to .mmap_prepare that leaves the old line behind.

By the text of the initialiser, its own members only. Silent where #if lets
only one of the two be compiled, where one of them is NULL, about other structs
(a struct uio_info may have both), about members that a macro brings along, and
about an initialiser that had both before the patch.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from bot.csyntax import changed_line, introduced, parse
from bot.model import Evidence, Hit, Severity, Side, Snapshot, Step, Subject
from bot.rule import Case, Edit, Rule
from rules._hooks import LARGEST, MOST, code

START = re.compile(
    rb'\bstruct\s+file_operations\b\s*(?:\w+\s+){0,4}?(?P<name>\w*)\s*(?P<array>\[[^\]\n]*\])?'
    rb'\s*(?:__\w+\s*(?:\([^()]*\))?\s*){0,3}(?:=|\))\s*\{'
)
MEMBER = re.compile(rb'(?<![\w.>)\]])\.\s*(mmap|mmap_prepare)\s*=(?!=)\s*([^,{}\n]*)')
NOTHING = re.compile(rb'\s*(?:NULL|0|\(\s*void\s*\*\s*\)\s*0)?\s*\Z')
BRACE = re.compile(rb'[{}]')
LONGEST = 20_000
"""Bytes that an initialiser may have."""


@dataclass(frozen=True)
class Both:
    """An initialiser with both hooks: its name, its lines, and those of the two members."""

    name: str
    start: int
    end: int
    mmap: int
    prepare: int
    hooks: tuple[str, str]


def check(subject: Subject) -> Iterator[Hit]:
    told = set()
    for step in subject.steps:
        after = [(diff, one) for diff in step.files for one in _read(step.post, diff.new_path)]
        if not after:
            continue
        before = [(diff, one) for diff in step.files for one in _read(step.pre, diff.old_path)]
        new = introduced(before, after, key=lambda found: found[1].name)
        gone = introduced(after, before, key=lambda found: found[1].name)
        for diff, one in introduced(gone, new, key=lambda found: found[1].hooks):
            where = _where(step, diff.path, one)
            if where is None or (diff.path, one.name) in told:
                continue
            if not _stays(subject, diff.path, one):
                continue
            told.add((diff.path, one.name))
            source = parse(step.post.read(diff.path) or b'')
            yield Hit(
                step.n,
                diff.path,
                where[0],
                f'{one.name or "the initialiser"} has an .mmap and an .mmap_prepare hook',
                'The kernel refuses to map such a file: one of them has to go.',
                side=where[1],
                symbol=one.name or None,
                evidence=tuple(
                    Evidence(diff.path, line, source.line(line).strip())
                    for line in (one.mmap, one.prepare)
                    if (line, 'new') != where
                ),
            )


def _where(step: Step, path: str, one: Both) -> tuple[int, Side] | None:
    for line in (one.prepare, one.mmap):
        if changed_line(step, path, line, line) == (line, 'new'):
            return line, 'new'
    return changed_line(step, path, one.start, one.end)


def _stays(subject: Subject, path: str, one: Both) -> bool:
    """Whether it is still so when the whole series is applied."""
    last = subject.steps[-1].post
    return last.read(path) is None or any(
        other.name == one.name or other.hooks == one.hooks for other in _read(last, path)
    )


def _read(tree: Snapshot, path: str | None) -> list[Both]:
    if path is None or not path.endswith(('.c', '.h')):
        return []
    text = tree.read(path)
    if text is None or len(text) > LARGEST or b'mmap_prepare' not in text:
        return []
    return list(_both(text))


def _both(text: bytes) -> Iterator[Both]:
    clear = code(text)
    for found in itertools.islice(START.finditer(clear), MOST):
        depth = 2 if found['array'] else 1
        for start, end in _bodies(clear, found.end() - 1, depth):
            members = [
                (one, clear.count(b'\n', 0, one.start()) + 1)
                for one in itertools.islice(MEMBER.finditer(clear, start, end), MOST)
                if _depth(clear, start, one.start()) == 1 and not NOTHING.match(one[2])
            ]
            mmaps = [one for one in members if one[0][1] == b'mmap']
            prepares = [one for one in members if one[0][1] == b'mmap_prepare']
            for mmap in mmaps:
                prepare = next((one for one in prepares if _together(text, mmap[1], one[1])), None)
                if prepare is not None:
                    yield Both(
                        found['name'].decode(),
                        clear.count(b'\n', 0, found.start()) + 1,
                        clear.count(b'\n', 0, end) + 1,
                        mmap[1],
                        prepare[1],
                        (_value(mmap[0]), _value(prepare[0])),
                    )
                    break


def _value(member: re.Match[bytes]) -> str:
    return ' '.join(member[2].decode('latin-1').split())


def _bodies(text: bytes, start: int, depth: int) -> Iterator[tuple[int, int]]:
    """Yield where a brace opens that is `depth` deep, counted from `start`, and where it closes."""
    level, opened = 0, start
    for brace in BRACE.finditer(text, start, start + LONGEST):
        if brace[0] == b'{':
            level += 1
            if level == depth:
                opened = brace.start()
        else:
            if level == depth:
                yield opened, brace.start()
            level -= 1
            if level == 0:
                return


def _depth(text: bytes, start: int, end: int) -> int:
    return text.count(b'{', start, end) - text.count(b'}', start, end)


def _together(text: bytes, one: int, other: int) -> bool:
    """Whether both lines can be compiled at once: one's #if conditions are the other's as well."""
    first, second = parse(text).context(one), parse(text).context(other)
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


FILE = 'drivers/char/example.c'
FOPS = """static int ex_open(struct inode *inode, struct file *file);
static const struct file_operations ex_fops = {
	.owner		= THIS_MODULE,
	.open		= ex_open,
	.mmap		= ex_mmap,
	.llseek		= noop_llseek,
};
"""
PREPARE = '\t.mmap_prepare\t= ex_mmap_prepare,\n'
MMAP = '\t.mmap\t\t= ex_mmap,\n'
BOTH = FOPS.replace(MMAP, MMAP + PREPARE)
CONVERTED = FOPS.replace(MMAP, PREPARE)
ARRAY = """static const struct file_operations ex_fops[2] = {
	[0] = {
		.mmap = ex_mmap,
	},
	[1] = {
		.open = ex_open,
	},
};
"""
MACRO = """#define DEFINE_EX_FOPS(name) \\
	static const struct file_operations name = {\\
		.open	= ex_open,\\
		.mmap	= ex_mmap,\\
	}
"""
UIO = 'static struct uio_info ex_info = {\n\t.mmap = ex_mmap,\n};\n'


def _case(before: str, *after: str, expect: tuple[int, ...] | None = None) -> Case:
    return Case({FILE: before}, tuple(Edit({FILE: text}) for text in after), expect=expect)


RULE = Rule(
    id='mmap-both-hooks',
    severity=Severity.ERROR,
    check=check,
    bad=(
        _case(FOPS, BOTH, expect=(1,)),
        # The two are apart, and the old one is what is put back.
        _case(CONVERTED, CONVERTED.replace('};\n', MMAP + '};\n'), expect=(1,)),
        # A new file; no static, no comma at the end.
        Case(
            {},
            (
                Edit(
                    {FILE: 'struct file_operations ex_fops = { .mmap = a,\n.mmap_prepare = b };\n'}
                ),
            ),
            expect=(1,),
        ),
        # Whenever CONFIG_MMU is set, there are two.
        _case(FOPS, FOPS.replace(MMAP, f'{MMAP}#ifdef CONFIG_MMU\n{PREPARE}#endif\n'), expect=(1,)),
        _case(ARRAY, ARRAY.replace('ex_mmap,\n', 'ex_mmap, .mmap_prepare = b,\n'), expect=(1,)),
        _case(
            MACRO,
            MACRO.replace('ex_mmap,', 'ex_mmap,\\\n\t\t.mmap_prepare = ex_mmap_prepare,'),
            expect=(1,),
        ),
        # Only one of two initialisers, and only at the second patch.
        _case(
            FOPS + FOPS.replace('ex_fops', 'ex_old_fops'),
            CONVERTED + FOPS.replace('ex_fops', 'ex_old_fops'),
            CONVERTED + BOTH.replace('ex_fops', 'ex_old_fops'),
            expect=(2,),
        ),
    ),
    good=(
        _case(FOPS, CONVERTED),
        # One each.
        _case(FOPS, FOPS + CONVERTED.replace('ex_fops', 'ex_new_fops')),
        _case(
            FOPS,
            FOPS.replace(MMAP, f'#ifdef CONFIG_MMU\n{PREPARE}#else\n{MMAP}#endif\n'),
        ),
        _case(
            FOPS,
            FOPS.replace(
                MMAP, f'#ifndef CONFIG_MMU\n{MMAP}#endif\n#ifdef CONFIG_MMU\n{PREPARE}#endif\n'
            ),
        ),
        # Both are members of this one, for the driver to choose from.
        _case(UIO, UIO.replace('};', '\t.mmap_prepare = ex_mmap_prepare,\n};')),
        # A comment, and a NULL.
        _case(FOPS, FOPS.replace(MMAP, f'\t/* .mmap = ex_mmap, */\n{PREPARE}')),
        _case(FOPS, FOPS.replace(MMAP, f'\t.mmap\t\t= NULL,\n{PREPARE}')),
        # Two elements of an array.
        _case(ARRAY, ARRAY.replace('= ex_open,', '= ex_open, .mmap_prepare = b,')),
        # It had both before; it is renamed, and moves.
        _case(BOTH, BOTH.replace('ex_fops', 'ex_file_fops')),
        _case(BOTH, 'int x;\n' + BOTH.replace('noop_llseek', 'no_llseek')),
        Case({FILE: BOTH}, (Edit({FILE: '\n', 'drivers/char/other.c': BOTH}),)),
        # The next patch takes the old one away.
        _case(FOPS, BOTH, CONVERTED),
        # Assignments are not members.
        _case(FOPS, FOPS + 'void f(void) { x.mmap = a; y.mmap_prepare = b; }\n'),
    ),
)
