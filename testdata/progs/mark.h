/*
 * mark.h: how a program of this directory tells what is true of itself.
 *
 * Every program checks its own work and exits 0 only if all of it was right,
 * or 77 if the machine cannot run it. MARK(k) writes /proc/self/maps to
 * $MARK_DIR/<pid>.<k>.maps and then calls write(-1, MAGIC + k, 0), which the
 * test finds in the log: the address space replayed to that call must be equal
 * to the file. Nothing between the reading and the call changes a mapping, not
 * even the stack: it is made deep enough beforehand, and the calls are made in
 * line, without the dynamic linker. MARKMEM(k, p, n) also saves n bytes from p,
 * as <pid>.<k>.<address>.mem.
 *
 * One thread at a time may mark, and while it does no other may map anything.
 * <pid> is the pid in the namespace of the mounted /proc.
 */
#ifndef MARK_H
#define MARK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x4d540000UL /* "MT", and 16 bits for k */
#define PAGE 4096UL
#define UNUSED __attribute__((unused))

/* Complaints go out by write: stdio may allocate, or be held by a dead thread. */
static UNUSED void complain(const char *file, int line, const char *what)
{
	char b[512];
	int n = snprintf(b, sizeof b, "%s:%d: failed: %s (errno %d: %s)\n", file, line, what, errno, strerror(errno));
	if (write(2, b, n) < 0)
		_exit(2);
	_exit(1);
}

#define CHECK(x)                                         \
	do {                                             \
		if (!(x))                                \
			complain(__FILE__, __LINE__, #x); \
	} while (0)

#define SKIP(why)                                     \
	do {                                          \
		fprintf(stderr, "skip: %s\n", why);   \
		exit(77);                             \
	} while (0)

/* A raw call of at most four arguments; returns -errno. */
static inline long rawcall(long nr, long a, long b, long c, long d)
{
#if defined(__x86_64__)
	long ret;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return ret;
#elif defined(__i386__)
	long ret;
	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
	return ret;
#else
	long ret = syscall(nr, a, b, c, d);
	return ret < 0 ? -errno : ret;
#endif
}

static char mark_dir[512];
static char mark_text[4 << 20]; /* a page is only there once it was written */

static __attribute__((constructor)) UNUSED void mark_init(void)
{
	const char *d = getenv("MARK_DIR");
	if (d && strlen(d) < sizeof mark_dir)
		strcpy(mark_dir, d);
}

static __attribute__((noinline)) void mark_deepen(void)
{
	volatile char room[16384];
	for (unsigned i = 0; i < sizeof room; i += 1024)
		room[i] = 0;
}

static char *mark_number(char *p, unsigned long v, unsigned base)
{
	char t[24];
	int n = 0;
	do
		t[n++] = "0123456789abcdef"[v % base];
	while (v /= base);
	while (n)
		*p++ = t[--n];
	return p;
}

/* $MARK_DIR/<pid>.<k> */
static char *mark_name(char *p, unsigned k)
{
	size_t n = strlen(mark_dir);
	memcpy(p, mark_dir, n);
	p += n;
	*p++ = '/';
	long l = rawcall(SYS_readlinkat, AT_FDCWD, (long)"/proc/self", (long)p, 16);
	if (l <= 0)
		complain(__FILE__, __LINE__, "readlink /proc/self");
	p += l;
	*p++ = '.';
	return mark_number(p, k, 10);
}

static void mark_file(const char *name, const char *data, size_t n)
{
	long fd = rawcall(SYS_openat, AT_FDCWD, (long)name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		complain(__FILE__, __LINE__, name);
	while (n > 0) {
		long w = rawcall(SYS_write, fd, (long)data, n, 0);
		if (w <= 0)
			complain(__FILE__, __LINE__, "writing a mark file");
		data += w;
		n -= w;
	}
	rawcall(SYS_close, fd, 0, 0, 0);
}

static UNUSED void mark_mem(unsigned k, const void *p, size_t n)
{
	char name[640], *e;
	if (!mark_dir[0])
		return;
	e = mark_name(name, k);
	*e++ = '.';
	e = mark_number(e, (unsigned long)p, 16);
	memcpy(e, ".mem", 5);
	mark_file(name, p, n);
}

static UNUSED void mark(unsigned k)
{
	char name[640];
	mark_deepen();
	if (mark_dir[0]) {
		size_t n = 0;
		long fd = rawcall(SYS_openat, AT_FDCWD, (long)"/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
		if (fd < 0)
			complain(__FILE__, __LINE__, "open /proc/self/maps");
		for (;;) {
			long r = rawcall(SYS_read, fd, (long)(mark_text + n), sizeof mark_text - n, 0);
			if (r < 0 || n + r >= sizeof mark_text)
				complain(__FILE__, __LINE__, "read /proc/self/maps");
			if (r == 0)
				break;
			n += r;
		}
		rawcall(SYS_close, fd, 0, 0, 0);
		memcpy(mark_name(name, k), ".maps", 6);
		mark_file(name, mark_text, n);
	}
	rawcall(SYS_write, -1, MAGIC + k, 0, 0);
}

static UNUSED void mark_with(unsigned k, const void *p, size_t n)
{
	mark_deepen();
	mark_mem(k, p, n);
	mark(k);
}

#define MARK(k) mark(k)
#define MARKMEM(k, p, n) mark_with(k, p, n)

/* Is there a mapping at p? */
static UNUSED int mapped(const volatile void *p)
{
	return msync((void *)((uintptr_t)p & ~(PAGE - 1)), PAGE, MS_ASYNC) == 0;
}

static UNUSED char *anon(size_t n, int prot)
{
	char *p = mmap(NULL, n, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	return p;
}

/* A file of n bytes, each page of which begins with its number and a letter. */
static UNUSED int newfile(const char *name, size_t n)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_LARGEFILE, 0666);
	CHECK(fd >= 0);
	CHECK(ftruncate(fd, n) == 0);
	for (size_t i = 0; i < n / PAGE; i++) {
		char b[16];
		int l = snprintf(b, sizeof b, "%zuF", i);
		CHECK(pwrite(fd, b, l, i * PAGE) == l);
	}
	return fd;
}

static UNUSED void nap(int ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

/* Who traces this thread, 0 if nobody does: by readv, since memtrace takes itself out of what
 * read finds. */
static UNUSED int traced_by(void)
{
	char b[4096], *at;
	struct iovec v = {b, sizeof b - 1};
	int f = open("/proc/self/status", O_RDONLY);
	ssize_t n = readv(f, &v, 1);
	close(f);
	b[n > 0 ? n : 0] = 0;
	at = strstr(b, "TracerPid:\t");
	return at ? atoi(at + 11) : 0;
}

/* Waits until a file is there, which somebody else makes. */
static UNUSED void wait_file(const char *name)
{
	while (access(name, F_OK) != 0)
		nap(5);
}

/* Waits until a thread of this process, or another process, has been asleep for some
 * naps in a row: then it waits inside the call that it was on its way to. */
static UNUSED void wait_asleep(pid_t tid)
{
	char path[32], b[256];
	snprintf(path, sizeof path, "/proc/%d/stat", tid);
	for (int seen = 0; seen < 4;) {
		nap(5);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, b, sizeof b - 1);
		if (fd >= 0)
			close(fd);
		if (n <= 0)
			return; /* it has ended */
		b[n] = 0;
		char *end = strrchr(b, ')');
		seen = end && end[1] == ' ' && end[2] == 'S' ? seen + 1 : 0;
	}
}

/* Waits until all other threads of this process have ended. */
static UNUSED void wait_alone(void)
{
	for (struct stat st;; nap(1)) {
		CHECK(stat("/proc/self/task", &st) == 0);
		if (st.st_nlink <= 3) /* two, and one for each thread */
			return;
	}
}

/* Waits for pid, which must have ended with this status. */
static UNUSED void reap(pid_t pid, int status)
{
	int st;
	pid_t r;
	while ((r = waitpid(pid, &st, 0)) < 0 && errno == EINTR)
		;
	CHECK(r == pid);
	if (WIFEXITED(st) && WEXITSTATUS(st) == 77)
		exit(77);
	if (st != status) {
		fprintf(stderr, "pid %d: wait status %#x, not %#x\n", pid, st, status);
		exit(1);
	}
}

#endif
