/* build: none */
// Copies a word from each page of one region to a page of another, each with one
// instruction that refers to both, and uses no page again. Argument: pages. Prints where
// the regions are.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
	long pages = argc > 1 ? atol(argv[1]) : 1000;
	char *at[2];
	for (int i = 0; i < 2; i++) {
		at[i] = mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (at[i] == MAP_FAILED)
			return 1;
		printf("region %p\n", (void *)at[i]);
	}
	fflush(stdout);
	for (long i = 0; i < pages; i++) {
		char *from = at[0] + i * 4096, *to = at[1] + i * 4096;
		__asm__ volatile("movsl" : "+S"(from), "+D"(to) : : "memory");
	}
	return 0;
}
