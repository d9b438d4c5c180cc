/* quick: none */
/* Calls that a signal or a stop interrupts: which begin again, which go on
 * where they were, which come back with EINTR. Every answer is printed, so that
 * runs can be compared. */
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include "mark.h"

static volatile int hits;
static int fds[2], ep;
static volatile long *sent; /* by the helper: when it had sent its signal, in ms */

static void on(int sig)
{
	(void)sig;
	hits++;
}

static long ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A helper that stops us and lets us go on, or sends a signal, after a while. */
static pid_t after(int how)
{
	pid_t me = getpid(), pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		wait_asleep(me);
		if (how == 0) {
			kill(me, SIGSTOP);
			nap(60);
			kill(me, SIGCONT);
		} else
			kill(me, how);
		*sent = ms();
		nap(60);
		/* what the reader waits for */
		if (write(fds[1], "x", 1) != 1)
			_exit(1);
		_exit(0);
	}
	return pid;
}

static const char *const name[] = {"nanosleep", "clock_nanosleep abs", "poll", "ppoll", "select", "epoll_wait", "futex",
				   "pause", "sigsuspend", "sigtimedwait", "read pipe", "wait4", "recv timeout", "msleep"};

/* Makes call i, which ends by itself after so many ms, if it is one of those. */
static long call(int i, pid_t helper, long limit)
{
	struct timespec t = {limit / 1000, limit % 1000 * 1000000}, end;
	struct timeval tv = {limit / 1000, limit % 1000 * 1000};
	struct pollfd pf = {-1, POLLIN, 0};
	static int word;
	struct epoll_event ev;
	sigset_t none, rt;
	char c;
	int st;
	switch (i) {
	case 0:
		return syscall(SYS_nanosleep, &t, &t);
	case 1:
		clock_gettime(CLOCK_MONOTONIC, &end);
		end.tv_sec += t.tv_sec;
		end.tv_nsec += t.tv_nsec;
		if (end.tv_nsec >= 1000000000)
			end.tv_sec++, end.tv_nsec -= 1000000000;
		errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
		return errno ? -1 : 0;
	case 2:
		return poll(&pf, 1, limit);
	case 3:
		return ppoll(&pf, 1, &t, NULL);
	case 4:
		return select(0, NULL, NULL, NULL, &tv);
	case 5:
		return epoll_wait(ep, &ev, 1, limit);
	case 6:
		return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, NULL, 0);
	case 7:
		return pause();
	case 8:
		sigemptyset(&none);
		return sigsuspend(&none);
	case 9:
		sigemptyset(&rt);
		sigaddset(&rt, SIGRTMAX);
		return sigtimedwait(&rt, NULL, &t);
	case 10:
		return read(fds[0], &c, 1);
	case 11:
		return waitpid(helper, &st, 0) == helper;
	case 12: {
		static int sv[2];
		if (!sv[0])
			CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
		CHECK(setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
		return recv(sv[0], &c, 1, 0);
	}
	case 13:
		return epoll_pwait(ep, &ev, 1, limit, NULL);
	}
	return 0;
}

/* Makes call i while a helper does what is to be done in way how, and prints the
 * answer; false if the helper came too late, so that nothing can be said. */
static int answer(int how, int i, long limit)
{
	int ends = i <= 6 || i == 9 || i == 12 || i == 13; /* by itself */
	char c;
	hits = 0;
	*sent = 0;
	errno = 0;
	long t0 = ms();
	pid_t pid = after(how == 0 ? 0 : SIGUSR1);
	long r = call(i, pid, limit);
	int e = errno;
	if (i == 11 && r == 1)
		e = 0;
	else
		reap(pid, 0);
	long took = ms() - t0;
	if (i != 10 || r != 1)
		CHECK(read(fds[0], &c, 1) == 1);
	CHECK(hits == (how > 0));
	if (ends && *sent - t0 > limit / 2)
		return 0;
	/* what ran its course ran all of it */
	if (ends && r != -1 && took < limit / 2)
		complain(__FILE__, __LINE__, name[i]);
	printf("%s, %s: %ld %s\n", name[i],
	       how == 0 ? "stopped and continued" : how == 1 ? "handler, SA_RESTART" : "handler", r,
	       r == -1 ? strerrorname_np(e) : "");
	return 1;
}

int main(void)
{
	setlinebuf(stdout);
	CHECK(pipe(fds) == 0);
	ep = epoll_create1(EPOLL_CLOEXEC);
	sent = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(ep >= 0 && sent != MAP_FAILED);
	for (int how = 0; how < 3; how++) {
		struct sigaction sa = {.sa_handler = on, .sa_flags = how == 1 ? SA_RESTART : 0};
		sigaction(SIGUSR1, &sa, NULL);
		for (int i = 0; i < 14; i++) {
			if (how == 0 && (i == 7 || i == 8))
				continue; /* would wait for ever */
			for (long limit = 400; !answer(how, i, limit); limit *= 2)
				CHECK(limit < 60000);
		}
	}
	return 0;
}
