"""
A message, a comment or a call names a function that does not exist.

Three forms, of which only what the series adds is looked at:

- `name()` in the commit message or a comment, when that name stands nowhere in
  the tree nor in the series, and nothing like it does (what is like it is
  identifier-typo's). Often the name of an earlier revision.
- `@name` in a kernel-doc comment that is no parameter or member of what is
  documented (Documentation/doc-guide/kernel-doc.rst).
- A call, in C code of the kernel proper, of a function that nothing declares,
  defines or can paste together: an error, since it does not build, or only on
  top of a series that is not named.

Silent in prose about what is quoted, patterns and stand-ins, and where the
text speaks of something gone, renamed, yet to come, or of userspace; and in
code about whatever the added code itself or a macro may declare.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tree_sitter import Node

from bot.csyntax import added_nodes, parse
from bot.csyntax.syntax import line_of, node_text
from bot.model import Hit, Severity, Subject
from bot.rule import Case, Edit, Rule
from rules._kernel_doc import strangers
from rules._names import (
    C_FILES,
    MOST,
    WORD,
    Mention,
    Names,
    code,
    mentions,
    text_of,
)

KERNEL = ('mm/', 'fs/', 'drivers/', 'kernel/', 'lib/', 'include/')
SHORTEST = 6
PASTED = re.compile(rb'(\w{4,})[ \t]*##|##[ \t]*(\w{4,})')
STRING = re.compile(rb'"(?:\\.|[^"\\\n])*"?')
CALLS = '((call_expression function: (identifier) @hit))'
ELSEWHERE = re.compile(
    r"""\b(?:remov|delet|renam|former|previous|used\ to|no\ longer|old\b|older|typo|misspel|origin
    |was\b|were\b|had\b|before\b|histor|early|earlier|version|legacy|gone|kill|obsolet|drop|replac
    |user|[a-z]?libc|librar|out[- ]of[- ]tree|downstream|upstream|vendor|rust|python|bpf|qemu|llvm
    |clang|gcc|compiler|builtin|firmware|hypervisor|windows|bsd|posix|java|test|propos|future|will
    |would|could|should|might|later|follow|eventual|plan|if\ we|hypothe|imagin|e\.g|such\ as
    |pseudo|like\b|similar|instead|generated|exist|call(?:s|ed)?\ it|name)""",
    re.I | re.X,
)
COMPILER = r'__(?:builtin|sync|atomic|asan|msan|tsan|ubsan|cxa|cfi|stack_chk|has|is)_\w+'
# What a compiler knows without a declaration.
BUILTIN = re.compile(
    rf'{COMPILER}|_*(?:sizeof|typeof|alignof|offsetof|defined|asm|va_\w+)_*'
    r'|mem(?:set|cpy|pcpy|cmp|move|chr)|str\w+|[vsnf]*printf|[vsf]*scanf|l*abs|alloca|malloc|calloc'
)
# Prefixes of libraries; and names with capitals and small letters, as other languages have them.
FOREIGN = re.compile(
    r'(?:pthread|sem|g|gtk|rte|ibv|rdma|SDL|std|pg|Py|numa|je|tc|mtx|thrd|cuda?|hsa|vk|gl|egl|mbed'
    rf'|xcb|llvm|LLVM|clang|gcc|bpftrace|pmem|memfd|posix)_\w+|{COMPILER}|\w*(?:[a-z][A-Z]|[A-Z][a-z])\w*'
)


def check(subject: Subject) -> Iterator[Hit]:
    if not subject.steps:
        return
    names = Names(subject)
    by_patch: dict[int, int] = {}
    for hit in (*_calls(subject, names), *_parameters(subject), *_prose(subject, names)):
        by_patch[hit.n] = by_patch.get(hit.n, 0) + 1
        if by_patch[hit.n] <= MOST:
            yield hit


# --- prose --------------------------------------------------------------------


def _prose(subject: Subject, names: Names) -> Iterator[Hit]:
    seen: set[str] = set()
    for mention in mentions(subject):
        if mention.name in seen or not _telling(mention):
            continue
        seen.add(mention.name)
        if names.known(mention.name) or names.pasted(mention.name, whole=False):
            continue
        if names.spent:
            return
        if ELSEWHERE.search(mention.around) or names.like(mention.name) is not None:
            continue
        yield Hit(
            mention.n,
            mention.path,
            mention.line,
            f'{mention.shown} is neither in the tree nor in this series',
            'Has it another name by now?',
            side='message' if mention.path is None else 'new',
            symbol=mention.name,
        )


def _telling(mention: Mention) -> bool:
    name = mention.name.strip('_')
    return (
        mention.form == 'call'
        and len(name) >= 8
        and '_' in name
        and FOREIGN.fullmatch(mention.name) is None
    )


# --- kernel-doc ---------------------------------------------------------------


def _parameters(subject: Subject) -> Iterator[Hit]:
    for step in subject.steps:
        for diff in step.files:
            path = diff.new_path
            added = {number: line.strip() for number, line in diff.added if b'@' in line}
            if path is None or not path.endswith(C_FILES) or not added:
                continue
            gone = {line.strip() for _, line in diff.removed}
            before = {(one.title, one.name) for one in strangers(text_of(step.pre, diff.old_path))}
            for one in strangers(text_of(step.post, path)):
                new = one.line in added and added[one.line] not in gone
                if new and (one.title, one.name) not in before:
                    yield Hit(
                        step.n,
                        path,
                        one.line,
                        f'the kernel-doc comment of {one.title} describes @{one.name}, '
                        'which is not there',
                        symbol=f'{one.title} @{one.name}',
                    )


# --- calls --------------------------------------------------------------------


def _calls(subject: Subject, names: Names) -> Iterator[Hit]:
    seen: set[str] = set()
    declared: tuple[set[bytes], list[bytes]] | None = None
    for step, path, node in added_nodes(subject, CALLS):
        name = node_text(node)
        if name in seen or not path.startswith(KERNEL) or len(name) < SHORTEST:
            continue
        seen.add(name)
        if BUILTIN.fullmatch(name) or names.in_tree(name) or not _readable(node):
            continue
        words, fragments = declared = declared or _declared(subject)
        word = name.encode()
        if word in words or any(one in word for one in fragments):
            continue
        if names.pasted(name, whole=False):
            continue
        other = names.like(name)
        yield Hit(
            step.n,
            path,
            line_of(node),
            f'calls {name}(), which nothing in the tree or in this series declares',
            'Does it need another series first?' if other is None else f'Is it {other}()?',
            symbol=name,
            severity=Severity.ERROR,
        )


def _readable(node: Node) -> bool:
    """Whether the parser understood what the call stands in."""
    above = node.parent
    while above is not None and above.type != 'function_definition':
        if above.type == 'ERROR':
            return False
        above = above.parent
    return above is not None and not above.has_error


def _declared(subject: Subject) -> tuple[set[bytes], list[bytes]]:
    """
    Return what the series may declare, and the fragments that its macros paste.

    That are the words of its files that stand there otherwise than in a call.
    """
    words: set[bytes] = set()
    fragments: list[bytes] = []
    for step in subject.steps:
        for diff in step.files:
            found = text_of(step.post, diff.new_path)
            if not (diff.new_path or '').endswith(C_FILES):
                words.update(WORD.findall(found))
                continue
            called = Counter(one.text for one in parse(found).query(CALLS))
            there = Counter(WORD.findall(STRING.sub(b'', code(found))))
            words |= {word for word, times in there.items() if times > called[word]}
            fragments += [one for pair in PASTED.findall(found) for one in pair if one]
    return words, fragments


FILE, OTHER = 'mm/example.c', 'mm/other.c'
CODE = """int example_first(struct example *e);

int example_second(struct example *e)
{
	return example_first(e);
}
"""
DOC = """/**
 * example_third() - do it
 * @example: what to do
 * @gfp: how to allocate
 *
 * Return: 0.
 */
static int example_third(struct example *example, gfp_t flags)
{
	return 0;
}
"""
STRUCT = """/**
 * struct example_state - where it stands
 * @begin: first
 * @end: last
 * @inner.count: how many
 */
struct example_state {
	unsigned long begin;
	struct {
		int count;
	} inner;
	DECLARE_BITMAP(end, 4);
};
"""
CALL = """
int example_last(struct example *e)
{
	return completely_missing(e);
}
"""
TREE = {FILE: CODE, OTHER: 'int other_of_it(void);\n'}


def _added(added: str, message: str = 'mm: example') -> Case:
    return Case(TREE, (Edit({FILE: CODE + added}, message),))


def _bad(added: str, message: str = 'mm: example') -> Case:
    return replace(_added(added, message), expect=(1,))


RULE = Rule(
    id='identifier-unknown',
    severity=Severity.NOTE,
    check=check,
    bad=(
        _bad(CALL),
        _bad(CALL.replace('return', 'if (e && e->ok)\n\t\treturn')),
        # Declared nowhere, though a string and a comment speak of it.
        _bad(
            CALL.replace(
                'return', '/* completely_missing */\n\tlog("completely_missing");\n\treturn'
            )
        ),
        _bad(DOC),
        _bad(STRUCT.replace('DECLARE_BITMAP(end, 4);', 'unsigned long last;')),
        _bad('/* Runs under absent_lock_held(). */\nint x;\n'),
        _bad('int x;\n', 'mm: x\n\nThis is done in the same way as absent_helper_of() does it.'),
        # Said once, at the first.
        Case(
            TREE,
            (
                Edit({OTHER: 'int y;\n'}),
                Edit({FILE: CODE + CALL}),
                Edit({FILE: CODE + CALL + CALL.replace('_last', '_more')}),
            ),
            expect=(2,),
        ),
    ),
    good=(
        # A parameter, a local, a macro of the file, a prototype, the next patch's function.
        _added(CALL.replace('struct example *e)', 'int (*completely_missing)(struct example *))')),
        _added(CALL.replace('\treturn', '\tint (*completely_missing)(void *) = e->f;\n\treturn')),
        _added('#define completely_missing(e) 0\n' + CALL),
        _added('extern int completely_missing(struct example *);\n' + CALL),
        Case(
            TREE,
            (
                Edit({FILE: CODE + CALL}),
                Edit({'include/linux/m.h': 'int completely_missing(struct example *e);\n'}),
            ),
        ),
        _added('#define MAKE(x) int completely_##x(void *e) { return 0; }\nMAKE(missing)\n' + CALL),
        # Not C of the kernel proper; not readable; a builtin; moved.
        Case({'tools/a.c': '\n'}, (Edit({'tools/a.c': CALL}),)),
        _added(CALL.replace('return', 'if (e {{ return')),
        _added(CALL.replace('completely_missing', '__builtin_no_such')),
        _added(CALL.replace('completely_missing(e)', 'memset(e, 0, 4)')),
        Case({FILE: CALL, OTHER: '\n'}, (Edit({FILE: '\n', OTHER: CALL}),)),
        # All there: parameters, members (of an inner struct, and made by a macro), a macro's.
        _added(DOC.replace('@gfp', '@flags') + STRUCT),
        _added('/**\n * EX() - do it\n * @a: what\n */\n#define EX(a) do_it(a)\n'),
        # Wrong before, moved, or about what is not there to see.
        Case({FILE: DOC}, (Edit({FILE: 'int x;\n' + DOC}),)),
        _added('/**\n * elsewhere() - do it\n * @a: what\n */\nEXPORT_SYMBOL(x);\n'),
        # Gone, foreign, quoted, near another name.
        _added('int x;\n', 'mm: x\n\nSince absent_helper_of() was removed, do it here.'),
        _added('int x;\n', 'mm: x\n\nThreads of pthread_absent_np() are meant.'),
        _added('int x;\n', 'mm: x\n\nThis is seen:\n\n\tabsent_helper_of()\n\nNot any more.'),
        _added('int x;\n', 'mm: x\n\nSame in example_secnod(), in absent_*() and absent_xxx().'),
    ),
)
