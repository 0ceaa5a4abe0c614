"""What builds and test runs say. The outputs are those of gcc 12, binutils 2.40, ASan."""

import pytest

from bot.diagnose import misses_a_file, of_build, of_run, relative
from bot.model import Diagnostic, Passed, TestsFailed

DIR = 'tools/testing/vma'


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        (
            "../../../mm/vma.c:12:9: error: 'struct x' has no member named 'y'\n   12 | \tv->y;",
            Diagnostic(
                'error', "'struct x' has no member named 'y'", 'mm/vma.c', 12, 'y', 'v->y;'
            ),
        ),
        (
            "include/dup.h:3:1: warning: unused variable 'z' [-Wunused]",
            Diagnostic('warning', "unused variable 'z' [-Wunused]", f'{DIR}/include/dup.h', 3),
        ),
        (
            "main.c:1:10: fatal error: nosuch.h: No such file or directory",
            Diagnostic('error', 'nosuch.h: No such file or directory', f'{DIR}/main.c', 1),
        ),
        (
            "/build/tools/testing/vma/../../../mm/vma.c:9: undefined reference to `frob'",
            Diagnostic('error', "undefined reference to 'frob'", 'mm/vma.c', 9, 'frob'),
        ),
        (
            "/usr/bin/ld: main.o: undefined reference to `frob'",
            Diagnostic('error', "undefined reference to 'frob'", None, None, 'frob'),
        ),
        (
            "make: *** No rule to make target 'x.c', needed by 'main.o'.  Stop.",
            Diagnostic('error', "No rule to make target 'x.c', needed by 'main.o'. Stop."),
        ),
    ],
)  # fmt: skip
def test_build_lines(line: str, expected: Diagnostic) -> None:
    errors, warnings = of_build(f'cc -c x.c\n{line}\n', DIR)
    assert errors + warnings == (expected,)


def test_the_same_message_counts_once() -> None:
    line = 'main.c:1:1: warning: x\n'
    assert len(of_build(line * 3, DIR)[1]) == 1


def test_a_missing_file_is_noticed() -> None:
    assert misses_a_file('main.c:1: fatal error: x.h: No such file or directory')
    assert misses_a_file("make: *** No rule to make target 'x'.  Stop.")
    assert not misses_a_file("undefined reference to `x'")


SUMMARY = '3 tests run, 3 passed, 0 failed.\n'


def test_passed_needs_status_summary_and_silence() -> None:
    assert of_run(SUMMARY, 0, DIR) == Passed(3)


@pytest.mark.parametrize(
    ('output', 'status', 'reason'),
    [
        (SUMMARY, 1, 'it ends with status 1, after a summary of 3 tests'),
        ('', 0, 'it ends with status 0 and without a summary'),
        ('Segmentation fault\n', 139, 'it ends with status 139 and without a summary'),
        (SUMMARY + SUMMARY, 0, 'it ends with status 0, after a summary of 3 tests'),
        (SUMMARY.replace('3 p', '2 p'), 0, 'it ends with status 0, after a summary of 3 tests'),
        (
            '../../../mm/vma.c:5:3: runtime error: shift exponent 64\n' + SUMMARY, 0,
            'UBSan: shift exponent 64',
        ),
    ],
)  # fmt: skip
def test_less_is_not_believed(output: str, status: int, reason: str) -> None:
    found = of_run(output, status, DIR)
    assert isinstance(found, TestsFailed)
    assert found.reason == reason


def test_failed_tests_are_named_with_their_assertion() -> None:
    found = of_run(
        'Assert FAILED at tests/merge.c:7:test_merge(): a == b is FALSE.\nTest merge FAILED\n'
        'Assert FAILED at tests/x.c:9:helper(): c is FALSE.\nTest split FAILED\nTest mute FAILED\n'
        '3 tests run, 0 passed, 3 failed.\n', 1, DIR,
    )  # fmt: skip
    assert isinstance(found, TestsFailed)
    assert found.failed == (
        Diagnostic('assert', 'a == b is FALSE', f'{DIR}/tests/merge.c', 7, 'merge'),
        Diagnostic('assert', 'c is FALSE', f'{DIR}/tests/x.c', 9, 'split'),
        Diagnostic('assert', 'no assertion was printed', symbol='mute'),
    )


def test_a_sanitizer_report_names_the_first_frame_in_the_tree() -> None:
    found = of_run(
        '==7==ERROR: AddressSanitizer: heap-use-after-free on address 0x602000000010 at pc 0x1\n'
        '    #0 0x7f0 in free (/lib/libasan.so.8+0x1)\n'
        '    #1 0x4011 in vma_merge /build/tools/testing/vma/../../../mm/vma.c:42\n', 1, DIR,
    )  # fmt: skip
    assert isinstance(found, TestsFailed)
    assert found.sanitizer == (
        Diagnostic(
            'sanitizer', 'AddressSanitizer: heap-use-after-free in vma_merge()', 'mm/vma.c', 42,
            'vma_merge',
        ),
    )  # fmt: skip


def test_paths_outside_the_tree_have_no_name() -> None:
    assert relative('/usr/include/stdio.h', DIR) is None
    assert relative('../../../../etc/passwd', DIR) is None
    assert relative('./main.c', DIR) == f'{DIR}/main.c'


def test_a_line_of_5_mb_is_passed_over() -> None:
    assert of_build('x' * 5_000_000 + '.c:1: error: y', DIR) == ((), ())
