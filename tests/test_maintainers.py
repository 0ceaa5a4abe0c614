"""Reading MAINTAINERS."""

from bot.maintainers import parse

TEXT = b"""List of maintainers
===================

	M: *Mail* patches to: FullName <address@domain>

MEMORY MAPPING
M:	Ann Author <Ann@example.org>
R:	"Bob, Reviewer" <bob@example.org>
L:	linux-mm@kvack.org
L:	other@example.org (moderated for non-subscribers)
S:	Maintained
F:	include/trace/events/mmap.h
F:	mm/vma*
F:	tools/testing/vma/
X:	tools/testing/vma/docs/

DRIVERS
M:	carl@example.org
N:	[^a-z]demo
F:	drivers/*/demo.c
K:	ignored
"""


def test_who_looks_after_what() -> None:
    known = parse(TEXT)
    mm = {'ann@example.org', 'bob@example.org'}
    assert known.lists == {'linux-mm@kvack.org', 'other@example.org'}
    assert known.people(['mm/vma.c']) == mm
    assert known.people(['mm/vma_init.c']) == mm
    assert known.people(['mm/util.c']) == set()
    assert known.people(['mm/vma/deep.c']) == set()
    assert known.people(['tools/testing/vma/a/b.c']) == mm
    assert known.people(['tools/testing/vma/docs/x']) == set()
    assert known.people(['drivers/x/demo.c']) == {'carl@example.org'}
    assert known.people(['drivers/x/y/demo.c']) == {'carl@example.org'}
    assert known.people(['drivers/x/y/nodemo.c']) == set()
    assert known.people(['mm/vma.c', 'x_demo']) == {*mm, 'carl@example.org'}


def test_there_is_none() -> None:
    assert parse(None).lists == frozenset()
    assert parse(b'\xff\x00M: x\nF: [\n\nN:\t(\nM:\ta@b.ex\n').people(['x']) == frozenset()
