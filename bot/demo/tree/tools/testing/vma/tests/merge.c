// SPDX-License-Identifier: GPL-2.0-or-later

static bool test_link_in_order(void)
{
	struct vm_area_struct high = { .vm_start = 0x3000, .vm_end = 0x4000 };
	struct vm_area_struct low = { .vm_start = 0x1000, .vm_end = 0x2000 };
	struct mm_struct mm = {};

	ASSERT_TRUE(vma_link(&mm, &high) == 0);
	ASSERT_TRUE(vma_link(&mm, &low) == 0);
	ASSERT_TRUE(mm.first == &low && low.next == &high);
	ASSERT_TRUE(mm.total_vm == 2);
	ASSERT_TRUE(vma_find(&mm, 0x3fff) == &high);
	ASSERT_TRUE(!vma_find(&mm, 0x2000));
	return true;
}

static bool test_link_refuses_overlap(void)
{
	struct vm_area_struct first = { .vm_start = 0x1000, .vm_end = 0x3000 };
	struct vm_area_struct second = { .vm_start = 0x2000, .vm_end = 0x4000 };
	struct mm_struct mm = {};

	ASSERT_TRUE(vma_link(&mm, &first) == 0);
	ASSERT_TRUE(vma_link(&mm, &second) == -1);
	return true;
}

static bool test_merge_alike(void)
{
	struct vm_area_struct second = { .vm_start = 0x2000, .vm_end = 0x4000 };
	struct vm_area_struct first = { .vm_start = 0x1000, .vm_end = 0x2000, .next = &second };

	ASSERT_TRUE(vma_try_merge(&first) == 1);
	ASSERT_TRUE(first.vm_end == 0x4000 && !first.next);
	return true;
}

static bool test_merge_not_alike(void)
{
	struct vm_area_struct second = { .vm_start = 0x2000, .vm_end = 0x4000, .flags = 1 };
	struct vm_area_struct first = { .vm_start = 0x1000, .vm_end = 0x2000, .next = &second };

	ASSERT_TRUE(vma_try_merge(&first) == 0);
	return true;
}
