/* remap_file_pages: pages of a shared mapping in another order. */
#include "mark.h"

int main(void)
{
	int fd = newfile("remap.dat", 16 * PAGE);
	char *p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	MARK(1);
	CHECK(remap_file_pages(p + 2 * PAGE, 2 * PAGE, 0, 9, 0) == 0);
	CHECK(p[2 * PAGE] == '9');
	MARK(2);
	CHECK(remap_file_pages(p, PAGE, 0, 5, 0) == 0 && p[0] == '5');
	MARK(3);
	CHECK(remap_file_pages(p + 2 * PAGE, 2 * PAGE, 0, 2, 0) == 0 && p[2 * PAGE] == '2');
	MARK(4);
	CHECK(remap_file_pages(p, PAGE, PROT_READ, 0, 0) == -1 && errno == EINVAL);
	MARK(5);
	char *a = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(a != MAP_FAILED);
	a[5 * PAGE] = 'x';
	CHECK(remap_file_pages(a, PAGE, 0, 5, 0) == 0 && a[0] == 'x');
	MARK(6);
	puts("remapfile ok");
	return 0;
}
