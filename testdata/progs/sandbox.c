/* build: none */
/*
 * sandbox.c HOW: a program that confines itself by seccomp, and what the kernel does to
 * its calls then. HOW is trace, trace-tag NUMBER, errno, trap, kill, thread, threads,
 * strict, strict-call, ask, log or notify.
 */
#include "mark.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

static volatile int traps, trapped;

static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)context;
	traps++;
	trapped = info->si_syscall;
}

/* Says something of two calls. */
static int confine(uint32_t what, unsigned flags)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, what),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {sizeof f / sizeof *f, f};
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	if (flags == 0)
		return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p);
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p);
}

static void say(const char *what, long r)
{
	printf("%s: %s\n", what, r < 0 ? strerror(errno) : "works");
	fflush(stdout);
}

static void try(void)
{
	say("getppid", syscall(SYS_getppid) < 0 ? -1 : 0);
	char *p = anon(2 * PAGE, PROT_READ | PROT_WRITE);
	p[0] = 'x';
	say("madvise", madvise(p, PAGE, MADV_DONTNEED));
	printf("%s\n", p[0] ? "there" : "dropped");
	say("munmap", munmap(p, 2 * PAGE));
}

static volatile int go;

static void *waits(void *x)
{
	while (!go)
		nap(1);
	say("in the thread, getppid", syscall(SYS_getppid) < 0 ? -1 : 0);
	return x;
}

/* Lets each call of which it is notified continue. */
static void *listens(void *x)
{
	while (!go)
		nap(1);
	for (;;) {
		struct seccomp_notif n = {0};
		if (ioctl(go, SECCOMP_IOCTL_NOTIF_RECV, &n) != 0)
			continue;
		struct seccomp_notif_resp r = {.id = n.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
		ioctl(go, SECCOMP_IOCTL_NOTIF_SEND, &r);
	}
	return x;
}

static void *dies(void *x)
{
	syscall(SYS_getppid);
	printf("the thread lives\n");
	return x;
}

static void strict(int by_call)
{
	printf("before\n");
	fflush(stdout);
	long r = by_call ? syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL) : prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	if (r != 0)
		CHECK(write(1, "refused\n", 8) == 8);
	CHECK(write(1, "strict\n", 7) == 7);
	rawcall(SYS_munmap, 0, 0, 0, 0);
	CHECK(write(1, "lives\n", 6) == 6);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "trace";
	pthread_t t;
	printf("seccomp: %d\n", prctl(PR_GET_SECCOMP));
	if (!strcmp(how, "trace"))
		CHECK(confine(SECCOMP_RET_TRACE | 7, 0) == 0);
	else if (!strcmp(how, "trace-tag")) /* a number that somebody else might use */
		CHECK(confine(SECCOMP_RET_TRACE | (argc > 2 ? strtoul(argv[2], NULL, 0) : 0), 0) == 0);
	else if (!strcmp(how, "errno"))
		CHECK(confine(SECCOMP_RET_ERRNO | EDOM, 0) == 0);
	else if (!strcmp(how, "log"))
		CHECK(confine(SECCOMP_RET_LOG, 0) == 0);
	else if (!strcmp(how, "kill")) {
		fflush(stdout);
		CHECK(confine(SECCOMP_RET_KILL_PROCESS, 0) == 0);
	} else if (!strcmp(how, "thread")) {
		CHECK(confine(SECCOMP_RET_KILL_THREAD, 0) == 0);
		CHECK(pthread_create(&t, NULL, dies, NULL) == 0);
		wait_alone();
		printf("the thread has ended\n");
		return 5;
	} else if (!strcmp(how, "trap")) {
		struct sigaction a = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
		CHECK(sigaction(SIGSYS, &a, NULL) == 0);
		CHECK(confine(SECCOMP_RET_TRAP | 9, 0) == 0);
		syscall(SYS_getppid);
		printf("%d traps, %s\n", traps, trapped == SYS_getppid ? "getppid" : "another");
		return 6;
	} else if (!strcmp(how, "threads")) {
		CHECK(pthread_create(&t, NULL, waits, NULL) == 0);
		CHECK(confine(SECCOMP_RET_TRACE | 7, SECCOMP_FILTER_FLAG_TSYNC) == 0);
		go = 1;
		CHECK(pthread_join(t, NULL) == 0);
	} else if (!strcmp(how, "notify")) {
		CHECK(pthread_create(&t, NULL, listens, NULL) == 0);
		go = confine(SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
		CHECK(go > 0);
	} else if (!strncmp(how, "strict", 6)) {
		strict(!strcmp(how, "strict-call"));
		rawcall(SYS_exit, 3, 0, 0, 0);
	} else {
		CHECK(confine(SECCOMP_RET_ALLOW, 0) == 0);
		printf("seccomp: %d\n", prctl(PR_GET_SECCOMP));
	}
	try();
	pid_t child = fork();
	if (child == 0) {
		try();
		_exit(4);
	}
	reap(child, 4 << 8);
	return 0;
}
