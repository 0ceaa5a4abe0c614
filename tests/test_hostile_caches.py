"""Hostile series that would speak for others: objects, results, what is learnt."""

import json
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis.strategies import binary, lists, sampled_from

from bot import demo
from bot.harness.layout import Layout
from bot.model import AppliedSeries, BuildFailed, Passed, TestsFailed
from bot.tree.words import Words, near, trailer
from tests.court import (
    AS_TEST,
    DIGITS,
    DIR,
    HONEST,
    RAN,
    SUMMARY,
    Court,
    files_below,
    made,
    ran,
    script,
    seen,
)
from tests.judging import Edit, Judge

pytest_plugins = ('tests.courtroom',)
pytestmark = pytest.mark.slow


def test_it_poisons_no_object_of_others(user: int, court: Court) -> None:
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


# --- entries that somebody else wrote ---

DEEP = b'[' * 100_000
POISON: dict[str, Callable[[bytes], bytes]] = {
    'empty': lambda _: b'',
    'torn': lambda content: content[: len(content) // 2],
    'not-json': lambda _: b'\x00\xff' * 1000,
    'deep': lambda _: DEEP,
    'deep-inside': lambda content: content[:-1] + b', "x": ' + DEEP,
    'a-list': lambda _: b'[1, 2]',
    'a-number': lambda _: b'1' + b'0' * 5000,
    'another-key': lambda content: content.replace(b'"key": "', b'"key": "0'),
    'another-kind': lambda content: content.replace(b'"kind": "', b'"kind": "X'),
    'more-fields': lambda content: content.replace(b'"kind"', b'"evil": 1, "kind"'),
    'wrong-types': lambda content: re.sub(rb'"(?:outcome|paths)": ', b'"x": 1, "y": ', content),
}


@pytest.mark.parametrize('name', POISON)
def test_a_poisoned_entry_is_none(user: int, court: Court, name: str) -> None:
    spoilt = 0
    for folder in ('results', 'inputs'):
        for path in (court.judge.cache / folder).rglob('*.json'):
            path.write_bytes(POISON[name](path.read_bytes()))
            spoilt += 1
    assert spoilt > 3
    assert seen(court.judge(*HONEST)) == court.expected


def test_a_poisoned_object_is_none(court: Court) -> None:
    kept = [path for path in (court.judge.cache / 'ccache').rglob('*') if path.is_file()]
    for number, path in enumerate(kept):
        content = path.read_bytes()
        path.write_bytes((b'', content[:-100], content[:99] + b'evil' + content[103:])[number % 3])
    assert kept
    court.rebuilt()


def test_an_entry_that_leads_elsewhere_is_none(user: int, court: Court, room: Path) -> None:
    mine = room / 'mine'
    mine.write_text('mine')
    for path in (court.judge.cache / 'results').rglob('*.json'):
        path.unlink()
        path.symlink_to(mine)
    assert seen(court.judge(*HONEST)) == court.expected
    assert mine.read_text() == 'mine'


@given(
    content=binary(max_size=3000) | lists(binary(min_size=1, max_size=40)).map(b'\n'.join),
    word=sampled_from([b'vma_link', b'vm_area_desc', b'mmap_prepare_hook', b'abc', b'x' * 93]),
)
def test_a_poisoned_index_of_words_only_errs(content: bytes, word: bytes) -> None:
    """Whatever somebody writes there: an answer, and no end of the rule that asks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'index'
        path.write_bytes(content + trailer(len(content)))
        words = Words(path)
        assert (word in words) in (True, False)
        assert all(one.isascii() for one in near(word, words, set()))
        words.close()


def test_names_that_are_no_text_have_keys_of_their_own() -> None:
    names = (b'x\xff.c', b'x\xfe.c', b'x?.c', 'x\u00ff.c'.encode())
    laid = [
        Layout(((name.decode('utf-8', 'surrogateescape'), 0o100644, b''),), wide=True).digest
        for name in names
    ]
    assert len(set(laid)) == len(names)


def test_a_race_between_learning_and_building(user: int, court: Court) -> None:
    """While one series finds out what the base reads, others build the same, and attack."""
    hostile = script(
        'n=0; while [ $n -lt 20 ]; do for f in $(find /ccache) /ccache/evil; do\n'
        'echo x >$f; touch $f; mv $f $f.x; ln -s /build/main.c $f; done; sleep 0.05; n=$((n+1))\n'
        'done 2>/dev/null; echo inputs: >/ccache/inputs'
    )
    makefile = (demo.TREE / DIR / 'Makefile').read_bytes()
    # It says that it has read other files, and fewer, than it has.
    liar: Edit = {f'{DIR}/Makefile': b'$(info --- inputs --- /build/evil)\n' + makefile}
    fresh = Judge(court.judge.sample, court.judge.cache.parent / 'fresh')
    series = [fresh.series(edits) for edits in ((hostile,), HONEST, (liar,))]
    with ThreadPoolExecutor(max_workers=len(series)) as pool:
        first, honest, _ = pool.map(fresh.built, *zip(*series, strict=True))
    assert seen(honest) == court.expected
    assert not isinstance(first[-1].outcome, Passed)
    assert seen(fresh(*HONEST)) == court.expected
    (learnt,) = (fresh.cache / 'inputs').iterdir()
    (before,) = (court.judge.cache / 'inputs').iterdir()
    assert json.loads(learnt.read_text()) == json.loads(before.read_text())
    assert not list((fresh.cache / 'ccache').rglob('*evil*'))
