/* mprotect: splits in two and three, merges back, over several mappings, over
 * a hole (half done and then refused), of the program's own text and stack. */
#include "mark.h"

#define RW (PROT_READ | PROT_WRITE)

static int forty_two(void)
{
	return 42;
}

int main(void)
{
	int k = 1;
	char *p = anon(32 * PAGE, RW);
	MARK(k++);
	CHECK(mprotect(p + 8 * PAGE, 8 * PAGE, PROT_READ) == 0);
	MARK(k++);
	CHECK(mprotect(p + 10 * PAGE, PAGE, PROT_NONE) == 0);
	MARK(k++);
	CHECK(mprotect(p + 12 * PAGE, PAGE, RW | PROT_EXEC) == 0);
	MARK(k++);
	/* every other page, upwards, then back, downwards */
	for (int i = 0; i < 8; i += 2)
		CHECK(mprotect(p + i * PAGE, PAGE, PROT_READ) == 0);
	MARK(k++);
	for (int i = 6; i >= 0; i -= 2)
		CHECK(mprotect(p + i * PAGE, PAGE, RW) == 0);
	MARK(k++);
	CHECK(mprotect(p, 32 * PAGE, RW) == 0);
	MARK(k++);
	CHECK(mprotect(p, 32 * PAGE, RW) == 0);
	MARK(k++);
	/* a hole: what lies before it is changed, then ENOMEM */
	CHECK(munmap(p + 20 * PAGE, PAGE) == 0);
	CHECK(mprotect(p + 16 * PAGE, 8 * PAGE, PROT_READ) == -1 && errno == ENOMEM);
	MARK(k++);
	CHECK(mprotect(p + 1, PAGE, PROT_READ) == -1 && errno == EINVAL);
	CHECK(mprotect(p, 0, PROT_READ) == 0);
	/* a file without write permission, shared: refused, nothing changes */
	int fd = newfile("mprotect.dat", 4 * PAGE), ro = open("mprotect.dat", O_RDONLY | O_CLOEXEC);
	char *f = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, ro, 0);
	CHECK(f != MAP_FAILED && mprotect(f, 4 * PAGE, RW) == -1 && errno == EACCES);
	MARK(k++);
	/* private it may be written; a written private mapping no longer merges */
	f = mmap(NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	CHECK(f != MAP_FAILED && mprotect(f + PAGE, PAGE, RW) == 0);
	f[PAGE] = 'w';
	MARK(k++);
	CHECK(mprotect(f + PAGE, PAGE, PROT_READ) == 0);
	MARK(k++);
	/* the program's own text, and what it rests on */
	char *t = (char *)((uintptr_t)forty_two & ~(PAGE - 1));
	CHECK(mprotect(t, PAGE, RW | PROT_EXEC) == 0 && forty_two() == 42);
	MARK(k++);
	CHECK(mprotect(t, PAGE, PROT_READ | PROT_EXEC) == 0 && forty_two() == 42);
	MARK(k++);
	char here, *s = (char *)((uintptr_t)&here & ~(PAGE - 1));
	CHECK(mprotect(s, PAGE, RW | PROT_EXEC) == 0);
	MARK(k++);
	CHECK(mprotect(s, PAGE, RW | PROT_GROWSDOWN) == 0);
	MARK(k++);
	/* a reservation that is handed out piece by piece, as allocators do */
	p = anon(4096 * PAGE, PROT_NONE);
	for (int i = 0; i < 40; i++) {
		CHECK(mprotect(p + i * 100 * PAGE, (i % 3 + 1) * PAGE, RW) == 0);
		p[i * 100 * PAGE] = i;
	}
	MARK(k++);
	CHECK(munmap(p, 4096 * PAGE) == 0);
	MARK(k++);
	puts("mprotect ok");
	return 0;
}
