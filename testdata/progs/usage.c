/* build: none */
/* usage.c: what a program can ask about its own past. */
#include "mark.h"
#include <sys/resource.h>

int main(void)
{
	struct rusage u;
	struct timespec t;
	CHECK(getrusage(RUSAGE_SELF, &u) == 0 && clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0);
	printf("%ld %ld %ld %ld\n", u.ru_maxrss, u.ru_minflt, u.ru_majflt, u.ru_utime.tv_sec * 1000000 + u.ru_utime.tv_usec);
	return 0;
}
