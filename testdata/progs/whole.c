/* quick: none */
/*
 * whole.c: calls that wait until all of their bytes are moved, with a slow other end: none
 * may come back with a part. The other end sends signals that do nothing: without a tracer
 * they do not even wake the caller. And waits that end after a time, likewise.
 */
#include "mark.h"
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <pthread.h>

enum { LEN = 1 << 20, PART = 16 << 10, VEC = 7 };
static unsigned char data[LEN], got[LEN];
static const char *mode;

static unsigned char byte_at(size_t i) { return (i * 2654435761u) >> 13; }

static void split(struct iovec *v, unsigned char *b)
{
	size_t at = 0;
	for (int i = 0; i < VEC; i++) {
		size_t n = LEN / 9 + 1001 * i;
		if (i == 2)
			n = 0;
		if (i == VEC - 1)
			n = LEN - at;
		v[i] = (struct iovec){b + at, n};
		at += n;
	}
}

/* moves the bytes by one call. */
static ssize_t move(int fd, int file)
{
	struct iovec v[VEC];
	struct msghdr m = {.msg_iov = v, .msg_iovlen = VEC};
	split(v, data);
	if (!strcmp(mode, "write"))
		return write(fd, data, LEN);
	if (!strcmp(mode, "writev"))
		return writev(fd, v, VEC);
	if (!strcmp(mode, "sendto"))
		return send(fd, data, LEN, MSG_NOSIGNAL);
	if (!strcmp(mode, "sendmsg"))
		return sendmsg(fd, &m, 0);
	if (!strcmp(mode, "sendfile")) {
		CHECK(lseek(file, 0, SEEK_SET) == 0);
		return sendfile(fd, file, NULL, LEN);
	}
	memset(data, 0, LEN);
	if (!strcmp(mode, "recv"))
		return recv(fd, data, LEN, MSG_WAITALL);
	CHECK(!strcmp(mode, "recvmsg"));
	return recvmsg(fd, &m, MSG_WAITALL);
}

static void other_end(int fd, int writes)
{
	pid_t parent = getppid();
	for (size_t at = 0; at < LEN;) {
		ssize_t n = PART;
		n = writes ? write(fd, data + at, n) : read(fd, got + at, n);
		CHECK(n > 0);
		for (ssize_t i = 0; i < n && !writes; i++)
			CHECK(got[at + i] == byte_at(at + i));
		at += n;
		syscall(SYS_tgkill, parent, parent, at / PART % 3 ? SIGWINCH : SIGCHLD);
		nap(1);
	}
	_exit(0);
}

/* A wait ends when its time is over, though signals come until long after that. */
static void in_time(int pwait)
{
	int ends[2], ep = epoll_create1(0);
	CHECK(pipe(ends) == 0);
	struct epoll_event e = {.events = EPOLLIN};
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &e) == 0);
	pid_t parent = getpid(), child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		for (int i = 0; i < 1000; i++) {
			nap(10);
			syscall(SYS_tgkill, parent, parent, SIGWINCH);
		}
		CHECK(write(ends[1], "!", 1) == 1);
		_exit(0);
	}
	CHECK((pwait ? epoll_pwait(ep, &e, 1, 150, NULL) : epoll_wait(ep, &e, 1, 150)) == 0);
	CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
	close(ep);
}

/* Devices that look for signals after each page. */
static void devices(void)
{
	static const char *names[] = {"/dev/zero", "/dev/urandom"};
	enum { SIZE = 8 << 20 };
	char *b = malloc(SIZE);
	CHECK(b);
	for (int k = 0; k < 2; k++) {
		int fd = open(names[k], O_RDONLY);
		CHECK(fd >= 0);
		for (int i = 0; i < (k ? 6 : 60); i++) {
			struct iovec v[2] = {{b, SIZE / 3}, {b + SIZE / 3, SIZE - SIZE / 3}};
			ssize_t n = i % 3 == 0 ? read(fd, b, SIZE) : i % 3 == 1 ? readv(fd, v, 2) : pread(fd, b, SIZE, 0);
			if (n != SIZE) {
				printf("%s: %zd of %d\n", names[k], n, SIZE);
				exit(1);
			}
		}
		close(fd);
	}
	free(b);
}

static void *idle(void *arg)
{
	for (;;)
		nap(1);
	return arg;
}

int main(void)
{
	static const char *modes[] = {"write", "writev", "sendto", "sendmsg", "sendfile", "recv", "recvmsg", "write", "writev"};
	int file = memfd_create("data", 0);
	pthread_t t;
	CHECK(pthread_create(&t, NULL, idle, NULL) == 0);
	in_time(0);
	in_time(1);
	devices();
	for (unsigned k = 0; k < sizeof modes / sizeof *modes; k++) {
		int ends[2], reads;
		mode = modes[k];
		reads = !strncmp(mode, "recv", 4);
		for (size_t i = 0; i < LEN; i++)
			data[i] = byte_at(i);
		CHECK(pwrite(file, data, LEN, 0) == LEN);
		if (k >= 7) {
			int p[2];
			CHECK(pipe(p) == 0);
			ends[0] = p[1];
			ends[1] = p[0];
		} else
			CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			close(ends[0]);
			other_end(ends[1], reads);
		}
		close(ends[1]);
		ssize_t n = move(ends[0], file);
		if (n != LEN) {
			printf("%s %u: %zd of %d\n", mode, k, n, LEN);
			return 1;
		}
		for (size_t i = 0; i < LEN; i++)
			CHECK(data[i] == byte_at(i));
		int status;
		CHECK(waitpid(child, &status, 0) == child && status == 0);
		close(ends[0]);
	}
	printf("all of it\n");
	return 0;
}
