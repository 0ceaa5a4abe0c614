"""Hostile series whose output is the attack: what hides, what is long, what is forged."""

from dataclasses import asdict
from pathlib import Path

import pytest

from bot.model import BuildFailed, CouldNotRun, TestsFailed
from tests.court import AS_TEST, DIGITS, DIR, THROUGH, Court, everything, script, texts

pytest_plugins = ('tests.courtroom',)
pytestmark = pytest.mark.slow


HIDDEN = '\x00\x07\x08\x0d\x1b\x7f\x85\x9b\u00ad\u200b\u200f\u202e\u2066\u2069\ufeff'
SPOKEN = (
    'main.c:3:1: error: bad{x} thing{x}',
    '    3 | quoted{x} line{x}',
    'ma{x}in.c:4:1: error: its path',
    "main.c:5:1: error: implicit declaration of function 'f{x}o'",
    "/usr/bin/ld: main.c:6: undefined reference to `f{x}o'",
    "make: *** No rule to make target 'x{x}y'.  Stop.",
    'M{x}k:7: *** stop{x}.  Stop.',
    'make: *** [M{x}k:8: all{x}] Error 1',
    'gcc -DX{x}=1 -fsanitize=addr{x} -lx{x}y -c main.c',
    'Assert FAILED at ma{x}in.c:9:test_f{x}o(): wrong{x} is FALSE.',
    'Test foo FAILED',
    'Test f{x}o FAILED',
    'm{x}.c:1:1: runtime error: shift{x}',
    '==1==ERROR: AddressSanitizer: heap{x} on address 0x1',
    '    #0 0x1 in f{x}o /build/m{x}.c:3',
    '1 tests run, 1 passed, 0 failed.{x}',
)


ABSENT = '/usr/bin/ld: cannot find -lx{x}y'


@pytest.mark.parametrize('how', ['build', 'run', 'library'])
def test_what_it_prints_is_made_plain(court: Court, how: str) -> None:
    lines = (ABSENT,) if how == 'library' else SPOKEN
    spoken = ''.join(f'{line.format(x=x)}\n' for line in lines for x in (*HIDDEN, '\x1b[31m', ''))
    spoken += '\x1b]0;title\x07\x1b[2J\x1b]52;c;eA==\x07 plain\n'
    edit = {**script('cat spoken'), f'{DIR}/spoken': spoken.encode()}
    if how == 'run':
        edit[f'{DIR}/Makefile'] = AS_TEST
    build = court(edit)[-1]
    kinds = {'build': BuildFailed, 'run': TestsFailed, 'library': CouldNotRun}
    assert isinstance(build.outcome, kinds[how])
    assert ' plain' in build.log
    assert len(list(texts(asdict(build.outcome)))) > 10 or how == 'library'
    assert {one for one in texts(asdict(build)) if set(one) & set(HIDDEN)} == set()
    assert '52;c' not in everything(build)


MUCH = {
    'one-line': "head -c 5M /dev/zero | tr '\\0' a",
    'an-error': "printf 'main.c:1:1: error: '; head -c 5M /dev/zero | tr '\\0' a",
    'digits': "head -c 5M /dev/zero | tr '\\0' 9; echo ' tests run, 5 passed, 0 failed.'",
    'a-line-number': f'echo "main.c:{DIGITS}:1: error: x"; '
    f'echo "main.c:{"9" * 3000}: runtime error: x"',
    'a-summary': f'echo "{DIGITS} tests run, {DIGITS} passed, 0 failed."',
    'spaces': "printf 'gcc -c '; head -c 5M /dev/zero | tr '\\0' ' '; echo x",
    'colons': "head -c 5M /dev/zero | tr '\\0' :",
    'quotes': "printf 'gcc -DX='; head -c 5M /dev/zero | tr '\\0' '\"'",
    'line-breaks': "head -c 1M /dev/zero | tr '\\0' '\\n'",
    'errors': 'seq -f "main.c:1:1: error: x%.0f" 100000',
    'flags': 'seq -f "gcc -DX%.0f -c x.c" 100000',
    'sanitizers': 'seq -f "==1==ERROR: AddressSanitizer: x%.0f" 50000',
    'zeros': 'head -c 5M /dev/zero',
    'noise': 'head -c 2M /dev/urandom',
}


@pytest.mark.parametrize('name', MUCH)
def test_much_of_it_is_cut(court: Court, name: str) -> None:
    text = MUCH[name]
    run = {**script(f'{text}; echo'), f'{DIR}/Makefile': AS_TEST}
    build, of_run = court(script(f'{text}; echo'), run)[1:]
    assert isinstance(build.outcome, BuildFailed)
    assert isinstance(of_run.outcome, TestsFailed)
    for one in (build, of_run):
        assert THROUGH in one.log
        assert len(everything(one)) < 2 << 20
        assert max(len(text) for text in texts(asdict(one.outcome))) <= 1000


def test_it_names_no_folder_and_no_device_of_the_machine(user: int, court: Court) -> None:
    show = 'cat /proc/self/mountinfo /proc/1/mounts /proc/self/mountstats | grep -v proc | tail -40'
    run = {**script(show), f'{DIR}/Makefile': AS_TEST}
    for build in court(script(show), run)[1:]:
        assert '[hidden] /ccache' in build.log
        assert str(court.judge.cache) not in everything(build)
        devices = {
            line.split(' - ')[1].split()[1]
            for line in Path('/proc/self/mountinfo').read_text().splitlines()
        }
        assert {name for name in devices if '/' in name and name in build.log} == set()
