/* build: none */
/* An address space that outlives the thread it was first seen with. As "thread":
 * the first thread of the process ends. As "process": the process does, and one
 * that shares its memory goes on. Then 64 pages at 0x10000000 are filled, so that
 * word i is i * 0x9e3779b97f4a7c15, and all ends when there is a file "go". */
#include <pthread.h>
#include "mark.h"

static pid_t first;

static void fill(void)
{
	uint64_t *p = mmap((void *)0x10000000, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(p == (void *)0x10000000);
	for (uint64_t i = 0; i < 64 * PAGE / 8; i++)
		p[i] = i * 0x9e3779b97f4a7c15;
	wait_file("go");
	syscall(SYS_exit_group, 0);
}

static void *thread(void *arg)
{
	char name[64], text[512] = "";
	snprintf(name, sizeof name, "/proc/%d/status", first);
	while (!strstr(text, "State:\tZ")) { /* the first thread has ended */
		int fd = open(name, O_RDONLY);
		CHECK(fd >= 0);
		ssize_t n = read(fd, text, sizeof text - 1);
		CHECK(n > 0);
		text[n] = 0;
		close(fd);
		nap(1);
	}
	fill();
	return arg;
}

static int process(void *arg)
{
	(void)arg;
	while (getppid() == first)
		nap(1);
	fill();
	return 0;
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	first = getpid();
	if (!strcmp(argv[1], "thread")) {
		pthread_t t;
		CHECK(pthread_create(&t, NULL, thread, NULL) == 0);
	} else {
		char *stack = malloc(1 << 20);
		CHECK(stack && clone(process, stack + (1 << 20), CLONE_VM | SIGCHLD, NULL) > 0);
	}
	syscall(SYS_exit, 0);
	return 1;
}
