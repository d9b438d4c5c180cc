/* finding: crash SIGABRT in forget (doublefree.c:10), by free*; it said "free(): double free */
/* A block is freed twice: glibc notices, says so and aborts. */
#include <stdlib.h>

static char *blocks[4];

#pragma GCC diagnostic ignored "-Wuse-after-free"
static __attribute__((noinline)) void forget(int i)
{
	free(blocks[i]);
}

int main(void)
{
	for (int i = 0; i < 4; i++)
		blocks[i] = malloc(100);
	forget(1);
	forget(2);
	forget(2);
	return 0;
}
