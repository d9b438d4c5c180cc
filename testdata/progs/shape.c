/* args: 1 300 | 2 300 | 3 300 */
/* quick: none */
/* Random calls change the mappings of a range, and after each the program prints
 * what it has there: how they split and join is the same whether they are watched
 * or not, and so is what each call returns. Now and then it saves what its memory
 * holds. args: SEED CALLS */
#include <sys/uio.h>
#include "mark.h"

#define RW (PROT_READ | PROT_WRITE)
#define N 48

static char *const base = (char *)0x60000000;
static uint32_t seed;

static uint32_t rnd(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed % n;
}

static char *somewhere(void) { return base + rnd(N) * PAGE; }

/* A byte anywhere in the range, mapped and writable or not. */
static void touch(void)
{
	char x = rnd(256);
	struct iovec from = {&x, 1}, to = {somewhere() + rnd(PAGE), 1};
	process_vm_writev(getpid(), &from, 1, &to, 1, 0);
}

static int change(int fd)
{
	static const int prots[] = {RW, RW, RW, PROT_READ, PROT_NONE, RW | PROT_EXEC};
	static const int advice[] = {MADV_DONTNEED, MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK,
		MADV_DONTDUMP, MADV_DODUMP, MADV_FREE, MADV_SEQUENTIAL, MADV_NORMAL};
	char *at = somewhere(), *to = somewhere();
	size_t len = (1 + rnd(6)) * PAGE, now = rnd(2) ? len : (1 + rnd(8)) * PAGE;
	int prot = prots[rnd(6)], type = rnd(4) ? MAP_PRIVATE : MAP_SHARED;
	switch (rnd(12)) {
	case 0:
	case 1:
	case 2:
		return mmap(at, len, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at;
	case 3:
		return mmap(at, len, prot, type | MAP_FIXED, fd, rnd(8) * PAGE) == at;
	case 4:
		return munmap(at, len) == 0;
	case 5:
	case 6:
		return mprotect(at, len, prot) == 0;
	case 7:
	case 8:
	case 9:
		return mremap(at, rnd(8) ? len : 0, now, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to;
	case 10:
		return mremap(at, len, now, 0) == at;
	}
	return madvise(at, len, advice[rnd(10)]) == 0;
}

int main(int argc, char **argv)
{
	char line[512];
	int mark = 1;
	CHECK(argc == 3);
	seed = atoi(argv[1]) * 2654435761u + 1;
	int fd = newfile("shape.dat", 64 * PAGE);
	for (int i = 0; i < atoi(argv[2]); i++) {
		int ok = change(fd), why = ok ? 0 : errno;
		printf("%d %d %d:", i, ok, why);
		for (int k = 0; k < 3; k++)
			touch();
		FILE *f = fopen("/proc/self/maps", "r");
		CHECK(f);
		struct {
			char *start;
			size_t len;
		} held[2 * N];
		int n = 0;
		while (fgets(line, sizeof line, f)) {
			unsigned long start, end, inode;
			char perms[8];
			CHECK(sscanf(line, "%lx-%lx %7s %*s %*s %lu", &start, &end, perms, &inode) == 4);
			if (start - (unsigned long)base >= 2 * N * PAGE)
				continue;
			printf(" %lx-%lx %s", start, end, perms);
			if (inode == 0 && perms[0] == 'r') {
				held[n].start = (char *)start;
				held[n++].len = end - start;
			}
		}
		fclose(f);
		puts("");
		for (int k = 0; i % 8 == 0 && k < n; k++)
			MARKMEM(mark++, held[k].start, held[k].len);
	}
	return 0;
}
