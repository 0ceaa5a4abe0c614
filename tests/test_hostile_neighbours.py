"""Hostile series that look for others: the network, processes, mounts."""

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.model import Passed
from tests.court import RAN, THROUGH, Bait, Court, bare, ran, script

pytest_plugins = ('tests.courtroom',)
pytestmark = pytest.mark.slow


CONNECT = r"""
cat >connect.c <<'END'
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), at = argv[1][0] == '@';
	if (fd < 0)
		return perror("socket"), 1;
	strcpy(to.sun_path + at, argv[1] + at);
	if (connect(fd, (void *)&to, offsetof(struct sockaddr_un, sun_path) + strlen(argv[1])))
		return perror("connect"), 1;
	return write(fd, "hello", 5) != 5;
}
END
gcc -o connect connect.c && ./connect %s
"""


@contextlib.contextmanager
def listener(kind: str, folder: Path) -> Iterator[tuple[socket.socket, str]]:
    """A listener of our own, and the script that speaks to it."""
    if kind == 'tcp':
        with socket.socket() as server:
            server.bind(('127.0.0.1', 0))
            server.listen()
            port = server.getsockname()[1]
            yield server, f'bash -c "echo hello >/dev/tcp/127.0.0.1/{port}"'
        return
    with socket.socket(socket.AF_UNIX) as server:
        name = f'vma-test-{secrets.token_hex(4)}'
        path = f'@{name}' if kind == 'abstract' else str(folder / name[-8:])
        server.bind(path.replace('@', '\0', 1) if kind == 'abstract' else path)
        server.listen()
        yield server, CONNECT % path


def heard(server: socket.socket) -> bool:
    server.setblocking(False)
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize('kind', ['tcp', 'abstract', 'path'])
def test_it_speaks_to_nobody(court: Court, tmp_path: Path, kind: str) -> None:
    with listener(kind, tmp_path) as (server, speak):
        bare(speak)
        assert heard(server)
        log = ran(court(script(speak))[-1])
        assert not heard(server)
    assert 'Operation not permitted' in log


def test_it_signals_and_traces_nobody_outside(court: Court, bait: Bait) -> None:
    # Only where it is a process namespace of its own, or this would end the machine's.
    own = Path('/proc/self/ns/pid').readlink()
    trace = (
        '#include <sys/ptrace.h>\n#include <stdio.h>\n#include <stdlib.h>\nint main(int c, char '
    )
    trace += '**v) { if (ptrace(PTRACE_ATTACH, atoi(v[1]), 0, 0)) perror("ptrace"); '
    trace += 'else puts("traced"); }'
    text = f'[ "$(readlink /proc/self/ns/pid)" != "{own}" ] || exit 3\n'
    text += f"echo '{trace}' | gcc -x c - -o trace && ./trace {bait.pid}\n"
    text += f'kill -0 {bait.pid} && echo there; kill -9 {bait.pid} && echo killed\n'
    log = ran(court(script(text))[-1])
    assert 'ptrace: No such process' in log
    assert 'traced' not in log
    assert 'killed' not in log
    text = f'[ "$(readlink /proc/self/ns/pid)" != "{own}" ] || exit 3\nkill -9 -1; sleep 60'
    build = court(script(text))[-1]
    assert not isinstance(build.outcome, Passed)
    assert RAN in build.log
    assert THROUGH not in build.log
    os.kill(bait.pid, 0)


def test_it_has_no_namespaces_and_no_mounts(court: Court) -> None:
    tries = ['unshare -Ur true', 'unshare -m true', 'unshare -n true', 'unshare -p true']
    tries += ['mount -t tmpfs none /tmp', 'mount --bind /tmp /usr', 'mount -o remount,rw /usr']
    tries += ['mount -o remount,rw,bind /ccache', 'umount /usr', 'umount -l /ccache']
    tries += ['chroot / true', 'nsenter -t 1 -m true', 'bwrap --ro-bind / / true', 'su -c true']
    tries += ['hostname evil', 'sysctl -w kernel.hostname=evil', 'date -s 12:00']
    log = ran(
        court(script('\n'.join(f'{one} 2>/dev/null && echo could: {one}' for one in tries)))[-1]
    )
    assert 'could' not in log
