"""What an output says of the machine, tool by tool; and what only looks so."""

import pytest

from bot.diagnose import of_build, of_failed_build, of_failed_run, of_status, stands
from bot.diagnose.ours import EMPTY, Kind

MAKE = 'make: *** [Makefile:8: main.o] '
FAULTS: dict[Kind, tuple[str, ...]] = {
    'killed': (
        f'{MAKE}Killed',
        f'{MAKE}Terminated',
        f'{MAKE}Killed (core dumped)',
        'make[2]: *** [../shared/shared.mk:12: generated/map-shift.h] Hangup',
        'make[1]: *** [Makefile:8: main.o] Interrupt',
        f'{MAKE}Error 137',
        f'{MAKE}Error 143',
        'gmake: *** [Makefile:8: vma] Error 137',
        'gcc: fatal error: Killed signal terminated program cc1',
        'cc: fatal error: Terminated signal terminated program cc1',
        'x86_64-linux-gnu-gcc-12: fatal error: Killed signal terminated program as',
        'gcc: internal compiler error: Killed (program cc1)',
        'collect2: fatal error: ld terminated with signal 9 [Killed]',
        'collect2: error: ld terminated with signal 15 [Terminated]',
        'clang: error: unable to execute command: Killed',
        '/usr/bin/clang-14: error: unable to execute command: Terminated',
    ),
    'crashed': (
        'main.c:10:5: internal compiler error: Segmentation fault',
        '../../../mm/vma.c:3102:1: internal compiler error: in expand_expr, at expr.c:1',
        'gcc: internal compiler error: Segmentation fault signal terminated program cc1',
        'cc1: internal compiler error: Aborted',
        'collect2: error: ld terminated with signal 11 [Segmentation fault], core dumped',
        'collect2: fatal error: ld terminated with signal 7 [Bus error]',
        'clang: error: clang frontend command failed due to signal (use -v to see invocation)',
        'clang: error: clang frontend command failed with exit code 139 (use -v to see invocation)',
        'clang: error: linker command failed due to signal (use -v to see invocation)',
        'clang: error: unable to execute command: Segmentation fault',
        'PLEASE submit a bug report to https://bugs.example.org/ and include the crash backtrace.',
        '/usr/bin/ld: BFD (GNU Binutils) 2.40 internal error, aborting at ../../bfd/reloc.c:1',
    ),
    'memory': (
        'cc1: out of memory allocating 65536 bytes after a total of 1048576 bytes',
        'virtual memory exhausted: Cannot allocate memory',
        'cc1: virtual memory exhausted: Cannot allocate memory',
        'gcc: fatal error: cannot fork: Resource temporarily unavailable',
        'as: out of memory allocating 4064 bytes after a total of 135168 bytes',
        '/usr/bin/ld: final link failed: memory exhausted',
        '/usr/bin/ld: out of memory allocating 24 bytes after a total of 135168 bytes',
        'ld.lld: error: failed to open main: Cannot allocate memory',
        'LLVM ERROR: out of memory',
        'make: vfork: Resource temporarily unavailable',
        'make: *** fork: Cannot allocate memory.  Stop.',
        'make: *** virtual memory exhausted.  Stop.',
        'make[1]: fork: Cannot allocate memory',
        '/bin/sh: 1: Cannot fork',
        'sh: 3: Cannot fork',
        'bash: fork: retry: Resource temporarily unavailable',
        'bash: fork: Cannot allocate memory',
        'tar: main.c: Cannot open: Cannot allocate memory',
        'ccache: error: Failed to fork: Resource temporarily unavailable',
        'main.c:1: fatal error: when writing output to x.s: Cannot allocate memory',
        "OSError: [Errno 12] Cannot allocate memory: 'x'",
    ),
    'space': (
        '/tmp/ccf2.s: Fatal error: /dev/full: No space left on device',
        "/tmp/c.s: Fatal error: can't write 40 bytes to m.o: 'No space left on device'",
        '{standard input}: Fatal error: can\'t close main.o: No space left on device',
        '{standard input}:123: Fatal error: m.o: No space left on device',
        'main.c:1:10: fatal error: error writing to /tmp/cc1.s: No space left on device',
        'cc1: fatal error: error writing to /tmp/ccA.s: No space left on device',
        'clang: error: unable to make temporary file: No space left on device',
        '/usr/bin/ld: final link failed: No space left on device',
        '/usr/bin/ld: final close failed: No space left on device',
        'ld.lld: error: failed to write to the output file: No space left on device',
        'mold: fatal: main: No space left on device',
        'ar: main.a: No space left on device',
        'make: write error: stdout',
        'make: *** write error: stdout.  Stop.',
        f'{MAKE}File size limit exceeded',
        'ccache: error: Failed to write to /ccache/x: No space left on device',
        'tar: m.c: Cannot write: No space left on device',
        "head: error writing 'standard output': No space left on device",
        'cat: write error: No space left on device',
        'bash: echo: write error: No space left on device',
        "mkdir: cannot create directory 'generated': Disk quota exceeded",
        "OSError: [Errno 28] No space left on device: 'x'",
    ),
    'io': (
        "gcc: fatal error: cannot read spec file 'x': Input/output error",
        'cc1: fatal error: /usr/include/stdio.h: Input/output error',
        'main.c:3:10: fatal error: stubs.h: Input/output error',
        'main.c:3:10: fatal error: /usr/include/stdio.h: Too many open files',
        'clang: error: unable to make temporary file: Read-only file system',
        '/usr/bin/ld: cannot open output file vma: Read-only file system',
        '/usr/bin/ld: main.o: Input/output error',
        'ld.lld: error: cannot open main.o: Too many open files',
        'make: stat: main.c: Input/output error',
        'make: *** read jobs pipe: Input/output error.  Stop.',
        'make: *** pipe: Too many open files in system.  Stop.',
        'make: /usr/bin/cc: Text file busy',
        f'{MAKE}Bus error',
        f'{MAKE}Error 135',
        'ccache: error: Failed to create directory /ccache/1',
        'ccache: internal error: stat failed',
        'ccache: FATAL: x',
        'tar: m.c: Cannot open: Read-only file system',
        'dash: 1: echo: echo: I/O error',
        '/bin/sh: 1: cannot create x: Input/output error',
        "cp: cannot create regular file 'x': Stale file handle",
    ),
    'cpu': (f'{MAKE}CPU time limit exceeded', f'{MAKE}Error 152'),
    'tool': (
        '/bin/sh: 1: gcc: not found',
        'sh: 1: ld: not found',
        'bash: line 1: make: command not found',
        'make: gcc: No such file or directory',
        'make[1]: /usr/bin/cc: Permission denied',
        'make: cc: Exec format error',
        "gcc: fatal error: cannot execute 'cc1': execvp: No such file or directory",
        "gcc: error trying to exec 'cc1': execvp: No such file or directory",
        "collect2: fatal error: cannot find 'ld'",
    ),
    'object': (
        EMPTY,
        'main.o: file not recognized: file truncated',
        '/usr/bin/ld: main.o: file not recognized: file truncated',
        '/usr/bin/ld: error: main.o: file too short',
        '/usr/bin/ld: main.o: file not recognized: file format not recognized',
        '/usr/bin/ld: lib.a: error adding symbols: file truncated',
        'ld.gold: error: main.o: file is empty',
        'ld.lld: error: main.o: unknown file type',
    ),
}  # fmt: skip
NEAR = (
    '',
    'Killed',  # a shell says so of whatever it likes
    '#error Killed',
    'main.c:3:2: error: #error Killed',
    'main.c:3:2: fatal error: #error No space left on device',
    'main.c:3:2: error: Killed',
    'main.c:3:2: warning: #warning out of memory',
    '    3 | \tprintf("ld: final link failed: No space left on device\\n");',
    '\tpr_err("make: *** [x] Killed\\n");',
    "main.c:3:2: error: 'Killed' undeclared (first use in this function)",
    "main.c:3:2: note: 'No space left on device'",
    'Makefile:3: *** No space left on device.  Stop.',
    'Makefile:3: Out of memory',
    'gcc -DTEXT="Cannot allocate memory" -c main.c',
    'echo "make: *** [x] Killed"',
    f'{MAKE}Error 1',
    f'{MAKE}Error 2',
    f'{MAKE}Error 127',
    f'{MAKE}Error 134',
    f'{MAKE}Error 139',
    f'{MAKE}Segmentation fault',
    f'{MAKE}Aborted (core dumped)',
    "make: *** No rule to make target 'Killed', needed by 'vma'.  Stop.",
    'make: *** [Makefile:8: Killed] Error 1',
    'make: ./gen.sh: No such file or directory',
    'make: gccc: No such file or directory',
    '/bin/sh: 1: nosuch-tool: not found',
    '/bin/sh: 1: Syntax error: "Killed" unexpected',
    'gcc: error: main.c: No such file or directory',
    "gcc: error: unrecognized command-line option '-fKilled'",
    'main.c:1:10: fatal error: nosuch.h: No such file or directory',
    "/usr/bin/ld: main.o: in function `Killed':",
    "main.c:3: undefined reference to `out_of_memory'",
    'collect2: error: ld returned 1 exit status',
    '/bin/sh: 1: cannot create /usr/x: Read-only file system',
    "touch: cannot touch '/usr/x': Read-only file system",
    'ccache: error: failed to write to /ccache/ccache.conf: Read-only file system',
    'cat: x: No such file or directory',
    'test: file truncated',
    'notes: file format not recognized',
    'Test terminated FAILED',
)  # fmt: skip


@pytest.mark.parametrize(
    ('kind', 'line'), [(kind, line) for kind, lines in FAULTS.items() for line in lines]
)
def test_a_build_that_the_machine_failed(kind: Kind, line: str) -> None:
    found = of_failed_build(f'cc -c main.c\n{line}\nmake: *** [Makefile:8: vma] Error 1\n', 2)
    assert found is not None
    assert found.kind == kind


@pytest.mark.parametrize('line', NEAR)
def test_a_build_that_the_code_failed(line: str) -> None:
    assert (
        of_failed_build(f'cc -c main.c\n{line}\nmake: *** [Makefile:8: vma] Error 1\n', 2) is None
    )


@pytest.mark.parametrize(('status', 'number'), [(129, 1), (130, 2), (137, 9), (143, 15)])
def test_a_signal_from_outside(status: int, number: int) -> None:
    for found in (of_status(status), of_failed_build('', status), of_failed_run('', status)):
        assert found is not None
        assert f'signal {number} ' in found.text


@pytest.mark.parametrize('status', [1, 2, 9, 15, 126, 127, 134, 135, 136, 139, 159, 255])
def test_a_signal_of_a_bug_is_the_codes(status: int) -> None:
    assert of_failed_run('', status) is None


RUNS = (
    '==7==ERROR: AddressSanitizer failed to allocate 0x1000 (4096) bytes of x (error code: 12)',
    '==7==ERROR: AddressSanitizer: out of memory: allocator is trying to allocate 0x10 bytes',
    '==7==LeakSanitizer has encountered a fatal error.',
    '==7==ReserveShadowMemoryRange failed while trying to map 0x10 bytes. Perhaps ulimit -v',
    '==7==Shadow memory range interleaves with an existing memory mapping. ASan cannot proceed',
    './vma: error while loading shared libraries: liburcu.so.8: cannot open shared object file: x',
    'sh: 1: ./vma: Input/output error',
    '/bin/sh: 1: ./vma: Text file busy',
    'bash: ./vma: Cannot allocate memory',
    'not ok 3 selftests: mm: merge # exit=137',
    '# not ok 3 selftests: mm: merge # exit=143',
    'make: *** [Makefile:8: run] Killed',
)
RUNS_NEAR = (
    'No space left on device',
    'vma: No space left on device',
    'Assert FAILED at main.c:3:test_x(): mmap failed: No space left on device',
    'Killed',
    'mmap: Cannot allocate memory',
    'make: write error: stdout',
    '==7==ERROR: AddressSanitizer: heap-use-after-free on address 0x1',
    '==7==ERROR: AddressSanitizer: requested allocation size 0xfff exceeds maximum',
    '==7==ERROR: AddressSanitizer: BUS on unknown address',
    'sh: 1: ./vma: not found',
    'not ok 3 selftests: mm: merge # exit=1',
    'not ok 3 selftests: mm: Killed',
    'ok 3 selftests: mm: merge # exit=137',
    'gcc: fatal error: Killed signal terminated program cc1',
)


@pytest.mark.parametrize('line', RUNS)
def test_a_run_that_the_machine_failed(line: str) -> None:
    assert of_failed_run(f'x\n{line}\n', 1) is not None


@pytest.mark.parametrize('line', RUNS_NEAR)
def test_a_run_that_the_code_failed(line: str) -> None:
    assert of_failed_run(f'x\n{line}\n', 1) is None


@pytest.mark.parametrize(
    ('beside', 'error', 'there'),
    [
        (f'{MAKE}Killed', "mm/vma.c:3:1: error: expected ';' before 'int'", True),
        (f'{MAKE}Killed', "mm/vma.c:3: undefined reference to `nosuch'", False),
        (f'{MAKE}Killed', 'make: *** [Makefile:8: main.o] Killed', False),
        (f'{MAKE}Killed', 'gcc: fatal error: Killed signal terminated program cc1', False),
        ('cat: write error: No space left on device', "x.h:3:1: error: expected ';'", False),
        (EMPTY, "x.c:3:1: error: expected ';'", True),
        (EMPTY, "/usr/bin/ld: x.c:3: undefined reference to `main'", False),
    ],
)
def test_an_error_beside_a_killed_process(beside: str, error: str, there: bool) -> None:
    output = f'{error}\n{beside}\n'
    fault = of_failed_build(output, 2)
    assert fault is not None
    assert stands(fault, of_build(output, 'tools/testing/vma')[0]) is there


def test_no_word_of_the_output_is_in_a_reason() -> None:
    for lines in FAULTS.values():
        for line in lines:
            found = of_failed_build(line, 2)
            assert found is not None
            assert 'main' not in found.text
            assert '/' not in found.text


@pytest.mark.parametrize('unit', ['/', 'a-', 'gcc-', 'make: ', 'x: ', '.o: ', ' \t#', '[', "'"])
def test_a_long_line_takes_no_time(unit: str) -> None:
    line = (unit * 4000)[:4000]
    output = '\n'.join([line] * 200)
    assert of_failed_build(output, 2) is None
    assert of_failed_run(output, 1) is None
