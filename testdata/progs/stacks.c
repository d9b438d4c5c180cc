/* Maps memory from all kinds of places on the stack: below recursion, signal handlers, on
 * alternate stacks, in a thread, in callbacks of the C library, after a call of nothing. Each
 * time it prints, with an argument, the return addresses above, as the compiler's own unwinder
 * finds them. */
#include <execinfo.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LEN 0x7000 /* of what is mapped */

static sigjmp_buf back;
static int say;

__attribute__((noinline)) static void touch(void)
{
	void *at[200];
	int n = backtrace(at, 200);
	char line[4096];
	int k = sprintf(line, "stack");
	for (int i = 1; i < n; i++)
		k += sprintf(line + k, " %lx", (unsigned long)at[i]);
	line[k++] = '\n';
	if (say && write(1, line, k) != k)
		_exit(1);
	munmap(mmap(NULL, LEN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), LEN);
}

static void handler(int sig) { (void)sig; touch(); }

static void leaves(int sig)
{
	(void)sig;
	touch();
	siglongjmp(back, 1);
}

__attribute__((noinline)) static int deep(int n)
{
	volatile char room[64];
	room[0] = n;
	if (n == 0)
		raise(SIGUSR1);
	else
		deep(n - 1);
	return room[0];
}

__attribute__((noinline)) static int crash(volatile int *p) { return *p + 1; }

static int compare(const void *a, const void *b)
{
	touch();
	return *(const int *)a - *(const int *)b;
}

static void *thread(void *arg)
{
	int v[] = {3, 1, 2};
	deep(5);
	qsort(v, 3, sizeof *v, compare);
	return arg;
}

static void on(int sig, void (*f)(int), int flags)
{
	struct sigaction a;
	memset(&a, 0, sizeof a);
	a.sa_handler = f;
	a.sa_flags = flags;
	sigaction(sig, &a, NULL);
}

int main(int argc, char **argv)
{
	void *warm[2];
	stack_t alt = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
	pthread_t t;
	void (*volatile nothing)(void) = NULL;
	say = argc > 1 && argv[1];
	backtrace(warm, 2);
	sigaltstack(&alt, NULL);
	touch();
	for (int i = 0; i < 2; i++) {
		int flags = i ? SA_ONSTACK : 0;
		on(SIGUSR1, handler, flags);
		deep(10);
		on(SIGSEGV, leaves, flags);
		if (!sigsetjmp(back, 1))
			crash(NULL);
	}
	if (!sigsetjmp(back, 1))
		nothing();
	pthread_create(&t, NULL, thread, NULL);
	pthread_join(t, NULL);
	puts("end");
	return 0;
}
