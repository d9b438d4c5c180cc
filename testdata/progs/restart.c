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

/* Waits until a process has been asleep for a while: on a busy machine it may take
 * long to get there. */
static void asleep(pid_t pid)
{
	char path[32], b[256];
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	for (int left = 400, seen = 0; left > 0 && seen < 5; left--) {
		nap(5);
		int fd = open(path, O_RDONLY);
		ssize_t n = fd < 0 ? -1 : read(fd, b, sizeof b - 1);
		close(fd);
		b[n < 0 ? 0 : n] = 0;
		char *end = strrchr(b, ')');
		seen = end && end[1] == ' ' && end[2] == 'S' ? seen + 1 : 0;
	}
}

/* A helper that stops us and lets us go on, or sends a signal, after a while. */
static pid_t after(int how)
{
	pid_t me = getpid(), pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		asleep(me);
		if (how == 0) {
			kill(me, SIGSTOP);
			nap(60);
			kill(me, SIGCONT);
		} else
			kill(me, how);
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

static long call(int i, pid_t helper)
{
	struct timespec t = {0, 500000000}, end;
	struct timeval tv = {0, 500000};
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
		end.tv_nsec += 500000000;
		if (end.tv_nsec >= 1000000000)
			end.tv_sec++, end.tv_nsec -= 1000000000;
		errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
		return errno ? -1 : 0;
	case 2:
		return poll(&pf, 1, 500);
	case 3:
		return ppoll(&pf, 1, &t, NULL);
	case 4:
		return select(0, NULL, NULL, NULL, &tv);
	case 5:
		return epoll_wait(ep, &ev, 1, 500);
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
		if (!sv[0]) {
			CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
			setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
		}
		return recv(sv[0], &c, 1, 0);
	}
	case 13:
		return epoll_pwait(ep, &ev, 1, 500, NULL);
	}
	return 0;
}

int main(void)
{
	setlinebuf(stdout);
	CHECK(pipe(fds) == 0);
	ep = epoll_create1(EPOLL_CLOEXEC);
	for (int how = 0; how < 3; how++) {
		struct sigaction sa = {.sa_handler = on, .sa_flags = how == 1 ? SA_RESTART : 0};
		sigaction(SIGUSR1, &sa, NULL);
		for (int i = 0; i < 14; i++) {
			if (how == 0 && (i == 7 || i == 8))
				continue; /* would wait for ever */
			hits = 0;
			errno = 0;
			long t0 = ms();
			pid_t pid = after(how == 0 ? 0 : SIGUSR1);
			long r = call(i, pid);
			int e = errno;
			if (i == 11 && r == 1)
				e = 0;
			else if (waitpid(pid, NULL, 0) != pid)
				complain(__FILE__, __LINE__, "helper");
			long took = ms() - t0;
			char c;
			if (i != 10 || r != 1)
				CHECK(read(fds[0], &c, 1) == 1);
			CHECK(hits == (how > 0));
			/* what ran its course ran all of it */
			if ((i <= 6 || i == 9 || i == 12 || i == 13) && r != -1)
				if (took < 240)
					complain(__FILE__, __LINE__, name[i]);
			printf("%s, %s: %ld %s\n", name[i],
			       how == 0 ? "stopped and continued" : how == 1 ? "handler, SA_RESTART" : "handler", r,
			       r == -1 ? strerrorname_np(e) : "");
		}
	}
	return 0;
}
