/* build: none */
/*
 * decode.c: calls that are hard to show. The test records it, runs it under
 * strace too, and compares what is said between the two marks, line by line.
 * So everything here is the same in every run: buffers lie at fixed addresses,
 * and what the kernel chooses (process ids, queues) is printed as "NAME VALUE",
 * which the test puts in place of the value. Most calls fail, some of them
 * everywhere, some only for want of privileges: they are shown all the same.
 * Structures that the C library lacks are arrays of numbers.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARENA 0x20000000UL
#define SIZE 0x200000UL
#define BAD ((void *)(ARENA + SIZE)) /* nothing is there */

static char *next = (char *)ARENA;

/* take gives zeroed memory at an address that is the same in every run. */
static void *take(size_t n)
{
	void *p = next;
	next += (n + 15) & ~(size_t)15;
	if (next > (char *)ARENA + SIZE - 4096)
		abort();
	return p;
}

static void *copy(const void *from, size_t n) { return memcpy(take(n), from, n); }
static char *str(const char *s) { return copy(s, strlen(s) + 1); }

/* end puts bytes at the very end of the memory that there is. */
static void *end(const void *from, size_t n) { return memcpy((char *)ARENA + SIZE - n, from, n); }

#define U32(...) copy((uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}))
#define U64(...) copy((uint64_t[]){__VA_ARGS__}, sizeof((uint64_t[]){__VA_ARGS__}))
#define LONGS(...) copy((unsigned long[]){__VA_ARGS__}, sizeof((unsigned long[]){__VA_ARGS__}))
#define MEM(v) copy(&(v), sizeof(v))
#define P(p) ((uint64_t)(uintptr_t)(p))
#define L(v) ((long)(v))

#define C(name, ...) syscall(SYS_##name, ##__VA_ARGS__)

#ifdef SYS_semop
#define SEMOP(id, ops, n) C(semop, id, ops, n)
#define SEMTIMEDOP(id, ops, n, time) C(semtimedop, id, ops, n, time)
#else
#define SEMOP(id, ops, n) C(ipc, 1L, id, n, 0L, ops)
#define SEMTIMEDOP(id, ops, n, time) C(ipc, 4L, id, n, 0L, ops, time)
#endif
#ifdef SYS__newselect
#define SELECT(...) C(_newselect, __VA_ARGS__)
#else
#define SELECT(...) C(select, __VA_ARGS__)
#endif

static void dups(void)
{
	int *p = take(8);
	C(pipe2, p, 0);
	int fd = C(openat, L(AT_FDCWD), "/etc/passwd", L(O_RDONLY), 0L);
	int null = C(openat, L(AT_FDCWD), "/dev/null", L(O_RDWR), 0L);
	C(dup2, L(p[1]), L(100));
	C(write, L(100), "x", 1L);
	C(dup3, L(fd), L(100), L(O_CLOEXEC));
	C(read, L(100), take(16), 4L);
	C(dup2, L(null), L(100));
	C(dup2, L(100), L(100));
	C(dup3, L(100), L(100), 0L);
	C(dup3, L(fd), L(101), 0x1000000L);
	C(dup2, L(99), L(100));
	C(dup2, L(-1), L(100));
	C(dup2, L(fd), -1L);
	C(dup, L(99));
	int n = C(dup, L(fd));
	C(close, L(n));
	int m = C(fcntl, L(fd), L(F_DUPFD), 20L);
	C(fcntl, L(m), L(F_GETFD), 0L);
	C(fcntl, L(null), L(F_DUPFD_CLOEXEC), 30L);
	C(fcntl, L(30), L(F_GETFD), 0L);
	C(fcntl, L(99), L(F_DUPFD), 30L);
	C(close, L(m));
	C(close, 30L);
	C(close, 100L);
	C(close, L(AT_FDCWD));
	C(close, -1L);
	C(fcntl, L(p[0]), L(F_SETPIPE_SZ), 4096L);
	C(fcntl, L(p[0]), L(F_GETPIPE_SZ), 0L);
	C(fcntl, L(p[0]), L(F_GETFL), 0L);
	C(fcntl, L(p[0]), L(F_SETFL), L(O_NONBLOCK));
	C(fcntl, L(p[0]), L(F_GETSIG), 0L);
	C(fcntl, L(p[0]), L(F_SETSIG), L(SIGUSR1));
	C(fcntl, L(p[0]), L(F_GETSIG), 0L);
	C(fcntl, L(p[0]), L(F_SETOWN), L(getpid()));
	C(fcntl, L(p[0]), L(F_GETOWN), 0L);
	C(fcntl, L(p[0]), 15L, U32(1, getpid()));	/* F_SETOWN_EX, F_OWNER_PID */
	C(fcntl, L(p[0]), 16L, take(8));		/* F_GETOWN_EX */
	C(fcntl, L(p[0]), 15L, U32(0, gettid()));
	C(fcntl, L(p[0]), 15L, U32(7, 1));
	C(fcntl, L(p[0]), 15L, BAD);
	C(fcntl, L(99), 16L, take(8));
	C(fcntl, L(p[0]), L(F_GETLEASE), 0L);
	C(fcntl, L(p[0]), L(F_SETLEASE), L(F_UNLCK));
	C(fcntl, L(fd), L(F_NOTIFY), 0x80000005UL);
	C(fcntl, L(fd), 1000L, 7L);
	C(fcntl, L(fd), L(F_GET_SEALS), 0L);
	C(readahead, L(99), 0L, 0L);
}

struct mm { struct msghdr h; unsigned n; };

static struct msghdr msg(void *name, int namelen, struct iovec *v, size_t n, void *control, size_t len)
{
	struct msghdr h;
	memset(&h, 0, sizeof h);
	h.msg_name = name, h.msg_namelen = namelen;
	h.msg_iov = v, h.msg_iovlen = n;
	h.msg_control = control, h.msg_controllen = len;
	return h;
}

static struct iovec *iov(int n, ...)
{
	static const char *text[] = {"one", "twenty-two", "a text that is longer than what is shown of it, thirty-two bytes"};
	struct iovec *v = take(n * sizeof *v);
	for (int i = 0; i < n; i++) {
		v[i].iov_base = str(text[i % 3]);
		v[i].iov_len = strlen(text[i % 3]);
	}
	return v;
}

static void messages(void)
{
	int *s = take(8);
	C(socketpair, L(AF_UNIX), L(SOCK_DGRAM), 0L, s);
	struct mm *m = take(3 * sizeof *m);
	for (int i = 0; i < 3; i++)
		m[i].h = msg(NULL, 0, iov(i + 1), i + 1, NULL, 0);
	C(sendmmsg, L(s[0]), m, 3L, L(MSG_DONTWAIT));
	struct mm *r = take(4 * sizeof *r);
	for (int i = 0; i < 4; i++) {
		struct iovec *v = take(2 * sizeof *v);
		v[0].iov_base = take(16), v[0].iov_len = 10;
		v[1].iov_base = take(64), v[1].iov_len = 64;
		r[i].h = msg(take(128), 128, v, 2, NULL, 0);
	}
	C(recvmmsg, L(s[1]), r, 4L, L(MSG_DONTWAIT), NULL);
	C(sendmmsg, L(s[0]), m, 1L, 0L);
	C(recvmmsg, L(s[1]), r, 1L, L(MSG_DONTWAIT), LONGS(5, 0));
	C(recvmmsg, L(s[1]), r, 1L, L(MSG_DONTWAIT), LONGS(5, 0));
	C(recvmmsg, L(99), r, 1L, 0L, NULL);
	C(sendmmsg, L(99), m, 2L, 0L);
	C(sendmmsg, L(s[0]), m, 0L, 0L);
	C(sendmmsg, L(s[0]), NULL, 1L, 0L);
	C(sendmmsg, L(s[0]), BAD, 1L, 0L);
	/* descriptors, credentials and times in control data */
	char *control = take(256);
	struct cmsghdr *c = (void *)control;
	c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(8);
	memcpy(CMSG_DATA(c), (int[]){0, s[0]}, 8);
	struct msghdr *h = take(sizeof *h);
	*h = msg(NULL, 0, iov(1), 1, control, CMSG_SPACE(8));
	C(sendmsg, L(s[0]), h, 0L);
	struct msghdr *g = take(sizeof *g);
	*g = msg(take(128), 128, iov(1), 1, take(256), 256);
	C(recvmsg, L(s[1]), g, L(MSG_CMSG_CLOEXEC | MSG_DONTWAIT));
	*g = msg(NULL, 0, iov(1), 1, take(256), 256);
	C(recvmsg, L(s[1]), g, L(MSG_DONTWAIT));
	C(recvmsg, L(s[1]), NULL, 0L);
	C(sendmsg, L(s[1]), NULL, 0L);
	C(sendmsg, L(s[1]), BAD, 0L);
	C(setsockopt, L(s[1]), L(SOL_SOCKET), L(SO_PASSCRED), U32(1), 4L);
	*h = msg(NULL, 0, iov(1), 1, NULL, 0);
	C(sendmsg, L(s[0]), h, 0L);
	*g = msg(NULL, 0, iov(1), 1, take(256), 256);
	C(recvmsg, L(s[1]), g, 0L);
	C(getsockopt, L(s[0]), L(SOL_SOCKET), L(SO_PEERCRED), take(16), U32(12));
	C(getsockopt, L(s[0]), L(SOL_SOCKET), L(SO_PEERCRED), take(16), U32(8));
	C(getsockopt, L(s[0]), L(SOL_SOCKET), L(SO_PEERCRED), take(16), U32(20));
	C(getsockopt, L(s[0]), L(SOL_SOCKET), L(SO_ERROR), take(4), U32(4));
	C(getsockopt, L(s[0]), L(SOL_SOCKET), L(SO_TYPE), take(4), U32(4));
	C(getsockopt, L(s[0]), L(SOL_SOCKET), L(SO_DOMAIN), take(4), U32(4));
	C(setsockopt, L(s[0]), L(SOL_SOCKET), L(SO_LINGER), U32(1, 5), 8L);
	C(setsockopt, L(s[0]), L(SOL_SOCKET), L(SO_LINGER), U32(1, 5), 4L);
	C(getsockopt, L(s[0]), L(SOL_SOCKET), L(SO_LINGER), take(8), U32(8));
	C(getsockopt, L(s[0]), L(SOL_SOCKET), L(SO_LINGER), take(8), U32(4));
	C(setsockopt, L(s[0]), L(SOL_SOCKET), L(SO_RCVTIMEO), LONGS(1, 500), L(2 * sizeof(long)));
	C(setsockopt, L(s[0]), L(SOL_SOCKET), L(SO_RCVBUF), U32(4096), 2L);
	C(getsockopt, L(99), L(SOL_SOCKET), L(SO_LINGER), take(8), U32(8));
	C(close, L(s[0]));
	C(close, L(s[1]));
}

static void addresses(void)
{
	unsigned char ll[20] = {17, 0, 0x08, 0x00, 1, 0, 0, 0, 1, 0, 0, 6, 2, 0, 0, 0, 0, 1};
	int d = C(socket, L(AF_INET), L(SOCK_DGRAM | SOCK_CLOEXEC), 0L);
	C(connect, L(d), MEM(ll), 20L);
	ll[2] = 0, ll[3] = 3, ll[11] = 0, ll[10] = 4;
	C(bind, L(d), MEM(ll), 20L);
	ll[2] = 0x12, ll[8] = 4, ll[9] = 3, ll[10] = 9, ll[11] = 9;
	C(bind, L(d), MEM(ll), 20L);
	C(bind, L(d), MEM(ll), 12L);
	char alg[88] = {38, 0, 'h', 'a', 's', 'h'};
	strcpy(alg + 24, "sha256");
	C(bind, L(d), MEM(alg), 88L);
	*(uint32_t *)(alg + 16) = 0x8f, *(uint32_t *)(alg + 20) = 0x400;
	C(bind, L(d), MEM(alg), 88L);
	C(bind, L(d), MEM(alg), 30L);
	C(bind, L(d), U32(16, 0, 3), 12L);
	C(bind, L(d), U32(16 | 5 << 16, getpid(), 0), 12L);
	C(connect, L(d), U32(40, 1024, 2, 0), 16L);	/* AF_VSOCK */
	C(connect, L(d), U32(44, 1, 2, 3), 16L);	/* AF_XDP */
	C(connect, L(d), U32(0, 0, 0, 0), 16L);
	struct sockaddr_in in = {AF_INET, htons(9), {htonl(0x7f000001)}, {0}};
	C(connect, L(d), MEM(in), 16L);
	C(getsockname, L(d), take(16), U32(0));
	C(getpeername, L(d), take(16), U32(16));
	C(getpeername, L(d), take(16), U32(8));
	C(getpeername, L(99), take(16), U32(8));
	struct sockaddr_in6 in6 = {AF_INET6, htons(9), htonl(7), IN6ADDR_LOOPBACK_INIT, 0};
	C(connect, L(d), MEM(in6), 28L);
	C(connect, L(d), MEM(in6), 24L);
	C(connect, L(d), MEM(in6), 20L);
	struct sockaddr_un un = {AF_UNIX, "/nowhere"};
	C(connect, L(d), MEM(un), 110L);
	C(connect, L(d), MEM(un), 7L);
	C(connect, L(d), MEM(un), 2L);
	C(connect, L(d), MEM(un), 1L);
	un.sun_path[0] = 0;
	C(connect, L(d), MEM(un), 10L);
	C(connect, L(d), BAD, 10L);
	C(sendto, L(d), str("hi"), 2L, L(MSG_DONTWAIT), MEM(in), 16L);
	C(recvfrom, L(d), take(8), 8L, L(MSG_DONTWAIT), take(16), U32(16));
	/* options */
	C(setsockopt, L(d), L(IPPROTO_IP), L(IP_ADD_MEMBERSHIP), U32(htonl(0xe0000001), 0), 8L);
	C(setsockopt, L(d), L(IPPROTO_IP), L(IP_TTL), U32(9), 4L);
	C(getsockopt, L(d), L(IPPROTO_IP), L(IP_TTL), take(4), U32(4));
	C(setsockopt, L(d), L(IPPROTO_TCP), 1L, U32(1), 4L);
	C(setsockopt, L(d), 41L, 20L, U32(0, 0, 0, htonl(1), 0), 20L);
	C(setsockopt, L(d), 263L, 5L, U32(4096, 1, 2048, 2), 16L);
	C(setsockopt, L(d), 263L, 1L, U32(0, 1 | 6 << 16, 0x01020304, 0x0506), 16L);
	C(setsockopt, L(d), 270L, 1L, U32(3), 4L);
	C(setsockopt, L(d), 279L, 1L, str("key"), 3L);
	C(setsockopt, L(d), L(SOL_SOCKET), L(SO_ATTACH_FILTER), copy(&(struct { unsigned short n; void *p; }){1, U64(0x0000ffff00000006)}, 2 * sizeof(long)), L(2 * sizeof(long)));
	/* interfaces */
	struct ifreq *r = take(sizeof *r);
	strcpy(r->ifr_name, "lo");
	C(ioctl, L(d), L(SIOCGIFINDEX), r);
	C(ioctl, L(d), L(SIOCGIFNAME), r);
	C(ioctl, L(d), L(SIOCGIFFLAGS), r);
	C(ioctl, L(d), L(SIOCGIFADDR), r);
	C(ioctl, L(d), L(SIOCGIFNETMASK), r);
	C(ioctl, L(d), L(SIOCGIFBRDADDR), r);
	C(ioctl, L(d), L(SIOCGIFMTU), r);
	C(ioctl, L(d), L(SIOCGIFHWADDR), r);
	C(ioctl, L(d), L(SIOCGIFMETRIC), r);
	C(ioctl, L(d), L(SIOCGIFMAP), r);
	C(ioctl, L(d), L(SIOCGIFTXQLEN), r);
	strcpy(r->ifr_name, "none0");
	C(ioctl, L(d), L(SIOCGIFFLAGS), r);
	r->ifr_flags = IFF_UP | IFF_RUNNING;
	C(ioctl, L(d), L(SIOCSIFFLAGS), r);
	C(ioctl, L(d), L(SIOCSIFMTU), r);
	C(ioctl, L(d), L(SIOCGIFADDR), BAD);
	C(ioctl, L(d), L(SIOCGIFADDR), NULL);
	struct ifconf *conf = take(sizeof *conf);
	conf->ifc_len = sizeof *r, conf->ifc_buf = take(sizeof *r);
	C(ioctl, L(d), L(SIOCGIFCONF), conf);
	conf->ifc_buf = NULL;
	C(ioctl, L(d), L(SIOCGIFCONF), conf);
	C(ioctl, L(99), L(SIOCGIFCONF), conf);
	C(ioctl, L(d), L(FIONREAD), take(4));
	C(ioctl, L(d), L(FIONBIO), U32(1));
	C(ioctl, L(d), L(SIOCGPGRP), take(4));
	C(ioctl, L(d), L(SIOCSPGRP), U32(0));
	C(ioctl, L(d), 0x5401L, take(64));
	C(ioctl, L(d), 0xc0de1234L, take(64));
	C(close, L(d));
	C(socket, L(AF_PACKET), L(SOCK_RAW), L(0x0300 + 1));
	C(socket, 38L, L(SOCK_SEQPACKET), 7L);
	C(socket, L(AF_NETLINK), L(SOCK_RAW), 99L);
	C(socket, 99L, 99L, 99L);
}

static void netlink(void)
{
	int n = C(socket, L(AF_NETLINK), L(SOCK_RAW), 0L);
	C(bind, L(n), U32(16, 0, 0), 12L);
	uint32_t ask[] = {20, 18 | 0x301 << 16, 1, 0, 0};
	C(sendto, L(n), MEM(ask), 20L, 0L, U32(16, 0, 0), 12L);
	C(recvfrom, L(n), take(16), 16L, L(MSG_TRUNC | MSG_PEEK), take(12), U32(12));
	ask[1] = 19 | 5 << 16;
	C(sendto, L(n), MEM(ask), 16L, L(MSG_DONTWAIT), U32(16, 0, 0), 12L);
	C(sendto, L(n), U32(16, 2 | 1 << 16, 5, 6), 16L, 0L, NULL, 0L);
	C(sendto, L(n), U32(16, 0xffff | 0x100 << 16, 5, 6), 16L, 0L, NULL, 0L);
	C(write, L(n), MEM(ask), 20L);
	C(close, L(n));
}

static void sysv(void)
{
	int sem = C(semget, 0L, 3L, L(01000 | 0600));
	struct sembuf_ { unsigned short n; short op, flag; };
	struct sembuf_ ops[40] = {{0, 1, 0x800}, {1, 2, 0x1800}, {2, -1, 0x4800}};
	SEMOP(L(sem), MEM(ops), 2L);
	SEMTIMEDOP(L(sem), MEM(ops), 3L, LONGS(1, 5));
	SEMTIMEDOP(L(sem), MEM(ops), 2L, NULL);
	SEMOP(L(sem), MEM(ops), 40L);
	SEMOP(L(sem), MEM(ops), 0L);
	SEMOP(L(sem), NULL, 1L);
	SEMOP(L(sem), BAD, 1L);
	SEMOP(-1L, end(ops, 6), 2L);
	C(semctl, L(sem), 0L, 0L, 0L);
	int q = C(msgget, 0L, L(01000 | 0600));
	struct { long type; char text[40]; } m = {7, "a message of more than thirty-two bytes"};
	C(msgsnd, L(q), MEM(m), 40L, L(04000));
	C(msgsnd, L(q), MEM(m), 3L, 0L);
	C(msgsnd, L(q), NULL, 3L, 0L);
	C(msgsnd, L(q), BAD, 3L, 0L);
	C(msgrcv, L(q), take(64), 50L, 7L, L(010000 | 04000));
	C(msgrcv, L(q), take(64), 50L, L(-9), 0L);
	C(msgrcv, L(q), take(64), 50L, 0L, L(04000));
	C(msgctl, L(q), 0L, NULL);
	C(msgctl, L(q), 2L, take(200));
	int shm = C(shmget, 0L, 4096L, L(01000 | 0600));
	C(shmctl, L(shm), 0L, NULL);
	/* POSIX queues */
	int mq = C(mq_open, str("decode"), L(O_RDWR | O_CREAT | O_NONBLOCK), 0600L, LONGS(0, 2, 64, 0));
	C(mq_timedsend, L(mq), str("hello"), 5L, 3L, LONGS(1, 2));
	C(mq_timedsend, L(mq), str("hello"), 5L, 3L, NULL);
	C(mq_getsetattr, L(mq), NULL, take(64));
	C(mq_getsetattr, L(mq), LONGS(O_NONBLOCK, 0, 0, 0), take(64));
	C(mq_getsetattr, L(mq), LONGS(0, 1, 2, 3), NULL);
	C(mq_getsetattr, L(99), LONGS(0, 1, 2, 3), take(64));
	C(mq_timedreceive, L(mq), take(64), 64L, take(4), LONGS(1, 2));
	C(mq_timedreceive, L(99), take(64), 64L, take(4), NULL);
	C(mq_notify, L(mq), NULL);
	C(mq_unlink, str("decode"));
	C(mq_open, str("decode"), L(O_RDONLY), 0L, NULL);
	C(mq_open, str("decode/x"), L(O_RDONLY | O_CREAT), 0600L, NULL);
	C(mq_open, str("decode/x"), L(O_RDONLY | O_CREAT), 0600L, BAD);
	C(close, L(mq));
}

static void ids(void)
{
	C(capget, U32(0x20080522, 0), take(24));
	C(capget, U32(0x20071026, getpid()), take(24));
	C(capget, U32(0x19980330, 0), take(24));
	C(capget, U32(0x20080522, 0), NULL);
	C(capget, U32(7, 0), take(24));
	C(capget, NULL, take(24));
	C(capget, BAD, take(24));
	C(capset, U32(0x20080522, 1), U32(1, 0x2000, 0, 2, 0x100, 0));
	C(capset, U32(0x19980330, 1), U32(1, 0x2000, 0));
	C(capset, U32(0x20080522, 1), BAD);
	C(capset, U32(0x20080522, 1), U32(0xffffffff, 0xffffffff, 0, 0xffffffff, 0x1ff, 0));
	int n = C(getgroups, 0L, NULL);
	unsigned *g = take(256 * 4);
	C(getgroups, 64L, g);
	C(getgroups, 1000L, BAD);
	C(getgroups, -1L, g);
	C(setgroups, L(n), g);
	C(setgroups, 3L, BAD);
	C(setgroups, -1L, BAD);
	C(setgroups, 0x20000L, g);
	C(setgroups, -3L, NULL);
	C(ioprio_get, 1L, 0L);
	C(ioprio_set, 1L, 0L, L(2 << 13 | 4));
	C(ioprio_get, 1L, 0L);
	C(ioprio_get, 2L, 0x7fffffffL);
	C(ioprio_get, 9L, 5L);
	C(ioprio_set, 3L, 0x7fffff00L, L(7 << 13 | 9));
	C(sched_setattr, 0L, U32(48, 3, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0), 0L);
	C(sched_getattr, 0L, take(64), 56L, 0L);
	C(sched_getattr, 0L, take(64), 48L, 0L);
	C(sched_getattr, 0L, take(64), 0L, 0L);
	C(sched_getattr, 0L, BAD, 56L, 7L);
	C(sched_setattr, 0L, U32(56, 6, 7, 0, 0, 0, 1000, 0, 2000, 0, 3000, 0, 10, 20), 1L);
	C(sched_setattr, 0L, U32(56, -1, 0x18, 0, 0, 0, 1000, 0, 2000, 0, 3000, 0, 10, 20), 1L);
	C(sched_setattr, 0L, U32(7, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0L);
	C(sched_setattr, 0L, U32(100, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0L);
	C(sched_setattr, 0L, NULL, 0L);
	C(sched_setattr, 0L, BAD, 0L);
	C(sched_getscheduler, 0L);
	C(sched_setscheduler, 0x7fffffffL, 1L, U32(7));
	C(membarrier, 0L, 0L, 0L);
	C(membarrier, 8L, 0L, 0L);
	C(membarrier, 7L, 0L, 0L);
	C(membarrier, 128L, 1L, 3L);
	C(membarrier, 0L, 6L, 3L);
	C(quotactl, 0x80000200L, str("/dev/nowhere"), 2L, str("/quota"));
	C(quotactl, 0x80000301L, str("/dev/nowhere"), 2L, NULL);
	C(quotactl, 0x80000700L, str("/dev/nowhere"), L(getuid()), take(128));
	C(quotactl, 0x80000801L, str("/dev/nowhere"), -1L, U64(1, 2, 3, 4, 5, 6, 7, 8, 9));
	C(quotactl, 0x80000600L, str("/dev/nowhere"), 0L, U64(1, 2, 1ULL | 3ULL << 32));
	C(quotactl, 0x80000500L, str("/dev/nowhere"), 0L, take(64));
	C(quotactl, 0x80000400L, str("/dev/nowhere"), 0L, take(64));
	C(quotactl, 0x00580300L, str("/dev/nowhere"), 5L, take(256));
	C(quotactl, 0x00580101L, str("/dev/nowhere"), 5L, U32(3));
	C(quotactl, 0x00580602L, NULL, 5L, U32(7));
	C(quotactl, 0x00123409L, NULL, 5L, BAD);
	C(quotactl_fd, 99L, 0x80000700L, 5L, take(128));
}

static void mounts(void)
{
	char *gone = str("/nowhere/at/all");
	C(mount, str("src"), gone, str("ext4"), 5L, str("data,more=1"));
	C(mount, str("src"), gone, str("ext4"), 0x1000L, str("data"));
	C(mount, str("src"), gone, str("ext4"), 0x20L, str("data"));
	C(mount, NULL, gone, NULL, 0xc0ed0000UL | 0x4000, NULL);
	C(mount, str("src"), gone, str("ext4"), 0UL, NULL);
	C(mount, str("src"), BAD, BAD, 0x200UL, BAD);
	C(umount2, gone, 10L);
	C(fsopen, str("nofs"), 1L);
	C(fsopen, str("nofs"), 6L);
	C(fsmount, 99L, 1L, 0x10000fL);
	C(fsmount, -1L, 3L, 0L);
	C(fspick, L(AT_FDCWD), gone, 0xfL);
	C(fsconfig, 99L, 0L, str("ro"), NULL, 0L);
	C(fsconfig, 99L, 1L, str("source"), str("/dev/sda"), 0L);
	C(fsconfig, 99L, 2L, str("bin"), str("\1\2\3"), 3L);
	C(fsconfig, 99L, 3L, str("path"), str("/etc"), L(AT_FDCWD));
	C(fsconfig, 99L, 4L, str("path"), str(""), 0L);
	C(fsconfig, 99L, 5L, str("fd"), NULL, 0L);
	C(fsconfig, 99L, 6L, NULL, NULL, 0L);
	C(fsconfig, 99L, 7L, NULL, NULL, 0L);
	C(fsconfig, 99L, 77L, NULL, BAD, 5L);
	C(move_mount, L(AT_FDCWD), gone, 0L, str("to"), 0x77L);
	C(move_mount, L(AT_FDCWD), gone, L(AT_FDCWD), str("to"), 0x400L);
	C(open_tree, L(AT_FDCWD), gone, L(1 | O_CLOEXEC | 0x8000));
	C(mount_setattr, L(AT_FDCWD), gone, 0x9900L, U64(1, 0x100002, 1 << 18, 3), 32L);
	C(mount_setattr, L(AT_FDCWD), gone, 0x1000L, U64(0, 0, 0, 0), 8L);
	C(mount_setattr, L(AT_FDCWD), gone, 0L, BAD, 32L);
	C(pivot_root, gone, gone);
	/* landlock */
	C(landlock_create_ruleset, NULL, 0L, 1L);
	C(landlock_create_ruleset, U64(0x1fff), 8L, 2L);
	C(landlock_create_ruleset, U64(3), 4L, 0L);
	C(landlock_create_ruleset, U64(3, 1ULL << 60), 16L, 0L);
	C(io_uring_register, 99L, 17L, U64(5), 8L);
	C(bpf, 16L, U32(99, 1, 1, 0, 0, 0, 4), 28L);
	C(bpf, 29L, U32(99, 98, 3, 4), 16L);
	C(memfd_create, "name", 1L);
	C(landlock_create_ruleset, BAD, 8L, 0L);
	C(landlock_add_rule, 99L, 1L, copy((uint32_t[]){5, 0, 0}, 12), 0L);
	C(landlock_add_rule, 99L, 1L, NULL, 1L);
	C(landlock_add_rule, 99L, 9L, U64(1), 0L);
	C(landlock_restrict_self, 99L, 3L);
}

static void rings(void)
{
	C(io_uring_setup, 0L, take(120));
	C(io_uring_setup, 1L, BAD);
	C(io_uring_setup, 1L, NULL);
	uint32_t p[30] = {0, 0, 0x80000002, 3, 4, 0, 5, 6, 7};
	C(io_uring_setup, 4L, MEM(p));
	uint32_t q[30] = {0, 0, 0x20, 3, 4, 0, 99};
	C(io_uring_setup, 4L, MEM(q));
	int ring = C(io_uring_setup, 4L, take(120));
	int no = ring < 0;
	if (no)
		ring = 99;
	C(io_uring_register, L(ring), 0L, iov(2), 2L);
	C(io_uring_register, L(ring), 1L, NULL, 0L);
	C(io_uring_register, L(ring), 2L, U32(0, 1, -1), 3L);
	C(io_uring_register, L(ring), 6L, copy((uint64_t[]){1, P(U32(0, -1, -2))}, 16), 3L);
	C(io_uring_register, L(ring), 3L, NULL, 0L);
	C(io_uring_register, L(ring), 4L, U32(1), 1L);
	C(io_uring_register, L(ring), 11L, U32(0 | 5 << 16, 0, 0, 0, 1 | 1 << 16, 0, 0, 0, 2 | 3 << 16, 0, 0, 0, 9, 0, 0, 0), 4L);
	C(io_uring_register, L(ring), 12L, NULL, 0L);
	C(io_uring_register, L(ring), 19L, U32(0, 0), 2L);
	C(io_uring_register, L(ring), 20L, copy((uint64_t[]){0xffffffff, 99, 3, 99}, 32), 2L);
	C(io_uring_register, L(ring), 21L, copy((uint64_t[]){0, 0, 5, 1}, 32), 2L);
	C(io_uring_register, L(ring), 22L, U64(0x1000, 8 | 3ULL << 32, 0, 0, 0), 1L);
	C(io_uring_register, L(ring), 13L, copy((uint64_t[]){2, 0, P(U32(0, -1)), P(U64(5, 6))}, 32), 32L);
	C(io_uring_register, L(ring), 99L, BAD, 5L);
	C(io_uring_register, 98L, 8L, take(64), 2L);
	C(io_uring_enter, L(ring), 0L, 0L, 0x1fL, NULL, 8L);
	C(io_uring_enter, L(ring), 0L, 0L, 0L, U64(0x201), 8L);
	if (!no)
		C(close, L(ring));
}

static void aio(void)
{
	unsigned long *ctx = take(8);
	C(io_setup, 4L, ctx);
	printf("AIO %#lx\n", *ctx);
	struct iocb_ { uint64_t data; uint32_t key, rw; uint16_t op, prio; uint32_t fd; uint64_t buf, n, off, reserved; uint32_t flags, resfd; };
	struct iocb_ cb = {.data = 5, .op = 1, .fd = 1, .buf = P(str("nothing at all")), .n = 14, .off = -1}; /* no pwrite to a pipe */
	struct iocb_ cb2 = {.data = 6, .op = 0, .fd = 99, .buf = P(take(16)), .n = 16, .off = 7};
	struct iocb_ cb3 = {.data = 7, .op = 8, .fd = 99, .buf = P(iov(2)), .n = 2};
	struct iocb_ cb4 = {.data = 8, .op = 5, .fd = 99, .buf = 5, .prio = 3, .flags = 1, .resfd = 98};
	struct iocb_ cb5 = {.data = 9, .key = 7, .rw = 3, .op = 55, .fd = 99};
	void *list[] = {MEM(cb2), BAD, MEM(cb3), MEM(cb4), MEM(cb5), MEM(cb)};
	C(io_submit, *ctx, 5L, MEM(list));
	C(io_submit, *ctx, 1L, copy(list + 5, sizeof(void *)));
	C(io_submit, *ctx, 0L, MEM(list));
	C(io_submit, *ctx, -1L, MEM(list));
	C(io_submit, *ctx, 1L, BAD);
	C(io_getevents, *ctx, 0L, 4L, take(128), LONGS(0, 5));
	C(io_getevents, *ctx, 0L, 4L, take(128), NULL);
	C(io_pgetevents, *ctx, 0L, 4L, take(128), LONGS(0, 5), LONGS((unsigned long)U64(0x201), 8));
	C(io_cancel, *ctx, list[0], take(32));
	C(io_destroy, *ctx);
	C(io_destroy, 0L);
}

static void traces(void)
{
	uint32_t a[32] = {0, 112, 0, 0, 1000, 0, 1, 0, 0, 0, 0x63};
	C(perf_event_open, MEM(a), 0L, -1L, 99L, 8L);
	a[0] = 1, a[2] = 3, a[10] = 1 << 10 | 2 << 15;
	C(perf_event_open, MEM(a), -1L, -1L, 99L, 0xfL);
	a[0] = 3, a[2] = 0x10203, a[6] = 0x107, a[8] = 0xf;
	C(perf_event_open, MEM(a), 0L, 3L, 99L, 0L);
	a[0] = 4, a[1] = 64, a[2] = 0x1c0, a[11] = 0xffff0000;
	C(perf_event_open, MEM(a), 0L, 3L, 99L, 0L);
	a[0] = 77, a[1] = 0;
	C(perf_event_open, MEM(a), 0L, 3L, 99L, 0L);
	a[1] = 5;
	C(perf_event_open, MEM(a), 0L, 3L, 99L, 0L);
	C(perf_event_open, BAD, 0L, -1L, 0L, 0x100L);
	C(perf_event_open, NULL, 0L, -1L, -1L, 0L);
	C(bpf, 0L, U32(2, 4, 8, 16, 3, 0, 0, 0x6e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 48L);
	C(bpf, 0L, U32(1, 4, 8, 16), 16L);
	C(bpf, 1L, copy((uint64_t[]){99, P(U32(1)), P(U32(2)), 4}, 32), 32L);
	C(bpf, 3L, copy((uint64_t[]){99, P(U32(1)), 0, 0}, 24), 24L);
	C(bpf, 4L, copy((uint64_t[]){99, P(U32(1)), P(U32(2)), 0}, 24), 24L);
	C(bpf, 5L, copy((uint64_t[]){1 | 2ULL << 32, P(U64(0xb7, 0x95)), P(str("GPL")), 0, 0, 0}, 48), 48L);
	C(bpf, 5L, copy((uint64_t[]){2 | 2ULL << 32, P(U64(0x1b7, 0x95)), P(str("MIT")), 1 | 100ULL << 32, P(take(100)), 0x050607, 0x676f7270, 0, 3ULL << 32}, 72), 72L);
	C(bpf, 6L, copy((uint64_t[]){P(str("/sys/fs/bpf/none")), 99, 0}, 16), 16L);
	C(bpf, 7L, copy((uint64_t[]){P(str("/sys/fs/bpf/none")), 99, 0}, 16), 16L);
	C(bpf, 8L, U32(99, 98, 3, 1), 16L);
	C(bpf, 9L, U32(99, 98, 3), 12L);
	C(bpf, 11L, U32(0x7fffffff, 0, 0), 12L);
	C(bpf, 13L, U32(0x7fffffff, 0, 0), 12L);
	C(bpf, 15L, copy((uint64_t[]){99 | 64ULL << 32, P(take(64))}, 16), 16L);
	C(bpf, 28L, U32(99, 98, 3, 0), 16L);
	C(bpf, 99L, U32(1, 2, 3), 12L);
	C(bpf, 0L, BAD, 48L);
	C(bpf, 0L, NULL, 0L);
	/* memory of others */
	struct iovec *to = take(2 * sizeof *to), *from = iov(2);
	to[0].iov_base = take(8), to[0].iov_len = 2, to[1].iov_base = take(64), to[1].iov_len = 64;
	C(process_vm_readv, L(getpid()), to, 2L, from, 2L, 0L);
	C(process_vm_writev, L(getpid()), from, 2L, to, 2L, 0L);
	C(process_vm_readv, 0x7fffffffL, to, 2L, from, 2L, 0L);
	C(process_vm_writev, L(getpid()), BAD, 2L, NULL, 2L, 7L);
	/* waiting */
	C(futex_waitv, copy((uint64_t[]){1, 0x1000, 2, 5, 0x2000, 0x82}, 48), 2L, 0L, U64(1, 5), 1L);
	C(futex_waitv, copy((uint64_t[]){1, 0x1000, 2 | 7ULL << 32}, 24), 1L, 3L, NULL, 0L);
	C(futex_waitv, BAD, 1L, 0L, NULL, 0L);
	C(futex_waitv, NULL, 0L, 0L, NULL, 99L);
	int *p = take(8);
	C(pipe2, p, 0L);
	fd_set *in = take(sizeof *in), *out = take(sizeof *out), *bad = take(sizeof *bad);
	FD_SET(p[0], in);
	FD_SET(p[1], out);
	FD_SET(p[0], out);
	SELECT(L(p[1] + 1), in, out, bad, LONGS(1, 5));
	SELECT(L(p[1] + 1), in, NULL, bad, LONGS(0, 5));
	SELECT(-1L, in, NULL, NULL, LONGS(0, 5));
	SELECT(0L, NULL, NULL, NULL, LONGS(0, 5));
	FD_SET(77, in);
	FD_SET(1, in);
	SELECT(100L, in, NULL, NULL, NULL);
	SELECT(10L, BAD, NULL, NULL, NULL);
	FD_ZERO(in);
	FD_SET(p[1], out);
	C(pselect6, L(p[1] + 1), in, out, NULL, LONGS(1, 5), LONGS((unsigned long)U64(0x201), 8));
	C(pselect6, L(p[1] + 1), in, NULL, NULL, LONGS(0, 5), LONGS(0, 8));
	C(close, L(p[0]));
	C(close, L(p[1]));
}

static void clones(void)
{
	int *fd = take(4), *tid = take(4);
	uint64_t a[11] = {0x1000 | 0x100000, P(fd), 0, P(tid), SIGCHLD};
	uint64_t *args = MEM(a);
	long pid = C(clone3, args, 88L);
	if (pid == 0)
		_exit(0);
	printf("CHILD %ld\n", pid);
	C(wait4, pid, NULL, 0L, NULL);
	C(pidfd_send_signal, L(*fd), 0L, NULL, 0L);
	C(pidfd_getfd, L(*fd), 0L, 0L);
	C(close, L(*fd));
	a[0] = 0x80000, a[7] = 5, a[4] = 99, a[8] = P(U32(7, 8)), a[9] = 2;
	C(clone3, MEM(a), 64L);
	C(clone3, MEM(a), 80L);
	a[10] = 99, a[0] = 0x200000000ULL | 0x200;
	C(clone3, MEM(a), 88L);
	C(clone3, NULL, 88L);
	C(clone3, MEM(a), 8L);
	C(pidfd_open, L(0x7fffffff), 0L);
	C(kcmp, L(0x7fffffff), 1L, 0L, 3L, 4L);
}

int main(void)
{
	if (mmap((void *)ARENA, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != (void *)ARENA)
		return 77;
	signal(SIGIO, SIG_IGN), signal(SIGUSR1, SIG_IGN);
	setvbuf(stdout, take(4096), _IOFBF, 4096); /* printed at the end, not between the marks */
	printf("PID %d\n", getpid());
	static const struct { const char *name; void (*call)(void); } parts[] = {
		{"dups", dups}, {"messages", messages}, {"addresses", addresses}, {"netlink", netlink}, {"sysv", sysv},
		{"ids", ids}, {"mounts", mounts}, {"aio", aio}, {"traces", traces}, {"clones", clones},
		/* the end of a ring interrupts calls that wait, at times: it comes last */
		{"rings", rings},
	};
	write(-1, "begin", 5);
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		parts[i].call();
	write(-1, "end", 3);
	return 0;
}
