/* build: none */
/*
 * pagewrites.c HOW: writes to pages, in ways that a test knows, of regions whose addresses
 * it prints. Without HOW:
 *
 *   read     16 pages that were only read, then 8 of them written
 *   call     16 pages that read(2) fills
 *   shared   16 pages of shared memory
 *   again    16 pages written, given back, and written again
 *   child    16 pages written before a fork, 8 of them then by the child
 *   moved    16 pages written, moved with mremap, 8 of them written then
 *
 * "own": it makes a userfaultfd of its own. "spin": it writes all the time, without a
 * call, until it is killed.
 */
#include "mark.h"

#define N 16
#define SIZE (N * PAGE)

static char *region(const char *name, int flags)
{
	anon(PAGE, PROT_NONE); /* no two of them are one mapping */
	char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	printf("%s %p\n", name, (void *)p);
	fflush(stdout);
	return p;
}

static void touch(volatile char *p, int n)
{
	for (int i = 0; i < n; i++)
		p[i * PAGE + 8]++;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "own")) {
		int fd = syscall(SYS_userfaultfd, O_CLOEXEC | 1);
		if (fd < 0)
			SKIP("no userfaultfd");
	}
	volatile char *p = region("read", MAP_PRIVATE);
	int sum = 0;
	for (int i = 0; i < N; i++)
		sum += p[i * PAGE];
	touch(p, N / 2);
	if (argc > 1 && !strcmp(argv[1], "spin"))
		for (;;)
			touch(p, N);

	char *b = region("call", MAP_PRIVATE);
	int fd = open("/dev/zero", O_RDONLY);
	CHECK(fd >= 0 && read(fd, b, SIZE) == (ssize_t)SIZE);

	touch(region("shared", MAP_SHARED), N);

	p = region("again", MAP_PRIVATE);
	touch(p, N);
	CHECK(madvise((void *)p, SIZE, MADV_DONTNEED) == 0);
	touch(p, N);

	p = region("child", MAP_PRIVATE);
	touch(p, N);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		getppid(); /* from here on its writes are recorded */
		touch(p, N / 2);
		_exit(0);
	}
	reap(pid, 0);

	p = region("from", MAP_PRIVATE);
	touch(p, N);
	char *to = region("moved", MAP_PRIVATE);
	CHECK(mremap((void *)p, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	touch(to, N / 2);
	return sum;
}
