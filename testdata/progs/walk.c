/* build: none */
// Refers to the pages of a region in a random order that a test knows: each thread has a
// region of its own. Arguments: pages, references, threads. Prints where each region is,
// and a sum of what was read.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static long pages, count;

struct part {
	volatile uint32_t *at;
	uint32_t sum;
	int seed;
};

static void *walk(void *arg)
{
	struct part *p = arg;
	uint64_t x = 88172645463325252ull + p->seed;
	uint32_t sum = 0;
	for (long i = 0; i < count; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		volatile uint32_t *w = p->at + (x >> 8) % pages * 1024 + (x >> 40) % 1024;
		if (x & 1)
			*w = i;
		else
			sum += *w;
	}
	p->sum = sum;
	return 0;
}

int main(int argc, char **argv)
{
	pages = argc > 1 ? atol(argv[1]) : 4000;
	count = argc > 2 ? atol(argv[2]) : 2000000;
	int threads = argc > 3 ? atoi(argv[3]) : 0;
	int n = threads ? threads : 1;
	struct part *parts = calloc(n, sizeof *parts);
	pthread_t *ids = calloc(n, sizeof *ids);
	for (int i = 0; i < n; i++) {
		parts[i].at = mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		parts[i].seed = i;
		if (parts[i].at == MAP_FAILED)
			return 1;
		printf("region %p\n", (void *)parts[i].at);
		mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	}
	fflush(stdout);
	if (!threads)
		walk(parts);
	for (int i = 0; i < threads; i++)
		if (pthread_create(ids + i, 0, walk, parts + i))
			return 1;
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], 0);
	for (int i = 0; i < n; i++)
		printf("sum %u\n", parts[i].sum);
	return 0;
}
