/* finding: polling called clock_nanosleep * times in a row */
/* A thread waits for another by looking every 100 us whether it is ready. */
#include <pthread.h>
#include <unistd.h>

static volatile int ready;

static void *prepare(void *arg)
{
	sleep(2);
	ready = 1;
	return arg;
}

int main(void)
{
	pthread_t t;
	pthread_create(&t, NULL, prepare, NULL);
	while (!ready)
		usleep(100);
	pthread_join(t, NULL);
	return 0;
}
