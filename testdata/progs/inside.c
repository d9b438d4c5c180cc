/* build: x86_64 static */
/* args: masks | handlers | signals 2 | pointers | registers | threads | lines */
/* quick: x86_64 */
/* Calls whose program would notice if something between it and the kernel was not quite
 * like the kernel: registers, flags and the red zone around calls, also while signals
 * come; the mask and the handlers of signals; pointers to nothing. All results are
 * printed, so that runs can be compared. */
#include "mark.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <ucontext.h>

#ifndef __x86_64__
int main(void)
{
	SKIP("for x86_64");
}
#else

/* A call with all registers set, and what they are behind it. */
struct state {
	uint64_t in[6], nr, ret;
	uint64_t kept[8]; /* rbx rbp r12 to r15, r8 and r9 */
	uint64_t flags, red[2];
	unsigned char xmm[16];
};

static void made(struct state *s, long nr, long a, long b, long c)
{
	static const unsigned char pattern[16] = "0123456789abcdef";
	uint64_t in[6] = {a, b, c, 0x1010, 0x0808, 0x0909};
	memcpy(s->in, in, sizeof in);
	s->nr = nr;
	__asm__ volatile(
		"mov %0, %%r15\n"
		"movdqu (%1), %%xmm7\n"
		"push %%rbx; push %%rbp; push %%r15\n"
		"movq $0x5ed20e, -8(%%rsp); movq $0x5ed20f, -128(%%rsp)\n"
		"mov 0(%%r15), %%rdi; mov 8(%%r15), %%rsi; mov 16(%%r15), %%rdx\n"
		"mov 24(%%r15), %%r10; mov 32(%%r15), %%r8; mov 40(%%r15), %%r9\n"
		"mov $0xb0b, %%ebx; mov $0xbeb, %%ebp; mov $0x12, %%r12d; mov $0x13, %%r13d; mov $0x14, %%r14d\n"
		"mov $0x7fffffff, %%eax; add $1, %%eax; stc\n" /* OF SF AF PF CF */
		"mov 48(%%r15), %%rax\n"
		"syscall\n"
		"mov %%rax, 56(%%r15)\n"
		"mov %%rbx, 64(%%r15); mov %%rbp, 72(%%r15); mov %%r12, 80(%%r15); mov %%r13, 88(%%r15)\n"
		"mov %%r14, 96(%%r15); mov %%r8, 104(%%r15); mov %%r9, 112(%%r15); mov %%r10, 120(%%r15)\n"
		"mov %%rdi, 0(%%r15); mov %%rsi, 8(%%r15); mov %%rdx, 16(%%r15)\n"
		"mov -8(%%rsp), %%rax; mov %%rax, 136(%%r15)\n"
		"mov -128(%%rsp), %%rax; mov %%rax, 144(%%r15)\n"
		"lea -256(%%rsp), %%rsp; pushfq; pop %%rax; lea 256(%%rsp), %%rsp; mov %%rax, 128(%%r15)\n"
		"movdqu %%xmm7, 152(%%r15)\n"
		"pop %%r15; pop %%rbp; pop %%rbx\n"
		:
		: "r"(s), "r"(pattern)
		: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc", "xmm7");
	static const uint64_t kept[8] = {0xb0b, 0xbeb, 0x12, 0x13, 0x14, 0x0808, 0x0909, 0x1010};
	CHECK(memcmp(s->kept, kept, sizeof kept) == 0);
	CHECK(s->in[0] == (uint64_t)a && s->in[1] == (uint64_t)b && s->in[2] == (uint64_t)c);
	CHECK((s->flags & 0x8d5) == 0x895);
	CHECK(s->red[0] == 0x5ed20e && s->red[1] == 0x5ed20f);
	CHECK(memcmp(s->xmm, pattern, 16) == 0);
}

static int zero, null;
static char page[4096];

static void calls(struct state *s, int i)
{
	char b[8];
	switch (i % 7) {
	case 0:
		made(s, SYS_getpid, 1, 2, 3);
		CHECK(s->ret == (uint64_t)getpid());
		break;
	case 1:
		made(s, SYS_read, zero, (long)page, sizeof page);
		CHECK(s->ret == sizeof page);
		break;
	case 2:
		made(s, SYS_write, null, (long)"text", 4);
		CHECK(s->ret == 4);
		break;
	case 3:
		made(s, SYS_lseek, -1, 0, 0);
		CHECK((int64_t)s->ret == -EBADF);
		break;
	case 4:
		made(s, SYS_stat, (long)"/", (long)page, 0);
		CHECK(s->ret == 0);
		break;
	case 5:
		made(s, SYS_open, (long)"/dev/null", O_RDONLY, 0);
		CHECK((int64_t)s->ret > 2);
		made(s, SYS_close, s->ret, 0, 0);
		CHECK(s->ret == 0);
		break;
	case 6:
		made(s, SYS_read, zero, (long)b, 1);
		CHECK(s->ret == 1);
		break;
	}
}

/* Registers at a signal: it never comes while the thread is anywhere but in the program. */
static char *text[2], *libc[2];
static volatile int hits, odd;
static volatile uint64_t oddest;

static void on(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info;
	ucontext_t *u = context;
	char *ip = (char *)u->uc_mcontext.gregs[REG_RIP];
	if (!(ip >= text[0] && ip < text[1]) && !(ip >= libc[0] && ip < libc[1])) {
		odd++;
		oddest = (uint64_t)ip;
	}
	hits++;
}

static void range(char **r, const void *in)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned long a, b;
	CHECK(f != NULL);
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "%lx-%lx", &a, &b) == 2 && (char *)a <= (char *)in && (char *)in < (char *)b)
			r[0] = (char *)a, r[1] = (char *)b;
	fclose(f);
}

static void signals(int tenths)
{
	struct state s;
	range(text, (void *)on);
	range(libc, (void *)memcpy);
	struct sigaction a = {.sa_sigaction = on, .sa_flags = SA_SIGINFO | SA_RESTART};
	CHECK(sigaction(SIGALRM, &a, NULL) == 0);
	struct itimerval t = {{0, 150}, {0, 150}};
	CHECK(setitimer(ITIMER_REAL, &t, NULL) == 0);
	struct timespec begin, now;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	int n = 0;
	do {
		for (int i = 0; i < 70; i++)
			calls(&s, i);
		clock_gettime(CLOCK_MONOTONIC, &now);
		n++;
	} while ((now.tv_sec - begin.tv_sec) * 10 + (now.tv_nsec - begin.tv_nsec) / 100000000 < tenths || hits < 50);
	struct itimerval none = {{0, 0}, {0, 0}};
	CHECK(setitimer(ITIMER_REAL, &none, NULL) == 0);
	/* the vdso and the dynamic linker are elsewhere too: calls made there are few */
	CHECK(odd * 4 < hits);
	puts("signals: all registers as they were");
}

/* A pointer of which the compiler knows nothing. */
static char *nowhere(long a)
{
	__asm__("" : "+r"(a));
	return (char *)a;
}

/* Ten places that make a call for the first time. */
#define FIRST(nr) __asm__ volatile("syscall" : "=a"(ret) : "0"(nr) : "rcx", "r11", "memory"); CHECK(ret > 0)

static void firsts(void)
{
	long ret;
	FIRST(SYS_getppid); FIRST(SYS_getpid); FIRST(SYS_gettid); FIRST(SYS_getppid); FIRST(SYS_getpid);
	FIRST(SYS_gettid); FIRST(SYS_getppid); FIRST(SYS_getpid); FIRST(SYS_gettid); FIRST(SYS_getppid);
}

static void nothing(int sig)
{
	(void)sig;
	hits++;
}

static void masks(int way)
{
	sigset_t all, was, is;
	struct sigaction sys = {.sa_handler = way == 0 ? SIG_DFL : way == 1 ? SIG_IGN : nothing, .sa_flags = SA_RESTART}, had, now;
	sigfillset(&all);
	int on[] = {SIGSYS, SIGSEGV, SIGBUS, SIGTRAP};
	for (int i = 0; i < 4; i++)
		CHECK(sigaction(on[i], &sys, NULL) == 0 && sigaction(on[i], NULL, &had) == 0);
	for (int blocked = 0; blocked < 2; blocked++) {
		CHECK(sigprocmask(blocked ? SIG_BLOCK : SIG_UNBLOCK, &all, NULL) == 0);
		CHECK(sigprocmask(SIG_BLOCK, NULL, &was) == 0);
		for (int i = 0; i < 20; i++)
			firsts();
		CHECK(write(null, nowhere(8), 4) == 4); /* nobody reads it */
		CHECK(sigprocmask(SIG_BLOCK, NULL, &is) == 0);
		CHECK(memcmp(&was, &is, 8) == 0);
		for (int i = 0; i < 4; i++) {
			CHECK(sigaction(on[i], NULL, &now) == 0);
			CHECK(now.sa_handler == sys.sa_handler && now.sa_flags == had.sa_flags);
		}
	}
	CHECK(sigprocmask(SIG_UNBLOCK, &all, NULL) == 0);
	CHECK(hits == 0);
	printf("masks %d: as they were\n", way);
}

/* What a handler of SIGSYS is told, and where it runs. */
static struct {
	int hits, sig, code, value, ours, onstack, blocked;
} told;
static char stack[1 << 16];

static void handled(int sig, siginfo_t *info, void *context)
{
	sigset_t now;
	char here;
	(void)context;
	sigprocmask(SIG_BLOCK, NULL, &now);
	told.hits++;
	told.sig = sig;
	told.code = info->si_code;
	told.value = info->si_code == SI_QUEUE ? info->si_value.sival_int : 0;
	told.ours = info->si_pid == getpid();
	told.onstack = &here >= stack && &here < stack + sizeof stack;
	told.blocked = sigismember(&now, SIGSYS) + 2 * sigismember(&now, SIGUSR1);
}

static void another(int sig)
{
	(void)sig;
	hits += 100;
}

static void tell(const char *what)
{
	printf("%s: %d hits, signal %d, code %d, value %d, ours %d, alternate stack %d, blocked %d\n", what, told.hits, told.sig, told.code, told.value, told.ours, told.onstack, told.blocked);
	memset(&told, 0, sizeof told);
}

/* A child does something with SIGSYS; how does it end? */
static void child(const char *what, void (*with)(int))
{
	int status;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 5; i++)
			firsts();
		if (with != SIG_ERR)
			signal(SIGSYS, with);
		for (int i = 0; i < 5; i++)
			firsts();
		raise(SIGSYS);
		_exit(hits + told.hits);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	printf("%s: status %#x\n", what, status & ~0x80);
}

/* A program with a handler of SIGSYS, or without. */
static void handlers(void)
{
	stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
	CHECK(sigaltstack(&alternate, NULL) == 0);
	static const int flags[] = {SA_SIGINFO, SA_SIGINFO | SA_ONSTACK, SA_SIGINFO | SA_NODEFER, SA_SIGINFO | SA_RESTART, SA_SIGINFO | SA_RESETHAND};
	struct sigaction is;
	for (int i = 0; i < 5; i++) {
		struct sigaction a = {.sa_sigaction = handled, .sa_flags = flags[i]};
		if (i != 3)
			sigaddset(&a.sa_mask, SIGUSR1);
		printf("flags %#x\n", flags[i]);
		CHECK(sigaction(SIGSYS, &a, NULL) == 0);
		for (int k = 0; k < 20; k++)
			firsts();
		child("a child", SIG_ERR);
		child("a child with another", another);
		child("a child with none", SIG_DFL);
		child("a child that ignores it", SIG_IGN);
		CHECK(raise(SIGSYS) == 0);
		tell("raised");
		CHECK(sigaction(SIGSYS, NULL, &is) == 0);
		printf("the handler is %d, flags %#x, mask %d\n", is.sa_sigaction == handled, is.sa_flags & ~0x04000000, sigismember(&is.sa_mask, SIGUSR1));
		if (flags[i] & SA_RESETHAND)
			continue;
		for (int k = 0; k < 20; k++)
			firsts();
		CHECK(sigqueue(getpid(), SIGSYS, (union sigval){.sival_int = 42}) == 0);
		tell("queued");
		CHECK(kill(getpid(), SIGSYS) == 0);
		tell("sent");
	}
}

static void say(const char *what, long ret)
{
	printf("%s: %ld %s\n", what, ret, ret < 0 ? strerror(errno) : "");
}

static void pointers(void)
{
	char *edge = anon(3 * PAGE, PROT_READ | PROT_WRITE), name[] = "inside.dat";
	CHECK(mprotect(edge + PAGE, PAGE, PROT_NONE) == 0);
	char *end = edge + PAGE;
	memset(edge, 'x', PAGE);
	int fd = newfile(name, 2 * PAGE);
	char *ro = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), *past = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(ro != MAP_FAILED && past != MAP_FAILED && ftruncate(fd, PAGE) == 0);
	struct stat st;
	for (int i = 0; i < 6; i++) { /* places that make calls often are treated otherwise */
		say("open, no end", open(end - 10, O_RDONLY));
		say("open, nowhere", open(end, O_RDONLY));
		say("open, null", open(nowhere(0), O_RDONLY));
		say("open, kernel", open(nowhere(-4096), O_RDONLY));
		strcpy(end - 10, "/dev/null");
		int null2 = open(end - 10, O_RDONLY);
		say("open, to the end", null2);
		close(null2);
		memset(end - 10, 'x', 10);
		say("stat, no end", stat(end - 10, &st));
		say("stat, into nowhere", stat("/", (struct stat *)(end - 8)));
		say("read, into nowhere", read(zero, end, 8));
		say("read, over the edge", read(zero, end - 8, 16));
		say("read, into read-only", read(zero, ro, 8));
		say("read, past the end", read(zero, past + PAGE, 8));
		say("write, nowhere", write(fd, end, 8));
		say("write, nowhere to nowhere", write(null, end, 8));
		say("write, over the edge", pwrite(fd, end - 8, 16, 0));
		say("write, past the end", pwrite(fd, past + PAGE, 8, 0));
		say("write, past the end to nowhere", write(null, past + PAGE, 8));
		say("write, kernel", write(fd, nowhere(-4096), 8));
		say("getcwd, nowhere", syscall(SYS_getcwd, end, 100));
		say("readlink over its path", ({ strcpy(edge, "/proc/self/exe"); readlink(edge, nowhere((long)edge), 4) < 0 ? -1L : 4L; }));
		say("poll, nowhere", syscall(SYS_poll, end, 1, 0));
		memset(edge, 'x', 20);
	}
}

static void registers(void)
{
	struct state s;
	for (int i = 0; i < 7000; i++)
		calls(&s, i);
	puts("registers: as they were");
}

/* Threads that make calls while others do, while signals come to them, and while one of
 * them maps, unmaps and forks. */
enum { CALLERS = 4, ROUNDS = 60 };
static atomic_int over, taken[CALLERS], back;
static __thread atomic_int *mine;

static void counts(int sig)
{
	(void)sig;
	if (mine)
		(*mine)++;
}

static void *caller(void *arg)
{
	struct state s;
	mine = arg;
	for (int i = 0; !over; i++)
		calls(&s, i);
	return NULL;
}

static void *sleeper(void *arg)
{
	int *ends = arg;
	char c;
	while (read(ends[0], &c, 1) == 1)
		back++;
	return NULL;
}

static void threads(void)
{
	pthread_t t[CALLERS], asleep;
	int ends[2];
	struct state s;
	struct sigaction a = {.sa_handler = counts, .sa_flags = SA_RESTART};
	CHECK(sigaction(SIGUSR1, &a, NULL) == 0 && pipe(ends) == 0);
	for (int i = 0; i < CALLERS; i++)
		CHECK(pthread_create(&t[i], NULL, caller, &taken[i]) == 0);
	CHECK(pthread_create(&asleep, NULL, sleeper, ends) == 0);
	for (int n = 0; n < ROUNDS; n++) {
		for (int i = 0; i < CALLERS; i++)
			CHECK(pthread_kill(t[i], SIGUSR1) == 0);
		char *m = anon(4 * PAGE, PROT_READ | PROT_WRITE);
		made(&s, SYS_read, zero, (long)m, PAGE);
		CHECK(s.ret == PAGE);
		CHECK(munmap(m, 4 * PAGE) == 0);
		CHECK(write(ends[1], "!", 1) == 1);
		if (n % 20 == 0) {
			pid_t child = fork();
			if (child == 0) {
				for (int i = 0; i < 70; i++)
					calls(&s, i);
				_exit(7);
			}
			int status;
			CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 7 << 8);
		}
		for (int i = 0; i < 700; i++)
			calls(&s, i);
	}
	for (int i = 0; i < CALLERS; i++)
		while (taken[i] == 0)
			nap(1);
	over = 1;
	CHECK(close(ends[1]) == 0);
	for (int i = 0; i < CALLERS; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	CHECK(pthread_join(asleep, NULL) == 0 && back == ROUNDS);
	puts("threads: all registers as they were");
}

/* Threads of which each makes calls of its own, always the same. */
static void *line(void *arg)
{
	struct state s;
	struct stat st;
	long n = (long)arg;
	for (int i = 0; i < 400; i++) {
		made(&s, SYS_pread64, zero, (long)page, 100 * n + i % 10);
		CHECK((long)s.ret == 100 * n + i % 10);
		made(&s, SYS_stat, (long)"/dev/null", (long)&st, 0);
		CHECK(s.ret == 0);
		made(&s, SYS_lseek, -n, i, 0);
		CHECK((int64_t)s.ret == -EBADF);
		if (i % 50 == 0)
			CHECK(munmap(anon(n * PAGE, PROT_READ), n * PAGE) == 0);
	}
	return NULL;
}

static void lines(void)
{
	pthread_t t[CALLERS];
	for (long i = 0; i < CALLERS; i++)
		CHECK(pthread_create(&t[i], NULL, line, (void *)(i + 1)) == 0);
	for (int i = 0; i < CALLERS; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	puts("lines: made");
}

/* Threads that go on until a file is there. All of their calls have to do what they do, also
 * when nobody records them any more: pointers to nothing too, and those of children. */
static const char *ready, *end;

static void fatal(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	printf("outlives: it was told of signal %d, code %d, errno %d, of call %d before %p, and is at %#llx\n", sig, info->si_code, info->si_errno, info->si_syscall, info->si_call_addr,
	       u->uc_mcontext.gregs[REG_RIP]);
	fflush(stdout);
	_exit(9);
}

static void outlives(void)
{
	pthread_t t[CALLERS];
	struct state s;
	for (int i = 0; i < CALLERS; i++)
		CHECK(pthread_create(&t[i], NULL, caller, &taken[i]) == 0);
	for (int n = 0; access(end, F_OK) != 0; n++) {
		for (int i = 0; i < 70; i++)
			calls(&s, i);
		CHECK(munmap(anon(PAGE, PROT_READ), PAGE) == 0);
		if (n == 30)
			close(open(ready, O_CREAT | O_WRONLY, 0600));
	}
	CHECK(open(nowhere(8), O_RDONLY) == -1 && errno == EFAULT);
	pid_t child = fork();
	if (child == 0) {
		for (int i = 0; i < 700; i++)
			calls(&s, i);
		_exit(7);
	}
	int status;
	CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 7 << 8);
	over = 1;
	for (int i = 0; i < CALLERS; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	puts("outlives: all registers as they were");
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	CHECK((zero = open("/dev/zero", O_RDWR)) >= 0 && (null = open("/dev/null", O_WRONLY)) >= 0);
	const char *what = argc > 1 ? argv[1] : "registers";
	if (strcmp(what, "masks") == 0)
		for (int way = 0; way < 3; way++)
			masks(way);
	else if (strcmp(what, "signals") == 0)
		signals(argc > 2 ? atoi(argv[2]) : 2);
	else if (strcmp(what, "pointers") == 0)
		pointers();
	else if (strcmp(what, "threads") == 0)
		threads();
	else if (strcmp(what, "handlers") == 0)
		handlers();
	else if (strcmp(what, "outlives") == 0 && argc >= 4) {
		ready = argv[2];
		end = argv[3];
		struct sigaction handles = {.sa_sigaction = fatal, .sa_flags = SA_SIGINFO};
		if (argc > 4)
			CHECK(sigaction(SIGSYS, &handles, NULL) == 0);
		outlives();
		return 0;
	} else if (strcmp(what, "lines") == 0)
		lines();
	else
		registers();
	MARK(1);
	return 0;
}
#endif
