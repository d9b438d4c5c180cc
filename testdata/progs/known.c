/* Memory that is known although the kernel does not tell of its changes: given
 * back with MADV_FREE, of files that were changed or removed meanwhile, in the
 * middle of a mapping that takes more than one snapshot; and mappings that merge
 * when the program closes a userfaultfd. */
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include "mark.h"

#define RW (PROT_READ | PROT_WRITE)
#define BIG 3000

static int k = 1;

static void lazily(void)
{
	char *p = anon(16 * PAGE, RW);
	memset(p, 'a', 16 * PAGE);
	MARKMEM(k++, p, 16 * PAGE);
	p[3 * PAGE] = 'b';
	CHECK(madvise(p + 2 * PAGE, 8 * PAGE, MADV_FREE) == 0);
	MARKMEM(k++, p, 16 * PAGE);
	p[4 * PAGE] = 'c';
	MARKMEM(k++, p, 16 * PAGE);
	p[4 * PAGE] = 'd';
	CHECK(madvise(p + 5 * PAGE, 2 * PAGE, MADV_DONTNEED) == 0);
	MARKMEM(k++, p, 16 * PAGE);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		MARKMEM(200, p, 16 * PAGE);
		p[8 * PAGE] = 'e';
		MARKMEM(201, p, 16 * PAGE);
		_exit(0);
	}
	reap(pid, 0);
	char *q = mremap(p + 6 * PAGE, 4 * PAGE, 6 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, anon(6 * PAGE, RW));
	CHECK(q != MAP_FAILED);
	MARKMEM(k++, q, 6 * PAGE);
	MARKMEM(k++, p, 6 * PAGE);
	CHECK(munmap(p, 6 * PAGE) == 0 && munmap(q, 6 * PAGE) == 0);
}

static void files(void)
{
	int fd = newfile("known.dat", 8 * PAGE);
	char *p = mmap(NULL, 8 * PAGE, RW, MAP_PRIVATE, fd, 0), *r = mmap(NULL, 8 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED && r != MAP_FAILED);
	p[PAGE] = '!';
	MARKMEM(k++, p, 8 * PAGE);
	MARKMEM(k++, r, 8 * PAGE);
	CHECK(pwrite(fd, "changed", 7, PAGE) == 7 && pwrite(fd, "changed", 7, 3 * PAGE) == 7);
	MARKMEM(k++, p, 8 * PAGE);
	MARKMEM(k++, r, 8 * PAGE);
	CHECK(unlink("known.dat") == 0);
	CHECK(pwrite(fd, "again", 5, 4 * PAGE) == 5);
	MARKMEM(k++, p, 8 * PAGE);
	MARKMEM(k++, r, 8 * PAGE);
	CHECK(ftruncate(fd, 5 * PAGE) == 0 && ftruncate(fd, 8 * PAGE) == 0);
	MARKMEM(k++, p, 8 * PAGE);
	MARKMEM(k++, r, 8 * PAGE);
	int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
	char *z = mmap(NULL, 4 * PAGE, RW, MAP_PRIVATE, zero, 0);
	CHECK(z != MAP_FAILED);
	z[PAGE] = 1;
	MARKMEM(k++, z, 4 * PAGE);
}

static void big(void)
{
	char *p = anon(BIG * PAGE, RW);
	for (int round = 0; round < 6; round++) {
		for (int i = 0; i < BIG; i++)
			p[i * PAGE + round] = i + round;
		MARKMEM(k++, p, BIG * PAGE);
	}
	CHECK(munmap(p, BIG * PAGE) == 0);
}

static void watched(void)
{
	char *p = anon(16 * PAGE, RW);
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	struct uffdio_api api = {.api = UFFD_API};
	if (fd < 0)
		return;
	CHECK(ioctl(fd, UFFDIO_API, &api) == 0);
	struct uffdio_register reg = {.range = {(uintptr_t)p + 4 * PAGE, 4 * PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	CHECK(ioctl(fd, UFFDIO_REGISTER, &reg) == 0);
	struct uffdio_zeropage zero = {.range = {(uintptr_t)p + 4 * PAGE, 4 * PAGE}};
	CHECK(ioctl(fd, UFFDIO_ZEROPAGE, &zero) == 0);
	p[5 * PAGE] = 1;
	MARKMEM(k++, p, 16 * PAGE);
	int other = dup(fd);
	CHECK(other >= 0 && close(fd) == 0);
	MARKMEM(k++, p, 16 * PAGE);
	CHECK(dup2(1, other) == other);
	p[6 * PAGE] = 1;
	MARKMEM(k++, p, 16 * PAGE);
}

int main(void)
{
	lazily();
	files();
	big();
	watched();
	puts("known ok");
	return 0;
}
