/* finding: status exited with 1; it said "cannot start"; the last call that failed before it was openat of "./settings.conf": ENOENT */
/* The program does not find its configuration, and ends. */
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
	FILE *f = fopen("./settings.conf", "r");
	if (!f) {
		fprintf(stderr, "cannot start\n");
		return 1;
	}
	return 0;
}
