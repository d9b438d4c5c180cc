/* args: 2 */
/* alone: it measures time */
/* A 1 kHz timer for some seconds. An expiry that comes while the one before it
 * still waits is merged with it by the kernel, so what can be lost is what a
 * late handler loses: at least nine of ten must come. args: SECONDS */
#include <sys/time.h>
#include "mark.h"

static volatile long ticks;

static void on(int sig)
{
	(void)sig;
	ticks++;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	double want = argc > 1 ? atof(argv[1]) : 5, t0;
	struct sigaction sa = {.sa_handler = on, .sa_flags = SA_RESTART};
	struct itimerval it = {{0, 1000}, {0, 1000}}, off = {{0, 0}, {0, 0}};
	CHECK(sigaction(SIGALRM, &sa, NULL) == 0);
	MARK(1);
	t0 = now();
	CHECK(setitimer(ITIMER_REAL, &it, NULL) == 0);
	volatile unsigned long work = 0;
	while (now() - t0 < want)
		work++;
	CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);
	double share = ticks / (now() - t0) / 1000;
	char b[64];
	int n = snprintf(b, sizeof b, "%ld ticks in %.3f s: %.1f%%\n", ticks, now() - t0, share * 100);
	if (mark_dir[0]) { /* not on stdout: runs are compared */
		char name[600];
		snprintf(name, sizeof name, "%s/timer.txt", mark_dir);
		mark_file(name, b, n);
	}
	/* now in a call that is made again and again */
	long before = ticks;
	CHECK(setitimer(ITIMER_REAL, &it, NULL) == 0);
	for (int i = 0; i < 200; i++) {
		struct timespec t = {0, 1500000};
		while (nanosleep(&t, &t) < 0)
			CHECK(errno == EINTR);
	}
	CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);
	CHECK(ticks > before);
	MARK(2);
	if (share < 0.9)
		complain(__FILE__, __LINE__, b);
	puts("timer ok");
	return 0;
}
