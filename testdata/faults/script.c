/* finding: child cat (process *) exited with 1 *; it said "cat: ./this-file-is-nowhere-at-all: No such file or directory"; the last call that failed before it was openat of "./this-file-is-nowhere-at-all": ENOENT */
/* A script whose child cannot read a file. */
#include <stdlib.h>

int main(void)
{
	return system("set -e; echo begin; cat ./this-file-is-nowhere-at-all; echo never") != 0;
}
