/* quick: x86_64 i386 */
/* mmap and munmap: neighbours that merge and do not, MAP_FIXED over one, many
 * and parts of mappings, files with offsets, holes, failures that change
 * nothing. */
#include "mark.h"

#define AP (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

int main(void)
{
	int fd = newfile("mmap.dat", 16 * PAGE), k = 1;
	char *r = anon(64 * PAGE, PROT_NONE), *p;
	MARK(k++);
	for (int i = 0; i < 8; i++) {
		CHECK(mmap(r + 4 * i * PAGE, PAGE << (i & 1), RW, AP | MAP_FIXED, -1, 0) == r + 4 * i * PAGE);
		r[4 * i * PAGE] = i;
		MARK(k++);
	}
	/* over several of them at once, and over parts of the first and the last */
	CHECK(mmap(r + PAGE, 14 * PAGE, PROT_READ, AP | MAP_FIXED, -1, 0) == r + PAGE);
	CHECK(r[4 * PAGE] == 0 && r[0] == 0);
	MARK(k++);
	/* a file in the middle, then its next pages beside it (merges), then others (does not) */
	CHECK(mmap(r + 20 * PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 4 * PAGE) == r + 20 * PAGE);
	CHECK(r[20 * PAGE] == '4');
	MARK(k++);
	CHECK(mmap(r + 22 * PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 6 * PAGE) == r + 22 * PAGE);
	MARK(k++);
	CHECK(mmap(r + 24 * PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 9 * PAGE) == r + 24 * PAGE);
	MARK(k++);
	CHECK(mmap(r + 26 * PAGE, 2 * PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0) == r + 26 * PAGE);
	MARK(k++);
	CHECK(mmap(r + 28 * PAGE, 2 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == r + 28 * PAGE);
	MARK(k++);
	/* a hole in the file's middle, and the same pages back into it */
	CHECK(munmap(r + 21 * PAGE, 2 * PAGE) == 0 && !mapped(r + 21 * PAGE) && mapped(r + 23 * PAGE));
	MARK(k++);
	CHECK(mmap(r + 21 * PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, 5 * PAGE) == r + 21 * PAGE);
	MARK(k++);
	/* failures */
	CHECK(mmap(r, PAGE, RW, AP | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED && errno == EEXIST);
	CHECK(mmap(r + 1, PAGE, RW, AP | MAP_FIXED, -1, 0) == MAP_FAILED && errno == EINVAL);
	CHECK(mmap(NULL, PAGE, RW, MAP_PRIVATE, 9999, 0) == MAP_FAILED && errno == EBADF);
	CHECK(mmap(NULL, 0, RW, AP, -1, 0) == MAP_FAILED && errno == EINVAL);
	CHECK(munmap(r + 1, PAGE) == -1 && errno == EINVAL);
	MARK(k++);
	/* a length that is no multiple of the page, an address that is only a hint */
	p = mmap(r + 40 * PAGE, PAGE + 1, RW, AP, -1, 0);
	CHECK(p != MAP_FAILED && mapped(p + PAGE));
	MARK(k++);
	CHECK(munmap(p, 1) == 0 && !mapped(p) && mapped(p + PAGE));
	MARK(k++);
	/* everything at once, over holes */
	CHECK(munmap(r, 64 * PAGE) == 0 && munmap(r, 64 * PAGE) == 0);
	MARK(k++);
	/* the descriptor may go, the mapping stays */
	p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	CHECK(p != MAP_FAILED);
	close(fd);
	MARK(k++);
	for (int i = 1; i < 16; i += 2)
		CHECK(munmap(p + i * PAGE, PAGE) == 0);
	MARK(k++);
	puts("mmap ok");
	return 0;
}
