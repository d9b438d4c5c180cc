/* A library that loses memory at three places, through two allocators of its own. */
#include <stdlib.h>
#include <string.h>

static __attribute__((noinline)) void *checked_malloc(size_t n) /* second layer: a header */
{
	char *p = malloc(n + 16);
	if (!p)
		abort();
	memset(p, 1, n + 16);
	return p + 16;
}

__attribute__((noinline)) void *table_alloc(size_t n) /* first layer */
{
	return checked_malloc(n);
}

void keep_rows(size_t n)
{
	*(void *volatile *)table_alloc(n) = 0; /* line 21: most */
}

void add_index(size_t n)
{
	*(void *volatile *)table_alloc(n) = 0; /* line 26: less */
}

void log_lines(size_t n)
{
	*(void *volatile *)table_alloc(n) = 0; /* line 31: least */
}

void borrow(size_t n)
{
	void **p = table_alloc(n); /* gives all back */
	p[0] = 0;
	free((char *)p - 16);
}
