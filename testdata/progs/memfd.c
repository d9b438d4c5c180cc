/* memfd, POSIX shared memory, shared anonymous memory across fork. */
#include "mark.h"

#define RW (PROT_READ | PROT_WRITE)
#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4U
#endif
#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW 4
#define F_SEAL_WRITE 8
#endif

int main(void)
{
	int fd = memfd_create("plain name", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(fd >= 0 && ftruncate(fd, 8 * PAGE) == 0);
	char *p = mmap(NULL, 8 * PAGE, RW, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	strcpy(p, "memfd");
	MARK(1);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	CHECK(ftruncate(fd, PAGE) == -1 && errno == EPERM);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == -1 && errno == EBUSY);
	CHECK(munmap(p, 8 * PAGE) == 0);
	MARK(2);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0);
	CHECK(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
	p = mmap(NULL, 8 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	CHECK((p != MAP_FAILED && !strcmp(p, "memfd")) || errno == EPERM);
	MARK(3);
	p = mmap(NULL, 8 * PAGE, RW, MAP_PRIVATE, fd, 0);
	CHECK(p != MAP_FAILED && !strcmp(p, "memfd"));
	p[0] = 'M';
	MARK(4);
	close(fd);
	MARK(5);
	/* huge, if the machine has any */
	fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
	if (fd >= 0 && ftruncate(fd, 2 << 20) == 0) {
		p = mmap(NULL, 2 << 20, RW, MAP_SHARED, fd, 0);
		if (p != MAP_FAILED)
			MARK(6);
	}
	/* POSIX */
	char name[64];
	snprintf(name, sizeof name, "/memtrace-test-%d", getpid());
	fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	CHECK(fd >= 0 && ftruncate(fd, 4 * PAGE) == 0);
	p = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	MARK(7);
	CHECK(shm_unlink(name) == 0);
	MARK(8);
	close(fd);
	MARK(9);
	/* shared, with a name nobody gave; one writes, the other reads */
	char *s = mmap(NULL, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(s != MAP_FAILED);
	MARK(10);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		strcpy(s, "from the child");
		strcpy(p, "and here");
		MARK(11);
		CHECK(munmap(s + PAGE, PAGE) == 0);
		MARK(12);
		_exit(0);
	}
	reap(pid, 0);
	CHECK(!strcmp(s, "from the child") && !strcmp(p, "and here") && mapped(s + PAGE));
	MARK(13);
	puts("memfd ok");
	return 0;
}
