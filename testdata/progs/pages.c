/* build: none */
/* Threads that write their pages again and again, each 8 bytes of a page after
 * the other with the generation, the thread, the page and the place in it: so
 * whoever reads them at any moment can tell whether they were ever so. In each
 * generation a fourth of the pages is written; after it the thread calls
 * write(-1, generation, thread). The areas are at 0x10000000 + thread * 0x1000000.
 * args: THREADS PAGES GENERATIONS [FIFO], which it makes and reads before the end */
#include <pthread.h>
#include "mark.h"

static unsigned threads, pages, generations;

static uint64_t word(uint64_t gen, uint64_t thread, uint64_t page, uint64_t i)
{
	return gen << 40 | thread << 32 | page << 16 | i;
}

static void *writes(void *arg)
{
	uint64_t t = (uintptr_t)arg, n = PAGE / 8;
	volatile uint64_t *area = (void *)(uintptr_t)(0x10000000 + t * 0x1000000);
	for (uint64_t g = 1; g <= generations; g++) {
		for (uint64_t p = 0; p < pages; p++)
			for (uint64_t i = 0; i < n && (g + p) % 4 == 0; i++)
				area[p * n + i] = word(g, t, p, i);
		rawcall(SYS_write, -1, g, t, 0);
		nap(1);
	}
	for (uint64_t p = 0; p < pages; p++)
		for (uint64_t i = 0; i < n; i++) {
			uint64_t g = generations - (generations + p) % 4;
			CHECK(area[p * n + i] == word(g, t, p, i));
		}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t th[16];
	CHECK(argc >= 4);
	threads = atoi(argv[1]), pages = atoi(argv[2]), generations = atoi(argv[3]);
	CHECK(threads <= 16 && generations >= 4);
	for (uintptr_t t = 0; t < threads; t++) {
		char *at = (char *)(0x10000000 + t * 0x1000000);
		CHECK(mmap(at, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
	}
	for (uintptr_t t = 0; t < threads; t++)
		CHECK(pthread_create(&th[t], NULL, writes, (void *)t) == 0);
	for (unsigned t = 0; t < threads; t++)
		CHECK(pthread_join(th[t], NULL) == 0);
	if (argc > 4) { /* asleep in one call until somebody opens it */
		CHECK(mkfifo(argv[4], 0600) == 0);
		CHECK(close(open(argv[4], O_RDONLY)) == 0);
	}
	int fd = open("done", O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	CHECK(fd >= 0 && write(fd, "done", 4) == 4);
	return 0;
}
