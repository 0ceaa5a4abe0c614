"""
What the subject of a mail says of a patch: pure.

Answers which patch of how many, of which revision, behind which prefixes, and
whether the mail is a patch at all. One definition for `bot check`, the watcher
and b4's child. liblore reads the usual forms; here come the others that people
send: `[v2,1/2]` (Patchwork's own mbox files), `[PATCH v2,1/2]`, `[PATCH1/2]`,
`[PATCH 1 of 2]`, `PATCH 1/2: …`, `[RFC v3 0/2]`.
"""

import re
from dataclasses import replace

from liblore.series import PatchSubject, parse_patch_subject

# Bracketed groups at the beginning of a subject, after any `Re:`.
GROUPS = re.compile(r'(?P<reply>(?:[A-Za-z]{1,4}(?:\[\d+\])?:\s*)*)(?P<groups>(?:\[[^\]]*\]\s*)+)')
BARE = re.compile(
    r'(?P<words>(?:(?:RFC|RESEND)\s+)*PATCH(?:\s+(?:v\d+|RFC|RESEND))*(?:\s+\d+\s*/\s*\d+)?)\s*:\s+',
    re.I,
)
GLUED = re.compile(r'\b(PATCH(?:v\d+)?)(?=\d+\s*/\s*\d+)', re.I)
OF = re.compile(r'\b(\d+)\s+of\s+(\d+)\b', re.I)
COUNTER = re.compile(r'(?:^|[\s,;])\d+\s*/\s*\d+(?=$|[\s,;])')
POSTED = re.compile(r'\b(?:RFC|RESEND|v\d+)\b', re.I)
LONGEST = 2000
"""Characters of a subject that are looked at."""
ABSURD = 999_999_999
"""The revision that stands for all that are too large to be one."""
MOST = 10_000
"""Patches in a series, and revisions of one. More patches are nobody's, and read as none."""


def read(subject: str) -> PatchSubject:
    """
    Read a subject, decoded and on one line.

    `is_patch` is said of `[PATCH …]`, and of `[RFC 1/2]` or `[v2,1/2]`, which
    say a number. `[RFC]` or `[v2]` alone may be anything: see `may_be_patch()`.
    """
    # What the encoded words say is not decoded once more.
    return _bounded(parse_patch_subject(usual(subject).replace('=?', '= ?')))


def usual(subject: str) -> str:
    """Return a subject in the form that git format-patch writes, as b4 reads it."""
    text = ' '.join(subject[:LONGEST].split())
    bare = BARE.match(text)
    if bare is not None:
        text = f'[{bare["words"]}] {text[bare.end() :]}'
    found = GROUPS.match(text)
    if found is None:
        return text
    groups = OF.sub(r'\1/\2', GLUED.sub(r'\1 ', found['groups'].replace(',', ' ')))
    groups = groups.replace(';', ' ')
    if 'PATCH' not in groups.upper() and COUNTER.search(groups.strip('[] ')):
        groups = groups.replace('[', '[PATCH ', 1)
    return f'{found["reply"]}{" ".join(groups.split())} {text[found.end() :]}'.strip()


def may_be_patch(subject: str) -> bool:
    """Whether a mail with a diff is a patch though its subject does not say so: `[RFC]`, `[v2]`."""
    found = GROUPS.match(' '.join(subject[:LONGEST].split()))
    if found is None or found['reply'].strip():
        return False
    return POSTED.search(found['groups']) is not None


def _bounded(read: PatchSubject) -> PatchSubject:
    if read.version > MOST:
        read = replace(read, version=ABSURD)
    if read.counter > MOST or read.expected > MOST or read.expected < 1:
        read = replace(read, counter=1, expected=1, counters_inferred=True)
    return read
