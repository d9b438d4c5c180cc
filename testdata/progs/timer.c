/* quick: none */
/* args: 2 */
/* alone: it measures time */
/* A 1 kHz timer for some seconds. An expiry that comes while the one before it
 * still waits is merged with it by the kernel, so what can be lost is what a
 * late handler loses: at least nine of ten must come, the best of three times,
 * unless the kernel says that the program had to wait for a CPU.
 * args: SECONDS */
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

/* Seconds for which a thread was ready to run, and did not. */
static double waited_by(int tid)
{
	char name[64];
	unsigned long long ran = 0, delay = 0;
	snprintf(name, sizeof name, "/proc/%d/schedstat", tid);
	FILE *f = fopen(name, "r");
	if (f) {
		CHECK(fscanf(f, "%llu %llu", &ran, &delay) == 2);
		fclose(f);
	}
	return delay / 1e9;
}

/* The same for this thread and for who traces it: while that waits for a CPU, the
 * program is stopped. */
static double waited(void)
{
	int tracer = traced_by();
	return waited_by(getpid()) + (tracer > 0 ? waited_by(tracer) : 0);
}

static const struct itimerval it = {{0, 1000}, {0, 1000}}, off = {{0, 0}, {0, 0}};
static char text[512];

/* The share of the ticks that came, while the program works. */
static double measure(double seconds, double *delay)
{
	double w0 = waited(), t0 = now(), took;
	volatile unsigned long work = 0;
	ticks = 0;
	CHECK(setitimer(ITIMER_REAL, &it, NULL) == 0);
	while ((took = now() - t0) < seconds)
		work++;
	CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);
	double share = ticks / took / 1000;
	*delay = (waited() - w0) / took;
	int n = strlen(text);
	snprintf(text + n, sizeof text - n, "%ld ticks in %.3f s: %.1f%%, waited %.1f%%\n", ticks, took, share * 100, *delay * 100);
	return share;
}

int main(int argc, char **argv)
{
	double want = argc > 1 ? atof(argv[1]) : 5, share, delay;
	struct sigaction sa = {.sa_handler = on, .sa_flags = SA_RESTART};
	CHECK(sigaction(SIGALRM, &sa, NULL) == 0);
	MARK(1);
	int round = 0;
	do
		share = measure(want, &delay);
	while (share < 0.9 && ++round < 3);
	if (mark_dir[0]) { /* not on stdout: runs are compared */
		char name[600];
		snprintf(name, sizeof name, "%s/timer.txt", mark_dir);
		mark_file(name, text, strlen(text));
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
	if (share < 0.9 && delay < 0.05)
		complain(__FILE__, __LINE__, text);
	puts("timer ok");
	return 0;
}
