/* Odd kinds of mapping: growing down by a fault, not reserved, huge, populated,
 * locked, low, special files, a terabyte of nothing. */
#include "mark.h"

#define AP (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

int main(void)
{
	/* a mapping that grows down when touched below, with no call at all */
	char *r = anon(1024 * PAGE, PROT_NONE), *g = r + 1000 * PAGE, *p;
	CHECK(munmap(r, 1024 * PAGE) == 0);
	CHECK(mmap(g, 4 * PAGE, RW, AP | MAP_GROWSDOWN | MAP_FIXED, -1, 0) == g);
	MARK(1);
	for (int i = 0; i < 10; i++)
		*(volatile char *)(g - i * PAGE) = i;
	CHECK(mapped(g - 9 * PAGE));
	MARK(2);
	for (int i = 10; i < 200; i++)
		*(volatile char *)(g - i * PAGE) = i;
	MARK(3);
	CHECK(munmap(r, 1024 * PAGE) == 0);
	MARK(4);

	p = mmap(NULL, 256 << 20, RW, AP | MAP_NORESERVE, -1, 0);
	CHECK(p != MAP_FAILED);
	p[100 << 20] = 1;
	MARK(5);
#ifdef __x86_64__
	p = mmap(NULL, 1UL << 40, PROT_NONE, AP | MAP_NORESERVE, -1, 0);
	CHECK(p != MAP_FAILED);
	CHECK(mprotect(p + (1UL << 39), 1 << 20, RW) == 0);
	p[1UL << 39] = 1;
	MARK(6);
	CHECK(munmap(p, 1UL << 40) == 0);
	MARK(7);
	p = mmap(NULL, PAGE, RW, AP | MAP_32BIT, -1, 0);
	CHECK(p != MAP_FAILED && (uintptr_t)p < 1UL << 32);
	MARK(8);
#endif
	p = mmap(NULL, 16 * PAGE, RW, AP | MAP_POPULATE, -1, 0);
	CHECK(p != MAP_FAILED);
	MARK(9);
	p = mmap(NULL, 2 * PAGE, RW, AP | MAP_LOCKED, -1, 0); /* may be refused: RLIMIT_MEMLOCK */
	MARK(10);
	p = mmap(NULL, 64 * PAGE, RW, AP | MAP_STACK, -1, 0);
	CHECK(p != MAP_FAILED);
	MARK(11);
	int z = open("/dev/zero", O_RDWR | O_CLOEXEC);
	if (z >= 0) {
		CHECK(mmap(NULL, 2 * PAGE, RW, MAP_PRIVATE, z, 0) != MAP_FAILED);
		MARK(12);
		CHECK(mmap(NULL, 2 * PAGE, RW, MAP_SHARED, z, 0) != MAP_FAILED);
		MARK(13);
	}
	/* hugetlb, where the machine has any to give */
	p = mmap(NULL, 2 << 20, RW, AP | MAP_HUGETLB, -1, 0);
	if (p != MAP_FAILED) {
		p[0] = 1;
		MARK(14);
		CHECK(munmap(p, 2 << 20) == 0);
	}
	MARK(15);
	/* fork, DONTFORK-less: a growing mapping and a shared one in a child */
	fflush(stdout);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		MARK(16);
		_exit(0);
	}
	reap(pid, 0);
	puts("mmapodd ok");
	return 0;
}
