"""Reading diffs and placing hunks, where a property test would not look."""

import pytest

from bot.errors import PatchError
from bot.model import Hunk
from bot.patch import names_in, parse, place

BODY = '@@ -1,2 +1,2 @@\n a\n-b\n+c\n'


def git_diff(old: str, new: str, *, more: str = '') -> bytes:
    return f'diff --git {old} {new}\n{more}--- {old}\n+++ {new}\n{BODY}'.encode('latin-1')


@pytest.mark.parametrize(
    ('old', 'new', 'path'),
    [
        ('a/mm/x.c', 'b/mm/x.c', 'mm/x.c'),
        ('i/mm/x.c', 'w/mm/x.c', 'mm/x.c'),
        ('a/with space.c', 'b/with space.c', 'with space.c'),
        (r'"a/tab\there.c"', r'"b/tab\there.c"', 'tab\there.c'),
        (r'"a/\303\251.c"', r'"b/\303\251.c"', 'é.c'),
    ],
)
def test_names(old: str, new: str, path: str) -> None:
    assert parse(git_diff(old, new))[0].path == path


@pytest.mark.parametrize(
    'diff',
    [
        b'',
        b'no diff\n',
        b'--- a/x\n+++ b/x\n' + BODY.encode(),
        git_diff('x', 'x'),
        git_diff('a/x', 'b/y'),
        git_diff('"a/x', '"b/x'),
        git_diff('a/x', 'b/x', more='old mode 100644\n'),
        git_diff('a/x', 'b/x', more='rename from x\n'),
        git_diff('a/x', 'b/x', more='words in between\n'),
        git_diff('a/x', 'b/x') + git_diff('a/x', 'b/x'),
        git_diff('a/x', 'b/x') + b'\n@@ -9 +9 @@\n-a\n+b\n',
        b'diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n a\n b\n',
    ],
)
def test_what_is_not_plainly_a_git_diff_is_left_to_git(diff: bytes) -> None:
    with pytest.raises(PatchError):
        parse(diff)


@pytest.mark.parametrize(
    ('diff', 'why'),
    [
        (b'diff --git a/x b/x\nindex 1..2\nBinary files a/x and b/x differ\n', 'binary'),
        (b'diff --git a/x b/y\nsimilarity index 100%\ncopy from x\ncopy to y\n', 'copy'),
        (git_diff('a/.git/x', 'b/.git/x'), 'odd path .git/x'),
        (git_diff('a/../x', 'b/../x'), 'odd path ../x'),
        (git_diff('a/GIT~1/x', 'b/GIT~1/x'), 'odd path GIT~1/x'),
        (b'diff --git a/x b/x\nnew file mode 160000\n', 'mode 160000'),
    ],
)
def test_what_is_declined_says_why(diff: bytes, why: str) -> None:
    assert parse(diff)[0].declined == why


def test_ordinary_dot_files_are_not_odd() -> None:
    for name in ('.gitignore', '.gitattributes', '.get_maintainer.ignore', '.github/x'):
        assert parse(git_diff(f'a/mm/{name}', f'b/mm/{name}'))[0].declined is None


def hunk(start: int, *lines: bytes) -> Hunk:
    old = sum(line[:1] != b'+' for line in lines)
    new = sum(line[:1] != b'-' for line in lines)
    return Hunk(start, old, start, new, lines)


NUMBERS = b''.join(b'%d\n' % n for n in range(1, 21))


def test_an_offset_is_found_and_the_hunk_gets_its_true_lines() -> None:
    placed = place(NUMBERS, [hunk(5, b' 9\n', b'-10\n', b'+ten\n', b'+and\n', b' 11\n'),
                             hunk(8, b' 14\n', b'-15\n', b'+x\n', b' 16\n')])  # fmt: skip
    assert not placed.exact
    assert placed.content.split()[8:12] == [b'9', b'ten', b'and', b'11']
    assert [(one.old_start, one.new_start) for one in placed.hunks] == [(9, 9), (14, 15)]


def test_the_nearest_of_several_places_is_taken_the_later_one_first() -> None:
    content = b'x\n' * 3 + b'A\nb\nC\n' + b'x\n' * 4 + b'A\nb\nC\n' + b'x\n' * 3
    change = (b' A\n', b'-b\n', b'+B\n', b' C\n')
    assert place(content, [hunk(7, *change)]).content.index(b'B') == content.index(b'b')
    assert place(content, [hunk(8, *change)]).content.index(b'B') == content.rindex(b'b')


def test_a_hunk_at_the_first_line_must_match_there() -> None:
    with pytest.raises(PatchError, match=r'hunk 1 .* does not match'):
        place(b'new\n' + NUMBERS, [hunk(1, b' 1\n', b'-2\n', b'+two\n', b' 3\n')])


def test_a_line_that_an_earlier_hunk_wrote_can_not_match() -> None:
    first = hunk(2, b' 2\n', b'-3\n', b'+x\n', b' 4\n')
    with pytest.raises(PatchError, match='hunk 2'):
        place(NUMBERS, [first, hunk(3, b' x\n', b'-4\n', b'+y\n', b' 5\n')])


def test_names_that_a_line_may_mean() -> None:
    assert {'x.c', 'dir/y z.c'} <= names_in('a/x.c b/dir/y z.c')
    assert 'tab\t.c' in names_in(r'"a/tab\t.c" "b/tab\t.c"') or 'tab\t.c' in names_in(
        r'"a/tab\t.c"'
    )
