/* args: 1 */
/* Threads that wait in calls which only a signal can interrupt, and one that
 * queues real-time signals: none may be lost, and no wait may end early. The
 * argument is for how many seconds, or the name of a file: until that is there. */
#include <pthread.h>
#include <sys/epoll.h>
#include "mark.h"

static volatile long got, early;
static volatile int stop;
static int ep;

static void handler(int sig)
{
	(void)sig;
	__sync_fetch_and_add(&got, 1);
}

static void *waits(void *arg)
{
	struct epoll_event e;
	while (!stop)
		if (epoll_wait(ep, &e, 1, 100) != 0)
			__sync_fetch_and_add(&early, 1);
	return arg;
}

static void *sends(void *arg)
{
	long n = 0;
	for (union sigval v = {0}; !stop; usleep(300))
		n += sigqueue(getpid(), SIGRTMIN, v) == 0;
	*(long *)arg = n;
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_RESTART};
	pthread_t t[5];
	sigset_t all, old;
	long sent;
	struct timespec begin, now;
	const char *length = argc > 1 ? argv[1] : "1";
	int seconds = atoi(length);
	CHECK((ep = epoll_create1(0)) >= 0);
	CHECK(sigaction(SIGRTMIN, &sa, NULL) == 0);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&t[i], NULL, waits, NULL) == 0);
	CHECK(pthread_create(&t[4], NULL, sends, &sent) == 0);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		getppid();
		usleep(100);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (seconds ? now.tv_sec - begin.tv_sec < seconds : access(length, F_OK) != 0);
	stop = 1;
	for (int i = 4; i >= 0; i--)
		CHECK(pthread_join(t[i], NULL) == 0);
	for (int i = 0; i < 6000 && got < sent; i++)
		nap(10);
	if (early || got != sent) {
		printf("%ld of %ld signals, %ld waits ended early\n", got, sent, early);
		return 1;
	}
	puts("waiters ok");
	return 0;
}
