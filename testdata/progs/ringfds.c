/* build: none */
/*
 * ringfds.c [async] [polled]: descriptors that an io_uring opens, closes and accepts, and a
 * file that it renames. Each use of a descriptor is an fcntl(F_GETFD), with a line of
 * output: the number, and what /proc/self/fd says of it. "async": threads of the kernel's
 * do it; "polled": no call hands it to the ring.
 */
#include "ring.h"
#include <sys/socket.h>
#include <sys/un.h>

static unsigned char more; /* flags of each entry */

static int by_ring(struct io_uring_sqe e)
{
	e.flags |= more;
	submit(e);
	return result();
}

static int ring_open(const char *path, unsigned slot)
{
	return by_ring((struct io_uring_sqe){.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t)path,
		.open_flags = O_RDWR | O_CREAT, .len = 0600, .file_index = slot});
}

static void use(int fd)
{
	char link[64], name[4096];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, name, sizeof name - 1);
	name[n < 0 ? 0 : n] = 0;
	int r = fcntl(fd, F_GETFD);
	CHECK((r >= 0) == (n >= 0));
	char line[5000];
	n = snprintf(line, sizeof line, "%d %s\n", fd, name);
	CHECK(write(1, line, n) == n);
}

int main(int argc, char **argv)
{
	unsigned flags = 0;
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "polled"))
			flags |= IORING_SETUP_SQPOLL;
		else
			more = IOSQE_ASYNC;
	setup(flags);
	int a = ring_open("a", 0);
	CHECK(a >= 0);
	use(a);

	int b = open("b", O_RDWR | O_CREAT, 0600);
	CHECK(b >= 0);
	use(b);
	CHECK(by_ring((struct io_uring_sqe){.opcode = IORING_OP_CLOSE, .fd = b}) == 0);
	use(b);
	CHECK(ring_open("c", 0) == b);
	use(b);

	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int l = socket(AF_UNIX, SOCK_STREAM, 0), k = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(bind(l, (void *)&un, sizeof(sa_family_t)) == 0 && listen(l, 1) == 0);
	socklen_t len = sizeof un;
	CHECK(getsockname(l, (void *)&un, &len) == 0 && connect(k, (void *)&un, len) == 0);
	int s = by_ring((struct io_uring_sqe){.opcode = IORING_OP_ACCEPT, .fd = l});
	CHECK(s >= 0);
	use(s);

	CHECK(ftruncate(a, PAGE) == 0);
	CHECK(mmap((void *)0x10000000, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE, a, 0) != MAP_FAILED);
	CHECK(by_ring((struct io_uring_sqe){.opcode = IORING_OP_RENAMEAT, .fd = AT_FDCWD, .len = AT_FDCWD, .addr = (uintptr_t)"a", .addr2 = (uintptr_t)"d"}) == 0);
	use(a);
	MARK(1);
	CHECK(by_ring((struct io_uring_sqe){.opcode = IORING_OP_UNLINKAT, .fd = AT_FDCWD, .addr = (uintptr_t)"d"}) == 0);
	use(a);
	MARK(2);

	/* Into the table of the ring: it is no descriptor. */
	int none[4] = {-1, -1, -1, -1};
	CHECK(syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES, none, 4) == 0);
	CHECK(ring_open("e", 2) == 0);
	use(1);
	use(0);

	int copy = dup(b);
	use(copy);
	CHECK(by_ring((struct io_uring_sqe){.opcode = IORING_OP_CLOSE, .fd = copy}) == 0);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		use(copy);
		use(b);
		_exit(0);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	use(b);
	return 0;
}
