"""
The seed series, made from a pristine kernel by un-applying it.

The base is the tree as it was before the change: const put back into struct
vm_area_desc (assignments to those members become a memcpy, so that it
compiles), the pair of helpers merged back into compat_vma_mmap(), its two
users undone. The patches lead from there to Debian's own text. Variants break
one thing each. Everything is made by program; no text of the kernel is kept.

One old accident is mended on the way, in base and series alike: where the
copy of compat_set_desc_from_vma() for the tests differs from the original, the
original takes the copy's body, since the patch that adds a copy has to add a
true one.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.gitrepo import Repo

TYPES, UTIL, FS = 'include/linux/mm_types.h', 'mm/util.c', 'include/linux/fs.h'
DUP, DOCUMENT = 'tools/testing/vma/include/dup.h', 'Documentation/filesystems/mmap_prepare.rst'
VMBUS, UIO, VMA = 'drivers/hv/vmbus_drv.c', 'drivers/uio/uio.c', 'mm/vma.c'
MM, TEST, STUBS = (
    'include/linux/mm.h',
    'tools/testing/vma/tests/mmap.c',
    'tools/testing/vma/include/stubs.h',
)
SET, COMPLETE, WHOLE = 'compat_set_desc_from_vma', '__compat_vma_mmap', 'compat_vma_mmap'

Files = dict[str, str]
"""Texts of files, by path; latin-1, so that every byte survives."""


@dataclass(frozen=True)
class Commit:
    """One patch of a series: its message, and the whole texts of the files that it changes."""

    message: str
    files: Files


@dataclass(frozen=True)
class Seed:
    """A base (edits of the pristine tree) and the patches on top of it."""

    base: Files
    commits: tuple[Commit, ...]

    def write(self, kernel: Path, folder: Path) -> tuple[Repo, str, Path]:
        """Make a repository (borrowing the kernel's objects) and an mbox; the base's commit id."""
        repo = borrowing(kernel, folder / 'linux.git')
        tree = repo.write(_bytes(self.base), base=_tree_of(kernel))
        base = last = repo.commit(tree, 'the tree before the change', ref='base')
        for commit in self.commits:
            tree = repo.write(_bytes(commit.files), base=tree)
            last = repo.commit(tree, commit.message, parent=last, ref='series')
        mbox = folder / 'series.mbox'
        mbox.write_bytes(repo.format_patch(f'{base}..{last}'))
        return repo, base, mbox


def borrowing(kernel: Path, path: Path) -> Repo:
    """Make a repository that reads the kernel's objects."""
    repo = Repo(path)
    (path / 'objects' / 'info' / 'alternates').write_text(f'{_objects(kernel)}\n')
    return repo


def honest(kernel: Path) -> Seed:
    """The series as its author would send it: const dropped, helpers split, two users."""
    now = _read(kernel)
    merged = {path: _merge(now[path]) for path in (UTIL, DUP)}
    guarded = {path: _memcpy(merged[path]) for path in (UTIL, DUP)}
    base = {
        TYPES: _consts(now[TYPES]),
        UTIL: guarded[UTIL],
        DUP: _consts(guarded[DUP]),
        FS: re.sub(rf'^(?:void {SET}|int {COMPLETE})\([^;]*;\n', '', now[FS], flags=re.M),
        VMBUS: _body(now[VMBUS], 'hv_mmap_ring_buffer_wrapper', '\treturn -EOPNOTSUPP;\n'),
        UIO: _without_pair(now[UIO]),
    }
    assert all(base[path] != now[path] for path in base)
    return Seed(
        base,
        (
            Commit(
                'mm: let a VMA descriptor be assigned to\n\n'
                'The next patch fills a descriptor from a VMA member by member, so the\n'
                'const of some members has to go. The VMA tests follow.\n',
                {TYPES: now[TYPES], UTIL: merged[UTIL], DUP: merged[DUP]},
            ),
            Commit(
                'mm: split compat_vma_mmap()\n\nDrivers with nested hooks need the two halves.\n',
                {UTIL: now[UTIL], FS: now[FS], DUP: now[DUP]},
            ),
            Commit('drivers: hv: vmbus: use the mmap_prepare hook\n', {VMBUS: now[VMBUS]}),
            Commit('uio: use the mmap_prepare hook\n', {UIO: now[UIO]}),
        ),
    )


def _edit(n: int, **edits: Callable[[str], str]) -> Callable[[Seed], Seed]:
    """Make a variant: patch `n` and those after it have these files edited otherwise."""
    paths = {'types': TYPES, 'util': UTIL, 'dup': DUP, 'vmbus': VMBUS, 'uio': UIO}

    def variant(seed: Seed) -> Seed:
        commits = []
        for number, commit in enumerate(seed.commits, 1):
            files = dict(commit.files)
            for name, edit in edits.items():
                path = paths[name]
                if number >= n and path in files:
                    changed = edit(files[path])
                    assert changed != files[path], f'{name}: the edit does nothing'
                    files[path] = changed
            commits.append(Commit(commit.message, files))
        return Seed(seed.base, tuple(commits))

    return variant


def _replace(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


def _in(function: str, old: str, new: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        start, end = _span(text, function)
        return text[:start] + re.sub(old, new, text[start:end]) + text[end:]

    return edit


def _document_too(seed: Seed) -> Seed:
    # The document's quote is changed by the same words as the struct.
    first = seed.commits[0]
    text = seed.base[DOCUMENT]
    files = {**first.files, DOCUMENT: _plain(text)}
    return Seed(seed.base, (Commit(first.message, files), *seed.commits[1:]))


def _dup_left_behind(seed: Seed) -> Seed:
    second = seed.commits[1]
    files = {path: text for path, text in second.files.items() if path != DUP}
    return Seed(seed.base, (seed.commits[0], Commit(second.message, files), *seed.commits[2:]))


def _silent(seed: Seed) -> Seed:
    first = seed.commits[0]
    return Seed(seed.base, (Commit('mm: change the descriptor\n', first.files), *seed.commits[1:]))


def _unresolved(seed: Seed, kernel: Path) -> tuple[Commit, Commit]:
    """A call that the test build has no function for, and the stub that mends it."""
    vma, header, stubs = (_text(kernel, path) for path in (VMA, MM, STUBS))
    start, end = _span(vma, 'vma_link')
    opened = vma.index('{\n', start, end) + 2
    body = vma[opened:end]
    declared = re.match(r'(?:\t[^\n;(]*(?:=[^;]*)?;\n)*', body)
    assert declared is not None
    at = opened + declared.end()
    prototype = 'void vma_note_link(struct vm_area_struct *vma);\n'
    anchor = header.rindex('#endif')
    return (
        Commit(
            'mm: note when a VMA is linked\n',
            {
                VMA: f'{vma[:at]}\n\tvma_note_link(vma);\n{vma[at:]}',
                MM: f'{header[:anchor]}{prototype}{header[anchor:]}',
                UTIL: seed.commits[1].files[UTIL]
                + '\nvoid vma_note_link(struct vm_area_struct *vma)\n{\n}\n',
            },
        ),
        Commit(
            'tools/testing/vma: add a stub\n',
            {
                STUBS: stubs
                + '\nstatic inline void vma_note_link(struct vm_area_struct *vma)\n{\n}\n'
            },
        ),
    )


def variants(kernel: Path) -> dict[str, tuple[Seed, set[tuple[str, str, int]]]]:
    """Every variant by name, with the findings (rule, severity, patch) that it must have."""
    seed = honest(kernel)
    seed = Seed({**seed.base, DOCUMENT: _text(kernel, DOCUMENT)}, seed.commits)
    note = ('desc-const-removed', 'note', 1)
    stale = ('struct-doc-stale', 'warning', 1)
    # What Debian's text has: a field that is written back and not loaded, and a const cast away.
    lost, cast = ('desc-round-trip', 'warning', 2), ('const-cast', 'note', 2)
    usual = {note, stale, lost, cast}
    broken, mended = _unresolved(seed, kernel)
    test = _text(kernel, TEST)
    wrong = re.sub(r'(ASSERT_EQ\(mm\.map_count, )(\d+)\)', r'\g<1>\g<2>7)', test, count=1)
    assert wrong != test
    wrapper, tested = 'hv_mmap_ring_buffer_wrapper', r'\tif \(err\)\n\t\treturn err;\n'
    call = r'return __compat_vma_mmap\(&desc, vma\);'
    bad = {('compat-pair', 'error', 3)}
    completes = 'return __compat_vma_mmap(&desc, channel->vma);'
    ungoto = r'(mmap_prepare\([^;]*;\n)\t+if \(ret\)\n\t+goto out;\n'
    counts = Commit('tools/testing/vma: count more\n', {TEST: wrong})
    between = Commit('uio: unrelated\n', {UIO: seed.commits[3].files[UIO] + '\n'})
    return {
        'honest': (seed, usual),
        'document-updated': (_document_too(seed), usual - {stale}),
        'message-silent': (
            _silent(seed),
            usual - {note} | {('desc-const-removed', 'warning', 1)},
        ),
        'dup-left-behind': (_dup_left_behind(seed), usual | {('vma-test-drift', 'warning', 2)}),
        'const-left-in-copy': (
            _edit(1, dup=_in_struct('struct mm_struct *mm;', 'const struct mm_struct *mm;'))(seed),
            usual - {note} | {('desc-const-removed', 'error', 1)},
        ),
        'error-not-tested': (_edit(3, vmbus=_in(wrapper, tested, ''))(seed), usual | bad),
        'another-desc': (
            _edit(3, vmbus=_both(_in(wrapper, r'desc desc;', 'desc desc, two;'),
                                 _in(wrapper, call, 'return __compat_vma_mmap(&two, vma);')))(seed),
            usual | bad,
        ),
        'another-vma': (
            _edit(3, vmbus=_in(wrapper, call, completes))(seed),
            usual | bad,
        ),
        'result-dropped': (
            _edit(3, vmbus=_in(wrapper, call, '__compat_vma_mmap(&desc, vma);\n\treturn 0;'))(seed),
            usual | bad,
        ),
        'whole-would-do': (
            _edit(3, vmbus=_in(wrapper, r'channel->mmap_prepare_ring_buffer\(channel, &desc\)',
                               'vfs_mmap_prepare(filp, &desc)'))(seed),
            usual | bad,
        ),
        'uio-error-not-tested': (
            _edit(4, uio=_in('uio_mmap', ungoto, r'\1'))(seed),
            usual | {('compat-pair', 'error', 4)},
        ),
        'unresolved-call': (
            Seed(seed.base, (*seed.commits, broken)), usual | {('vma-test-build', 'error', 5)}
        ),
        'assertion-fails': (
            Seed(seed.base, (*seed.commits, counts)),
            usual | {('vma-test-build', 'error', 5)},
        ),
        'broken-then-mended': (
            Seed(seed.base, (*seed.commits, broken, between, mended)),
            usual | {('vma-test-build', 'error', 5)},
        ),
    }  # fmt: skip


# --- surgery on texts ---------------------------------------------------------


def _text(kernel: Path, path: str) -> str:
    return Repo(kernel, existing=True).git('cat-file', 'blob', f'HEAD:{path}').decode('latin-1')


def _tree_of(kernel: Path) -> str:
    return Repo(kernel, existing=True).git('rev-parse', 'HEAD^{tree}').decode().strip()


def _objects(kernel: Path) -> Path:
    said = Repo(kernel, existing=True).git('rev-parse', '--git-path', 'objects').decode().strip()
    return (kernel / said).resolve()


def _bytes(files: Mapping[str, str]) -> dict[str, bytes]:
    return {path: text.encode('latin-1') for path, text in files.items()}


def _read(kernel: Path) -> Files:
    files = {path: _text(kernel, path) for path in (TYPES, UTIL, FS, DUP, VMBUS, UIO)}
    start, end = _span(files[UTIL], SET)
    original = files[UTIL][start:end]
    start, end = _span(files[DUP], SET)
    copy = files[DUP][start:end]
    true = original[: original.index('{')] + copy[copy.index('{') :]
    return {**files, UTIL: files[UTIL].replace(original, true)}


def _span(text: str, function: str) -> tuple[int, int]:
    """From the line that a function's definition begins on to behind its closing brace."""
    found = re.search(rf'^(?!\s)[^\n;{{}}]*\b{function}\((?:[^;{{]|\n)*\)\s*\n\{{', text, re.M)
    assert found is not None, function
    return found.start(), text.index('\n}\n', found.end()) + 3


def _body(text: str, function: str, body: str) -> str:
    start, end = _span(text, function)
    opened = text.index('{\n', start) + 2
    return f'{text[:opened]}{body}}}\n{text[end:]}'


def _struct(text: str) -> tuple[int, int]:
    start = re.search(r'^([ \t]*)struct vm_area_desc \{\n', text, re.M)
    assert start is not None
    return start.start(), text.index(f'\n{start[1]}}}', start.end())


def _in_struct(old: str, new: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        start, end = _struct(text)
        return text[:start] + text[start:end].replace(old, new) + text[end:]

    return edit


def _both(*edits: Callable[[str], str]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        for one in edits:
            text = one(text)
        return text

    return edit


def _consts(text: str) -> str:
    return _both(
        _in_struct('struct mm_struct *mm;', 'const struct mm_struct *const mm;'),
        _in_struct('struct file *file;', 'struct file *const file;'),
    )(text)


def _plain(text: str) -> str:
    return _both(
        _in_struct('const struct mm_struct *const mm;', 'struct mm_struct *mm;'),
        _in_struct('struct file *const file;', 'struct file *file;'),
    )(text)


def _memcpy(text: str) -> str:
    """Assign to the members that are const by memcpy."""
    start, end = _span(text, WHOLE)
    body = re.sub(
        r'desc\.(mm|file) = (?:\([^()]*\))?([^;]+);',
        r'memcpy((void *)&desc.\1, &\2, sizeof(desc.\1));',
        text[start:end],
    )
    assert body.count('memcpy') == 2
    return text[:start] + body + text[end:]


def _merge(text: str) -> str:
    """Put the pair back into compat_vma_mmap(), whose calls of the two become their bodies."""
    filled, completed = (_inner(text, name) for name in (SET, COMPLETE))
    start, end = _span(text, WHOLE)
    whole = text[start:end]
    merged = whole.replace(f'\t{SET}(&desc, file, vma);\n', filled)
    merged = merged.replace(f'\treturn {COMPLETE}(&desc, vma);\n', completed)
    assert merged.count(SET) == merged.count(COMPLETE) == 0
    text = text[:start] + merged + text[end:]
    for name in (SET, COMPLETE):
        start, end = _span(text, name)
        comment = re.search(r'/\*\*(?:(?!\*/).)*\*/\n\Z', text[:start], re.S)
        start = comment.start() if comment else start
        end += len(exported) if text.startswith(exported := f'EXPORT_SYMBOL({name});\n', end) else 0
        text = text[:start] + text[end:].lstrip('\n')
    return text


def _inner(text: str, function: str) -> str:
    """A helper's body as it reads where `desc` is an object, its own `err` left out."""
    start, end = _span(text, function)
    body = text[text.index('{\n', start) + 2 : end - 2]
    body = re.sub(r'^\tint err;\n\n', '', body, flags=re.M)
    body = body.replace('&desc->', '&desc.').replace('desc->', 'desc.').replace('*desc', 'desc')
    return re.sub(
        r'(?<=[(, ])desc(?=[,)])(?!\)\))', '&desc', body.replace('sizeof(desc)', 'SIZE')
    ).replace('SIZE', 'sizeof(desc)')


def _without_pair(text: str) -> str:
    """uio before it knew mmap_prepare."""
    start, end = _span(text, 'uio_mmap')
    body = re.sub(
        r'\t\tstruct vm_area_desc desc;\n.*?\t\tgoto out;\n(?=\t\})',
        '\t\tret = -EOPNOTSUPP;\n\t\tgoto out;\n',
        text[start:end],
        flags=re.S,
    )
    assert SET not in body
    return text[:start] + body + text[end:]
