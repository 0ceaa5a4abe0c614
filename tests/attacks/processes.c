/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What other processes are, hold and say. */
#include "attack.h"
#include <dirent.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* Whether a text is in some process's file of /proc. */
static int said(const char *file, const char *text)
{
	static char all[1 << 20];
	DIR *folder = opendir("/proc");
	struct dirent *one;
	int found = 0;

	while ((one = readdir(folder))) {
		char path[300];
		long size;
		int fd;

		snprintf(path, sizeof(path), "/proc/%s/%s", one->d_name, file);
		if (atoi(one->d_name) < 1 || atoi(one->d_name) == getpid())
			continue;
		fd = open(path, O_RDONLY);
		size = fd < 0 ? 0 : read(fd, all, sizeof(all));
		close(fd);
		found |= size > 0 && memmem(all, size, text, strlen(text));
	}
	return found;
}

REAL(processes, words_are_read) { return said("cmdline", BAIT_MARK); }
REAL(processes, environment_is_read) { return said("environ", BAIT_MARK); }
ATTACK(processes, words_name_a_folder) { return said("cmdline", BAIT_FOLDER); }

/* What started the sandbox was told folders of the machine: are they in its memory? */
ATTACK(processes, memory_names_a_folder)
{
	static char all[1 << 22];
	char folder[] = BAIT_FOLDER, line[300];
	FILE *maps = fopen("/proc/1/maps", "r");
	int fd = open("/proc/1/mem", O_RDONLY), found = 0;

	while (maps && fgets(line, sizeof(line), maps)) {
		unsigned long start, end;
		long size;

		sscanf(line, "%lx-%lx", &start, &end);
		size = pread(fd, all, end - start > sizeof(all) ? sizeof(all) : end - start, start);
		found |= size > 0 && memmem(all, size, folder, strlen(folder));
	}
	return found;
}

REAL(processes, one_is_traced) { return went(ptrace(PTRACE_ATTACH, BAIT_PID, 0, 0)); }
REAL(processes, one_is_seized) { return went(ptrace(PTRACE_SEIZE, BAIT_PID, 0, 0)); }
REAL(processes, one_is_told_apart) { return went(syscall(SYS_kcmp, getpid(), BAIT_PID, 0, 0, 0)); }
REAL(processes, memory_is_opened) { return went(open("/proc/" BAIT_PID_TEXT "/mem", O_RDWR)); }

static int vm(int pid, int call)
{
	static char here[8], there[8];
	struct iovec to = { here, 8 }, from = { there, 8 };

	return went(syscall(call, pid, &to, 1, &from, 1, 0));
}

REAL(processes, memory_is_read) { return vm(getpid(), SYS_process_vm_readv); }
REAL(processes, memory_is_written) { return vm(getpid(), SYS_process_vm_writev); }

REAL(processes, a_child_is_changed)
{
	long word = 1;
	int child = fork();

	if (!child)
		_exit(ptrace(PTRACE_TRACEME, 0, 0, 0) || raise(SIGSTOP));
	waitpid(child, 0, WUNTRACED);
	word = ptrace(PTRACE_POKEDATA, child, &word, 2);
	kill(child, SIGKILL);
	return word == 0;
}

REAL(signals, one_is_reached) { return went(kill(BAIT_PID, 0)); }
ATTACK(signals, one_is_killed) { return went(kill(BAIT_PID, SIGKILL)); }
ATTACK(signals, the_bot_is_killed) { return went(kill(BAIT_BOT, SIGKILL)); }
ATTACK(signals, a_thread_is_killed) { return went(syscall(SYS_tgkill, BAIT_PID, BAIT_PID, 9)); }
ATTACK(signals, one_is_queued)
{
	siginfo_t info = { .si_signo = SIGKILL, .si_code = -1 };

	return went(syscall(SYS_rt_sigqueueinfo, BAIT_PID, SIGKILL, &info));
}
ATTACK(signals, one_is_sent_by_pidfd)
{
	return went(syscall(SYS_pidfd_send_signal, syscall(SYS_pidfd_open, BAIT_PID, 0), 9, 0, 0));
}
REAL(signals, one_is_sent_by_a_pipe)
{
	int ends[2];

	return !pipe(ends) && went(fcntl(ends[0], F_SETOWN, BAIT_PID));
}

static int grandchild(unsigned long flags)
{
	long child = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);

	if (!child)
		_exit(0);
	return child > 0;
}

ATTACK(namespaces, users_by_unshare) { return went(unshare(CLONE_NEWUSER)); }
REAL(namespaces, mounts_by_unshare) { return went(unshare(CLONE_NEWNS)); }
REAL(namespaces, processes_by_unshare) { return went(unshare(CLONE_NEWPID)); }
ATTACK(namespaces, users_by_clone) { return grandchild(CLONE_NEWUSER); }
REAL(namespaces, mounts_by_clone) { return grandchild(CLONE_NEWNS); }
REAL(namespaces, network_by_clone) { return grandchild(CLONE_NEWNET); }
REAL(namespaces, others_by_clone) { return grandchild(CLONE_NEWUTS | CLONE_NEWIPC); }
ATTACK(namespaces, users_by_clone3)
{
	unsigned long long how[11] = { CLONE_NEWUSER, 0, 0, 0, SIGCHLD };
	long child = syscall(SYS_clone3, how, sizeof(how));

	if (!child)
		_exit(0);
	return child > 0;
}
REAL(namespaces, one_is_entered) { return went(setns(open("/proc/self/ns/uts", O_RDONLY), 0)); }
REAL(namespaces, memory_is_shared_again) { return went(unshare(CLONE_FILES)); }
