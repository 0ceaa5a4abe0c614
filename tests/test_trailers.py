"""Trailers are those that liblore (and so b4) finds, and they are found in linear time."""

import resource
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from liblore.utils import find_trailers

from bot.trailers import trailers
from tests.poison import poisons

LINES = st.sampled_from(
    [
        'Signed-off-by: A Developer <dev@example.org>', 'Signed-off-by: A Developer',
        'Acked-by: B <b@x>  # for mm', 'Acked-by: B <b@x> #', 'Link: https://x.org/a#b', 'Because.',
        '  Reviewed-by: C <c@x>', '> Acked-by: D <d@x>', '<dev@example.org>', '[dev: changed it]',
        'Fixes: 0123456789ab ("x")', 'Fixes: 0123456789ab ("x\ny")', 'Fixes: a bug', 'From: me',
        'Phone: 1', 'Note: this', 'http://x: y', 'A: b', 'Ab:\tc # d # e', 'Cc: stable # 6.1+', '',
        '-- ', 'x\r', 'Date: today\r', '_a: b', 'a:b: c', '[broken', '#', 'Ab: #c', 'Ab: c\t#d',
    ]
)  # fmt: skip


@given(st.lists(LINES, max_size=8))
def test_the_same_as_liblore(lines: list[str]) -> None:
    text = '\n'.join(lines)
    assert trailers(text) == find_trailers(text)[0]


SECONDS = 120
READING = """
import sys
from bot.assembly import letter
from bot.errors import LetterError
from bot.model import Scope
from tests.poison import poisons
for one in poisons().values():
    try:
        letter(one.raw, Scope(paths=('mm/vma*',), symbols=('x',), subjects=()))
    except LetterError:
        pass
print('read', len(poisons()))
"""


def test_no_mail_takes_time_without_end() -> None:
    """A limit of cpu time, some fifty times what all of them take; one of them took hours."""
    done = subprocess.run(
        [sys.executable, '-c', READING], capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)),
    )  # fmt: skip
    assert done.stdout == f'read {len(poisons())}\n', done.stderr[-2000:]
