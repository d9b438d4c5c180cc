/* finding: crash CRASH: SIGSEGV reading 0x* (memory that munmap gave back at step *) in sum (unmapped.c:*), called from main (unmapped.c:* */
/* A list goes on into memory that free gave back to the kernel. */
#include <stdio.h>
#include <stdlib.h>

struct node {
	struct node *next;
	int value;
	char data[200000];
};

__attribute__((noinline)) static int sum(struct node *n)
{
	int s = 0;
	for (; n; n = n->next)
		s += n->value;
	return s;
}

int main(void)
{
	struct node *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
	if (!a || !b)
		return 2;
	a->next = b;
	free(b);
	printf("%d\n", sum(a));
	return 0;
}
