/* args: all | interrupted */
/* Job control on a terminal of its own: a small shell runs a job, which is
 * stopped by ^Z, stopped again for reading in the background, brought back,
 * given a line, and killed by ^C. */
#include <termios.h>
#include <sys/ioctl.h>
#include "mark.h"

static void say(const char *s)
{
	CHECK(write(1, s, strlen(s)) == (ssize_t)strlen(s));
}

static void expect(pid_t job, int sig, int options)
{
	int st;
	pid_t r;
	while ((r = waitpid(job, &st, options)) < 0 && errno == EINTR)
		;
	CHECK(r == job);
	if (options & WCONTINUED && WIFCONTINUED(st)) {
		say("continued\n");
		return;
	}
	if (!WIFSTOPPED(st) || WSTOPSIG(st) != sig) {
		dprintf(2, "status %#x, expected a stop by %d\n", st, sig);
		_exit(1);
	}
	say("stopped\n");
}

static int ready[2];

static void job(void)
{
	char line[64];
	setpgid(0, 0);
	while (tcgetpgrp(0) != getpgrp())
		nap(1);
	signal(SIGTTOU, SIG_DFL);
	CHECK(write(ready[1], "r", 1) == 1); /* stopped before this it would wait for ever */
	for (int i = 0; i < 2; i++) {
		ssize_t n = read(0, line, sizeof line - 1);
		CHECK(n > 0);
		line[n] = 0;
		say("read: ");
		say(line);
		CHECK(write(ready[1], "r", 1) == 1);
	}
	_exit(3);
}

/* Puts a new job in the foreground. */
static pid_t start(void)
{
	char c;
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		job();
	setpgid(pid, pid);
	CHECK(tcsetpgrp(0, pid) == 0);
	CHECK(read(ready[0], &c, 1) == 1);
	return pid;
}

#define NEXT(ch) CHECK(write(tell, ch, 1) == 1 && read(hear, &c, 1) == 1)

/* A job that is sent SIGINT while it is stopped: that kills it, but only when
 * it goes on. */
static void interrupted(int tell, int hear)
{
	int st;
	char c;
	pid_t pid = start();
	NEXT("z");
	expect(pid, SIGTSTP, WUNTRACED);
	kill(pid, SIGINT);
	nap(30);
	CHECK(waitpid(pid, &st, WNOHANG) == 0);
	kill(pid, SIGCONT);
	CHECK(waitpid(pid, &st, 0) == pid && WIFSIGNALED(st) && WTERMSIG(st) == SIGINT);
	say("interrupted ok\n");
	NEXT("q");
	_exit(0);
}

static void shell(int hear, int tell, int interrupt)
{
	int st;
	char c;
	CHECK(setsid() > 0);
	int tty = open(getenv("JOBS_TTY"), O_RDWR);
	CHECK(tty >= 0 && ioctl(tty, TIOCSCTTY, 0) == 0);
	dup2(tty, 0);
	signal(SIGTTOU, SIG_IGN);
	signal(SIGINT, SIG_DFL); /* a background job of a script is born with it ignored */
	CHECK(pipe(ready) == 0);
	pid_t pid = start();
	NEXT("z"); /* ask for ^Z */
	expect(pid, SIGTSTP, WUNTRACED);
	/* bg: it runs on, reads, and is stopped for that */
	CHECK(tcsetpgrp(0, getpgrp()) == 0);
	kill(-pid, SIGCONT);
	expect(pid, SIGTTIN, WUNTRACED);
	/* fg */
	CHECK(tcsetpgrp(0, pid) == 0);
	kill(-pid, SIGCONT);
	NEXT("l"); /* a line */
	CHECK(read(ready[0], &c, 1) == 1);
	kill(pid, SIGSTOP);
	expect(pid, SIGSTOP, WUNTRACED);
	CHECK(waitpid(pid, &st, WNOHANG | WUNTRACED) == 0);
	kill(pid, SIGCONT);
	expect(pid, 0, WCONTINUED);
	NEXT("l");
	CHECK(read(ready[0], &c, 1) == 1);
	CHECK(waitpid(pid, &st, WUNTRACED) == pid && WIFEXITED(st) && WEXITSTATUS(st) == 3);
	if (interrupt) {
		interrupted(tell, hear);
		return;
	}
	pid = start();
	NEXT("c");
	CHECK(waitpid(pid, &st, 0) == pid && WIFSIGNALED(st) && WTERMSIG(st) == SIGINT);
	say("jobs ok\n");
	NEXT("q");
	_exit(0);
}

int main(int argc, char **argv)
{
	int down[2], up[2], m = posix_openpt(O_RDWR | O_NOCTTY), st;
	if (m < 0 || grantpt(m) || unlockpt(m))
		SKIP("no pseudo terminal");
	setenv("JOBS_TTY", ptsname(m), 1);
	CHECK(pipe(down) == 0 && pipe(up) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		shell(down[0], up[1], argc > 1 && !strcmp(argv[1], "interrupted"));
	close(up[1]);
	MARK(1);
	char c;
	while (read(up[0], &c, 1) == 1) {
		nap(50); /* most often the job comes to its read meanwhile */
		if (c == 'z')
			CHECK(write(m, "\032", 1) == 1);
		else if (c == 'c')
			CHECK(write(m, "\003", 1) == 1);
		else if (c == 'l')
			CHECK(write(m, "hello\n", 6) == 6);
		CHECK(write(down[1], "g", 1) == 1);
		if (c == 'q')
			break;
	}
	CHECK(waitpid(pid, &st, 0) == pid && WIFEXITED(st) && WEXITSTATUS(st) == 0);
	MARK(2);
	return 0;
}
