"""Hostile series that read and write what is not theirs."""

import os
import re
import secrets
from dataclasses import asdict
from pathlib import Path

import pytest

from bot import demo
from bot.model import Passed, TestsFailed
from tests.court import (
    DIR,
    MARKED,
    Bait,
    Court,
    added,
    bare,
    everything,
    made,
    ran,
    script,
    texts,
)

pytest_plugins = ('tests.courtroom',)
pytestmark = pytest.mark.slow


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


def test_a_file_is_never_setuid(court: Court, tmp_path: Path) -> None:
    name = f'id-{secrets.token_hex(4)}'
    text = f'cp /usr/bin/id {name}; cp {name} /tmp; chmod 6755 {name} /tmp/{name}; ls -l {name}\n'
    text += f'./{name}; grep NoNewPrivs /proc/self/status; grep CapBnd /proc/self/status\n'
    log = ran(court(script(text))[-1])
    assert '-rwxr-xr-x' in log  # chmod is refused, and would have no effect
    assert log.count('Operation not permitted') == 2
    assert 'uid=65534 gid=65534 groups=65534' in log
    assert re.search(r'NoNewPrivs:\s+1', log)
    assert re.search(r'CapBnd:\s+0{16}', log)
    for folder in (tmp_path, Path(os.environ.get('TMPDIR', '/tmp'))):
        assert not list(folder.glob(f'**/{name}') if folder == tmp_path else folder.glob(name))


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
