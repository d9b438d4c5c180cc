/* A call that changes the address space and can wait for ever: reading ahead
 * into a page that a userfaultfd keeps back. The other threads of this address
 * space go on mapping meanwhile, and one of them is who lets it go. */
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include "mark.h"

#define RW (PROT_READ | PROT_WRITE)
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static char *area;
static volatile int inside, through;

static void *waits(void *arg)
{
	inside = 1;
	CHECK(madvise(area, PAGE, MADV_POPULATE_WRITE) == 0);
	through = 1;
	return arg;
}

int main(void)
{
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (fd < 0)
		SKIP("no userfaultfd");
	struct uffdio_api api = {.api = UFFD_API};
	CHECK(ioctl(fd, UFFDIO_API, &api) == 0);
	area = anon(4 * PAGE, RW);
	struct uffdio_register reg = {.range = {(uintptr_t)area, 4 * PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	CHECK(ioctl(fd, UFFDIO_REGISTER, &reg) == 0);
	MARK(1);
	pthread_t t;
	CHECK(pthread_create(&t, NULL, waits, NULL) == 0);
	while (!inside)
		nap(1);
	/* when the page is asked for, its asker waits inside madvise */
	struct pollfd asked = {fd, POLLIN, 0};
	CHECK(poll(&asked, 1, 60000) == 1 && !through);
	struct uffd_msg m;
	ssize_t r = read(fd, &m, sizeof m);
	if (r < 0) {
		/* user mode only: the kernel's own access failed instead */
		complain(__FILE__, __LINE__, "no fault reported");
	}
	CHECK(m.event == UFFD_EVENT_PAGEFAULT);
	for (int i = 0; i < 100; i++) {
		char *p = mmap(NULL, 8 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(p != MAP_FAILED);
		p[0] = 1;
		CHECK(munmap(p, 8 * PAGE) == 0);
	}
	CHECK(!through);
	struct uffdio_zeropage z = {.range = {(uintptr_t)area, PAGE}};
	CHECK(ioctl(fd, UFFDIO_ZEROPAGE, &z) == 0);
	CHECK(pthread_join(t, NULL) == 0 && through);
	MARK(2);
	puts("blocked ok");
	return 0;
}
