/* Where stacks of tests go through. */
#include <stdlib.h>

static inline __attribute__((always_inline)) int deep(int n)
{
	return atoi("1") + n;
}

static inline __attribute__((always_inline)) int middle(int n)
{
	return deep(n) * 3;
}

int outer(int n)
{
	return middle(n) + 1;
}

int main(int argc, char **argv)
{
	(void)argv;
	return outer(argc) + 1;
}
