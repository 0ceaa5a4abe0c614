"""The program as a user runs it: reports, bad input, exit codes."""

import json
import mailbox
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bot.cli import main
from tests.conftest import Bot, Demo, Result

SCHEMA = json.loads((Path(__file__).parent.parent / 'docs' / 'check.schema.json').read_text())
SIGNED = b'Signed-off-by: A Developer <dev@example.org>\n'


def checked(result: Result) -> dict[str, Any]:
    """The one JSON object of a result, which fits the schema."""
    assert len(result.out.splitlines()) == 1
    found: dict[str, Any] = json.loads(result.out)
    jsonschema.validate(found, SCHEMA)
    return found


def mail(diff: bytes, subject: bytes = b'[PATCH] mm: change something') -> bytes:
    return (
        b'From: A Developer <dev@example.org>\nSubject: ' + subject
        + b'\nMessage-ID: <1@example.org>\n\nWords.\n\n' + SIGNED + b'---\n' + diff + b'-- \n2.39\n'
    )  # fmt: skip


def edit(path: str = 'mm/vma.c') -> bytes:
    return (
        f'diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n'
        '@@ -1,4 +1,5 @@\n // SPDX-License-Identifier: GPL-2.0-or-later\n'
        ' #include "vma_internal.h"\n #include "vma.h"\n+#include "more.h"\n \n'
    ).encode()


def new_file(path: str) -> bytes:
    return (
        f'diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n'
        '@@ -0,0 +1 @@\n+root::0:0::/:/bin/sh\n'
    ).encode()


def without_times(text: str) -> str:
    return re.sub(r'\b\d+\.\d s\b', 'N s', text)


def without_reuse(text: str) -> str:
    return re.sub(r'(?m)(?<=  )(reused|N s)$', '-', without_times(text))


def test_the_sample_series(bot: Bot, sample: Demo, golden: Callable[[str, str], None]) -> None:
    result = bot('check', '--tree', sample.tree, sample.mbox)
    assert result.code == 1
    golden('sample.txt', without_times(result.out).replace(str(sample.tree), 'TREE'))


def test_the_sample_series_as_json(
    bot: Bot, sample: Demo, golden: Callable[[str, str], None]
) -> None:
    result = bot('check', '--format', 'json', '--tree', sample.tree, sample.mbox)
    assert result.code == 1
    found = checked(result)
    for build in found['builds']:
        build['seconds'], build['log'] = 0, ''
    found['bot'] = found['base']['tree'] = '…'
    found['base']['why'] = '…'
    golden('sample.json', json.dumps(found, indent=1, ensure_ascii=False) + '\n')


def test_verbose_shows_the_way_to_a_finding(
    bot: Bot, sample: Demo, golden: Callable[[str, str], None]
) -> None:
    result = bot(
        'check',
        '-v',
        '--rules',
        'compat-*',
        '--harness',
        'none',
        '--tree',
        sample.tree,
        sample.mbox,
    )
    golden('sample-verbose.txt', result.out.replace(str(sample.tree), 'TREE'))


def test_one_patch_from_stdin(bot: Bot, sample: Demo) -> None:
    found = checked(
        bot('check', '--format', 'json', '--harness', 'none', '--tree', sample.tree, '-',
            stdin=mail(edit()))
    )  # fmt: skip
    assert found['verdict'] == 'clean'
    assert found['series']['patches'][0]['subject'] == 'mm: change something'
    assert found['series']['patches'][0]['trailers'] == [SIGNED.decode().strip()]


def test_a_folder_of_patches(bot: Bot, sample: Demo, tmp_path: Path) -> None:
    mails = re.split(rb'(?m)^(?=From 0{40})', sample.mbox.read_bytes())[1:]
    for number, one in enumerate(mails, 1):
        (tmp_path / f'{number:04}-x.patch').write_bytes(one)
    folder = bot('check', '--tree', sample.tree, tmp_path)
    mbox = bot('check', '--tree', sample.tree, sample.mbox)
    assert folder.code == 1
    assert without_reuse(folder.out) == without_reuse(mbox.out)


def test_a_maildir(bot: Bot, sample: Demo, tmp_path: Path) -> None:
    box = mailbox.Maildir(str(tmp_path / 'box'), create=True)
    for one in reversed(re.split(rb'(?m)^From 0{40}.*\n', sample.mbox.read_bytes())[1:]):
        box.add(one)
    result = bot('check', '-q', '--harness', 'none', '--tree', sample.tree, tmp_path / 'box')
    assert '(6 patches, A Developer)' in result.out
    assert result.code == 1


@pytest.mark.parametrize(
    ('level', 'rules', 'code'),
    [
        ('error', 'struct-doc-*', 0),
        ('warning', 'struct-doc-*', 1),
        ('note', 'struct-doc-*', 1),
        ('error', 'compat-pair', 1),
    ],
)
def test_fail_on(bot: Bot, sample: Demo, level: str, rules: str, code: int) -> None:
    result = bot('check', '--fail-on', level, '--rules', rules, '--harness', 'none',
                 '--tree', sample.tree, sample.mbox)  # fmt: skip
    assert result.code == code


def test_several_series_give_a_report_each_and_the_worst_code(
    bot: Bot, sample: Demo, tmp_path: Path
) -> None:
    good, bad = tmp_path / 'good.mbox', tmp_path / 'bad.mbox'
    good.write_bytes(mail(edit()))
    bad.write_bytes(mail(edit('mm/nosuch.c')))
    result = bot(
        'check', '--format', 'json', '--harness', 'none', '--tree', sample.tree, good, bad, good
    )
    verdicts = [json.loads(line)['verdict'] for line in result.out.splitlines()]
    assert verdicts == ['clean', 'could-not-check', 'clean']
    assert result.code == 3


# --- bad input: one line, the right code --------------------------------------


def wrapped(diff: bytes) -> bytes:
    return diff.replace(b'GPL-2.0-or-later', b'GPL-2.0-\nor-later')


BAD = {
    'empty': (b'', 'empty, no mail in it'),
    'no-mail': (b'just\nsome words\n', 'no mail in it'),
    'no-patch': (b'Subject: hello\n\nNo diff.\n', 'the series is incomplete: no patch in it'),
    'no-diff': (mail(b''), 'the series is incomplete: patch 1 of 1 has no diff'),
    'missing': (mail(edit(), b'[PATCH 1/3] mm: x'), 'incomplete: patch 2, 3 of 3 is missing'),
    'mangled': (mail(wrapped(edit())), 'line 14 of the mail: not a line of a hunk'),
    'elsewhere': (
        mail(edit().replace(b'"vma.h"', b'"vmb.h"')),
        'patch 1: hunk at line 12 of the mail does not apply to mm/vma.c at line 1',
    ),
    'no-such-file': (
        mail(edit('mm/nosuch.c')),
        'patch 1 does not apply: mm/nosuch.c: does not exist in the tree',
    ),
    'dot-dot': (mail(new_file('../../etc/passwd')), 'does not apply: invalid path'),
    'dot-git': (mail(new_file('.git/config')), 'does not apply: invalid path'),
    'binary': (
        mail(b'diff --git a/README b/README\nindex 1111111..2222222 100644\n'
             b'Binary files a/README and b/README differ\n'),
        'patch 1 does not apply: README: binary, and the mail has not its bytes',
    ),
    'no-newline-in-subject': (b'Subject: [PATCH 1/1] x\n\n', 'patch 1 of 1 has no diff'),
    'non-utf8': (mail(edit().replace(b'vma.h', b'\xff')), 'does not apply to mm/vma.c at'),
}  # fmt: skip


@pytest.mark.parametrize('name', BAD)
def test_bad_mail(bot: Bot, sample: Demo, tmp_path: Path, name: str) -> None:
    data, said = BAD[name]
    mbox = tmp_path / 'x.mbox'
    mbox.write_bytes(data)
    result = bot('check', '-q', '--harness', 'none', '--tree', sample.tree, mbox)
    assert said in ' '.join((result.err or result.out).split())
    assert result.code == 3
    assert checked(
        bot('check', '--format', 'json', '--harness', 'none', '--tree', sample.tree, mbox)
    )['verdict'] == 'could-not-check'  # fmt: skip


@pytest.mark.slow
def test_a_mail_of_20_mb(bot: Bot, sample: Demo, tmp_path: Path) -> None:
    lines = b''.join(b'+int x%07d; /* %s */\n' % (n, b'y' * 80) for n in range(200_000))
    head = b'diff --git a/big.c b/big.c\nnew file mode 100644\n--- /dev/null\n+++ b/big.c\n'
    big = mail(head + b'@@ -0,0 +1,200000 @@\n' + lines)
    mbox, config = tmp_path / 'big.mbox', tmp_path / 'config.toml'
    assert len(big) > 20_000_000
    # As git format-patch writes it: judged.
    mbox.write_bytes(big.replace(b'Message-ID: <1@example.org>\n', b''))
    result = bot('check', '-q', '--tree', sample.tree, mbox)
    assert (result.code, result.err) == (0, '')
    # As an archive has it: b4 takes minutes over it, and is ended.
    mbox.write_bytes(big)
    config.write_text('[b4]\ntime = "2s"\n')
    result = bot('check', '-q', '--config', config, '--tree', sample.tree, mbox)
    assert result.code == 3
    assert 'b4 does not come to an end with this thread (2 s)' in ' '.join(result.out.split())


@pytest.mark.parametrize(
    ('words', 'code', 'said'),
    [
        (('check',), 2, "Missing argument 'SERIES...'"),
        (('check', '--no-such', 'x'), 2, 'No such option'),
        (('check', 'nosuch.mbox', '--tree', 'TREE'), 2, 'nosuch.mbox: no file or folder'),
        (('check', 'MBOX', '--tree', 'FOLDER'), 3, 'is no git repository'),
        (('check', 'MBOX', '--tree', '/nonexistent'), 3, 'is no git repository'),
        (('check', 'MBOX', '--tree', 'TREE', '--base', 'nosuch'), 3, "no commit 'nosuch'"),
        (('check', 'MBOX', '--tree', 'TREE', '--rules', 'nosuch'), 2, 'there is no rule "nosuch"'),
        (('check', 'MBOX', '--tree', 'TREE', '--harness', 'nosuch'), 2, 'no harness "nosuch"'),
        (('check', 'MBOX', '--config', '/nonexistent'), 2, '/nonexistent: No such file'),
        (('check', 'FOLDER', '--tree', 'TREE'), 3, 'no *.patch or *.mbox in this folder'),
        (('check', 'MBOX'), 2, 'no kernel tree: name one with --tree PATH'),
    ],
)
def test_bad_usage(
    bot: Bot, sample: Demo, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    (tmp_path / 'empty').mkdir()
    names = {'TREE': sample.tree, 'MBOX': sample.mbox, 'FOLDER': tmp_path / 'empty'}
    result = bot(*(names.get(word, word) for word in words), '-q')
    assert (result.code, result.out) == (code, '')
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith('bot: ')
    assert said in result.err


def test_without_bubblewrap_the_findings_are_shown_all_the_same(
    bot: Bot, sample: Demo, tmp_path: Path
) -> None:
    git = shutil.which('git')
    assert git is not None
    (tmp_path / 'git').symlink_to(git)
    result = bot('check', '-q', '--tree', sample.tree, sample.mbox, env={'PATH': str(tmp_path)})
    assert result.code == 3
    assert 'could not run: bubblewrap is not installed' in ' '.join(result.out.split())
    assert '[compat-pair]' in result.out


def test_without_a_compiler_the_findings_are_shown_all_the_same(sample: Demo) -> None:
    hide = 'mount --bind /dev/null "$(readlink -f /usr/bin/cc)" && exec "$@"'
    result = subprocess.run(
        ['unshare', '--map-root-user', '--mount', 'sh', '-c', hide, 'sh', sys.executable, '-m',
         'bot', 'check', '-q', '--no-sandbox', '--tree', str(sample.tree), str(sample.mbox)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 'could not run: there is no cc in' in ' '.join(result.stdout.split()), result.stderr
    assert result.returncode == 3
    assert '[compat-pair]' in result.stdout


def test_a_full_cache_folder_is_said_and_does_no_harm(
    bot: Bot, sample: Demo, tmp_path: Path
) -> None:
    config = tmp_path / 'config.toml'
    config.write_text('[state]\ncache = "/dev/full/x"\n')
    result = bot('check', '--config', config, '--tree', sample.tree, sample.mbox)
    assert result.code == 1
    assert 'could not be kept in /dev/full/x' in result.err


def test_no_sandbox_gives_the_same_report(bot: Bot, sample: Demo) -> None:
    caged = bot('check', '-q', '--tree', sample.tree, sample.mbox)
    free = bot('check', '-q', '--no-sandbox', '--tree', sample.tree, sample.mbox)
    assert without_reuse(caged.out) == without_reuse(free.out)


def test_standing_in_a_kernel_needs_no_tree(bot: Bot, sample: Demo, tmp_path: Path) -> None:
    clone = tmp_path / 'clone'
    sample.repo.git('clone', '-q', '.', str(clone))
    here = Path.cwd()
    os.chdir(clone)
    try:
        assert bot('check', '-q', '--harness', 'none', sample.mbox).code == 1
    finally:
        os.chdir(here)


def test_control_characters_of_a_stranger_are_not_shown(
    bot: Bot, sample: Demo, tmp_path: Path
) -> None:
    mbox = tmp_path / 'x.mbox'
    mbox.write_bytes(mail(edit(), b'[PATCH] mm: \x1b[31mred \xe2\x80\xaegnp.exe\x07'))
    for form in ('text', 'json'):
        result = bot(
            'check', '--format', form, '-q', '--harness', 'none', '--tree', sample.tree, mbox
        )
        assert 'mm: red gnp.exe' in result.out
        assert not re.search('[\x00-\x08\x0b-\x1f\u202e]', result.out)


def test_a_fault_of_our_own_is_told_in_a_line_and_is_no_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> None:
        raise KeyError('not\nthere')

    monkeypatch.setattr('bot.commands.rules.load', broken)
    assert main(['rules', 'list']) == 3
    said = capsys.readouterr().err
    assert said.startswith('bot: a fault of the bot itself, please report it: KeyError: ')
    assert said.count('\n') == 1
    assert 'test_cli.py:' in said
