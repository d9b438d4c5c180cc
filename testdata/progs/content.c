/* Memory whose every byte is known at marked steps: pages changed one by one,
 * made zero again, given back, read into, moved, copied, shared with a child. */
#include <sys/uio.h>
#include "mark.h"

#define RW (PROT_READ | PROT_WRITE)
#define N 64
#define HUGE (2UL << 20)

static unsigned char data_seg[8 * PAGE] __attribute__((aligned(4096))) = {1, 2, 3};
static unsigned char bss_seg[8 * PAGE];

static void fill(char *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1103515245 + 12345;
		p[i] = seed >> 16;
	}
}

/* Whole page tables, which the kernel moves as they are, small pages and, if it
 * likes, huge ones. */
static int tables(int k, int advice)
{
	const size_t size = 4 * HUGE;
	char *from = (char *)0x40000000, *to = (char *)0x50000000;
	CHECK(mmap(from, size, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == from);
	madvise(from, size, advice);
	from[HUGE] = 'a';
	from[2 * HUGE] = 'b';
	MARKMEM(k++, from + HUGE, PAGE);
	from[2 * HUGE + 1] = 'c';
	from[2 * HUGE + PAGE] = 'd';
	CHECK(mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	MARKMEM(k++, to + 2 * HUGE, 2 * PAGE);
	to[HUGE] = 'e';
	MARKMEM(k++, to + HUGE, 2 * PAGE);
	MARKMEM(k++, to + 2 * HUGE, 2 * PAGE);
	CHECK(munmap(to, size) == 0);
	return k;
}

/* How many mappings begin in a range. */
static int mappings(char *at, size_t n)
{
	char line[512];
	unsigned long start;
	int count = 0;
	FILE *f = fopen("/proc/self/maps", "r");
	CHECK(f);
	while (fgets(line, sizeof line, f))
		count += sscanf(line, "%lx-", &start) == 1 && start - (unsigned long)at < n;
	fclose(f);
	return count;
}

/* A mapping moved in two parts, and so again one: the kernel lets the first go from
 * the watch with the second. */
static int rejoined(int k)
{
	char *from = (char *)0x60000000, *to = (char *)0x68000000;
	CHECK(mmap(from, 8 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == from);
	for (int i = 0; i < 8; i++)
		from[i * PAGE] = 'a' + i;
	MARKMEM(k++, from, 8 * PAGE);
	CHECK(mremap(from, 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	CHECK(mremap(from + 3 * PAGE, PAGE, 5 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + 3 * PAGE) == to + 3 * PAGE);
	printf("moved in parts: mappings %d\n", mappings(to, 8 * PAGE));
	to[PAGE + 1] = 'A';
	MARKMEM(k++, to, 8 * PAGE);
	to[2 * PAGE + 1] = 'B';
	MARKMEM(k++, to, 8 * PAGE);
	MARKMEM(k++, from + 4 * PAGE, 4 * PAGE);
	CHECK(munmap(from, 8 * PAGE) == 0 && munmap(to, 8 * PAGE) == 0);
	return k;
}

int main(void)
{
	int k = 1;
	char *p = anon(N * PAGE, RW);
	MARKMEM(k++, p, N * PAGE);
	/* one page after the other, one byte, a whole page */
	for (int i = 0; i < 8; i++) {
		p[i * PAGE + i] = 'a' + i;
		MARKMEM(k++, p, N * PAGE);
	}
	fill(p + 20 * PAGE, 4 * PAGE, 1);
	MARKMEM(k++, p, N * PAGE);
	for (int i = 0; i < 8; i++) {
		p[21 * PAGE + 17 * i] ^= 0x55;
		MARKMEM(k++, p, N * PAGE);
	}
	/* to zero by writing, by giving back, by mapping anew */
	memset(p + 22 * PAGE, 0, PAGE);
	MARKMEM(k++, p, N * PAGE);
	CHECK(madvise(p + 20 * PAGE, 2 * PAGE, MADV_DONTNEED) == 0);
	MARKMEM(k++, p, N * PAGE);
	CHECK(mmap(p + 23 * PAGE, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
	MARKMEM(k++, p, N * PAGE);
	/* written by the kernel: read, pread, readv, and read across pages */
	int fd = newfile("content.dat", 16 * PAGE);
	CHECK(read(fd, p + 30 * PAGE + 100, 3 * PAGE) == 3 * PAGE);
	MARKMEM(k++, p, N * PAGE);
	CHECK(pread(fd, p + 34 * PAGE, 5, 2 * PAGE) == 5);
	struct iovec iov[2] = {{p + 35 * PAGE, 10}, {p + 37 * PAGE + 4090, 20}};
	CHECK(preadv(fd, iov, 2, 3 * PAGE) == 30);
	MARKMEM(k++, p, N * PAGE);
	/* read-only and unreadable memory keeps what it holds */
	CHECK(mprotect(p, 4 * PAGE, PROT_READ) == 0);
	MARKMEM(k++, p, 4 * PAGE);
	/* moved */
	char *q = mremap(p + 30 * PAGE, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED);
	MARKMEM(k++, q, 8 * PAGE);
	fill(q + 5 * PAGE, 100, 7);
	MARKMEM(k++, q, 8 * PAGE);
	CHECK(mremap(q, 8 * PAGE, 2 * PAGE, 0) == q);
	MARKMEM(k++, q, 2 * PAGE);
	/* a file, private: its own bytes until one is written */
	char *f = mmap(NULL, 16 * PAGE, RW, MAP_PRIVATE, fd, 0);
	CHECK(f != MAP_FAILED);
	f[3 * PAGE] = 'X';
	MARKMEM(k++, f + 3 * PAGE, PAGE);
	f[3 * PAGE + 1] = 'Y';
	f[5 * PAGE] = 'Z';
	MARKMEM(k++, f + 3 * PAGE, PAGE);
	MARKMEM(k++, f + 5 * PAGE, PAGE);
	/* data, bss, heap, stack */
	data_seg[0] = 9;
	data_seg[5 * PAGE] = 9;
	bss_seg[3 * PAGE] = 9;
	/* what nobody wrote to is in the file, and not in the log */
	MARKMEM(k++, data_seg, PAGE);
	MARKMEM(k++, data_seg + 5 * PAGE, PAGE);
	MARKMEM(k++, bss_seg + 3 * PAGE - 100, 200);
	char *h = malloc(100000);
	fill(h, 100000, 3);
	MARKMEM(k++, h, 100000);
	char here[3000];
	fill(here, sizeof here, 5);
	MARKMEM(k++, here, sizeof here);
	/* a child: what it changes is its own, but for what is shared */
	char *s = mmap(NULL, 8 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(s != MAP_FAILED);
	fill(s, 2 * PAGE, 11);
	MARKMEM(k++, s, 2 * PAGE);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		MARKMEM(200, p, 30 * PAGE);
		fill(p + 10 * PAGE, PAGE, 13);
		MARKMEM(201, p, 30 * PAGE);
		fill(s + 2 * PAGE, PAGE, 17);
		MARKMEM(202, s, 3 * PAGE);
		_exit(0);
	}
	reap(pid, 0);
	MARKMEM(k++, p, 30 * PAGE);
	MARKMEM(k++, s, 3 * PAGE);
	/* gone, and something else in its place */
	CHECK(munmap(p, 30 * PAGE) == 0);
	CHECK(mmap(p, 30 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
	MARKMEM(k++, p, 30 * PAGE);
	p[29 * PAGE] = 1;
	MARKMEM(k++, p, 30 * PAGE);
	k = tables(k, MADV_NOHUGEPAGE);
	k = tables(k, MADV_HUGEPAGE);
	k = rejoined(k);
	/* huge pages, where the machine has some set aside */
	char *g = mmap(NULL, HUGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	for (int i = 0; g != MAP_FAILED && i < 4; i++) {
		g[5 * PAGE + i] = 'a' + i;
		MARKMEM(k++, g, 8 * PAGE);
	}
	puts("content ok");
	return 0;
}
