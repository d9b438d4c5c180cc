/* args: 100 heap */
/* alone: it wants all CPUs */
/* Three threads write to 4 MiB each without ever calling the kernel: word after
 * word the number of the round. At any instant the words of such an area are
 * those of this round, then those of the round before. The areas lie at
 * 0x10000000, 0x14000000 and 0x18000000. With "heap" untouched memory beside them
 * comes and goes meanwhile. With "slow" a page is written every 0.4 ms, in an address
 * space with large page tables; with "poke" by another process, while this one
 * counts at 0x1c000000 how many pages of the first area it has seen written. */
#include "mark.h"
#include <pthread.h>
#include <stdbool.h>
#include <sys/uio.h>

#define WORDS (4UL << 20 >> 2)

static volatile int over;
static bool slow;
static pid_t whose; /* who the areas belong to, if not to us */
static volatile uint32_t *poked; /* pages of the first area, shared */

static uint32_t *area(long i) { return (uint32_t *)(0x10000000UL + (unsigned long)i * 0x4000000); }

static void page_done(char *p)
{
	struct iovec page = {p, PAGE};
	if (whose)
		CHECK(process_vm_writev(whose, &page, 1, &page, 1, 0) == PAGE);
	if (whose && p < (char *)area(1))
		++*poked;
	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	do
		clock_gettime(CLOCK_MONOTONIC, &b);
	while (!over && (b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec < 400000);
}

static void *work(void *arg)
{
	volatile uint32_t *w = arg;
	for (uint32_t round = 1; !over; round++)
		for (unsigned long i = 0; i < WORDS; i++) {
			w[i] = round;
			if (slow && (i + 1) % (PAGE / 4) == 0)
				page_done((char *)&w[i + 1] - PAGE);
		}
	return NULL;
}

/* The first thing that the memory of a large program needs are page tables. */
static void grow(void)
{
	const size_t size = 640UL << 20;
	volatile char *p = anon(size, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < size; i += PAGE)
		CHECK(p[i] == 0);
}

/* Has the areas of this process written by a child; returns in the child. */
static void be_poked(void)
{
	volatile uint32_t *seen = mmap(area(3), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	poked = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(seen == (void *)area(3) && poked != MAP_FAILED);
	pid_t me = getpid(), pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		whose = me;
		return;
	}
	int status;
	while (waitpid(pid, &status, WNOHANG) == 0)
		for (int i = 0; i < 10000; i++)
			*seen = *poked;
	CHECK(WIFEXITED(status));
	exit(WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
	CHECK(argc > 1);
	bool heap = argc > 2 && !strcmp(argv[2], "heap");
	pthread_t t[3];
	for (long i = 0; i < 3; i++)
		CHECK(mmap(area(i), WORDS * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == area(i));
	if (argc > 2 && !heap) {
		slow = true;
		grow();
		if (!strcmp(argv[2], "poke"))
			be_poked();
	}
	for (long i = 0; i < 3; i++)
		CHECK(pthread_create(&t[i], NULL, work, area(i)) == 0);
	struct timespec ms = {0, 1000000};
	for (int i = atoi(argv[1]); i > 0; i--) {
		nanosleep(&ms, NULL);
		if (heap) {
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
