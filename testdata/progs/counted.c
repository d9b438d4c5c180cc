/* build: none */
/* Makes calls until it is killed, and counts those that it has made in a file that is
 * given: counted FILE. */
#include "mark.h"

int main(int argc, char **argv)
{
	int fd = argc == 2 ? open(argv[1], O_RDWR) : -1;
	CHECK(fd >= 0);
	volatile uint64_t *made = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(made != MAP_FAILED);
	for (;;) {
		CHECK(syscall(SYS_getppid) >= 0);
		made[0]++;
		CHECK(lseek(fd, 0, SEEK_CUR) == 0);
	}
}
