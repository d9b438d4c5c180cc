/* Programs that confine or examine themselves: their own seccomp filters, strict
 * mode, chroot, user namespaces, no descriptors left, ptrace of their own. What
 * depends on the machine is printed, so that runs can be compared. */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include "mark.h"

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1
#endif

static volatile int trapped;

static void on_sys(int sig, siginfo_t *si, void *uc)
{
	(void)sig, (void)uc;
	CHECK(si->si_code == SYS_SECCOMP);
	trapped = si->si_syscall;
}

static void filter(int nr, unsigned action)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {4, f};
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p, 0, 0) == 0);
}

static pid_t begin(void)
{
	fflush(stdout);
	pid_t pid = fork();
	CHECK(pid >= 0);
	return pid;
}

#define CHILD for (pid_t pid_ = begin(); pid_ == 0; _exit(0))

static void wait_for(const char *what)
{
	int st;
	CHECK(wait(&st) > 0);
	printf("%s: %s %d\n", what, WIFSIGNALED(st) ? "signal" : "status", WIFSIGNALED(st) ? WTERMSIG(st) : WEXITSTATUS(st));
	CHECK(WIFSIGNALED(st) || WEXITSTATUS(st) == 0);
}

int main(void)
{
	CHILD {
		struct sigaction sa = {.sa_sigaction = on_sys, .sa_flags = SA_SIGINFO};
		sigaction(SIGSYS, &sa, NULL);
		filter(SYS_getppid, SECCOMP_RET_ERRNO | 42);
		CHECK(syscall(SYS_getppid) == -1 && errno == 42);
		filter(SYS_getuid, SECCOMP_RET_TRAP);
		syscall(SYS_getuid);
		CHECK(trapped == SYS_getuid);
		filter(SYS_getgid, SECCOMP_RET_TRACE | 7);
		/* nobody asked to be told of it: it fails, unless a tracer says otherwise */
		long r = syscall(SYS_getgid);
		printf("RET_TRACE without a tracer: %s\n", r == -1 && errno == ENOSYS ? "ENOSYS" : "done");
		/* a program that may not ask for a userfaultfd */
		filter(SYS_userfaultfd, SECCOMP_RET_ERRNO | EPERM);
		MARK(1);
		memset(anon(4 * PAGE, PROT_READ | PROT_WRITE), 1, 4 * PAGE);
		MARK(2);
		fflush(stdout);
		filter(SYS_getpgrp, SECCOMP_RET_KILL_PROCESS);
		syscall(SYS_getpgrp);
		_exit(1);
	}
	wait_for("own filter");
	CHILD {
		/* read, write, exit and sigreturn: nothing else, for anybody in its name */
		static char big[64 * PAGE];
		MARK(3);
		CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
		memset(big, 1, sizeof big);
		if (rawcall(SYS_write, -1, MAGIC + 99, 0, 0) != -EBADF)
			rawcall(SYS_exit, 1, 0, 0, 0);
		rawcall(SYS_exit, 0, 0, 0, 0);
	}
	wait_for("strict");
	CHILD {
		filter(SYS_userfaultfd, SECCOMP_RET_KILL_PROCESS);
		MARK(4);
		memset(anon(4 * PAGE, PROT_READ | PROT_WRITE), 1, 4 * PAGE);
		MARK(5);
	}
	wait_for("killed for userfaultfd");
	CHILD {
		/* not one descriptor to spare */
		struct rlimit l = {8, 8};
		MARK(6);
		CHECK(setrlimit(RLIMIT_NOFILE, &l) == 0);
		while (open("/dev/null", O_RDONLY) >= 0)
			;
		CHECK(errno == EMFILE);
		char *p = anon(8 * PAGE, PROT_READ | PROT_WRITE);
		p[0] = 1;
		CHECK(mprotect(p, PAGE, PROT_READ) == 0 && munmap(p + PAGE, PAGE) == 0);
		for (int i = 3; i < 8; i++)
			close(i);
		MARK(7);
	}
	wait_for("no descriptors");
	CHILD {
		/* it may not trace who is traced: EPERM there, 0 here */
		long r = ptrace(PTRACE_TRACEME, 0, 0, 0);
		if (r == -1)
			CHECK(errno == EPERM);
		MARK(8);
	}
	wait_for("traceme");
	{
		pid_t victim = begin();
		if (victim == 0)
			for (;;)
				pause();
		nap(20);
		CHILD {
			if (ptrace(PTRACE_ATTACH, victim, 0, 0) == 0)
				waitpid(victim, NULL, __WALL), ptrace(PTRACE_DETACH, victim, 0, 0);
			else
				CHECK(errno == EPERM);
		}
		wait_for("attach");
		kill(victim, SIGKILL);
		wait_for("victim");
	}
	CHILD {
		CHECK(mkdir("jail", 0777) == 0 || errno == EEXIST);
		close(newfile("jail/inside", 2 * PAGE));
		MARK(9);
		if (chroot("jail") == 0) {
			CHECK(chdir("/") == 0);
			int fd = open("/inside", O_RDONLY | O_CLOEXEC);
			char *p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
			CHECK(fd >= 0 && p != MAP_FAILED && p[0] == '0');
			CHECK(open("/proc/self/maps", O_RDONLY) == -1);
			CHECK(unlink("/inside") == 0 && munmap(p, PAGE) == 0);
		} else
			CHECK(errno == EPERM);
	}
	wait_for("chroot");
	CHILD {
		int uid = getuid();
		if (unshare(CLONE_NEWUSER) == 0) {
			int fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
			CHECK(fd >= 0 && dprintf(fd, "0 %d 1\n", uid) > 0);
			close(fd);
			CHECK(getuid() == 0);
			printf("a namespace of users\n");
			fflush(stdout);
			MARK(10);
		} else
			printf("no namespace of users: %s\n", strerrorname_np(errno));
		fflush(stdout);
	}
	wait_for("unshare");
	CHILD {
		/* nobody may look into it, not even the tracer without privilege */
		CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
		memset(anon(4 * PAGE, PROT_READ | PROT_WRITE), 1, 4 * PAGE);
		if (getuid() == 0)
			MARK(11);
	}
	wait_for("not dumpable");
	CHILD {
		if (getuid() == 0) {
			CHECK(setgid(65534) == 0 && setuid(65534) == 0);
			memset(anon(4 * PAGE, PROT_READ | PROT_WRITE), 1, 4 * PAGE);
			char *av[] = {"true", NULL};
			execv("/bin/true", av);
		}
	}
	wait_for("another user");
	MARK(12);
	puts("confined ok");
	return 0;
}
