/* Loses 80, 40 and 20 blocks in the library, of the size that it is told. */
#include <stdlib.h>
#include <unistd.h>

void keep_rows(size_t), add_index(size_t), log_lines(size_t), borrow(size_t);

int main(int argc, char **argv)
{
	size_t n = strtoul(argv[argc - 1], 0, 10);
	for (int i = 0; i < 10; i++)
		for (int k = 0; k < 20; k++) {
			borrow(n / 100);
			if (k % 2 || k >= 18)
				(k < 12 ? keep_rows : k < 18 ? add_index : log_lines)(n);
			if (k < 18 && k % 6 == 0)
				(k < 12 ? keep_rows : add_index)(n);
			usleep(12000); /* longer than 2 s in all */
		}
	return 0;
}
