/* finding: crash SIGSEGV reading 0x0 (a null pointer) in total (null.c:*), called from main */
/* A list is built one element short, and its sum goes through the null pointer. */
#include <stdio.h>
#include <stdlib.h>

struct item {
	int price;
	struct item *next;
};

static __attribute__((noinline)) int total(struct item *first, int n)
{
	int sum = 0;
	for (; n > 0; n--, first = first->next)
		sum += first->price;
	return sum;
}

int main(void)
{
	struct item *list = NULL;
	for (int i = 0; i < 9; i++) {
		struct item *x = malloc(sizeof *x);
		x->price = i;
		x->next = list;
		list = x;
	}
	printf("%d\n", total(list, 10));
	return 0;
}
