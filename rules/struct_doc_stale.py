"""
A struct that the documentation shows changes, and the document does not.

Documents under Documentation/ quote kernel structs in code blocks, for example
struct vm_area_desc in Documentation/filesystems/mmap_prepare.rst. A reader
takes the quote for the truth.

Reported is a quote that had the same members as the struct before the patch,
and has not at the end of the series. Silent about quotes that were shortened
or out of date already, and about comments and white space.
"""

import operator
import re
from collections.abc import Iterator

from bot.csyntax import Definition, changed_line, introduced, parse, tokens
from bot.model import Evidence, Hit, Severity, Step, Subject
from bot.rule import Case, Edit, Rule, named

QUOTE = re.compile(rb'^([ \t]+)struct (\w+) \{', re.M)
TOKENS = operator.attrgetter('tokens')


def check(subject: Subject) -> Iterator[Hit]:
    by_step = [(step, list(_changed(step))) for step in subject.steps]
    names = {struct for _, changed in by_step for (_, struct), _ in changed}
    if not names:
        return
    documents, last = _documents(subject, names), subject.steps[-1].post
    for step, changed in by_step:
        wanted = {struct for (_, struct), _ in changed}
        quotes = (
            quote for path in documents for quote in _quotes_in(path, step.pre.read(path), wanted)
        )
        for document, name, line, words, text in quotes:
            for (path, struct), (before, after) in changed:
                if struct != name or words != before.tokens:
                    continue
                now = parse(last.read(path) or b'').named(name, 'struct')
                still = [q[3] for q in _quotes_in(document, last.read(document), {name})]
                if any(found.tokens in still for found in now) or not still:
                    continue
                where = changed_line(step, path, after.start, after.end)
                if where is not None:
                    yield Hit(
                        step.n,
                        path,
                        where[0],
                        f'struct {name} changes here, {named(document)} still shows it as it was',
                        'Please update the document too.',
                        side=where[1],
                        symbol=name,
                        evidence=(Evidence(document, line, text),),
                    )


def _changed(step: Step) -> Iterator[tuple[tuple[str, str], tuple[Definition, Definition]]]:
    """Yield ((path, struct), (definition before, definition after))."""
    for diff in step.files:
        if not diff.new_path or not diff.old_path or not diff.new_path.endswith(('.h', '.c')):
            continue
        if diff.new_path.startswith(('tools/', 'samples/')):
            continue
        pre, post = step.pre.read(diff.old_path), step.post.read(diff.new_path)
        if pre is None or post is None or b'struct' not in pre:
            continue
        old, now = _structs(pre), _structs(post)
        for name in sorted(old.keys() & now.keys()):
            if [one.text for one in old[name]] == [one.text for one in now[name]]:
                continue
            # Of several under `#if` each may be the one that is shown.
            gone = introduced(now[name], old[name], TOKENS)
            new = introduced(old[name], now[name], TOKENS)
            for before, found in zip(gone, new, strict=False):
                yield (diff.new_path, name), (before, found)


def _structs(text: bytes) -> dict[str, list[Definition]]:
    grouped: dict[str, list[Definition]] = {}
    for found in parse(text).definitions:
        if found.kind == 'struct':
            grouped.setdefault(found.name, []).append(found)
    return grouped


def _documents(subject: Subject, names: set[str]) -> list[str]:
    """Return the documents that may show one of the structs, before or during the series."""
    tree = subject.steps[0].pre
    shown = [f'struct {name} {{'.encode() for name in sorted(names) if tree.knows(f'{name}{{')]
    found = {diff.path for step in subject.steps for diff in step.files}
    for path in tree.list('Documentation') if shown else ():
        if _is_document(path) and path not in found:
            text = tree.read(path) or b''
            if any(one in text for one in shown):
                found.add(path)
    return sorted(path for path in found if _is_document(path))


def _is_document(path: str) -> bool:
    return path.endswith(('.rst', '.txt')) and '/translations/' not in path


def _quotes_in(
    path: str, text: bytes | None, names: set[str]
) -> Iterator[tuple[str, str, int, tuple[str, ...], str]]:
    """Yield (document, struct, line, tokens, first line) for each quote of `names`."""
    for found in QUOTE.finditer(text or b''):
        name = found[2].decode()
        assert text is not None
        if name not in names:
            continue
        # The quote ends where its indentation has a closing brace.
        end = re.compile(rb'^' + re.escape(found[1]) + rb'\}', re.M).search(text, found.end())
        if end is not None:
            line = text.count(b'\n', 0, found.start()) + 1
            shown = found[0].decode('latin-1').strip()
            yield path, name, line, tokens(text[found.start() : end.end()]), shown


HEADER, DOCUMENT = 'include/linux/range.h', 'Documentation/mm/range.rst'
STRUCT = 'struct range {\n\tconst struct mm *mm; /* whose */\n\tint flags;\n};\n'
CHANGED = STRUCT.replace('const ', '')
QUOTED = """Ranges
======

.. code-block:: C

    struct range {
        const struct mm *mm;
        int flags;
    };

The end.
"""
TWO = f'#ifdef CONFIG_RANGE\n{STRUCT}#else\nstruct range {{}};\n#endif\n'
SHORT = QUOTED.replace('        int flags;\n', '        ...\n')

RULE = Rule(
    id='struct-doc-stale',
    severity=Severity.WARNING,
    check=check,
    bad=(
        Case({HEADER: STRUCT, DOCUMENT: QUOTED}, (Edit({HEADER: CHANGED}),), expect=(1,)),
        Case(
            {HEADER: STRUCT, DOCUMENT: QUOTED},
            (Edit({'mm/x.c': 'int x;\n'}), Edit({HEADER: STRUCT.replace('flags', 'state')})),
            expect=(2,),
        ),
        Case(
            {HEADER: STRUCT, DOCUMENT: QUOTED},
            (Edit({HEADER: CHANGED, DOCUMENT: QUOTED + 'Another word.\n'}),),
            expect=(1,),
        ),
        # Shown is the first of two.
        Case(
            {HEADER: TWO, DOCUMENT: QUOTED},
            (Edit({HEADER: TWO.replace('const ', '')}),),
            expect=(1,),
        ),
    ),
    good=(
        Case({HEADER: TWO, DOCUMENT: QUOTED}, (Edit({HEADER: TWO.replace('{}', '{ int x; }')}),)),
        Case({HEADER: TWO, DOCUMENT: QUOTED}, (Edit({HEADER: 'int x;\n' + TWO}),)),
        Case(
            {HEADER: STRUCT, DOCUMENT: QUOTED},
            (Edit({HEADER: CHANGED, DOCUMENT: QUOTED.replace('const ', '')}),),
        ),
        Case(
            {HEADER: STRUCT, DOCUMENT: QUOTED},
            (Edit({HEADER: CHANGED}), Edit({DOCUMENT: QUOTED.replace('const ', '')})),
        ),
        Case({HEADER: STRUCT, DOCUMENT: SHORT}, (Edit({HEADER: CHANGED}),)),
        Case(
            {HEADER: STRUCT, DOCUMENT: QUOTED}, (Edit({HEADER: STRUCT.replace('whose', 'which')}),)
        ),
    ),
)
