/* Programs whose verdict is known, in C: native MODE SECONDS [A [B]].
 *
 * Leaks. A is KiB a second unless it says otherwise.
 *   heap        small blocks from malloc, beside B MiB that were there before
 *   bursts      the same, but B blocks at a time
 *   freedexit   the same; all is freed before it ends
 *   hidden      the same, beside a saw-tooth of B MiB of mappings
 *   arena       the same, in a second thread: in an arena of its own
 *   mmap        mappings of B KiB, filled
 *   remap       one mapping that mremap makes ever larger
 *   shared      shared anonymous mappings of B KiB, filled
 *   memfd       memfds of B KiB, written and never mapped
 *   sysv        System V segments of B KiB, filled and detached
 *   threads     A threads a second that wait for ever
 *   fds         A descriptors a second
 *   pagetables  pages that are read, one of each 2 MiB of a reservation of B GiB; A a second
 *   space       mappings of B KiB that are never touched
 *   children    A children a second that wait for ever
 *   worker      a child process leaks, its parent waits
 * No leaks.
 *   flat        works with A MiB
 *   cache       fills A MiB in the first B percent of the time, then replaces blocks
 *   saw         collects A MiB and frees them, B times a second
 *   sawmap      the same with mappings
 *   steps       takes A MiB in three steps in the first half
 *   arenas      A threads whose arenas grow to a plateau
 *   comers      A threads a second that come and go
 *   forks       A children a second, each of which takes B MiB and ends
 *   cow         a process with A MiB and a child that writes to them slowly
 *   pagecache   writes and reads a file of A MiB, again and again, in B
 *   filemap     maps a file of A MiB in B and reads it slowly
 *   fdchurn     opens and closes A descriptors a second
 *   memfdchurn  makes memfds of A KiB and closes them
 *   deep        recursion that takes A MiB of stack in the first fifth
 *   teardown    takes A MiB at once, works, and frees all before it ends
 * Undecidable, where LEAK would be wrong.
 *   bigbuf      fills a buffer of A MiB that it mapped at the start
 *   approach    A MiB that fill up exponentially, B percent of the time constant of the run
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TICKS = 50 }; /* a second */

static double length, a, b;
static struct timespec begun;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (t.tv_sec - begun.tv_sec) + (t.tv_nsec - begun.tv_nsec) / 1e9;
}

static void rest(double s)
{
	struct timespec t = {(time_t)s, (long)((s - (time_t)s) * 1e9)};
	nanosleep(&t, NULL);
}

static void *fail(const char *what)
{
	perror(what);
	exit(1);
}

/* due is how many units of so many a second are due that have not been done. */
static long due(double per_second, long done) { return (long)(now() * per_second) - done; }

static void *take(size_t n)
{
	char *p = malloc(n);
	if (!p)
		fail("malloc");
	memset(p, 1, n);
	return p;
}

static void *map(size_t n, int flags)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
	return p == MAP_FAILED ? fail("mmap") : p;
}

/* leak takes a KiB a second in blocks of about a KiB, blocks of them at a time. */
static void *leak(void *blocks)
{
	long done = 0, at_a_time = (long)blocks;
	void **kept = NULL;
	while (now() < length) {
		for (long n = due(a, done) / at_a_time * at_a_time; n > 0; n--, done++) {
			void **p = take(1000 + done % 48);
			*p = kept;
			kept = p;
		}
		rest(1.0 / TICKS);
	}
	return kept;
}

static void heap(void)
{
	char *base = take((size_t)(b * 1048576) + 1);
	leak((void *)1L);
	base[0]++;
}

static void bursts(void) { leak((void *)(long)b); }

static void freedexit(void)
{
	void **p = leak((void *)1L), **next;
	for (; p; p = next) {
		next = *p;
		free(p);
	}
	malloc_trim(0);
	rest(0.02);
}

static void hidden(void)
{
	enum { BLOCK = 128 << 10 };
	long done = 0, most = b * 1048576 / BLOCK, n = 0;
	void **blocks = calloc(most, sizeof *blocks), **kept = NULL;
	while (now() < length) {
		for (long k = due(a, done); k > 0; k--, done++) {
			void **p = take(1000);
			*p = kept;
			kept = p;
		}
		for (int i = 0; i < most / 20 + 1; i++) { /* 20 ticks: 2.5 teeth a second */
			if (n == most)
				while (n > 0)
					munmap(blocks[--n], BLOCK);
			blocks[n++] = memset(map(BLOCK, MAP_PRIVATE), 1, BLOCK);
		}
		rest(1.0 / TICKS);
	}
}

static void arena(void)
{
	pthread_t t;
	pthread_create(&t, NULL, leak, (void *)1L);
	pthread_join(t, NULL);
}

static void mapped(int flags)
{
	size_t n = b * 1024;
	for (long done = 0; now() < length; rest(1.0 / TICKS))
		for (; due(a / b, done) > 0; done++)
			memset(map(n, flags), 1, n);
}

static void leak_mmap(void) { mapped(MAP_PRIVATE); }
static void shared(void) { mapped(MAP_SHARED); }

static void remap(void)
{
	size_t n = 1 << 20;
	char *p = map(n, MAP_PRIVATE);
	for (long done = 0; now() < length; rest(1.0 / TICKS))
		for (; due(a / 64, done) > 0; done++) {
			p = mremap(p, n, n + 65536, MREMAP_MAYMOVE);
			if (p == MAP_FAILED)
				fail("mremap");
			memset(p + n, 1, 65536);
			n += 65536;
		}
}

static void memfd(void)
{
	size_t n = b * 1024;
	char *p = take(n);
	for (long done = 0; now() < length; rest(1.0 / TICKS))
		for (; due(a / b, done) > 0; done++) {
			int fd = memfd_create("leaked", 0);
			if (fd < 0 || write(fd, p, n) != (ssize_t)n)
				fail("memfd");
		}
}

static void sysv(void)
{
	size_t n = b * 1024;
	int ids[4096], k = 0;
	for (long done = 0; now() < length; rest(1.0 / TICKS))
		for (; due(a / b, done) > 0 && k < 4096; done++) {
			int id = shmget(IPC_PRIVATE, n, 0600);
			void *p = id < 0 ? fail("shmget") : shmat(id, NULL, 0);
			memset(p, 1, n);
			shmdt(p);
			ids[k++] = id;
		}
	while (k > 0) /* or they would outlive the program */
		shmctl(ids[--k], IPC_RMID, NULL);
}

static void *forever(void *arg)
{
	char stack[4096];
	memset(stack, 1, sizeof stack);
	for (;;)
		pause();
	return arg;
}

static void threads(void)
{
	for (long done = 0; now() < length; rest(1.0 / TICKS))
		for (; due(a, done) > 0; done++) {
			pthread_t t;
			if ((errno = pthread_create(&t, NULL, forever, NULL)))
				fail("pthread_create");
		}
}

static void fds(void)
{
	for (long done = 0; now() < length; rest(1.0 / TICKS))
		for (; due(a, done) > 0; done++)
			if (open("/dev/null", O_RDONLY) < 0)
				fail("open");
}

static void pagetables(void)
{
	size_t n = b * (1 << 30);
	volatile char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		fail("mmap");
	madvise((void *)p, n, MADV_NOHUGEPAGE);
	size_t at = 0;
	for (long done = 0; now() < length; rest(1.0 / TICKS))
		for (; due(a, done) > 0 && at < n; done++, at += 2 << 20)
			(void)p[at];
}

static void space(void)
{
	for (long done = 0; now() < length; rest(1.0 / TICKS))
		for (; due(a / b, done) > 0; done++)
			mmap(NULL, b * 1024, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static void children(void)
{
	pid_t pids[4096];
	int n = 0;
	for (long done = 0; now() < length; rest(1.0 / TICKS))
		for (; due(a, done) > 0 && n < 4096; done++)
			if ((pids[n++] = fork()) == 0)
				forever(NULL);
	while (n > 0) /* or they would outlive the program */
		kill(pids[--n], SIGKILL);
}

static void worker(void)
{
	if (fork() == 0) {
		leak((void *)1L);
		_exit(0);
	}
	wait(NULL);
}

static void flat(void)
{
	size_t n = a * 1048576;
	char *p = take(n);
	for (size_t i = 0; now() < length; i += 4097) {
		p[i % n]++;
		if (i % 1000 == 0)
			rest(0.001);
	}
}

static void cache(void)
{
	enum { BLOCK = 8 << 10 };
	long most = a * 1048576 / BLOCK, done = 0;
	void **blocks = calloc(most, sizeof *blocks);
	srand(7);
	for (; now() < length; rest(1.0 / TICKS))
		for (; due(most / (length * b / 100), done) > 0; done++) {
			long i = done < most ? done : rand() % most;
			free(blocks[i]);
			blocks[i] = take(BLOCK);
		}
}

static void teeth(int mappings)
{
	enum { BLOCK = 16 << 10 };
	long most = a * 1048576 / BLOCK, n = 0, done = 0;
	void **blocks = calloc(most, sizeof *blocks);
	for (; now() < length; rest(1.0 / TICKS))
		for (; due(most * b, done) > 0; done++) {
			if (n == most)
				while (n-- > 0) {
					if (mappings)
						munmap(blocks[n], BLOCK);
					else
						free(blocks[n]);
				}
			n = n < 0 ? 0 : n;
			blocks[n++] = mappings ? memset(map(BLOCK, MAP_PRIVATE), 1, BLOCK) : take(BLOCK);
		}
}

static void saw(void) { teeth(0); }
static void sawmap(void) { teeth(1); }

static void steps(void)
{
	for (int i = 0; i < 3; i++) {
		size_t n = a * 1048576 / 3;
		for (size_t k = 0; k < n; k += 1 << 16)
			take(1 << 16);
		rest(length * 0.2);
	}
	while (now() < length)
		rest(0.1);
}

static void *plateau(void *arg)
{
	void *kept[512] = {0};
	unsigned seed = (unsigned)(long)arg;
	while (now() < length) {
		for (int i = 0; i < 64; i++) {
			int k = rand_r(&seed) % 512;
			free(kept[k]);
			kept[k] = take(rand_r(&seed) % 8000 + 1);
		}
		rest(1.0 / TICKS);
	}
	return NULL;
}

static void arenas(void)
{
	pthread_t t[256];
	for (long i = 0; i < (long)a; i++)
		pthread_create(&t[i], NULL, plateau, (void *)i);
	for (long i = 0; i < (long)a; i++)
		pthread_join(t[i], NULL);
}

static void *brief(void *arg)
{
	free(take(100000));
	rest(0.05);
	return arg;
}

static void comers(void)
{
	for (long done = 0; now() < length; rest(1.0 / TICKS))
		for (; due(a, done) > 0; done++) {
			pthread_t t;
			if ((errno = pthread_create(&t, NULL, brief, NULL)))
				fail("pthread_create");
			pthread_detach(t);
		}
}

static void forks(void)
{
	for (long done = 0; now() < length; rest(1.0 / TICKS)) {
		for (; due(a, done) > 0; done++)
			if (fork() == 0) {
				take((size_t)(b * 1048576));
				rest(0.1);
				_exit(0);
			}
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	while (wait(NULL) > 0)
		;
}

static void cow(void)
{
	size_t n = a * 1048576;
	char *p = take(n);
	if (fork() == 0) {
		for (size_t at = 0; at < n && now() < length; at += 4096) {
			p[at]++;
			if (at % (n / 256 / 4096 * 4096) == 0)
				rest(length / 256);
		}
		_exit(0);
	}
	while (now() < length)
		rest(0.1);
	wait(NULL);
}

static char path[4096];

static int file(const char *dir, size_t n)
{
	snprintf(path, sizeof path, "%s/leaks.%d", dir, getpid());
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	unlink(path);
	if (fd < 0 || ftruncate(fd, n))
		fail(dir);
	return fd;
}

static void pagecache(const char *dir)
{
	int fd = file(dir, 0);
	size_t n = a * 1048576;
	char *p = take(1 << 16);
	for (size_t at = 0; now() < length; at += 1 << 16, rest(0.002))
		if (pwrite(fd, p, 1 << 16, at % n) < 0 || pread(fd, p, 1 << 16, at % n / 2) < 0)
			fail("file");
}

static void filemap(const char *dir)
{
	size_t n = a * 1048576;
	int fd = file(dir, n);
	volatile char *p = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
	for (size_t at = 0; now() < length; rest(1.0 / TICKS))
		for (size_t to = n * (now() / length); at < to && at < n; at += 4096)
			(void)p[at];
}

static void fdchurn(void)
{
	int open_fds[64], n = 0;
	for (long done = 0; now() < length; rest(1.0 / TICKS))
		for (; due(a, done) > 0; done++) {
			if (n == 64)
				while (n > 0)
					close(open_fds[--n]);
			open_fds[n++] = open("/dev/null", O_RDONLY);
		}
}

static void memfdchurn(void)
{
	size_t n = a * 1024;
	char *p = take(n);
	while (now() < length) {
		int fd = memfd_create("brief", 0);
		if (fd < 0 || write(fd, p, n) != (ssize_t)n)
			fail("memfd");
		rest(0.03);
		close(fd);
	}
}

static void deeper(long left)
{
	volatile char frame[16 << 10];
	memset((void *)frame, 1, sizeof frame);
	rest(length / 5 / (a * 64));
	if (left > 0)
		deeper(left - 1);
	else
		while (now() < length)
			rest(0.1);
	frame[0]++;
}

static void deep(void) { deeper(a * 64); }

static void teardown(void)
{
	enum { BLOCK = 64 << 10 };
	long n = a * 1048576 / BLOCK;
	void **blocks = calloc(n, sizeof *blocks);
	for (long i = 0; i < n; i++)
		blocks[i] = take(BLOCK);
	while (now() < length)
		rest(0.05);
	while (n > 0)
		free(blocks[--n]);
}

static void bigbuf(void)
{
	size_t n = a * 1048576, at = 0;
	char *p = map(n, MAP_PRIVATE);
	for (; now() < length; rest(1.0 / TICKS))
		for (size_t to = n * 0.8 * (now() / length); at < to; at += 4096)
			p[at] = 1;
}

static void approach(void)
{
	long done = 0;
	while (now() < length) {
		long want = a * 1024 * (1 - exp(-now() / (length * b / 100)));
		for (; done < want; done++)
			take(1000);
		rest(1.0 / TICKS);
	}
}

static const struct {
	const char *name;
	void (*run)(void);
} modes[] = {
	{"heap", heap}, {"bursts", bursts}, {"freedexit", freedexit}, {"hidden", hidden}, {"arena", arena}, {"mmap", leak_mmap},
	{"remap", remap}, {"shared", shared}, {"memfd", memfd}, {"sysv", sysv}, {"threads", threads}, {"fds", fds},
	{"pagetables", pagetables}, {"space", space}, {"children", children}, {"worker", worker}, {"flat", flat}, {"cache", cache},
	{"saw", saw}, {"sawmap", sawmap}, {"steps", steps}, {"arenas", arenas}, {"comers", comers}, {"forks", forks}, {"cow", cow},
	{"fdchurn", fdchurn}, {"memfdchurn", memfdchurn}, {"deep", deep}, {"teardown", teardown}, {"bigbuf", bigbuf}, {"approach", approach},
};

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	length = atof(argv[2]);
	a = argc > 3 ? atof(argv[3]) : 1;
	b = argc > 4 ? atof(argv[4]) : 1;
	clock_gettime(CLOCK_MONOTONIC, &begun);
	if (!strcmp(argv[1], "pagecache") || !strcmp(argv[1], "filemap")) {
		(argv[1][0] == 'p' ? pagecache : filemap)(argc > 4 ? argv[4] : "/tmp");
		return 0;
	}
	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
		if (!strcmp(argv[1], modes[i].name)) {
			modes[i].run();
			return 0;
		}
	fprintf(stderr, "%s: no mode %s\n", argv[0], argv[1]);
	return 2;
}
