/* finding: none Nothing went wrong: peak * RSS, exited with 0 */
/* Nothing is wrong here: a file is looked for in two places, a cache has a limit, and
 * threads wait for work. */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t some = PTHREAD_COND_INITIALIZER;
static int work;

static void *serve(void *arg)
{
	pthread_mutex_lock(&lock);
	for (;; ) {
		while (!work)
			pthread_cond_wait(&some, &lock);
		if (work < 0)
			break;
		work--;
	}
	pthread_mutex_unlock(&lock);
	return arg;
}

int main(void)
{
	pthread_t t[3];
	char *cache[50] = {0};
	if (open("/etc/clean.conf", O_RDONLY) >= 0 || open("./clean.conf", O_RDONLY) >= 0)
		return 2;
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, serve, NULL);
	for (int i = 0; i < 300; i++) {
		free(cache[i % 50]);
		memset(cache[i % 50] = malloc(50000), i, 50000);
		pthread_mutex_lock(&lock);
		work++;
		pthread_cond_signal(&some);
		pthread_mutex_unlock(&lock);
		usleep(10000);
	}
	pthread_mutex_lock(&lock);
	work = -1;
	pthread_cond_broadcast(&some);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	return 0;
}
