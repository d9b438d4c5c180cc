/* build: none */
/*
 * sequence.c: threads count by restartable sequences (rseq), in a counter for each CPU.
 * A thread that was interrupted in a sequence has to begin it anew: if it goes on
 * instead, counts get lost.
 */
#include "mark.h"
#include <pthread.h>
#include <sys/rseq.h>

enum { THREADS = 4, TIMES = 60000, CPUS = 1024 };

static struct {
	volatile long n;
	char room[56];
} counts[CPUS];

static void count(struct rseq *self)
{
again:
	__asm__ goto(
		".pushsection sequences, \"aw\"\n"
		".balign 32\n"
		"0:	.long 0, 0\n"
		"	.quad 1f, 2f - 1f, 4f\n"
		".popsection\n"
		"	leaq 0b(%%rip), %%rax\n"
		"	movq %%rax, 8(%[self])\n"      /* rseq_cs: the sequence begins */
		"1:	movl 4(%[self]), %%eax\n"      /* cpu_id */
		"	shlq $6, %%rax\n"
		"	movq (%[counts], %%rax), %%rcx\n"
		"	movl $300, %%edx\n"
		"3:	decl %%edx\n"
		"	jnz 3b\n"
		"	incq %%rcx\n"
		"	movq %%rcx, (%[counts], %%rax)\n"
		"2:\n"
		".pushsection .text.restarts, \"ax\"\n"
		"	.byte 0x0f, 0xb9, 0x3d\n"      /* ud1, with the signature as its operand */
		"	.long %c[signature]\n"
		"4:	jmp %l[again]\n"
		".popsection\n"
		: : [self] "r"(self), [counts] "r"(counts), [signature] "i"(RSEQ_SIG)
		: "rax", "rcx", "rdx", "memory", "cc" : again);
}

static void *counter(void *x)
{
	struct rseq *self = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	for (int i = 0; i < TIMES; i++)
		count(self);
	return x;
}

int main(void)
{
	pthread_t t[THREADS];
	long sum = 0;
	if (__rseq_size == 0)
		SKIP("no restartable sequences");
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, counter, NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	for (int i = 0; i < CPUS; i++)
		sum += counts[i].n;
	printf("%ld of %d\n", sum, THREADS * TIMES);
	return sum != THREADS * TIMES;
}
