"""
Hostile series: what a stranger's patch may try, and what it must leave alone.

Each attack goes the whole way of a series: applied, laid out, caged, compiled
with the shared ccache, its result kept. It prints that it ran; what it was
after is then looked at, and an honest series judged with the same cache comes
out as before. All are bounded, so that a cage that is open would survive them;
those that do no harm are run in an open one too, where they must succeed.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from bot import demo
from bot.harness import Workshop, build_series
from bot.model import (
    AppliedSeries,
    Base,
    Build,
    BuildFailed,
    CouldNotRun,
    DoesNotApply,
    Limits,
    Passed,
    Patch,
    Series,
    TestsFailed,
)
from bot.sandbox import Cage
from bot.tree import Quarantine
from bot.tree.snapshot import GitSnapshot
from tests.conftest import Demo
from tests.gitrepo import File
from tests.judging import AUTHOR, LIMITS, Edit, Judge, harness
from tests.test_repository import sleeping, wait_for

pytestmark = pytest.mark.slow

DIR = 'tools/testing/vma'
HONEST: tuple[Edit, ...] = (
    ('mm/vma.c', '', '\n'),
    ('mm/vma.c', '\treturn 0;\n}\n\n/* The area', '\treturn nosuch();\n}\n\n/* The area'),
)
TIGHT = Limits(time=120, memory=256 << 20, processes=40, disk=32 << 20, output=1 << 20)
RAN, THROUGH = 'the attack runs', 'the attack is through'
AS_TEST = b'vma:\n\t@cp attack.sh vma; chmod +x vma\n'
SUMMARY = '5 tests run, 5 passed, 0 failed.'
MARKED = 'MARKED'

Seen = list[tuple[int, object, tuple[str, ...], str]]


def seen(builds: Iterable[Build]) -> Seen:
    return [(build.n, build.outcome, build.flags, build.log) for build in builds]


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def script(text: str) -> dict[str, File]:
    """Let the makefile be a shell script that fails in the end, so that its output is kept."""
    said = f'echo {RAN}\n{text}\necho {THROUGH}\nexit 1\n'
    return {f'{DIR}/Makefile': b'vma:\n\t@sh attack.sh\n', f'{DIR}/attack.sh': said.encode()}


def bare(text: str) -> str:
    """Return what a script prints without a cage: that the attack is one."""
    ran = Cage(TIGHT, open_=True).run([], '.', [('attack', text)])
    return ran.phases[0].output


def texts(value: object) -> Iterator[str]:
    """Yield every string in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts(one)


def everything(build: Build) -> str:
    return '\n'.join(texts(asdict(build)))


@dataclass(frozen=True)
class Court:
    """Judges hostile series, and after each the honest one; `expected` is what that gave."""

    judge: Judge
    expected: Seen

    def __call__(
        self,
        *edits: Edit,
        before: Sequence[Edit] = (),
        limits: Limits = LIMITS,
        vouched: bool = True,
    ) -> list[Build]:
        with self.nothing_else_written() as builds:
            builds += self.judge(*edits, before=before, limits=limits, vouched=vouched)
        return builds

    def diffs(
        self,
        *diffs: bytes,
        on_top: Sequence[bytes] = (),
        limits: Limits = LIMITS,
    ) -> tuple[AppliedSeries | DoesNotApply, list[Build]]:
        """Judge raw diffs, which git need not have made."""
        base = self.judge.sample.repo.git('rev-parse', 'HEAD').decode().strip()
        own = files_below(self.judge.sample.tree)
        with self.nothing_else_written() as builds, Quarantine(self.judge.sample.tree) as there:
            applied = there.apply(
                Series(None, 'x', AUTHOR, 1, patches(diffs)),
                Base('x', base, base, 'x'),
                patches(on_top),
            )
            if isinstance(applied, AppliedSeries):
                tree = applied.steps[-1].post
                assert isinstance(tree, GitSnapshot)
                for path, mode, _ in tree.files(''):
                    assert mode in (0o100644, 0o100755, 0o120000)
                    assert not {'', '.', '..', '.git'} & set(path.lower().split('/'))
                workshop = Workshop(Cage(limits), self.judge.cache, 2, 1 << 30)
                builds += build_series(harness(), applied, workshop)
        assert files_below(self.judge.sample.tree) == own
        return applied, builds

    @contextlib.contextmanager
    def nothing_else_written(self) -> Iterator[list[Build]]:
        """Only results of the builds themselves come into the cache, and no other changes."""
        builds: list[Build] = []
        kept = files_below(self.judge.cache)
        yield builds
        now = files_below(self.judge.cache)
        assert {path: now.get(path) for path in kept} == kept
        kinds = {type(build.outcome).__name__ for build in builds}
        for path in set(now) - set(kept):
            assert re.fullmatch(r'results/([0-9a-f]{2})/\1[0-9a-f]{62}\.json', path)
            found = json.loads(now[path])
            assert found['key'] == Path(path).stem
            assert found['outcome']['kind'] in kinds
        assert seen(self.judge(*HONEST)) == self.expected

    def rebuilt(self) -> None:
        """Judge the honest series anew, with the shared ccache and no result that is kept."""
        shutil.rmtree(self.judge.cache / 'results')
        assert seen(self.judge(*HONEST)) == self.expected


def patches(diffs: Sequence[bytes]) -> tuple[Patch, ...]:
    return tuple(
        Patch(n, len(diffs), None, None, 'x', AUTHOR, '', '', diff)
        for n, diff in enumerate(diffs, 1)
    )


@pytest.fixture(scope='module')
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seen]:
    """A folder with a sample kernel and a cache, and what the honest series gave."""
    folder = tmp_path_factory.mktemp('honest')
    judge = Judge(Demo(*demo.write(folder)), folder / 'cache')
    expected = seen(judge(*HONEST))
    assert [type(outcome) for _, outcome, _, _ in expected] == [Passed, Passed, BuildFailed]
    return folder, expected


@pytest.fixture
def court(judged: tuple[Path, Seen], tmp_path: Path) -> Court:
    folder = tmp_path / 'court'
    shutil.copytree(judged[0], folder, symlinks=True)
    sample = Demo(folder / 'linux.git', folder / 'series.mbox')
    return Court(Judge(sample, folder / 'cache'), judged[1])


@dataclass(frozen=True)
class Bait:
    """What a stranger would like to read; all of it holds `token`."""

    token: str
    key: Path
    config: Path
    pid: int


@pytest.fixture
def bait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bait]:
    token = f'{MARKED}{secrets.token_hex(8)}'
    key, config = Path.home() / '.ssh' / 'id_ed25519', tmp_path / 'config.toml'
    key.parent.mkdir()
    for path in (key, config):
        path.write_text(f'# {token}\n')
    monkeypatch.setenv('VMA_BOT_SECRET', token)
    monkeypatch.setenv('VMA_BOT_CONFIG', str(config))
    words = [sys.executable, '-c', 'import time; print(flush=True); time.sleep(600)', token]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=key.parent) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield Bait(token, key, config, process.pid)
        assert process.poll() is None
        process.kill()


def ran(build: Build) -> str:
    """Return the log of a script that ran to its end."""
    assert isinstance(build.outcome, BuildFailed), build
    assert RAN in build.log
    assert THROUGH in build.log
    return build.log


# --- reading ---

READS = {
    'home': 'cat {key} ~/.ssh/*',
    'configuration': 'cat {config}',
    'include': 'echo \'#include "{key}"\' | gcc -E -x c -',
    'assembler': 'echo \'.incbin "{key}"\' | gcc -c -x assembler - -o x.o; strings x.o; cat x.o',
    'makefile': "echo '$(info $(file <{key}))' >x.mk; make -f x.mk",
    'response-file': 'gcc @{key}',
    'symlink': 'ln -s {key} x.c; cat x.c; gcc -c x.c',
    'process': 'cat /proc/{pid}/cmdline /proc/{pid}/environ /proc/{pid}/root{key}',
    'processes': "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n' "
    '| grep -a {marked}',
}


@pytest.mark.parametrize('name', READS)
def test_it_reads_nothing_of_the_machine(court: Court, bait: Bait, name: str) -> None:
    text = READS[name].format(key=bait.key, config=bait.config, pid=bait.pid, marked=MARKED)
    text = f'({text}) 2>&1 | tail -n 20'
    assert bait.token in bare(text)
    build = court(script(text))[-1]
    assert bait.token not in everything(build)
    ran(build)


def test_the_environment_is_not_inherited(court: Court, bait: Bait) -> None:
    text = f'(env; set; cat /proc/*/environ) | grep -a -e HOME -e VMA_ -e {MARKED}'
    log = ran(court(script(text))[-1])
    assert 'HOME=/build' in log
    assert bait.token not in log
    prints = 'char *s = getenv("VMA_BOT_SECRET"); puts(s ? s : "no such variable");'
    main = (demo.TREE / DIR / 'main.c').read_text()
    main = f'#include <stdlib.h>\n{main}'.replace(
        'int run = 0, failed = 0', f'{prints}\n\tint run = 0, failed = 1'
    )
    build = court({f'{DIR}/main.c': main.encode()})[-1]
    assert isinstance(build.outcome, TestsFailed)
    assert 'no such variable' in build.log
    assert bait.token not in everything(build)


def test_it_sees_no_accounts_and_no_homes(court: Court) -> None:
    look = 'for f in /etc/shadow /etc/passwd /root /home /var /run /srv /sys /boot; do\n'
    look += 'ls $f; cat $f; done 2>&1 | grep -c "No such file"'
    lines = ran(court(script(look))[-1]).splitlines()
    assert lines[1] == '18'


@pytest.mark.parametrize(
    'line',
    [
        '#include "/etc/passwd"',
        '#include "/etc/shadow"',
        '#include "/root/.bashrc"',
        'asm(".incbin \\"/etc/shadow\\"");',
    ],
    ids=['passwd', 'shadow', 'root', 'incbin'],
)
def test_the_compiler_finds_no_file_of_the_machine(court: Court, line: str) -> None:
    build = court((f'{DIR}/main.c', '', f'\n{line}\n'))[-1]
    assert not isinstance(build.outcome, Passed)
    assert re.search('(?:No such file|file not found)', build.log)
    assert not [one for one in texts(asdict(build)) if 'root:' in one]


# --- writing ---


def test_it_writes_nothing_outside(court: Court, tmp_path: Path) -> None:
    name = f'vma-evil-{secrets.token_hex(4)}'
    places = [tmp_path, Path.home(), court.judge.cache, court.judge.cache / 'results', Path.cwd()]
    places += [Path(one) for one in ('/usr', '/usr/bin', '/etc', '/root', '/tmp', '/var/tmp')]
    writes = [f'mkdir -p {place}; echo x >{place}/{name}' for place in places]
    writes.append(f'echo x >/ccache/{name} || echo the ccache is read only')
    assert 'x' in bare(f'echo x >{tmp_path}/{name}; cat {tmp_path}/{name}')
    (tmp_path / name).unlink()
    log = ran(court(script('\n'.join(writes)))[-1])
    assert 'the ccache is read only' in log
    assert not [place for place in places if (place / name).exists()]


def test_it_changes_no_setting_of_the_kernel(court: Court) -> None:
    # Opened only, nothing is written: a core_pattern is a program that the kernel starts.
    look = 'find /proc/[a-z]* /sys -path "/proc/self*" -prune -o -path "/proc/thread-self*" '
    look += '-prune -o -type f -writable -print 2>/dev/null | sed "s/^/may write /" | tail -n 9\n'
    look += '(exec 9>>/proc/sys/kernel/core_pattern) && echo may write the core_pattern'
    assert 'may write' not in ran(court(script(look))[-1])


def test_it_changes_no_device(court: Court) -> None:
    # To the mode that it has: enough to see that it may.
    change = 'for f in /dev/null /dev/zero /dev/full /dev/random /dev/tty; do\n'
    change += 'chmod --reference=$f $f && echo may change $f; done\n'
    change += 'mknod d c 1 1 && echo made d; mknod b b 254 0 && echo made b\n'
    change += 'ls /dev/mem /dev/kmsg /dev/kvm /dev/fuse /dev/[shv]d* /dev/loop* && echo there\n'
    log = ran(court(script(change))[-1])
    assert 'may change' not in log
    assert 'made' not in log
    assert 'there' not in [line.strip() for line in log.splitlines()]


@pytest.mark.parametrize('mode', ['020666', '060660', '010644', '040000', '160000', '104755'])
def test_an_odd_mode_makes_no_odd_file(court: Court, mode: str) -> None:
    _, builds = court.diffs(
        added(f'{DIR}/odd', mode), made(script('ls -l odd; find . ! -type f ! -type d'))
    )
    if builds:
        kinds = {line[0] for line in ran(builds[-1]).splitlines() if line.endswith(' odd')}
        assert kinds <= {'-'}


def test_a_setuid_file_has_no_effect_and_does_not_stay(court: Court, tmp_path: Path) -> None:
    name = f'id-{secrets.token_hex(4)}'
    text = f'cp /usr/bin/id {name}; cp {name} /tmp; chmod 6755 {name} /tmp/{name}; ls -l {name}\n'
    text += f'./{name}; grep NoNewPrivs /proc/self/status; grep CapBnd /proc/self/status\n'
    log = ran(court(script(text))[-1])
    assert '-rwsr-sr-x' in log
    assert 'uid=65534 gid=65534 groups=65534' in log
    assert re.search(r'NoNewPrivs:\s+1', log)
    assert re.search(r'CapBnd:\s+0{16}', log)
    for folder in (tmp_path, Path(os.environ.get('TMPDIR', '/tmp'))):
        assert not list(folder.glob(f'**/{name}') if folder == tmp_path else folder.glob(name))


# --- the patch itself ---


def added(path: str, mode: str = '100644', text: str = 'x') -> bytes:
    """Add a file by a diff that git would not make."""
    return (
        f'diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n'
        f'@@ -0,0 +1 @@\n+{text}\n'
    ).encode('utf-8', 'surrogateescape')


def made(files: Mapping[str, File]) -> bytes:
    """Write files anew: a diff that takes away what was there and adds these."""
    diff = b''
    for path, content in files.items():
        assert isinstance(content, bytes)
        there = demo.TREE / path
        old = there.read_bytes().splitlines(keepends=True) if there.exists() else []
        new = content.splitlines(keepends=True)
        name = path.encode()
        diff += b'diff --git a/%s b/%s\n' % (name, name)
        diff += b'--- a/%s\n' % name if old else b'new file mode 100644\n--- /dev/null\n'
        diff += b'+++ b/%s\n@@ -%d,%d +1,%d @@\n' % (name, bool(old), len(old), len(new))
        diff += b''.join(b'-' + line for line in old) + b''.join(b'+' + line for line in new)
    return diff


@pytest.mark.parametrize(
    'path',
    [
        '.git/config',
        '.git/hooks/post-checkout',
        '.GIT/config',
        f'{DIR}/.git/hooks/pre-commit',
        'git~1/config',
        '../outside',
        '../../../../../../../../tmp/outside',
        f'{DIR}/../../../../outside',
        f'{DIR}/./x',
        '/etc/outside',
        '.git',
        '..',
    ],
)
def test_a_path_out_of_the_tree_does_not_apply(court: Court, path: str) -> None:
    applied, builds = court.diffs(added(path, '100755'))
    assert isinstance(applied, DoesNotApply)
    assert applied.reason
    assert builds == []
    assert not Path('/tmp/outside').exists()
    assert not Path('/etc/outside').exists()


@pytest.mark.parametrize(
    'diff',
    [
        b'diff --git a/mm/vma.c b/../x\nrename from mm/vma.c\nrename to ../x\n',
        b'diff --git a/mm/vma.c b/.git/x\ncopy from mm/vma.c\ncopy to .git/x\n',
        added('../x').replace(b'a/../x', b'"a/\\056./x"').replace(b'b/../x', b'"b/\\056./x"'),
        b'--- /dev/null\n+++ b/../x\n@@ -0,0 +1 @@\n+x\n',
        b'--- a/../../../../etc/passwd\n+++ b/../../../../etc/passwd\n@@ -1 +1 @@\n-x\n+y\n',
    ],
    ids=['rename', 'copy', 'escaped', 'plain', 'existing'],
)
def test_a_diff_that_leads_out_does_not_apply(court: Court, diff: bytes) -> None:
    applied, _ = court.diffs(diff)
    assert isinstance(applied, DoesNotApply)


def test_nothing_is_written_through_a_symlink_of_the_series(court: Court, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    out.mkdir()
    link = added('mm/out', '120000', str(out)).replace(
        f'+{out}\n'.encode(), f'+{out}\n\\ No newline at end of file\n'.encode()
    )
    applied, _ = court.diffs(link, added('mm/out/evil'))
    assert isinstance(applied, DoesNotApply)
    assert applied.n == 2
    assert list(out.iterdir()) == []


def test_symlinks_and_hard_links_lead_nowhere(court: Court, tmp_path: Path) -> None:
    name = f'vma-evil-{secrets.token_hex(4)}'
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'mine').write_text('mine')
    targets = ['/etc', '../../../../..', str(out), '/ccache', '/root', '/proc/1/root', '/usr/bin']
    links: dict[str, File] = {
        f'{DIR}/link{n}': (0o120000, target.encode()) for n, target in enumerate(targets)
    }
    text = f'for n in 0 1 2 3 4 5 6; do echo x >link$n/{name}; cat link$n/mine; done\n'
    text += f'echo x >link1/{str(out).lstrip("/")}/{name}\n'
    text += 'ln /usr/bin/id hard && echo linked; ln $(find /ccache -type f | head -n 1) hard2 && '
    text += 'echo linked; ls -l link*'
    caught = bare(f'ln -s {out} link; echo x >link/{name}; cat link/mine')
    assert caught == 'mine'
    (out / name).unlink()
    log = ran(court({**links, **script(text)})[-1])
    assert f'-> {out}' in log
    assert 'linked' not in log
    assert [path.name for path in out.iterdir()] == ['mine']
    for place in ('/', '/etc', '/root', '/usr/bin', tmp_path, court.judge.cache / 'ccache'):
        assert not (Path(place) / name).exists()


def test_a_makefile_that_is_a_link_shows_nothing(court: Court, bait: Bait) -> None:
    files: dict[str, File] = {
        f'{DIR}/Makefile': (0o120000, str(bait.key).encode()),
        'mm/vma.c': (0o120000, b'/etc/shadow'),
    }
    build = court(files)[-1]
    assert not isinstance(build.outcome, Passed)
    assert 'Makefile' in build.log
    assert bait.token not in everything(build)
    assert 'root:' not in everything(build)


def test_a_tree_that_goes_round_and_deep(court: Court) -> None:
    links: dict[str, File] = {
        f'{DIR}/loop': (0o120000, b'loop'),
        f'{DIR}/one': (0o120000, b'two'),
        f'{DIR}/two': (0o120000, b'one'),
        f'{DIR}/up': (0o120000, b'..'),
        f'{DIR}/all': (0o120000, b'../../..'),
        f'{DIR}/{"d/" * 60}up': (0o120000, b'../' * 60 + b'up'),
        f'{DIR}/long': (0o120000, b'x' * 3000),
    }
    text = 'cat loop one/x; timeout 5 find -L . -name main.c | wc -l; timeout 5 cp -rL . /tmp/copy'
    text += '; timeout 5 grep -r x up/up/up >/dev/null'
    log = ran(court({**links, **script(f'({text}) 2>&1 | tail -n 20')}, limits=TIGHT)[-1])
    assert 'levels of symbolic links' in log or 'ile system loop' in log


@pytest.mark.parametrize('depth', [400, 1500, 2500])
def test_a_deep_path_ends_in_a_word(court: Court, depth: int) -> None:
    applied, builds = court.diffs(added(f'{DIR}/{"d/" * depth}x'))
    if isinstance(applied, DoesNotApply):
        assert applied.reason
    else:
        assert builds


NAMES = (
    '-rf', '--help', '--checkpoint-action=exec=touch x', '-', '@x', '~root', 'a b.c', 'tab\there.c',
    'new\nline.c', 'quo\'te".c', '; touch semicolon; .c', '`touch backtick`.c', '$(touch sub).c',
    '$(shell touch shell).c', '$(eval vma:;touch eval).c', '${HOME}.c', '$$(touch twice).c',
    '| touch pipe.c', '> redirect.c', '%.c', '*.c', '[a-z]?.c', '# hash.c', 'colon: x.c',
    'equal=x.c', 'back\\slash.c', '\x1b[31mred.c', '\u202eevil.c', 'x' * 255, '.hidden', '...',
)  # fmt: skip


def test_file_names_run_nothing_outside(court: Court, tmp_path: Path) -> None:
    there = {
        folder: {path.name for path in folder.iterdir()}
        for folder in (Path.cwd(), Path.home(), tmp_path)
    }
    files: dict[str, File] = {f'{DIR}/{name}': b'int x;\n' for name in NAMES}
    files[f'{DIR}/Makefile'] = (
        b'ALL := $(wildcard *.c * .*)\nvma: run\n\t@exit 1\nrun:\n'
        b'\t-@ls $(ALL)\n\t-@cp $(ALL) /tmp\n\t-@tar -cf /tmp/x.tar *\n'
        b'\t@ls -q | head -n 36; echo ' + RAN.encode() + b'\n'
    )
    build = court(files)[-1]
    assert isinstance(build.outcome, BuildFailed)
    assert RAN in build.log
    assert '\x1b' not in build.log
    for folder, names in there.items():
        new = {path.name for path in folder.iterdir()} - names
        assert not {
            name for name in new if re.match('x$|(semi|back|sub|shell|eval|twice|pipe|redir)', name)
        }


@pytest.mark.parametrize('name', ['\\377.c', '\\303\\050.c', '\\033[31m.c', 'new\\nline.c'])
def test_file_names_that_are_no_text(court: Court, name: str) -> None:
    path = f'{DIR}/{name}'
    diff = (
        f'diff --git "a/{path}" "b/{path}"\nnew file mode 100644\n--- /dev/null\n'
        f'+++ "b/{path}"\n@@ -0,0 +1 @@\n+x\n'
    ).encode()
    applied, builds = court.diffs(diff, made(script('ls -q')))
    assert isinstance(applied, AppliedSeries)
    assert '.c' in ran(builds[-1])


# --- the network, and other processes ---

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
    assert re.search('connect: |Network is unreachable|Connection refused', log)


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
    assert isinstance(build.outcome, CouldNotRun)
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


# --- limits ---


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


# --- the caches ---


def test_it_poisons_no_object_of_others(court: Court) -> None:
    shared = court.judge.cache / 'ccache'
    assert files_below(shared)
    text = """
        echo objects: $(find /ccache -type f | wc -l)
        sum() { find /ccache | sort; find /ccache -type f | sort | xargs cksum; }
        sum >before
        for f in $(find /ccache); do
            chmod 777 $f; echo x >>$f; touch $f; rm -f $f; mv $f $f.x
        done 2>/dev/null
        mkdir bin own
        cat >bin/gcc <<'END'
#!/bin/sh
exec /usr/bin/gcc "$@" -Dvma_link=poisoned
END
        chmod +x bin/gcc
        build() { rm -f main.o; make -s -f Makefile.real main.o EXTRA_CFLAGS=-g1 CC="$1"; }
        export CCACHE_RESHARE=1 CCACHE_RECACHE=1 CCACHE_COMPILERCHECK=none
        build gcc && nm main.o | grep -c vma_link
        for dir in /ccache /tmp/ccache; do
            export CCACHE_DIR=$dir
            for to in 'file:/ccache' 'file:///ccache|read-only=false' 'file:/proc/1/root/ccache'; do
                CCACHE_REMOTE_STORAGE=$to PATH=$PWD/bin:$PATH build 'ccache gcc'
                CCACHE_REMOTE_STORAGE=$to CCACHE_COMPILER=$PWD/bin/gcc build 'ccache gcc'
            done
        done 2>&1 | tail -n 3
        nm main.o | grep poisoned
        echo 'cache_dir = /ccache' >own/ccache.conf
        echo 'remote_storage = file:/ccache' >>own/ccache.conf
        unset CCACHE_DIR CCACHE_REMOTE_STORAGE
        CCACHE_CONFIGPATH=own/ccache.conf build 'ccache gcc'
        CCACHE_DIR=/ccache ccache -C
        CCACHE_DIR=/ccache ccache -o max_size=1
        sum | cmp - before && echo unchanged
    """
    real = (demo.TREE / DIR / 'Makefile').read_bytes()
    kept = files_below(shared)
    edit = {**script(f'({text}) 2>&1 | tail -n 30'), f'{DIR}/Makefile.real': real}
    with court.nothing_else_written() as builds:
        builds += court.judge(edit)
        assert files_below(shared) == kept
    log = ran(builds[-1])
    assert re.search(r'^objects: [1-9]', log, re.M)
    assert 'poisoned' in log
    assert '\nunchanged\n' in log
    court.rebuilt()


FORGED = {
    # What it prints is all that there is to see: this one is believed, for its own tree.
    'echo': (f'#!/bin/sh\necho {SUMMARY}\n', Passed),
    'status': (f'#!/bin/sh\necho {SUMMARY}\nexit 1\n', TestsFailed),
    'sanitizer': (
        f'#!/bin/sh\necho "==1==ERROR: AddressSanitizer: use on address 0x1"\necho {SUMMARY}\n',
        TestsFailed,
    ),
    'undefined': (
        f'#!/bin/sh\necho "main.c:3:1: runtime error: shift exponent"\necho {SUMMARY}\n',
        TestsFailed,
    ),
    'failed': (f'#!/bin/sh\necho "Test merge_alike FAILED"\necho {SUMMARY}\n', TestsFailed),
    'no-summary': ('#!/bin/sh\nexit 0\n', TestsFailed),
}


@pytest.mark.parametrize('name', FORGED)
def test_a_forged_pass_is_its_own_trees_only(court: Court, name: str) -> None:
    text, kind = FORGED[name]
    results = court.judge.cache / 'results'
    kept = files_below(results)
    edit = {f'{DIR}/Makefile': AS_TEST, f'{DIR}/attack.sh': text.encode()}
    with court.nothing_else_written() as builds:
        builds += court.judge(edit)
        (fresh,) = set(files_below(results)) - set(kept)
        stored = json.loads((results / fresh).read_text())
    assert type(builds[-1].outcome) is kind
    assert stored['outcome']['kind'] == kind.__name__
    court.rebuilt()


DIGITS = "$(head -c 5000 /dev/zero | tr '\\0' 9)"
LINES = {
    'own': 'for fd in 3 4 5 6 7 8 9; do (echo "{line}" >&$fd); done',
    'parents': 'for p in /proc/[0-9]*; do for fd in 3 4 5 6 7 8 9; do (echo "{line}" >$p/fd/$fd)'
    '; done; done',
}


@pytest.mark.parametrize('where', LINES)
@pytest.mark.parametrize(
    'line',
    ['build 0', 'run 0', f'{SUMMARY}', f'run {DIGITS}', 'run -1', 'x', '\\377 \\377'],
    ids=['build', 'run', 'summary', 'digits', 'negative', 'word', 'bytes'],
)
def test_a_forged_status_harms_its_own_tree_only(court: Court, where: str, line: str) -> None:
    text = LINES[where].format(line=line)
    builds = court(script(f'({text}) 2>/dev/null; echo {RAN}'))
    assert len(builds) == 2
    assert isinstance(builds[0].outcome, Passed)
    if where == 'own':
        ran(builds[-1])


def test_nothing_is_learnt_from_a_base_nobody_vouches_for(court: Court) -> None:
    hostile = script('echo x >/ccache/evil && echo written; touch $(find /ccache -type f)')
    for edits in ((HONEST[0],), (HONEST[0], script('touch /ccache/evil; false'))):
        builds = court(*edits, before=(hostile,), vouched=False)
        assert [type(build.outcome) for build in builds[:2]] == [BuildFailed, BuildFailed]
        assert 'written' not in ran(builds[0])
    court.rebuilt()


def test_a_prerequisite_fills_no_cache(court: Court) -> None:
    strange = b'int strange;\n'
    applied, builds = court.diffs(
        made({f'{DIR}/tests/more.c': b'int more;\n', f'{DIR}/more.h': b'\n'}),
        on_top=(made({f'{DIR}/strange.h': strange}), made(script('echo x >/ccache/evil'))),
    )
    assert isinstance(applied, AppliedSeries)
    assert builds
    assert all(isinstance(build.outcome, BuildFailed) for build in builds)
    assert not (court.judge.cache / 'ccache' / 'evil').exists()
    court.rebuilt()


# --- what it prints ---

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


def test_a_plug_in_of_the_compiler_is_caged(court: Court, bait: Bait, tmp_path: Path) -> None:
    out = tmp_path / f'vma-evil-{secrets.token_hex(4)}'
    plugin = f"""
        #include <stdio.h>
        #include <stdlib.h>
        int plugin_is_GPL_compatible;
        __attribute__((constructor)) static void start(void)
        {{
            char line[200] = "nothing";
            FILE *to = fopen("{out}", "w"), *from = fopen("{bait.key}", "r");
            if (to) fputs("evil", to), fclose(to);
            if (from) fgets(line, 200, from);
            fprintf(stderr, "plug-in: %s, %s\\n", to ? "wrote" : "wrote not", line);
        }}
    """
    text = f"""cat >plugin.c <<'END'\n{plugin}\nEND
        gcc -shared -fPIC -o x.so plugin.c && echo 'int x;' >x.c && gcc -fplugin=./x.so -c x.c
    """
    said = bare(text)
    assert 'plug-in: wrote, ' in said
    assert bait.token in said
    out.unlink()
    log = ran(court(script(text))[-1])
    assert 'plug-in: wrote not, nothing' in log
    assert not out.exists()
