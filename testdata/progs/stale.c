/* Shared memory that its parent writes to after the fork and that the child has
 * not touched: at the child's bare mark the pages at 0x10000000 and 0x20000000
 * (a private mapping of a memfd) hold B. */
#include "mark.h"

#define RW (PROT_READ | PROT_WRITE)

int main(void)
{
	char *p = (char *)0x10000000, *q = (char *)0x20000000, c;
	int there[2], back[2], st, fd = memfd_create("stale", 0);
	CHECK(fd >= 0 && ftruncate(fd, 2 * PAGE) == 0);
	CHECK(pipe(there) == 0 && pipe(back) == 0);
	CHECK(mmap(p, 2 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
	char *w = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, fd, 0);
	CHECK(w != MAP_FAILED);
	CHECK(mmap(q, 2 * PAGE, RW, MAP_PRIVATE | MAP_FIXED, fd, 0) == q);
	memset(p, 'A', 2 * PAGE);
	memset(w, 'A', 2 * PAGE);
	CHECK(*(volatile char *)q == 'A');
	getppid();
	getppid();
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK(read(there[0], &c, 1) == 1);
		getppid();
		rawcall(SYS_write, -1, MAGIC + 99, 0, 0);
		_exit(0);
	}
	memset(p, 'B', 2 * PAGE);
	memset(w, 'B', 2 * PAGE);
	getppid();
	rawcall(SYS_write, -1, MAGIC + 99, 0, 0);
	CHECK(write(there[1], "x", 1) == 1);
	CHECK(waitpid(pid, &st, 0) == pid && st == 0);
	puts("stale ok");
	return 0;
}
