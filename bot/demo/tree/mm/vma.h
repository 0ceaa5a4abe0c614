/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef __MM_VMA_H
#define __MM_VMA_H

static inline unsigned long vma_span(const struct vm_area_struct *vma)
{
	return vma->vm_end - vma->vm_start;
}

int vma_link(struct mm_struct *mm, struct vm_area_struct *vma);
struct vm_area_struct *vma_find(struct mm_struct *mm, unsigned long addr);
int vma_try_merge(struct vm_area_struct *vma);

#endif
