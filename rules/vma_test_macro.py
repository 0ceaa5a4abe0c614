"""
The VMA tests test a macro in an `#if` that nothing defines.

The compiler takes an unknown name in `#if` for 0, and does not mention it: what
stands under it is never built, so a misspelt name silently takes a test, or
one branch of a copied definition, away. In Linux 7.2 the tests ask for
CONFIG_STACK_GROWS_UP, which no Kconfig has; the symbol is CONFIG_STACK_GROWSUP.

Reported are names in conditions that a patch adds under tools/testing/vma and
that, at the end of the series, are defined neither there, in
tools/testing/shared (makefiles with `-D`, what they generate, headers), in
mm/, include/, lib/ or the tools' own headers, nor, for CONFIG_ symbols, in any Kconfig.
Silent about a name that stood in a condition of the tests before (moved code),
that the kernel's own code tests (a faithful copy), that is reserved for
compiler and C library, or that the message tells people to set with `-D`.
"""

import re
from collections.abc import Iterable, Iterator

from bot.model import Hit, Severity, Snapshot, Step, Subject
from bot.rule import Case, Edit, Rule, edits
from rules import _copies as copies

FOLDER = copies.TESTS.rstrip('/')
CONDITION = re.compile(rb'^[ \t]*#[ \t]*(?:el)?if(?:n?def)?\b((?:[^\n\\]|\\\n|\\.)*)', re.M)
DIRECTIVE = re.compile(rb'^[ \t]*#[^\n]*', re.M)
# In a header, a makefile (`-DX=1`, `echo "#define X"`), or in what a message tells.
DEFINED = re.compile(rb'(?:#[ \t]*define[ \t]+|-D[ \t]*)([A-Za-z_]\w*)')
# What the makefiles generate of a variable: `#define CONFIG_$(LONG_BIT)BIT`.
GENERATED = re.compile(rb'#[ \t]*define[ \t]+(\w*)\$[({]\w+[)}](\w*)')
SYMBOL = re.compile(rb'^[ \t]*(?:menu)?config[ \t]+(\w+)', re.M)
SOURCE = re.compile(rb'^[ \t]*o?r?source[ \t]+"([^"$]+)"', re.M)
ARCH = re.compile(r'arch/[^/]+/(?:um/)?Kconfig[^/]*\Z')
# Names of the C library's headers, which are not in the tree, and what one sets by hand.
LIBRARY = re.compile(
    r'_|defined\Z|true\Z|false\Z|N?DEBUG|VERBOSE|BUFSIZ|EOF\Z|NULL\Z|RAND_MAX|E[A-Z0-9]+\Z'
    r'|U?(?:CHAR|SHRT|INT|LONG|LLONG|INT\d+|INTPTR|INTMAX)_|S?SIZE_|PTRDIFF_|PATH_|NAME_'
    r'|SIG|O_|S_|MAP_|PROT_|MADV_|MREMAP_|CLOCK_|PTHREAD_|LIB|CLANG|GCC'
)
HEADERS = (
    'tools/include', 'tools/arch', 'tools/lib', 'include/linux', 'include/uapi',
    'include/asm-generic', 'include/vdso', 'arch/x86/include', 'lib',
)  # fmt: skip
NEAR = 2


def check(subject: Subject) -> Iterator[Hit]:
    if not subject.steps:
        return
    told = {name.decode() for patch in _said(subject) for name in DEFINED.findall(patch)}
    last = subject.steps[-1].post
    for step in subject.steps:
        added = _added(step)
        if not added:
            continue
        before = {
            name for path in _sources(step.pre) for name, _ in _tested(step.pre.read(path) or b'')
        }
        new = {name for name in added if not LIBRARY.match(name)} - before - told
        told |= new
        unknown = _unknown(subject, new)
        for name in sorted(unknown):
            path, number = added[name]
            near = _nearest(name, (_defined_in_tests(last) | before | set(added)) - unknown)
            yield Hit(
                step.n,
                path,
                number,
                f'{name} is tested here, and nothing defines it',
                f'Is {near} meant?' if near else 'Is the name right?',
                symbol=name,
            )


def _said(subject: Subject) -> Iterator[bytes]:
    for patch in subject.series.patches:
        yield f'{patch.message}\n{patch.notes}'.encode('utf-8', 'replace')
    yield (subject.series.cover or '').encode('utf-8', 'replace')


def _sources(tree: Snapshot) -> Iterator[str]:
    yield from (path for path in tree.list(FOLDER) if path.endswith(('.c', '.h')))


def _added(step: Step) -> dict[str, tuple[str, int]]:
    """Return the names in conditions that a patch adds to the tests, and where."""
    added: dict[str, tuple[str, int]] = {}
    for diff in step.files:
        path = diff.new_path or ''
        if path.startswith(copies.TESTS) and path.endswith(('.c', '.h')):
            lines = {number for number, line in diff.added}
            for name, line in _tested(step.post.read(path) or b''):
                if line in lines:
                    added.setdefault(name, (path, line))
    return added


def _tested(text: bytes) -> Iterator[tuple[str, int]]:
    """Yield the names in the conditions of a text, and the lines that they stand on."""
    line, last = 1, 0
    for condition in CONDITION.finditer(text):
        line += text.count(b'\n', last, condition.start())
        last = condition.start()
        if b'__has_' in condition[1]:
            continue
        for number, part in enumerate(copies.NO_CODE.sub(_blank, condition[1]).split(b'\n'), line):
            yield from ((word.decode(), number) for word in copies.WORD.findall(part))


def _blank(found: re.Match[bytes]) -> bytes:
    return b' ' + b'\n' * found[0].count(b'\n')


def _unknown(subject: Subject, names: set[str]) -> set[str]:
    """Return which of the names nothing defines at the end of the series, nor the kernel tests."""
    tree = subject.steps[-1].post
    left = names - _defined_in_tests(tree) if names else names
    left = {name for name in left if not any(made.match(name) for made in _made_by_makefiles(tree))}
    if not left:
        return left
    mine = (diff.path for step in subject.steps for diff in step.files)
    code = (path for path in mine if copies.is_kernel_code(path))
    for path in (*code, *copies.nearest(tree)):
        text = tree.read(path) or b''
        if any(name.encode() in text for name in left):
            directives = b'\n'.join(DIRECTIVE.findall(text))
            left -= {word.decode() for word in copies.WORD.findall(directives)}
    symbols = {name for name in left if name.startswith('CONFIG_')}
    macros = left - symbols
    return (_without_kconfig(tree, symbols) if symbols else symbols) | (
        _without_header(tree, macros) if macros else macros
    )


def _defined_in_tests(tree: Snapshot) -> set[str]:
    return {
        name.decode()
        for folder in (FOLDER, 'tools/testing/shared')
        for path in tree.list(folder)
        for name in DEFINED.findall(tree.read(path) or b'')
    }


def _made_by_makefiles(tree: Snapshot) -> list[re.Pattern[str]]:
    """Return patterns for the names that a makefile puts together of a variable."""
    return [
        re.compile(rf'{found[1].decode()}[0-9A-Za-z]+{found[2].decode()}\Z')
        for path in (f'{FOLDER}/Makefile', 'tools/testing/shared/shared.mk')
        for found in GENERATED.finditer(tree.read(path) or b'')
    ]


def _without_kconfig(tree: Snapshot, names: set[str]) -> set[str]:
    left = {name.removeprefix('CONFIG_').removesuffix('_MODULE').encode(): name for name in names}
    waiting = ['Kconfig', *(path for path in tree.list('arch') if ARCH.match(path))]
    seen: set[str] = set()
    while waiting and left:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        text = tree.read(path) or b''
        if any(symbol in text for symbol in left):
            for symbol in SYMBOL.findall(text):
                left.pop(symbol, None)
        if b'source' in text:
            waiting += [found.decode('latin-1') for found in SOURCE.findall(text)]
    return set(left.values())


def _without_header(tree: Snapshot, names: set[str]) -> set[str]:
    left = set(names)
    for path in (path for folder in HEADERS for path in tree.list(folder)):
        if not left:
            break
        text = tree.read(path) or b'' if path.endswith('.h') else b''
        if any(name.encode() in text for name in left):
            left -= {name.decode() for name in DEFINED.findall(text)}
    return left


def _nearest(name: str, known: Iterable[str]) -> str | None:
    found = sorted((edits(name, other, NEAR), other) for other in known if other != name)
    return found[0][1] if found and found[0][0] <= NEAR else None


VMA, MAKE, DUP = f'{copies.TESTS}tests/vma.c', f'{copies.TESTS}Makefile', copies.COPIES
SHARED, HEADER = 'tools/testing/shared/shared.mk', 'include/linux/mm.h'
TREE = {
    VMA: '#if NUM_FLAG_BITS > 64\nint a;\n#endif\n',
    MAKE: 'CFLAGS += -DNUM_FLAG_BITS=128\n',
    SHARED: '\techo "#define CONFIG_$(LONG_BIT)BIT 1" > $@; \\\n',
    HEADER: '#ifdef ARCH_RANGES\nint r;\n#endif\n',
    'include/linux/kconfig.h': '#define IS_ENABLED(option) 1\n',
    'Kconfig': 'source "mm/Kconfig"\n',
    'mm/Kconfig': 'config SWAP\n\tbool "swap"\n',
    'arch/parisc/Kconfig': 'config STACK_GROWSUP\n\tdef_bool y\n',
    'include/uapi/linux/range.h': '#define RANGE_BITS 8\n',
    DUP: '#ifdef CONFIG_SWAP\nint b;\n#endif\n',
}


def _adds(lines: str, message: str = 'tools/testing/vma: test more') -> Edit:
    return Edit({VMA: f'{TREE[VMA]}{lines}int c;\n#endif\n'}, message)


RULE = Rule(
    id='vma-test-macro',
    severity=Severity.WARNING,
    check=check,
    bad=(
        Case(TREE, (_adds('#if NUM_FLAGS_BITS > 64\n'),), expect=(1,)),
        Case(TREE, (_adds('#ifdef CONFIG_STACK_GROWS_UP\n'),), expect=(1,)),
        Case(
            TREE, (_adds('#if defined(CONFIG_SWAP) || \\\n\tdefined(CONFIG_SWAPS)\n'),), expect=(1,)
        ),
        Case(TREE, (_adds('#if NUM_FLAG_BITS > 64\n#endif\n#ifndef NR_TESTS\n'),), expect=(1,)),
        Case(TREE, (_adds('#if 0\n#elif IS_ENABLED(CONFIG_RANGES)\n'),), expect=(1,)),
        # It is an enumerator, which the preprocessor does not know.
        Case(
            TREE,
            (Edit({HEADER: 'enum { R_BITS = 3 };\n'}), _adds('# if R_BITS > 2 /* RANGE_BITS */\n')),
            expect=(2,),
        ),
        # Only a comment has it, or a macro that ends like it.
        Case(
            {**TREE, 'mm/vma.c': '/* NR_RANGES */\n#define MY_NR_RANGES 1\n'},
            (_adds('#if NR_RANGES\n'),),
            expect=(1,),
        ),
    ),
    good=(
        Case(TREE, (_adds('#if NUM_FLAG_BITS > 128 && defined(CONFIG_64BIT)\n'),)),
        Case(TREE, (_adds('#ifdef CONFIG_STACK_GROWSUP\n'),)),
        Case(TREE, (_adds('#ifdef CONFIG_SWAP_MODULE\n'),)),
        # The kernel's own code asks for it.
        Case(TREE, (_adds('#ifdef ARCH_RANGES\n'),)),
        # Defined beside it, elsewhere in the series, or in a header.
        Case(TREE, (_adds('#ifndef NR_TESTS\n#define NR_TESTS 3\n'),)),
        Case(TREE, (_adds('#if NR_TESTS > 1\n'), Edit({MAKE: 'CFLAGS += -DNR_TESTS=2\n'}))),
        Case(TREE, (_adds('#if RANGE_BITS > 4\n'),)),
        # Compiler, C library, or whoever builds it.
        Case(TREE, (_adds('#if defined(__x86_64__) && LONG_MAX > 0x7fffffff\n'),)),
        Case(TREE, (_adds('#ifdef STRESS\n', 'x: y\n\nBuild it with EXTRA_CFLAGS=-DSTRESS.'),)),
        # It was there before: moved, and in the kernel.
        Case(
            {**TREE, DUP: '#ifdef CONFIG_OLD\nint b;\n#endif\n'},
            (Edit({DUP: '\n', VMA: '#ifdef CONFIG_OLD\nint b;\n#endif\n'}),),
        ),
        Case(TREE, (Edit({'mm/vma.c': '#ifdef CONFIG_UNKNOWN\nint z;\n#endif\n'}),)),
        # In a comment, in a string.
        Case(TREE, (_adds('#if 1 /* NR_TESTS */ // else\n'),)),
    ),
)
