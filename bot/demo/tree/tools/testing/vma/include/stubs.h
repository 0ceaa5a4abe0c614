/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What does nothing in the tests. */

struct vm_area_struct;
struct mmap_action;

static inline int mmap_action_complete(struct vm_area_struct *vma, struct mmap_action *action)
{
	return 0;
}
