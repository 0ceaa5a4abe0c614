// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/fs.h>
#include <linux/string.h>

#include "vma.h"

unsigned long pages_of(unsigned long bytes)
{
	return (bytes + 4095) / 4096;
}

/*
 * Let an mmap hook call the mmap_prepare hook of the file that it is stacked
 * on: describe the area, ask the hook, write back what it changed.
 */
int compat_vma_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vm_area_desc desc = {
		.mm = vma->vm_mm,
		.file = file,
		.start = vma->vm_start,
		.end = vma->vm_end,
		.pgoff = vma->vm_pgoff,
		.vm_file = vma->vm_file,
		.vma_flags = vma->flags,
	};
	int err;

	err = vfs_mmap_prepare(file, &desc);
	if (err)
		return err;
	vma->vm_pgoff = desc.pgoff;
	vma->vm_ops = desc.vm_ops;
	return mmap_action_complete(vma, &desc.action);
}
