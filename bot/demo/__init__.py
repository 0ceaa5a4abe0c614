"""
The sample kernel and a sample series with one planted mistake for each rule.

    python -m bot.demo FOLDER

writes `FOLDER/linux.git` (a bare repository with one commit) and
`FOLDER/series.mbox`. The sample has the shape of the real kernel and words of
its own; its tests build and run in under two seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pygit2

TREE = Path(__file__).parent / 'tree'
WHO = pygit2.Signature('A Developer', 'dev@example.org', 1774000000, 0)
DATE = 'Fri, 20 Mar 2026 09:46:40 +0000'
TITLE = 'mm: let drivers stack mmap_prepare hooks'

TYPES, FS, UTIL = 'include/linux/mm_types.h', 'include/linux/fs.h', 'mm/util.c'
VMA, VMA_H, RING = 'mm/vma.c', 'mm/vma.h', 'drivers/demo/ring.c'
DUP, STUBS = 'tools/testing/vma/include/dup.h', 'tools/testing/vma/include/stubs.h'

PAIR = """void compat_set_desc_from_vma(struct vm_area_desc *desc, struct file *file,
			      const struct vm_area_struct *vma)
{
	memset(desc, 0, sizeof(*desc));
	desc->mm = vma->vm_mm;
	desc->file = file;
	desc->start = vma->vm_start;
	desc->end = vma->vm_end;
	desc->pgoff = vma->vm_pgoff;
	desc->vm_file = vma->vm_file;
	desc->vma_flags = vma->flags;
}

int __compat_vma_mmap(struct vm_area_desc *desc, struct vm_area_struct *vma)
{
	vma->vm_pgoff = desc->pgoff;
	vma->vm_ops = desc->vm_ops;
	return mmap_action_complete(vma, &desc->action);
}

"""
PROTOTYPES = """void compat_set_desc_from_vma(struct vm_area_desc *desc, struct file *file,
			      const struct vm_area_struct *vma);
int __compat_vma_mmap(struct vm_area_desc *desc, struct vm_area_struct *vma);
"""
FILLED = """	struct vm_area_desc desc = {
		.mm = vma->vm_mm,
		.file = file,
		.start = vma->vm_start,
		.end = vma->vm_end,
		.pgoff = vma->vm_pgoff,
		.vm_file = vma->vm_file,
		.vma_flags = vma->flags,
	};
	int err;

	err = vfs"""
WRITTEN = """	vma->vm_pgoff = desc.pgoff;
	vma->vm_ops = desc.vm_ops;
	return mmap_action_complete(vma, &desc.action);
"""
RING_MMAP = """	struct ring *ring = file->private_data;
	struct vm_area_desc desc;
	int err;

	compat_set_desc_from_vma(&desc, file, vma);
	err = ring->mmap_prepare(ring, &desc);
	return __compat_vma_mmap(&desc, vma);
"""
COPY = """static inline int can_mmap_file(struct file *file)
{
	return file->f_op->mmap_prepare != NULL;
}

static inline int vfs"""
COUNTED = """
static unsigned long linked;

void vma_count_link(const struct vm_area_struct *vma)
{
	linked += vma_span(vma);
}
"""
STUB = """
static inline void vma_count_link(const struct vm_area_struct *vma)
{
}
"""


@dataclass(frozen=True)
class Change:
    """One patch: subject, body, and what is replaced by what in which file ('' appends)."""

    subject: str
    body: str
    edits: tuple[tuple[str, str, str], ...]


SERIES = (
    Change(
        'mm: let a VMA descriptor be assigned to',
        'The next patch fills a descriptor member by member, so two members have\n'
        'to lose their const. Also update the copy in the VMA tests.',
        (
            (TYPES, 'const struct mm_struct *const mm;', 'struct mm_struct *mm;'),
            (TYPES, 'struct file *const file;', 'struct file *file;'),
            (DUP, 'struct file *const file;', 'struct file *file;'),
        ),
    ),
    Change(
        'mm: split compat_vma_mmap()',
        'Drivers with a nested hook of their own need its two halves.',
        (
            (UTIL, '/*\n * Let an mmap', PAIR + '/*\n * Let an mmap'),
            (UTIL, FILLED, '	struct vm_area_desc desc;\n	int err;\n\n'
             '	compat_set_desc_from_vma(&desc, file, vma);\n	err = vfs'),
            (UTIL, WRITTEN + '}\n', '	return __compat_vma_mmap(&desc, vma);\n}\n'),
            (FS, 'int compat_vma', PROTOTYPES + 'int compat_vma'),
        ),
    ),
    Change(
        'tools/testing/vma: copy can_mmap_file()',
        'A later test will want it.',
        ((DUP, 'static inline int vfs', COPY),),
    ),
    Change(
        'drivers: ring: map through the hook of the ring',
        'Each ring knows how it wants to be mapped.',
        ((RING, '	return -1;\n', RING_MMAP),),
    ),
    Change(
        'mm/vma: count what is linked',
        'So that a later patch can show it.',
        (
            (UTIL, '', COUNTED),
            (VMA_H, 'int vma_link', 'void vma_count_link(const struct vm_area_struct *vma);\n'
             'int vma_link'),
            (VMA, '	*at = vma;\n', '	*at = vma;\n	vma_count_link(vma);\n'),
        ),
    ),
    Change(
        'tools/testing/vma: add a stub for vma_count_link()',
        'The tests do not count.',
        ((STUBS, '', STUB),),
    ),
)  # fmt: skip


def write(folder: Path) -> tuple[Path, Path]:
    """Write repository and series below `folder`; the paths of both."""
    repository, mbox = folder / 'linux.git', folder / 'series.mbox'
    repo = pygit2.init_repository(str(repository), bare=True)
    files = {
        str(path.relative_to(TREE)): path.read_text()
        for path in sorted(TREE.rglob('*'))
        if path.is_file()
    }
    tree = _tree(repo, files)
    repo.create_commit('refs/heads/master', WHO, WHO, 'A sample kernel\n', tree, [])
    repo.set_head('refs/heads/master')
    mbox.write_text(''.join(_mails(repo, files)))
    return repository, mbox


def _mails(repo: pygit2.Repository, files: dict[str, str]) -> Iterator[str]:
    tree = _tree(repo, files)
    of = len(SERIES)
    for n, change in enumerate(SERIES, 1):
        files = _changed(files, change)
        after = _tree(repo, files)
        diff = repo[tree].peel(pygit2.Tree).diff_to_tree(repo[after].peel(pygit2.Tree))
        tree = after
        yield (
            f'From {"0" * 40} Mon Sep 17 00:00:00 2001\n'
            f'From: {WHO.name} <{WHO.email}>\n'
            f'Date: {DATE}\n'
            f'Subject: [PATCH {n}/{of}] {change.subject}\n'
            f'Message-ID: <20260320.{n}@demo.example.org>\n\n'
            f'{change.body}\n\nSigned-off-by: {WHO.name} <{WHO.email}>\n---\n'
            f'{diff.stats.format(pygit2.enums.DiffStatsFormat.FULL, 72)}\n{diff.patch}-- \n2.39\n\n'
        )


def _changed(files: dict[str, str], change: Change) -> dict[str, str]:
    after = dict(files)
    for path, old, new in change.edits:
        text = after[path]
        if text.count(old) != 1 and old:
            raise ValueError(f'{change.subject}: {path} has {text.count(old)} of {old!r}')
        after[path] = text.replace(old, new) if old else text + new
    return after


def _tree(repo: pygit2.Repository, files: dict[str, str]) -> pygit2.Oid:
    index = pygit2.Index()
    for path, text in files.items():
        blob = repo.create_blob(text.encode())
        index.add(pygit2.IndexEntry(path, blob, pygit2.enums.FileMode.BLOB))
    return index.write_tree(repo)
