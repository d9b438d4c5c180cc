/* args: exit | exec | kill | thread */
/* Sudden ends while other threads are inside calls that map and unmap:
 * exit_group, exec (by the first thread and by another), SIGKILL from outside,
 * and one thread that ends alone. */
#include <pthread.h>
#include "mark.h"

#define RW (PROT_READ | PROT_WRITE)

static volatile int stop;

static void *churn(void *arg)
{
	size_t n = (64 + (long)arg * 16) * PAGE;
	while (!stop) {
		char *p = mmap(NULL, n, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			break;
		for (size_t i = 0; i < n; i += PAGE)
			p[i] = 1;
		CHECK(mprotect(p, n / 2, PROT_READ) == 0);
		CHECK(munmap(p, n) == 0);
	}
	return NULL;
}

static void *execs(void *arg)
{
	nap((long)arg);
	execl("/proc/self/exe", "sudden", "after", "1", (char *)NULL);
	return NULL;
}

static void *dies(void *arg)
{
	char *p = anon(16 * PAGE, RW);
	munmap(p, 16 * PAGE);
	syscall(SYS_exit, 0); /* the thread alone, with no word to libc */
	return arg;
}

static void start(pthread_t *t, int n)
{
	for (long i = 0; i < n; i++) {
		int e = pthread_create(&t[i], NULL, churn, (void *)i);
		CHECK(e == 0 || e == EAGAIN); /* so it says while another thread execs */
	}
}

int main(int argc, char **argv)
{
	pthread_t t[16], e;
	CHECK(argc > 1);
	if (!strcmp(argv[1], "after")) {
		MARK(200);
		return 6;
	}
	int n = argc > 2 ? atoi(argv[2]) : 12;
	MARK(1);
	if (!strcmp(argv[1], "thread")) {
		start(t, 3);
		for (int i = 0; i < n * 8; i++) {
			CHECK(pthread_create(&e, NULL, dies, NULL) == 0);
			pthread_detach(e);
			nap(1);
		}
		stop = 1;
		for (int i = 0; i < 3; i++)
			CHECK(pthread_join(t[i], NULL) == 0);
		wait_alone();
		MARK(2);
		puts("sudden ok");
		return 0;
	}
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			if (!strcmp(argv[1], "exec") && i % 2)
				CHECK(pthread_create(&e, NULL, execs, (void *)(long)(3 + i)) == 0);
			start(t, 8);
			nap(2 + i);
			if (!strcmp(argv[1], "exit"))
				_exit(7);
			if (!strcmp(argv[1], "exec") && i % 2 == 0)
				execs(NULL);
			for (;;)
				pause();
		}
		if (!strcmp(argv[1], "kill")) {
			nap(3 + 2 * i);
			kill(pid, SIGKILL);
			reap(pid, SIGKILL);
		} else
			reap(pid, !strcmp(argv[1], "exit") ? 7 << 8 : 6 << 8);
	}
	MARK(3);
	puts("sudden ok");
	return 0;
}
