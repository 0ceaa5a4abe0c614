/* What a stranger's code may use up. Each attack is bounded: an open sandbox would survive it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MB (1L << 20)
#define PART (8 * MB)

static void through(void)
{
	puts("through");
	fflush(stdout);
	sleep(5);
}

static char *some(int how)
{
	char *part = mmap(0, PART, PROT_READ | PROT_WRITE, how | MAP_ANONYMOUS, -1, 0);

	if (part == MAP_FAILED)
		exit(3);
	memset(part, 1, PART);
	usleep(10000);
	return part;
}

static void *eat(void *unused)
{
	for (int n = 0; n < 96; n++)
		some(MAP_PRIVATE);
	through();
	_exit(0);
}

/* Memory that stays, though the process does not show it. */
static void shared(void)
{
	for (int n = 0; n < 96; n++)
		madvise(some(MAP_SHARED), PART, MADV_DONTNEED);
	through();
}

static void unmapped(void)
{
	for (int n = 0; n < 96; n++)
		munmap(some(MAP_SHARED) + 4096, PART - 4096);
	through();
}

/* Page tables: each of these pages is the one that is zero. */
static void tables(void)
{
	long size = 200L << 30;
	volatile char *start = mmap(0, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				    -1, 0);

	madvise((void *)start, size, MADV_NOHUGEPAGE);
	for (long n = 0; n < size; n += 2 * MB) {
		(void)start[n];
		if (n % (1L << 30) == 0)
			usleep(10000);
	}
	through();
}

static void links(void)
{
	char name[32];

	for (int n = 0; n < 200000; n++) {
		sprintf(name, "link%d", n);
		if (symlink("x", name))
			break;
	}
	through();
}

/* A process without its first thread shows nothing of its memory. */
static void leader(void)
{
	pthread_t other;

	pthread_create(&other, 0, eat, 0);
	pthread_exit(0);
}

static void untraced(void)
{
	prctl(PR_SET_DUMPABLE, 0);
	eat(0);
}

static void *idle(void *unused)
{
	sleep(5);
	return 0;
}

static void threads(void)
{
	pthread_attr_t small;
	pthread_t one;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (int n = 0; n < 300; n++)
		if (pthread_create(&one, &small, idle, 0))
			break;
	sleep(3);
	through();
}

/* The time of children that nobody waits for is lost: long ones, and very short ones. */
static void burn(int number, int parts)
{
	signal(SIGCHLD, SIG_IGN);
	for (int n = 0; n < number; n++) {
		pid_t child = fork();

		if (!child) {
			clock_t end = clock() + CLOCKS_PER_SEC / parts;

			while (clock() < end)
				;
			_exit(0);
		}
		while (!kill(child, 0))
			usleep(500);
	}
	through();
}

static void places(void)
{
	static const char *const names[] = { "/build/x", "/tmp/x", "/dev/shm/x" };
	static char full[65536];

	for (int i = 0; i < 3; i++) {
		int file = open(names[i], O_CREAT | O_WRONLY, 0600);

		for (int n = 0; n < 24 * 16; n++)
			if (write(file, full, sizeof(full)) < 0 || usleep(1000))
				break;
	}
	through();
}

/* What the kernel refuses by a limit of each process. */
static void refused(void)
{
	struct rlimit limit;
	struct mq_attr attr = { .mq_maxmsg = 8, .mq_msgsize = 4096 };
	int n = 0;

	while (n < 5000 && open("/dev/null", O_RDONLY) >= 0)
		n++;
	printf("%s files\n", n < 1024 ? "few" : "many");
	printf("%s queue\n", mq_open("/x", O_CREAT | O_RDWR, 0600, &attr) < 0 ? "no" : "a");
	limit.rlim_cur = limit.rlim_max = RLIM_INFINITY;
	printf("%s\n", setrlimit(RLIMIT_NOFILE, &limit) ? "stays so" : "raised");
	printf("%s locked\n", mlock(malloc(16 * MB), 16 * MB) ? "not" : "is");
}

int main(int count, char **words)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} all[] = {
		{ "shared", shared },	  { "unmapped", unmapped }, { "tables", tables },
		{ "links", links },	    { "leader", leader },
		{ "untraced", untraced }, { "threads", threads },   { "places", places },
		{ "refused", refused },
	};

	setvbuf(stdout, 0, _IOLBF, 0);
	puts("begun");
	if (!strcmp(words[1], "lost"))
		burn(20, 3);
	if (!strcmp(words[1], "lost-short"))
		burn(300, 40);
	for (unsigned int n = 0; n < sizeof(all) / sizeof(*all); n++)
		if (!strcmp(words[1], all[n].name))
			all[n].run();
	return 0;
}
