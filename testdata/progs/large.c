/* build: none */
/* Fills 160 MiB at 0x10000000, each page with words that differ from all others, says "ready", and
 * waits for the file "go". */
#include "mark.h"

#define PAGES (160UL << 20 >> 12)

int main(void)
{
	uint32_t *m = mmap((void *)0x10000000, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	CHECK(m != MAP_FAILED);
	for (uint32_t i = 0; i < PAGES * PAGE / 4; i++)
		m[i] = (i >> 10) * 2654435761u + i % 7;
	CHECK(write(1, "ready\n", 6) == 6);
	wait_file("go");
	return 0;
}
