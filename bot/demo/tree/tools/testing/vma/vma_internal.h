/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stands in for mm/vma_internal.h, whose guard it takes. */
#ifndef __MM_VMA_INTERNAL_H
#define __MM_VMA_INTERNAL_H

#include <stdbool.h>
#include <stdio.h>

#include "include/custom.h"
#include "include/stubs.h"
#include "include/dup.h"

#endif
