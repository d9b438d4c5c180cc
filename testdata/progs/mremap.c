/* quick: x86_64 i386 */
/* mremap: in place, moved, shrunk, to a chosen place over others, of part of a
 * mapping, duplicated, left behind, of files and shared memory. */
#include "mark.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#define RW (PROT_READ | PROT_WRITE)

int main(void)
{
	int fd = newfile("mremap.dat", 16 * PAGE);
	char *r = anon(256 * PAGE, PROT_NONE), *p, *q;
	/* room to grow in place: a hole right above */
	CHECK(munmap(r, 256 * PAGE) == 0);
	p = mmap(r, 4 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(p == r);
	for (int i = 0; i < 4; i++)
		p[i * PAGE] = 'a' + i;
	MARK(1);
	CHECK(mremap(p, 4 * PAGE, 8 * PAGE, 0) == p);
	MARK(2);
	CHECK(mremap(p, 8 * PAGE, 3 * PAGE, 0) == p && !mapped(p + 3 * PAGE));
	MARK(3);
	/* no room: refused, then moved */
	CHECK(mmap(p + 3 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == p + 3 * PAGE);
	CHECK(mremap(p, 3 * PAGE, 6 * PAGE, 0) == MAP_FAILED && errno == ENOMEM);
	MARK(4);
	q = mremap(p, 3 * PAGE, 6 * PAGE, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && q != p && q[2 * PAGE] == 'c' && !mapped(p));
	MARK(5);
	/* to a chosen place, over two other mappings and a hole */
	CHECK(mmap(r + 40 * PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == r + 40 * PAGE);
	CHECK(mmap(r + 43 * PAGE, 8 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == r + 43 * PAGE);
	MARK(6);
	p = mremap(q, 6 * PAGE, 5 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, r + 41 * PAGE);
	CHECK(p == r + 41 * PAGE && p[0] == 'a' && p[PAGE] == 'b' && !mapped(q));
	MARK(7);
	/* the middle of a mapping: three pieces */
	q = mremap(p + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, r + 100 * PAGE);
	CHECK(q == r + 100 * PAGE && q[0] == 'b' && mapped(p) && !mapped(p + PAGE) && mapped(p + 2 * PAGE));
	MARK(8);
	/* part of a mapping grown: the rest stays where it is */
	q = mremap(p + 2 * PAGE, PAGE, 4 * PAGE, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && q[0] == 'c');
	MARK(9);
	/* moved, its pages gone from where it was, the mapping left behind */
	q = mremap(p + 3 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	if (q == MAP_FAILED)
		CHECK(errno == EINVAL);
	else
		CHECK(mapped(p + 3 * PAGE) && p[3 * PAGE] == 0);
	MARK(10);
	/* files keep their offsets */
	p = mmap(NULL, 8 * PAGE, PROT_READ, MAP_SHARED, fd, 2 * PAGE);
	CHECK(p != MAP_FAILED);
	q = mremap(p + 3 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, r + 120 * PAGE);
	CHECK(q == r + 120 * PAGE && q[0] == '5');
	MARK(11);
	q = mremap(q, 2 * PAGE, 9 * PAGE, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && q[2 * PAGE] == '7');
	MARK(12);
	/* an old size of 0 duplicates a shared mapping */
	p = mmap(NULL, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	p[0] = 'S';
	q = mremap(p, 0, 4 * PAGE, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && q != p && q[0] == 'S');
	MARK(13);
	/* a size that is no multiple of the page, and failures */
	p = anon(4 * PAGE, RW);
	CHECK(mremap(p, 4 * PAGE, 2 * PAGE + 5, 0) == p && mapped(p + 2 * PAGE) && !mapped(p + 3 * PAGE));
	MARK(14);
	CHECK(mremap(r + 200 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
	CHECK(mremap(p + 1, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
	CHECK(mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p) == MAP_FAILED && errno == EINVAL);
	MARK(15);
	/* large, up and down */
	p = anon(16 << 20, RW);
	memset(p, 7, 16 << 20);
	MARK(16);
	q = mremap(p, 16 << 20, 48 << 20, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && q[(16 << 20) - 1] == 7);
	MARK(17);
	CHECK(mremap(q, 48 << 20, 1 << 20, 0) == q);
	MARK(18);
	puts("mremap ok");
	return 0;
}
