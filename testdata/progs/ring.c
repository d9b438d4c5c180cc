/* build: none */
/*
 * ring.c MODE [polled]: memory that io_uring changes. "fixed", "vector", "plain" and "async":
 * a read, by a buffer that is registered or not. "madvise": memory is dropped. It is known
 * before, and at the marks 1 and 2. With "polled" no call reads it, a thread of the
 * kernel's does. "workers", "polled": a ring with such threads, to be attached to.
 */
#include "ring.h"
#include <sys/uio.h>

enum { LEN = 16 * 4096 };

static void stays(int polled)
{
	setup(polled ? IORING_SETUP_SQPOLL : 0);
	int ends[2];
	static char b[16];
	CHECK(pipe(ends) == 0);
	submit((struct io_uring_sqe){.opcode = IORING_OP_READ, .fd = ends[0], .addr = (uintptr_t)b, .len = sizeof b, .flags = IOSQE_ASYNC});
	for (struct stat st;; nap(2)) {
		CHECK(stat("/proc/self/task", &st) == 0);
		if (st.st_nlink >= 4)
			break;
	}
	int fd = open("ready", O_WRONLY | O_CREAT, 0666);
	CHECK(fd >= 0);
	wait_file("go");
	CHECK(write(ends[1], "hello", 5) == 5);
	CHECK(result() == 5 && !strcmp(b, "hello"));
	printf("ring ok\n");
}

int main(int argc, char **argv)
{
	CHECK(argc > 1);
	const char *mode = argv[1];
	if (!strcmp(mode, "workers") || !strcmp(mode, "polled")) {
		stays(mode[0] == 'p');
		return 0;
	}
	setup(argc > 2 ? IORING_SETUP_SQPOLL : 0);
	char *m = mmap((void *)0x10000000, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	CHECK(m != MAP_FAILED);
	memset(m, 'o', LEN);
	static char news[LEN];
	memset(news, 'N', LEN);
	int source = memfd_create("source", 0);
	CHECK(source >= 0 && pwrite(source, news, LEN, 0) == LEN);
	struct iovec v = {m, LEN};
	if (!strcmp(mode, "fixed"))
		CHECK(syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &v, 1) == 0);
	getppid(); /* a snapshot, by --snapshot syscall=getppid */
	getppid();
	struct io_uring_sqe e = {.opcode = IORING_OP_READ, .fd = source, .addr = (uintptr_t)m, .len = LEN};
	if (!strcmp(mode, "madvise"))
		e = (struct io_uring_sqe){.opcode = IORING_OP_MADVISE, .fd = -1, .addr = (uintptr_t)m, .len = LEN, .fadvise_advice = MADV_DONTNEED};
	else if (!strcmp(mode, "fixed"))
		e.opcode = IORING_OP_READ_FIXED;
	else if (!strcmp(mode, "vector")) {
		e.opcode = IORING_OP_READV;
		e.addr = (uintptr_t)&v;
		e.len = 1;
	} else if (!strcmp(mode, "async"))
		e.flags = IOSQE_ASYNC;
	submit(e);
	int r = result();
	CHECK(r == LEN || r == 0);
	MARKMEM(1, m, LEN);
	getppid();
	MARKMEM(2, m, LEN);
	printf("%s: %c\n", mode, m[100] ? m[100] : '0');
	return 0;
}
