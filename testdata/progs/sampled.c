/* build: none */
/* Forks, and gives memory back in each way, with pauses between: N rounds of both. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (32 << 20)

int main(int argc, char **argv)
{
	usleep(200000);
	if (argc < 2)
		return 2;
	for (int i = 0; i < atoi(argv[1]); i++) {
		char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *end = sbrk(SIZE);
		if (p == MAP_FAILED || end == (void *)-1)
			return 1;
		memset(p, 1, SIZE);
		memset(end, 1, SIZE);
		usleep(100000);
		pid_t child = fork();
		if (child == 0)
			_exit(0);
		if (child < 0 || waitpid(child, NULL, 0) != child)
			return 1;
		usleep(100000);
		madvise(p, SIZE, MADV_DONTNEED);
		usleep(100000);
		if (brk(end))
			return 1;
		memset(p, 1, SIZE);
		usleep(100000);
		munmap(p, SIZE);
		usleep(100000);
	}
	return 0;
}
