/* finding: crash SIGSEGV: the stack is full (* in depth (overflow.c */
/* A recursion without end fills the stack. */
#include <stdio.h>

static __attribute__((noinline)) int depth(const volatile int *end)
{
	volatile int here[64] = {*end};
	if (*end)
		return 0;
	return depth(end) + here[0] + 1;
}

int main(void)
{
	static int end;
	printf("%d\n", depth(&end));
	return 0;
}
