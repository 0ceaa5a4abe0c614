"""What a subject says of a patch, in all the forms that people send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.subjects import ABSURD, MOST, may_be_patch, read, usual

USUAL = '[PATCH v2 1/2] mm: x'


@pytest.mark.parametrize(
    'subject',
    [
        USUAL,
        '[PATCH  v2  1/2]  mm:  x',
        '[v2,1/2] mm: x',
        '[PATCH v2,1/2] mm: x',
        '[PATCH, v2, 1/2] mm: x',
        '[PATCH v2 1 of 2] mm: x',
        '[PATCH v2 1 / 2] mm: x',
        '[PATCHv2 1/2] mm: x',
        '[patch v2 1/2] mm: x',
        'PATCH v2 1/2: mm: x',
        '[PATCH V2 1/2] mm: x',
        '[v2 1/2] mm: x',
        '[PATCH][v2 1/2] mm: x',
    ],
)
def test_forms_of_one_subject(subject: str) -> None:
    found = read(subject)
    assert found.is_patch
    assert not found.is_reply
    assert (found.version, found.counter, found.expected) == (2, 1, 2)
    assert found.title == 'mm: x'
    assert usual(usual(subject)) == usual(subject)


@pytest.mark.parametrize(
    ('subject', 'version', 'number', 'prefixes'),
    [
        ('[RFC v3 0/2] mm: x', 3, (0, 2), ('RFC',)),
        ('[RESEND,PATCH v2 1/2] mm: x', 2, (1, 2), ('RESEND',)),
        ('[mm-unstable,v2,1/2] mm: x', 2, (1, 2), ('mm-unstable',)),
        ('[PATCH1/2] mm: x', 1, (1, 2), ()),
        ('[PATCHv31/2] mm: x', 3, (1, 2), ()),
        ('[PATCH AUTOSEL 6.12 01/20] mm: x', 1, (1, 20), ('AUTOSEL', '6.12')),
        ('[RFC][PATCH 1/2] mm: x', 1, (1, 2), ('RFC',)),
        ('RFC PATCH 1/2: mm: x', 1, (1, 2), ('RFC',)),
    ],
)
def test_forms(
    subject: str, version: int, number: tuple[int, int], prefixes: tuple[str, ...]
) -> None:
    found = read(subject)
    assert found.is_patch
    assert (found.version, (found.counter, found.expected)) == (version, number)
    assert (found.prefixes, found.title) == (prefixes, 'mm: x')


@pytest.mark.parametrize('subject', ['Re: [PATCH 1/2] mm: x', 'Re: [RFC v3 0/2] mm: x'])
def test_replies(subject: str) -> None:
    assert read(subject).is_reply
    assert not may_be_patch(subject)


@pytest.mark.parametrize(
    'subject',
    [
        '[tip: mm/core] mm: x',
        '[LSF/MM/BPF TOPIC] x',
        '[BUG] in 1/2 of v2',
        'mm: 1 of 2 pages',
        'patchwork is down: help',
        '',
        '[',
        '[]',
    ],
)
def test_no_patches(subject: str) -> None:
    assert not read(subject).is_patch
    assert not may_be_patch(subject)


def test_what_only_a_diff_makes_a_patch() -> None:
    for subject in ('[RFC] mm: x', '[v2] mm: x', '[RFC v2] mm: x', '[RESEND] mm: x'):
        assert not read(subject).is_patch
        assert may_be_patch(subject)


@pytest.mark.parametrize('number', [str(MOST + 1), '9' * 20, '9' * 5000])
def test_absurd_numbers_are_nobodys(number: str) -> None:
    for subject in (f'[PATCH v{number}] x', f'[PATCH 1/{number}] x', f'[PATCH {number}/2] x'):
        found = read(subject)
        assert found.version <= MOST or found.version == ABSURD
        assert found.counter <= MOST
        assert 1 <= found.expected <= MOST


@given(st.text(max_size=300))
def test_nothing_raises(subject: str) -> None:
    read(subject)
    may_be_patch(subject)
    assert usual(usual(subject)) == usual(subject)
