/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An attack is a function that returns 1 where it got what it was after, else 0.
 * REAL(): it harms nobody, and is run without a sandbox as well, by root, where
 * it must succeed. bait.h, made by the test, says what there is to be had.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bait.h"

struct attack {
	const char *kind, *name;
	int (*run)(void);
	long real;
};

#define ENTRY(kind, name, real) \
	static int kind##_##name(void); \
	static const struct attack kind##_##name##_entry \
	__attribute__((section("attacks"), used, aligned(8))) = \
		{ #kind, #name, kind##_##name, real }; \
	static int kind##_##name(void)
#define ATTACK(kind, name) ENTRY(kind, name, 0)
#define REAL(kind, name) ENTRY(kind, name, 1)

/* Whether a call did not fail. */
#define went(call) ((long)(call) != -1)

/* Whether a file can be read, and how it begins. */
static inline int shown(const char *path)
{
	char text[200] = "";
	int fd = open(path, O_RDONLY | O_NONBLOCK);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return 0;
	printf("%s: %s\n", path, text);
	return 1;
}

/* Whether it may be opened for writing; nothing is written. */
static inline int writable(const char *path)
{
	return went(open(path, O_WRONLY | O_NONBLOCK));
}
