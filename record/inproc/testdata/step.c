// Enters the code that records calls, as a program would, for step_test.go, which steps it
// through that: step FILE BASE CODE SHARED gs|nogs CALL. It stops with a breakpoint before
// it enters and when it is back.

#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <asm/prctl.h>

static char buf[1 << 20] = "some text to be written";

int main(int argc, char **argv)
{
	int fd = open(argv[1], O_RDWR);
	char *base = (char *)strtoul(argv[2], 0, 0);
	unsigned long code = strtoul(argv[3], 0, 0), shared = strtoul(argv[4], 0, 0);
	if (mmap(base, code, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0) != base)
		return 1;
	if (mmap(base + code, shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, code) != base + code)
		return 2;
	if (strcmp(argv[5], "gs") == 0)
		syscall(SYS_arch_prctl, ARCH_SET_GS, base + code);
	long args[6] = {SYS_getppid, 0, 0, 0, 0x1010, 0x0808}; /* the number, rdi rsi rdx r10 r8 */
	const char *call = argv[6];
	if (strcmp(call, "read") == 0) {
		long a[4] = {SYS_read, open("/proc/self/maps", O_RDONLY), (long)buf, 700};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "write") == 0) {
		long a[4] = {SYS_write, open("/dev/null", O_WRONLY), (long)buf, 23};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "complaint") == 0) {
		long a[4] = {SYS_write, 2, (long)buf, 0};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "open") == 0) {
		long a[4] = {SYS_open, (long)"/dev/null", O_RDONLY};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "open2") == 0) {
		dup2(fd, 41);
		for (int i = 0; i < 41; i++)
			if (fcntl(i, F_GETFD) < 0)
				dup2(fd, i);
		long a[4] = {SYS_open, (long)"/dev/null", O_RDONLY};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "failing") == 0) {
		long a[4] = {SYS_open, (long)"/nowhere/at/all", O_RDONLY};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "status") == 0) {
		long a[4] = {SYS_open, (long)"/proc/self/status", O_RDONLY};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "stat") == 0) {
		long a[4] = {SYS_stat, (long)"/dev/null", (long)buf};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "fcntl") == 0) {
		long a[4] = {SYS_fcntl, 1, F_GETFD};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "fcntlother") == 0) {
		long a[4] = {SYS_fcntl, 1, F_GETOWN};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "fcntldup") == 0) {
		long a[4] = {SYS_fcntl, 1, F_DUPFD_CLOEXEC, 3};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "fcntlseals") == 0) {
		long a[4] = {SYS_fcntl, 1, 1034};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "fcntllock") == 0) {
		long a[4] = {SYS_fcntl, 1, 36};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "part") == 0) {
		int ends[2];
		if (pipe2(ends, O_NONBLOCK) < 0)
			return 3;
		long a[4] = {SYS_write, ends[1], (long)buf, sizeof buf};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "wait") == 0) {
		long a[5] = {SYS_futex, (long)buf, 128, 1, 0};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "wake") == 0) {
		long a[4] = {SYS_futex, (long)buf, 129, 1};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "lockpi") == 0) {
		long a[4] = {SYS_futex, (long)buf, 128 + 6, 1};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "sigaction") == 0 || strcmp(call, "sigchld") == 0 || strcmp(call, "sigsegv") == 0) {
		long sig = strcmp(call, "sigaction") == 0 ? SIGUSR1 : strcmp(call, "sigchld") == 0 ? SIGCHLD : SIGSEGV;
		long a[5] = {SYS_rt_sigaction, sig, 0, (long)buf, 8};
		memcpy(args, a, sizeof a);
	} else if (strncmp(call, "sigmask", 7) == 0) {
		*(long *)buf = strcmp(call, "sigmaskbus") == 0 ? 1L << (SIGBUS - 1) : 1L << (SIGINT - 1);
		long a[5] = {SYS_rt_sigprocmask, SIG_BLOCK, strcmp(call, "sigmasknull") == 0 ? 0 : (long)buf, (long)buf + 64, strcmp(call, "sigmasksize") == 0 ? 16 : 8};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "getsockname") == 0) {
		int ends[2];
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
			return 4;
		*(int *)(buf + 64) = 100;
		long a[4] = {SYS_getsockname, ends[0], (long)buf + 128, (long)buf + 64};
		memcpy(args, a, sizeof a);
	} else if (strncmp(call, "epoll", 5) == 0) {
		long a[6] = {SYS_epoll_pwait, -1, (long)buf, 1, 0, strcmp(call, "epoll") == 0 ? 0 : (long)buf};
		memcpy(args, a, sizeof a);
	} else if (strcmp(call, "brk") == 0) {
		args[0] = SYS_brk;
	} else if (strcmp(call, "huge") == 0) {
		args[0] = 0x7fffffffffffL;
	}
	ptrace(PTRACE_TRACEME);
	__asm__ volatile(
		"int3\n"
		"mov 0(%0),%%rax; mov 8(%0),%%rdi; mov 16(%0),%%rsi; mov 24(%0),%%rdx\n"
		"mov 32(%0),%%r10; mov 40(%0),%%r8; mov $0x0909,%%r9; mov $0x1212,%%r12\n"
		"mov $0x7fffffff,%%r11d; mov $0xbbbb,%%ebx\n"
		"add $1,%%r11d\n" // OF, SF, AF, PF
		"stc\n"
		"lea 1f(%%rip),%%rcx\n"
		"jmp *%1\n"
		"syscall\n"
		"1: int3\n"
		:
		: "r"(args), "r"(base)
		: "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "memory", "cc");
	return 0;
}
