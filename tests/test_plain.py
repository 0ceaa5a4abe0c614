"""A stranger's text, made safe to show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.plain import HIDDEN, one_line, plain, tail


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('\x1b[31mred\x1b[0m', 'red'),
        ('\x1b]0;title\x07text', 'text'),
        ('a\u202egnp.exe', 'agnp.exe'),
        ('zero\u200bwidth\ufeff', 'zerowidth'),
        ('bell\x07 back\x08 c1\x9b31m', 'bell back c131m'),
        ('tab\tand\nline', 'tab\tand\nline'),
        ('naïve 日本', 'naïve 日本'),
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert plain(text) == expected


@given(st.text())
def test_nothing_hidden_is_left(text: str) -> None:
    assert HIDDEN.search(plain(text)) is None
    assert '\n' not in one_line(text)


@given(st.text(), st.integers(10, 50))
def test_never_longer_than_asked(text: str, limit: int) -> None:
    assert len(plain(text, limit)) <= limit


def test_long_text_is_cut_with_a_mark() -> None:
    assert plain('x' * 5000, 100) == 'x' * 99 + '…'
    assert tail('\n'.join(str(n) for n in range(100)), 3) == '97\n98\n99'
