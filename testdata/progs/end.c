/* build: none */
/* Ends as it is told: end status N, end signal N, end name of a way. */
#include <pthread.h>
#include <sys/resource.h>
#include "mark.h"

static void *leave(void *arg)
{
	syscall(SYS_exit_group, (long)arg);
	return NULL;
}

int main(int argc, char **argv)
{
	CHECK(argc == 3);
	long n = atol(argv[2]);
	if (!strcmp(argv[1], "status"))
		return n;
	if (!strcmp(argv[1], "signal")) {
		struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		signal(n, SIG_DFL);
		sigset_t m;
		sigemptyset(&m);
		sigaddset(&m, n);
		sigprocmask(SIG_UNBLOCK, &m, NULL);
		kill(getpid(), n);
		return 99; /* one that does not kill */
	}
	if (!strcmp(argv[1], "thread")) { /* another thread ends it */
		pthread_t t;
		pthread_create(&t, NULL, leave, (void *)n);
		for (;;)
			pause();
	}
	if (!strcmp(argv[1], "leader")) { /* the first thread ends first */
		pthread_t t;
		pthread_create(&t, NULL, leave, (void *)n);
		syscall(SYS_exit, 77);
	}
	if (!strcmp(argv[1], "sleep")) { /* long enough to be interrupted */
		nap(n);
		return 0;
	}
	return 2;
}
