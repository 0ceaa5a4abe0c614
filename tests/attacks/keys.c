/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keys of the machine, and descriptors of the bot. */
#include "attack.h"

enum { JOIN = 1, UPDATE = 2, SEARCH = 10, READ = 11 };

static long keyctl(long what, long a, const void *b, const void *c, long d)
{
	return syscall(SYS_keyctl, what, a, b, c, d);
}

static int key_in(long ring)
{
	char text[100] = "";
	long key = keyctl(SEARCH, ring, "user", BAIT_KEY, 0);

	if (key < 0 || keyctl(READ, key, text, (void *)(sizeof(text) - 1), 0) < 0)
		return 0;
	printf("key: %s\n", text);
	return 1;
}

REAL(keyring, session_is_read) { return key_in(-3); }
REAL(keyring, user_is_read) { return key_in(-4); }

REAL(keyring, session_is_overwritten)
{
	long key = keyctl(SEARCH, -3, "user", BAIT_OTHER_KEY, 0);

	return key > 0 && went(keyctl(UPDATE, key, "evil", (void *)4, 0));
}

REAL(keyring, is_added_to) { return went(syscall(SYS_add_key, "user", "evil", "x", 1, -3)); }
REAL(keyring, own_is_made) { return went(syscall(SYS_add_key, "user", "evil", "x", 1, -2)); }
REAL(keyring, is_asked) { return went(syscall(SYS_request_key, "user", BAIT_KEY, 0, 0)); }
REAL(keyring, is_joined) { return went(keyctl(JOIN, 0, 0, 0, 0)); }
REAL(keyring, is_listed) { return shown("/proc/keys"); }
REAL(keyring, users_are_listed) { return shown("/proc/key-users"); }

REAL(descriptors, inherited_is_read)
{
	char text[100] = "";

	if (pread(BAIT_READ, text, sizeof(text) - 1, 0) <= 0)
		return 0;
	printf("descriptor: %s\n", text);
	return 1;
}

REAL(descriptors, inherited_is_written) { return pwrite(BAIT_WRITE, "evil", 4, 0) == 4; }

REAL(descriptors, any_is_left)
{
	for (int fd = 3; fd < 4096; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			return printf("descriptor %d\n", fd), 1;
	return 0;
}

REAL(descriptors, of_others_are_opened)
{
	char path[50];
	int found = 0;

	for (int pid = 1; pid < 100; pid++)
		for (int fd = 3; fd < 70; fd++) {
			snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid == 1 ? BAIT_BOT : pid, fd);
			found |= fd > 7 && shown(path);
		}
	return found;
}

ATTACK(descriptors, come_by_pidfd)
{
	int process = syscall(SYS_pidfd_open, getppid(), 0);

	return went(syscall(SYS_pidfd_getfd, process, 1, 0));
}
