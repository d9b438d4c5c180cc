/* What system calls write into memory is known without a snapshot. The test takes
 * one at getppid() only. */
#include "mark.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <linux/aio_abi.h>

#define RW (PROT_READ | PROT_WRITE)

static int k = 1;
static char *next, *end;

/* n bytes that hold something else. */
static void *room(size_t n)
{
	next += 24;
	CHECK(next + n <= end);
	char *p = next;
	memset(p, 0x5a, n);
	next += n;
	return p;
}

#define KNOWN(p, n) MARKMEM(k++, p, n)

/* A call whose argument p gets n bytes. */
#define GETS(n, ...)                         \
	do {                                 \
		char *p = room(n);           \
		CHECK(syscall(__VA_ARGS__) >= 0); \
		KNOWN(p, n);                 \
	} while (0)

static void files(void)
{
	int fd = newfile("calls.dat", 16 * PAGE);
	char *p = room(100);
	CHECK(read(fd, p, 100) == 100);
	KNOWN(p, 100);
	CHECK(pread(fd, p + 40, 20, PAGE) == 20); /* over the middle of it */
	KNOWN(p, 100);
	CHECK(read(fd, p + 60, 30) == 30);
	KNOWN(p + 10, 85);
	char *q = room(3 * PAGE);
	CHECK(pread(fd, q, 3 * PAGE, 3 * PAGE) == 3 * PAGE); /* more than is kept */
	KNOWN(q, 4096);
	struct iovec *iov = room(3 * sizeof *iov);
	iov[0] = (struct iovec){room(7), 7};
	iov[1] = (struct iovec){room(5000), 3000};
	iov[2] = (struct iovec){room(100), 100};
	CHECK(preadv(fd, iov, 3, 5) == 3107);
	KNOWN(iov[0].iov_base, 7);
	KNOWN(iov[1].iov_base, 3000);
	KNOWN(iov[2].iov_base, 100);
	CHECK(lseek(fd, 2, SEEK_SET) == 2);
	CHECK(readv(fd, iov, 2) == 3007);
	KNOWN(iov[0].iov_base, 7);
	KNOWN(iov[1].iov_base, 3000);
	/* into memory that is not all there */
	char *hole = anon(3 * PAGE, RW);
	CHECK(munmap(hole + 2 * PAGE, PAGE) == 0);
	CHECK(pread(fd, hole + 2 * PAGE - 50, 100, PAGE - 10) == 50);
	KNOWN(hole + 2 * PAGE - 50, 50);
	/* across the end of a page, moved, copied to a child */
	CHECK(pread(fd, hole + PAGE - 5, 40, 2 * PAGE) == 40);
	char *moved = anon(2 * PAGE, RW);
	CHECK(mremap(hole, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, moved) == moved);
	KNOWN(moved + PAGE - 5, 40);
	pid_t c = fork();
	if (c == 0) {
		KNOWN(moved + PAGE - 5, 40);
		CHECK(pread(fd, moved + PAGE - 2, 4, 0) == 4);
		KNOWN(moved + PAGE - 5, 40);
		_exit(0);
	}
	reap(c, 0);
	KNOWN(moved + PAGE - 5, 40);

#ifdef __x86_64__
	GETS(144, SYS_stat, "calls.dat", p);
	GETS(144, SYS_lstat, "calls.dat", p);
	GETS(144, SYS_fstat, fd, p);
	GETS(144, SYS_newfstatat, AT_FDCWD, "calls.dat", p, 0);
	GETS(120, SYS_fstatfs, fd, p);
	GETS(128, SYS_rt_sigtimedwait, (kill(getpid(), SIGUSR1), &(uint64_t){1UL << (SIGUSR1 - 1)}), p, NULL, 8);
#else
	GETS(64, SYS_stat, "calls.dat", p);
	GETS(96, SYS_stat64, "calls.dat", p);
	GETS(96, SYS_lstat64, "calls.dat", p);
	GETS(96, SYS_fstat64, fd, p);
	GETS(96, SYS_fstatat64, AT_FDCWD, "calls.dat", p, 0);
	GETS(84, SYS_statfs64, "calls.dat", 84, p);
	GETS(8, SYS__llseek, fd, 0, 77, p, SEEK_SET);
	GETS(8, SYS_pipe, p);
	GETS(4, SYS_time, p);
	GETS(4, SYS_waitpid, ({ pid_t c = fork(); if (c == 0) _exit(3); c; }), p, 0);
	GETS(16, SYS_clock_gettime64, CLOCK_REALTIME, p);
#endif
	GETS(256, SYS_statx, AT_FDCWD, "calls.dat", 0, 0x7ff, p);
	CHECK(symlink("somewhere/else", "calls.link") == 0);
	GETS(14, SYS_readlink, "calls.link", p, 14);
	GETS(14, SYS_readlinkat, AT_FDCWD, "calls.link", p, 100);
	char *cwd = room(PATH_MAX);
	int n = syscall(SYS_getcwd, cwd, PATH_MAX);
	CHECK(n > 1);
	KNOWN(cwd, n);
	int d = open(".", O_RDONLY | O_DIRECTORY);
	char *ents = room(4096);
	n = syscall(SYS_getdents64, d, ents, 4096);
	CHECK(n > 0);
	KNOWN(ents, n);
	CHECK(lseek(d, 0, SEEK_SET) == 0);
	n = syscall(SYS_getdents, d, ents, 4096);
	CHECK(n > 0);
	KNOWN(ents, n);
	struct flock *l = room(sizeof *l);
	*l = (struct flock){.l_type = F_WRLCK};
	CHECK(fcntl(fd, F_GETLK, l) == 0);
#ifdef __x86_64__
	KNOWN(l, sizeof *l);
#endif
	off_t *off = room(sizeof *off);
	*off = 3;
	int out = open("calls.out", O_RDWR | O_CREAT | O_TRUNC, 0666);
	CHECK(sendfile(out, fd, off, 100) == 100 && *off == 103);
	KNOWN(off, sizeof *off);
	int *left = room(sizeof *left);
	CHECK(ioctl(fd, FIONREAD, left) == 0);
	KNOWN(left, sizeof *left);
	unsigned char *in = room(4);
	CHECK(mincore(moved, 2 * PAGE, in) == 0);
	KNOWN(in, 2);
	/* a failed call writes nothing */
	memset(p, 1, 8);
	CHECK(read(-1, p, 8) < 0);
	close(d);
	close(out);
	close(fd);
}

static void sockets(void)
{
	int *sv = room(8);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv) == 0);
	KNOWN(sv, 8);
	CHECK(send(sv[1], "0123456789abcdef", 16, 0) == 16);
	char *p = room(100);
	CHECK(recv(sv[0], p, 100, 0) == 16);
	KNOWN(p, 16);
	CHECK(send(sv[1], "0123456789abcdef", 16, 0) == 16);
	char *q = room(100);
	CHECK(recv(sv[0], q, 10, MSG_TRUNC) == 16); /* the message was longer */
	KNOWN(q, 10);
	struct iovec *iov = room(4 * sizeof *iov);
	iov[0] = (struct iovec){room(4), 4};
	iov[1] = (struct iovec){room(40), 40};
	iov[2] = (struct iovec){room(40), 40};
	union {
		char b[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} *control = room(sizeof *control);
	struct msghdr *m = room(sizeof *m);
	memset(m, 0, sizeof *m);
	m->msg_iov = iov;
	m->msg_iovlen = 2;
	m->msg_control = control;
	m->msg_controllen = sizeof *control;
	struct cmsghdr *h = CMSG_FIRSTHDR(m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &(int){1}, sizeof(int));
	CHECK(sendmsg(sv[1], m, 0) == 44);
	memset(iov[1].iov_base, 7, 40);
	CHECK(recvmsg(sv[0], m, 0) == 44);
	KNOWN(iov[0].iov_base, 4);
	KNOWN(iov[1].iov_base, 40);
	KNOWN(m, sizeof *m);
	KNOWN(control, CMSG_LEN(sizeof(int)));
	struct mmsghdr *mm = room(2 * sizeof *mm);
	memset(mm, 0, 2 * sizeof *mm);
	mm[0].msg_hdr = (struct msghdr){.msg_iov = &iov[1], .msg_iovlen = 1};
	mm[1].msg_hdr = (struct msghdr){.msg_iov = &iov[2], .msg_iovlen = 1};
	CHECK(sendmmsg(sv[1], mm, 2, 0) == 2);
	KNOWN(mm, 2 * sizeof *mm);
	memset(iov[1].iov_base, 0, 40);
	memset(iov[2].iov_base, 0, 40);
	CHECK(recvmmsg(sv[0], mm, 2, 0, NULL) == 2);
	KNOWN(mm, 2 * sizeof *mm);
	KNOWN(iov[1].iov_base, 40);
	KNOWN(iov[2].iov_base, 40);

	int u = socket(AF_UNIX, SOCK_DGRAM, 0);
	struct sockaddr_un *a = room(sizeof *a);
	*a = (struct sockaddr_un){.sun_family = AF_UNIX, .sun_path = "calls.sock"};
	CHECK(bind(u, (struct sockaddr *)a, sizeof *a) == 0);
	CHECK(sendto(u, "to myself", 9, 0, (struct sockaddr *)a, sizeof *a) == 9);
	struct sockaddr_un *from = room(sizeof *from);
	socklen_t *len = room(sizeof *len);
	*len = sizeof *from;
	CHECK(recvfrom(u, p, 100, 0, (struct sockaddr *)from, len) == 9);
	KNOWN(p, 9);
	KNOWN(len, sizeof *len);
	KNOWN(from, *len);
	*len = 5;
	CHECK(getsockname(u, (struct sockaddr *)from, len) == 0 && *len > 5);
	KNOWN(from, 5);
	int *value = room(sizeof *value);
	*len = sizeof *value;
	CHECK(getsockopt(u, SOL_SOCKET, SO_TYPE, value, len) == 0);
	KNOWN(value, sizeof *value);
	KNOWN(len, sizeof *len);

	CHECK(send(sv[1], "x", 1, 0) == 1);
	struct pollfd *fds = room(2 * sizeof *fds);
	fds[0] = (struct pollfd){.fd = sv[0], .events = POLLIN};
	fds[1] = (struct pollfd){.fd = sv[1], .events = POLLOUT};
	CHECK(poll(fds, 2, 0) == 2);
	KNOWN(fds, 2 * sizeof *fds);
	fd_set *set = room(sizeof *set);
	FD_ZERO(set);
	FD_SET(sv[0], set);
	CHECK(select(sv[0] + 1, set, NULL, NULL, NULL) == 1);
	KNOWN(set, sizeof(long) * (sv[0] / (8 * sizeof(long)) + 1));
	int ep = epoll_create1(0);
	struct epoll_event *ev = room(4 * sizeof *ev);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, sv[0], &(struct epoll_event){.events = EPOLLIN, .data.u64 = 0x1234567890}) == 0);
	CHECK(epoll_wait(ep, ev, 4, -1) == 1);
	KNOWN(ev, sizeof *ev);
	close(ep);
	close(u);
	close(sv[0]);
	close(sv[1]);
}

static void handler(int sig)
{
	(void)sig;
}

static void process(void)
{
	long w = sizeof(long);
	struct rlimit lim;
	GETS(390, SYS_uname, p);
	GETS(w == 8 ? 112 : 64, SYS_sysinfo, p);
	GETS(4 * w, SYS_times, p);
	GETS(2 * w, SYS_gettimeofday, p, NULL);
	GETS(2 * w, SYS_clock_gettime, CLOCK_MONOTONIC, p);
	GETS(2 * w, SYS_clock_getres, CLOCK_MONOTONIC, p);
	GETS(4 * w, SYS_getitimer, ITIMER_REAL, p);
	GETS(18 * w, SYS_getrusage, RUSAGE_SELF, p);
	GETS(16, SYS_prlimit64, 0, RLIMIT_STACK, NULL, p);
	GETS(2 * w, SYS_getrlimit, RLIMIT_STACK, p);
	GETS(99, SYS_getrandom, p, 99, 0);
	GETS(16, SYS_prctl, 16 /* PR_GET_NAME */, p);
	GETS(4, SYS_sched_getparam, 0, p);
	GETS(2 * w, SYS_sched_rr_get_interval, 0, p);
	GETS(8, SYS_rt_sigprocmask, SIG_BLOCK, NULL, p, 8);
	GETS(8, SYS_rt_sigpending, p, 8);
	GETS(w == 8 ? 32 : 20, SYS_rt_sigaction, SIGINT, NULL, p, 8);
	GETS(3 * w, SYS_sigaltstack, NULL, p);
	GETS(w, SYS_get_robust_list, 0, p, room(w));
	GETS(8, SYS_pipe2, p, O_CLOEXEC);
	GETS(4, SYS_getcpu, p, NULL, NULL);
	CHECK(getrlimit(RLIMIT_CORE, &lim) == 0);
	/* what a child left, by two calls */
	pid_t c = fork();
	if (c == 0)
		_exit(5);
	int *status = room(4);
	struct rusage *ru = room(18 * w);
	CHECK(syscall(SYS_wait4, c, status, 0, ru) == c);
	KNOWN(status, 4);
	KNOWN(ru, 18 * w);
	if ((c = fork()) == 0)
		_exit(6);
	siginfo_t *si = room(sizeof *si);
	CHECK(syscall(SYS_waitid, P_PID, c, si, WEXITED, NULL) == 0);
	KNOWN(si, 24 + w);
	/* the rest of a sleep that was interrupted */
	struct timespec *rem = room(sizeof *rem);
	signal(SIGALRM, handler);
	/* again and again: the first may come before the sleep */
	CHECK(setitimer(ITIMER_REAL, &(struct itimerval){{0, 20000}, {0, 20000}}, NULL) == 0);
	CHECK(syscall(SYS_nanosleep, &(struct timespec){100, 0}, rem) < 0 && errno == EINTR);
	CHECK(setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL) == 0);
	KNOWN(rem, 2 * w);
	/* its own memory by way of the kernel */
	char *copy = room(64);
	struct iovec to[2] = {{copy, 10}, {copy + 20, 30}}, from = {"a text that is read as if it were another process's", 40};
	CHECK(process_vm_readv(getpid(), to, 2, &from, 1, 0) == 40);
	KNOWN(copy, 10);
	KNOWN(copy + 20, 30);
	/* a lock that the kernel takes: FUTEX_LOCK_PI */
	uint32_t *lock = room(4);
	*lock = 0;
	CHECK(syscall(SYS_futex, lock, 6, 0, NULL) == 0 && *lock != 0);
	KNOWN(lock, 4);
	uint32_t *ctx = room(8);
	memset(ctx, 0, 8);
	if (syscall(SYS_io_setup, 4, ctx) == 0) {
		KNOWN(ctx, w);
		int fd = open("calls.dat", O_RDONLY);
		char *data = room(16);
		struct iocb cb = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = fd, .aio_buf = (uintptr_t)data, .aio_nbytes = 16}, *list = &cb;
		struct io_event *done = room(sizeof *done);
		CHECK(syscall(SYS_io_submit, *(unsigned long *)ctx, 1, &list) == 1);
		CHECK(syscall(SYS_io_getevents, *(unsigned long *)ctx, 1, 1, done, NULL) == 1);
		KNOWN(done, sizeof *done);
		CHECK(syscall(SYS_io_destroy, *(unsigned long *)ctx) == 0);
		close(fd);
	}
}

int main(void)
{
	sigset_t block;
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, NULL);
	size_t size = 64 * PAGE;
	next = anon(size, RW);
	end = next + size;
	char *all = next;
	files();
	sockets();
	process();
	/* what the program writes over it is in a snapshot, and counts */
	memset(all, 'P', size);
	syscall(SYS_getppid);
	KNOWN(all, size);
	/* and what a call writes over that */
	int fd = open("calls.dat", O_RDONLY);
	CHECK(read(fd, all + PAGE - 7, 99) == 99);
	CHECK(read(fd, all + 5 * PAGE, PAGE) == PAGE);
	KNOWN(all, size);
	syscall(SYS_getppid);
	KNOWN(all, size);
	for (int i = 0; i < 20; i++) {
		CHECK(pread(fd, all + i * 1000, 3 * i + 1, i) == 3 * i + 1);
		if (i % 3 == 0) {
			all[i * 1000 + 1] = '!';
			syscall(SYS_getppid);
		}
		KNOWN(all, 8 * PAGE);
	}
	close(fd);
	return 0;
}
