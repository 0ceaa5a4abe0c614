"""
What builds and test runs say, and what `vma-test-build` makes of it.

The outputs are shaped as those of gcc 12, clang, binutils 2.40, lld, glibc, ASan, UBSan and LSan.
"""

from dataclasses import replace
from typing import get_args

import pytest

from bot.diagnose import (
    LIBRARY,
    MISSING_HEADER,
    flags_of,
    misses_a_file,
    of_build,
    of_run,
    relative,
)
from bot.model import (
    AppliedSeries,
    Build,
    BuildFailed,
    BuildOutcome,
    CouldNotRun,
    Diagnostic,
    Evidence,
    FileDiff,
    Hit,
    Parser,
    Passed,
    Severity,
    TestsFailed,
)
from bot.rule import Case, Edit, diff_of, finding_of, subject_of
from rules.vma_test_build import RULE

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
            Diagnostic('warning', "unused variable 'z' [-Wunused]", f'{DIR}/include/dup.h', 3, 'z'),
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


# --- builds: more compilers, linkers, make ---


@pytest.mark.parametrize(
    ('text', 'symbol'),
    [
        ("implicit declaration of function 'frob'; did you mean 'from'?", 'frob'),
        ("'frob' undeclared (first use in this function); did you mean 'from'?", 'frob'),
        ("assignment of member 'a' in read-only object", 'a'),
        ("assignment of read-only member 'a'", 'a'),
        ("storage size of 'z' isn't known", 'z'),
        ("conflicting types for 'one'; have 'int(long int)'", 'one'),
        ("too many arguments to function 'one'; expected 1, have 2", 'one'),
        ("invalid use of undefined type 'struct fwd'", 'fwd'),
        ("'f' used but never defined", 'f'),
        ("variable 'x' set but not used [-Wunused-but-set-variable]", 'x'),
        ("use of undeclared identifier 'frob'", 'frob'),
        ("call to undeclared function 'frob'; ISO C99 and later do not support that", 'frob'),
        ("no member named 'q' in 'struct s'", 'q'),
        ("incomplete definition of type 'struct fwd'", 'fwd'),
        ("cannot assign to non-static data member 'a' with const-qualified type 'int'", 'a'),
        ("expected ';' before 'int'", None),
    ],
)  # fmt: skip
def test_the_name_that_a_compiler_speaks_of(text: str, symbol: str | None) -> None:
    ((found,), _) = of_build(f'main.c:1:1: error: {text}\n', DIR)
    assert (found.text, found.symbol) == (text, symbol)


def test_colours_quotes_of_other_locales_and_notes() -> None:
    errors, warnings = of_build(
        '\x1b[01m\x1b[Kmain.c:7:3:\x1b[m\x1b[K \x1b[01;31m\x1b[Kerror: \x1b[m\x1b[K'
        '\u2018x\u2019 undeclared\r\n'
        '    7 | \tx = \x1b[01;31m\x1b[K1\x1b[m\x1b[K;\r\n'
        'main.c:7:3: note: each undeclared identifier is reported only once\n'
        'main.c:2:1: note: declared here\n'
        'main.c: At top level:\n'
        'cc1: all warnings being treated as errors\n', DIR,
    )  # fmt: skip
    assert errors == (
        Diagnostic('error', "'x' undeclared", f'{DIR}/main.c', 7, 'x', 'x = 1;'),
    )  # fmt: skip
    assert warnings == ()


def test_old_clangs_quote_without_a_line_number() -> None:
    ((found,), _) = of_build('main.c:7:3: error: no\n  x = 1;\n  ^~\n1 error generated.\n', DIR)
    assert found.code == 'x = 1;'


LINKED = [
    (
        (
            "/usr/bin/ld: main.o:/build/mm/vma.c:4: multiple definition of `dd'; "
            'util.o:/build/mm/util.c:1: first defined here'
        ),
        Diagnostic('error', "multiple definition of 'dd'", 'mm/vma.c', 4, 'dd'),
    ),
    (
        "/usr/bin/ld: main.o:(.data+0x0): multiple definition of `dd'; x.o:(.data+0x0): first",
        Diagnostic('error', "multiple definition of 'dd'", symbol='dd'),
    ),
    (
        "vma.c:(.text+0x5): undefined reference to `gone'",
        Diagnostic('error', "undefined reference to 'gone'", symbol='gone'),
    ),
    (
        '/usr/bin/ld: cannot find -lurcu: No such file or directory',
        Diagnostic('error', 'cannot find -lurcu: No such file or directory'),
    ),
    (
        'ld.lld: error: unable to find library -lurcu',
        Diagnostic('error', 'unable to find library -lurcu'),
    ),
    (
        (
            'ld.lld: error: undefined symbol: frob\n'
            '>>> referenced by vma.c:9 (/build/tools/testing/vma/../../../mm/vma.c:9)\n'
            '>>>               main.o:(vma_link)'
        ),
        Diagnostic('error', 'undefined symbol: frob', 'mm/vma.c', 9, 'frob'),
    ),
    (
        'ld.lld: error: duplicate symbol: dd\n>>> defined at main.c:1\n>>>            main.o:(dd)',
        Diagnostic('error', 'duplicate symbol: dd', f'{DIR}/main.c', 1, 'dd'),
    ),
    (
        "cc: error: unrecognized command-line option '-fnope'",
        Diagnostic('error', "unrecognized command-line option '-fnope'"),
    ),
    (
        'Makefile:3: *** missing separator.  Stop.',
        Diagnostic('error', 'missing separator. Stop.', f'{DIR}/Makefile', 3),
    ),
    (
        '/bin/sh: 1: generate: not found\nmake: *** [Makefile:9: out.h] Error 127',
        Diagnostic('error', "the recipe of 'out.h' fails: Error 127", f'{DIR}/Makefile', 9),
    ),
]


@pytest.mark.parametrize(('output', 'expected'), LINKED, ids=[one[1].text for one in LINKED])
def test_linkers_and_make(output: str, expected: Diagnostic) -> None:
    noise = (
        "/usr/bin/ld: main.o: in function `main':\n"
        "/usr/bin/ld: main.c:5: more undefined references to `y' follow\n"
        'collect2: error: ld returned 1 exit status\n'
        'clang: error: linker command failed with exit code 1 (use -v to see invocation)\n'
    )
    assert of_build(f'{noise}{output}\n{noise}', DIR)[0] == (expected,)


def test_a_recipe_that_fails_says_nothing_beside_an_error() -> None:
    errors, _ = of_build('main.c:1:1: error: x\nmake: *** [Makefile:9: main.o] Error 1\n', DIR)
    assert [one.text for one in errors] == ['x']


@pytest.mark.parametrize(
    ('line', 'header'),
    [
        ('../shared/x.h:7:10: fatal error: urcu.h: No such file or directory', 'urcu.h'),
        ('x.h:7:10: fatal error: urcu/uatomic.h: No such file or directory', 'urcu/uatomic.h'),
        ("x.h:7:10: fatal error: 'urcu.h' file not found", 'urcu.h'),
        ('x.h:7:10: fatal error: sanitizer/asan.h: No such file or directory', 'sanitizer/asan.h'),
        ('x.h:7:10: fatal error: linux/nosuch.h: No such file or directory', None),
        ("x.h:7:10: error: 'urcu' undeclared", None),
    ],
)  # fmt: skip
def test_headers_that_the_machine_lacks(line: str, header: str | None) -> None:
    found = MISSING_HEADER.search(line)
    assert (found[1] if found else None) == header


# --- flags ---


@pytest.mark.parametrize(
    ('output', 'flags'),
    [
        (
            ('cc -g -O2 -I. -I ../include -DFOO -D CONFIG_BAR -fsanitize=address -MMD -MF x.d '
            '-Wp,-MD,.x.d -c -o main.o main.c\n'),
            ('-DCONFIG_BAR', '-DFOO', '-I../include', '-I.', '-O2', '-fsanitize=address'),
        ),
        ('cc main.o -o main -lurcu -l pthread -L lib\n', ('-Llib', '-lpthread', '-lurcu')),
        ('ccache /usr/bin/x86_64-linux-gnu-gcc-12 -w -c x.c\n', ('-w',)),
        ('clang-17 -m32 -std=gnu11 -Wno-error -c x.c; strip -fx x.o\n',
         ('-Wno-error', '-m32', '-std=gnu11')),
        ('gcc -c x.c && mv -fnope x.o y.o\n', ()),
        ('c99 -include a.h \\\n\t-isystem /opt -UX -c x.c\n', ('-UX', '-include a.h',
                                                              '-isystem /opt')),
        ("gcc '-DNAME=\"a b\"' -c x.c\n", ('-DNAME=a b',)),
        ('cc -Wall -c a.c\ncc -Wall -O1 -c b.c\n', ('-O1', '-Wall')),
        ('  CC      main.o\n', ()),
        ('  LD      -fno main.o\n', ()),
        ('make[1]: Entering directory -fx\ntest -L x || ln -s -fy x\n', ()),
        ('gcc: error: -fnope\n', ()),
        ('cc ' + '-DX ' * 2000 + '\n', ()),
        ('', ()),
    ],
)  # fmt: skip
def test_flags(output: str, flags: tuple[str, ...]) -> None:
    assert flags_of(output) == tuple(sorted(flags))


def test_flags_are_bounded_and_clean() -> None:
    many = ''.join(f'cc -DX{n} -c x.c\n' for n in range(1000))
    assert len(flags_of(many)) == 200
    assert flags_of('cc -DX\x1b[31mY\u202e -c x.c\n') == ('-DXY',)


# --- glibc's assertions, KTAP, exit codes ---

ABORT = "main: tests/basic_api.c:55: add_simple_check: Assertion `(a) == (b)' failed.\n"
MEMBLOCK = 'tools/testing/memblock'
ABORTED = Diagnostic('assert', '(a) == (b)', f'{MEMBLOCK}/tests/basic_api.c', 55)


@pytest.mark.parametrize('parser', ['vma', 'ktap', 'exit-code'])
def test_an_assertion_of_glibc_fails(parser: Parser) -> None:
    found = of_run(f'ok 1 a\n{ABORT}', 134, MEMBLOCK, parser=parser)
    assert found == TestsFailed(
        None, (replace(ABORTED, symbol='add_simple_check'),),
        reason='a test fails, and it ends with status 134',
    )  # fmt: skip
    assert isinstance(of_run(f'{SUMMARY}ok 1 a\n{ABORT}', 0, MEMBLOCK, parser=parser), TestsFailed)


@pytest.mark.parametrize(
    'output',
    [
        ('ok 1 : start: passed\nRunning add tests...\n'
        f'not ok 2 : add: add_simple_check: failed\n{ABORT}'),
        f'ok 1 : start: passed\n{ABORT}not ok 2 : add: add_simple_check: failed\n',
    ],
)  # fmt: skip
def test_memblock_names_test_and_assertion(output: str) -> None:
    found = of_run(output, 134, MEMBLOCK, parser='ktap')
    assert isinstance(found, TestsFailed)
    assert (found.run, found.failed) == (None, (replace(ABORTED, symbol='add: add_simple_check'),))


def test_memblock_whose_stdout_was_cut_off() -> None:
    found = of_run(f'ok 1 : start: passed\nok 2 : add: ad{ABORT}', 134, MEMBLOCK, parser='ktap')
    assert isinstance(found, TestsFailed)
    assert found.failed == (replace(ABORTED, symbol='add_simple_check'),)


def test_memblock_passes() -> None:
    output = (
        'ok 1 : start: passed\nRunning add tests...\nok 2 : add: add_simple_check: passed\n'
        '\tRunning alloc_check...\nok 3 : alloc: top-down: alloc_check: passed\n'
    )
    assert of_run(output, 0, MEMBLOCK, parser='ktap') == Passed(3)


@pytest.mark.parametrize(
    ('output', 'run'),
    [
        ('KTAP version 1\n1..3\nok 1 a\nok 2 - b # SKIP no pages\nnot ok 3 c # TODO later\n', 2),
        ('ok 1 a\nok 2 b\n1..2\n', 2),
        ('TAP version 13\n1..1\nok 1 a\nTAP version 13\n1..2\nok 1 b\nok 2 c\n', 3),
        ('1..1\nok 1 a\n1..2\nok 1 b\nok 2 c\n', 3),
        ('KTAP version 1\n1..2\n  KTAP version 1\n  1..2\n  ok 1 x\n  ok 2 y\nok 1 a\nok 2 b\n', 3),
        (('TAP version 13\n1..1\n# TAP version 13\n# 1..2\n# ok 1 x\n# ok 2 y\n# # Totals: 2\n'
         'ok 1 selftests: mm: x\n'), 2),
        ('1..1\n    1..1\n    not ok 1 x\nnot ok 1 a # TODO not yet\n', 1),
        ('1..1\nok 1 a # SKIP all\n', 0),
        ('ok to go on\n1..1\nok 1\n', 1),
    ],
)  # fmt: skip
def test_ktap_that_passes(output: str, run: int) -> None:
    assert of_run(output, 0, MEMBLOCK, parser='ktap') == Passed(run)


@pytest.mark.parametrize(
    ('output', 'status', 'run', 'failed', 'reason'),
    [
        ('', 0, None, [], 'it ends with status 0 and without a result'),
        ('1..0 # SKIP no root\n', 4, None, [], 'it ends with status 4 and without a result'),
        ('ok 1 a\n', 1, 1, [], 'it ends with status 1, after 1 result'),
        ('1..3\nok 1 a\nok 2 b\n', 0, None, [], '2 of 3 planned results are there'),
        ('1..1\nok 1 a\nok 2 b\n', 0, None, [], '2 of 1 planned results are there'),
        ('1..1\n  1..2\n  ok 1 x\nok 1 a\n', 0, None, [], '1 of 2 planned results are there'),
        ('1..2\nok 1 a\nBail out! no memory\n', 0, None, [], 'it bails out: no memory'),
        ('1..2\nok 1 a\nnot ok 2 - b # exit=1\n', 1, 2, ['b'], '1 of 2 tests fail'),
        ('1..2\n  1..2\n  ok 1 x\n  not ok 2 y\nnot ok 1 a\nok 2 b\n', 1, 3, ['y'],
         '1 of 3 tests fail'),
        ('1..1\n  1..1\n  ok 1 x\nnot ok 1 a\n', 1, 1, ['a'], '1 of 1 tests fail'),
        ('1..1\nnot ok 1\n', 0, 1, ['#1'], '1 of 1 tests fail'),
        ('1..9\nnot ok 1 a\n', 139, None, ['a'], 'a test fails, and it ends with status 139'),
    ],
)  # fmt: skip
def test_ktap_that_fails(
    output: str, status: int, run: int | None, failed: list[str], reason: str
) -> None:
    found = of_run(output, status, MEMBLOCK, parser='ktap')
    assert isinstance(found, TestsFailed)
    assert (found.run, [one.symbol for one in found.failed], found.reason) == (run, failed, reason)


def test_selftests_say_what_they_expected() -> None:
    found = of_run(
        'TAP version 13\n1..2\n# x.c:9:quiet:Expected 0 (0) == 0 (0)\nok 1 quiet\n'
        '# x.c:12:global.grow:Expected a (1) == b (2)\n# grow: Test failed\n'
        'not ok 2 global.grow\n', 1, MEMBLOCK, parser='ktap',
    )  # fmt: skip
    assert isinstance(found, TestsFailed)
    assert found.failed == (
        Diagnostic('assert', 'Expected a (1) == b (2)', f'{MEMBLOCK}/x.c', 12, 'global.grow'),
    )


def test_an_exit_code_alone() -> None:
    assert of_run('whatever\n', 0, DIR, parser='exit-code') == Passed(None)
    assert of_run('', 3, DIR, parser='exit-code') == TestsFailed(
        None, (), reason='it ends with status 3'
    )
    report = 'x.c:1:2: runtime error: load of null pointer\n'
    assert isinstance(of_run(report, 0, DIR, parser='exit-code'), TestsFailed)


# --- sanitizers ---


def reports(output: str, folder: str = DIR) -> tuple[Diagnostic, ...]:
    found = of_run(output, 1, folder, parser='exit-code')
    assert isinstance(found, TestsFailed)
    return found.sanitizer


def test_the_kernels_frame_comes_before_the_tests() -> None:
    (found,) = reports(
        '==7==ERROR: AddressSanitizer: attempting double-free on 0x602000000010 in thread T0:\n'
        '    #0 0x7f2e in __interceptor_free ../../../../src/libsanitizer/asan/x.cpp:52\n'
        '    #1 0x5584 in kfree /build/tools/testing/shared/linux.c:13\n'
        '    #2 0x5584 in vma_free.part.0 /build/mm/vma.c:99:3\n'
        '    #3 0x5584 in main /build/tools/testing/vma/main.c:1\n'
        '\nfreed by thread T0 here:\n    #0 0x1 in other /build/mm/util.c:1\n'
    )
    assert found == Diagnostic(
        'sanitizer', 'AddressSanitizer: attempting double-free in vma_free()', 'mm/vma.c', 99,
        'vma_free',
    )  # fmt: skip


def test_a_stack_without_debug_information_names_the_function() -> None:
    (found,) = reports(
        '==7==ERROR: AddressSanitizer: SEGV on unknown address 0x000000000000 (pc 0x55 T0)\n'
        '==7==The signal is caused by a WRITE memory access.\n'
        '    #0 0x55 in memblock_add (/build/tools/testing/memblock/main+0x1325)\n'
        '    #1 0x55 in __libc_start_main_impl ../csu/libc-start.c:360\n', MEMBLOCK,
    )  # fmt: skip
    text = 'AddressSanitizer: SEGV in memblock_add()'
    assert found == Diagnostic('sanitizer', text, symbol='memblock_add')


def test_each_leak_is_told_by_where_it_was_allocated() -> None:
    stack = '    #0 0x7 in __interceptor_malloc ../../../../src/libsanitizer/a.cpp:69\n'
    found = reports(
        '\n=====\n==9==ERROR: LeakSanitizer: detected memory leaks\n\n'
        f'Direct leak of 33 byte(s) in 1 object(s) allocated from:\n{stack}'
        '    #1 0x5 in kmem_cache_alloc /build/tools/testing/shared/linux.c:5\n'
        '    #2 0x5 in vm_area_dup /build/mm/vma_init.c:11\n\n'
        f'Direct leak of 7 byte(s) in 1 object(s) allocated from:\n{stack}'
        '    #1 0x5 in test_x /build/tools/testing/vma/main.c:3\n\n'
        f'Indirect leak of 7 byte(s) in 1 object(s) allocated from:\n{stack}\n'
        'SUMMARY: AddressSanitizer: 47 byte(s) leaked in 3 allocation(s).\n'
    )
    assert [(one.text, one.path, one.line) for one in found] == [
        ('LeakSanitizer: detected memory leaks in vm_area_dup()', 'mm/vma_init.c', 11),
        ('LeakSanitizer: detected memory leaks in test_x()', f'{DIR}/main.c', 3),
    ]


def test_undefined_behaviour_with_its_stack_and_summary_is_one() -> None:
    (found,) = reports(
        '../../include/linux/list.h:6:30: runtime error: load of address 0x7ffe12 with no space\n'
        '    #0 0x5 in list_add /build/tools/include/linux/list.h:6\n'
        '    #1 0x5 in vma_link /build/mm/vma.c:9\n\n'
        'SUMMARY: UndefinedBehaviorSanitizer: undefined-behavior list.h:6:30 in list_add\n'
    )
    assert found == Diagnostic(
        'sanitizer', 'UBSan: load of address 0x… with no space in vma_link()', 'mm/vma.c', 9,
        'vma_link',
    )  # fmt: skip


# --- hostile outputs ---

HOSTILE = {
    'one-line': 'x' * 5_000_000,
    'binary': bytes(range(256)).decode('latin-1') * 20_000,
    'escapes': '\x1b]0;' * 200_000 + '\x1b[' + '0' * 200_000,
    'digits': f'{"9" * 3900} tests run, 1 passed, 0 failed.\nok {"9" * 3900}\n1..{"9" * 3900}\n',
    'colons': ('a:' * 1999 + '\n') * 300,
    'ld': ('ld.' * 1300 + '\n') * 300,
    'dashes': ('a-' * 1990 + 'cc \n') * 300,
    'quotes': ('cc ' + '"\\' * 1990 + '\n') * 300,
    'quotes-mixed': ('cc ' + '"\'' * 1990 + '\n') * 300,
    'frames': '==1==ERROR: AddressSanitizer: x\n' * 20_000,
    'leaks': ('==1==ERROR: LeakSanitizer: x\n' + 'Direct leak of \n' * 50) * 1000,
    'deep': ''.join(' ' * n + 'not ok 1 x\n' for n in range(2000)),
    'not-ok': 'not ok 1 x\n' * 200_000,
    'assertions': ('a:1: b: Assertion `' * 200 + "' failed.\n") * 1000,
    'spaces': (' ' * 3990 + '\n') * 1000,
    'hashes': ('#' * 3990 + '\n') * 1000,
    'versions': 'TAP version 13\n1..5\n' * 50_000,
    'fatal': ('fatal error: urcu' * 200 + '\n') * 1000,
    'undefined': ('undefined reference to `' * 150 + '\n') * 1000,
    'lld': ('ld.lld: error: undefined symbol: x\n>>> ' + '(' * 3900 + '\n') * 300,
}


@pytest.mark.parametrize('output', HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_output_is_no_more_than_that(output: str) -> None:
    of_build(output, DIR)
    flags_of(output)
    misses_a_file(output)
    for line in output.split('\n')[:50]:
        LIBRARY.match(line[:4000])
        MISSING_HEADER.search(line[:4000])
    for parser in get_args(Parser):
        found = of_run(output, 0, DIR, parser=parser)
        if isinstance(found, TestsFailed):
            assert len(found.failed) <= 1000
            assert len(found.sanitizer) <= 1000


@pytest.mark.parametrize('parser', get_args(Parser))
def test_no_control_character_gets_through(parser: Parser) -> None:
    hostile = 'a\x07b\u202e\x1b[31m\x08'
    found = of_run(
        f'not ok 1 {hostile}\n{hostile}x.c:1:1: runtime error: \x1b]0;title\x07{hostile}\n'
        f"m: {hostile}x.c:1: {hostile}: Assertion `{hostile}' failed.\n",
        1, DIR, parser=parser,
    )  # fmt: skip
    assert isinstance(found, TestsFailed)
    errors, _ = of_build(f'{hostile}x.c:1:1: error: {hostile}\n', DIR)
    told = [*found.failed, *found.sanitizer, *errors]
    said = ''.join(f'{one.text}{one.path}{one.symbol}{one.code}' for one in told)
    assert len(told) >= 3
    assert said.isprintable()


# --- what the rule says ---

VMA, STUBS = 'mm/vma.c', f'{DIR}/include/stubs.h'
BASE = {VMA: 'int x;\n', STUBS: '\n', f'{DIR}/Makefile': 'CFLAGS += -Wall\n'}


def hits(
    *outcomes: BuildOutcome,
    before: dict[str, str] = BASE,
    edits: tuple[Edit, ...] = (),
    harness: str = 'vma',
    folder: str = DIR,
) -> list[Hit]:
    """Judge builds of the base and of patches that add a line to mm/vma.c each."""
    builds = tuple(Build(harness, n, outcome, folder) for n, outcome in enumerate(outcomes))
    lines = (f'\tcall_{n}();\n' for n in range(1, len(outcomes)))
    edits = edits or tuple(Edit({VMA: f'int x;\n{line}'}) for line in lines)
    return list(RULE.check(subject_of(Case(before, edits, builds))))


def messages(*outcomes: BuildOutcome) -> list[str]:
    return [told(hit) for hit in hits(*outcomes)]


def told(hit: Hit) -> str:
    """What we say, and what the build said."""
    return ': '.join([hit.message, *(['; '.join(hit.said)] if hit.said else [])])


SANITIZER = 'a sanitizer reports an error in the vma tests'
OK = Passed(27)
LACKS = BuildFailed((Diagnostic('error', "undefined reference to 'call_1'", symbol='call_1'),))
MERGE = Diagnostic('assert', 'a == b is FALSE', f'{DIR}/tests/merge.c', 7, 'merge')
FREED = Diagnostic('sanitizer', 'AddressSanitizer: double-free in f()', VMA, 1, 'f')


def test_where_it_broke_and_was_mended() -> None:
    assert messages(OK, LACKS) == ["breaks the vma tests: undefined reference to 'call_1'"]
    assert messages(OK, LACKS, LACKS) == [
        "breaks the vma tests at 1/2: undefined reference to 'call_1'"
    ]
    (hit,) = hits(OK, LACKS, LACKS, OK)
    assert told(hit) == (
        "breaks the vma tests at 1/3 (mended at 3/3): undefined reference to 'call_1'"
    )
    assert hit.advice == (
        f'Patch 3 mends it; does this one want a stub for call_1() in {STUBS}, so that each builds?'
    )
    assert (hit.path, hit.line, hit.symbol) == (VMA, 2, 'call_1')


def test_the_stub_that_is_missing_and_its_place() -> None:
    (hit,) = hits(OK, LACKS)
    assert hit.advice == f'Does this want a stub for call_1() in {STUBS}?'
    (hit,) = hits(OK, LACKS, before={VMA: BASE[VMA]})
    assert hit.advice == f'Does this want a stub for call_1() in {DIR}?'
    (hit,) = hits(OK, BuildFailed((Diagnostic('error', "unknown type name 't'", symbol='t'),)))
    assert hit.advice == f'Does this want a definition of t in {DIR}?'


def test_a_warning_lends_its_place_and_the_tree_its_code() -> None:
    warned = Diagnostic(
        'warning', "implicit declaration of function 'call_1'", STUBS, 1, 'call_1'
    )  # fmt: skip
    (hit,) = hits(
        OK, BuildFailed(LACKS.errors, (warned,)), before={**BASE, STUBS: '\tuse(call_1\x1b);\n'}
    )
    assert hit.evidence == (Evidence(STUBS, 1, 'use(call_1 );'),)


def test_a_link_in_the_harness_is_the_kernels_file() -> None:
    folder = 'tools/testing/memblock'
    error = Diagnostic('error', 'expected expression', f'{folder}/memblock.c', 2)
    (hit,) = hits(
        OK, BuildFailed((error,)), before={'mm/memblock.c': 'a\n'},
        edits=(Edit({'mm/memblock.c': 'a\nb\n'}),), harness='memblock', folder=folder,
    )  # fmt: skip
    assert told(hit) == 'breaks the memblock tests: expected expression'
    assert (hit.path, hit.line, hit.evidence) == ('mm/memblock.c', 2, ())


def test_tests_and_sanitizers() -> None:
    fails, freed = TestsFailed(27, (MERGE,)), TestsFailed(None, (), (FREED,))
    assert messages(OK, fails) == ['the vma test merge fails: a == b is FALSE']
    assert messages(OK, fails, fails, OK) == [
        'the vma test merge fails at 1/3 (passes again at 3/3): a == b is FALSE'
    ]
    assert messages(OK, OK, freed) == [f'{SANITIZER} at 2/2: AddressSanitizer: double-free in f()']
    assert messages(OK, freed, OK) == [
        f'{SANITIZER} at 1/2 (gone at 2/2): AddressSanitizer: double-free in f()'
    ]
    # What stopped before its end has not shown that the rest passes.
    assert messages(OK, fails, freed) == [
        'the vma test merge fails at 1/2: a == b is FALSE',
        f'{SANITIZER} at 2/2: AddressSanitizer: double-free in f()',
    ]
    assert messages(freed, fails) == []


def test_a_test_is_known_by_its_function_alone() -> None:
    whole, function = (
        TestsFailed(None if n else 3, (replace(ABORTED, symbol=name),))
        for n, name in enumerate(('add: add_simple_check', 'add_simple_check'))
    )
    assert messages(whole, function) == ['the vma tests no longer run to their end']
    other = TestsFailed(3, (replace(ABORTED, symbol='remove: add_simple_check'),))
    assert len(hits(whole, other)) == 1


def test_many_failing_tests_are_counted() -> None:
    many = tuple(replace(MERGE, symbol=f't{n}') for n in range(14))
    found = messages(OK, TestsFailed(27, many), OK)
    assert len(found) == 11
    assert found[-1] == '4 more of the vma tests fail at 1/2'


def test_a_crash_and_fewer_tests() -> None:
    crash = TestsFailed(None, (), reason='it ends with status 139 and without a summary')
    assert messages(OK, crash, OK) == [
        (
            'the vma tests no longer pass at 1/2 (pass again at 2/2): '
            'their run ends with status 139 and without a summary'
        )
    ]
    assert messages(OK, Passed(20)) == [
        'fewer of the vma tests run: 20, and 27 before this patch'
    ]  # fmt: skip
    assert messages(Passed(None), Passed(20)) == messages(OK, Passed(None)) == []


def test_new_warnings_not_moved_ones() -> None:
    unused = Diagnostic('warning', "unused variable 'x'", VMA, 1, 'x')
    moved, other = replace(unused, line=9), replace(unused, text="'x' is used uninitialized")
    assert hits(Passed(27, (unused,)), Passed(27, (moved, moved))) == []
    first, second = hits(OK, Passed(27, (unused, other)))
    assert told(first) == "adds a compiler warning to the vma tests: unused variable 'x'"
    assert {first.severity, second.severity} == {Severity.WARNING}
    assert finding_of(RULE, first).fingerprint != finding_of(RULE, second).fingerprint
    renamed = (Edit({VMA: None, 'mm/new.c': BASE[VMA]}),)
    diff = FileDiff(VMA, 'mm/new.c', hunks=diff_of(VMA, b'a\n', b'b\n').hunks)
    subject = subject_of(Case(BASE, renamed, ()))
    (step,) = (replace(step, files=(diff,)) for step in subject.steps)
    builds = (
        Build('vma', 0, Passed(27, (unused,)), DIR),
        Build('vma', 1, Passed(27, (replace(unused, path='mm/new.c'),)), DIR),
    )
    assert isinstance(subject.applied, AppliedSeries)
    applied = replace(subject.applied, steps=(step,))
    assert list(RULE.check(replace(subject, applied=applied, builds=builds))) == []


@pytest.mark.parametrize(
    ('before', 'after', 'severity', 'said'),
    [
        ('-fsanitize=undefined', '', Severity.WARNING, 'no longer -fsanitize=undefined'),
        ('-Wall', '-Wno-error', Severity.WARNING, 'no longer -Wall; now -Wno-error'),
        ('-DA=1', '-DA=2', Severity.WARNING, 'no longer -DA=1; now -DA=2'),
        ('', '-w', Severity.WARNING, 'now -w'),
        ('', '-fno-sanitize=all', Severity.WARNING, 'now -fno-sanitize=all'),
        ('', '-fpermissive -DA', Severity.WARNING, 'now -fpermissive -DA'),
        ('-O2', '-O1', Severity.WARNING, 'no longer -O2; now -O1'),
        ('', '-m32', Severity.WARNING, 'now -m32'),
        ('', '-DA -Ix -Wextra -lm', Severity.NOTE, 'now -DA -Ix -Wextra -lm'),
        ('', '-fsanitize=undefined', Severity.NOTE, 'now -fsanitize=undefined'),
        ('', ' '.join(f'-D{n}' for n in range(9)), Severity.NOTE,
         'now -D0 -D1 -D2 -D3 -D4 -D5 and 3 more'),
    ],
)  # fmt: skip
def test_other_flags(before: str, after: str, severity: Severity, said: str) -> None:
    was, now = (Passed(27, flags=('-Lx', *flags.split())) for flags in (before, after))
    edits = (Edit({VMA: 'int y;\n', f'{DIR}/Makefile': 'CFLAGS +=\n'}),)
    (hit,) = hits(was, now, edits=edits)
    assert told(hit) == f'builds the vma tests with other flags: {said}'
    assert (hit.severity, hit.path) == (severity, f'{DIR}/Makefile')
    assert hits(was, was, edits=edits) == []


def test_flags_that_are_no_longer_shown() -> None:
    shown = Passed(27, flags=('-Wall',))
    assert messages(shown, OK, OK) == ['the vma tests no longer show how they are compiled']
    assert messages(OK, shown) == []
    # A patch that hides them does not hide what changes behind it.
    assert len(hits(shown, OK, Passed(27, flags=('-w',)))) == 2


def test_a_limit_is_told_once_and_only_after_tests_that_ran() -> None:
    limit, ours = CouldNotRun('stopped', '3 s of time'), CouldNotRun('no sandbox')
    first, *rest = hits(OK, limit, limit)
    assert rest == []
    assert first.message == (
        'the vma tests hit a limit here that they did not before: 3 s of time'
    )  # fmt: skip
    assert (first.severity, first.advice) == (
        Severity.WARNING, 'Could they hang since this patch?',
    )  # fmt: skip
    assert messages(limit, limit) == messages(OK, ours) == messages(LACKS, limit) == []


def test_the_fingerprint_knows_no_patch_number() -> None:
    for outcome in (LACKS, TestsFailed(27, (MERGE,)), TestsFailed(27, (), (FREED,))):
        (alone,), (again,) = hits(OK, outcome), hits(OK, outcome, OK)
        assert alone.message != again.message
        assert finding_of(RULE, alone).fingerprint == finding_of(RULE, again).fingerprint
