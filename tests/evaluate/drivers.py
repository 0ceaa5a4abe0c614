"""New drivers whose hooks are right, each other than the next by name, action and shape."""

import random
from collections.abc import Iterator

from bot.model import Snapshot
from bot.rule import Edit
from tests.evaluate.planting import text

HEAD = """// SPDX-License-Identifier: GPL-2.0
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>

struct {n} {{
	struct mutex lock;
	struct kref kref;
	phys_addr_t base;
	unsigned long size;
	int (*mmap_prepare)(struct {n} *{n}, struct vm_area_desc *desc);
	const struct vm_operations_struct *vm_ops;
}};
"""
TAIL = """
static const struct file_operations {n}_fops = {{
	.owner = THIS_MODULE,
	.{slot} = {n}_{slot},
}};

MODULE_DESCRIPTION("{n}");
MODULE_LICENSE("GPL");
"""
# The shapes: what stands between head and tail, and which slot it fills.
PLAIN = """
static int {n}_mmap_prepare(struct vm_area_desc *desc)
{{
	struct {n} *{n} = desc->file->private_data;

	if (vma_desc_size(desc) > {n}->size)
		return -EINVAL;

	desc->page_prot = pgprot_{prot}(desc->page_prot);
	mmap_action_{action}_full(desc, {n}->base >> PAGE_SHIFT);
	return 0;
}}
"""
COUNTED = """
static void {n}_release(struct kref *kref)
{{
	kfree(container_of(kref, struct {n}, kref));
}}

static void {n}_open(struct vm_area_struct *vma)
{{
	struct {n} *{n} = vma->vm_private_data;

	kref_get(&{n}->kref);
}}

static void {n}_close(struct vm_area_struct *vma)
{{
	struct {n} *{n} = vma->vm_private_data;

	kref_put(&{n}->kref, {n}_release);
}}

static int {n}_mapped(unsigned long start, unsigned long end, pgoff_t pgoff,
			const struct file *file, void **vm_private_data)
{{
	struct {n} *{n} = *vm_private_data;

	kref_get(&{n}->kref);
	return 0;
}}

static const struct vm_operations_struct {n}_vm_ops = {{
	.open = {n}_open,
	.close = {n}_close,
	.mapped = {n}_mapped,
}};

static int {n}_mmap_prepare(struct vm_area_desc *desc)
{{
	desc->vm_ops = &{n}_vm_ops;
	desc->private_data = desc->file->private_data;
	return 0;
}}
"""
LOCKED = """
static int {n}_mmap_prepare(struct vm_area_desc *desc)
{{
	struct {n} *{n} = desc->file->private_data;
	int err = 0;

	mutex_lock(&{n}->lock);
	if (vma_desc_pages(desc) << PAGE_SHIFT > {n}->size) {{
		err = -EINVAL;
		goto out;
	}}
	vma_desc_set_flags(desc, VMA_DONTEXPAND_BIT, VMA_DONTDUMP_BIT);
	mmap_action_{action}_full(desc, {n}->base >> PAGE_SHIFT);
out:
	mutex_unlock(&{n}->lock);
	return err;
}}
"""
GUARDED = """
static int {n}_mmap_prepare(struct vm_area_desc *desc)
{{
	struct {n} *{n} = desc->file->private_data;

	if (!vma_desc_test(desc, VMA_SHARED_BIT))
		return -EINVAL;

	guard(mutex)(&{n}->lock);
	if (!{n}->size)
		return -ENODEV;
	desc->vm_ops = {n}->vm_ops;
	mmap_action_{action}(desc, desc->start, {n}->base >> PAGE_SHIFT, {n}->size);
	desc->action.error_override = -EAGAIN;
	return 0;
}}
"""
CLASSIC = """
static int {n}_mmap(struct file *file, struct vm_area_struct *vma)
{{
	struct {n} *{n} = file->private_data;
	unsigned long size = vma->vm_end - vma->vm_start;

	if (size > {n}->size)
		return -EINVAL;

	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_page_prot = pgprot_{prot}(vma->vm_page_prot);
	vma->vm_private_data = {n};
	return remap_pfn_range(vma, vma->vm_start, {n}->base >> PAGE_SHIFT, size,
				vma->vm_page_prot);
}}
"""
STACKED = """
static int {n}_mmap(struct file *file, struct vm_area_struct *vma)
{{
	struct {n} *{n} = file->private_data;
	struct vm_area_desc desc;
	int err;

	if (!{n}->mmap_prepare)
		return -ENODEV;

	compat_set_desc_from_vma(&desc, file, vma);
	err = {n}->mmap_prepare({n}, &desc);
	if (err)
		return err;

	return __compat_vma_mmap(&desc, vma);
}}
"""
STACKED_LOCKED = """
static int {n}_mmap(struct file *file, struct vm_area_struct *vma)
{{
	struct {n} *{n} = file->private_data;
	struct vm_area_desc desc;
	int ret;

	mutex_lock(&{n}->lock);
	if (vma->vm_pgoff) {{
		ret = -EINVAL;
		goto unlock;
	}}
	compat_set_desc_from_vma(&desc, file, vma);
	ret = {n}->mmap_prepare({n}, &desc);
	if (ret < 0)
		goto unlock;
	ret = __compat_vma_mmap(&desc, vma);
unlock:
	mutex_unlock(&{n}->lock);
	return ret;
}}
"""
BACKED = """
static int {n}_mmap(struct file *file, struct vm_area_struct *vma)
{{
	struct file *lower = file->private_data;

	if (!can_mmap_file(lower))
		return -ENODEV;

	vma_set_file(vma, lower);
	return vfs_mmap(vma->vm_file, vma);
}}
"""
GENERIC = """
static const struct vm_operations_struct {n}_vm_ops = {{
	.fault = filemap_fault,
	.map_pages = filemap_map_pages,
	.page_mkwrite = filemap_page_mkwrite,
}};

static int {n}_mmap_prepare(struct vm_area_desc *desc)
{{
	int ret;

	if (vma_desc_test(desc, VMA_WRITE_BIT) && !desc->pgoff)
		return -EPERM;

	ret = generic_file_mmap_prepare(desc);
	if (!ret)
		desc->vm_ops = &{n}_vm_ops;
	return ret;
}}
"""
SWITCHED = (
    """
static bool __maybe_unused {n}_is_io(const struct mmap_action *action)
{{
	switch (action->type) {{
	case MMAP_IO_REMAP_PFN:
	case MMAP_SIMPLE_IO_REMAP:
		return true;
	default:
		return false;
	}}
}}
"""
    + PLAIN
)
SHAPES = (
    (PLAIN, 'mmap_prepare'), (COUNTED, 'mmap_prepare'), (LOCKED, 'mmap_prepare'),
    (GUARDED, 'mmap_prepare'), (CLASSIC, 'mmap'), (STACKED, 'mmap'), (STACKED_LOCKED, 'mmap'),
    (BACKED, 'mmap'), (GENERIC, 'mmap_prepare'), (SWITCHED, 'mmap_prepare'),
)  # fmt: skip
PROTECTIONS = 'noncached', 'writecombine'
ACTIONS = 'remap', 'ioremap'
NAMES = 'ember', 'harbor', 'lattice', 'quartz'
MAKE = 'drivers/misc/Makefile'


def drivers(tree: Snapshot, chance: random.Random) -> Iterator[tuple[str, tuple[Edit, ...]]]:
    """Yield (name, patches): a driver in one patch, or in two that add to each other."""
    for name in NAMES:
        for k, (shape, slot) in enumerate(SHAPES):
            n = f'{name}{k}'
            words = {
                'n': n,
                'slot': slot,
                'prot': chance.choice(PROTECTIONS),
                'action': chance.choice(ACTIONS),
            }
            path = f'drivers/misc/{n}.c'
            head, body, tail = (part.format(**words) for part in (HEAD, shape, TAIL))
            make = f'{text(tree, MAKE)}obj-$(CONFIG_{n.upper()})\t+= {n}.o\n'
            title = f'misc: {n}: new driver'
            if k % 3:
                files = {path: head + body + tail, MAKE: make}
                yield f'{path} ({slot})', (Edit(files, f'{title}\n\nIt maps its memory.'),)
                continue
            first = Edit(
                {path: head}, f'misc: {n}: what it is made of\n\nThe next patch adds code.'
            )
            second = Edit({path: head + body + tail, MAKE: make}, f'{title}\n\nIt maps its memory.')
            yield f'{path} ({slot}), in two patches', (first, second)
