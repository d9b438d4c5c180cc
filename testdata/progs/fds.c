/* Descriptors: made in every way, copied, passed, closed, used again. The last
 * part maps a file through each of them; `strace -y` shows the same names. */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include "mark.h"

static void map(int fd)
{
	CHECK(fd >= 0 && mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
}

int main(void)
{
	int k = 1, p[2], sv[2];
	sigset_t m;
	close(newfile("one", PAGE));
	close(newfile("two", PAGE));
	int fd = open("one", O_RDONLY);
	map(fd);
	MARK(k++);
	int d = dup(fd);
	close(fd);
	CHECK(open("two", O_RDONLY) == fd); /* the number, used again */
	map(fd);
	map(d);
	MARK(k++);
	CHECK(dup2(fd, d) == d && dup3(d, 100, O_CLOEXEC) == 100);
	map(100);
	int e = fcntl(d, F_DUPFD_CLOEXEC, 200);
	CHECK(e == 200);
	map(e);
	int dir = open(".", O_PATH | O_DIRECTORY);
	int at = openat(dir, "one", O_RDONLY);
	map(at);
	MARK(k++);
	struct {
		uint64_t flags, mode, resolve;
	} how = {O_RDONLY, 0, 0};
	int o2 = syscall(437, AT_FDCWD, "two", &how, sizeof how);
	if (o2 >= 0)
		map(o2);
	int cr = creat("three", 0666);
	CHECK(cr >= 0 && write(cr, "3", 1) == 1);
	CHECK(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
	int so = socket(AF_INET, SOCK_DGRAM, 0);
	sigemptyset(&m);
	CHECK(memfd_create("mem", 0) >= 0 && eventfd(0, 0) >= 0 && epoll_create1(0) >= 0 && timerfd_create(CLOCK_MONOTONIC, 0) >= 0);
	CHECK(signalfd(-1, &m, 0) >= 0 && inotify_init1(0) >= 0 && so >= 0);
	/* passed through a socket */
	char c = 'x', ctl[CMSG_SPACE(sizeof(int))];
	struct iovec io = {&c, 1};
	struct msghdr h = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl};
	struct cmsghdr *cm = CMSG_FIRSTHDR(&h);
	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cm), &at, sizeof at);
	CHECK(sendmsg(sv[0], &h, 0) == 1);
	h.msg_controllen = sizeof ctl;
	CHECK(recvmsg(sv[1], &h, 0) == 1);
	int got;
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof got);
	map(got);
	MARK(k++);
	/* a child has copies; an exec'd one only what is not close-on-exec */
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		map(got);
		close(got);
		map(open("two", O_RDONLY));
		MARK(100);
		_exit(0);
	}
	reap(pid, 0);
	map(got);
	if (syscall(SYS_close_range, 100, 200, 0) == 0)
		CHECK(fcntl(100, F_GETFD) == -1);
	MARK(k++);
	puts("fds ok");
	return 0;
}
