// SPDX-License-Identifier: GPL-2.0-or-later

static const struct vm_operations_struct hook_ops = {};

static int hook(struct vm_area_desc *desc)
{
	desc->vm_ops = &hook_ops;
	desc->pgoff += 1;
	return desc->end <= desc->start ? -1 : 0;
}

static bool test_mmap_by_hook(void)
{
	const struct file_operations ops = { .mmap_prepare = hook };
	struct vm_area_struct vma = { .vm_start = 0x1000, .vm_end = 0x2000 };
	struct file file = { .f_op = &ops };

	ASSERT_TRUE(compat_vma_mmap(&file, &vma) == 0);
	ASSERT_TRUE(vma.vm_ops == &hook_ops && vma.vm_pgoff == 1);
	vma.vm_end = 0;
	ASSERT_TRUE(compat_vma_mmap(&file, &vma) == -1);
	return true;
}
