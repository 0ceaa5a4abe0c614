/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs each attack in a process of its own: `kind/name: out|held|died (why)`. */
#include "attack.h"

extern const struct attack __start_attacks[], __stop_attacks[];

int main(int argc, char **argv)
{
	for (const struct attack *one = __start_attacks; one < __stop_attacks; one++) {
		int status = 0, child;

		if (argc > 1 && !one->real)
			continue;
		fflush(stdout);
		while ((child = fork()) < 0)
			usleep(10000); /* others have all processes that there may be */
		if (!child) {
			int got;

			alarm(5);
			errno = 0;
			got = one->run();
			printf("%s/%s: %s (%s)\n", one->kind, one->name, got ? "out" : "held",
			       strerror(errno));
			fflush(stdout);
			_exit(0);
		}
		waitpid(child, &status, 0);
		if (status)
			printf("%s/%s: died (%d)\n", one->kind, one->name, status);
	}
	return 0;
}
