/* build: i386 */
/* Calls that only i386 has: old mmap, ipc, socketcall, and mmap2's pages. */
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include "mark.h"

int main(void)
{
	int fd = newfile("i386.dat", 8 * PAGE);
	MARK(1);
	unsigned long a[6] = {0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 2 * PAGE};
	char *p = (char *)syscall(SYS_mmap, a);
	CHECK(p != MAP_FAILED && p[0] == '2');
	MARK(2);
	p = (char *)syscall(SYS_mmap2, p, 2 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 5);
	CHECK(p != MAP_FAILED && p[0] == '5' && p[2 * PAGE] == '4');
	MARK(3);
	/* a file offset beyond 32 bits */
	CHECK(ftruncate64(fd, 1LL << 33) == 0);
	char *q = (char *)syscall(SYS_mmap2, 0, PAGE, PROT_READ, MAP_SHARED, fd, 0x123456);
	CHECK(q != MAP_FAILED);
	MARK(4);
	/* ipc: shmget 23, shmat 21 (through a pointer), shmdt 22, shmctl 24 */
	int id = syscall(SYS_ipc, 23, IPC_PRIVATE, 3 * PAGE, IPC_CREAT | 0600, 0, 0);
	CHECK(id >= 0);
	unsigned long at = 0;
	CHECK(syscall(SYS_ipc, 21, id, 0, &at, 0, 0) == 0 && at && mapped((char *)at));
	MARK(5);
	unsigned long at2 = 0;
	CHECK(syscall(SYS_ipc, 21, id, SHM_RDONLY, &at2, 0, 0) == 0 && at2 != at);
	MARK(6);
	CHECK(syscall(SYS_ipc, 22, 0, 0, 0, at, 0) == 0 && !mapped((char *)at));
	MARK(7);
	CHECK(syscall(SYS_ipc, 24, id, IPC_RMID, 0, 0, 0) == 0);
	MARK(8);
	CHECK(syscall(SYS_ipc, 22, 0, 0, 0, at2, 0) == 0);
	MARK(9);
	/* socketcall: socketpair 8, send 9, recv 10 */
	int sv[2];
	unsigned long sp[4] = {AF_UNIX, SOCK_STREAM, 0, (unsigned long)sv};
	CHECK(syscall(SYS_socketcall, 8, sp) == 0);
	char buf[8] = "";
	unsigned long sd[4] = {sv[0], (unsigned long)"hello", 5, 0}, rc[4] = {sv[1], (unsigned long)buf, 8, 0};
	CHECK(syscall(SYS_socketcall, 9, sd) == 5 && syscall(SYS_socketcall, 10, rc) == 5 && !strcmp(buf, "hello"));
	MARK(10);
	puts("i386calls ok");
	return 0;
}
