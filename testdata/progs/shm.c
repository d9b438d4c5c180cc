/* System V shared memory: attached anywhere, at a chosen place, rounded down,
 * read-only, over others, twice, in parts, after removal, across fork. */
#include <sys/ipc.h>
#include <sys/shm.h>
#include "mark.h"

int main(void)
{
	int id = shmget(IPC_PRIVATE, 4 * PAGE + 1, IPC_CREAT | 0600), id2 = shmget(IPC_PRIVATE, 2 * PAGE, IPC_CREAT | 0600);
	CHECK(id >= 0 && id2 >= 0);
	char *r = anon(64 * PAGE, PROT_NONE), *p, *q;
	CHECK(munmap(r, 64 * PAGE) == 0);
	p = shmat(id, NULL, 0);
	CHECK(p != (void *)-1 && mapped(p + 4 * PAGE));
	strcpy(p, "hello");
	MARK(1);
	q = shmat(id, r + 4 * PAGE, SHM_RDONLY);
	CHECK(q == r + 4 * PAGE && !strcmp(q, "hello"));
	MARK(2);
	q = shmat(id, r + 20 * PAGE + 123, SHM_RND);
	CHECK(q == r + 20 * PAGE);
	MARK(3);
	CHECK(shmat(id2, r + 5 * PAGE, 0) == (void *)-1 && errno == EINVAL);
	MARK(4);
	q = shmat(id2, r + 5 * PAGE, SHM_REMAP);
	CHECK(q == r + 5 * PAGE && mapped(r + 4 * PAGE));
	MARK(5);
#ifdef SHM_EXEC
	q = shmat(id2, NULL, SHM_EXEC);
	CHECK(q != (void *)-1);
	MARK(6);
	CHECK(shmdt(q) == 0);
#endif
	/* a hole in a segment, then detached by its beginning */
	CHECK(munmap(r + 21 * PAGE, PAGE) == 0 && mprotect(r + 22 * PAGE, PAGE, PROT_READ) == 0);
	MARK(7);
	fflush(stdout);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		MARK(8);
		CHECK(shmdt(p) == 0);
		MARK(9);
		strcpy(r + 20 * PAGE, "child");
		_exit(0);
	}
	reap(pid, 0);
	CHECK(!strcmp(p, "child"));
	CHECK(shmctl(id, IPC_RMID, NULL) == 0);
	MARK(10);
	CHECK(shmdt(r + 20 * PAGE) == 0);
	MARK(11);
	CHECK(shmdt(r) == -1 && errno == EINVAL);
	struct shmid_ds ds;
	/* removed, but there as long as anyone has it */
	CHECK(shmctl(id, IPC_STAT, &ds) == 0 && ds.shm_nattch >= 1);
	CHECK(shmdt(p) == 0 && !mapped(p));
	MARK(12);
	CHECK(shmdt(r + 4 * PAGE) == 0);
	MARK(13);
	CHECK(shmdt(r + 5 * PAGE) == 0);
	MARK(14);
	CHECK(shmctl(id, IPC_STAT, &ds) == -1);
	CHECK(shmctl(id2, IPC_RMID, NULL) == 0);
	puts("shm ok");
	return 0;
}
