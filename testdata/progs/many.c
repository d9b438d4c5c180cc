/* args: threads | procs */
/* quick: none */
/* Many: `threads` starts 500 threads at once, `procs` 1000 short processes, some
 * of which exec. */
#include <pthread.h>
#include "mark.h"

static pthread_barrier_t all;
static int sum;

static void *thread(void *arg)
{
	char *p = anon(PAGE, PROT_READ | PROT_WRITE);
	*(long *)p = (long)arg;
	__atomic_add_fetch(&sum, 1, __ATOMIC_SEQ_CST);
	pthread_barrier_wait(&all);
	pthread_barrier_wait(&all);
	CHECK(*(long *)p == (long)arg);
	munmap(p, PAGE);
	return arg;
}

static void threads(int n)
{
	pthread_t *t = calloc(n, sizeof *t);
	pthread_attr_t a;
	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, 128 << 10);
	pthread_barrier_init(&all, NULL, n + 1);
	for (long i = 0; i < n; i++)
		CHECK(pthread_create(&t[i], &a, thread, (void *)i) == 0);
	pthread_barrier_wait(&all);
	CHECK(sum == n);
	/* all of them wait for one word now */
	nap(50);
	MARK(1);
	pthread_barrier_wait(&all);
	for (long i = 0; i < n; i++) {
		void *r;
		CHECK(pthread_join(t[i], &r) == 0 && r == (void *)i);
	}
	MARK(2);
}

static __attribute__((noinline)) pid_t start(int i)
{
	char s[12];
	snprintf(s, sizeof s, "%d", i % 100);
	pid_t p = i % 3 == 2 ? vfork() : fork();
	CHECK(p >= 0);
	if (p == 0) {
		if (i % 10 == 9)
			execl("/proc/self/exe", "many", "exit", s, (char *)NULL);
		_exit(i % 100);
	}
	return p;
}

static void procs(int n)
{
	pid_t pid[8];
	int live = 0;
	for (int i = 0; i < n; i++) {
		pid[live++] = start(i);
		if (live == 8 || i == n - 1)
			for (int j = 0; j < live; j++) {
				int st;
				CHECK(waitpid(pid[j], &st, 0) == pid[j]);
				CHECK(WIFEXITED(st) && WEXITSTATUS(st) == (i - live + 1 + j) % 100);
			}
		if (live == 8)
			live = 0;
	}
	MARK(1);
}

int main(int argc, char **argv)
{
	CHECK(argc > 1);
	if (!strcmp(argv[1], "exit"))
		return atoi(argv[2]);
	if (!strcmp(argv[1], "threads"))
		threads(argc > 2 ? atoi(argv[2]) : 500);
	else
		procs(argc > 2 ? atoi(argv[2]) : 1000);
	puts("many ok");
	return 0;
}
