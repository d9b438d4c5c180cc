/* build: x86_64 */
/* 32-bit calls from a 64-bit program: int 0x80 has its own numbers, whatever
 * the program was built for. */
#include "mark.h"

static long i386(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;
	register long r8 __asm__("r8") = f;
	__asm__ volatile("push %%rbp\n\tmov %%r8, %%rbp\n\tint $0x80\n\tpop %%rbp"
			 : "=a"(ret), "+r"(r8)
			 : "0"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory", "r9", "r10", "r11");
	return (int)ret < 0 && (int)ret > -4096 ? (int)ret : ret & 0xffffffff;
}

enum { I_write = 4, I_getpid = 20, I_brk = 45, I_oldmmap = 90, I_munmap = 91, I_mprotect = 125, I_mremap = 163, I_mmap2 = 192 };

int main(void)
{
	if (i386(I_getpid, 0, 0, 0, 0, 0, 0) != getpid())
		SKIP("this kernel has no 32-bit calls");
	MARK(1);
	long p = i386(I_mmap2, 0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p > 0 && mapped((char *)p));
	*(char *)p = 1;
	MARK(2);
	int fd = newfile("int80.dat", 4 * PAGE);
	long f = i386(I_mmap2, 0, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, 2);
	CHECK(f > 0 && *(char *)f == '2');
	MARK(3);
	CHECK(i386(I_mprotect, p + PAGE, PAGE, PROT_READ, 0, 0, 0) == 0);
	MARK(4);
	long q = i386(I_mremap, p + 4 * PAGE, 4 * PAGE, 16 * PAGE, 1 /* MAYMOVE */, 0, 0);
	CHECK(q > 0 && mapped((char *)q + 15 * PAGE));
	MARK(5);
	CHECK(i386(I_munmap, p, 2 * PAGE, 0, 0, 0, 0) == 0 && !mapped((char *)p));
	MARK(6);
	/* old mmap: one pointer to six arguments, itself in low memory */
	uint32_t *args = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	CHECK(args != MAP_FAILED);
	MARK(7);
	memcpy(args, (uint32_t[]){0, 3 * PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE}, 24);
	long o = i386(I_oldmmap, (long)args, 0, 0, 0, 0, 0);
	CHECK(o > 0 && *(char *)o == '1');
	MARK(8);
	args[5] = 1; /* not a page */
	CHECK(i386(I_oldmmap, (long)args, 0, 0, 0, 0, 0) == -EINVAL);
	CHECK(i386(I_write, -1, 0, 0, 0, 0, 0) == -EBADF);
	MARK(9);
	/* addresses above 4 GiB cannot be said */
	CHECK(i386(I_brk, 0, 0, 0, 0, 0, 0) != 0);
	MARK(10);
	puts("int80 ok");
	return 0;
}
