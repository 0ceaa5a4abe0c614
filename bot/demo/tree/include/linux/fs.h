/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _LINUX_FS_H
#define _LINUX_FS_H

#include <linux/mm_types.h>

struct file_operations {
	int (*mmap)(struct file *file, struct vm_area_struct *vma);
	int (*mmap_prepare)(struct vm_area_desc *desc);
};

struct file {
	const struct file_operations *f_op;
	void *private_data;
};

static inline int can_mmap_file(struct file *file)
{
	return file->f_op->mmap || file->f_op->mmap_prepare;
}

static inline int vfs_mmap_prepare(struct file *file, struct vm_area_desc *desc)
{
	return file->f_op->mmap_prepare(desc);
}

int mmap_action_complete(struct vm_area_struct *vma, struct mmap_action *action);
int compat_vma_mmap(struct file *file, struct vm_area_struct *vma);

#endif
