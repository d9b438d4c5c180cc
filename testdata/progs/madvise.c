/* madvise: advice that is a property of the mapping splits it, advice that is
 * an act does not; what a child gets of it. */
#include "mark.h"

#define RW (PROT_READ | PROT_WRITE)
#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#define GUARD_INSTALL 102
#define GUARD_REMOVE 103

int main(void)
{
	static const int splits[] = {MADV_DONTFORK, MADV_DONTDUMP, MADV_MERGEABLE, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
				     MADV_WIPEONFORK, MADV_SEQUENTIAL, MADV_RANDOM};
	static const int undo[] = {MADV_DOFORK, MADV_DODUMP, MADV_UNMERGEABLE, MADV_NOHUGEPAGE, MADV_HUGEPAGE,
				   MADV_KEEPONFORK, MADV_NORMAL, MADV_NORMAL};
	int k = 1;
	char *p = anon(64 * PAGE, RW);
	memset(p, 'm', 64 * PAGE);
	MARK(k++);
	for (unsigned i = 0; i < sizeof splits / sizeof *splits; i++) {
		int r = madvise(p + (4 + 2 * i) * PAGE, 2 * PAGE, splits[i]);
		CHECK(r == 0 || errno == EINVAL); /* the kernel may be built without it */
		MARK(k++);
	}
	for (unsigned i = 0; i < sizeof splits / sizeof *splits; i++) {
		int r = madvise(p + (4 + 2 * i) * PAGE, PAGE, undo[i]);
		CHECK(r == 0 || errno == EINVAL);
		MARK(k++);
	}
	/* acts */
	CHECK(madvise(p + 40 * PAGE, 2 * PAGE, MADV_DONTNEED) == 0 && p[40 * PAGE] == 0 && p[42 * PAGE] == 'm');
	MARK(k++);
	CHECK(madvise(p + 44 * PAGE, 2 * PAGE, MADV_FREE) == 0);
	MARK(k++);
	CHECK(madvise(p + 46 * PAGE, 2 * PAGE, MADV_COLD) == 0);
	madvise(p + 46 * PAGE, 2 * PAGE, MADV_PAGEOUT);
	CHECK(p[46 * PAGE] == 'm');
	MARK(k++);
	CHECK(madvise(p + 50 * PAGE, 2 * PAGE, MADV_POPULATE_WRITE) == 0 || errno == EINVAL);
	CHECK(madvise(p + 50 * PAGE, 2 * PAGE, MADV_POPULATE_READ) == 0 || errno == EINVAL);
	MARK(k++);
	/* guard pages: in the page tables, not in the mappings */
	if (madvise(p + 60 * PAGE, PAGE, GUARD_INSTALL) == 0) {
		int fds[2];
		CHECK(pipe(fds) == 0 && write(fds[1], p + 60 * PAGE, 1) == -1 && errno == EFAULT);
		MARK(k++);
		CHECK(madvise(p + 60 * PAGE, PAGE, GUARD_REMOVE) == 0 && p[60 * PAGE] == 0);
		close(fds[0]), close(fds[1]);
	}
	MARK(k++);
	/* a hole punched into shared memory */
	char *s = mmap(NULL, 8 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(s != MAP_FAILED);
	memset(s, 's', 8 * PAGE);
	CHECK(madvise(s + 2 * PAGE, 2 * PAGE, MADV_REMOVE) == 0 && s[2 * PAGE] == 0 && s[4 * PAGE] == 's');
	MARK(k++);
	/* over a hole: done on both sides, then ENOMEM */
	CHECK(munmap(p + 52 * PAGE, PAGE) == 0);
	CHECK(madvise(p + 51 * PAGE, 3 * PAGE, MADV_DONTDUMP) == -1 && errno == ENOMEM);
	MARK(k++);
	CHECK(madvise(p + 1, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
	/* a child has nothing where DONTFORK was, zeros where WIPEONFORK was */
	char *q = anon(8 * PAGE, RW);
	memset(q, 'q', 8 * PAGE);
	CHECK(madvise(q + 2 * PAGE, PAGE, MADV_DONTFORK) == 0);
	CHECK(madvise(q + 4 * PAGE, PAGE, MADV_WIPEONFORK) == 0);
	MARK(k++);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK(!mapped(q + 2 * PAGE) && q[4 * PAGE] == 0 && q[5 * PAGE] == 'q');
		MARK(100);
		_exit(0);
	}
	reap(pid, 0);
	MARK(k++);
	puts("madvise ok");
	return 0;
}
