/* build: x86_64 i386 static */
/* The heap: brk up, down, to the same place, in parts of pages, against an
 * obstacle, and taken down from both ends by munmap and mprotect. */
#include "mark.h"

int main(void)
{
	char *start = sbrk(0), *p;
	MARK(1);
	CHECK(brk(start + 10) == 0);
	MARK(2);
	CHECK(brk(start + 8 * PAGE) == 0);
	memset(start, 1, 8 * PAGE);
	MARK(3);
	CHECK(brk(start + 8 * PAGE) == 0);
	MARK(4);
	CHECK(brk(start + 5 * PAGE + 1) == 0);
	CHECK(sbrk(0) == start + 5 * PAGE + 1);
	MARK(5);
	/* a hole in the heap, and another permission */
	p = (char *)(((uintptr_t)start + PAGE - 1) & ~(PAGE - 1)) + PAGE;
	CHECK(munmap(p, PAGE) == 0 && !mapped(p));
	MARK(6);
	CHECK(mprotect(p + PAGE, PAGE, PROT_READ) == 0);
	MARK(7);
	CHECK(brk(start + 64 * PAGE) == 0);
	MARK(8);
	/* nothing can grow over a mapping of somebody else's */
	char *top = (char *)(((uintptr_t)start + 64 * PAGE + PAGE - 1) & ~(PAGE - 1));
	char *wall = mmap(top + 4 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	CHECK(wall == top + 4 * PAGE);
	MARK(9);
	CHECK(brk(start + 80 * PAGE) == -1 && errno == ENOMEM);
	MARK(10);
	CHECK(munmap(wall, PAGE) == 0);
	CHECK(brk(start + 80 * PAGE) == 0);
	MARK(11);
	CHECK(brk(start) == 0);
	MARK(12);
	CHECK(brk(start + 1000 * PAGE) == 0);
	CHECK(brk(start) == 0);
	MARK(13);
	puts("brk ok");
	return 0;
}
