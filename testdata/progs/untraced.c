/* build: none */
/*
 * untraced.c: children whom nobody is to trace (CLONE_UNTRACED), by clone, clone3 and
 * with memory that is shared until they run another program (vfork). They make calls,
 * and children of their own.
 */
#include "mark.h"
#include <linux/sched.h>

static int work(void)
{
	char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return 10;
	p[0] = 1;
	if (munmap(p, 4 * PAGE) != 0)
		return 11;
	pid_t child = fork();
	if (child == 0)
		_exit(open("/etc/passwd", O_RDONLY) < 0);
	int st;
	if (child < 0 || waitpid(child, &st, 0) != child || st != 0)
		return 12;
	return 3;
}

static int runs(void *x)
{
	(void)x;
	execl("/bin/sh", "sh", "-c", "ls / >/dev/null && exit 3", NULL);
	return 13;
}

static char stack[64 << 10] __attribute__((aligned(16)));

int main(void)
{
	for (int i = 0; i < 3; i++) {
		pid_t child = syscall(SYS_clone, CLONE_UNTRACED | SIGCHLD, 0, 0, 0, 0);
		if (child == 0)
			_exit(work());
		CHECK(child > 0);
		reap(child, 3 << 8);

		struct clone_args a = {.flags = CLONE_UNTRACED, .exit_signal = SIGCHLD};
		child = syscall(SYS_clone3, &a, sizeof a);
		if (child == 0)
			_exit(work());
		CHECK(child > 0 && a.flags == CLONE_UNTRACED);
		reap(child, 3 << 8);

		child = clone(runs, stack + sizeof stack, CLONE_UNTRACED | CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
		CHECK(child > 0);
		reap(child, 3 << 8);
	}
	printf("untraced ok\n");
	return 0;
}
