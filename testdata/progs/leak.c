/* build: none */
/* What memory looks like over time: programs whose verdict is known. Each runs
 * for SECONDS (default 3).
 *   leak      five threads allocate up to 4 MB at a time, touch half of it, free
 *             nine of ten
 *   clean     the same, and free them all
 *   small     one thread leaks blocks of 100 to 1000 bytes beside a working set
 *             that comes and goes
 *   untouched one thread leaks blocks that it never touches
 *   cache     only fills the page cache
 *   mapped    maps a growing part of a file and reads it
 *   plateau   fills a cache of 64 MB in the first fifth of its time, and then
 *             works with it
 *   saw       collects garbage: grows by 40 MB and gives it back, again and again
 *   build     grows all the time, gives everything back before it ends
 *   child     a child process leaks, its parent waits
 */
#include <pthread.h>
#include "mark.h"

static double length = 3;
static struct timespec begun;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (t.tv_sec - begun.tv_sec) + (t.tv_nsec - begun.tv_nsec) / 1e9;
}

static void rest(long us)
{
	struct timespec t = {us / 1000000, us % 1000000 * 1000};
	nanosleep(&t, NULL);
}

static void touch(char *p, size_t n)
{
	for (size_t i = 0; i < n; i += PAGE)
		p[i] = 1;
}

static int leaking;

static void *worker(void *arg)
{
	unsigned seed = 17 + (long)arg;
	char *live[4] = {0};
	for (int i = 0; now() < length; i++) {
		size_t n = rand_r(&seed) % (4 << 20) + 1;
		char *p = malloc(n);
		CHECK(p);
		touch(p, n / 2);
		if (!leaking || rand_r(&seed) % 10) {
			free(live[i % 4]);
			live[i % 4] = p;
		}
		rest(10000);
	}
	for (int i = 0; i < 4; i++)
		free(live[i]);
	return NULL;
}

static void threads(void)
{
	pthread_t t[5];
	for (long i = 0; i < 5; i++)
		CHECK(pthread_create(&t[i], NULL, worker, (void *)i) == 0);
	for (int i = 0; i < 5; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
}

static void small(void)
{
	unsigned seed = 5;
	while (now() < length) {
		char *work[64];
		int k = rand_r(&seed) % 64;
		for (int i = 0; i < k; i++)
			memset(work[i] = malloc(100000), 1, 100000);
		for (int i = 0; i < 200; i++) {
			size_t n = 100 + rand_r(&seed) % 900;
			char *volatile lost = malloc(n);
			memset(lost, 2, n);
		}
		for (int i = 0; i < k; i++)
			free(work[i]);
		rest(5000);
	}
}

static void untouched(void)
{
	while (now() < length) {
		char *volatile lost = malloc(1 << 20);
		CHECK(lost);
		rest(5000);
	}
}

static int scratch(void)
{
	char name[] = "/var/tmp/leak-XXXXXX";
	int fd = mkstemp(name);
	CHECK(fd >= 0 && unlink(name) == 0);
	return fd;
}

static char block[1 << 20];

static void cache(void)
{
	int fd = scratch();
	memset(block, 'x', sizeof block);
	for (int i = 0; now() < length; i++) {
		if (i < 400)
			CHECK(write(fd, block, sizeof block) == sizeof block);
		else
			CHECK(pread(fd, block, sizeof block, (off_t)(i % 400) << 20) == sizeof block);
		rest(5000);
	}
}

static void mapfile(void)
{
	int fd = scratch();
	size_t n = 400 << 20;
	CHECK(ftruncate(fd, n) == 0);
	volatile char *p = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
	for (size_t at = 0; now() < length; at = (at + (1 << 20)) % n) {
		for (size_t i = 0; i < 1 << 20; i += PAGE)
			(void)p[at + i];
		rest(5000);
	}
}

static void plateau(void)
{
	char *slot[640] = {0};
	unsigned seed = 3;
	for (int i = 0; now() < length; i++) {
		int k = i < 640 ? i : rand_r(&seed) % 640;
		if (!slot[k])
			slot[k] = malloc(100 << 10);
		memset(slot[k], i, 100 << 10);
		rest(length * 1e6 / 640 / 6);
	}
}

static void saw(void)
{
	while (now() < length) {
		char *p[40];
		for (int i = 0; i < 40; i++) {
			touch(p[i] = malloc(1 << 20), 1 << 20);
			rest(10000);
		}
		for (int i = 0; i < 40; i++)
			free(p[i]);
	}
}

static void build(void)
{
	static char *p[100000];
	int n = 0;
	while (now() < length && n < 100000) {
		touch(p[n++] = malloc(200 << 10), 200 << 10);
		rest(5000);
	}
	while (n > 0)
		free(p[--n]);
}

static void child(void)
{
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		small();
		_exit(0);
	}
	int status;
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "leak";
	if (argc > 2)
		length = atof(argv[2]);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	leaking = !strcmp(mode, "leak");
	if (leaking || !strcmp(mode, "clean"))
		threads();
	else if (!strcmp(mode, "small"))
		small();
	else if (!strcmp(mode, "untouched"))
		untouched();
	else if (!strcmp(mode, "cache"))
		cache();
	else if (!strcmp(mode, "mapped"))
		mapfile();
	else if (!strcmp(mode, "plateau"))
		plateau();
	else if (!strcmp(mode, "saw"))
		saw();
	else if (!strcmp(mode, "build"))
		build();
	else if (!strcmp(mode, "child"))
		child();
	else
		return 2;
	return 0;
}
