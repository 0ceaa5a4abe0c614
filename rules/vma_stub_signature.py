"""
A kernel function changes its signature, and its stand-in in the VMA tests does not.

tools/testing/vma replaces what mm/vma.c calls by no-ops (include/stubs.h) and
by functions that behave as a test needs (include/custom.h). Of these only the
signature mirrors the kernel. When it stops doing so, the tests no longer
build, or, where C converts one type into the other, build and test a call that
the kernel does not make.

Compared are return type and parameter types, as tokens: names of parameters,
attributes, storage words and a const of the parameter itself do not count.
Reported is a signature that was the same as that of a prototype or definition
of the kernel before the patch, is not that of any in the files of the patch after it,
and is left as it was to the end of the series. Silent about stand-ins that
differed before, macros, functions that go altogether (vma-test-orphan), and
static functions of the same name outside mm/ and include/.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from bot.csyntax import Definition, changed_line, parse
from bot.model import Evidence, FileDiff, Hit, Severity, Snapshot, Step, Subject
from bot.rule import Case, Edit, Rule, named
from rules import _copies as copies

PLACES = (copies.STUBS, copies.CUSTOM)
# Where what the tests stub is declared or defined.
CORE = ('include/', 'mm/', 'kernel/', 'fs/', 'security/', 'lib/', 'ipc/')
FIRST_COLUMN = re.compile(rb'.[A-Za-z_]')
QUALIFIERS = frozenset(('const', 'volatile', 'restrict'))
# Words that may end a type.
NO_NAMES = QUALIFIERS | {'void', 'char', 'short', 'int', 'long', 'unsigned', 'signed', 'bool'}
IDENTIFIER = re.compile(r'[A-Za-z_]\w*\Z')
# What the parser takes for a word of the type: attributes, and macros like them.
ATTRIBUTE = re.compile(r'__(?!(?:u|s|be|le)\d+\Z|kernel_)\w+\Z|[A-Z][A-Z0-9_]+\Z')

Signature = tuple[tuple[str, ...], ...]
"""Tokens of the return type, and of each parameter's type."""


@dataclass(frozen=True)
class _Declared:
    """A prototype or definition, of the kernel or of the tests."""

    path: str
    line: int
    signature: Signature
    end: int


def check(subject: Subject) -> Iterator[Hit]:
    if not subject.steps:
        return
    told: set[str] = set()
    for step in subject.steps:
        for hit in _step(subject, step):
            if hit.symbol is not None and hit.symbol not in told:
                told.add(hit.symbol)
                yield hit


def _stubs(tree: Snapshot) -> dict[str, list[_Declared]]:
    found: dict[str, list[_Declared]] = {}
    for path in PLACES:
        for definition in parse(tree.read(path) or b'').definitions:
            signature = signature_of(definition) if definition.kind == 'function' else None
            if signature is not None:
                stub = _Declared(path, definition.start, signature, definition.end)
                found.setdefault(definition.name, []).append(stub)
    return found


def _step(subject: Subject, step: Step) -> Iterator[Hit]:
    diffs = [diff for diff in step.files if diff.path.startswith(CORE)]
    if not diffs:
        return
    stubs = _stubs(step.pre)
    diffs = [diff for diff in diffs if _may_declare(diff, stubs)]
    paths = [diff.new_path for diff in diffs if diff.new_path]
    before = _declared(step.pre, [diff.old_path for diff in diffs if diff.old_path], stubs)
    after = _declared(step.post, paths, stubs)
    last = subject.steps[-1].post
    for name in sorted(before):
        was = {one.signature for one in before.get(name, [])}
        now = after.get(name, [])
        stub = next((stub for stub in stubs[name] if stub.signature in was), None)
        if stub is None or not now or _has(now, stub):
            continue
        left = [one for one in _stubs(last).get(name, []) if one.signature == stub.signature]
        if not left or _has(_declared(last, paths, {name}).get(name, []), stub):
            continue
        where = _where(step, now)
        if where is None:
            continue
        place, number, side = where
        text = parse(last.read(left[0].path) or b'').line(left[0].line)
        yield Hit(
            step.n,
            place,
            number,
            f'{name}() changes its signature here, its stand-in in {named(left[0].path)} does not',
            'Please change it there too, so that the VMA tests call what the kernel calls.',
            side=side,
            symbol=name,
            evidence=(Evidence(left[0].path, left[0].line, text),),
        )


def _may_declare(diff: FileDiff, names: Collection[str]) -> bool:
    """Whether a file is of mm, or its diff shows a declaration of one of the names."""
    if copies.is_original(diff.path):
        return True
    if not copies.is_kernel_code(diff.path):
        return False
    lines = (line for hunk in diff.hunks for line in hunk.lines if FIRST_COLUMN.match(line))
    return any(word.decode() in names for line in lines for word in copies.WORD.findall(line[1:]))


def _has(found: list[_Declared], stub: _Declared) -> bool:
    return any(one.signature == stub.signature for one in found)


def _declared(
    tree: Snapshot, paths: list[str], names: Collection[str]
) -> dict[str, list[_Declared]]:
    """Return the prototypes and definitions of functions that others of the kernel may call."""
    found: dict[str, list[_Declared]] = {}
    # A prototype is what others see: it is quoted rather than the definition.
    for path in sorted(paths, key=lambda path: not path.endswith('.h')):
        text = tree.read(path) or b''
        if not any(name.encode() in text for name in names):
            continue
        source = parse(text)
        everywhere = path.startswith(('mm/', 'include/'))
        for one in source.definitions:
            if one.name not in names or one.kind not in ('function', 'prototype'):
                continue
            signature = signature_of(one)
            if signature and (everywhere or 'static' not in source.line(one.start).split()):
                place = _Declared(path, one.start, signature, one.end)
                found.setdefault(one.name, []).append(place)
    return found


def _where(step: Step, now: list[_Declared]) -> tuple[str, int, Literal['new', 'old']] | None:
    """Return a changed line of the signature, not of the body behind it."""
    for one in now:
        source = parse(step.post.read(one.path) or b'')
        lines = range(one.line, one.end + 1)
        end = next((line for line in lines if re.search('[{;]', source.line(line))), one.end)
        where = changed_line(step, one.path, one.line, end)
        if where is not None:
            return one.path, *where
    return None


def signature_of(definition: Definition) -> Signature | None:
    """Return what a function returns and takes; None where that can't be read."""
    words = definition.tokens
    named = (at for at, pair in enumerate(pairwise(words)) if pair == (definition.name, '('))
    at = next(named, None)
    if at is None:
        return None
    depth = 1
    parameters: list[list[str]] = [[]]
    for word in words[at + 2 :]:
        depth += {'(': 1, ')': -1}.get(word, 0)
        if depth == 0:
            break
        if word == ',' and depth == 1:
            parameters.append([])
        else:
            parameters[-1].append(word)
    returned = _unqualified([word for word in words[:at] if not ATTRIBUTE.match(word)])
    taken = [_type(parameter) for parameter in parameters]
    return (returned, *(taken if taken not in ([()], [('void',)]) else ()))


def _type(parameter: list[str]) -> tuple[str, ...]:
    """Return the type of a parameter without its name."""
    words = [word for word in parameter if not ATTRIBUTE.match(word)]
    if '(' in words:  # a pointer to a function
        at = words.index('(') + 1
        while words[at : at + 1] == ['*'] or words[at : at + 1] == ['const']:
            at += 1
        if at < len(words) and IDENTIFIER.match(words[at]):
            del words[at]
        return tuple(words)
    array = ['*'] if '[' in words else []
    words = words[: words.index('[')] if array else words
    if words and IDENTIFIER.match(words[-1]) and words[-1] not in NO_NAMES:
        rest = [word for word in words[:-1] if word not in QUALIFIERS]
        if rest and rest[-1] not in ('struct', 'union', 'enum'):
            words = words[:-1]
    return _unqualified([*words, *array])


def _unqualified(words: list[str]) -> tuple[str, ...]:
    """Leave out the qualifiers of a value itself; what it points to keeps its own."""
    last = len(words) - words[::-1].index('*') if '*' in words else 0
    return tuple(words[:last] + [word for word in words[last:] if word not in QUALIFIERS])


HEADER, FILE, KERNEL = 'include/linux/mm.h', 'mm/range.c', 'kernel/range.c'
CALL = 'int vma_cut(struct vm_area_struct *vma, unsigned long addr);\n'
FLAGS = CALL.replace('addr)', 'addr,\n\t\tvm_flags_t flags)')
BODY = ')\n{\n\treturn 0;\n}\n'
DEFINED, DEFINED_FLAGS = (text.replace(');\n', BODY) for text in (CALL, FLAGS))
STUB, STUB_FLAGS = (f'static inline {text}' for text in (DEFINED, DEFINED_FLAGS))
NAMED = STUB.replace('addr', 'at').replace('*vma', '*')
TREE = {HEADER: CALL, FILE: DEFINED, copies.STUBS: STUB}
BRANCHES = '#ifdef CONFIG_CUT\n' + CALL + '#else\n' + STUB + '#endif\n'

RULE = Rule(
    id='vma-stub-signature',
    severity=Severity.WARNING,
    check=check,
    bad=(
        # Prototype and definition: once.
        Case(TREE, (Edit({HEADER: FLAGS, FILE: DEFINED_FLAGS}),), expect=(1,)),
        # Names of parameters do not count; one patch changes, the other calls.
        Case(
            {HEADER: CALL, copies.CUSTOM: NAMED},
            (Edit({FILE: 'int x;\n'}), Edit({HEADER: FLAGS})),
            expect=(2,),
        ),
        # What it returns, on a line of its own; a const; a parameter that goes.
        Case(
            {HEADER: CALL.replace('int ', 'int\n'), copies.STUBS: STUB},
            (Edit({HEADER: CALL.replace('int ', 'long\n')}),),
            expect=(1,),
        ),
        Case(TREE, (Edit({HEADER: CALL.replace('struct vm', 'const struct vm')}),), expect=(1,)),
        Case(TREE, (Edit({FILE: DEFINED.replace(', unsigned long addr', '')}),), expect=(1,)),
        # Both branches of an #if.
        Case(
            {HEADER: BRANCHES, copies.STUBS: STUB},
            (Edit({HEADER: BRANCHES.replace('unsigned long addr', 'struct range *range')}),),
            expect=(1,),
        ),
        # A stand-in with one of the two changes.
        Case(
            TREE,
            (Edit({HEADER: FLAGS}), Edit({HEADER: FLAGS.replace('int', 'bool'), FILE: '\n'})),
            expect=(1,),
        ),
        # It moves, and changes.
        Case(TREE, (Edit({HEADER: None, 'mm/internal.h': FLAGS, FILE: '\n'}),), expect=(1,)),
        # The name is that of a struct as well.
        Case(
            {
                HEADER: 'struct range *range(struct mm_struct *mm);\n',
                copies.STUBS: 'static inline struct range *range(struct mm_struct *m)\n{\n}\n',
            },
            (Edit({HEADER: 'struct range *range(void);\n'}),),
            expect=(1,),
        ),
        # A function that is not mm's.
        Case({KERNEL: DEFINED, copies.STUBS: STUB}, (Edit({KERNEL: DEFINED_FLAGS}),), expect=(1,)),
    ),
    good=(
        Case(TREE, (Edit({HEADER: FLAGS, FILE: DEFINED_FLAGS, copies.STUBS: STUB_FLAGS}),)),
        # The stub follows with a later patch; the kernel goes back.
        Case(TREE, (Edit({HEADER: FLAGS}), Edit({copies.STUBS: STUB_FLAGS}))),
        Case(TREE, (Edit({HEADER: FLAGS}), Edit({HEADER: '\n' + CALL}))),
        # Other names, another layout, attributes, a const of the parameter itself; the body.
        Case(
            TREE,
            (
                Edit(
                    {HEADER: f'extern __must_check {CALL.replace("addr", "at").replace(", ", ",")}'}
                ),
                Edit({FILE: DEFINED.replace('unsigned', 'const unsigned').replace('0', '1')}),
            ),
        ),
        # It was different before; it is new.
        Case(
            {HEADER: CALL, copies.STUBS: STUB_FLAGS},
            (Edit({HEADER: FLAGS.replace('int', 'bool')}),),
        ),
        Case({HEADER: '\n', copies.STUBS: STUB}, (Edit({HEADER: FLAGS}),)),
        # It goes: vma-test-orphan. It becomes a macro.
        Case(TREE, (Edit({HEADER: '\n', FILE: '\n'}),)),
        Case(TREE, (Edit({HEADER: '#define vma_cut(vma, addr, flags) 0\n'}),)),
        # Somebody else's static function of that name; a caller.
        Case(
            {HEADER: CALL, copies.STUBS: STUB, KERNEL: f'static {DEFINED}'},
            (Edit({KERNEL: f'static {DEFINED_FLAGS}'}),),
        ),
        Case(
            {**TREE, KERNEL: 'int f(void) { return vma_cut(0, 1); }\n'},
            (Edit({KERNEL: 'int f(void) { return vma_cut(0, 1, 2); }\n'}),),
        ),
        # Only one branch of an #if changes: the stub may stand for the other.
        Case(
            {HEADER: BRANCHES, copies.STUBS: STUB},
            (Edit({HEADER: BRANCHES.replace(CALL, FLAGS)}),),
        ),
    ),
)
