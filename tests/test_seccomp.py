"""The filter of system calls: its numbers, what it decides, and what builds need of it."""

import errno
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from bot import seccomp
from bot.errors import SandboxError
from bot.model import Limits
from bot.sandbox import Cage

TABLES = {**seccomp.ALLOWED, **seccomp.LIMITED, **seccomp.REFUSED}
HEADERS = {
    'x86_64': '#include <asm/unistd_64.h>',
    'aarch64': '#define __ARCH_WANT_RENAMEAT\n#define __ARCH_WANT_NEW_STAT\n'
    '#define __ARCH_WANT_SET_GET_RLIMIT\n#define __ARCH_WANT_MEMFD_SECRET\n'
    '#define __BITS_PER_LONG 64\n#include <asm-generic/unistd.h>',
}
ALLOW = 'allow'
WHOLE = (1 << 64) - 1


@pytest.fixture(params=seccomp.ARCHITECTURES)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each machine whose numbers are known."""
    name: str = request.param
    monkeypatch.setattr(os, 'uname', lambda: SimpleNamespace(machine=name))
    seccomp.program.cache_clear()
    yield name
    seccomp.program.cache_clear()


def decided(number: int, *arguments: int, architecture: int | None = None) -> str:
    """Run the filter, as the kernel would."""
    known, _ = seccomp.ARCHITECTURES[os.uname().machine]
    words = [one & WHOLE for one in (*arguments, *(0,) * (6 - len(arguments)))]
    seen = struct.pack('<iIQ6Q', number, known if architecture is None else architecture, 0, *words)
    code = list(struct.iter_unpack('<HBBI', seccomp.program()))
    at = value = 0
    while True:
        what, yes, no, k = code[at]
        at += 1
        match what:
            case 0x20:
                value = struct.unpack_from('<I', seen, k)[0]
            case 0x54:
                value &= k
            case 0x05:
                at += k
            case 0x15:
                at += yes if value == k else no
            case 0x35:
                at += yes if value >= k else no
            case 0x45:
                at += yes if value & k else no
            case 0x06:
                return ALLOW if k == 0x7FFF0000 else errno.errorcode[k & 0xFFFF]
            case _:
                raise AssertionError(what)


def call(name: str, *arguments: int) -> str:
    return decided(seccomp.number(name), *arguments)


@pytest.mark.parametrize('machine', HEADERS, indirect=True)
def test_the_numbers_are_the_kernels(machine: str) -> None:
    said = subprocess.run(
        ['gcc', '-E', '-dM', '-x', 'c', '-'], input=HEADERS[machine], capture_output=True, text=True
    )
    if said.returncode:
        pytest.skip(f'no headers of {machine} here')
    defined = dict(re.findall(r'^#define (__NR\w*_\w+) (\w+)$', said.stdout, re.M))
    numbers = {}
    for name, value in defined.items():
        while value in defined:
            value = defined[value]
        numbers[name.removeprefix('__NR_')] = value
    own = seccomp.ARCHITECTURES[machine][1]
    for name, row in TABLES.items():
        # Newer calls than the installed headers have are not compared.
        assert row[own] == numbers.get(name, row[own]), name
        assert row[own] != '-' or name not in numbers, name


def test_each_call_is_treated_once(machine: str) -> None:
    own = seccomp.ARCHITECTURES[machine][1]
    numbers = [row[own] for row in TABLES.values() if row[own] != '-']
    assert len(set(numbers)) == len(numbers)
    assert len(TABLES) == sum(map(len, (seccomp.ALLOWED, seccomp.LIMITED, seccomp.REFUSED)))
    assert set(seccomp.LIMITED) == set(seccomp.LIMITS)
    assert len(seccomp.program()) // 8 < 4096  # BPF_MAXINSNS


def test_what_it_decides(machine: str) -> None:
    own = seccomp.ARCHITECTURES[machine][1]
    there = {int(row[own]): name for name, row in TABLES.items() if row[own] != '-'}
    for number in range(-1, 1000):
        name = there.get(number)
        if name in seccomp.LIMITED:
            continue
        if name is None:
            assert decided(number) == 'ENOSYS'
        elif name in seccomp.ALLOWED:
            assert decided(number, *[WHOLE] * 6) == ALLOW
        else:
            refusal = errno.errorcode[errno.EOPNOTSUPP] if name.endswith('setxattr') else 'EPERM'
            assert decided(number, *[WHOLE] * 6) == refusal
    assert decided(0x40000000) == decided(0x40000000 | 39) == 'ENOSYS'
    assert decided(4, architecture=0x40000003) == 'EPERM'  # i386


THREAD = 0x3D0F00
CASES = [
    ('clone', (THREAD,), ALLOW),
    ('clone', (17,), ALLOW),
    *(('clone', (17 | 1 << bit,), 'EPERM') for bit in (17, 25, 26, 27, 28, 29, 30)),
    ('fchmod', (3, 0o755), ALLOW),
    ('fchmod', (3, 0o4755), 'EPERM'),
    ('fchmodat', (3, 0, 0o2755), 'EPERM'),
    ('fchmodat', (3, 0, 0o1777), ALLOW),
    # Without O_CREAT the mode is what was left in a register.
    ('openat', (3, 0, os.O_RDONLY, 0o7777), ALLOW),
    ('openat', (3, 0, os.O_CREAT, 0o644), ALLOW),
    ('openat', (3, 0, os.O_CREAT, 0o4755), 'EPERM'),
    ('openat', (3, 0, 0o20200000 | os.O_WRONLY, 0o2755), 'EPERM'),
    ('mknodat', (3, 0, 0o010600), ALLOW),
    ('mknodat', (3, 0, 0o100600), ALLOW),
    ('mknodat', (3, 0, 0o020600), 'EPERM'),
    ('mknodat', (3, 0, 0o060600), 'EPERM'),
    ('mknodat', (3, 0, 0o104755), 'EPERM'),
    ('fcntl', (3, 1030, 10), ALLOW),
    *(('fcntl', (3, how), 'EPERM') for how in (8, 10, 1024, 1026, 1031, 1033)),
    ('ioctl', (1, 0x5401), ALLOW),
    ('ioctl', (1, 0x5412), 'ENOTTY'),
    ('ioctl', (1, 0x1_0000_5412), 'ENOTTY'),  # the kernel looks at 32 bits
    ('ioctl', (1, 0x541C), 'ENOTTY'),
    ('madvise', (0, 0, 4), ALLOW),
    ('madvise', (0, 0, 21), 'EINVAL'),
    ('madvise', (0, 0, 12), 'EINVAL'),
    ('personality', (0xFFFFFFFF,), ALLOW),
    ('personality', (0x0400000,), 'EPERM'),
    ('prctl', (15,), ALLOW),
    ('prctl', (22,), 'EINVAL'),
    ('ptrace', (16,), ALLOW),
    ('ptrace', (0,), 'EPERM'),
    ('ptrace', (5,), 'EPERM'),
    ('ptrace', (0x4206,), 'EPERM'),
]


@pytest.mark.parametrize(('name', 'arguments', 'what'), CASES)
def test_arguments(machine: str, name: str, arguments: tuple[int, ...], what: str) -> None:
    assert call(name, *arguments) == what


def test_a_machine_of_unknown_numbers_has_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'uname', lambda: SimpleNamespace(machine='s390x'))
    seccomp.program.cache_clear()
    with pytest.raises(SandboxError, match=r'x86_64 and aarch64, not those of s390x: --no-sandbox'):
        seccomp.program()


THREADS = (
    '#include <pthread.h>\\n#include <stdio.h>\\nvoid *f(void *a) { puts("b"); return a; }\\n'
    'int main(void) { pthread_t t; return pthread_create(&t, 0, f, 0) || pthread_join(t, 0); }'
)
LEAKS = '#include <stdlib.h>\\nint main(void) { void *volatile p = malloc(9); p = 0; }'
USED = {
    'bash': 'bash -c \'diff <(echo a) <(echo a) && echo "$(echo a | tr a b)"; wait\'',
    'perl': "perl -e 'open F, \"-|\", \"echo b\"; print <F>; system \"true\" and die'",
    'python': 'python3 -c \'import multiprocessing, subprocess, tempfile; '
    'assert multiprocessing.Pool(2).map(abs, [-1]) == [1]; '
    'print(subprocess.run(["echo", "b"], capture_output=True, text=True).stdout, end="")\'',
    'files': 'mkdir d && echo b >d/x && cp -a d e && mv e f && install -m 755 f/x g && tar cf t f '
    '&& tar xf t -C d && mkfifo p && (cat <p & echo b >p; wait) && ln -s g l && touch -d now l '
    '&& sort -u g && rm -r d f && truncate -s 9 g && chmod -R a+rX .',
    'make': "printf 'all: a b c\\n\\t@echo b\\n%%:\\n\\t@sleep 0.1\\n' >M && make -s -j3 -f M",
    'timeout': 'timeout 0.1 sleep 9; [ $? = 124 ] && echo b',
    'threads': f"printf '{THREADS}' >t.c && gcc -o t t.c && ./t",
    'leaks': f"printf '{LEAKS}' >l.c && gcc -fsanitize=address,undefined -o l l.c && "
    './l 2>&1 | grep -q LeakSan && echo b',
    'coverage': "echo 'int main(void) { return 0; }' >c.c && gcc --coverage -c c.c && "
    'gcc --coverage -o c c.o && ./c && gcov c.c | grep -q 100.00% && echo b',
}  # fmt: skip


@pytest.mark.parametrize('name', USED)
def test_what_builds_use_works(name: str) -> None:
    ran = Cage(Limits(time=60)).run([], '.', [('used', USED[name])])
    (phase,) = ran.phases
    assert phase.status == 0, phase.output
    assert set(phase.output.split()) == {'b'}
