/* build: none */
/* A process to be held still from outside: a thread computes, others wait in
 * calls that end with EINTR when somebody interrupts them. It says where a
 * pattern is, ends when its standard input does, and fails if anything showed. */
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "mark.h"

#define PAGES 64
static volatile int over;
static volatile unsigned long work;
static int pair[2];
static volatile pid_t tids[5];

/* Each thread begins by telling who it is. */
static void began(void *p)
{
	*(volatile pid_t *)p = syscall(SYS_gettid);
}

static void *computes(void *p)
{
	began(p);
	while (!over)
		work++;
	return p;
}

static void *polls(void *p)
{
	struct epoll_event ev;
	int fd = epoll_create1(0);

	began(p);
	ev.events = EPOLLIN;
	if (epoll_ctl(fd, EPOLL_CTL_ADD, pair[0], &ev))
		_exit(10);
	if (epoll_wait(fd, &ev, 1, -1) != 1)
		_exit(11);
	return p;
}

static void *receives(void *p)
{
	struct timeval tv = { 100, 0 };
	char c;

	began(p);
	setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv); /* such a recv is not restarted */
	if (recv(pair[0], &c, 1, 0) != 1)
		_exit(12);
	return p;
}

static void *waits(void *p)
{
	sigset_t set;
	siginfo_t info;

	began(p);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	if (sigwaitinfo(&set, &info) != SIGUSR1)
		_exit(13);
	return p;
}

static void *sleeps(void *p)
{
	struct timespec t = { 0, 50000000 };

	began(p);
	while (!over)
		if (nanosleep(&t, NULL))
			_exit(14);
	return p;
}

int main(void)
{
	void *(*what[])(void *) = { computes, polls, receives, waits, sleeps };
	pthread_t th[5];
	sigset_t set;
	char c;
	unsigned char *area, *none;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return 2;
	area = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	none = mmap(NULL, 1UL << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (int i = 0; i < PAGES; i += 2)
		memset(area + i * 4096, i + 1, 4096);
	for (int i = 0; i < 5; i++)
		pthread_create(&th[i], NULL, what[i], (void *)&tids[i]);
	while (!work)
		nap(1);
	for (int i = 1; i < 5; i++) { /* the others wait in their calls */
		while (!tids[i])
			nap(1);
		wait_asleep(tids[i]);
	}
	printf("%p %p %p\n", (void *)area, (void *)none, malloc(1));
	fflush(stdout);
	if (read(0, &c, 1) != 0)
		return 3;
	unsigned long before = work;
	for (int i = 0; work == before; i++) {
		if (i == 6000)
			return 4; /* it stands still */
		nap(10);
	}
	over = 1;
	kill(getpid(), SIGUSR1);
	if (write(pair[1], "xx", 2) != 2)
		return 5;
	for (int i = 0; i < 5; i++)
		pthread_join(th[i], NULL);
	for (int i = 0; i < PAGES; i++)
		if (area[i * 4096 + 7] != (i % 2 ? 0 : i + 1))
			return 6;
	puts("ok");
	return 0;
}
