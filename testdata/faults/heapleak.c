/* finding: leak heapleak */
/* Requests come in, and some of what each takes is never given back. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static __attribute__((noinline)) void request(int i)
{
	char *answer = malloc(20000), *volatile session = malloc(3000);
	memset(answer, i, 20000);
	memset(session, i, 3000);
	free(answer);
}

int main(void)
{
	for (int i = 0; i < 4000; i++) {
		request(i);
		usleep(1000);
	}
	return 0;
}
