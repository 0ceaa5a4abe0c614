/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What behaves otherwise in the tests, on purpose. */

static inline unsigned long pages_of(unsigned long bytes)
{
	return bytes / 4096;
}
