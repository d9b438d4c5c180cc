/* quick: x86_64 i386 */
/* Births of every kind: fork, vfork, posix_spawn, clone with a shared address
 * space but no thread, clone3, a pid namespace, a daemon of a daemon. */
#include <spawn.h>
#include <linux/sched.h>
#include "mark.h"

#define RW (PROT_READ | PROT_WRITE)
extern char **environ;
static volatile int shared_word;
static char *child_mapping;

static int clone_vm(void *arg)
{
	/* runs in the parent's memory, as another process */
	shared_word = 7;
	child_mapping = (char *)rawcall(SYS_brk, 0, 0, 0, 0);
	child_mapping = mmap(NULL, 3 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MARK((long)arg);
	return child_mapping == MAP_FAILED;
}

int main(int argc, char **argv)
{
	int st, k = 1;
	pid_t pid;
	if (argc > 1) { /* what posix_spawn and vfork start */
		MARK(atoi(argv[1]));
		return atoi(argv[2]);
	}
	char *heap = malloc(1000), *p = anon(8 * PAGE, RW);
	strcpy(heap, "heap");
	strcpy(p, "anon");
	MARK(k++);

	/* fork: each goes its own way from here on */
	CHECK((pid = fork()) >= 0);
	if (pid == 0) {
		MARK(100);
		CHECK(munmap(p, PAGE) == 0 && sbrk(10 * PAGE) != (void *)-1);
		MARK(101);
		pid_t grandchild = fork();
		if (grandchild == 0) {
			MARK(102);
			CHECK(!mapped(p));
			_exit(3);
		}
		reap(grandchild, 3 << 8);
		_exit(5);
	}
	anon(PAGE, PROT_READ);
	MARK(k++);
	reap(pid, 5 << 8);
	CHECK(!strcmp(p, "anon"));
	MARK(k++);

	/* vfork: a child in our memory until it ends or execs */
	CHECK((pid = vfork()) >= 0);
	if (pid == 0) {
		shared_word = 1;
		child_mapping = mmap(NULL, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		MARK(110);
		_exit(0);
	}
	CHECK(shared_word == 1 && mapped(child_mapping));
	MARK(k++);
	reap(pid, 0);
	CHECK((pid = vfork()) >= 0);
	if (pid == 0) {
		execl("/proc/self/exe", "family", "111", "9", (char *)NULL);
		_exit(127);
	}
	MARK(k++);
	reap(pid, 9 << 8);

	/* posix_spawn */
	char *av[] = {"family", "112", "4", NULL};
	CHECK(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, av, environ) == 0);
	MARK(k++);
	reap(pid, 4 << 8);
	CHECK(posix_spawn(&pid, "/nonexistent", NULL, NULL, av, environ) == ENOENT);
	MARK(k++);

	/* clone(CLONE_VM) without CLONE_THREAD; first waiting for it, then beside it */
	char *stack = anon(64 * PAGE, RW);
	pid = clone(clone_vm, stack + 64 * PAGE, CLONE_VM | SIGCHLD, (void *)120L);
	CHECK(pid > 0);
	reap(pid, 0);
	CHECK(shared_word == 7 && mapped(child_mapping));
	MARK(k++);
	/* and one that shares nothing else and tells nobody of its end */
	shared_word = 0;
	pid = clone(clone_vm, stack + 64 * PAGE, CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_VFORK, (void *)121L);
	CHECK(pid > 0 && waitpid(pid, &st, __WALL) == pid && st == 0 && shared_word == 7);
	MARK(k++);

	/* clone3, with a chosen number where that is allowed */
	struct clone_args ca = {.exit_signal = SIGCHLD};
	pid_t want = 30000 + getpid() % 1000;
	ca.set_tid = (uintptr_t)&want;
	ca.set_tid_size = 1;
	pid = syscall(SYS_clone3, &ca, sizeof ca);
	if (pid == -1 && (errno == EPERM || errno == EEXIST)) {
		ca.set_tid = ca.set_tid_size = 0;
		pid = syscall(SYS_clone3, &ca, sizeof ca);
		want = pid;
	}
	if (pid == 0) {
		MARK(130);
		_exit(0);
	}
	if (pid == -1)
		CHECK(errno == ENOSYS);
	else {
		CHECK(pid == want);
		reap(pid, 0);
	}
	MARK(k++);

	/* a pid namespace: the child is 1 to itself */
	ca = (struct clone_args){.flags = CLONE_NEWPID, .exit_signal = SIGCHLD};
	pid = syscall(SYS_clone3, &ca, sizeof ca);
	if (pid == 0) {
		CHECK(getpid() == 1);
		MARK(140);
		pid_t two = fork();
		if (two == 0) {
			CHECK(getpid() == 2);
			MARK(141);
			_exit(0);
		}
		CHECK(two == 2);
		reap(two, 0);
		_exit(0);
	}
	if (pid > 0)
		reap(pid, 0);
	else
		CHECK(errno == EPERM || errno == ENOSYS || errno == EINVAL);
	MARK(k++);

	/* CLONE_PARENT: a brother, not a child */
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		pid_t brother = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
		if (brother == 0) {
			MARK(150);
			_exit(0);
		}
		CHECK(brother > 0 && waitpid(brother, NULL, 0) == -1 && errno == ECHILD);
		_exit(0);
	}
	for (int i = 0; i < 2; i++)
		CHECK(wait(&st) > 0 && st == 0);
	CHECK(wait(NULL) == -1 && errno == ECHILD);
	MARK(k++);
	puts("family ok");
	return 0;
}
