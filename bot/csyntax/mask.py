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

SKIPPED = re.compile(
    rb'/\*(?:.*?\*/|(?P<unclosed>.*))|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    rb'|^[ \t]*#(?:[^\n\\]|\\\n|\\.)*',
    re.S | re.M,
)
WORD = re.compile(
    rb'\b(?:(?P<attribute>' + '|'.join(ATTRIBUTES).encode() + rb')\b(?![ \t]*\()'
    rb'|(?P<called>' + '|'.join(WITH_ARGUMENTS).encode() + rb')[ \t]*(?=\()'
    rb'|(?P<auto>auto)(?=\s+\w+\s*=)'
    rb'|(?P<loop>\w*for_each\w*)[ \t]*(?=\()'
    rb'|(?P<guard>scoped_guard|scoped_cond_guard|scoped_user_\w+)[ \t]*(?=\())'
    rb'|(?:(?<=\w\()|(?<=,)\s*)(?P<type>'
    rb'(?:const\s+)?(?:(?:struct|union|enum)\s+\w+|(?:unsigned|signed)\s+\w+(?:\s+\w+){0,2}'
    rb'|long\s+long)(?:\s*\*+)*)(?=\s*[,)])'
)
ENUM = re.compile(rb'\benum\b[^;{}()]*\{')
ENTRY = re.compile(rb'(?:^|[{,])[ \t]*(\w+[ \t]*\([^()\n]*\))(?=[ \t]*(?:[,}\n]|/\*))', re.M)
NOT_IN_NAMES = re.compile(rb'[^\w\n]')
BLANK = re.compile(rb'[^\n]')
PARENTHESIS = re.compile(rb'[()]')
NEARBY = 4000


def mask(text: bytes) -> tuple[bytes, frozenset[int]]:
    """Return the masked text, and where `scoped_guard`s stand (byte offsets)."""
    text = _entries(_closed(text))
    if not WORD.search(text):
        return text, frozenset()
    out = bytearray(text)
    guards = set()
    pairs: dict[int, int] | None = None
    skipped = iter([*(found.span() for found in SKIPPED.finditer(text)), (len(text), len(text))])
    start, end = next(skipped)
    for found in WORD.finditer(text):
        while found.start() >= end:
            start, end = next(skipped)
        if start <= found.start() < end:
            continue
        first, last = found.span()
        if found['auto']:
            out[first:last] = b'Auto'
            continue
        if found['attribute']:
            out[first:last] = b' ' * (last - first)
            continue
        if found['type']:
            out[found.start('type') : last] = NOT_IN_NAMES.sub(b'_', found['type'])
            continue
        if pairs is None:
            pairs = _pairs(text)
        close = pairs.get(last)
        if close is None:
            continue
        if found['called']:
            out[first:close] = BLANK.sub(b' ', text[first:close])
        elif text[close:].lstrip()[:1] != b';':  # a loop or guard without a body is a call
            word = b'while' if found['loop'] else b'if'
            out[first:last] = word.ljust(last - first)
            if found['guard']:
                guards.add(first)
    return bytes(out), frozenset(guards)


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
