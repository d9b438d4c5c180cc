/* quick: x86_64 i386 */
/* build: x86_64 i386 static */
/* Signals: handlers on another stack, a fault that its handler mends, queued
 * real-time signals in number and order, siginfo, masks, a core, SIGKILL. */
#include <setjmp.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include "mark.h"

#define RW (PROT_READ | PROT_WRITE)

static char *alt, *broken;
static volatile int hits, order[64], norder;
static sigjmp_buf env;

static void on_alt(int sig)
{
	char here;
	(void)sig;
	CHECK(&here >= alt && &here < alt + 16 * PAGE);
	MARK(2);
	hits++;
}

static void mend(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	CHECK(sig == SIGSEGV && si->si_addr == broken + 100 && si->si_code == SEGV_ACCERR);
	CHECK(mprotect(broken, PAGE, RW) == 0);
	hits++;
}

static void queued(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	CHECK(si->si_code == SI_QUEUE && si->si_pid == getpid());
	order[norder++] = (sig - SIGRTMIN) * 100 + si->si_value.sival_int;
}

static void out(int sig)
{
	siglongjmp(env, sig);
}

static void skip_ud2(int sig, siginfo_t *si, void *uc)
{
	(void)sig, (void)si;
#if defined(__x86_64__)
	((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP] += 2;
#elif defined(__i386__)
	((ucontext_t *)uc)->uc_mcontext.gregs[REG_EIP] += 2;
#endif
	(void)uc;
	hits++;
}

static void child_dies(int how, int want, int core)
{
	pid_t pid = fork();
	int st;
	CHECK(pid >= 0);
	if (pid == 0) {
		struct rlimit l = {core ? RLIM_INFINITY : 0, RLIM_INFINITY};
		signal(SIGSEGV, SIG_DFL);
		signal(SIGFPE, SIG_DFL);
		setrlimit(RLIMIT_CORE, &l);
		if (how == -1)
			*(volatile char *)8 = 1;
		else
			raise(how);
		_exit(1);
	}
	CHECK(waitpid(pid, &st, 0) == pid && WIFSIGNALED(st) && WTERMSIG(st) == want);
	printf("signal %d, core %s\n", want, WCOREDUMP(st) ? "written" : "not written");
}

int main(void)
{
	struct sigaction sa = {.sa_flags = SA_ONSTACK};
	alt = anon(16 * PAGE, RW);
	stack_t ss = {.ss_sp = alt, .ss_size = 16 * PAGE}, old;
	CHECK(sigaltstack(&ss, NULL) == 0);
	sa.sa_handler = on_alt;
	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
	MARK(1);
	CHECK(raise(SIGUSR1) == 0 && hits == 1);
	CHECK(sigaltstack(NULL, &old) == 0 && old.ss_sp == alt && old.ss_flags == 0);
	MARK(3);

	/* faults mended, some thousand times: each is a signal and an mprotect */
	broken = anon(4 * PAGE, PROT_NONE);
	sa = (struct sigaction){.sa_sigaction = mend, .sa_flags = SA_SIGINFO};
	CHECK(sigaction(SIGSEGV, &sa, NULL) == 0);
	hits = 0;
	for (int i = 0; i < 1000; i++) {
		broken[100] = i;
		CHECK(hits == i + 1);
		if (i % 100 == 0)
			MARK(10 + i / 100);
		CHECK(mprotect(broken, PAGE, i & 1 ? PROT_NONE : PROT_READ) == 0);
	}
	/* out of a handler by a jump */
	signal(SIGFPE, out);
	hits = 0;
	int sig = sigsetjmp(env, 1);
	if (sig == 0) {
		volatile int zero = 0;
		hits = 100 / zero;
	}
	CHECK(sig == SIGFPE);
#if defined(__x86_64__) || defined(__i386__)
	sa = (struct sigaction){.sa_sigaction = skip_ud2, .sa_flags = SA_SIGINFO};
	CHECK(sigaction(SIGILL, &sa, NULL) == 0);
	hits = 0;
	__asm__ volatile("ud2");
	CHECK(hits == 1);
	/* int3 is a signal to a program that is traced by nobody it knows */
	struct sigaction tr = {.sa_handler = out};
	sigaction(SIGTRAP, &tr, NULL);
	sig = sigsetjmp(env, 1);
	if (sig == 0)
		__asm__ volatile("int3");
	CHECK(sig == SIGTRAP);
#else
	(void)skip_ud2;
#endif
	/* real-time signals: lowest number first, then in the order they were sent */
	sigset_t m;
	sigemptyset(&m);
	sa = (struct sigaction){.sa_sigaction = queued, .sa_flags = SA_SIGINFO};
	sigfillset(&sa.sa_mask);
	for (int i = 0; i < 3; i++) {
		sigaddset(&m, SIGRTMIN + i);
		CHECK(sigaction(SIGRTMIN + i, &sa, NULL) == 0);
	}
	CHECK(sigprocmask(SIG_BLOCK, &m, NULL) == 0);
	for (int i = 0; i < 8; i++)
		for (int s = 2; s >= 0; s--)
			CHECK(sigqueue(getpid(), SIGRTMIN + s, (union sigval){.sival_int = i}) == 0);
	CHECK(norder == 0);
	CHECK(sigprocmask(SIG_UNBLOCK, &m, NULL) == 0);
	/* handlers nest: the last one set up runs first, and all block all */
	CHECK(norder == 24);
	for (int i = 0; i < 24; i++)
		printf("%d ", order[i]);
	puts("");
	for (int s = 0; s < 3; s++) {
		int want = 0;
		for (int i = 0; i < 24; i++)
			if (order[i] / 100 == s)
				CHECK(order[i] % 100 == want++);
		CHECK(want == 8);
	}
	/* an ordinary signal is not counted while it waits */
	sigemptyset(&m);
	sigaddset(&m, SIGUSR2);
	signal(SIGUSR2, SIG_IGN);
	CHECK(sigprocmask(SIG_BLOCK, &m, NULL) == 0);
	raise(SIGUSR2);
	raise(SIGUSR2);
	MARK(30);
	fflush(stdout);
	child_dies(-1, SIGSEGV, 0);
	child_dies(SIGABRT, SIGABRT, 0);
	child_dies(SIGKILL, SIGKILL, 0);
	child_dies(SIGTERM, SIGTERM, 0);
	child_dies(SIGRTMIN + 5, SIGRTMIN + 5, 0);
	child_dies(-1, SIGSEGV, 1);
	child_dies(SIGQUIT, SIGQUIT, 1);
	MARK(31);
	puts("signals ok");
	return 0;
}
