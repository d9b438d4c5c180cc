/* What happens to the name of a mapped file: renamed, removed, replaced, its
 * directory renamed, linked, hard names, cut short and written while mapped. */
#include <setjmp.h>
#include "mark.h"

static sigjmp_buf out;

static void on_bus(int sig)
{
	siglongjmp(out, sig);
}

static char *map(const char *name, int prot, int flags)
{
	int fd = newfile(name, 4 * PAGE);
	char *p = mmap(NULL, 4 * PAGE, prot, flags, fd, 0);
	CHECK(p != MAP_FAILED);
	close(fd);
	return p;
}

int main(void)
{
	int k = 1;
	map("a", PROT_READ, MAP_PRIVATE);
	MARK(k++);
	CHECK(rename("a", "b") == 0);
	MARK(k++);
	CHECK(unlink("b") == 0);
	MARK(k++);
	/* replaced: another file now has the name */
	map("c", PROT_READ, MAP_SHARED);
	close(newfile("d", PAGE));
	CHECK(rename("d", "c") == 0);
	MARK(k++);
	/* exchanged */
	map("x", PROT_READ, MAP_PRIVATE);
	map("y", PROT_READ | PROT_WRITE, MAP_PRIVATE);
	MARK(k++);
	if (syscall(SYS_renameat2, AT_FDCWD, "x", AT_FDCWD, "y", 2 /* RENAME_EXCHANGE */) == 0)
		MARK(k++);
	/* its directory, and the directory above */
	CHECK(mkdir("dir", 0777) == 0 && mkdir("dir/sub", 0777) == 0);
	map("dir/sub/f", PROT_READ, MAP_PRIVATE);
	MARK(k++);
	CHECK(rename("dir/sub", "dir/bus") == 0);
	MARK(k++);
	CHECK(rename("dir", "rid") == 0);
	MARK(k++);
	CHECK(unlink("rid/bus/f") == 0 && rmdir("rid/bus") == 0);
	MARK(k++);
	/* a hard link: the mapping keeps the name that it was opened by */
	map("h1", PROT_READ, MAP_PRIVATE);
	CHECK(link("h1", "h2") == 0);
	MARK(k++);
	CHECK(unlink("h1") == 0);
	MARK(k++);
	CHECK(link("h2", "h1") == 0);
	MARK(k++);
	/* hard names */
	static const char *const names[] = {"with space", "with\nnewline", "back\\slash", "tab\there", "weiß 日本",
					    "\001\377", "(deleted)", "x (deleted)", "[heap]", " lead", "trail ", "//deleted"};
	for (unsigned i = 0; i < sizeof names / sizeof *names - 1; i++) {
		map(names[i], PROT_READ, MAP_PRIVATE);
		MARK(k++);
	}
	char longname[256];
	memset(longname, 'n', 255);
	longname[255] = 0;
	map(longname, PROT_READ, MAP_PRIVATE);
	MARK(k++);
	CHECK(rename("with space", "with\nnewline") == 0);
	MARK(k++);
	/* a symbolic link is resolved */
	CHECK(symlink("h2", "s") == 0);
	int fd = open("s", O_RDONLY | O_CLOEXEC);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
	close(fd);
	MARK(k++);
	/* cut short while mapped: the mapping stays, its end is no longer there */
	char *p = map("cut", PROT_READ, MAP_SHARED);
	CHECK(truncate("cut", PAGE) == 0);
	MARK(k++);
	signal(SIGBUS, on_bus);
	int sig = sigsetjmp(out, 1);
	if (sig == 0) {
		(void)*(volatile char *)(p + 2 * PAGE);
		CHECK(!"no SIGBUS");
	}
	CHECK(sig == SIGBUS && p[0] == '0');
	MARK(k++);
	CHECK(truncate("cut", 4 * PAGE) == 0 && p[2 * PAGE] == 0);
	MARK(k++);
	/* renamed by another process */
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK(rename("cut", "cut2") == 0);
		MARK(200);
		_exit(0);
	}
	reap(pid, 0);
	MARK(k++);
	/* without a name from the start */
	fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0) {
		CHECK(ftruncate(fd, PAGE) == 0);
		CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
		MARK(k++);
		close(fd);
	}
	puts("files ok");
	return 0;
}
