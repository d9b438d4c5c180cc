/* finding: child exited with 7 */
/* A child fails, and the parent does not look. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	for (int i = 0; i < 3; i++) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(i == 1 ? 7 : 0);
		waitpid(pid, NULL, 0);
	}
	return 0;
}
