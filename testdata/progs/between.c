/* Calls that write to memory whenever their time comes, snapshots or not: threads
 * read timers, each into one page of its own after the other, while the first
 * calls getppid. What a page holds is known when all of them have ended. */
#include <pthread.h>
#include <sys/timerfd.h>
#include "mark.h"

#define THREADS 4
#define PAGES 64
#define RW (PROT_READ | PROT_WRITE)

static unsigned char *mem[THREADS];
static int timer[THREADS], over;

static void *reads(void *arg)
{
	long me = (long)arg;
	for (int i = 0; !__atomic_load_n(&over, __ATOMIC_RELAXED); i = (i + 1) % PAGES)
		CHECK(read(timer[me], mem[me] + i * PAGE + 8 * me, 8) == 8);
	return NULL;
}

static void round_of(int k)
{
	pthread_t t[THREADS];
	over = 0;
	for (long i = 0; i < THREADS; i++) {
		memset(mem[i], 0x40 + k, PAGES * PAGE);
		struct itimerspec every = {{0, 300000 + 70000 * i}, {0, 300000}};
		CHECK(timerfd_settime(timer[i], 0, &every, NULL) == 0);
		CHECK(pthread_create(&t[i], NULL, reads, (void *)i) == 0);
	}
	for (int i = 0; i < 25; i++) {
		getppid();
		nap(1);
	}
	__atomic_store_n(&over, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		MARKMEM(10 * k + i, mem[i], PAGES * PAGE);
}

int main(void)
{
	for (int i = 0; i < THREADS; i++) {
		timer[i] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
		CHECK(timer[i] >= 0);
		mem[i] = (unsigned char *)anon(PAGES * PAGE, RW);
	}
	for (int k = 1; k <= 4; k++)
		round_of(k);
	puts("between ok");
	return 0;
}
