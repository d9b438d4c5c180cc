/* build: none */
/* What a debugger is shown of it: a recursion that makes a call half way down,
 * and a thread that waits inside a call meanwhile. */
#include <pthread.h>
#include "mark.h"
static volatile pid_t waiting;
static pthread_barrier_t b;
static int pipefd[2];
struct node { int depth; struct node *up; char text[32]; };
__attribute__((noipa, target("sse2"))) static long descend(int n, struct node *up) {
	struct node *self = malloc(sizeof *self);
	volatile long local = 1000 + n;
	self->depth = n; self->up = up; strcpy(self->text, "the node");
	if (n == 7) {
		double d = 3.25;
		__asm__ volatile("movsd %0, %%xmm7" : : "m"(d) : "xmm7");
		syscall(SYS_getppid);
	}
	long r = n == 0 ? 0 : descend(n - 1, self);
	return r + local;
}
static void *waiter(void *p) {
	char c;
	waiting = syscall(SYS_gettid);
	pthread_barrier_wait(&b);
	if (read(pipefd[0], &c, 1) != 1)
		_exit(3);
	return p;
}
int main(void) {
	pthread_t t;
	if (pipe(pipefd))
		return 2;
	pthread_barrier_init(&b, 0, 2);
	pthread_create(&t, 0, waiter, 0);
	pthread_barrier_wait(&b);
	wait_asleep(waiting);
	long r = descend(12, 0);
	if (write(pipefd[1], "x", 1) != 1)
		return 4;
	pthread_join(t, 0);
	return r == 0;
}
