"""The cage: what it lays out, what it reports, and what it holds back."""

import os
import re
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bot.errors import SandboxError
from bot.model import Limits
from bot.sandbox import Cage, File, Phase
from bot.walls import probe
from tests.test_repository import sleeping, wait_for

LIMITS = Limits(time=20, memory=256 << 20, processes=40, disk=32 << 20, output=1 << 20)
FILES: list[File] = [
    ('dir/Makefile', 0o100644, b'all:\n\tcat in.txt link\n'),
    ('dir/in.txt', 0o100755, b'words\n'),
    ('dir/link', 0o120000, b'../other'),
    ('other', 0o100644, b'more words\n'),
]


def run(*commands: str, open_: bool = False) -> tuple[Phase, ...]:
    named = [(f'c{number}', command) for number, command in enumerate(commands)]
    return Cage(LIMITS, open_=open_).run(FILES, 'dir', named).phases


def said(command: str) -> str:
    return run(f'{command} 2>&1; true')[0].output


@pytest.mark.parametrize('open_', [False, True], ids=['caged', 'open'])
def test_files_are_laid_out_and_phases_told_apart(open_: bool) -> None:
    phases = run('make -s', 'ls -l in.txt', 'exit 3', 'echo never', open_=open_)
    assert phases[0] == Phase('c0', 0, 'words\nmore words\n')
    assert phases[1].output.startswith('-rwxr-xr-x')
    assert phases[2] == Phase('c2', 3, '')
    assert len(phases) == 3


def test_a_command_can_not_write_the_status_or_the_output_of_another() -> None:
    phases = run('for fd in 3 5; do echo "c0 0" >&$fd; done 2>/dev/null; exit 1', 'echo x')
    assert phases == (Phase('c0', 1, ''),)


def test_nothing_of_the_machine_is_seen(tmp_path: Path) -> None:
    secret = tmp_path / 'secret'
    secret.write_text('secret')
    for path in (secret, '/etc/shadow', '/etc/passwd', '/root', '/home', '/var', '/run', '/srv'):
        assert 'No such file' in said(f'ls {path}')
    assert said('id -u').strip() == '65534'
    assert 'pytest' not in said('cat /proc/[0-9]*/cmdline')


def test_the_environment_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('VMA_BOT_SECRET', 'xyzzy')
    assert 'xyzzy' not in said('env; cat /proc/*/environ')


def test_the_file_system_is_read_only_but_for_the_build() -> None:
    assert 'Read-only file system' in said('touch /usr/x')
    assert said('touch ../x /tmp/y && echo ok').strip() == 'ok'


def test_no_network() -> None:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        server.listen()
        server.settimeout(3)
        heard: list[object] = []
        thread = threading.Thread(target=lambda: heard.append(_accept(server)))
        thread.start()
        port = server.getsockname()[1]
        said(f'bash -c "exec 9<>/dev/tcp/127.0.0.1/{port}"')
        thread.join()
    assert heard == [None]


def _accept(server: socket.socket) -> object:
    try:
        return server.accept()
    except TimeoutError:
        return None


@pytest.mark.parametrize(
    ('command', 'limits', 'limit'),
    [
        ('sleep 60', replace(LIMITS, time=1), '1 s of time'),
        ('yes', LIMITS, '1048576 bytes of output'),
        ('for n in $(seq 60); do sleep 30 & done; wait', LIMITS, '40 processes'),
        # tail keeps the line that never ends; it would have all of it at 700 MB.
        ('head -c 700M /dev/zero | tail', LIMITS, '256 MB of memory'),
    ],
    ids=['time', 'output', 'processes', 'memory'],
)
def test_limits_end_it_and_are_named(command: str, limits: Limits, limit: str) -> None:
    ran = Cage(limits).run(FILES, 'dir', [('c', command)])
    assert ran.limit == limit
    assert ran.phases == () or ran.phases[0].status != 0


def test_the_disk_is_bounded() -> None:
    written = said('head -c 100M /dev/zero >/build/x; echo $?; stat -c %s /build/x').split()
    assert written[-2] != '0'
    assert int(written[-1]) <= LIMITS.disk


def test_what_is_left_running_dies_with_the_cage() -> None:
    mark = f'7{os.getpid()}'
    phases = run(f'(setsid sleep {mark} >/dev/null 2>&1 &) ; echo started')
    assert phases[0].output == 'started\n'
    wait_for(lambda: not sleeping(f'sleep\0{mark}'.encode()))


@pytest.mark.parametrize(
    ('there', 'said'),
    [
        ((), 'bubblewrap is not installed: apt install bubblewrap'),
        (('bwrap',), 'perl is not installed: apt install perl-base'),
    ],
    ids=['bubblewrap', 'perl'],
)
def test_what_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], said: str
) -> None:
    for name in there:
        (tmp_path / name).symlink_to('/bin/true')
    monkeypatch.setenv('PATH', str(tmp_path))
    probe.cache_clear()
    with pytest.raises(SandboxError, match=said):
        Cage(LIMITS)


def test_only_its_own_descriptors_come_in(tmp_path: Path) -> None:
    with (tmp_path / 'open').open('w') as file:
        os.set_inheritable(file.fileno(), True)
        kinds = said('for f in /proc/self/fd/* /proc/1/fd/*; do readlink $f; done').split()
    assert kinds
    assert {re.sub(r'\d+|/proc/.*', '', kind) for kind in kinds} <= {'/dev/null', 'pipe:[]', ''}
