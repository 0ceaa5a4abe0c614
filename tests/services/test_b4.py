"""The checks of `b4 am` and `b4 review`, run by the real b4."""

import json
import os
import quopri
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Demo
from tests.gitrepo import ENV
from tests.services import publicinbox

BIN = Path(sys.executable).parent
COVER = '20260320.0@demo.example.org'
LETTER = f"""From: A Developer <dev@example.org>
To: linux-mm@kvack.org
Date: Fri, 20 Mar 2026 09:46:39 +0000
Subject: [PATCH 0/6] mm: all of it
Message-ID: <{COVER}>

Why.
""".encode()
# What `b4 review` does when its user asks for the checks, without its screen.
REVIEW = """
import json, sys
import b4, b4.review, liblore.utils
from b4.review import checks
b4._setup_main_config()
top = b4.git_get_toplevel()
msgid, tracking, *wanted = sys.argv[1:]
if tracking:
    blob = json.load(open(tracking))['series']['thread-blob']
    mails = liblore.utils.split_mbox(b4.review.tracking.get_thread_mbox(top, blob))
else:
    mails = b4.get_pi_thread_by_msgid(msgid, quiet=True)
numbered = {b4.LoreSubject(mail['subject']).counter: mail for mail in mails}
named = [(numbered[int(n)]['message-id'].strip('<> '), numbered[int(n)]) for n in wanted]
perpatch, series = checks.load_check_cmds()
extra = {'B4_TRACKING_FILE': tracking} if tracking else {}
print(json.dumps([
    checks.run_series_checks(named[0], series, top, extra_env=extra),
    *checks.run_perpatch_checks(named[1:], perpatch, top, extra_env=extra).values(),
]))
"""
FOUND = {
    1: ('fail', '1 error, 1 warning', ['desc-const-removed', 'struct-doc-stale']),
    2: ('warn', '1 warning', ['vma-test-drift']),
    3: ('warn', '1 warning', ['vma-test-copy']),
    4: ('fail', '1 error', ['compat-pair']),
    5: ('fail', '1 error', ['vma-test-build']),
    6: ('pass', 'no findings', []),
}
QUICK = '--harness none'
ALONE = 'judged alone: the rest of its series is not there: '


@dataclass(frozen=True)
class Maintainer:
    """Somebody with b4, a clone that is no configured tree, and the bot as b4's check."""

    folder: Path
    clone: Path
    thread: list[bytes]

    def environment(self, lore: str, words: str = '') -> dict[str, str]:
        """b4's own settings, and the bot's, by the addresses of an archive; more words for it."""
        (self.folder / 'bot.toml').write_text(
            f'[lore]\nurl = "{lore}"\n[state]\ncache = "{self.folder}/cache"\n'
        )
        command = f'{BIN}/bot check --config {self.folder}/bot.toml {words} --format'
        (self.folder / 'gitconfig').write_text(
            f'[b4]\nmidmask = {lore}/linux-mm/%s\nlinkmask = {lore}/%s\nattestation-policy = off\n'
            f'am-perpatch-check-cmd = {command} b4-am -\n'
            f'review-perpatch-check-cmd = {command} b4 -\n'
            f'review-series-check-cmd = {command} b4 -\n'
        )
        # b4 remembers what a check said of a message, so each archive has a home of its own.
        home = self.folder / f'home-{lore.rpartition(":")[2]}'
        home.mkdir(exist_ok=True)
        return {
            **os.environ,
            'HOME': str(home),
            'XDG_DATA_HOME': str(home / 'data'),
            'XDG_CACHE_HOME': str(home / 'cache'),
            'GIT_CONFIG_GLOBAL': str(self.folder / 'gitconfig'),
            'GIT_CONFIG_NOSYSTEM': '1',
        }

    def run(self, lore: str, *words: str, options: str = '') -> tuple[str, str]:
        """Run a program in the clone; stdout, stderr. `options` are the bot's."""
        done = subprocess.run(
            words, cwd=self.clone, env=self.environment(lore, options), check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    def git(self, *words: str, stdin: bytes = b'') -> str:
        """Run git in the clone."""
        return subprocess.run(
            ['git', *words], cwd=self.clone, input=stdin, stdout=subprocess.PIPE, check=True,
            env={**os.environ, **ENV},
        ).stdout.decode().strip()  # fmt: skip

    def review(
        self, lore: str, patches: Sequence[int], tracking: Path | None = None
    ) -> list[dict[str, Any]]:
        """The results as `b4 review` has them: of the series, then of some of its patches."""
        words = (COVER, str(tracking) if tracking else '', '0', *map(str, patches))
        options = QUICK if tracking else ''
        found: list[list[dict[str, Any]]] = json.loads(
            self.run(lore, sys.executable, '-c', REVIEW, *words, options=options)[0]
        )
        assert [len(one) for one in found] == [1] * (1 + len(patches))
        return [one[0] for one in found]

    def handed(self, lore: str, tracking: Path, mail: bytes) -> dict[str, Any]:
        """What the bot says of a mail that it is handed with a tracking file."""
        done = subprocess.run(
            [f'{BIN}/bot', 'check', '--config', f'{self.folder}/bot.toml', *QUICK.split(),
             '--format', 'b4', '-'],
            input=mail, capture_output=True, check=False, cwd=self.clone,
            env={**self.environment(lore), 'B4_TRACKING_FILE': str(tracking)},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b'')
        (one,) = json.loads(done.stdout)
        found: dict[str, Any] = one
        return found


@pytest.fixture(scope='module')
def maintainer(sample: Demo, tmp_path_factory: pytest.TempPathFactory) -> Maintainer:
    """Their clone has the settings of a stranger in it, which nobody asked for."""
    folder = tmp_path_factory.mktemp('maintainer')
    subprocess.run(
        ['git', 'clone', '-q', str(sample.tree), str(folder / 'clone')],
        check=True, env={**os.environ, **ENV},
    )  # fmt: skip
    (folder / 'clone' / 'config.toml').write_text('[rules]\ndisable = ["compat-pair"]\n')
    patches = re.split(rb'(?m)^From 0{40}.*\n', sample.mbox.read_bytes())[1:]
    thread = [f'In-Reply-To: <{COVER}>\nReferences: <{COVER}>\n'.encode() + one for one in patches]
    head, _, body = thread[3].partition(b'\n\n')
    encoding = b'\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: '
    thread[3] = head + encoding + b'quoted-printable\n\n' + quopri.encodestring(body)
    return Maintainer(folder, folder / 'clone', [LETTER, *thread])


@pytest.fixture(scope='module')
def lore(maintainer: Maintainer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an archive that has the thread."""
    if publicinbox.MISSING:
        pytest.skip(f'not installed: {", ".join(publicinbox.MISSING)}')
    with publicinbox.serving(tmp_path_factory.mktemp('lore'), maintainer.thread) as served:
        yield served.url


@pytest.fixture
def nowhere() -> str:
    """The address of an archive that does not answer."""
    return f'http://127.0.0.1:{publicinbox.free_port()}'


def by_patch(said: str) -> dict[int, list[tuple[str, str]]]:
    """What `b4 am -k` shows: of each patch, the sign's colour and the line of each finding."""
    found: dict[int, list[tuple[str, str]]] = {}
    n = 0
    for line in said.splitlines():
        if title := re.match(r'  .*\[PATCH (\d)/6\]', line):
            n = int(title[1])
        elif shown := re.match(r'    \x1b\[([\d;]+)m●\x1b\[0m bot: (.*)', line):
            found.setdefault(n, []).append((shown[1], shown[2]))
    return found


def rules(lines: list[str]) -> list[str]:
    return [found[1] for line in lines if (found := re.search(r' \[([a-z-]+)\]$', line))]


def test_b4_am_shows_the_findings_of_each_patch(maintainer: Maintainer, lore: str) -> None:
    _, said = maintainer.run(lore, f'{BIN}/b4', 'am', '-k', '-o', '-', COVER)
    shown = by_patch(said)
    assert {n: rules([line for _, line in lines]) for n, lines in shown.items()} == {
        n: found for n, (_, _, found) in FOUND.items()
    }
    signs = {line.partition(': ')[2].partition(':')[0]: sign for _, one in shown.items()
             for sign, line in one}  # fmt: skip
    assert set(signs) == {'ERROR', 'WARNING', ''}
    assert signs['ERROR'] == '31;5'  # as b4 marks a failure
    assert signs['WARNING'] == '31'
    ((_, passed),) = shown[6]
    assert passed == 'passed all checks'


def test_b4_am_of_a_local_mbox_judges_each_patch_alone(
    maintainer: Maintainer, nowhere: str, tmp_path: Path
) -> None:
    mbox = tmp_path / 'local.mbox'
    separator = b'From mboxrd@z Thu Jan  1 00:00:00 1970\n'
    mbox.write_bytes(b''.join(separator + one + b'\n' for one in maintainer.thread))
    words = ('--offline-mode', 'am', '-k', '-o', '-', '-m', str(mbox))
    _, said = maintainer.run(nowhere, f'{BIN}/b4', *words, options=QUICK)
    shown = by_patch(said)
    assert sorted(shown) == [1, 2, 3, 4, 5, 6]
    for lines in shown.values():
        assert lines[0][1].startswith(f'WARNING: {ALONE}127.0.0.1:')
    assert rules([line for _, line in shown[1]]) == FOUND[1][2]
    assert {sign for n in (2, 3, 4, 5, 6) for sign, _ in shown[n]} == {'31'}  # no failure


def test_b4_review_has_the_findings_of_each_patch(maintainer: Maintainer, lore: str) -> None:
    whole, *patches = maintainer.review(lore, tuple(FOUND))
    for (status, summary, found), one in zip(FOUND.values(), patches, strict=True):
        assert (one['tool'], one['status'], one['summary']) == ('vma-review-bot', status, summary)
        details = json.loads(one['details'])
        assert {entry['status'] for entry in details} <= {'pass', 'warn', 'fail'}
        assert rules([entry['description'] for entry in details]) == found
    assert (whole['status'], whole['summary']) == ('fail', '3 errors, 3 warnings')
    said = [entry['description'] for entry in json.loads(whole['details'])]
    assert sorted(rules(said)) == sorted(one for _, _, found in FOUND.values() for one in found)
    assert any(line.startswith('patch 5, mm/vma.c:17: breaks the vma tests') for line in said)


def test_b4_review_brings_the_thread_that_it_keeps(
    maintainer: Maintainer, nowhere: str, tmp_path: Path
) -> None:
    separator = b'From mboxrd@z Thu Jan  1 00:00:00 1970\n'
    kept = b''.join(separator + one + b'\n' for one in maintainer.thread)
    blob = maintainer.git('hash-object', '-w', '--stdin', stdin=kept)
    tracking = tmp_path / 'tracking.json'
    tracking.write_text(json.dumps({'series': {'thread-blob': blob}}))
    whole, first, fourth = maintainer.review(nowhere, (1, 4), tracking)
    assert (first['status'], first['summary']) == FOUND[1][:2]
    assert (fourth['status'], fourth['summary']) == FOUND[4][:2]
    assert whole['summary'] == '2 errors, 3 warnings'  # the harness is not built here


def test_a_tracking_file_that_says_nothing(
    maintainer: Maintainer, nowhere: str, tmp_path: Path
) -> None:
    tracking = tmp_path / 'tracking.json'
    tracking.write_text(json.dumps({'series': {'thread-blob': 'a' * 40}}))
    one = maintainer.handed(nowhere, tracking, maintainer.thread[6])
    assert one['status'] == 'warn'
    assert ALONE in one['summary']


def test_an_old_revision_is_judged_as_itself(
    maintainer: Maintainer, nowhere: str, tmp_path: Path
) -> None:
    """A v2 of one patch in the thread does not change what is said of v1."""
    first = b'20260320.1@demo.example.org'
    again = maintainer.thread[1].replace(first, b'20260320.21@demo.example.org')
    again = again.replace(COVER.encode(), first).replace(b'[PATCH 1/6]', b'[PATCH v2 1/6]')
    separator = b'From mboxrd@z Thu Jan  1 00:00:00 1970\n'
    mails = [*maintainer.thread, again]
    kept = b''.join(separator + one + b'\n' for one in mails)
    tracking = tmp_path / 'tracking.json'
    blob = maintainer.git('hash-object', '-w', '--stdin', stdin=kept)
    tracking.write_text(json.dumps({'series': {'thread-blob': blob}}))
    found = [maintainer.handed(nowhere, tracking, one) for one in (maintainer.thread[4], again)]
    assert [(one['status'], one['summary']) for one in found] == [
        ('fail', '1 error'), ('fail', '1 error, 1 warning'),
    ]  # fmt: skip
