/* build: none */
/* One thread fills 16 MiB at 0x10000000 and gives them back, again and again; the
 * word at 0x14000000 is 1 while it gives them back. Another looks meanwhile at one
 * page after the other, each once, and says in the next word the number (from 1) of
 * the last one that it has seen gone. args: ROUNDS */
#include <pthread.h>
#include "mark.h"

#define N 4096

static volatile unsigned *says;
static volatile char *area;
static volatile int waits, over;

static volatile void *at(unsigned long a, size_t size)
{
	void *p = mmap((void *)a, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(p == (void *)a);
	return p;
}

static void *look(void *arg)
{
	while (!over) {
		waits = 1;
		while (says[0] != 1 && !over)
			;
		waits = 0;
		for (unsigned k = 1; k <= N && says[0] == 1; k++)
			if (!area[(k - 1) * PAGE])
				says[1] = k;
	}
	return arg;
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	area = at(0x10000000, N * PAGE);
	says = at(0x14000000, PAGE);
	pthread_t t;
	CHECK(pthread_create(&t, NULL, look, NULL) == 0);
	for (int i = atoi(argv[1]); i > 0; i--) {
		while (!waits)
			;
		says[1] = 0;
		for (unsigned k = 0; k < N; k++)
			area[k * PAGE] = 7;
		nap(8); /* a sweep sees it */
		says[0] = 1;
		CHECK(madvise((void *)area, N * PAGE, MADV_DONTNEED) == 0);
		says[0] = 2;
	}
	over = 1;
	CHECK(pthread_join(t, NULL) == 0);
	return 0;
}
