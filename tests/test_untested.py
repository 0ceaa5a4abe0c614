"""What was not tested is said, and is never "clean": bases whose own tests fail, and no need."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Bot, Demo
from tests.test_harness import BREAKS, DIR

ASSERTION = (f'{DIR}/tests/merge.c', 'total_vm == 2', 'total_vm == 3')


@dataclass(frozen=True)
class Bench:
    """A sample kernel with a branch whose tests fail, and a series on top of it."""

    bot: Bot
    sample: Demo
    folder: Path

    def branch(self, name: str, start: str, *edits: tuple[str, str, str]) -> str:
        repo, last = self.sample.repo, start
        for n, (path, old, new) in enumerate(edits):
            text = repo.git('cat-file', 'blob', f'{last}:{path}')
            if old:
                text = text.replace(old.encode(), new.encode(), 1)
            else:
                text += new.encode()
            tree = repo.write({path: text}, base=last)
            message = f'mm: change {n}\n\nWhy.\n\nSigned-off-by: A Developer <dev@example.org>\n'
            last = repo.commit(tree, message, parent=last, ref=name)
        return last

    def mbox(self, start: str, end: str) -> Path:
        path = self.folder / 'series.mbox'
        path.write_bytes(self.sample.repo.git('format-patch', '--stdout', f'{start}..{end}'))
        return path

    def check(self, mbox: Path, *refs: str, form: str = 'json') -> tuple[int, Any]:
        config = self.folder / 'config.toml'
        config.write_text(
            f'[[tree]]\nname = "linux"\npath = "{self.sample.tree}"\nrefs = {list(refs)}\n'
            f'[state]\ncache = "{self.folder / "cache"}"\n'
        )
        done = self.bot('check', '-q', '--format', form, '--config', config, mbox)
        return done.code, json.loads(done.out) if form == 'json' else done.out


@pytest.fixture
def bench(bot: Bot, own_sample: Demo, tmp_path: Path) -> Bench:
    return Bench(bot, own_sample, tmp_path)


@pytest.mark.parametrize(
    ('edit', 'what'),
    [(BREAKS, 'do not build (mm/vma.c:'), (ASSERTION, 'fail (')],
    ids=['does not build', 'fails'],
)
def test_a_base_whose_tests_fail_is_not_clean(
    bench: Bench, edit: tuple[str, str, str], what: str
) -> None:
    broken = bench.branch('broken', 'HEAD', edit)
    tip = bench.branch('topic', broken, ('mm/vma.h', '#endif', 'extern int one;\n#endif'))
    mbox = bench.mbox(broken, tip)
    code, said = bench.check(mbox, 'broken')
    assert (code, said['verdict']) == (3, 'could-not-check')
    (failure,) = [one for one in said['failures'] if one['what'] == 'vma']
    assert failure['error'].startswith(f'the tests of the base {what}')
    assert said['looked_at']['harnesses'] == ['vma']
    text = bench.check(mbox, 'broken', form='text')[1]
    assert f'failed: vma: the tests of the base {what}' in text
    assert 'clean' not in text
    # Where another ref takes the series, and its tests pass, that is the base.
    code, said = bench.check(mbox, 'broken', 'HEAD')
    assert (code, said['verdict'], said['base']['ref']) == (0, 'clean', 'HEAD')
    shown = bench.check(mbox, 'broken', 'HEAD', form='text')[1]
    assert f'not broken {broken[:12]}: the tests of the base {what}' in shown
    (tried,) = said['base']['tried']
    assert (tried['ref'], tried['commit']) == ('broken', broken)
    assert tried['reason'].startswith(f'the tests of the base {what}')


def test_who_mends_the_base_is_judged(bench: Bench) -> None:
    path, old, new = BREAKS
    broken = bench.branch('broken', 'HEAD', BREAKS)
    tip = bench.branch('topic', broken, (path, new, old))
    code, said = bench.check(bench.mbox(broken, tip), 'broken')
    assert (code, said['verdict']) == (0, 'clean')
    assert [one['outcome'] for one in said['builds']] == ['build-failed', 'passed']


def test_the_gate_does_not_let_it_pass(bench: Bench) -> None:
    broken = bench.branch('broken', 'HEAD', BREAKS)
    bench.branch('topic', broken, ('mm/vma.h', '#endif', 'extern int one;\n#endif'))
    words = ('gate', '-q', '--rules', 'signoff-chain', '--tree', bench.sample.tree, 'broken..topic')
    done = bench.bot(*words)
    assert done.code == 3
    assert 'gate: closed: vma: the tests of the base do not build' in done.out
    assert bench.bot(*words, '--on-error', 'open').code == 0


def test_what_was_not_needed_is_said_with_its_reason(bench: Bench) -> None:
    head = bench.sample.repo.git('rev-parse', 'HEAD').decode().strip()
    for path, reason in (
        ('README', 'no patch changes a file in the folders that it reads from'),
        ('mm/util.c', 'none of the 11 files that it reads changes'),
    ):
        tip = bench.branch('topic', head, (path, '', '\n'))
        mbox = bench.mbox(head, tip)
        code, said = bench.check(mbox, 'HEAD')
        assert (code, said['verdict'], said['builds']) == (0, 'clean', [])
        (vma,) = [one for one in said['not_needed'] if one['harness'] == 'vma']
        assert vma['reason'] == reason
        assert vma['files'] == (11 if path.startswith('mm') else None)
        text = bench.check(mbox, 'HEAD', form='text')[1]
        assert f'vma: not needed: {reason}\n' in text
        count = len(said['looked_at']['rules'])
        assert f'\nclean: 1 patch, {count} rules, vma tests not needed: {reason}' in text
