/* A daemon of a daemon outlives the program that started it; it says so in a
 * file, by which the test knows that it came to its end. */
#include "mark.h"

int main(void)
{
	int ready[2];
	char c;
	CHECK(pipe(ready) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK(setsid() > 0);
		pid = fork();
		CHECK(pid >= 0);
		if (pid > 0)
			_exit(0);
		close(0), close(1), close(2);
		for (int i = 0; i < 50 && getppid() == getsid(0); i++)
			nap(1);
		MARK(1);
		CHECK(write(ready[1], "r", 1) == 1);
		close(ready[0]), close(ready[1]);
		nap(300);
		anon(5 * PAGE, PROT_READ);
		MARK(2);
		int fd = open("daemon.done", O_WRONLY | O_CREAT, 0666);
		CHECK(fd >= 0 && write(fd, "done\n", 5) == 5);
		_exit(9); /* nobody asks */
	}
	reap(pid, 0);
	close(ready[1]);
	CHECK(read(ready[0], &c, 1) == 1);
	MARK(3);
	puts("daemon ok");
	return 0;
}
