/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mounts, devices, terminals, and the machine's own files, which are read only. */
#include "attack.h"
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define THEIRS "/usr/bin/env"

ATTACK(mounts, a_file_system) { return went(mount("none", "/tmp", "tmpfs", 0, 0)); }
ATTACK(mounts, writable_again) { return went(mount(0, "/usr", 0, MS_REMOUNT | MS_BIND, 0)); }
ATTACK(mounts, the_cache_writable) { return went(mount(0, "/ccache", 0, MS_REMOUNT | MS_BIND, 0)); }
ATTACK(mounts, proc_uncovered) { return went(umount2("/proc/sys", MNT_DETACH)); }
ATTACK(mounts, moved) { return went(mount("/usr", "/tmp", 0, MS_MOVE, 0)); }
REAL(mounts, the_new_way) { return went(syscall(SYS_fsopen, "tmpfs", 0)); }
REAL(mounts, a_copy) { return went(syscall(SYS_open_tree, -100, "/usr", 1)); }
REAL(mounts, another_root) { return went(chroot("/")); }
ATTACK(mounts, roots_swapped) { return went(syscall(SYS_pivot_root, ".", ".")); }
REAL(mounts, files_by_handle)
{
	char room[200] = { 128 };
	struct file_handle *handle = (void *)room;
	int id;

	return !name_to_handle_at(AT_FDCWD, THEIRS, handle, &id, 0) &&
	       went(open_by_handle_at(open("/usr", O_RDONLY), handle, O_RDONLY));
}

REAL(devices, memory_is_made) { return !mknod("mem", S_IFCHR | 0600, makedev(1, 1)); }
REAL(devices, a_disk_is_made) { return !mknod("disk", S_IFBLK | 0600, makedev(254, 0)); }
REAL(devices, a_whiteout_is_made) { return !mknod("gone", S_IFCHR, 0); }
REAL(devices, modes_are_changed) { return !chmod("/dev/null", 0666); }
REAL(devices, times_are_changed)
{
	struct stat how; /* to what they are: enough to see that it may */

	stat("/dev/null", &how);
	return !utimensat(AT_FDCWD, "/dev/null", (struct timespec [2]){ how.st_atim, how.st_mtim }, 0);
}
REAL(devices, owners_are_changed) { return !chown("/dev/null", 0, 0); }
ATTACK(devices, any_other_is_there)
{
	static const char *names[] = { "mem", "kmem", "port", "kmsg", "kvm", "fuse", "vda", "sda",
		"loop0", "loop-control", "net/tun", "vhost-net", "vsock", "rtc0", "input", "uinput",
		"console", "tty0", "vcs", "hpet", "mapper", "dri", "snd", "bus", "cpu_dma_latency" };
	int found = 0;

	for (unsigned n = 0; n < sizeof(names) / sizeof(*names); n++) {
		char path[50];

		snprintf(path, sizeof(path), "/dev/%s", names[n]);
		if (!access(path, F_OK))
			found = printf("%s\n", path);
	}
	return found;
}
REAL(devices, a_log_is_read) { return shown("/dev/kmsg"); }

REAL(terminal, one_is_opened) { return went(posix_openpt(O_RDWR | O_NOCTTY)); }
REAL(terminal, a_hang_up) { return went(ioctl(posix_openpt(O_RDWR | O_NOCTTY), TIOCVHANGUP)); }
ATTACK(terminal, the_bots_is_opened) { return went(open("/dev/tty", O_RDWR)); }
ATTACK(terminal, words_are_put_in)
{
	for (int fd = 0; fd < 3; fd++)
		if (went(ioctl(fd, TIOCSTI, "x")) || errno != ENOTTY)
			return 1;
	return 0;
}
ATTACK(terminal, a_selection_is_pasted)
{
	return went(ioctl(0, TIOCLINUX, "\3")) || errno != ENOTTY;
}

REAL(files, one_is_locked) { return !flock(open(THEIRS, O_RDONLY), LOCK_EX | LOCK_NB); }
REAL(files, one_is_leased) { return went(fcntl(open(THEIRS, O_RDONLY), F_SETLEASE, F_RDLCK)); }
REAL(files, use_is_watched) { return went(inotify_add_watch(inotify_init(), "/usr", IN_OPEN)); }
REAL(files, use_is_noticed) { return went(fcntl(open("/usr/bin", O_RDONLY), F_NOTIFY, 1)); }
REAL(files, all_use_is_watched) { return went(syscall(SYS_fanotify_init, 0, 0)); }

static void *mapped(void)
{
	return mmap(0, 4096, PROT_READ, MAP_SHARED, open(THEIRS, O_RDONLY), 0);
}

REAL(files, use_is_seen_in_memory) { return !mincore(mapped(), 4096, (unsigned char [1]){ 0 }); }
REAL(files, one_is_pushed_out) { return !madvise(mapped(), 4096, 21); }
REAL(files, memory_is_merged) { return !madvise(mmap(0, 4096, 3, 34, -1, 0), 4096, 12); }
REAL(files, flags_are_asked) { int f; return !ioctl(open(THEIRS, O_RDONLY), FS_IOC_GETFLAGS, &f); }
ATTACK(files, one_is_written) { return went(open(THEIRS, O_WRONLY)); }
ATTACK(files, one_is_removed) { return !unlink(THEIRS); }
ATTACK(files, one_is_linked) { return !link(THEIRS, "env"); }
REAL(files, a_mode_is_changed) { return !chmod(THEIRS, 0755); }
ATTACK(files, all_is_flushed) { return !syncfs(open("/usr", O_RDONLY)); }
ATTACK(files, the_cache_is_written) { return went(open("/ccache/evil", O_CREAT | O_WRONLY, 0600)); }
ATTACK(files, the_caches_mode) { return !chmod("/ccache", 0777); }
REAL(files, the_key_is_read) { return shown(BAIT_FILE); }
ATTACK(files, the_key_by_the_root) { return shown("/proc/1/root" BAIT_FILE); }
REAL(files, the_key_by_the_folder) { return shown("/proc/" BAIT_PID_TEXT "/cwd/" BAIT_NAME); }
REAL(files, the_administrators) { return !access("/usr/local/bin", F_OK); }

REAL(privileges, a_file_is_setuid) { return went(creat("s1", 0755)) && !chmod("s1", 04755); }
REAL(privileges, a_new_file_is_setuid)
{
	struct stat how;

	umask(0);
	return !fstat(open("s2", O_CREAT | O_WRONLY, 06755), &how) && how.st_mode & 06000;
}
REAL(privileges, an_open_file_is_setgid) { return !fchmod(creat("s3", 0755), 02755); }
REAL(privileges, a_file_has_capabilities)
{
	unsigned char caps[20] = { 1, 0, 0, 2, 0xff, 0xff, 0xff, 0xff };

	creat("s4", 0755);
	return !setxattr("s4", "security.capability", caps, sizeof(caps), 0);
}
