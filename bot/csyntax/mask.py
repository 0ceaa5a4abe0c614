"""
Words that stand in the way of a parser without a preprocessor, made harmless.

The result is as long as the text, line for line and column for column, so that
every position stays true: attributes become blanks, `for_each_…(…)` becomes a
`while (…)`, `scoped_guard(…)` an `if (…)`, and a type that is a macro's argument
(`container_of(p, struct foo, m)`) a single word, as does a macro that stands for
an entry of an enum (`DECLARE_BIT(READ, 0),`), and `auto` a type's name. A comment
that nothing closes is blank to the end of the file. Nothing else inside comments,
strings or preprocessor lines is touched.
"""

import re
from collections.abc import Iterator
from typing import Literal

WORDS = """
    __always_inline __inline __inline__ inline noinline noinline_for_stack __flatten __noclone
    __always_unused __maybe_unused __unused __used __weak __visible __pure __cold __hot
    __init __exit __initdata __initconst __exitdata __ref __refdata __meminit __net_init __net_exit
    __sched __cpuidle __head notrace noinstr asmlinkage nokprobe_inline __latent_entropy
    __user __kernel __iomem __percpu __rcu __force __bitwise __private __nocast __signed
    __must_check __malloc __noreturn __deprecated __nonstring __designated_init
    __no_sanitize_address __no_sanitize_memory __no_kasan_or_inline __no_kcsan __no_kmsan_checks
    __ro_after_init __read_mostly __randomize_layout __no_randomize_layout __packed
    __cacheline_aligned __cacheline_aligned_in_smp ____cacheline_aligned
    ____cacheline_aligned_in_smp ____cacheline_internodealigned_in_smp __page_aligned_data
    __page_aligned_bss __no_context_analysis
"""
WORDS_WITH_ARGUMENTS = """
    __attribute__ __attribute __printf __scanf __nonnull __aligned __section __free __cleanup
    __alloc_size __realloc_size __assume_aligned __diagnose_as
    __acquires __releases __must_hold __cond_acquires __acquires_shared __releases_shared
    __must_hold_shared __guarded_by __pt_guarded_by
    __counted_by __counted_by_le __counted_by_be __counted_by_ptr
"""
ATTRIBUTES = tuple(WORDS.split())
WITH_ARGUMENTS = tuple(WORDS_WITH_ARGUMENTS.split())
PLAIN = frozenset(word.encode() for word in ATTRIBUTES)
CALLED = frozenset(word.encode() for word in WITH_ARGUMENTS)

SKIPPED = re.compile(
    rb'/\*(?:.*?\*/|(?P<unclosed>.*))|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    rb'|^[ \t]*#(?:[^\n\\]|\\\n|\\.)*',
    re.S | re.M,
)
# What may be to be masked: cheap to find, and looked at closely then.
ATTRIBUTE = re.compile(rb'(?:__|inline|noin|notrace|asmlinkage|nokprobe)\w*')
LOOP = re.compile(rb'for_each\w*[ \t]*(?=\()')
GUARD = re.compile(rb'scoped_(?:guard|cond_guard|user_\w+)[ \t]*(?=\()')
AUTO = re.compile(rb'auto(?=\s+\w+\s*=)')
TYPE = re.compile(
    rb'[(,]\s*((?:const\s+)?(?:(?:struct|union|enum)\s+\w+|(?:unsigned|signed)\s+\w+(?:\s+\w+){0,2}'
    rb'|long\s+long)(?:\s*\*+)*)(?=\s*[,)])'
)
OPENS = re.compile(rb'[ \t]*(?=\()')
ENUM = re.compile(rb'\benum\b[^;{}()]*\{')
ENTRY = re.compile(rb'(?:^|[{,])[ \t]*(\w+[ \t]*\([^()\n]*\))(?=[ \t]*(?:[,}\n]|/\*))', re.M)
NOT_IN_NAMES = re.compile(rb'[^\w\n]')
BLANK = re.compile(rb'[^\n]')
PARENTHESIS = re.compile(rb'[()]')
NEARBY = 4000


def mask(text: bytes) -> tuple[bytes, frozenset[int]]:
    """Return the masked text, and where `scoped_guard`s stand (byte offsets)."""
    text = _entries(_closed(text))
    places = sorted(_places(text))
    if not places:
        return text, frozenset()
    out = bytearray(text)
    guards = set()
    pairs: dict[int, int] | None = None
    skipped = iter([*(found.span() for found in SKIPPED.finditer(text)), (len(text), len(text))])
    start, end = next(skipped)
    before = 0
    for first, last, kind in places:
        while first >= end:
            start, end = next(skipped)
        if start <= first or first < before:
            continue
        before = last
        if kind == 'attribute':
            out[first:last] = b' ' * (last - first)
        elif kind == 'auto':
            out[first:last] = b'Auto'
        elif kind == 'type':
            out[first:last] = NOT_IN_NAMES.sub(b'_', text[first:last])
        if kind not in PAIRED:
            continue
        pairs = _pairs(text) if pairs is None else pairs
        close = pairs.get(last)
        if close is None:
            continue
        if kind == 'called':
            out[first:close] = BLANK.sub(b' ', text[first:close])
        elif text[close:].lstrip()[:1] != b';':  # a loop or guard without a body is a call
            word = b'while' if kind == 'loop' else b'if'
            out[first:last] = word.ljust(last - first)
            if kind == 'guard':
                guards.add(first)
    return bytes(out), frozenset(guards)


PAIRED = ('called', 'loop', 'guard')
Masked = Literal['attribute', 'called', 'loop', 'guard', 'auto', 'type']


def _places(text: bytes) -> Iterator[tuple[int, int, Masked]]:
    """Yield (begin, end, what it is) of all that is masked, comments and strings not left out."""
    for found in ATTRIBUTE.finditer(text):
        first, last = found.span()
        if _is_word(text[first - 1 : first]):
            continue
        opened = OPENS.match(text, last)
        if found[0] in CALLED and opened is not None:
            yield first, opened.end(), 'called'
        elif found[0] in PLAIN and opened is None:
            yield first, last, 'attribute'
    for found in LOOP.finditer(text):
        first, last = found.span()
        while _is_word(text[first - 1 : first]):
            first -= 1
        yield first, last, 'loop'
    for found in GUARD.finditer(text):
        if not _is_word(text[found.start() - 1 : found.start()]):
            yield *found.span(), 'guard'
    for found in AUTO.finditer(text):
        if not _is_word(text[found.start() - 1 : found.start()]):
            yield *found.span(), 'auto'
    for found in TYPE.finditer(text):
        called = _is_word(text[found.start() - 1 : found.start()])
        if found[0][:1] == b',' or (called and found.start(1) == found.start() + 1):
            yield *found.span(1), 'type'


def _is_word(char: bytes) -> bool:
    return char.isalnum() or char == b'_'


def _closed(text: bytes) -> bytes:
    """Blank a comment that nothing closes: parsers would look for its end from every `/*` in it."""
    if text.rfind(b'/*') + 1 < text.rfind(b'*/') or b'/*' not in text:
        return text
    for found in SKIPPED.finditer(text):
        if found['unclosed'] is not None:
            return text[: found.start()] + BLANK.sub(b' ', found[0])
    return text


def _entries(text: bytes) -> bytes:
    """Make words of the macros in enums."""
    out = bytearray(text)
    for enum in ENUM.finditer(text):
        end = text.find(b'}', enum.end())
        for entry in ENTRY.finditer(text, enum.end() - 1, max(end, 0)):
            out[entry.start(1) : entry.end(1)] = NOT_IN_NAMES.sub(b'_', entry[1])
    return bytes(out)


def _pairs(text: bytes) -> dict[int, int]:
    """Return, by the offset of each parenthesis that is closed nearby, the one behind its pair."""
    pairs, opened = {}, []
    for found in PARENTHESIS.finditer(text):
        at = found.start()
        if text[at] == 0x28:
            opened.append(at)
        elif opened and at - (first := opened.pop()) < NEARBY:
            pairs[first] = at + 1
    return pairs
