// SPDX-License-Identifier: GPL-2.0-or-later
#include "vma_internal.h"
#include "vma.h"

/* Put an area into its place in the list; -1 where it overlaps another one. */
int vma_link(struct mm_struct *mm, struct vm_area_struct *vma)
{
	struct vm_area_struct **at = &mm->first;

	while (*at && (*at)->vm_end <= vma->vm_start)
		at = &(*at)->next;
	if (*at && (*at)->vm_start < vma->vm_end)
		return -1;
	vma->next = *at;
	vma->vm_mm = mm;
	*at = vma;
	mm->total_vm += pages_of(vma_span(vma));
	return 0;
}

/* The area that holds an address, or NULL. */
struct vm_area_struct *vma_find(struct mm_struct *mm, unsigned long addr)
{
	struct vm_area_struct *vma;

	for (vma = mm->first; vma; vma = vma->next)
		if (vma->vm_start <= addr && addr < vma->vm_end)
			return vma;
	return 0;
}

/* Merge an area with the one behind it, where the two are alike; 1 if so. */
int vma_try_merge(struct vm_area_struct *vma)
{
	struct vm_area_struct *next = vma->next;

	if (!next || next->vm_start != vma->vm_end)
		return 0;
	if (next->flags != vma->flags || next->vm_file != vma->vm_file)
		return 0;
	vma->vm_end = next->vm_end;
	vma->next = next->next;
	return 1;
}
