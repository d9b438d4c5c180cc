/* args: 1 | 2 | 3 */
/* Memory that is churned at random by all that changes it: writes of the program
 * and of the kernel, process_vm_writev, MADV_DONTNEED, new mappings over old ones,
 * mremap out of the middle of a mapping, forks whose child goes on, vfork. A
 * shadow says what has to be there; the log has to say the same at each mark.
 * args: SEED */
#include <sys/uio.h>
#include "mark.h"

#define N 64
#define RW (PROT_READ | PROT_WRITE)

static unsigned char *const mem = (unsigned char *)0x10000000, *shadow;
static unsigned seed;
static int at = 1, channel[2];

static unsigned rnd(unsigned m)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 8) % m;
}

static void place(unsigned page, unsigned n)
{
	CHECK(mmap(mem + page * PAGE, n * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == mem + page * PAGE);
}

static void show(void)
{
	CHECK(memcmp(mem, shadow, N * PAGE) == 0);
	MARKMEM(at, mem, N * PAGE);
	at++;
}

static void churn(void)
{
	unsigned page = rnd(N), n = 1 + rnd(N - page > 8 ? 8 : N - page), other = rnd(N), len = 1 + rnd(PAGE - 1);
	unsigned char value = rnd(256), *p = mem + page * PAGE, *s = shadow + page * PAGE;
	switch (rnd(10)) {
	case 0:
	case 1:
		memset(p, value, len);
		memset(s, value, len);
		break;
	case 2:
		for (unsigned i = 0; i < n; i++)
			p[i * PAGE + value] = s[i * PAGE + value] = value;
		break;
	case 3:
		CHECK(madvise(p, n * PAGE, MADV_DONTNEED) == 0);
		memset(s, 0, n * PAGE);
		break;
	case 4: {
		char b[256];
		memset(b, value, sizeof b);
		CHECK(write(channel[1], b, sizeof b) == sizeof b && read(channel[0], p + 100, sizeof b) == sizeof b);
		memset(s + 100, value, sizeof b);
		break;
	}
	case 5:
		place(page, n);
		memset(s, 0, n * PAGE);
		break;
	case 6:
		CHECK(mprotect(p, n * PAGE, PROT_READ) == 0 && mprotect(p, n * PAGE, RW) == 0);
		break;
	case 7:
		if (n > N - other)
			n = N - other;
		if ((page > other ? page - other : other - page) < n)
			break;
		if (mremap(p, n * PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, mem + other * PAGE) == MAP_FAILED) {
			place(other, n); /* more than one mapping, on kernels before 6.17: it has made room */
			memset(shadow + other * PAGE, 0, n * PAGE);
			break;
		}
		place(page, n);
		memcpy(shadow + other * PAGE, s, n * PAGE);
		memset(s, 0, n * PAGE);
		break;
	case 8: {
		struct iovec from = {shadow + other * PAGE, PAGE}, to = {p, PAGE};
		CHECK(process_vm_writev(getpid(), &from, 1, &to, 1, 0) == PAGE);
		memcpy(s, shadow + other * PAGE, PAGE);
		break;
	}
	case 9: {
		pid_t pid = fork();
		int st;
		CHECK(pid >= 0);
		if (pid == 0) {
			memset(p, value, len);
			memset(s, value, len);
			show();
			_exit(0);
		}
		CHECK(waitpid(pid, &st, 0) == pid && st == 0);
		break;
	}
	}
}

int main(int argc, char **argv)
{
	seed = argc > 1 ? atoi(argv[1]) : 1;
	CHECK(pipe(channel) == 0);
	place(0, N);
	shadow = mmap(NULL, N * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(shadow != MAP_FAILED);
	for (int i = 0; i < 30; i++) {
		for (unsigned k = 1 + rnd(5); k > 0; k--)
			churn();
		show();
	}
	printf("churn ok\n");
	return 0;
}
