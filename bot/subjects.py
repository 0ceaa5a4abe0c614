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
REPLY = re.compile(r'(?:[^\W\d_]{1,4}(?:\[\d+\])?[:\uff1a]\s*)+')
# What people write before [PATCH] for another tree than the list's own.
BRANCH = re.compile(
    r'(?:linux-|v?(?=\d+\.\d+\.[xy]\b))?\d+\.\d+(?:\.(?:\d+|x|y))?(?:-stable)?', re.I
)
STABLE = re.compile(r'-?stable(?:-rc|-only|-\d.*|/.*)?', re.I)
NEUTRAL = re.compile(r'RFC|RESEND|PATCH|BACKPORT|for|to|and|[-&+,/]', re.I)
ANNOUNCED = re.compile(r'\[\s*(?:tip\s*:|merged\b|folded-merged\b|obsolete\b|withdrawn\b)', re.I)
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


def is_announcement(subject: str) -> bool:
    """Whether a maintainer's tree announces a patch with a mail: `[tip: …]`, `[merged …]`."""
    return ANNOUNCED.match(subject.lstrip()) is not None


def is_answer(subject: str) -> bool:
    """Whether a mail answers a patch or a cover letter, by what it says after `Re:`."""
    text = ' '.join(subject[:LONGEST].split())
    said = REPLY.match(text)
    if said is None:
        return False
    return read(text[said.end() :]).is_patch or may_be_patch(text[said.end() :])


def aside(read: PatchSubject) -> str:
    """
    Say why what a list gets is not for its reviewers to judge, '' where it is.

    Backports (`[PATCH 6.1 001/200]`, `[PATCH AUTOSEL 6.1]`, `[PATCH 6.12.y]`) are copies
    of what was reviewed, for another tree. What names more than a tree
    (`[PATCH hotfix 6.18]`, `[PATCH for 6.19]`) is not taken for one.
    """
    if not read.counters_inferred and read.counter > read.expected:
        return f'patch {read.counter} of {read.expected}: it belongs to no series'
    words = [word for one in read.prefixes for word in one.split('/') if word]
    if any(word.upper() == 'AUTOSEL' for word in words):
        return f'a backport ({" ".join(read.prefixes)})'
    trees = [word for word in words if _is_stable(word)]
    others = [word for word in words if not _is_stable(word) and not NEUTRAL.fullmatch(word)]
    plain = all(BRANCH.fullmatch(one) and not one.lower().endswith(('.y', '.x')) for one in trees)
    aimed = plain and any(one.lower() == 'for' for one in words)
    return f'a backport ({" ".join(read.prefixes)})' if trees and not others and not aimed else ''


def _is_stable(word: str) -> bool:
    parts = word.split('-', 1) if re.match(r'\d+\.\d+-\d+\.', word) else [word]
    return STABLE.fullmatch(word) is not None or all(BRANCH.fullmatch(one) for one in parts)


def _bounded(read: PatchSubject) -> PatchSubject:
    if read.version > MOST:
        read = replace(read, version=ABSURD)
    if read.counter > MOST or read.expected > MOST or read.expected < 1:
        read = replace(read, counter=1, expected=1, counters_inferred=True)
    return read
