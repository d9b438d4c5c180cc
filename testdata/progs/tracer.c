/* build: none */
/*
 * tracer.c HOW: a program that traces others by ptrace(2), and what it is told then. HOW is
 * calls, steps, signals, groups, joins, spins, attach, inherit, chld, waits, refused, heirs, entry, exec,
 * break, emulate, registers, pending, ends, suspends, messages, stays, status, continues, answers, zombies, uses, raises,
 * elsewhere, or across: that one traces the build of this program for the other architecture, tracer-i386 or tracer-x86_64.
 */
#include "mark.h"
#include <elf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#ifdef __x86_64__
#define CALL orig_rax
#define RESULT rax
#define IP rip
#define CS cs
#define ARGUMENT(r) ((int)(r).rdi)
#define GETPID "mov $39, %%eax; syscall"
#define CLOBBERS "rax", "rcx", "r11", "memory"
#else
#define CALL orig_eax
#define RESULT eax
#define IP eip
#define CS xcs
#define ARGUMENT(r) ((int)(r).eax) /* regparm */
#define GETPID "mov $20, %%eax; int $0x80"
#define CLOBBERS "eax", "memory"
#endif

static long tr(long request, pid_t pid, long addr, long data)
{
	errno = 0;
	return syscall(SYS_ptrace, request, pid, addr, data);
}

/* A line about a wait status. */
static void tell(const char *what, int status)
{
	if (WIFEXITED(status))
		printf("%s: exited %d\n", what, WEXITSTATUS(status));
	else if (WIFSIGNALED(status))
		printf("%s: killed by %d\n", what, WTERMSIG(status));
	else
		printf("%s: stopped %d event %d\n", what, WSTOPSIG(status), status >> 16);
	fflush(stdout);
}

static void info(pid_t pid)
{
	siginfo_t i;
	memset(&i, 0, sizeof i);
	if (tr(PTRACE_GETSIGINFO, pid, 0, (long)&i) < 0)
		printf("  no siginfo: %s\n", strerror(errno));
	else
		printf("  siginfo %d code %#x from %s\n", i.si_signo, i.si_code, i.si_pid == 0 ? "nobody" : i.si_pid == pid ? "itself" : i.si_pid == getpid() ? "me" : "another");
}

static int waited(const char *what, pid_t pid)
{
	int status = 0;
	pid_t got = waitpid(pid, &status, __WALL);
	if (got != pid)
		printf("%s: %s instead of the tracee: %s\n", what, got < 0 ? "an error" : "another", strerror(errno));
	else
		tell(what, status);
	return status;
}

/* A child that asks to be traced, stops, and goes on with f. */
static pid_t traceme(int (*f)(void))
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		CHECK(tr(PTRACE_TRACEME, 0, 0, 0) == 0);
		raise(SIGSTOP);
		_exit(f());
	}
	waited("start", pid);
	return pid;
}

static int some_calls(void)
{
	getppid();
	close(-1);
	return 3;
}

static void calls(void)
{
	pid_t pid = traceme(some_calls);
	info(pid);
	CHECK(tr(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD) == 0);
	for (int n = 0;; n++) {
		CHECK(tr(PTRACE_SYSCALL, pid, 0, 0) == 0);
		int status;
		CHECK(waitpid(pid, &status, 0) == pid);
		if (!WIFSTOPPED(status)) {
			tell("end", status);
			break;
		}
		struct user_regs_struct r;
		struct __ptrace_syscall_info i;
		CHECK(tr(PTRACE_GETREGS, pid, 0, (long)&r) == 0);
		CHECK(tr(PTRACE_GET_SYSCALL_INFO, pid, sizeof i, (long)&i) > 0);
		printf("%d: %d event %d, call %lld", n, WSTOPSIG(status), status >> 16, (long long)r.CALL);
		if (i.op == PTRACE_SYSCALL_INFO_ENTRY)
			printf(", enters %lld", (long long)i.entry.nr);
		else if (i.op == PTRACE_SYSCALL_INFO_EXIT && (long long)r.CALL != SYS_getppid)
			printf(", leaves with %lld", (long long)i.exit.rval);
		printf("\n");
		if (n < 2)
			info(pid);
	}
}

/* Three instructions that nothing else is between. */
static int instructions(void)
{
	unsigned long a = 1;
	__asm__ volatile("int3; nop; add $2, %0; " GETPID "; nop; add $4, %0; int3" : "+r"(a) : : CLOBBERS);
	return a;
}

static void steps(void)
{
	pid_t pid = traceme(instructions);
	struct user_regs_struct r, before;
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	waited("int3", pid);
	info(pid);
	CHECK(tr(PTRACE_GETREGS, pid, 0, (long)&before) == 0);
	for (int n = 0; n < 7; n++) {
		CHECK(tr(PTRACE_SINGLESTEP, pid, 0, 0) == 0);
		int status = waited("step", pid);
		if (!WIFSTOPPED(status))
			return;
		CHECK(tr(PTRACE_GETREGS, pid, 0, (long)&r) == 0);
		printf("  at +%lld, %s\n", (long long)(r.IP - before.IP), (pid_t)r.RESULT == pid ? "has its pid" : "goes on");
		info(pid);
	}
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	waited("end", pid);
}

static volatile sig_atomic_t handled;
static void count(int sig) { handled += sig; }

static int gets_signals(void)
{
	signal(SIGUSR1, count);
	signal(SIGUSR2, count);
	raise(SIGUSR1);
	raise(SIGUSR1);
	raise(SIGUSR1);
	return handled;
}

static void signals(void)
{
	pid_t pid = traceme(gets_signals);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	waited("first", pid);
	info(pid);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0); /* it never comes */
	waited("second", pid);
	CHECK(tr(PTRACE_CONT, pid, 0, SIGUSR2) == 0); /* another comes */
	waited("third", pid);
	siginfo_t i = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
	CHECK(tr(PTRACE_SETSIGINFO, pid, 0, (long)&i) == 0);
	CHECK(tr(PTRACE_CONT, pid, 0, SIGUSR1) == 0);
	waited("end", pid);
	pid = traceme(gets_signals);
	CHECK(tr(PTRACE_CONT, pid, 0, SIGKILL) == 0);
	waited("killed", pid);
}

static int sleeps(void)
{
	while (pause() < 0)
		;
	return 0;
}

static void nothing(const char *what, pid_t pid)
{
	int status;
	pid_t got = waitpid(pid, &status, WNOHANG | __WALL);
	printf("%s: %d\n", what, got < 0 ? -errno : got > 0);
}

static void groups(void)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		_exit(sleeps());
	nap(20);
	CHECK(tr(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD) == 0);
	nothing("seized", pid);
	CHECK(tr(PTRACE_INTERRUPT, pid, 0, 0) == 0);
	waited("interrupted", pid);
	info(pid);
	printf("listen: %ld\n", tr(PTRACE_LISTEN, pid, 0, 0));
	CHECK(tr(PTRACE_INTERRUPT, pid, 0, 0) == 0);
	waited("again", pid);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	CHECK(kill(pid, SIGSTOP) == 0);
	waited("SIGSTOP", pid);
	CHECK(tr(PTRACE_CONT, pid, 0, SIGSTOP) == 0);
	waited("group-stop", pid);
	info(pid);
	CHECK(tr(PTRACE_LISTEN, pid, 0, 0) == 0);
	nothing("listening", pid);
	CHECK(kill(pid, SIGCONT) == 0);
	int status = waited("goes on", pid);
	CHECK(tr(PTRACE_CONT, pid, 0, status >> 16 ? 0 : WSTOPSIG(status)) == 0);
	status = waited("and then", pid);
	CHECK(tr(PTRACE_CONT, pid, 0, status >> 16 ? 0 : WSTOPSIG(status)) == 0);
	nothing("runs", pid);
	CHECK(tr(PTRACE_KILL, pid, 0, 0) == 0);
	waited("end", pid);
}

/* A process that stands still when its tracer comes, and one that makes no call. */
static void joins(void)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		raise(SIGSTOP);
		for (;;)
			;
	}
	int status;
	CHECK(waitpid(pid, &status, WUNTRACED) == pid);
	tell("stopped", status);
	CHECK(tr(PTRACE_SEIZE, pid, 0, 0) == 0);
	waited("seized", pid);
	info(pid);
	CHECK(tr(PTRACE_LISTEN, pid, 0, 0) == 0);
	nothing("listening", pid);
	CHECK(kill(pid, SIGCONT) == 0);
	while ((status = waited("goes on", pid)) >> 16)
		CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	CHECK(tr(PTRACE_DETACH, pid, 0, WSTOPSIG(status)) == 0);
	nap(20);
	CHECK(tr(PTRACE_SEIZE, pid, 0, 0) == 0);
	for (int i = 0; i < 2; i++) {
		CHECK(tr(PTRACE_INTERRUPT, pid, 0, 0) == 0);
		waited("interrupted", pid);
		info(pid);
		CHECK(tr(PTRACE_LISTEN, pid, 0, 0) == 0);
		nothing("listening", pid);
	}
	CHECK(kill(pid, SIGKILL) == 0);
	waited("end", pid);
}

/* Interrupts a process that has not been traced before in the middle of its own code. */
static void spins(void)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		for (;;)
			;
	nap(20);
	CHECK(tr(PTRACE_SEIZE, pid, 0, 0) == 0);
	for (int i = 0; i < 2; i++) {
		CHECK(tr(PTRACE_INTERRUPT, pid, 0, 0) == 0);
		waited("interrupted", pid);
		info(pid);
		CHECK(tr(PTRACE_LISTEN, pid, 0, 0) == 0);
		nothing("listening", pid);
	}
	CHECK(kill(pid, SIGKILL) == 0);
	waited("end", pid);
}

static pthread_barrier_t two;
static volatile pid_t other;
static void *thread(void *x)
{
	other = syscall(SYS_gettid);
	pthread_barrier_wait(&two);
	while (pause() < 0)
		;
	return x;
}

/* Traces the threads of a process that is not its child, as LeakSanitizer does. */
static void attach(void)
{
	int up[2];
	CHECK(pipe(up) == 0);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		pthread_t t;
		pthread_barrier_init(&two, NULL, 2);
		CHECK(pthread_create(&t, NULL, thread, NULL) == 0);
		pthread_barrier_wait(&two);
		CHECK(write(up[1], (void *)&other, sizeof other) == sizeof other);
		sleeps();
	}
	pid_t tid;
	CHECK(read(up[0], &tid, sizeof tid) == sizeof tid);
	pid_t tracer = fork();
	if (tracer == 0) {
		for (int i = 0; i < 2; i++) {
			pid_t t = i ? tid : pid;
			CHECK(tr(PTRACE_ATTACH, t, 0, 0) == 0);
			waited("attached", t);
			info(t);
			struct user_regs_struct r;
			struct iovec v = {&r, sizeof r};
			CHECK(tr(PTRACE_GETREGSET, t, NT_PRSTATUS, (long)&v) == 0);
			printf("  %zu bytes\n", v.iov_len);
		}
		printf("twice: %ld\n", tr(PTRACE_ATTACH, tid, 0, 0) < 0 ? (long)-errno : 0);
		CHECK(tr(PTRACE_DETACH, tid, 0, 0) == 0);
		printf("detached: %ld\n", tr(PTRACE_CONT, tid, 0, 0) < 0 ? (long)-errno : 0);
		CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
		CHECK(syscall(SYS_tgkill, pid, pid, SIGTERM) == 0);
		waited("signalled", pid);
		CHECK(tr(PTRACE_DETACH, pid, 0, SIGTERM) == 0);
		printf("nobody left: %d\n", waitpid(-1, NULL, __WALL) < 0 ? -errno : 0);
		fflush(stdout);
		_exit(5);
	}
	int status;
	CHECK(waitpid(tracer, &status, 0) == tracer);
	tell("tracer", status);
	CHECK(waitpid(pid, &status, 0) == pid);
	tell("tracee", status);
}

static int makes_children(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(7);
	int status;
	while (waitpid(pid, &status, 0) < 0)
		;
	pid = vfork();
	if (pid == 0)
		_exit(8);
	while (waitpid(pid, &status, 0) < 0)
		;
	return 9;
}

static void inherit(void)
{
	for (int all = 0; all < 2; all++) {
		pid_t pid = traceme(makes_children);
		CHECK(tr(PTRACE_SETOPTIONS, pid, 0, all ? PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEEXIT : PTRACE_O_TRACEVFORK) == 0);
		CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
		int ended = 0, counts[128][9] = {{0}}, exits = 0;
		while (!ended) {
			int status;
			pid_t got = waitpid(-1, &status, __WALL);
			CHECK(got > 0);
			if (WIFSTOPPED(status)) {
				counts[WSTOPSIG(status)][status >> 16 & 7]++;
				unsigned long msg = 0;
				if (status >> 16 == PTRACE_EVENT_EXIT) {
					CHECK(tr(PTRACE_GETEVENTMSG, got, 0, (long)&msg) == 0);
					exits += msg >> 8;
				}
				int sig = WSTOPSIG(status);
				CHECK(tr(PTRACE_CONT, got, 0, sig == SIGSTOP || sig == SIGTRAP ? 0 : sig) == 0);
			} else if (got == pid) {
				tell("end", status);
				ended = 1;
			} else
				exits += 100 * WEXITSTATUS(status);
		}
		for (int s = 0; s < 128; s++)
			for (int e = 0; e < 8; e++)
				if (counts[s][e])
					printf("%d of %d event %d\n", counts[s][e], s, e);
		printf("exits %d\n", exits);
	}
}

static volatile sig_atomic_t chlds, trapped, stopped;
static void on_chld(int sig, siginfo_t *i, void *c)
{
	(void)sig, (void)c;
	chlds++;
	trapped += i->si_code == CLD_TRAPPED;
	stopped = i->si_status;
}

/* SIGCHLD: handled, with SA_NOCLDSTOP, blocked and waited for. */
static void chld(void)
{
	struct sigaction a = {.sa_sigaction = on_chld, .sa_flags = SA_SIGINFO | SA_RESTART};
	CHECK(sigaction(SIGCHLD, &a, NULL) == 0);
	pid_t pid = traceme(some_calls);
	printf("handled: %d, trapped %d, status %d\n", chlds, trapped, stopped);
	a.sa_flags |= SA_NOCLDSTOP;
	CHECK(sigaction(SIGCHLD, &a, NULL) == 0);
	chlds = trapped = stopped = 0;
	CHECK(tr(PTRACE_SYSCALL, pid, 0, 0) == 0);
	waited("entry", pid);
	printf("no stops: %d\n", chlds);
	a.sa_flags &= ~SA_NOCLDSTOP;
	CHECK(sigaction(SIGCHLD, &a, NULL) == 0);
	sigset_t s, old;
	sigemptyset(&s);
	sigaddset(&s, SIGCHLD);
	CHECK(sigprocmask(SIG_BLOCK, &s, &old) == 0);
	CHECK(tr(PTRACE_SYSCALL, pid, 0, 0) == 0);
	sigdelset(&old, SIGCHLD);
	CHECK(sigsuspend(&old) < 0 && errno == EINTR);
	printf("suspended: %d, trapped %d, status %d\n", chlds, trapped, stopped);
	int status;
	CHECK(waitpid(pid, &status, WNOHANG) == pid);
	tell("exit", status);
	int fd = signalfd(-1, &s, 0);
	CHECK(fd >= 0);
	CHECK(tr(PTRACE_SYSCALL, pid, 0, 0) == 0);
	struct signalfd_siginfo f;
	CHECK(read(fd, &f, sizeof f) == sizeof f);
	printf("read: %d code %d status %d from %s, %d\n", f.ssi_signo, f.ssi_code, f.ssi_status, (pid_t)f.ssi_pid == pid ? "the tracee" : "another", f.ssi_int);
	CHECK(waitpid(pid, &status, WNOHANG) == pid);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	waited("end", pid);
}

static void waits(void)
{
	pid_t pid = traceme(gets_signals);
	nothing("all told", pid);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	siginfo_t i;
	for (int n = 0; n < 2; n++) {
		memset(&i, 0, sizeof i);
		CHECK(waitid(P_PID, pid, &i, WSTOPPED | WEXITED | (n ? 0 : WNOWAIT)) == 0);
		printf("waitid: %d code %d status %d, %s\n", i.si_signo, i.si_code, i.si_status, i.si_pid == pid ? "the tracee" : "another");
	}
	memset(&i, 1, sizeof i);
	printf("nothing: %d, pid %d\n", waitid(P_ALL, 0, &i, WSTOPPED | WEXITED | WNOHANG), i.si_pid);
	printf("not a child: %d\n", waitpid(1, NULL, __WALL) < 0 ? -errno : 0);
	fflush(stdout);
	pid_t child = fork();
	if (child == 0)
		_exit(4);
	int status;
	CHECK(waitpid(-1, &status, 0) == child);
	tell("a child", status);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	CHECK(wait(&status) == pid);
	tell("any", status);
	CHECK(tr(PTRACE_KILL, pid, 0, 0) == 0);
	CHECK(wait(&status) == pid);
	tell("killed", status);
	printf("none: %d\n", wait(NULL) < 0 ? -errno : 0);
}

static void refused(void)
{
	pid_t pid = traceme(sleeps);
	printf("again: %d\n", tr(PTRACE_ATTACH, pid, 0, 0) < 0 ? -errno : 0);
	printf("itself: %d\n", tr(PTRACE_ATTACH, getpid(), 0, 0) < 0 ? -errno : 0);
	printf("nobody: %d\n", tr(PTRACE_ATTACH, 0x3fffff, 0, 0) < 0 ? -errno : 0);
	printf("request: %d\n", tr(0x4ff, pid, 0, 0) < 0 ? -errno : 0);
	printf("options: %d\n", tr(PTRACE_SETOPTIONS, pid, 0, 1 << 30) < 0 ? -errno : 0);
	printf("interrupt: %d\n", tr(PTRACE_INTERRUPT, pid, 0, 0) < 0 ? -errno : 0);
	printf("listen: %d\n", tr(PTRACE_LISTEN, pid, 0, 0) < 0 ? -errno : 0);
	printf("signal: %d\n", tr(PTRACE_CONT, pid, 0, 99) < 0 ? -errno : 0);
	printf("address: %d\n", tr(PTRACE_PEEKDATA, pid, 8, (long)&pid) < 0 ? -errno : 0);
	printf("data: %d\n", tr(PTRACE_GETREGS, pid, 0, 8) < 0 ? -errno : 0);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	printf("runs: %d\n", tr(PTRACE_GETREGS, pid, 0, 8) < 0 ? -errno : 0);
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) { /* another may not */
		printf("not mine: %d\n", tr(PTRACE_CONT, pid, 0, 0) < 0 ? -errno : 0);
		fflush(stdout);
		if (getuid() == 0) {
			CHECK(setuid(65534) == 0);
			printf("not allowed: %d\n", tr(PTRACE_ATTACH, getppid(), 0, 0) < 0 ? -errno : 0);
			fflush(stdout);
		}
		_exit(0);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(kill(pid, SIGKILL) == 0);
	waited("end", pid);
}

/* What becomes of tracees when their tracer ends. */
static void heirs(void)
{
	for (int kill_them = 0; kill_them < 2; kill_them++) {
		int up[2];
		CHECK(pipe(up) == 0);
		fflush(stdout);
		pid_t tracee = fork();
		if (tracee == 0) {
			signal(SIGUSR1, count);
			CHECK(write(up[1], "", 1) == 1);
			while (!handled)
				nap(1);
			_exit(6);
		}
		char ready;
		CHECK(read(up[0], &ready, 1) == 1);
		pid_t tracer = fork();
		if (tracer == 0) {
			CHECK(tr(PTRACE_SEIZE, tracee, 0, kill_them ? PTRACE_O_EXITKILL : 0) == 0);
			CHECK(tr(PTRACE_INTERRUPT, tracee, 0, 0) == 0);
			waited("held", tracee);
			_exit(0);
		}
		int status;
		CHECK(waitpid(tracer, &status, 0) == tracer);
		if (!kill_them)
			CHECK(kill(tracee, SIGUSR1) == 0);
		CHECK(waitpid(tracee, &status, 0) == tracee);
		tell("tracee", status);
		close(up[0]), close(up[1]);
	}
}

/* A tracer that changes calls. */
static int calls_changed(void)
{
	long a = syscall(SYS_getppid), b = syscall(SYS_getppid), c = syscall(SYS_dup2, -5, -6);
	return (a == 1234) + 2 * (b == -1 && errno != 0) + 4 * (c == getpid());
}

static void entry(void)
{
	pid_t pid = traceme(calls_changed);
	struct user_regs_struct r;
	CHECK(tr(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD) == 0);
	int seen = 0, status;
	for (int in = 0;;) {
		CHECK(tr(PTRACE_SYSCALL, pid, 0, 0) == 0);
		CHECK(waitpid(pid, &status, 0) == pid);
		if (!WIFSTOPPED(status))
			break;
		in = !in;
		CHECK(tr(PTRACE_GETREGS, pid, 0, (long)&r) == 0);
		if (r.CALL == SYS_getppid && !in && seen == 0) { /* another result */
			r.RESULT = 1234;
			CHECK(tr(PTRACE_SETREGS, pid, 0, (long)&r) == 0);
			seen = 1;
		} else if (r.CALL == SYS_getppid && in && seen == 1) { /* not made */
			r.CALL = -1;
			CHECK(tr(PTRACE_SETREGS, pid, 0, (long)&r) == 0);
			seen = 2;
		} else if (r.CALL == SYS_dup2 && in) { /* another call */
			CHECK(tr(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, CALL), SYS_getpid) == 0);
		}
	}
	tell("end", status);
}

static int execs(void)
{
	execl("/bin/true", "true", NULL);
	return 9;
}

static void exec_(void)
{
	for (int how = 0; how < 2; how++) {
		pid_t pid = traceme(execs);
		if (how)
			CHECK(tr(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXEC) == 0);
		CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
		waited("exec", pid);
		info(pid);
		unsigned long msg = 0;
		if (how)
			CHECK(tr(PTRACE_GETEVENTMSG, pid, 0, (long)&msg) == 0 && (pid_t)msg == pid);
		CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
		waited("end", pid);
	}
}

static volatile int touched;
#ifdef __i386__
__attribute__((regparm(1)))
#endif
__attribute__((noinline)) static void touch(int n) { touched += n; }
static int touches(void)
{
	touch(1);
	touch(2);
	return touched;
}

/* A breakpoint in the code, and a watchpoint of the processor's. */
static void break_(void)
{
	pid_t pid = traceme(touches);
	long at = (long)touch;
	long word = ptrace(PTRACE_PEEKTEXT, pid, at, 0);
	CHECK(tr(PTRACE_POKETEXT, pid, at, (word & ~0xffL) | 0xcc) == 0);
	struct user_regs_struct r;
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	waited("breakpoint", pid);
	info(pid);
	CHECK(tr(PTRACE_GETREGS, pid, 0, (long)&r) == 0);
	printf("  %lld behind it, argument %lld\n", (long long)r.IP - at, (long long)ARGUMENT(r));
	CHECK(tr(PTRACE_POKETEXT, pid, at, word) == 0);
	r.IP = at;
	CHECK(tr(PTRACE_SETREGS, pid, 0, (long)&r) == 0);
	CHECK(tr(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), (long)&touched) == 0);
	CHECK(tr(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), 1 | 1 << 16 | 3 << 18) == 0);
	for (int n = 0; n < 2; n++) {
		CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
		waited("written", pid);
		errno = 0;
		printf("  %ld, dr6 %ld\n", ptrace(PTRACE_PEEKDATA, pid, &touched, 0) & 0xffffffff, ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg[6]), 0) & 15);
	}
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	waited("end", pid);
}

/* A tracer that answers calls itself. */
static int asks(void)
{
	long a = syscall(SYS_getppid), b = syscall(SYS_getpid);
	return (a == 1234) + 2 * (b == getpid());
}

static void emulate(void)
{
	for (int single = 0; single < 2; single++) {
		pid_t pid = traceme(asks);
		struct user_regs_struct r;
		int status = 0, calls = 0, answered = 0;
		for (;;) {
			CHECK(tr(answered ? PTRACE_CONT : single ? PTRACE_SYSEMU_SINGLESTEP : PTRACE_SYSEMU, pid, 0, 0) == 0);
			CHECK(waitpid(pid, &status, 0) == pid);
			if (!WIFSTOPPED(status))
				break;
			CHECK(WSTOPSIG(status) == SIGTRAP);
			CHECK(tr(PTRACE_GETREGS, pid, 0, (long)&r) == 0);
			if ((long)r.CALL < 0)
				continue; /* a step */
			calls++;
			if (r.CALL == SYS_getppid) {
				r.RESULT = 1234;
				answered = 1;
				CHECK(tr(PTRACE_SETREGS, pid, 0, (long)&r) == 0);
			} else
				break;
		}
		printf("%d calls, ", calls);
		tell("end", status);
		if (WIFSTOPPED(status)) {
			CHECK(tr(PTRACE_KILL, pid, 0, 0) == 0);
			waited("killed", pid);
		}
	}
}

/* Has numbers in its registers when it stops. */
static int floats(void)
{
	__asm__ volatile("fldpi; fld1; int3; fstp %%st(0); fstp %%st(0)" : : : "memory");
	return 0;
}

static void registers(void)
{
	pid_t pid = traceme(floats);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	waited("int3", pid);
	struct user_fpregs_struct f;
	memset(&f, 0x5a, sizeof f);
	CHECK(tr(PTRACE_GETFPREGS, pid, 0, (long)&f) == 0);
#ifdef __i386__
	printf("control %#lx, st %#lx %#lx\n", f.cwd & 0xffff, f.st_space[0], f.st_space[1]);
	struct user_fpxregs_struct x;
	CHECK(tr(PTRACE_GETFPXREGS, pid, 0, (long)&x) == 0);
	printf("control %#x, mxcsr %#lx\n", x.cwd, x.mxcsr);
	CHECK(tr(PTRACE_SETFPXREGS, pid, 0, (long)&x) == 0);
	unsigned area[4] = {0}, gs = 0;
	__asm__("mov %%gs, %0" : "=r"(gs));
	CHECK(tr(25 /* PTRACE_GET_THREAD_AREA */, pid, gs >> 3, (long)area) == 0);
	printf("area %u, limit %#x\n", area[0] == gs >> 3, area[2]);
#else
	printf("control %#x, st %#x %#x\n", f.cwd, f.st_space[0], f.st_space[1]);
#endif
	CHECK(tr(PTRACE_SETFPREGS, pid, 0, (long)&f) == 0);
	errno = 0;
	long word = ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.CALL), 0);
	printf("call %ld, %d\n", word, errno);
	printf("beyond: %d\n", tr(PTRACE_PEEKUSER, pid, sizeof(struct user) + 64, (long)&word) < 0 ? -errno : 0);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	waited("end", pid);
}

/* Has signals to come. */
static int blocks(void)
{
	sigset_t all;
	sigfillset(&all);
	CHECK(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
	for (int n = 0; n < 3; n++)
		CHECK(sigqueue(getpid(), SIGRTMIN + n, (union sigval){.sival_int = 100 + n}) == 0);
	CHECK(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1) == 0);
	return 0;
}

static void pending(void)
{
	pid_t pid = traceme(blocks);
	CHECK(tr(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD) == 0);
	int status;
	for (int stops = 0; stops < 2;) { /* to the end of tgkill */
		struct user_regs_struct r;
		CHECK(tr(PTRACE_SYSCALL, pid, 0, 0) == 0);
		CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
		CHECK(tr(PTRACE_GETREGS, pid, 0, (long)&r) == 0);
		stops += r.CALL == SYS_tgkill;
	}
	siginfo_t i[4];
	for (int shared = 0; shared < 2; shared++) {
		struct __ptrace_peeksiginfo_args a = {.off = 0, .flags = shared ? PTRACE_PEEKSIGINFO_SHARED : 0, .nr = 4};
		memset(i, 0, sizeof i);
		long n = tr(PTRACE_PEEKSIGINFO, pid, (long)&a, (long)i);
		printf("%ld", n);
		for (int k = 0; k < n; k++)
			printf(", %d code %d value %d", i[k].si_signo - (i[k].si_signo > 30 ? SIGRTMIN : 0), i[k].si_code, i[k].si_code == SI_QUEUE ? i[k].si_value.sival_int : 0);
		printf("\n");
	}
	unsigned long long mask = 0;
	CHECK(tr(PTRACE_GETSIGMASK, pid, 8, (long)&mask) == 0);
	printf("mask %#llx\n", mask);
	mask = 0;
	CHECK(tr(PTRACE_SETSIGMASK, pid, 8, (long)&mask) == 0);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	waited("first", pid);
	info(pid);
	CHECK(tr(PTRACE_KILL, pid, 0, 0) == 0);
	waited("end", pid);
}

static int ends_when_told(int from)
{
	char c;
	CHECK(read(from, &c, 1) == 1);
	return 5;
}

/* A tracer that is not the parent hears of an end first, and the parent when that has waited or is gone. */
static void ends(void)
{
	for (int how = 0; how < 4; how++) {
		int up[2], down[2];
		CHECK(pipe(up) == 0 && pipe(down) == 0);
		fflush(stdout);
		pid_t pid = fork();
		if (pid == 0)
			_exit(ends_when_told(down[0]));
		pid_t tracer = fork();
		if (tracer == 0) {
			siginfo_t i;
			char c;
			CHECK(tr(PTRACE_SEIZE, pid, 0, 0) == 0);
			CHECK(write(up[1], "", 1) == 1);
			CHECK(waitid(P_PID, pid, &i, WEXITED | WNOWAIT) == 0);
			printf("tracer: code %d status %d\n", i.si_code, i.si_status);
			fflush(stdout);
			CHECK(write(up[1], "", 1) == 1);
			CHECK(read(down[0], &c, 1) == 1);
			if (how == 0)
				CHECK(waitpid(pid, NULL, 0) == pid);
			else if (how == 1)
				printf("detach: %d\n", tr(PTRACE_DETACH, pid, 0, 0) < 0 ? -errno : 0);
			else if (how == 2)
				raise(SIGKILL);
			fflush(stdout);
			_exit(0);
		}
		char c;
		CHECK(read(up[0], &c, 1) == 1);
		CHECK(write(down[1], "", 1) == 1);
		CHECK(read(up[0], &c, 1) == 1);
		int status;
		CHECK(signal(SIGCHLD, count) != SIG_ERR);
		handled = 0;
		nothing("parent", pid);
		printf("a zombie: %d, %d signals\n", kill(pid, 0), handled);
		fflush(stdout);
		pid_t other_child = fork(); /* others are waited for all the same */
		if (other_child == 0)
			_exit(6);
		CHECK(waitpid(other_child, &status, 0) == other_child);
		CHECK(write(down[1], "", 1) == 1);
		waited("parent", pid);
		CHECK(waitpid(tracer, &status, 0) == tracer);
		tell("tracer", status);
		CHECK(signal(SIGCHLD, SIG_DFL) != SIG_ERR);
		for (int n = 0; n < 2; n++)
			close(up[n]), close(down[n]);
	}
}

static int filters(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof f / sizeof *f, f};
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
	int first = syscall(SYS_getppid) > 0;
	raise(SIGUSR1);
	return 2 * first + (syscall(SYS_getppid) > 0);
}

/* A tracer that has the filters of its tracee do nothing, if it may. */
static void suspends(void)
{
	for (int user = 0; user < 2; user++) {
		if (user && getuid() == 0)
			CHECK(setuid(65534) == 0);
		pid_t pid = traceme(filters);
		printf("no filter: %d\n", tr(PTRACE_SECCOMP_GET_FILTER, pid, 0, 0) < 0 ? -errno : 0);
		printf("suspend: %d\n", tr(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_SUSPEND_SECCOMP) < 0 ? -errno : 0);
		CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
		waited("signal", pid);
		for (long n = -1; n < 2; n++) { /* what filters it has */
			struct sock_filter f[64] = {{0}};
			unsigned long long meta[2] = {n, 77};
			int got = tr(PTRACE_SECCOMP_GET_FILTER, pid, n, (long)f);
			printf("filter %ld: %d, %#x, ", n, got < 0 ? -errno : got, f[0].code);
			got = tr(PTRACE_SECCOMP_GET_FILTER, pid, n, 0);
			printf("%d, ", got < 0 ? -errno : got);
			got = tr(PTRACE_SECCOMP_GET_METADATA, pid, sizeof meta, (long)meta);
			printf("%d, %lld, flags %lld\n", got < 0 ? -errno : got, (long long)meta[0], (long long)meta[1]);
		}
		CHECK(tr(PTRACE_SETOPTIONS, pid, 0, 0) == 0);
		CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
		waited("end", pid);
		pid = traceme(sleeps);
		CHECK(tr(PTRACE_DETACH, pid, 0, 0) == 0);
		printf("seize: %d\n", tr(PTRACE_SEIZE, pid, 0, PTRACE_O_SUSPEND_SECCOMP) < 0 ? -errno : 0);
		CHECK(kill(pid, SIGKILL) == 0);
		waited("end", pid);
	}
}

static int vforks(void)
{
	pid_t pid = vfork();
	if (pid == 0)
		_exit(0);
	int status;
	CHECK(waitpid(pid, &status, 0) == pid);
	return 0;
}

/* What else a tracer can ask of stops. */
static void messages(void)
{
	pid_t pid = traceme(vforks);
	int status, told = 0;
	CHECK(tr(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEVFORK) == 0);
	for (unsigned long child = 0;;) {
		CHECK(tr(PTRACE_SYSCALL, pid, 0, 0) == 0);
		CHECK(waitpid(pid, &status, 0) == pid);
		if (!WIFSTOPPED(status))
			break;
		unsigned long m = 77;
		struct __ptrace_syscall_info i;
		CHECK(tr(PTRACE_GETEVENTMSG, pid, 0, (long)&m) == 0 && tr(PTRACE_GET_SYSCALL_INFO, pid, sizeof i, (long)&i) > 0);
		if (status >> 16 == PTRACE_EVENT_VFORK) {
			child = m;
			CHECK(waitpid(child, &status, __WALL) == (pid_t)child && tr(PTRACE_CONT, child, 0, 0) == 0);
			CHECK(waitpid(child, &status, __WALL) == (pid_t)child);
		} else if (status >> 16 == PTRACE_EVENT_VFORK_DONE)
			printf("the child's: %d\n", m == child);
		else if (told++ < 4)
			printf("%d: message %lu, op %d\n", WSTOPSIG(status), m, i.op);
	}
	tell("end", status);
	pid = traceme(execs);
	long code;
	struct user_regs_struct r;
	do { /* step over execve */
		CHECK(tr(PTRACE_GETREGS, pid, 0, (long)&r) == 0);
		code = ptrace(PTRACE_PEEKTEXT, pid, r.IP, 0) & 0xffff;
		CHECK(tr(PTRACE_SINGLESTEP, pid, 0, 0) == 0);
		CHECK(waitpid(pid, &status, 0) == pid);
	} while ((code != 0x050f && code != 0x80cd && code != 0x340f) || r.RESULT != SYS_execve);
	tell("exec", status);
	info(pid);
	CHECK(tr(PTRACE_KILL, pid, 0, 0) == 0);
	waited("killed", pid);
#ifdef __x86_64__
	pid = traceme(sleeps);
	unsigned long base = 0;
	printf("fs: %ld, ", tr(30 /* PTRACE_ARCH_PRCTL */, pid, (long)&base, 0x1003 /* ARCH_GET_FS */));
	CHECK(tr(PTRACE_GETREGS, pid, 0, (long)&r) == 0);
	printf("%d\n", base == r.fs_base);
	CHECK(tr(PTRACE_KILL, pid, 0, 0) == 0);
	waited("killed", pid);
#endif
}

/* A process that job control has stopped stands when its tracer leaves. */
static void stays(void)
{
	static const int with[] = {0, SIGSTOP, SIGCONT};
	for (int n = 0; n < 3; n++) {
		int status, down[2];
		CHECK(pipe(down) == 0);
		fflush(stdout);
		pid_t pid = fork();
		if (pid == 0)
			_exit(ends_when_told(down[0]));
		CHECK(tr(PTRACE_ATTACH, pid, 0, 0) == 0);
		waited("attached", pid);
		CHECK(tr(PTRACE_DETACH, pid, 0, SIGSTOP) == 0);
		CHECK(waitpid(pid, &status, WUNTRACED) == pid);
		tell("stopped", status);
		CHECK(tr(PTRACE_ATTACH, pid, 0, 0) == 0);
		waited("attached", pid);
		info(pid);
		CHECK(tr(PTRACE_DETACH, pid, 0, with[n]) == 0);
		nap(30);
		printf("stands: %d\n", waitpid(pid, &status, WNOHANG) == 0);
		CHECK(kill(pid, SIGCONT) == 0 && write(down[1], "", 1) == 1);
		waited("end", pid);
		close(down[0]), close(down[1]);
	}
	fflush(stdout);
	pid_t pid = fork(); /* and runs on if its tracer has it run, whoever else looks at it */
	if (pid == 0)
		for (;;)
			;
	CHECK(tr(PTRACE_ATTACH, pid, 0, 0) == 0);
	waited("attached", pid);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	CHECK(kill(pid, SIGSTOP) == 0);
	waited("SIGSTOP", pid);
	info(pid);
	CHECK(tr(PTRACE_CONT, pid, 0, SIGSTOP) == 0);
	waited("group-stop", pid);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	nap(50);
	nothing("runs", pid);
	CHECK(kill(pid, SIGKILL) == 0);
	waited("end", pid);
}

/* What /proc says of a process: its state, and whether this one traces it. */
static void says(const char *what, pid_t pid)
{
	char name[64], line[256], state = '?';
	int tracer = -1;
	snprintf(name, sizeof name, "/proc/%d/status", pid);
	FILE *f = fopen(name, "r");
	CHECK(f);
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "State:\t%c", &state) == 1)
			continue;
		sscanf(line, "TracerPid:\t%d", &tracer);
	}
	fclose(f);
	snprintf(name, sizeof name, "/proc/%d/stat", pid);
	f = fopen(name, "r");
	CHECK(f && fgets(line, sizeof line, f));
	fclose(f);
	printf("%s: %c%c, traced by %s\n", what, state, strrchr(line, ')')[2], tracer == 0 ? "nobody" : tracer == getpid() ? "me" : "another");
}

static void status(void)
{
	says("itself", getpid());
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		raise(SIGSTOP);
		sleeps();
	}
	int status;
	CHECK(waitpid(pid, &status, WUNTRACED) == pid);
	says("stopped", pid);
	CHECK(tr(PTRACE_SEIZE, pid, 0, 0) == 0);
	waited("seized", pid);
	says("seized", pid);
	CHECK(tr(PTRACE_DETACH, pid, 0, 0) == 0);
	CHECK(kill(pid, SIGKILL) == 0);
	waited("end", pid);
	pid = traceme(sleeps);
	says("traced", pid);
	CHECK(kill(pid, SIGKILL) == 0);
	waited("end", pid);
}

/* A child that sleeps in a call, or spins. */
static pid_t child(int spins)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		while (spins)
			;
		sleeps();
	}
	nap(20);
	return pid;
}

/* Has a tracee go on, with the signal that it has stopped for. */
static void on(pid_t pid, int status)
{
	CHECK(tr(PTRACE_CONT, pid, 0, status >> 16 ? 0 : WSTOPSIG(status)) == 0);
}

/* A SIGCONT is told twice, whatever the tracee does; and a process that job control has
 * stopped runs on if its tracer has it run, and is stopped by the same signal when asked. */
static void continues(void)
{
	for (int spinning = 0; spinning < 2; spinning++) {
		pid_t pid = child(spinning);
		CHECK(tr(PTRACE_SEIZE, pid, 0, 0) == 0);
		CHECK(kill(pid, SIGCONT) == 0);
		on(pid, waited("goes on", pid));
		on(pid, waited("and then", pid));
		nap(30);
		nothing("runs", pid);
		CHECK(kill(pid, SIGSTOP) == 0);
		on(pid, waited("SIGSTOP", pid));
		waited("group-stop", pid);
		for (int n = 0; n < 2; n++) {
			CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
			nap(30);
			nothing("runs", pid);
			CHECK(tr(PTRACE_INTERRUPT, pid, 0, 0) == 0);
			waited("interrupted", pid);
			info(pid);
		}
		CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
		CHECK(kill(pid, SIGCONT) == 0);
		on(pid, waited("goes on", pid));
		on(pid, waited("and then", pid));
		CHECK(tr(PTRACE_INTERRUPT, pid, 0, 0) == 0);
		waited("interrupted", pid);
		CHECK(kill(pid, SIGKILL) == 0);
		waited("end", pid);
	}
}

/* Any stop answers PTRACE_INTERRUPT, and two of these are one. */
static void answers(void)
{
	pid_t pid = child(0);
	CHECK(tr(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD) == 0);
	CHECK(tr(PTRACE_INTERRUPT, pid, 0, 0) == 0);
	waited("interrupted", pid);
	CHECK(tr(PTRACE_SYSCALL, pid, 0, 0) == 0);
	waited("call", pid);
	CHECK(tr(PTRACE_SYSCALL, pid, 0, 0) == 0);
	nap(30);
	CHECK(tr(PTRACE_INTERRUPT, pid, 0, 0) == 0);
	waited("left", pid);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	nap(30);
	nothing("runs", pid);
	for (int n = 0; n < 2; n++)
		CHECK(tr(PTRACE_INTERRUPT, pid, 0, 0) == 0);
	waited("interrupted", pid);
	CHECK(tr(PTRACE_INTERRUPT, pid, 0, 0) == 0); /* of one that stands */
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	waited("again", pid);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	nap(30);
	nothing("runs", pid);
	CHECK(kill(pid, SIGKILL) == 0);
	waited("end", pid);
}

/* What can be done with a tracee that has ended, and for which nobody has waited. */
static void zombies(void)
{
	for (int how = 0; how < 3; how++) {
		pid_t pid = child(0), tracer = 0;
		siginfo_t i;
		fflush(stdout);
		if (how == 2) /* that is not the parent */
			tracer = fork();
		if (tracer == 0) {
			if (how > 0)
				CHECK(tr(PTRACE_SEIZE, pid, 0, 0) == 0);
			CHECK(kill(pid, SIGKILL) == 0);
			if (how == 2 || how == 1)
				CHECK(waitid(P_PID, pid, &i, WEXITED | WNOWAIT) == 0);
			else
				nap(50);
			static const int requests[] = {PTRACE_KILL, PTRACE_INTERRUPT, PTRACE_CONT, PTRACE_KILL};
			for (unsigned n = 0; n < sizeof requests / sizeof *requests; n++)
				printf("%d: %d\n", n, tr(requests[n], pid, 0, 0) < 0 ? -errno : 0);
			waited("end", pid);
			printf("kill: %d\n", tr(PTRACE_KILL, pid, 0, 0) < 0 ? -errno : 0);
			fflush(stdout);
		}
		if (how == 2 && tracer == 0)
			_exit(0);
		if (how == 2) {
			waited("tracer", tracer);
			waited("end", pid);
		}
	}
}

static int works(void)
{
	static volatile char room[8 << 20];
	for (unsigned n = 0; n < sizeof room; n += PAGE)
		room[n] = 1;
	raise(SIGUSR1);
	return 0;
}

/* What a wait for a stop says that the tracee has used; and steps to branches. */
static void uses(void)
{
	pid_t pid = traceme(works);
	struct rusage u;
	int status, n = 0;
	memset(&u, 0x5a, sizeof u);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	CHECK(wait4(pid, &status, 0, &u) == pid);
	tell("signal", status);
	printf("rss %d, faults %d, switches %d, others %ld\n", u.ru_maxrss > 8000 && u.ru_maxrss < 20000, u.ru_minflt >= 2048 && u.ru_minflt < 5000,
	       u.ru_nvcsw > 0, u.ru_ixrss + u.ru_idrss + u.ru_isrss + u.ru_nswap + u.ru_msgsnd + u.ru_msgrcv + u.ru_nsignals);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	waited("end", pid);
	pid = traceme(some_calls);
	do { /* as many as the processor makes of it */
		CHECK(tr(33 /* PTRACE_SINGLEBLOCK */, pid, 0, 0) == 0);
		CHECK(waitpid(pid, &status, 0) == pid);
		n++;
	} while (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
	tell(n > 10 ? "stepped" : "not stepped", status);
}

/* A program that gets rights by its file gets none if one without rights traces it, or is not
 * that one's tracee any more. Only root can make such a file. One that goes to a user namespace of its own
 * has all rights there, and no more than before where its tracee is. */
static void raising(int elsewhere)
{
	int up[2], down[2];
	uid_t uid;
	char name[64], *argv[] = {name, "raised", NULL};
	CHECK(pipe(up) == 0 && pipe(down) == 0);
	if (getuid() == 0) {
		int from = open("/proc/self/exe", O_RDONLY), to;
		snprintf(name, sizeof name, "/tmp/raised.%d", getpid());
		CHECK(from >= 0 && (to = open(name, O_WRONLY | O_CREAT | O_EXCL, 0755)) >= 0);
		static char b[1 << 20];
		for (ssize_t n; (n = read(from, b, sizeof b)) > 0;)
			CHECK(write(to, b, n) == n);
		CHECK(fchmod(to, 04755) == 0 && close(to) == 0);
		int status;
		fflush(stdout);
		pid_t me = fork();
		if (me) {
			CHECK(waitpid(me, &status, 0) == me && unlink(name) == 0);
			exit(WEXITSTATUS(status));
		}
		CHECK(setuid(65534) == 0 && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
	}
	pid_t pid = fork();
	if (pid == 0) {
		CHECK(dup2(up[1], 3) == 3 && ends_when_told(down[0]) == 5);
		execv(name, argv);
		_exit(9);
	}
	CHECK(tr(PTRACE_SEIZE, pid, 0, 0) == 0);
	if (elsewhere)
		unshare(CLONE_NEWUSER); /* not all machines allow it */
	CHECK(write(down[1], "", 1) == 1);
	if (getuid() == 65534) {
		CHECK(read(up[0], &uid, sizeof uid) == sizeof uid);
		printf("none: %d\n", uid == 65534 || tr(PTRACE_INTERRUPT, pid, 0, 0) < 0);
	}
	kill(pid, SIGKILL);
	waited("end", pid);
	exit(0);
}

static void raises(void)
{
	raising(0);
}

static void elsewhere(void)
{
	raising(1);
}

static void raised(void)
{
	uid_t uid = geteuid();
	CHECK(setreuid(65534, 65534) == 0 && write(3, &uid, sizeof uid) == sizeof uid);
	sleeps();
}

/* Memory of the tracee of across, where both builds can name it: code, and a word. */
#define LOW 0x10000000L
#define WORD (LOW + 0x800)

/* What the other build does in a tracee of across. */
static void shown(void)
{
	static const unsigned char code[] = {0x90, 0x90, 0x90, 0xc3}; /* three times nop, ret */
	CHECK(mmap((void *)LOW, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == (void *)LOW);
	memcpy((void *)LOW, code, sizeof code);
	*(volatile int *)WORD = 0x12345678;
	__asm__ volatile("fldpi; fldz; fld1; fchs");
	int n = instructions(); /* an int3 at its begin, another at its end */
	long double x, y, z;
	__asm__ volatile("fstpt %0; fstpt %1; fstpt %2" : "=m"(x), "=m"(y), "=m"(z));
	n += 2 * (x == -1 && y == 0 && z > 3.14L && z < 3.15L);
	n += syscall(SYS_getppid) == 1234;
	n += syscall(SYS_getppid) == 1234;
	syscall(SYS_close, -1);
	((void (*)(void))LOW)();
	*(volatile int *)WORD += 1;
	CHECK(signal(SIGUSR1, count) != SIG_ERR);
	raise(SIGUSR1);
	_exit(n + handled + (*(volatile int *)WORD == 0x55aa55ab));
}

/* Lines about a tracee's sets of registers, by number. */
static void sets(pid_t pid)
{
	static const int notes[] = {NT_PRSTATUS, NT_PRFPREG, NT_PRXFPREG, NT_X86_XSTATE, NT_386_TLS, NT_386_IOPERM};
	static char b[16384];
	for (unsigned n = 0; n < sizeof notes / sizeof *notes; n++) {
		struct iovec v = {b, sizeof b};
		int got = tr(PTRACE_GETREGSET, pid, notes[n], (long)&v) < 0 ? -errno : 0;
		printf("  set %#x: %d, %zu bytes", notes[n], got, got ? 0 : v.iov_len);
		if (got == 0 && notes[n] == NT_PRSTATUS) {
			if (v.iov_len == 68)
				printf(", orig_eax %d, cs %#x", ((int *)b)[11], ((int *)b)[13]);
			else
				printf(", orig_rax %lld, cs %#llx", ((long long *)b)[15], ((long long *)b)[17]);
			got = tr(PTRACE_SETREGSET, pid, notes[n], (long)&v) < 0 ? -errno : 0;
			printf(", set: %d", got);
		}
		printf("\n");
	}
}

/* Lines about the registers of a tracee, as this build has them. */
static void regs(pid_t pid, struct user_regs_struct *r)
{
	static char f[1024];
	CHECK(tr(PTRACE_GETREGS, pid, 0, (long)r) == 0);
	errno = 0;
	long word = ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.CALL), 0);
	printf("  call %ld, %ld, cs %#x\n", (long)r->CALL, word, (int)r->CS);
	memset(f, 0, sizeof f);
	int got = tr(PTRACE_GETFPREGS, pid, 0, (long)f) < 0 ? -errno : 0;
	printf("  fp: %d, control %#x, %d", got, *(unsigned short *)f, got ? 0 : tr(PTRACE_SETFPREGS, pid, 0, (long)f) < 0 ? -errno : 0);
#ifdef __i386__
	unsigned long sum = 0; /* but of addresses */
	for (unsigned n = 0; n < sizeof(struct user_fpregs_struct); n++)
		sum = sum * 31 + (n / 4 == 3 || n / 4 == 5 ? 0 : f[n]);
	printf(", sum %#lx", sum);
	got = tr(PTRACE_GETFPXREGS, pid, 0, (long)f) < 0 ? -errno : 0;
	printf(", fpx: %d, control %#x, %d", got, *(unsigned short *)f, got ? 0 : tr(PTRACE_SETFPXREGS, pid, 0, (long)f) < 0 ? -errno : 0);
#endif
	printf("\n");
}

/* A line about a stop for a call, and the registers of the tracee there. */
static int call_stop(pid_t pid, struct user_regs_struct *r)
{
	struct __ptrace_syscall_info i;
	int status;
	CHECK(tr(PTRACE_SYSCALL, pid, 0, 0) == 0);
	CHECK(waitpid(pid, &status, __WALL) == pid);
	if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80)) {
		tell("  no call", status);
		return 0;
	}
	memset(&i, 0, sizeof i);
	long n = tr(PTRACE_GET_SYSCALL_INFO, pid, sizeof i, (long)&i);
	CHECK(tr(PTRACE_GETREGS, pid, 0, (long)r) == 0);
	printf("  %ld bytes, op %d, arch %#x", n, i.op, i.arch);
	if (i.op == PTRACE_SYSCALL_INFO_ENTRY)
		printf(", call %lld, argument %d", (long long)i.entry.nr, i.entry.nr == 6 || i.entry.nr == 3 ? (int)i.entry.args[0] : 0);
	else if (i.exit.is_error)
		printf(", error %lld", (long long)i.exit.rval);
	printf("\n");
	return 1;
}

/* Breakpoints, steps and calls of a tracee that stands at its first int3. */
static void drives(pid_t pid)
{
	struct user_regs_struct r, before;
	regs(pid, &before);
	sets(pid);
	for (int n = 0; n < 5; n++) {
		CHECK(tr(PTRACE_SINGLESTEP, pid, 0, 0) == 0);
		waited("step", pid);
		CHECK(tr(PTRACE_GETREGS, pid, 0, (long)&r) == 0);
		printf("  at +%d, %s\n", (int)(r.IP - before.IP), (pid_t)r.RESULT == pid ? "has its pid" : "goes on");
		info(pid);
	}
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	waited("int3", pid);
	for (int n = 0; n < 8 && call_stop(pid, &r); n++) {
		if (n == 1) /* another result */
			CHECK(tr(PTRACE_POKEUSER, pid, offsetof(struct user, regs.RESULT), 1234) == 0);
		else if (n == 2) /* not made */
			CHECK(tr(PTRACE_POKEUSER, pid, offsetof(struct user, regs.CALL), -1) == 0);
		else if (n == 3) {
			r.RESULT = 1234;
			if (sizeof(long) == 4) /* it would cut the registers of its tracee short */
				CHECK(tr(PTRACE_POKEUSER, pid, offsetof(struct user, regs.RESULT), 1234) == 0);
			else
				CHECK(tr(PTRACE_SETREGS, pid, 0, (long)&r) == 0);
		} else if (n == 5)
			break;
	}
	regs(pid, &r);
	sets(pid);
	errno = 0;
	long code = ptrace(PTRACE_PEEKTEXT, pid, LOW, 0);
	printf("code %#lx, %d\n", code & 0xffffffff, errno);
	CHECK(tr(PTRACE_POKETEXT, pid, LOW, (code & ~0xff00L) | 0xcc00) == 0);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	waited("breakpoint", pid);
	info(pid);
	CHECK(tr(PTRACE_GETREGS, pid, 0, (long)&r) == 0);
	printf("  at %#lx\n", (long)r.IP);
	CHECK(tr(PTRACE_POKETEXT, pid, LOW, code) == 0);
	CHECK(tr(PTRACE_POKEUSER, pid, offsetof(struct user, regs.IP), LOW + 1) == 0);
	CHECK(tr(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), WORD) == 0);
	CHECK(tr(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), 1 | 1 << 16 | 3 << 18) == 0);
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	waited("written", pid);
	info(pid);
	errno = 0;
	long word = ptrace(PTRACE_PEEKDATA, pid, WORD, 0);
	printf("  %#lx, dr6 %ld, %d\n", word & 0xffffffff, ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg[6]), 0) & 15, errno);
	CHECK(tr(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), 0) == 0);
	CHECK(tr(PTRACE_POKEDATA, pid, WORD, (word & ~0xffffffffL) | 0x55aa55ab) == 0);
	siginfo_t i;
	CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
	waited("signal", pid);
	info(pid);
	CHECK(tr(PTRACE_GETSIGINFO, pid, 0, (long)&i) == 0);
	i.si_code = SI_QUEUE;
	CHECK(tr(PTRACE_SETSIGINFO, pid, 0, (long)&i) == 0);
	CHECK(tr(PTRACE_CONT, pid, 0, SIGUSR1) == 0);
	waited("end", pid);
}

static char *other_build;

/* A tracer of the one architecture with a tracee of the other. */
static void across(void)
{
	for (int how = 0; how < 3; how++) {
		int down[2], status;
		printf("how %d\n", how);
		fflush(stdout);
		CHECK(pipe(down) == 0);
		pid_t pid = fork();
		if (pid == 0) {
			if (how == 0)
				CHECK(tr(PTRACE_TRACEME, 0, 0, 0) == 0);
			else
				CHECK(ends_when_told(down[0]) == 5);
			execl(other_build, other_build, "shown", NULL);
			_exit(9);
		}
		if (how == 0)
			waited("exec", pid);
		else {
			if (how == 1) {
				CHECK(tr(PTRACE_ATTACH, pid, 0, 0) == 0);
				waited("attached", pid);
			} else {
				CHECK(tr(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEEXEC) == 0);
				CHECK(tr(PTRACE_INTERRUPT, pid, 0, 0) == 0);
				waited("seized", pid);
			}
			CHECK(write(down[1], "", 1) == 1 && tr(PTRACE_CONT, pid, 0, 0) == 0);
			waited("exec", pid);
		}
		info(pid);
		struct user_regs_struct r;
		regs(pid, &r);
		sets(pid);
		CHECK(tr(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD) == 0);
		CHECK(tr(PTRACE_CONT, pid, 0, 0) == 0);
		if (!WIFSTOPPED(status = waited("int3", pid)))
			return;
		info(pid);
		drives(pid);
		close(down[0]), close(down[1]);
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*f)(void);
	} all[] = {
		{"calls", calls}, {"steps", steps}, {"signals", signals}, {"groups", groups}, {"joins", joins}, {"spins", spins}, {"attach", attach}, {"inherit", inherit}, {"chld", chld},
		{"waits", waits}, {"refused", refused}, {"heirs", heirs}, {"entry", entry}, {"exec", exec_}, {"break", break_}, {"emulate", emulate}, {"registers", registers}, {"pending", pending},
		{"ends", ends}, {"suspends", suspends}, {"messages", messages}, {"stays", stays}, {"status", status},
		{"continues", continues}, {"answers", answers}, {"zombies", zombies}, {"uses", uses}, {"raises", raises}, {"elsewhere", elsewhere}, {"raised", raised},
		{"across", across}, {"shown", shown},
	};
	other_build = strdup(argv[0]);
	char *arch = strrchr(other_build, '-');
	if (arch)
		CHECK(asprintf(&other_build, "%.*s%s", (int)(arch - other_build), other_build, sizeof(long) == 4 ? "-x86_64" : "-i386") > 0);
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
		if (argc > 1 && !strcmp(argv[1], all[i].name)) {
			all[i].f();
			return 0;
		}
	return 2;
}
