/* build: none */
/* Faults at 0x1234 half way down a recursion, some time after a call, with a known
 * vector register. */
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((noipa, target("sse2"))) static long descend(int n)
{
	volatile long local = n;
	if (n == 7) {
		double d = 3.25;
		__asm__ volatile("movsd %0, %%xmm7" : : "m"(d) : "xmm7");
		syscall(SYS_getppid);
		*(volatile int *)0x1234 = 1;
	}
	return n == 0 ? 0 : descend(n - 1) + local;
}

int main(void)
{
	return descend(12) == 0;
}
