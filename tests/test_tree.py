"""The fast path against git: the same tree or the same refusal."""

import subprocess

import pygit2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot import patch as patching
from bot.errors import PatchError
from bot.model import AppliedSeries, Author, Base, Patch, Series
from bot.tree import Quarantine
from tests.gitrepo import Repo, Tree

NAMES = (
    'a.c',
    'mm/util.c',
    'mm/vma.c',
    'include/linux/mm.h',
    'docs/r\u00e9sum\u00e9.txt',
    'with space.c',
    'tab\there.c',
    'quo"te.c',
)
LINES = (b'{', b'}', b'\treturn 0;', b'int x;', b'', b'  indented', b'na\xefve latin-1', b'int y;')


def series_of(*diffs: bytes) -> Series:
    author = Author('A Developer', 'dev@example.org')
    patches = tuple(
        Patch(n, len(diffs), None, None, f'patch {n}', author, '', '', diff)
        for n, diff in enumerate(diffs, 1)
    )
    return Series(None, 'series', author, 1, patches)


def apply_by_git(repo: Repo, tree: str, diff: bytes) -> str | None:
    """The tree that plain `git apply --cached` makes, None where it refuses."""
    index = {'GIT_INDEX_FILE': str(repo.path / 'git-index')}
    (repo.path / 'git-index').unlink(missing_ok=True)
    repo.git('read-tree', tree, env=index)
    try:
        repo.git('apply', '-q', '--cached', '-', stdin=diff, env=index)
    except subprocess.CalledProcessError:
        return None
    return repo.git('write-tree', env=index).decode().strip()


def fast(quarantine: Quarantine, tree: str, diff: bytes) -> str | None:
    """The tree that the fast path makes, None where it leaves the patch to git."""
    try:
        files = patching.parse(diff)
        return str(quarantine._in_memory(pygit2.Oid(hex=tree), files)[0])
    except PatchError:
        return None


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.sampled_from(LINES), max_size=40))
    end = draw(st.sampled_from((b'\n', b'\n', b'\n', b'\r\n')))
    text = b''.join(line + end for line in lines)
    return text.removesuffix(b'\n') if draw(st.integers(0, 5)) == 0 else text


@st.composite
def edited(draw: st.DrawFn, content: bytes) -> bytes:
    lines = patching.split_lines(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines)))
        kind = draw(st.sampled_from(('insert', 'delete', 'replace')))
        if kind == 'insert':
            lines[at:at] = [draw(st.sampled_from(LINES)) + b'\n']
        else:
            lines[at : at + draw(st.integers(1, 3))] = [b'other\n'] if kind == 'replace' else []
    return b''.join(lines)


@st.composite
def trees(draw: st.DrawFn) -> tuple[Tree, Tree, Tree]:
    """A tree, the same edited, and the first with unrelated edits (what the patch meets)."""
    before: dict[str, tuple[int, bytes]] = {}
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)):
        mode = draw(st.sampled_from((0o100644, 0o100644, 0o100644, 0o100755, 0o120000)))
        before[name] = (mode, b'target/of link' if mode == 0o120000 else draw(contents()))
    after, meets = dict(before), dict(before)
    for name, (mode, content) in before.items():
        change = draw(st.sampled_from(('edit', 'edit', 'edit', 'delete', 'rename', 'mode', 'keep')))
        if change == 'delete':
            del after[name]
        elif change == 'rename':
            del after[name]
            after['new/' + name] = (mode, draw(edited(content)) if draw(st.booleans()) else content)
        elif change == 'mode':
            after[name] = (draw(st.sampled_from((0o100644, 0o100755, 0o120000))), content)
        elif change == 'edit':
            after[name] = (mode, draw(edited(content)))
        if draw(st.booleans()):
            meets[name] = (mode, draw(edited(content)))
    if draw(st.booleans()):
        after['brand/new.c'] = (0o100644, draw(contents()))
    return before, after, meets


@pytest.fixture(scope='module')
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    made = Repo(tmp_path_factory.mktemp('repo'))
    made.commit(made.write({'a.c': b'x\n'}), 'base')
    return made


@settings(suppress_health_check=list(HealthCheck))
@given(case=trees(), context=st.sampled_from((3, 3, 3, 1, 0)))
def test_same_tree_or_same_refusal(repo: Repo, case: tuple[Tree, Tree, Tree], context: int) -> None:
    before, after, meets = (repo.write(tree) for tree in case)
    diff = repo.git('diff-tree', '-p', '-M', f'-U{context}', before, after)
    with Quarantine(repo.path) as quarantine:
        for tree in (before, meets):
            expected = apply_by_git(repo, tree, diff)
            found = fast(quarantine, tree, diff)
            assert found is None or found == expected
            if not diff:
                continue
            base = Base('test', 'x', repo.commit(tree, 'x', ref='x'), 'test')
            applied = quarantine.apply(series_of(diff), base)
            if isinstance(applied, AppliedSeries):
                assert applied.steps[0].tree == expected or applied.steps[0].how == '3way'
            else:
                assert expected is None


@settings(suppress_health_check=list(HealthCheck))
@given(case=trees())
def test_the_fast_path_takes_what_applies_as_it_stands(
    repo: Repo, case: tuple[Tree, Tree, Tree]
) -> None:
    before, after, _ = (repo.write(tree) for tree in case)
    diff = repo.git('diff-tree', '-p', '-M', before, after)
    odd = (b'120000', b'\\ No newline', b'Binary', b'"')
    if not diff or any(mark in diff for mark in odd):
        return
    with Quarantine(repo.path) as quarantine:
        assert fast(quarantine, before, diff) == after


@settings(suppress_health_check=list(HealthCheck))
@given(case=trees(), data=st.data())
def test_a_mangled_diff_is_never_applied_otherwise_than_by_git(
    repo: Repo, case: tuple[Tree, Tree, Tree], data: st.DataObject
) -> None:
    before, after, _ = (repo.write(tree) for tree in case)
    lines = patching.split_lines(repo.git('diff-tree', '-p', '-M', before, after))
    if not lines:
        return
    at = data.draw(st.integers(0, len(lines) - 1))
    how = data.draw(st.sampled_from(('drop', 'twice', 'swap', 'garbage', 'blank', 'wrap', 'cut')))
    if how == 'drop':
        del lines[at]
    elif how == 'twice':
        lines.insert(at, lines[at])
    elif how == 'swap':
        lines[at], lines[0] = lines[0], lines[at]
    elif how == 'garbage':
        lines.insert(
            at,
            data.draw(
                st.sampled_from(
                    (
                        b'-- \n',
                        b'2.53.0\n',
                        b'--- a/x\n',
                        b'@@ -1 +1 @@\n',
                        b'diff --git a/a.c b/a.c\n',
                        b' \n',
                        b'old mode 100644\n',
                        b'rename from a.c\n',
                    )
                )
            ),
        )
    elif how == 'blank':
        lines[at] = b'\n'
    elif how == 'wrap':
        lines[at] = lines[at][: len(lines[at]) // 2] + b'\n' + lines[at][len(lines[at]) // 2 :]
    else:
        del lines[at:]
    diff = b''.join(lines)
    with Quarantine(repo.path) as quarantine:
        found = fast(quarantine, before, diff)
        assert found is None or found == apply_by_git(repo, before, diff)
