"""Findings that are set aside: who asked, and what is made of bad requests."""

from dataclasses import replace

import pytest

from bot.model import Author, Finding, Hit, Ignore, Patch, Series, Severity
from bot.suppress import split

AUTHOR = Author('A', 'a@example.org')
KNOWN = ('compat-pair', 'vma-test-drift')


def finding(n: int, rule: str = 'compat-pair', symbol: str = 'ring_mmap') -> Finding:
    return Finding(rule, Severity.ERROR, 'x', Hit(n, 'mm/vma.c', 3, 'm', symbol=symbol))


FINDINGS = (finding(1), finding(2), finding(2, 'vma-test-drift', 'vm_area_desc.mm'))


def series(*notes: str, cover: str | None = None) -> Series:
    patches = tuple(
        Patch(n, len(notes), None, None, 'x', AUTHOR, '', text, b'')
        for n, text in enumerate(notes, 1)
    )
    return Series(None, 'x', AUTHOR, 1, patches, cover)


@pytest.mark.parametrize(
    ('line', 'left'),
    [
        ('vma-bot: ignore compat-pair -- on purpose', [1, 2]),
        ('  VMA-Bot: ignore compat-pair ring_mmap -- on purpose', [1, 2]),
        ('vma-bot: ignore compat-pair ring_mmap() -- on purpose', [1, 2]),
        ('vma-bot: ignore compat-pair other -- on purpose', [1, 2, 2]),
        ('vma-bot: ignore vma-test-drift mm -- on purpose', [1, 2, 2]),
        ('vma-bot: ignore vma-test-drift vm_area_desc.mm -- on purpose', [1, 2]),
        ('> vma-bot: ignore compat-pair -- quoted', [1, 2, 2]),
    ],
)
def test_a_line_below_the_dashes_stands_for_its_patch(line: str, left: list[int]) -> None:
    found = split(FINDINGS, series('', f'v2: better\n{line}\n'), (), KNOWN)
    assert [one.hit.n for one in found.findings] == left
    assert [one.reason for one in found.suppressed] == ['on purpose'] * (3 - len(left))
    assert found.remarks == ()


def test_the_cover_letter_stands_for_all() -> None:
    cover = 'Hello,\n\nvma-bot: ignore compat-pair -- uio is next\n'
    found = split(FINDINGS, series('', '', cover=cover), (), KNOWN)
    assert [one.rule for one in found.findings] == ['vma-test-drift']
    assert {one.reason for one in found.suppressed} == {'uio is next'}


@pytest.mark.parametrize(
    ('line', 'said'),
    [
        ('vma-bot: ignore compat-pair', 'it needs a rule and, after " -- ", a reason'),
        ('vma-bot: ignore compat-pair --', 'it needs a rule and, after " -- ", a reason'),
        ('vma-bot: ignore -- all', 'it needs a rule and, after " -- ", a reason'),
        ('vma-bot: ignore nosuch -- why', 'there is no rule "nosuch"'),
    ],
)
def test_what_can_not_be_honoured_is_said(line: str, said: str) -> None:
    found = split(FINDINGS, series(line, ''), (), KNOWN)
    assert found.findings == FINDINGS
    (remark,) = found.remarks
    assert remark.startswith('patch 1: not honoured: ')
    assert remark.endswith(said)


@pytest.mark.parametrize(
    ('ignore', 'left'),
    [
        (Ignore('compat-pair', 'r'), 1),
        (Ignore('compat-pair', 'r', path='mm/*'), 1),
        (Ignore('compat-pair', 'r', path='fs/*'), 3),
        (Ignore('compat-pair', 'r', symbol='uio_mmap'), 3),
    ],
)
def test_configured(ignore: Ignore, left: int) -> None:
    found = split(FINDINGS, series('', ''), (ignore,), KNOWN)
    assert len(found.findings) == left
    assert {one.reason for one in found.suppressed} <= {'r (configured)'}


def test_a_finding_of_the_whole_series_wants_the_cover_letter() -> None:
    whole = replace(FINDINGS[0], hit=replace(FINDINGS[0].hit, n=0))
    line = 'vma-bot: ignore compat-pair -- no'
    assert split((whole,), series(line), (), KNOWN).findings == (whole,)
    assert split((whole,), series('', cover=line), (), KNOWN).findings == ()
