/* args: mix | brk */
/* quick: none */
/* Threads that race for the same addresses. What one unmaps another is given at
 * once: a log in the wrong order has a mapping too many or too few at the next
 * mark, when all of them wait. `mix` makes every kind of call, `brk` moves the
 * one end of the heap. With FILE the rounds go on until it is there.
 * args: KIND [THREADS ROUNDS CALLS [FILE]] */
#include <pthread.h>
#include "mark.h"

#define RW (PROT_READ | PROT_WRITE)
#define SLOTS 12

static pthread_barrier_t all;
static int threads = 8, rounds = 10, calls = 400, kind;
static unsigned long done;
static const char *until; /* this file is there */
static int rounds_done, enough;
static char *heap0;

struct slot {
	char *p;
	size_t n;
	uint32_t token;
	int shared;
};

static uint32_t rnd(uint32_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 17;
	*s ^= *s << 5;
	return *s;
}

static void put(struct slot *s)
{
	for (size_t i = 0; i < s->n; i += PAGE)
		*(uint32_t *)(s->p + i) = s->token + i;
}

static void check(const struct slot *s)
{
	for (size_t i = 0; i < s->n; i += PAGE)
		CHECK(*(volatile uint32_t *)(s->p + i) == (uint32_t)(s->token + i));
}

static void mix(struct slot *slots, uint32_t *seed, int me)
{
	for (int c = 0; c < calls; c++) {
		struct slot *s = &slots[rnd(seed) % SLOTS];
		size_t n = (rnd(seed) % 6 + 1) * PAGE;
		if (!s->p) {
			s->p = mmap(NULL, n, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			CHECK(s->p != MAP_FAILED);
			s->n = n;
			s->shared = 0;
			s->token = (uint32_t)me << 24 | (rnd(seed) & 0xffff0);
			put(s);
			continue;
		}
		check(s);
		switch (rnd(seed) % 5) {
		case 0:
		case 1:
			CHECK(munmap(s->p, s->n) == 0);
			s->p = NULL;
			break;
		case 2: /* a shared one is in pieces, and its object does not grow */
			if (s->shared)
				break;
			s->p = mremap(s->p, s->n, n, MREMAP_MAYMOVE);
			CHECK(s->p != MAP_FAILED);
			s->n = n;
			put(s);
			break;
		case 3:
			CHECK(mprotect(s->p, PAGE, PROT_READ) == 0);
			if (rnd(seed) & 1)
				CHECK(mprotect(s->p, s->n, RW) == 0);
			else
				CHECK(mprotect(s->p, s->n, RW | PROT_EXEC) == 0);
			break;
		case 4: /* one mapping for another, at the same place */
			CHECK(mmap(s->p, s->n, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == s->p);
			s->shared = 1;
			put(s);
			CHECK(madvise(s->p, PAGE, MADV_DONTDUMP) == 0);
			break;
		}
	}
}

static void breaks(uint32_t *seed)
{
	for (int c = 0; c < calls; c++) {
		/* raw: libc's own idea of the break is not for threads */
		long now = rawcall(SYS_brk, 0, 0, 0, 0);
		long want = (long)heap0 + (rnd(seed) % 200) * (PAGE / 2);
		long got = rawcall(SYS_brk, want, 0, 0, 0);
		CHECK(now >= (long)heap0 && got == want);
		if (c % 16 == 0)
			CHECK(munmap(anon(2 * PAGE, PROT_READ), 2 * PAGE) == 0);
	}
}

static void *run(void *arg)
{
	struct slot slots[SLOTS] = {0};
	int me = (long)arg;
	uint32_t seed = 12345 + me * 7919;
	for (;;) {
		pthread_barrier_wait(&all);
		if (enough)
			return NULL;
		if (kind)
			breaks(&seed);
		else
			mix(slots, &seed, me);
		__atomic_add_fetch(&done, calls, __ATOMIC_SEQ_CST);
		pthread_barrier_wait(&all);
		/* now the first of them marks */
		if (me == 0) {
			MARK(++rounds_done);
			enough = rounds_done >= rounds && (!until || access(until, F_OK) == 0);
		}
	}
}

int main(int argc, char **argv)
{
	pthread_t t[64];
	kind = argc > 1 && !strcmp(argv[1], "brk");
	if (argc > 4)
		threads = atoi(argv[2]), rounds = atoi(argv[3]), calls = atoi(argv[4]);
	if (argc > 5)
		until = argv[5];
	free(malloc(1)); /* libc takes what it needs of the heap, and no more after that */
	pthread_barrier_init(&all, NULL, threads);
	for (long i = 1; i < threads; i++)
		CHECK(pthread_create(&t[i], NULL, run, (void *)i) == 0);
	heap0 = sbrk(0);
	run(NULL);
	CHECK(brk(heap0) == 0);
	for (long i = 1; i < threads; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	CHECK(done == (unsigned long)threads * rounds_done * calls);
	MARK(rounds_done + 1);
	dprintf(1, "race: %lu calls\n", done);
	return 0;
}
