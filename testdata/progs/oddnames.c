/* mapped files whose names hold what maps(5) escapes, what looks escaped, and no UTF-8 */
#include "mark.h"

int main(void)
{
	const char *names[] = {"line\nbreak", "back\\slash", "looks\\012so", "\\134", "latin\xe9\xff", "x (deleted)", "[heap]", " lead", "trail ",
		"tab\t", "\x01\x7f\xc2\x80", "\xed\xa0\x80", "esc\033[31m", "\\", "a\\012b\nc"};
	enum { N = sizeof names / sizeof *names };
	char *at[N] = {0};
	CHECK(mkdir("d\xe9j\\012\xe0", 0777) == 0 && chdir("d\xe9j\\012\xe0") == 0);
	for (int i = 0; i < N; i++) {
		int fd = newfile(names[i], 2 * PAGE);
		at[i] = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		CHECK(at[i] != MAP_FAILED);
		close(fd);
		MARK(i);
	}
	for (int i = 0; i < N; i++) {
		if (i % 2)
			CHECK(unlink(names[i]) == 0);
		else
			CHECK(rename(names[i], "new\\n\\\nname") == 0);
		CHECK(mprotect(at[i], PAGE, PROT_READ) == 0);
		MARK(20 + i);
	}
	for (int i = 0; i < N; i += 3)
		CHECK(munmap(at[i], PAGE) == 0);
	MARK(50);
	printf("oddnames ok\n");
	return 0;
}
