/* ring.h: an io_uring, by its bare calls. */
#ifndef RING_H
#define RING_H

#include "mark.h"
#include <linux/io_uring.h>

static int ring;
static struct io_uring_params params;
static char *sq, *cq;
static struct io_uring_sqe *entries;

static void *ring_map(size_t n, off_t what)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, what);
	CHECK(p != MAP_FAILED);
	return p;
}

static unsigned *word(char *base, unsigned at) { return (unsigned *)(base + at); }

static UNUSED void setup(unsigned flags)
{
	params.flags = flags;
	params.sq_thread_idle = 100000;
	ring = syscall(SYS_io_uring_setup, 8, &params);
	if (ring < 0)
		SKIP("no io_uring");
	sq = ring_map(params.sq_off.array + params.sq_entries * 4, IORING_OFF_SQ_RING);
	cq = ring_map(params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	entries = ring_map(params.sq_entries * sizeof *entries, IORING_OFF_SQES);
}

static void submit(struct io_uring_sqe e)
{
	unsigned tail = *word(sq, params.sq_off.tail), i = tail & (params.sq_entries - 1);
	entries[i] = e;
	word(sq, params.sq_off.array)[i] = i;
	__atomic_store_n(word(sq, params.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
	if (params.flags & IORING_SETUP_SQPOLL)
		CHECK(syscall(SYS_io_uring_enter, ring, 1, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0) == 1);
	else
		CHECK(syscall(SYS_io_uring_enter, ring, 1, 0, 0, NULL, 0) == 1);
}

/* Without a call: the ring is watched in memory. */
static int result(void)
{
	unsigned head = *word(cq, params.cq_off.head);
	while (__atomic_load_n(word(cq, params.cq_off.tail), __ATOMIC_ACQUIRE) == head) {
		if (!(params.flags & IORING_SETUP_SQPOLL))
			syscall(SYS_io_uring_enter, ring, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0);
		sched_yield();
	}
	struct io_uring_cqe *c = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
	int r = c[head & (params.cq_entries - 1)].res;
	__atomic_store_n(word(cq, params.cq_off.head), head + 1, __ATOMIC_RELEASE);
	return r;
}

#endif
