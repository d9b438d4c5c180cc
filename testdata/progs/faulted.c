/* build: none */
/*
 * faulted.c CALL HOW: a call whose memory lies on pages that a thread of this process
 * fills when they are asked for (userfaultfd). Whoever reads them while that thread
 * stands still waits for ever. CALL is write, writev, openat, stat, read, readv or
 * getppid; HOW is "call" or "device": where the descriptor comes from. With a third
 * argument it first waits until somebody traces it.
 */
#include "mark.h"
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#define NAME "/etc/passwd"
enum { PAGES = 24 };

static int fd;

static void *serve(void *x)
{
	static char page[PAGE] __attribute__((aligned(4096)));
	struct uffd_msg m;
	for (;;) {
		if (read(fd, &m, sizeof m) != sizeof m)
			continue;
		uintptr_t at = m.arg.pagefault.address & ~(PAGE - 1);
		strcpy(page, NAME);
		struct iovec v = {(char *)at + 64, 5};
		memcpy(page + 32, &v, sizeof v);
		struct uffdio_copy c = {.dst = at, .src = (uintptr_t)page, .len = PAGE};
		ioctl(fd, UFFDIO_COPY, &c);
	}
	return x;
}

static void call(const char *name, char *p, int zero, int null)
{
	struct stat st;
	if (!strcmp(name, "write"))
		CHECK(write(null, p, 11) == 11);
	else if (!strcmp(name, "writev"))
		CHECK(writev(null, (struct iovec *)(p + 32), 1) == 5);
	else if (!strcmp(name, "openat")) {
		int f = openat(AT_FDCWD, p, O_RDONLY);
		CHECK(f >= 0);
		close(f);
	} else if (!strcmp(name, "stat"))
		CHECK(stat(p, &st) == 0);
	else if (!strcmp(name, "read"))
		CHECK(read(zero, p + 3, 8) == 8 && p[2] == 't' && p[3] == 0 && p[11] == 0);
	else if (!strcmp(name, "readv"))
		CHECK(readv(zero, (struct iovec *)(p + 32), 1) == 5);
	else
		getppid();
}

static void wait_traced(void)
{
	while (!traced_by())
		nap(5);
}

int main(int argc, char **argv)
{
	CHECK(argc > 2);
	if (!strcmp(argv[2], "device")) {
		int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
		fd = dev < 0 ? -1 : ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC);
	} else
		fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fd < 0)
		SKIP("no userfaultfd");
	struct uffdio_api api = {.api = UFFD_API};
	CHECK(ioctl(fd, UFFDIO_API, &api) == 0);
	char *p = anon(PAGES * PAGE, PROT_READ | PROT_WRITE);
	struct uffdio_register r = {.range = {(uintptr_t)p, PAGES * PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	CHECK(ioctl(fd, UFFDIO_REGISTER, &r) == 0);
	pthread_t t;
	CHECK(pthread_create(&t, NULL, serve, NULL) == 0);
	int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
	if (argc > 3)
		wait_traced();
	for (int i = 0; i < PAGES; i++) {
		call(argv[1], p + i * PAGE, zero, null);
		if (i % 8 == 0)
			nap(3);
	}
	printf("%s ok\n", argv[1]);
	return 0;
}
