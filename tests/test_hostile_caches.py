"""Hostile series that would speak for others: objects, results, what is learnt."""

import json
import re

import pytest

from bot import demo
from bot.model import AppliedSeries, BuildFailed, Passed, TestsFailed
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
)

pytestmark = pytest.mark.slow


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
