"""The index of a tree's words: what it knows, and how it is kept."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import TreeError
from bot.model import AppliedSeries, Base, Series
from bot.rule import AUTHOR, edits
from bot.tree import GitSnapshot, Quarantine, lexicon, range_of
from bot.tree.words import Words, identifiers, left_out, line_of, near, trailer
from tests.gitrepo import Repo
from tests.test_repository import fingerprint
from tests.test_tree import series_of

FILES: Mapping[str, bytes] = {
    'README': b'prose about read_me_first\n',
    'mm/vma.c': b'int vma_prepare(struct vm_area_struct *vma)\n{\n\treturn 0x12abc;\n}\n',
    'mm/kasan/deep/er.c': b'/* kasan_word */\n',
    'include/linux/mm.h': b'#define TEST(n, a) int folio_test_##n(a); int get_##a##_lock(a)\n',
    'drivers/gpu/regs.h': b'#define mmREG_12_MASK 0x1\n#define PLAIN_MASK 2\n',
    'Documentation/mm/range.rst': b'Shown::\n\n    struct range {\n        int flags;\n    };\n',
    'mm/range.c': b'struct hidden {\n\tint x;\n};\n',
    'logo.bin': b'\0\1binary_word\n',
}


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / 'repo')
    made.commit(made.write(FILES), 'base')
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / 'cache'


def head(quarantine: Quarantine) -> GitSnapshot:
    return quarantine.at(quarantine.resolve('master'))


def kept(cache: Path, kind: str) -> set[str]:
    return {path.name for path in (cache / 'words').rglob(f'*.{kind}')}


def test_knows_what_stands_anywhere(repo: Repo, cache: Path) -> None:
    with Quarantine(repo.path, cache) as quarantine:
        tree = head(quarantine)
        for word in ('read_me_first', 'vma_prepare', 'kasan_word', 'folio_test_', 'PLAIN_MASK'):
            assert tree.knows(word)
        for word in ('vma_prepar', 'vma_prepares', 'binary_word', 'x12abc', 'abc', 'zzz', '___'):
            assert not tree.knows(word)
        assert tree.knows('mmREG_13_MASK'), 'can not be said'
        assert tree.knows('ab')
        assert tree.knows('folio_test_##')
        assert tree.knows('##_lock')
        assert not tree.knows('folio_##')
        assert tree.knows('range{')
        assert not tree.knows('hidden{')
        assert 'range{' not in tree.near('range_')
        assert not tree.knows('na\xefve_word')


def test_near(repo: Repo, cache: Path) -> None:
    with Quarantine(repo.path, cache) as quarantine:
        tree = head(quarantine)
        assert tree.near('vm_area_strut') == ('vm_area_struct',)
        assert tree.near('vma_prepair') == ()  # two edits of a short word
        assert tree.near('vma_perpare') == ('vma_prepare',)
        assert tree.near('vm_area_struct') == ()
        assert tree.near('raed_me_frist') == ('read_me_first',)
        assert tree.near('vma') == ()
        assert tree.near('x' * 200) == ()


names = st.text('ab_', min_size=3, max_size=16)


@given(words=st.sets(names, max_size=30), word=names)
def test_an_index_is_as_good_as_looking(
    tmp_path_factory: pytest.TempPathFactory, words: set[str], word: str
) -> None:
    path = tmp_path_factory.mktemp('index') / 'x.words'
    lines = b''.join(sorted(line_of(one.encode()) for one in words))
    path.write_bytes(lines + trailer(len(lines)))
    index = Words(path)
    assert (word.encode() in index) == (word in words)
    most = 2 if len(word) >= 12 else 1
    expected = {one for one in words if 0 < edits(word, one) <= most}
    found = [one.decode() for one in near(word.encode(), index, set())]
    assert set(found) <= expected
    distances = [edits(word, one) for one in found]
    assert distances == sorted(distances)
    if len(word) >= 6:
        one_edit = {one for one in expected if edits(word, one) == 1}
        assert len(set(found) & one_edit) == min(5, len(one_edit))
    index.close()


def test_identifiers() -> None:
    assert identifiers(b'a1 foo_bar; 12ab "x\xe9yz_w" REG_0') == {b'foo_bar', b'yz_w'}
    assert identifiers(b'foo\0bar') == set()
    assert left_out(b'a' * 94)


def test_a_series_adds_its_words(repo: Repo, cache: Path) -> None:
    base = repo.git('rev-parse', 'master').decode().strip()
    changed = {'mm/vma.c': b'int brand_new_name;\n', 'fs/new/dir.c': b'int other_new_name;\n'}
    tree = repo.write(changed, 'master')
    diff = repo.git('diff-tree', '-p', 'master', tree)
    with Quarantine(repo.path, cache) as quarantine:
        applied = quarantine.apply(series_of(diff), Base('x', 'master', base, 'x'))
        assert isinstance(applied, AppliedSeries)
        pre, post = applied.steps[0].pre, applied.steps[0].post
        for name in ('brand_new_name', 'other_new_name'):
            assert post.knows(name)
            assert not pre.knows(name)
        assert post.near('brand_new_naem') == ('brand_new_name',)
        assert post.knows('vma_prepare'), 'the base has it'
    assert len(kept(cache, 'words')) == 1


def test_a_range_is_looked_up_in_its_parent(repo: Repo, cache: Path) -> None:
    first = repo.git('rev-parse', 'master').decode().strip()
    second = repo.commit(repo.write({'mm/a.c': b'int name_of_a;\n'}, 'master'), 'a\n', first)
    repo.commit(repo.write({'mm/b.c': b'int name_of_b;\n'}, second), 'b\n', second)
    with Quarantine(repo.path, cache) as quarantine:
        one, two = range_of(quarantine, 'x', 'x', first, 'master').steps
        assert one.post.knows('name_of_a')
        assert not one.post.knows('name_of_b')
        assert two.post.knows('name_of_b')
    assert len(kept(cache, 'words')) == 1


def test_only_a_changed_folder_is_read_again(repo: Repo, cache: Path) -> None:
    with Quarantine(repo.path, cache) as quarantine:
        assert not head(quarantine).knows('later_word')
    before = kept(cache, 'shard')
    changed = repo.write({'mm/vma.c': b'int later_word;\n'}, 'master')
    repo.commit(changed, 'next')
    with Quarantine(repo.path, cache) as quarantine:
        assert head(quarantine).knows('later_word')
        assert not head(quarantine).knows('vma_prepare')
    assert len(kept(cache, 'shard') - before) == 1
    assert len(kept(cache, 'words')) == 2


def test_torn_files_are_made_anew(repo: Repo, cache: Path) -> None:
    for kind, left in (('words', 20), ('words', 0), ('shard', 5)):
        with Quarantine(repo.path, cache) as quarantine:
            assert head(quarantine).knows('vma_prepare')
        for path in (cache / 'words').rglob(f'*.{kind}'):
            path.write_bytes(path.read_bytes()[:left])
        if kind == 'shard':
            shutil.rmtree(next((cache / 'words').rglob('*.words')).parent)
    with Quarantine(repo.path, cache) as quarantine:
        assert head(quarantine).knows('vma_prepare')
    assert not list(cache.rglob('.new-*'))


@pytest.mark.parametrize('where', ['none', 'a file', 'a file below'])
def test_without_a_cache(repo: Repo, cache: Path, where: str) -> None:
    if where == 'a file':
        cache.write_text('')
    elif where == 'a file below':
        cache.mkdir()
        (cache / 'words').write_text('')
    before = fingerprint(repo.path)
    with Quarantine(repo.path, None if where == 'none' else cache) as quarantine:
        assert head(quarantine).knows('vma_prepare')
        folder = quarantine.dir
    assert not folder.exists()
    assert fingerprint(repo.path) == before


@pytest.fixture
def wide(tmp_path: Path) -> Repo:
    """So many folders that workers are worth it."""
    made = Repo(tmp_path / 'wide')
    files = {f'd{n % 9}/e{n}/f.c': f'int word_of_number_{n}x;\n'.encode() for n in range(90)}
    made.commit(made.write(files), 'base')
    return made


def test_workers(wide: Repo, cache: Path) -> None:
    told: list[str] = []
    before = fingerprint(wide.path)
    base = wide.git('rev-parse', 'master').decode().strip()
    empty = Series(None, 'x', AUTHOR, 1, ())
    for _ in range(2):
        with Quarantine(wide.path, cache, told.append) as quarantine:
            applied = quarantine.apply(empty, Base('x', 'mm-new', base, 'x'))
            assert isinstance(applied, AppliedSeries)
            assert applied.ground is not None
            assert all(applied.ground.knows(f'word_of_number_{n}x') for n in range(90))
    assert told == ['indexing the words of mm-new']
    assert fingerprint(wide.path) == before


def test_several_at_once(wide: Repo, cache: Path) -> None:
    code = (
        'import sys; from pathlib import Path; from bot.tree import Quarantine\n'
        'with Quarantine(Path(sys.argv[1]), Path(sys.argv[2])) as quarantine:\n'
        '    assert quarantine.at(quarantine.resolve("master")).knows("word_of_number_7x")\n'
    )
    words = [sys.executable, '-P', '-c', code, str(wide.path), str(cache)]
    running = [subprocess.Popen(words, stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate()[1] for process in running] == [b''] * 3
    assert not list(cache.rglob('.new-*'))


@pytest.mark.parametrize('few', [0, 1000])
def test_what_can_not_be_read(
    wide: Repo, cache: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexicon, 'FEW', few)
    blob = wide.git('rev-parse', 'master:d1/e1/f.c').decode().strip()
    (wide.path / 'objects' / blob[:2] / blob[2:]).unlink()
    with (
        Quarantine(wide.path, cache) as quarantine,
        pytest.raises(TreeError, match='can not be indexed'),
    ):
        head(quarantine).knows('anything_at_all')


def test_a_partial_clone_knows_everything(repo: Repo, cache: Path) -> None:
    repo.git('repack', '-adq')
    pack = next((repo.path / 'objects' / 'pack').glob('*.pack'))
    pack.with_suffix('.promisor').touch()
    with Quarantine(repo.path, cache) as quarantine:
        assert head(quarantine).knows('anything_at_all')
        assert head(quarantine).near('vma_prepar') == ()
    assert not cache.exists()
