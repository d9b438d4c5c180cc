/* build: none */
/* Three threads sleep in their own function when the first raises SIGABRT in a recursion. */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

static pthread_barrier_t all;

__attribute__((noipa)) static void *sleeper(void *p)
{
	pthread_barrier_wait(&all);
	for (;;)
		pause();
	return p;
}

__attribute__((noipa)) static long descend(long n)
{
	volatile long local = n;
	if (n == 0)
		return raise(SIGABRT);
	return descend(n - 1) + local;
}

int main(void)
{
	pthread_barrier_init(&all, NULL, 4);
	for (int i = 0; i < 3; i++) {
		pthread_t t;
		pthread_create(&t, NULL, sleeper, NULL);
	}
	pthread_barrier_wait(&all);
	usleep(100000);
	return (int)descend(5);
}
