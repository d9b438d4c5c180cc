/* mlock and its kin split and merge mappings that look the same. */
#include <sys/resource.h>
#include "mark.h"

#define RW (PROT_READ | PROT_WRITE)
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

int main(void)
{
	struct rlimit l;
	CHECK(getrlimit(RLIMIT_MEMLOCK, &l) == 0);
	char *p = anon(16 * PAGE, RW);
	MARK(1);
	CHECK(mlock(p + 2 * PAGE, 2 * PAGE) == 0);
	MARK(2);
	CHECK(mlock2(p + 8 * PAGE, 2 * PAGE, MLOCK_ONFAULT) == 0);
	MARK(3);
	CHECK(mlock(p + 4 * PAGE, 1) == 0);
	MARK(4);
	CHECK(munlock(p + 3 * PAGE, PAGE) == 0);
	MARK(5);
	CHECK(munlock(p, 16 * PAGE) == 0);
	MARK(6);
	CHECK(munmap(p + 7 * PAGE, PAGE) == 0);
	CHECK(mlock(p + 6 * PAGE, 4 * PAGE) == -1 && errno == ENOMEM);
	MARK(7);
	CHECK(munlockall() == 0);
	MARK(8);
	if (mlockall(MCL_FUTURE | MCL_ONFAULT) == 0) {
		MARK(9);
		anon(4 * PAGE, RW);
		MARK(10);
		CHECK(munlockall() == 0);
		MARK(11);
		anon(4 * PAGE, RW);
		MARK(12);
	}
	if (l.rlim_cur == RLIM_INFINITY && mlockall(MCL_CURRENT) == 0) {
		MARK(13);
		CHECK(munlockall() == 0);
		MARK(14);
	}
	puts("mlock ok");
	return 0;
}
