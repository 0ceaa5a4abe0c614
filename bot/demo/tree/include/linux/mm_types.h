/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _LINUX_MM_TYPES_H
#define _LINUX_MM_TYPES_H

typedef unsigned long pgoff_t;

struct file;
struct vm_area_desc;
struct vm_area_struct;

struct vm_operations_struct {
	void (*open)(struct vm_area_struct *vma);
	int (*mapped)(unsigned long start, unsigned long end);
};

enum mmap_action_type {
	MMAP_NOTHING,
	MMAP_REMAP_PFN,
};

/* What a hook wants done once the mapping exists. */
struct mmap_action {
	enum mmap_action_type type;
	unsigned long pfn;
};

/* One address space: its areas, in order of their addresses. */
struct mm_struct {
	struct vm_area_struct *first;
	unsigned long total_vm;
};

/* One mapping that is about to be made. A hook may change what is not const. */
struct vm_area_desc {
	const struct mm_struct *const mm;
	struct file *const file;
	unsigned long start;
	unsigned long end;

	pgoff_t pgoff;
	struct file *vm_file;
	unsigned long vma_flags;

	const struct vm_operations_struct *vm_ops;
	void *private_data;
	struct mmap_action action;
};

/* One mapping that exists. */
struct vm_area_struct {
	unsigned long vm_start;
	unsigned long vm_end;
	struct mm_struct *vm_mm;
	pgoff_t vm_pgoff;
	struct file *vm_file;
	unsigned long flags;
	const struct vm_operations_struct *vm_ops;
	void *vm_private_data;
	struct vm_area_struct *next;
};

#endif
