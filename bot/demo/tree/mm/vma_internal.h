/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef __MM_VMA_INTERNAL_H
#define __MM_VMA_INTERNAL_H

/* Everything that vma.c needs. The tests have a header of this guard instead. */
#include <linux/fs.h>
#include <linux/mm_types.h>

#endif
