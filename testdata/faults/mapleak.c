/* finding: leak mapleak */
/* Buffers are mapped, used and never unmapped. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	for (int i = 0; i < 800; i++) {
		char *p = mmap(NULL, 256 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		memset(p, i, 256 << 10);
		usleep(5000);
	}
	return 0;
}
