/* finding: failures mmap failed * with ENOMEM */
/* Memory is limited: malloc fails, and the program gives up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

int main(void)
{
	struct rlimit r = {200 << 20, 200 << 20};
	setrlimit(RLIMIT_AS, &r);
	for (;; ) {
		char *p = malloc(16 << 20);
		if (!p) {
			fprintf(stderr, "out of memory\n");
			return 3;
		}
		memset(p, 1, 16 << 20);
	}
}
