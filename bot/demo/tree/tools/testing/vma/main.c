// SPDX-License-Identifier: GPL-2.0-or-later
#include "vma_internal.h"
#include "../../../mm/vma.c"

#define ASSERT_TRUE(expr)							\
	do {									\
		if (!(expr)) {							\
			fprintf(stderr, "Assert FAILED at %s:%d:%s(): %s is FALSE.\n", \
				__FILE__, __LINE__, __func__, #expr);		\
			return false;						\
		}								\
	} while (0)

#define TEST(name)								\
	do {									\
		run++;								\
		if (!test_##name()) {						\
			failed++;						\
			fprintf(stderr, "Test " #name " FAILED\n");		\
		}								\
	} while (0)

#include "tests/merge.c"
#include "tests/mmap.c"

int main(void)
{
	int run = 0, failed = 0;

	TEST(link_in_order);
	TEST(link_refuses_overlap);
	TEST(merge_alike);
	TEST(merge_not_alike);
	TEST(mmap_by_hook);
	printf("%d tests run, %d passed, %d failed.\n", run, run - failed, failed);
	return failed != 0;
}
