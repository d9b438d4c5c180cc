/* build: none */
/*
 * reserve.c GIB PROT END: reserves that much address space, uses little of it, and says how
 * many KiB of page tables it has: before and after what memtrace does for it. PROT is
 * "none" or "rw". END is "runs", or "signal": somebody who shares the memory dies of a
 * fatal signal, or "exits".
 */
#include "mark.h"

static long tables(void)
{
	static char b[8192];
	int fd = open("/proc/self/status", O_RDONLY);
	ssize_t n = read(fd, b, sizeof b - 1);
	CHECK(fd >= 0 && n > 0 && close(fd) == 0);
	b[n] = 0;
	return atol(strstr(b, "VmPTE:") + 6);
}

static char stack[64 << 10] __attribute__((aligned(16)));

static int ends(void *signal)
{
	if (signal)
		raise(SIGABRT);
	_exit(0);
}

int main(int argc, char **argv)
{
	CHECK(argc > 3);
	size_t n = strtoul(argv[1], NULL, 0) << 30;
	int signal = !strcmp(argv[3], "signal");
	char *p = mmap(NULL, n, !strcmp(argv[2], "rw") ? PROT_READ | PROT_WRITE : PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		SKIP("cannot reserve that much");
	for (size_t i = 0; i < 64; i++) {
		char *q = p + n / 64 * i;
		CHECK(mprotect(q, 8 * PAGE, PROT_READ | PROT_WRITE) == 0);
		q[0] = q[5 * PAGE] = i;
		getppid();
	}
	for (int i = 0; i < 60; i++) {
		p[i] = i;
		nap(3);
	}
	if (strcmp(argv[3], "runs")) {
		pid_t child = clone(ends, stack + sizeof stack, CLONE_VM | SIGCHLD, signal ? p : NULL);
		CHECK(child > 0);
		int st;
		CHECK(waitpid(child, &st, 0) == child);
		CHECK(signal ? WIFSIGNALED(st) && WTERMSIG(st) == SIGABRT : st == 0);
	}
	printf("%ld\n", tables());
	return 0;
}
