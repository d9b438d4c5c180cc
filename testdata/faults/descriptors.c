/* finding: failures openat of "/etc/hostname" failed * times with EMFILE */
/* A file is opened again and again and never closed, until there are no descriptors. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

int main(void)
{
	struct rlimit r = {200, 200};
	setrlimit(RLIMIT_NOFILE, &r);
	char line[64];
	for (int i = 0; i < 300; i++) {
		int fd = open("/etc/hostname", O_RDONLY);
		if (fd < 0)
			continue;
		if (read(fd, line, sizeof line) < 0)
			perror("read");
		usleep(1000);
	}
	return 0;
}
