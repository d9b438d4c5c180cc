/* build: x86_64 i386 static */
/* The main stack grows by faults alone: no call tells of it. */
#include "mark.h"

static __attribute__((noinline)) int deeper(int n)
{
	volatile char frame[4000];
	for (unsigned i = 0; i < sizeof frame; i += 500)
		frame[i] = n;
	int r = n > 0 ? deeper(n - 1) : 0;
	return r + (frame[500] == (char)n);
}

static __attribute__((noinline)) int leap(void)
{
	volatile char frame[3 << 20];
	frame[0] = 1;
	frame[1 << 20] = 2;
	MARK(5);
	return frame[0] + frame[1 << 20];
}

int main(void)
{
	MARK(1);
	CHECK(deeper(100) == 101);
	MARK(2);
	CHECK(deeper(900) == 901);
	MARK(3);
	CHECK(deeper(10) == 11);
	MARK(4);
	CHECK(leap() == 3);
	MARK(6);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK(deeper(1200) == 1201);
		MARK(7);
		_exit(0);
	}
	reap(pid, 0);
	MARK(8);
	puts("stack ok");
	return 0;
}
