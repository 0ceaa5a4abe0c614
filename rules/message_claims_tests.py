"""
The message says that the VMA tests are updated, and the series does not touch them.

A change of what tools/testing/vma copies or stubs usually ends its message
with such a sentence. When the part that it speaks of was lost in a rebase, or
went to another series, reviewers look for it in vain, and the tests fall
behind.

Read are the messages of the patches and the cover letter, sentence by
sentence. Reported is one that says that tests of VMAs, userland tests, or
tools/testing/vma are updated, adapted, extended and the like, or a subject
with the prefix `tools/testing/vma:`, when no patch has a file below tools/
(other than selftests, which count where the sentence may mean them). Silent
about sentences with a negation, a condition, a wish, the future or another
series in them, about quotations, changelogs of revisions, trailers and
diffstats, about tests that were only run, and about other tests.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bot.model import Hit, Severity, Subject
from bot.rule import Case, Edit, Rule

FOLDER = 'tools/testing/vma'
# A sentence with one of these may speak of something else than what this series does.
DOUBT = re.compile(
    r"""\b(?:not|no|never|nor|neither|none|without|cannot|avoid\w*|unneeded|unnecessary|skip\w*
    |will|shall|would|should|could|can|may|might|must|to\s+be|todo|plan\w*|later|follow-?up\w*
    |subsequent\w*|future|next|separate\w*|another|other|previous\w*|prior|earlier|already|before
    |once|until|unless|if|when|whether|instead|rather|except|left|leave\w*|postpone\w*|defer\w*
    |(?<!as\s)(?:need|require|request|suggest)\w*|want\w*|ask\w*|please|depend\w*|based|top\s+of
    |which|who|allow\w*|able|eas\w+|help(?:s|ed|ing|ful)?|enabl\w*|lets|possible|revert\w*|commit|thread|branch
    |v\d+|\w+'s\s+series)\b|n't\b|n\u2019t\b|\?|https?:|\[""",
    re.I | re.X,
)
DET = (
    r'(?:(?:the|our|these|all|both|existing|related|relevant|affected|corresponding|new|some|more'
    r'|several|a|few|additional)\s+)*'
)
KIND = r'(?:(?:userland|userspace|unit|internal|self)[\s-]+)*'
PARTS = r'(?:code|suite|harness|stubs?|headers?|files?|helpers?|infrastructure|cases?|program)'
TESTS = (
    rf'{DET}(?:{KIND}VMA\s+{KIND}(?:tests|test(?:ing)?\s+{PARTS})\b|(?:userland|userspace)\s+tests\b'
    rf'|{FOLDER}(?:/[\w./-]*\w)?(?=[\s,;:.]|\Z))'
    r'(?!(?:\s+(?:now|still|all|then))*\s+(?:fail|break|build|crash|error|warn|report|result|run'
    r'|pass|work)|\s+(?:in|of)\s+\w+\()'
)
THINGS = r'(?:cop(?:y|ies)|duplicates?|stubs?|headers?|definitions?|code|versions?|shims?|tests?)'
VERB = (
    r'(?:update|adjust|adapt|amend|extend|expand|modify|modifie|sync|convert|correct|fix\s+up|fix'
    r'|add|rework)'
)
# `update the tests`, `update mm.h and the tests`, `update the copy of it in the tests`.
OBJECT = (
    rf'(?:{TESTS}|(?:[\w()/.*-]+,?\s+){{1,4}}?(?:and|as\s+well\s+as)\s+{TESTS}'
    r'(?!\s+(?:now|still|all|are|is|do|does|was|were|have|continue)\b)'
    rf'|{DET}(?:(?:its|their)\s+)?(?:[\w()]+\s+)?{THINGS}\s+(?:of\s+[\w()]+\s+)?(?:in|to)\s+{TESTS})'
)
START = r'(?:\A\W*|[,:;]\s*|\b(?:and|also|then|we|I|finally|therefore|accordingly|thus)\s+)'
CLAIM = re.compile(
    rf'{START}{VERB}\s+{OBJECT}|\b{VERB}e?s\s+{OBJECT}'
    rf'|(?:\A\W*(?:(?:also|finally,?|we|I|have)\s+){{0,3}}){VERB}(?:d|ed)\s+{OBJECT}'
    rf'|(?:,|\band|\balso|\bwhile)\s+(?:updating|adjusting|adapting|extending|fixing)\s+{OBJECT}'
    rf'|{START}(?:propagate|reflect|mirror|duplicate)s?\s+(?:[\w()]+\s+){{1,4}}?(?:to|into|in)\s+'
    rf'{TESTS}'
    rf'|{TESTS}\s+(?:{PARTS}\s+)?(?:is|are|have\s+been|has\s+been)\s+'
    r'(?:(?:also|now|all|then|likewise|accordingly)\s+)*'
    r'(?:updated|adjusted|adapted|amended|extended|expanded|modified|synced|converted|fixed\s+up)\b',
    re.I,
)
SUBJECT = re.compile(rf'\A{FOLDER}[\w./-]*:')
# From here on it is told what changed between revisions, or what the patches are.
REST = re.compile(
    r'[\W_]{0,9}(?:v\d+\b|changelog\b|changes?(?::?\s*\Z|\s+(?:since|in|from|between)\b)'
    r'|(?:revision |version )?history\b)|---\s*\Z|.*\bv\d+\s*(?:->|-->|→|=>)\s*v\d|.* \(\d+\):\Z',
    re.I,
)
NO_PROSE = re.compile(r'\s*>|\t|    |[A-Z][\w-]+: |.*\s\|\s+\d+\s|-- \Z')
QUOTED = re.compile(
    r'"[^"]*"|\u201c[^\u201c\u201d]*\u201d|`[^`]*`|(?<!\w)\'[^\'\s][^\'\n]*\'(?!\w)'
)
END = re.compile(r'(?<=[.!?])(?=\s)|\n(?=[ \t]*[-*•]\s)|\n[ \t]*\n')
# Longer than any message, and any sentence of one.
LONGEST, LONGEST_SENTENCE = 100_000, 1000
OTHER_TESTS = re.compile(r'\btests?\b|_tests?\b|\btest_|selftests|kunit')


@dataclass(frozen=True)
class _Claim:
    words: str
    line: int


def check(subject: Subject) -> Iterator[Hit]:
    paths = {diff.path for step in subject.steps for diff in step.files}
    if any(path.startswith('tools/') and '/selftests/' not in path for path in paths):
        return
    ambiguous = any(OTHER_TESTS.search(path) for path in paths)
    found = False
    for patch in subject.series.patches:
        claim = _claim(f'{patch.subject}\n\n{patch.message}', ambiguous)
        if claim is not None:
            found = True
            yield _hit(patch.n, 'the message', claim, claim.line)
    if not found and subject.series.cover:
        claim = _claim(subject.series.cover, ambiguous)
        if claim is not None:
            yield _hit(0, 'the cover letter', claim, None)


def _hit(n: int, where: str, claim: _Claim, line: int | None) -> Hit:
    return Hit(
        n,
        None,
        line,
        f'{where} says this, and no patch of the series touches {FOLDER}',
        'Did that part get lost, or is the sentence from an earlier version?',
        side='message',
        said=(claim.words,),
        key=f'{where} says "{claim.words}", and no patch of the series touches {FOLDER}',
    )


def _claim(text: str, ambiguous: bool) -> _Claim | None:
    """Return the first claim; with `ambiguous`, only one that can mean no other tests."""
    text = text[:LONGEST]
    prefix = SUBJECT.match(text)
    if prefix is not None:
        return _Claim(prefix[0], 1)
    if re.match(r'(?:\[[^\]]*\]\s*)?Revert\b', text):
        return None
    prose = _prose(text)
    start = 0
    for end in (*(found.end() for found in END.finditer(prose)), len(prose)):
        sentence = prose[start:end]
        claim = CLAIM.search(sentence) if len(sentence) <= LONGEST_SENTENCE else None
        if claim is not None and not DOUBT.search(sentence):
            words = re.sub(r'\A\W+', '', claim[0])
            if not ambiguous or re.search(f'{FOLDER}|userland', words):
                line = prose.count('\n', 0, start + claim.end() - len(words)) + 1
                return _Claim(' '.join(words.split()), line)
        start = end
    return None


def _prose(text: str) -> str:
    """Blank what the author does not say of this revision; the lines stay where they are."""
    lines = text.split('\n')
    rest = next((at for at, line in enumerate(lines) if at and REST.match(line[:200])), len(lines))
    kept = ['' if NO_PROSE.match(line[:200]) else line for line in lines[:rest]]
    return QUOTED.sub(lambda found: re.sub(r'[^\n]', ' ', found[0]), '\n'.join(kept))


FILE, DUP = 'mm/vma.c', f'{FOLDER}/include/dup.h'
BEFORE = {FILE: 'int x;\n', DUP: 'int x;\n', 'tools/testing/selftests/mm/merge.c': 'int m;\n'}


def _says(message: str, **files: str) -> Case:
    """Make a case of one patch that changes mm/vma.c (and other files) and says `message`."""
    edited = {FILE: 'int y;\n', **{path.replace('__', '/'): text for path, text in files.items()}}
    return Case(BEFORE, (Edit(edited, message),), expect=(1,))


RULE = Rule(
    id='message-claims-tests',
    severity=Severity.WARNING,
    check=check,
    bad=(
        _says('mm: x\n\nRename it. Also update the VMA tests to reflect this change.'),
        _says('mm: x\n\nFinally, we update the VMA userland\ntests accordingly.'),
        _says('mm: x\n\nThis changes the type, and updates its copy in tools/testing/vma.'),
        _says('mm: x\n\nThe VMA tests are also updated to match.'),
        _says('mm: x\n\n- drop the argument\n- adjust mm/vma.h and the userland VMA tests'),
        _says('tools/testing/vma: keep the copy of x in sync'),
        _says('mm: update the VMA tests\n\nThey lag behind.'),
        _says('mm: x\n\nPropagate the change to the VMA tests.'),
        # Selftests are touched, but are not what it speaks of.
        Case(
            BEFORE,
            (
                Edit({FILE: 'int y;\n'}, 'mm: x\n\nUpdate tools/testing/vma/include/dup.h too.'),
                Edit({'tools/testing/selftests/mm/merge.c': 'int n;\n'}, 'selftests/mm: y'),
            ),
            expect=(1,),
        ),
        Case(
            BEFORE,
            (
                Edit({FILE: 'int y;\n'}, 'mm: x'),
                Edit(
                    {FILE: 'int z;\n'}, 'mm: z\n\nThis has no use. Extend the VMA tests as needed.'
                ),
            ),
            expect=(2,),
        ),
    ),
    good=(
        Case(
            BEFORE, (Edit({FILE: 'int y;\n', DUP: 'int y;\n'}, 'mm: x\n\nUpdate the VMA tests.'),)
        ),
        # Another patch of the series does it.
        Case(
            BEFORE,
            (Edit({FILE: 'int y;\n'}, 'mm: x\n\nUpdate the VMA tests.'), Edit({DUP: 'int y;\n'})),
        ),
        # Not, not now, not here, only maybe.
        _says('mm: x\n\nThere is no need to update the VMA tests.'),
        _says("mm: x\n\nThis doesn't change behaviour, so do not touch or\nupdate the VMA tests."),
        _says('mm: x\n\nA follow-up updates the VMA tests.'),
        _says('mm: x\n\nThis helps whoever has to extend VMA tests, and update the VMA tests.'),
        _says('mm: x\n\nShall I also update the VMA tests?'),
        # Run, seen to pass, or what they showed.
        _says('mm: x\n\nTested with the VMA tests in tools/testing/vma, all of which pass.'),
        _says('mm: x\n\nFix a crash that the VMA userland tests show.'),
        _says('mm: x\n\nFix VMA tests failure: the mask is too short.'),
        _says('mm: x\n\nCorrect the flags, and VMA tests now pass.'),
        # Said by others, or of an earlier version.
        _says('mm: x\n\nOn Monday Lorenzo wrote:\n> Also update the VMA tests.\n\nDone otherwise.'),
        _says('mm: x\n\nSee "mm: y, and update the VMA tests".\n\nFixes: 012345678901 ("mm: z")'),
        _says('mm: x\n\nIt is faster.\n\nChanges in v2:\n- Update the VMA tests.'),
        _says('Revert "tools/testing/vma: x"\n\nUpdate the VMA tests.'),
        # Other tests.
        _says('mm: x\n\nUpdate the maple tree userspace tests, and fix the VMA test in f().'),
        _says(
            'mm: x\n\nUpdate the VMA tests.',
            tools__testing__selftests__mm__merge='int n;\n',
        ),
        _says('mm: x\n\nUpdate the userland tests.', tools__testing__shared__linux='int l;\n'),
    ),
)
