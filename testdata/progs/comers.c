/* build: none */
/*
 * comers.c: threads that come and go, until there is a file "go". "gone": the first
 * thread has ended.
 */
#include "mark.h"
#include <pthread.h>

static void *nothing(void *x) { return x; }

static void *forever(void *x)
{
	while (access("go", F_OK) != 0) {
		pthread_t t[4];
		for (int i = 0; i < 4; i++)
			CHECK(pthread_create(&t[i], NULL, nothing, NULL) == 0);
		for (int i = 0; i < 4; i++)
			CHECK(pthread_join(t[i], NULL) == 0);
	}
	static int over;
	if (__atomic_exchange_n(&over, 1, __ATOMIC_RELAXED) == 0) {
		CHECK(write(1, "comers ok\n", 10) == 10);
		_exit(9);
	}
	return x;
}

int main(int argc, char **argv)
{
	pthread_t t[2];
	for (int i = 0; i < 2; i++)
		CHECK(pthread_create(&t[i], NULL, forever, NULL) == 0);
	if (argc > 1)
		pthread_exit(argv);
	for (;;)
		pause(); /* one of them ends the program; the other may have returned before */
}
