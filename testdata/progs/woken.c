/* Waits that a signal which does nothing must not end: the program has no
 * handlers. Nor may it see another affinity than its own, or a descriptor that it
 * did not make. */
#include <sys/epoll.h>
#include <sys/sem.h>
#include "mark.h"

int main(void)
{
	struct epoll_event e;
	struct sembuf down = {0, -1, 0};
	struct timespec patience = {0, 150 * 1000000};
	cpu_set_t cpus;
	int ep = epoll_create1(0), st, fd;
	CHECK(ep >= 0);
	signal(SIGCHLD, SIG_DFL);
	MARK(1);
	for (int i = 0; i < 3; i++) {
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			nap(20);
			_exit(0);
		}
		CHECK(epoll_wait(ep, &e, 1, 150) == 0);
		CHECK(waitpid(pid, &st, 0) == pid && st == 0);
	}
	int sem = semget(IPC_PRIVATE, 1, 0600);
	if (sem >= 0) {
		signal(SIGUSR1, SIG_IGN);
		pid_t self = getpid(), pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			nap(20);
			kill(self, SIGUSR1);
			_exit(0);
		}
		int r = semtimedop(sem, &down, 1, &patience), why = errno;
		semctl(sem, 0, IPC_RMID);
		CHECK(r < 0 && (why == EAGAIN || why == ENOSYS));
		CHECK(waitpid(pid, &st, 0) == pid && st == 0);
	}
	CHECK((fd = dup(2)) >= 0);
	CHECK(close(fd) == 0);
	for (int i = 0; i < 500; i++) { /* calls enough for all that a recorder may do */
		void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(p != MAP_FAILED);
		*(volatile char *)p = 1;
		CHECK(munmap(p, PAGE) == 0);
		int d = dup(2);
		CHECK(d == fd);
		CHECK(close(d) == 0);
	}
	MARK(2);
	CHECK(sched_getaffinity(0, sizeof cpus, &cpus) == 0);
	printf("%d CPUs\n", CPU_COUNT(&cpus));
	return 0;
}
