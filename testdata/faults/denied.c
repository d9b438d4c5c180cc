/* finding: failures report.txt" failed 1 time with EACCES */
/* A file that the program has no right to: it goes on without. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void)
{
	char dir[] = "/tmp/denied-XXXXXX", name[64];
	if (!mkdtemp(dir))
		return 2;
	snprintf(name, sizeof name, "%s/report.txt", dir);
	int fd = open(name, O_WRONLY | O_CREAT, 0400);
	if (fd < 0 || chmod(dir, 0755) || (getuid() == 0 && setresuid(65534, 65534, 65534)))
		return 2;
	close(fd);
	fd = open(name, O_RDWR);
	return fd >= 0 ? 2 : 0;
}
