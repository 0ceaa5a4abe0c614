"""
Attacks by system calls and files of /proc, as root and as an ordinary user: none gets out.

The attacks are the C files in `tests/attacks`, all of them one program, run in
one sandbox for each user, and those that harm nobody without one, where they
must succeed: so each is an attack, and each is seen to run. What they are after
is made by a process that stands for the bot: keys in its keyrings, descriptors
that it was started with, files, processes, sockets, segments.
"""

import ctypes
import functools
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.model import Limits
from bot.sandbox import Cage, File
from bot.seccomp import number
from bot.walls import Bind, probe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason='only root may become another user'),
]

ATTACKS = Path(__file__).parent / 'attacks'
WRITTEN = re.compile(r'^(REAL|ATTACK)\((\w+), (\w+)\)', re.M)
SAID = re.compile(r'^(\w+/\w+): (out|held|died) \((.*)\)$', re.M)
FOUND = [
    (f'{kind}/{name}', how == 'REAL')
    for path in sorted(ATTACKS.glob('*.c'))
    for how, kind, name in WRITTEN.findall(path.read_text())
]
NAMES = [name for name, _ in FOUND]
LIMITS = Limits(time=120, memory=1 << 30, disk=64 << 20, output=4 << 20)
READ, WRITE = 58, 59
ABSENT = re.compile('Function not implemented|No such (?:file|device)|not supported')
"""What this machine's kernel does not have."""
SESSION, USER = -3, -4
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


@dataclass(frozen=True)
class Trial:
    """What the attacks said, what was left of what they were after, and the marks of that."""

    said: dict[str, str]
    output: str
    token: str
    untouched: dict[str, bool]


def keys(call: str, *arguments: object) -> int:
    """Call keyctl() or add_key()."""
    return int(libc.syscall(number(call), *arguments))


class Bot:
    """Stands for the bot: has what is worth having, starts the attacks, looks at it again."""

    def __init__(self, folder: Path, token: str) -> None:
        self.folder, self.token = folder, token
        self.secret, self.other = folder / 'id_ed25519', folder / 'other'
        (folder / 'ccache').mkdir()
        for path in (self.secret, self.other):
            path.write_text(token)
            path.chmod(0o600)
        os.dup2(os.open(self.secret, os.O_RDONLY), READ, inheritable=True)
        os.dup2(os.open(self.other, os.O_RDWR), WRITE, inheritable=True)
        self._keys()
        self.number = secrets.randbelow(1 << 30) | 1
        self._shared()
        self.abstract = f'vma-bait-{secrets.token_hex(4)}'
        self.named = Path('/dev/shm') / self.abstract
        self.named.write_text(token)
        self.listeners = [socket.socket(socket.AF_UNIX), socket.socket()]
        self.listeners[0].bind(f'\0{self.abstract}')
        self.listeners[1].bind(('127.0.0.1', 0))
        for one in self.listeners:
            one.listen()
            one.setblocking(False)
        self.sleeper = subprocess.Popen(
            ['/bin/sh', '-c', 'while :; do sleep 600; done', token],
            env={'PATH': '/usr/bin:/bin', 'SECRET': token},
            cwd=folder,
        )

    def _keys(self) -> None:
        keys('keyctl', 1, None)
        keys('keyctl', 8, USER, SESSION)  # as a log-in links them
        for name in (b'bait', b'bait-too'):
            for ring in (SESSION, USER):
                made = keys('add_key', b'user', name, self.token.encode(), len(self.token), ring)
                assert made > 0, os.strerror(ctypes.get_errno())

    def _key(self, name: bytes, ring: int) -> bytes:
        text = ctypes.create_string_buffer(100)
        found = keys('keyctl', 10, ring, b'user', name, 0)
        length = keys('keyctl', 11, found, text, 100)
        return text.raw[: max(length, 0)]

    def _shared(self) -> None:
        self.memory = libc.shmget(self.number, 4096, 0o1600)
        ctypes.memmove(libc.shmat(self.memory, None, 0), self.token.encode(), len(self.token))
        self.queue = libc.msgget(self.number, 0o1600)
        self._say()

    def _say(self) -> None:
        text = self.token.encode()
        message = (1).to_bytes(8, sys.byteorder) + text
        assert libc.msgsnd(self.queue, message, len(text), 0) == 0

    def header(self) -> bytes:
        """What the attacks are told."""
        said: dict[str, str | int] = {
            'KEY': 'bait', 'OTHER_KEY': 'bait-too', 'READ': READ, 'WRITE': WRITE,
            'BOT': os.getpid(), 'MARK': self.token[:8], 'FOLDER': str(self.folder),
            'PID': self.sleeper.pid, 'PID_TEXT': str(self.sleeper.pid), 'FILE': str(self.secret),
            'NAME': self.secret.name, 'ABSTRACT': self.abstract, 'IPC': self.number,
            'PORT': self.listeners[1].getsockname()[1], 'HOST': socket.gethostname(),
        }  # fmt: skip
        lines = (
            f'#define BAIT_{name} {json.dumps(value) if isinstance(value, str) else value}\n'
            for name, value in said.items()
        )
        return ''.join(lines).encode()

    def attacked(self, *, open_: bool) -> str:
        """Run the attacks; what they said."""
        files: list[File] = [('bait.h', 0o100644, self.header())]
        files += [(path.name, 0o100644, path.read_bytes()) for path in ATTACKS.iterdir()]
        build = 'gcc -w -o attacks *.c -lrt'
        run = './attacks open' if open_ else './attacks'
        binds = () if open_ else (Bind(self.folder / 'ccache', '/ccache'),)
        probe.cache_clear()
        ran = Cage(LIMITS, open_=open_).run(
            files, '.', [('build', build), ('run', run)], binds=binds
        )
        assert [phase.status for phase in ran.phases] == [0, 0], ran
        return ran.phases[1].output

    def untouched(self) -> dict[str, bool]:
        """Look whether everything is as it was."""
        text = ctypes.create_string_buffer(200)
        length = libc.msgrcv(self.queue, text, 100, 0, 0o4000)
        return {
            'keys': {self._key(name, ring) for name in (b'bait', b'bait-too')
                     for ring in (SESSION, USER)} == {self.token.encode()},
            'files': {path.read_text() for path in (self.secret, self.other)} == {self.token},
            'modes': {path.stat().st_mode & 0o7777 for path in (self.secret, self.other)}
            == {0o600},
            'process': self.sleeper.poll() is None,
            'listeners': not any(_heard(one) for one in self.listeners),
            'messages': text.raw[8 : 8 + max(length, 0)].decode() == self.token,
            'memory': ctypes.string_at(libc.shmat(self.memory, None, 0)).decode() == self.token,
            'named': self.named.read_text() == self.token,
            'cache': list((self.folder / 'ccache').iterdir()) == [],
        }  # fmt: skip

    def close(self) -> None:
        """Take all of it away again."""
        for name in (b'bait', b'bait-too'):
            keys('keyctl', 9, keys('keyctl', 10, USER, b'user', name, 0), USER)
        libc.shmctl(self.memory, 0, None)
        libc.msgctl(self.queue, 0, None)
        self.named.unlink(missing_ok=True)
        self.sleeper.kill()
        self.sleeper.wait()


def _heard(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def tried(user: int, *, open_: bool = False) -> Trial:
    """Let a process of its own be the bot, as `user`."""
    folder = Path(tempfile.mkdtemp(prefix='vma-attacks-', dir='/tmp'))
    os.chown(folder, user, user)
    token = f'BAIT{secrets.token_hex(8)}'
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            os.chdir('/')
            os.environ.update(HOME=str(folder), TMPDIR=str(folder), SECRET=token)
            tempfile.tempdir = None
            bot = Bot(folder, token)
            try:
                said = [bot.attacked(open_=open_), bot.untouched()]
            finally:
                bot.close()
            os.write(writer, json.dumps(said).encode())
            status = 0
        finally:
            if status:
                sys.excepthook(*sys.exc_info())
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    shutil.rmtree(folder)
    output, untouched = json.loads(text)
    results = {name: f'{how} ({why})' for name, how, why in SAID.findall(output)}
    return Trial(results, output, token, untouched)


@functools.cache
def caged(user: int) -> Trial:
    """The attacks in the sandbox, once for each user."""
    return tried(user)


@pytest.fixture(params=[0, 61234], ids=['root', 'user'])
def trial(request: pytest.FixtureRequest) -> Trial:
    """The attacks in the sandbox, as each user."""
    return caged(request.param)


@pytest.mark.parametrize('name', NAMES)
def test_no_attack_gets_out(trial: Trial, name: str) -> None:
    assert trial.said[name].startswith('held'), trial.said[name]


def test_what_they_were_after_is_untouched(trial: Trial) -> None:
    assert set(trial.said) == set(NAMES)
    assert trial.token not in trial.output
    assert [what for what, same in trial.untouched.items() if not same] == []


def test_without_a_sandbox_they_succeed() -> None:
    bare = tried(0, open_=True)
    assert set(bare.said) == {name for name, real in FOUND if real}
    held = {name: how for name, how in bare.said.items() if not how.startswith('out')}
    assert {name: how for name, how in held.items() if not ABSENT.search(how)} == {}
    assert bare.token in bare.output


def test_there_are_many() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 60
    assert len({name.partition('/')[0] for name in NAMES}) >= 15
