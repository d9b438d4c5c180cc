/* build: none */
/*
 * Makes calls and mappings, with a child beside it, and then does what it is told: keep LOOPS crash, status N,
 * mark NAME, errno, signal N, slow, wait (make a file "ready", wait for a file "go").
 */
#include "mark.h"

static char canary[8192] = "canary of keep";

int main(int argc, char **argv)
{
	CHECK(argc >= 3);
	int loops = atoi(argv[1]), pipes[2];
	char b[16], *held[16] = {0};
	CHECK(pipe(pipes) == 0);
	int file = open("/dev/urandom", O_RDONLY); /* what it has cannot be compressed */
	pid_t child = fork();
	if (child == 0) {
		close(pipes[1]);
		_exit(read(pipes[0], b, 1));
	}
	close(pipes[0]);
	for (int i = 0; i < loops; i++) {
		CHECK(read(file, b, sizeof b) == sizeof b);
		if (i % 40 == 0) {
			char **p = &held[i / 40 % 16];
			if (*p)
				munmap(*p, 8192);
			*p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			CHECK(*p != MAP_FAILED);
			**p = i;
		}
		if (i % 1000 == 999)
			MARK(1 + i / 1000);
	}
	sprintf(canary + 4096, "loops %d", loops);
	if (!strcmp(argv[2], "mark"))
		for (int i = 0; i < 30; i++)
			CHECK(syscall(SYS_write, -1, argv[3], strlen(argv[3])) == -1);
	if (!strcmp(argv[2], "errno"))
		CHECK(open("/nowhere/at/all", O_RDONLY) == -1);
	if (!strcmp(argv[2], "signal")) {
		signal(atoi(argv[3]), SIG_IGN);
		CHECK(raise(atoi(argv[3])) == 0);
	}
	if (!strcmp(argv[2], "slow"))
		usleep(300000);
	if (!strcmp(argv[2], "wait")) {
		close(open("ready", O_CREAT | O_WRONLY, 0600));
		wait_file("go");
	}
	if (!strcmp(argv[2], "crash")) {
		CHECK(munmap(held[0], 8192) == 0);
		*(volatile char *)held[0] = canary[4096];
	}
	close(pipes[1]);
	CHECK(waitpid(child, NULL, 0) == child);
	return !strcmp(argv[2], "status") ? atoi(argv[3]) : 0;
}
