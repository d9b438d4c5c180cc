/* args: 100 heap */
/* alone: it wants all CPUs */
/* Three threads write to 4 MiB each without ever calling the kernel: word after
 * word the number of the round. At any instant the words of such an area are
 * those of this round, then those of the round before. The areas lie at
 * 0x10000000, 0x14000000 and 0x18000000. With "heap" untouched memory beside them
 * comes and goes meanwhile. */
#include "mark.h"
#include <pthread.h>

#define WORDS (4UL << 20 >> 2)

static volatile int over;

static uint32_t *area(long i) { return (uint32_t *)(0x10000000UL + (unsigned long)i * 0x4000000); }

static void *work(void *arg)
{
	volatile uint32_t *w = arg;
	for (uint32_t round = 1; !over; round++)
		for (unsigned long i = 0; i < WORDS; i++)
			w[i] = round;
	return NULL;
}

int main(int argc, char **argv)
{
	CHECK(argc > 1);
	pthread_t t[3];
	for (long i = 0; i < 3; i++) {
		CHECK(mmap(area(i), WORDS * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == area(i));
		CHECK(pthread_create(&t[i], NULL, work, area(i)) == 0);
	}
	struct timespec ms = {0, 1000000};
	for (int i = atoi(argv[1]); i > 0; i--) {
		nanosleep(&ms, NULL);
		if (argc > 2) {
			char *p = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			CHECK(p != MAP_FAILED);
			p[i % 64 * PAGE] = 1;
			CHECK(i % 3 == 0 || munmap(p, 64 * PAGE) == 0);
		}
	}
	over = 1;
	for (int i = 0; i < 3; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	puts("sweep ok");
	return 0;
}
