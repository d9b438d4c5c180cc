/*
 * canaries leaves texts of its own in each place that a log has: TestRedactCanaries looks for them in redacted logs.
 * They are put together while it runs, so that the program's file has none of them whole.
 */
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

/* All of these texts lie in static memory: only what is asked for is on the heap or the stack. */
static char text[64];

static const char *canary(const char *name)
{
	snprintf(text, sizeof(text), "%s%s%s", "CANA", "RY-", name);
	return text;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info, (void)context;
}

/* The value is one that only registers have: it is never stored. */
static void with_register(int pid)
{
	register unsigned long value asm("r14") = 0;

	value = 0x4e4143534745522dUL; /* "-REGSCAN" */
	asm volatile("add $1, %0\n\tsyscall\n\tsub $1, %0" : "+r"(value) : "a"(SYS_kill), "D"(pid), "S"(SIGUSR2) : "rcx", "r11", "memory");
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
	union sigval v = {.sival_ptr = (void *)0x4e41434f464e492dUL}; /* "-INFOCAN" */
	int fd, pair[2];
	char *heap, *map;
	volatile char local[256];

	(void)argc, (void)argv;
	prctl(PR_SET_NAME, canary("comm"));
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGUSR2, &sa, NULL);
	fd = open(canary("path"), O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		err(1, "open");
	if (write(fd, canary("data"), 32) != 32)
		err(1, "write");
	fsetxattr(fd, strcat(strcpy((char[64]){0}, "user."), canary("xattr")), "v", 1, 0); /* the file system may have none */
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || send(pair[0], canary("socket"), 32, 0) != 32 || recv(pair[1], (char[64]){0}, 64, 0) != 32)
		err(1, "socketpair");
	fprintf(stderr, "%s\n", canary("stderr"));
	unlink(canary("link"));
	if (symlink(canary("target"), "link"))
		err(1, "symlink");
	map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, map, 1 << 20, canary("anon"));
	mprotect(map, 4096, PROT_READ);
	fd = memfd_create(canary("memfd"), 0);
	if (fd < 0 || ftruncate(fd, 4096) || mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
		err(1, "memfd");
	heap = malloc(100000);
	strcpy(heap + 50000, canary("heap"));
	canary("stack");
	for (size_t i = 0; i < sizeof(text); i++)
		local[128 + i] = text[i];
	memset(text, 0, sizeof(text));
	usleep(300000); /* a sample of the kernel's texts, with the name */
	sigqueue(getpid(), SIGUSR1, v);
	with_register(getpid());
	syscall(SYS_close, 0x4e41435355424d2dUL); /* "-MBUSCAN": a number of a call */
	exit(local[128] != 'C' || heap[50000] != 'C'); /* not back: the stack stays as it is */
}
