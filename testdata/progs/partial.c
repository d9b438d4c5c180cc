/* quick: x86_64 */
/*
 * partial.c: calls that wait until all of their bytes are moved, and come back with a part
 * for reasons of their own, in a process of several threads: a file ends, the other end
 * goes, a time is over. The rest must not be made by anybody.
 */
#include "mark.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>

enum { LEN = 4 << 20, PART = 5000 };
static char data[LEN];

static void *idle(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void ends_of(int inet, int ends[2])
{
	if (!inet) {
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
		return;
	}
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof sa;
	int l = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(bind(l, (struct sockaddr *)&sa, n) == 0 && listen(l, 1) == 0 && getsockname(l, (struct sockaddr *)&sa, &n) == 0);
	CHECK((ends[0] = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && connect(ends[0], (struct sockaddr *)&sa, n) == 0);
	CHECK((ends[1] = accept(l, NULL, NULL)) >= 0);
	close(l);
}

/* The file ends before what is asked for. */
static void file_ends(int inet)
{
	int ends[2], file = memfd_create("data", 0);
	off_t off = PART;
	CHECK(file >= 0 && ftruncate(file, LEN) == 0);
	ends_of(inet, ends);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		size_t got = 0;
		close(ends[0]);
		for (ssize_t n; (n = read(ends[1], data, LEN)) > 0; got += n)
			;
		_exit(got != LEN - PART);
	}
	close(ends[1]);
	CHECK(sendfile(ends[0], file, &off, LEN) == LEN - PART && off == LEN);
	close(ends[0]);
	close(file);
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* The other end goes when it has read a part: a second call would end the program. */
static void reader_goes(void)
{
	int ends[2];
	ends_of(0, ends);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		close(ends[0]);
		_exit(read(ends[1], data, PART) != PART);
	}
	close(ends[1]);
	ssize_t n = send(ends[0], data, LEN, 0);
	CHECK(n > 0 && n < LEN);
	close(ends[0]);
	CHECK(waitpid(child, NULL, 0) == child);
}

/* The other end goes when it has written a part; with reset, by an error that the next call
 * returns. */
static void writer_goes(int reset)
{
	int ends[2], left = 1;
	ends_of(reset, ends);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		struct linger now = {.l_onoff = 1};
		CHECK(write(ends[1], data, PART) == PART);
		while (ioctl(ends[0], FIONREAD, &left) == 0 && left > 0)
			nap(1);
		CHECK(!reset || setsockopt(ends[1], SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
		_exit(0);
	}
	close(ends[1]);
	CHECK(recv(ends[0], data, LEN, MSG_WAITALL) == PART);
	errno = 0;
	CHECK(reset ? recv(ends[0], data, LEN, 0) == -1 && errno == ECONNRESET : recv(ends[0], data, LEN, 0) == 0);
	close(ends[0]);
	CHECK(waitpid(child, NULL, 0) == child);
}

/* A time is over. */
static void time_is_over(void)
{
	struct timeval short_time = {.tv_usec = 50000};
	int ends[2];
	ends_of(0, ends);
	for (int i = 0; i < 2; i++)
		CHECK(setsockopt(ends[i], SOL_SOCKET, i ? SO_RCVTIMEO : SO_SNDTIMEO, &short_time, sizeof short_time) == 0);
	ssize_t n = send(ends[0], data, LEN, 0);
	CHECK(n > 0 && n < LEN);
	CHECK(recv(ends[1], data, LEN, MSG_WAITALL) == n);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	pthread_t t;
	CHECK(pthread_create(&t, NULL, idle, NULL) == 0);
	file_ends(0);
	file_ends(1);
	reader_goes();
	writer_goes(0);
	writer_goes(1);
	time_is_over();
	printf("parts\n");
	return 0;
}
