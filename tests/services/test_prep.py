"""`b4 prep`, the real one: its checks, and its branches as ranges."""

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Demo
from tests.gitrepo import ENV
from tests.services.publicinbox import free_port
from tests.services.test_b4 import BIN, FOUND, rules

pytestmark = pytest.mark.slow

# Patch 5 breaks a build, which is not made here.
EXPECTED = {n: found for n, (_, _, found) in FOUND.items() if n not in (5, 6)}


@dataclass(frozen=True)
class Author:
    """Somebody with a b4 prep branch of six patches, and the bot as its check."""

    clone: Path
    environment: dict[str, str]

    def run(self, *words: str, stdin: bytes = b'', codes: Sequence[int] = (0,)) -> str:
        """Run a program in the clone; what it said, on both."""
        done = subprocess.run(
            words, cwd=self.clone, env=self.environment, input=stdin, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said = done.stdout.decode()
        assert done.returncode in codes, said
        return said

    def bot(self, *words: str) -> dict[str, object]:
        """What `bot check` says of the clone."""
        config = self.clone.parent / 'bot.toml'
        quick = ('-q', '--harness', 'none', '--format', 'json')
        said = self.run(f'{BIN}/bot', 'check', '--config', str(config), *quick, *words,
                        codes=(0, 1))  # fmt: skip
        found: dict[str, object] = json.loads(said)
        return found


@pytest.fixture(scope='module')
def author(sample: Demo, tmp_path_factory: pytest.TempPathFactory) -> Author:
    folder = tmp_path_factory.mktemp('author')
    (folder / 'bot.toml').write_text(
        f'[lore]\nurl = "http://127.0.0.1:{free_port()}"\n[state]\ncache = "{folder}/cache"\n'
    )
    command = f'{BIN}/bot check --config {folder}/bot.toml --harness none --format b4-am -'
    (folder / 'gitconfig').write_text(
        '[user]\nname = A Developer\nemail = dev@example.org\n'
        f'[b4]\nprep-perpatch-check-cmd = {command}\n'
    )
    environment = {
        **os.environ, **ENV, 'HOME': str(folder), 'XDG_DATA_HOME': str(folder / 'data'),
        'XDG_CACHE_HOME': str(folder / 'cache'), 'GIT_CONFIG_GLOBAL': str(folder / 'gitconfig'),
    }  # fmt: skip
    made = Author(folder / 'clone', environment)
    subprocess.run(
        ['git', 'clone', '-q', str(sample.tree), str(made.clone)], check=True, env=environment
    )
    made.run(f'{BIN}/b4', '--offline-mode', 'prep', '-n', 'topic', '-f', 'HEAD')
    made.run('git', 'am', '-q', stdin=sample.mbox.read_bytes())
    return made


def shown(said: str) -> dict[int, list[str]]:
    """What `b4 prep --check` shows: the rules of each patch's findings."""
    found: dict[int, list[str]] = {}
    n = 0
    for line in re.sub(r'\x1b\[[\d;]*m', '', said).splitlines():
        if re.match(r'\S+ [0-9a-f]{12}: ', line):
            n += 1
        elif line.startswith('  ') and n:
            found.setdefault(n, []).extend(rules([line]))
    return found


def test_b4_prep_check_shows_the_findings_of_every_patch(author: Author) -> None:
    said = author.run(f'{BIN}/b4', '--offline-mode', 'prep', '--check')
    assert 'judged alone' not in said
    assert shown(said) == EXPECTED, said


def test_the_cover_of_a_prep_branch_is_none_of_its_patches(author: Author) -> None:
    subjects = author.run('git', 'log', '--format=%s', 'origin/HEAD..').splitlines()
    assert len(subjects) == 7  # the cover letter is a commit
    judged = author.bot('origin/HEAD..HEAD')
    series = judged['series']
    assert isinstance(series, dict)
    assert [(one['n'], one['of']) for one in series['patches']] == [(n, 6) for n in range(1, 7)]
    findings = judged['findings']
    assert isinstance(findings, list)
    found: dict[int, list[str]] = {}
    for one in findings:
        found.setdefault(one['n'], []).append(one['rule'])
    assert found == EXPECTED


def test_a_patch_that_was_edited_is_judged_as_it_is_now(author: Author) -> None:
    """b4 remembers what was said of a commit; another commit is asked about again."""
    author.run('git', 'commit', '-q', '--amend', '-m', 'mm: another title\n\nSigned-off-by: '
               'A Developer <dev@example.org>')  # fmt: skip
    said = author.run(f'{BIN}/b4', '--offline-mode', 'prep', '--check')
    assert 'mm: another title' in said
    assert shown(said) == EXPECTED, said
