"""Hostile series whose patches are the attack: paths, modes, links, names."""

import os
import re
import secrets
from pathlib import Path

import pytest

from bot.model import AppliedSeries, BuildFailed, DoesNotApply, Passed
from tests.court import (
    DIR,
    RAN,
    TIGHT,
    Bait,
    Court,
    added,
    bare,
    everything,
    made,
    ran,
    script,
)
from tests.gitrepo import File

pytest_plugins = ('tests.courtroom',)
pytestmark = pytest.mark.slow


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
def test_a_path_out_of_the_tree_does_not_apply(user: int, court: Court, path: str) -> None:
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
def test_a_diff_that_leads_out_does_not_apply(user: int, court: Court, diff: bytes) -> None:
    applied, _ = court.diffs(diff)
    assert isinstance(applied, DoesNotApply)


def test_nothing_is_written_through_a_symlink_of_the_series(
    user: int, court: Court, room: Path
) -> None:
    out = room / 'out'
    out.mkdir()
    link = added('mm/out', '120000', str(out)).replace(
        f'+{out}\n'.encode(), f'+{out}\n\\ No newline at end of file\n'.encode()
    )
    applied, _ = court.diffs(link, added('mm/out/evil'))
    assert isinstance(applied, DoesNotApply)
    assert applied.n == 2
    assert list(out.iterdir()) == []


def test_symlinks_and_hard_links_lead_nowhere(user: int, court: Court, room: Path) -> None:
    name = f'vma-evil-{secrets.token_hex(4)}'
    out = room / 'out'
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
    for place in ('/', '/etc', '/root', '/usr/bin', room, court.judge.cache / 'ccache'):
        assert not os.access(f'{place}/{name}', os.F_OK)


def test_a_makefile_that_is_a_link_shows_nothing(user: int, court: Court, bait: Bait) -> None:
    files: dict[str, File] = {
        f'{DIR}/Makefile': (0o120000, str(bait.key).encode()),
        'mm/vma.c': (0o120000, b'/etc/shadow'),
    }
    build = court(files)[-1]
    assert not isinstance(build.outcome, Passed)
    assert 'Makefile' in build.log
    assert bait.token not in everything(build)
    assert 'root:' not in everything(build)


def test_a_tree_that_goes_round_and_deep(user: int, court: Court) -> None:
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


def test_file_names_run_nothing_outside(user: int, court: Court, room: Path) -> None:
    there = {
        folder: {path.name for path in folder.iterdir()}
        for folder in (Path.cwd(), Path.home(), room)
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
def test_file_names_that_are_no_text(user: int, court: Court, name: str) -> None:
    path = f'{DIR}/{name}'
    diff = (
        f'diff --git "a/{path}" "b/{path}"\nnew file mode 100644\n--- /dev/null\n'
        f'+++ "b/{path}"\n@@ -0,0 +1 @@\n+x\n'
    ).encode()
    applied, builds = court.diffs(diff, made(script('ls -q')))
    assert isinstance(applied, AppliedSeries)
    assert '.c' in ran(builds[-1])
