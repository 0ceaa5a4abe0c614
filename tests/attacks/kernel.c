/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel offers: privileges, sockets, shared memory, large surfaces, other numbers. */
#include "attack.h"
#include <linux/capability.h>
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/swap.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <netinet/in.h>
#include <grp.h>

ATTACK(privileges, root_is_had) { return !setuid(0) || !setresuid(0, 0, 0) || !setfsuid(0); }
ATTACK(privileges, groups_are_had) { return !setgroups(1, (gid_t [1]){ 0 }); }
ATTACK(privileges, capabilities_are_had)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct all[2] = { { ~0, ~0, ~0 }, { ~0, ~0, ~0 } };

	return !syscall(SYS_capset, &head, all);
}
ATTACK(privileges, new_ones_are_had) { return !prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0); }
ATTACK(privileges, ambient_ones) { return !prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 1, 0, 0); }
ATTACK(privileges, bits_are_set) { return !prctl(PR_SET_SECUREBITS, 0, 0, 0, 0); }
REAL(privileges, read_means_execute) { return went(personality(READ_IMPLIES_EXEC)); }
REAL(privileges, orphans_are_adopted) { return !prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }

static int family(int number) { return went(socket(number, SOCK_RAW, 0)) ||
	went(socket(number, SOCK_DGRAM, 0)) || went(socket(number, SOCK_SEQPACKET, 0)); }

REAL(network, inet) { return family(AF_INET); }
REAL(network, netlink) { return family(AF_NETLINK); }
REAL(network, packet) { return family(AF_PACKET); }
REAL(network, unix_) { return family(AF_UNIX); }
ATTACK(network, inet6) { return family(AF_INET6); }
ATTACK(network, vsock) { return family(AF_VSOCK); }
ATTACK(network, alg) { return family(AF_ALG); }
ATTACK(network, every_other)
{
	int found = 0;

	for (int number = 0; number < 64; number++)
		if (family(number))
			found = printf("family %d\n", number);
	return found;
}
REAL(network, a_pair) { return !socketpair(AF_UNIX, SOCK_STREAM, 0, (int [2]){ 0 }); }
REAL(network, an_abstract_name)
{
	struct sockaddr_un to = { AF_UNIX, "\0" BAIT_ABSTRACT };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	return !connect(fd, (void *)&to, offsetof(struct sockaddr_un, sun_path) + sizeof(BAIT_ABSTRACT));
}
REAL(network, loopback)
{
	struct sockaddr_in to = { AF_INET, htons(BAIT_PORT), { htonl(INADDR_LOOPBACK) } };

	return !connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&to, sizeof(to));
}

REAL(ipc, memory_of_others)
{
	char *there = shmat(shmget(BAIT_IPC, 0, 0), 0, SHM_RDONLY);

	return there != (void *)-1 && printf("memory: %s\n", there);
}
REAL(ipc, messages_of_others)
{
	struct { long kind; char text[100]; } got = { 0 };

	return went(msgrcv(msgget(BAIT_IPC, 0), &got, 100, 0, IPC_NOWAIT | MSG_NOERROR)) &&
	       printf("message: %s\n", got.text);
}
ATTACK(ipc, own_memory) { return went(shmget(IPC_PRIVATE, 4096, 0600)); }
ATTACK(ipc, own_messages) { return went(msgget(IPC_PRIVATE, 0600)); }
ATTACK(ipc, own_semaphores) { return went(semget(IPC_PRIVATE, 1, 0600)); }
ATTACK(ipc, own_queue) { return went(mq_open("/evil", O_CREAT | O_RDWR, 0600, 0)); }
REAL(ipc, memory_without_a_name) { return went(memfd_create("x", 0)); }
ATTACK(ipc, secret_memory) { return went(syscall(SYS_memfd_secret, 0)); }
REAL(ipc, posix_memory_of_others) { return shown("/dev/shm/" BAIT_ABSTRACT); }

REAL(surfaces, io_uring) { return went(syscall(SYS_io_uring_setup, 1, (char [120]){ 0 })); }
REAL(surfaces, bpf) { return went(syscall(SYS_bpf, 0, (int [30]){ 2, 4, 4, 1 }, 72)); }
ATTACK(surfaces, perf)
{
	return went(syscall(SYS_perf_event_open, (int [32]){ 1, 128 }, 0, -1, -1, 0));
}
ATTACK(surfaces, userfaultfd) { return went(syscall(SYS_userfaultfd, 1)); }
REAL(surfaces, aio) { return went(syscall(SYS_io_setup, 1, (long [1]){ 0 })); }
REAL(surfaces, vmsplice)
{
	struct { void *base; size_t size; } one = { "x", 1 };
	int ends[2];

	return !pipe(ends) && went(syscall(SYS_vmsplice, ends[1], &one, 1, 0));
}
ATTACK(surfaces, splice)
{
	int ends[2];

	return !pipe(ends) &&
	       went(syscall(SYS_splice, open("/usr/bin/env", O_RDONLY), 0, ends[1], 0, 1, 0));
}
ATTACK(surfaces, filters) { return went(syscall(SYS_seccomp, 0, 0, 0)); }
REAL(surfaces, larger_pipes)
{
	int ends[2];

	return !pipe(ends) && went(fcntl(ends[1], F_SETPIPE_SZ, 1 << 18));
}
ATTACK(surfaces, numbers_that_nobody_knows)
{
	int found = 0;

	for (long call = 470; call < 1000; call++)
		if (syscall(call, 0, 0, 0, 0, 0, 0) != -1 || errno != ENOSYS)
			found = printf("call %ld\n", call);
	return found;
}

REAL(kernel, log_is_read) { return went(klogctl(3, (char [100]){ 0 }, 99)); }
ATTACK(kernel, log_is_cleared) { return went(klogctl(5, 0, 0)); }
ATTACK(kernel, module_is_loaded) { return went(syscall(SYS_init_module, "", 0, "")); }
ATTACK(kernel, module_is_removed) { return went(syscall(SYS_delete_module, "x", 0)); }
ATTACK(kernel, another_is_loaded) { return went(syscall(SYS_kexec_load, 0, 0, 0, 0)); }
ATTACK(kernel, keys_are_disarmed) { return went(reboot(RB_DISABLE_CAD)); }
ATTACK(kernel, swap_is_taken) { return went(swapoff("/swap")); }
ATTACK(kernel, accounting_is_off) { return went(acct(0)); }
ATTACK(kernel, name_is_changed) { return went(sethostname("evil", 4)); }
ATTACK(kernel, time_is_changed) { return went(syscall(SYS_clock_settime, 0, (long [2]){ 1 })); }
REAL(kernel, memory_is_locked) { return !mlockall(MCL_CURRENT); }

REAL(proc, command_line) { return shown("/proc/cmdline"); }
REAL(proc, who_built_it) { return shown("/proc/version"); }
REAL(proc, boot_id) { return shown("/proc/sys/kernel/random/boot_id"); }
REAL(proc, settings) { return shown("/proc/sys/kernel/core_pattern"); }
REAL(proc, symbols) { return shown("/proc/kallsyms"); }
REAL(proc, swap) { return shown("/proc/swaps"); }
REAL(proc, pages) { return went(open("/proc/kpageflags", O_RDONLY)); }
REAL(proc, crash_handler) { return writable("/proc/sys/kernel/core_pattern"); }
REAL(proc, module_loader) { return writable("/proc/sys/kernel/modprobe"); }
ATTACK(proc, emergency_key) { return writable("/proc/sysrq-trigger"); }
ATTACK(proc, all_memory) { return went(open("/proc/kcore", O_RDONLY)); }
ATTACK(proc, last_to_be_killed)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY);

	return write(fd, "-1000", 5) == 5;
}
REAL(proc, machine_by_sys) { return shown("/sys/kernel/notes") || !access("/sys/class", F_OK); }
REAL(proc, machine_by_etc) { return shown("/etc/passwd") || shown("/etc/machine-id"); }
REAL(proc, machine_by_uname)
{
	struct utsname name;

	uname(&name);
	return !strcmp(name.nodename, BAIT_HOST);
}

#ifdef __x86_64__
ATTACK(numbers, of_i386)
{
	long got;

	asm volatile("int $0x80" : "=a"(got) : "a"(20L) : "memory"); /* getpid */
	errno = -got;
	return got > 0;
}
ATTACK(numbers, of_x32) { return went(syscall(0x40000000 | SYS_getpid)); }
ATTACK(numbers, of_i386_with_namespaces)
{
	long got;

	asm volatile("int $0x80" : "=a"(got) : "a"(310L), "b"(0x10000000L) : "memory"); /* unshare */
	errno = -got;
	return got == 0;
}
#endif
ATTACK(numbers, below_zero) { return went(syscall(-1L)) || errno != ENOSYS; }
