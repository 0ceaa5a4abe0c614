"""bot gate: ranges and branches, and real pushes through real hooks."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.errors import UsageError
from bot.pushes import NONE, Hook, Push, pushes
from tests.conftest import Bot, Demo, Result
from tests.gitrepo import ENV
from tests.patchworkserver import serving
from tests.services.conftest import archive as archive
from tests.services.publicinbox import PublicInbox

pytestmark = pytest.mark.slow

OLD, NEW = '1' * 40, '2' * 40
COMMITTER = {'GIT_COMMITTER_NAME': 'A Developer', 'GIT_COMMITTER_EMAIL': 'dev@example.org'}
GOOD = (
    'mm/vma: a comment\n\nBecause.\n\nLink: https://lore.kernel.org/linux-mm/1@example.org/\n'
    'Signed-off-by: A Developer <dev@example.org>\n'
)
BAD = 'mm/vma: a comment\n\nBecause.\n'


@dataclass
class Forge:
    """A developer's clone, the repository that it pushes to, and hooks."""

    clone: Path
    server: Path
    bot: Bot
    config: Path

    def git(self, *words: str, at: Path | None = None, ok: bool = True) -> Result:
        done = subprocess.run(
            ['git', '-C', str(at or self.clone), *words],
            capture_output=True, text=True, check=False,
            env={**os.environ, **ENV, **COMMITTER, 'VMA_BOT_CONFIG': str(self.config)},
        )  # fmt: skip
        assert not ok or done.returncode == 0, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def commit(self, message: str, path: str = 'mm/vma.c', text: str = '/* x */\n') -> str:
        file = self.clone / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open('a') as opened:
            opened.write(text)
        self.git('add', '-A')
        self.git('commit', '-q', '-m', message)
        return self.git('rev-parse', 'HEAD').out.strip()

    def hook(self, name: str, *words: str) -> None:
        """Install a hook, as docs/gate.md says."""
        folder = (self.server if name != 'pre-push' else self.clone / '.git') / 'hooks'
        folder.mkdir(exist_ok=True)
        path = folder / name
        said = ' '.join(('-P -m bot gate --harness none --hook', name, *words))
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {said} "$@"\n')
        path.chmod(0o755)

    def push(self, *refs: str) -> Result:
        return self.git('push', 'origin', *refs, ok=False)

    def on_server(self, ref: str) -> str | None:
        found = self.git('rev-parse', '-q', '--verify', ref, at=self.server, ok=False)
        return found.out.strip() or None

    def gate(self, *words: str, harness: str = 'none') -> Result:
        command = ['gate', '-q', '--harness', harness, '--tree', str(self.clone), *words]
        return self.bot(*command, env={'VMA_BOT_CONFIG': str(self.config)})


@pytest.fixture
def forge(own_sample: Demo, bot: Bot, tmp_path: Path) -> Forge:
    server, clone = tmp_path / 'server.git', tmp_path / 'clone'
    config = tmp_path / 'config.toml'
    config.write_text('')
    made = Forge(clone, server, bot, config)
    made.git('clone', '-q', '--bare', str(own_sample.tree), str(server), at=tmp_path)
    made.git('clone', '-q', str(server), str(clone), at=tmp_path)
    made.git('checkout', '-q', '-b', 'topic', 'origin/master')
    return made


# --- what git says ---


@pytest.mark.parametrize(
    ('hook', 'words', 'lines', 'found'),
    [
        ('update', ['refs/heads/x', OLD, NEW], '', [Push('refs/heads/x', OLD, NEW)]),
        ('update', ['refs/heads/x', NONE, NEW], '', [Push('refs/heads/x', None, NEW)]),
        ('update', ['refs/heads/x', OLD, NONE], '', []),
        ('update', ['refs/tags/x', NONE, NEW], '', []),
        ('pre-receive', [], f'{OLD} {NEW} refs/heads/a\n{OLD} {NONE} refs/heads/b\n',
         [Push('refs/heads/a', OLD, NEW)]),
        ('pre-push', ['origin', 'url'], f'refs/heads/x {NEW} refs/heads/y {NONE}\n',
         [Push('refs/heads/y', None, NEW, 'origin')]),
        ('pre-push', ['origin', 'url'], '', []),
    ],
)  # fmt: skip
def test_what_git_hands_a_hook(hook: Hook, words: list[str], lines: str, found: list[Push]) -> None:
    assert pushes(hook, words, lines) == tuple(found)


@pytest.mark.parametrize(
    ('hook', 'words', 'lines'),
    [
        ('update', [], ''),
        ('update', ['x', 'y', 'z'], ''),
        ('pre-receive', [], 'nonsense\n'),
        ('pre-push', ['o', 'u'], f'a {OLD} b\n'),
    ],
)
def test_what_was_not_gits(hook: Hook, words: list[str], lines: str) -> None:
    with pytest.raises(UsageError, match=f'--hook {hook}: '):
        pushes(hook, words, lines)


# --- ranges ---


def test_a_range_that_may_be_merged(forge: Forge) -> None:
    forge.commit(GOOD)
    forge.commit(GOOD)
    said = forge.gate('origin/master..topic')
    assert said.code == 0
    assert said.out.endswith('gate: passed\n')
    # The branch's own upstream, named or not.
    assert forge.gate('topic').out == said.out.replace(
        'origin/master..topic', 'refs/remotes/origin/master..topic'
    )
    assert forge.gate().out == forge.gate('topic').out


def test_the_whole_report(forge: Forge, golden: Callable[[str, str], None]) -> None:
    forge.git('am', '-q', str(forge.clone.parent / 'sample' / 'series.mbox'))
    said = forge.gate('origin/master..', harness='vma')
    assert said.code == 1
    text = said.out
    for n, commit in enumerate(forge.git('rev-list', 'origin/master..').out.split(), 1):
        text = text.replace(commit[:12], f'commit-{n}    ')
    head = forge.git('rev-parse', 'origin/master').out.strip()
    text = text.replace(head[:12], 'base')
    golden('gate.txt', _without_times(text))


def _without_times(text: str) -> str:
    return re.sub(r'(?:\d+\.\d s|reused)$', '… s', text, flags=re.M)


def test_what_only_a_gate_asks(forge: Forge) -> None:
    first = forge.commit(GOOD)
    forge.commit(BAD)
    forge.commit(
        GOOD.replace('Signed-off', f'Fixes: {first[:12]} ("mm/vma: a commend")\nSigned-off')
    )
    forge.commit(
        GOOD.replace('Signed-off', f'Fixes: {first[:12]} ("mm/vma: a comment")\nSigned-off')
    )
    said = forge.gate('origin/master..topic')
    assert said.code == 1
    assert said.out.count('[signoff-chain]') == 1
    assert said.out.count('[fixes-tag]') == 1
    assert said.out.count('[link-tag]') == 1
    assert said.out.endswith('gate: refused: 1 error, 1 warning, 1 note\n')
    only = forge.gate('origin/master..topic', '--rules', 'link-*')
    assert (only.code, only.out.splitlines()[-1]) == (0, 'gate: passed: 1 note')
    # bot check does not ask these.
    checked = forge.bot(
        'check', '-q', '--harness', 'none', '--tree', forge.clone, 'origin/master..topic'
    )
    assert checked.code == 0


def test_a_shallow_history_lacks_nothing_that_is_fixed(forge: Forge, tmp_path: Path) -> None:
    forge.commit(GOOD.replace('Signed-off', f'Fixes: {"f" * 12} ("mm: long ago")\nSigned-off'))
    assert 'the tree has no such commit' in forge.gate('origin/master..topic').out
    forge.git('push', '-q', 'origin', 'topic')
    shallow = tmp_path / 'shallow'
    forge.git('clone', '-q', '--depth=2', '-b', 'topic', f'file://{forge.server}', str(shallow),
              at=tmp_path)  # fmt: skip
    said = forge.bot('gate', '-q', '--harness', 'none', '--tree', shallow, 'HEAD~1..HEAD')
    assert (said.code, said.out.splitlines()[-1]) == (0, 'gate: passed')


def test_wrong_words_are_an_error_of_one_line(forge: Forge) -> None:
    for words, said in (
        (('nosuch',), "no commits 'nosuch'"),
        (('a', 'b'), 'one range'),
        (('nosuch..topic',), "no commit 'nosuch'"),
    ):
        done = forge.gate(*words)
        assert done.code in (2, 3)
        assert said in done.err
        assert done.err.count('\n') == 1
    forge.git('checkout', '-q', '--detach')
    assert 'HEAD is on no branch' in forge.gate().err
    forge.git('branch', '-q', '--no-track', 'alone')
    assert 'alone follows no upstream' in forge.gate('alone').err


def test_an_empty_range_is_nothing_to_judge(forge: Forge) -> None:
    done = forge.gate('topic..topic')
    assert done.code == 3
    assert 'no commit in this range' in done.out


def test_a_long_range_is_judged_in_parts(forge: Forge) -> None:
    for _ in range(3):
        forge.commit(GOOD)
    forge.config.write_text('[gate]\nmost = 2\n')
    done = forge.gate('origin/master..topic')
    assert (done.code, done.out.splitlines()[-1]) == (0, 'gate: passed')
    assert 'part 1 of 2 (2 patches' in done.out
    assert 'part 2 of 2 (1 patch' in done.out


def test_a_build_that_does_not_end_fails_as_it_is_told(forge: Forge) -> None:
    forge.commit(GOOD, text='int more;\n')
    words = ('origin/master..topic', '--rules', 'link-tag')
    slow = '[[harness]]\nname = "vma"\nrun = "sleep 30"\n[sandbox]\ntime = "2s"\n'
    forge.config.write_text(slow)
    assert forge.gate(*words, harness='vma').code == 3
    assert forge.gate(*words, '--on-error=open', harness='vma').code == 0


def test_json_is_one_object_a_range(forge: Forge) -> None:
    forge.commit(BAD)
    done = forge.gate('origin/master..topic', '--format', 'json')
    (line,) = done.out.splitlines()
    read = json.loads(line)
    assert {one['rule'] for one in read['findings']} == {'signoff-chain', 'link-tag'}
    assert done.code == 1


# --- pushes ---


@pytest.mark.parametrize('hook', ['pre-push', 'pre-receive', 'update'])
@pytest.mark.parametrize('new', [False, True], ids=['onto master', 'a new branch'])
def test_a_push_is_refused_with_the_findings_on_screen(forge: Forge, hook: str, new: bool) -> None:
    forge.hook(hook)
    ref = 'other' if new else 'master'
    before = forge.on_server(ref)
    forge.commit(GOOD)
    bad = forge.commit(BAD)
    refused = forge.push(f'topic:{ref}')
    assert refused.code != 0
    assert 'has no Signed-off-by' in refused.out + refused.err
    assert 'gate: refused: 1 error, 1 note' in refused.out + refused.err
    assert bad[:12] in refused.out + refused.err
    assert forge.on_server(ref) == before
    forge.git('reset', '-q', '--hard', 'HEAD~1')
    good = forge.commit(GOOD)
    passed = forge.push(f'topic:{ref}')
    assert passed.code == 0, passed.err
    assert forge.on_server(ref) == good
    # Only what it brings is judged, and nothing where it brings nothing.
    assert forge.push(f'topic:{ref}').code == 0
    assert forge.push(f'topic:refs/tags/v1-{ref}').code == 0
    assert forge.push('topic:again').code == 0
    assert forge.push(':again').code == 0
    assert forge.on_server('again') is None


def test_a_push_over_what_was_there(forge: Forge) -> None:
    forge.hook('pre-receive')
    forge.commit(GOOD)
    assert forge.push('topic:other').code == 0
    forge.git('reset', '-q', '--hard', 'origin/master')
    new = forge.commit(GOOD, text='/* another */\n')
    assert forge.push('+topic:other').code == 0
    assert forge.on_server('other') == new
    assert forge.push('+origin/master:other').code == 0


def test_the_first_push_to_an_empty_repository_is_let_in(forge: Forge, tmp_path: Path) -> None:
    forge.server = tmp_path / 'empty.git'
    forge.git('init', '-q', '--bare', str(forge.server))
    forge.git('remote', 'set-url', 'origin', str(forge.server))
    forge.hook('pre-receive')
    forge.commit(BAD)
    assert forge.push('topic:master').code == 0
    forge.commit(BAD)
    assert forge.push('topic:master').code != 0


def test_a_hook_takes_no_configuration_from_the_repository(forge: Forge) -> None:
    forge.hook('pre-receive')
    forge.commit(BAD, 'config.toml', '[rules]\ndisable = ["signoff-chain"]\n')
    assert forge.push('topic:master').code != 0


# --- Patchwork, and what was mailed ---


def test_checks_are_posted_once_for_commits_that_name_their_mails(forge: Forge) -> None:
    forge.commit(GOOD)
    bad = GOOD.replace('/1@', '/2@').replace('Signed-off-by', 'Reviewed-by')
    forge.commit(bad)
    assert 'has no [patchwork]' in forge.gate('origin/master..topic', '--patchwork').err
    with serving() as server:
        server.tokens['token'] = 'vma-bot'
        server.patches = {n: f'<{n}@example.org>' for n in (1, 2)}
        token = forge.clone.parent / 'token'
        token.write_text('token\n')
        token.chmod(0o600)
        forge.config.write_text(
            f'[patchwork]\nurl = "{server.url}"\nproject = "linux-mm"\ntoken_file = "{token}"\n'
        )
        done = forge.gate('origin/master..topic', '--patchwork')
        assert done.code == 1
        assert done.err == 'patchwork: 2 of 2 checks are new\n'
        assert [server.said(n)[0][0] for n in (1, 2)] == ['success', 'fail']
        again = forge.gate('origin/master..topic', '--patchwork')
        assert again.err == 'patchwork: 0 of 2 checks are new\n'
        assert [len(server.said(n)) for n in (1, 2)] == [1, 1]


def test_a_series_that_was_mailed_and_does_not_apply_is_a_finding(
    forge: Forge, archive: PublicInbox
) -> None:
    forge.config.write_text(f'[lore]\nurl = "{archive.url}"\n[attestation]\ncheck = false\n')
    done = forge.gate('pre-1@example.org')
    assert done.code == 3
    assert '[applies]' in done.out
    assert done.out.splitlines()[-1].startswith('gate: closed: ')
