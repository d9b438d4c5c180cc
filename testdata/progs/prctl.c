/* Names that a program gives its own memory, and its start and end of heap and
 * data as it tells the kernel (root). */
#include <sys/prctl.h>
#include "mark.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static int name(char *p, size_t n, const char *s)
{
	return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, (unsigned long)p, n, (unsigned long)s);
}

int main(void)
{
	char *p = anon(16 * PAGE, PROT_READ | PROT_WRITE);
	MARK(1);
	if (name(p + 2 * PAGE, 2 * PAGE, "buffers") == 0) {
		MARK(2);
		CHECK(name(p + 4 * PAGE, 2 * PAGE, "buffers") == 0);
		MARK(3);
		CHECK(name(p + 5 * PAGE, 2 * PAGE, "a name with spaces: 50% <x>") == 0);
		MARK(4);
		CHECK(name(p + 2 * PAGE, PAGE, NULL) == 0);
		MARK(5);
		CHECK(name(p, PAGE, "bad[name]") == -1 && errno == EINVAL);
		char *s = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		CHECK(s != MAP_FAILED);
		CHECK(name(s, PAGE, "shared") == 0 || errno == EBADF);
		MARK(6);
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			MARK(7);
			_exit(0);
		}
		reap(pid, 0);
	} else {
		/* built without CONFIG_ANON_VMA_NAME */
		CHECK(errno == EINVAL);
	}
	/* PR_SET_MM: where the heap is said to begin is what "[heap]" means */
	char *brk0 = sbrk(0);
	CHECK(brk(brk0 + 16 * PAGE) == 0);
	MARK(8);
	if (prctl(PR_SET_MM, PR_SET_MM_START_BRK, (unsigned long)brk0 - PAGE, 0, 0) == 0) {
		MARK(9);
		prctl(PR_SET_MM, PR_SET_MM_START_BRK, (unsigned long)brk0, 0, 0);
		MARK(10);
		prctl(PR_SET_MM, PR_SET_MM_START_STACK, (unsigned long)p, 0, 0);
		MARK(11);
	}
	prctl(PR_SET_NAME, "renamed", 0, 0, 0);
	MARK(12);
	puts("prctl ok");
	return 0;
}
