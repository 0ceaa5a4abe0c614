"""Hostile series that use up the machine: each limit ends them, and nothing is left running."""

import os
import re
import secrets
import shutil
from dataclasses import replace

import pytest

from bot.model import Build, CouldNotRun
from tests.court import AS_TEST, DIR, RAN, TIGHT, Court, ran, script
from tests.test_repository import sleeping, wait_for

pytest_plugins = ('tests.courtroom',)
pytestmark = pytest.mark.slow


def limited(build: Build) -> str:
    assert isinstance(build.outcome, CouldNotRun), build
    assert build.outcome.limit is not None, build
    assert RAN in build.log
    return build.outcome.limit


def own_sleep() -> tuple[str, bytes]:
    """A sleep of two minutes that no other process has; and how /proc shows it."""
    mark = f'119.{os.getpid()}{secrets.randbelow(10**6):06}'
    return f'sleep {mark}', f'sleep\0{mark}'.encode()


def test_forks_without_end(court: Court) -> None:
    sleep, shown = own_sleep()
    text = f'i=0; while [ $i -lt 2000 ]; do {sleep} & i=$((i+1)); done; wait'
    # Memory enough for all of them: each counts the pages that it shares.
    limits = replace(TIGHT, memory=8 << 30)
    assert limited(court(script(text), limits=limits)[-1]) == '40 processes'
    wait_for(lambda: not sleeping(shown))


C_MEMORY = r"""
cat >eat.c <<'END'
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>
int main(void)
{
	static char some[1 << 20];
	memset(some, 1, sizeof(some));
	for (int n = 0; n < 44; n++) {
		%s
	}
	puts("eaten"), fflush(stdout);
	sleep(8);
}
END
gcc -o eat eat.c && ./eat
"""
MEMORY = {
    # tail keeps a line while it does not end.
    'line': '(head -c 700M /dev/zero; sleep 8) | tail >/dev/null',
    'many': 'for n in 1 2 3 4 5 6 7; do (head -c 100M /dev/zero; sleep 8) | tail >/dev/null &'
    ' done; wait',
    'shared': C_MEMORY % 'memset(mmap(0, 16 << 20, 3, MAP_SHARED | MAP_ANON, -1, 0), 1, 16 << 20);',
    'memfd': C_MEMORY % 'int fd = memfd_create("x", 0); if (fd < 0) return 1;'
    ' for (int m = 0; m < 16; m++) if (write(fd, some, 1 << 20) < 0) return 1;',
    'sysv': C_MEMORY
    % 'int id = shmget(IPC_PRIVATE, 16 << 20, 0600 | IPC_CREAT); if (id < 0) return 1;'
    ' void *p = shmat(id, 0, 0);'
    ' memset(p, 1, 16 << 20); shmdt(p);',
}


@pytest.mark.parametrize('name', MEMORY)
def test_eats_memory(court: Court, name: str) -> None:
    build = court(script(MEMORY[name]), limits=TIGHT)[-1]
    assert RAN in build.log
    assert 'eaten' not in build.log
    if isinstance(build.outcome, CouldNotRun) or name not in ('memfd', 'sysv'):  # may be refused
        assert limited(build) == '256 MB of memory'


def test_fills_the_disk(court: Court) -> None:
    places = '/build /tmp /dev/shm /dev / /etc /var/tmp /run /ccache'
    text = f'for place in {places}; do\nmkdir -p $place; for n in 1 2 3 4 5 6; do\n'
    text += 'head -c 16M /dev/zero >$place/fill$n || break; done\n'
    text += 'echo $place $(cat $place/fill* | wc -c); rm -f $place/fill*; done 2>/dev/null'
    free = shutil.disk_usage('/').free
    build = court(script(text), limits=TIGHT)[-1]
    assert RAN in build.log
    held = dict(re.findall(r'^(/\S*) (\d+)$', build.log, re.M))
    assert int(held['/build']) > 1 << 20
    assert {place: int(size) for place, size in held.items() if int(size) > TIGHT.disk} == {}
    assert abs(shutil.disk_usage('/').free - free) < 8 << 30  # others write as well


@pytest.mark.parametrize('to', ['', '>&2', '>/proc/self/fd/1'], ids=['out', 'err', 'opened'])
def test_prints_without_end(court: Court, to: str) -> None:
    build = court(script(f'(yes | head -c 10G) {to}'), limits=TIGHT)[-1]
    assert isinstance(build.outcome, CouldNotRun)
    assert build.outcome.limit == '1048576 bytes of output'
    assert len(build.log) < 1 << 16


@pytest.mark.parametrize('how', ['build', 'run'])
def test_sleeps_for_ever(court: Court, how: str) -> None:
    sleep, shown = own_sleep()
    edit = script(f"trap '' TERM INT HUP; {sleep}")
    if how == 'run':
        edit[f'{DIR}/Makefile'] = AS_TEST
    assert limited(court(edit, limits=replace(TIGHT, time=3))[-1]) == '3 s of time'
    wait_for(lambda: not sleeping(shown))


DAEMONS = {
    'session': 'setsid sh -c "trap \'\' TERM HUP; {sleep}" >/dev/null 2>&1 &',
    'double-fork': "(setsid sh -c '({sleep} &) &' </dev/null >/dev/null 2>&1 &)",
    'holds-the-output': '(setsid sh -c "trap \'\' TERM HUP PIPE; {sleep}" &)',
    'stopped': "(setsid sh -c 'kill -STOP $$; {sleep}' >/dev/null 2>&1 &); {sleep} & kill -STOP $!",
}


@pytest.mark.parametrize('name', DAEMONS)
def test_no_daemon_outlives_the_check(court: Court, name: str) -> None:
    sleep, shown = own_sleep()
    text = DAEMONS[name].format(sleep=sleep)
    text += f'\nn=0; until pgrep -f "{sleep.split()[1]}" >/dev/null || [ $n = 50 ]; do sleep 0.1'
    text += '; n=$((n+1)); done; echo waited $n'
    log = ran(court(script(text))[-1])
    assert 'waited 50' not in log
    wait_for(lambda: not sleeping(shown))
    wait_for(lambda: not sleeping(sleep.encode()))
