/* Protection keys: mappings that differ in nothing but their key stay apart. */
#include "mark.h"

#define RW (PROT_READ | PROT_WRITE)

int main(void)
{
	char *p = anon(16 * PAGE, RW);
	MARK(1);
	/* key -1 is plain mprotect, on every machine */
	CHECK(syscall(SYS_pkey_mprotect, p + 4 * PAGE, 4 * PAGE, PROT_READ, -1) == 0);
	MARK(2);
	CHECK(syscall(SYS_pkey_mprotect, p, 16 * PAGE, RW, 0) == 0 || errno == EINVAL);
	MARK(3);
	int key = syscall(SYS_pkey_alloc, 0, 0);
	if (key >= 0) {
		CHECK(syscall(SYS_pkey_mprotect, p + 2 * PAGE, 2 * PAGE, RW, key) == 0);
		MARK(4);
		CHECK(syscall(SYS_pkey_mprotect, p + 2 * PAGE, 2 * PAGE, RW, 0) == 0);
		MARK(5);
		CHECK(syscall(SYS_pkey_free, key) == 0);
	}
	CHECK(syscall(SYS_pkey_mprotect, p, PAGE, RW, 15) == -1 && errno == EINVAL);
	MARK(6);
	puts("pkey ok");
	return 0;
}
