/* quick: x86_64 i386 */
/* build: x86_64 i386 */
/* One process, five programs: 64 to 32 to 64 bits (where there are two), from
 * the first thread and from another, by descriptor, and by a script. argv[1]
 * is the stage; $EXEC_OTHER is this program built for the other word size. */
#include <pthread.h>
#include "mark.h"

static char self[PATH_MAX];

static void go(const char *path, const char *stage)
{
	execl(path, "exec", stage, (char *)NULL);
	CHECK(!"exec");
}

static void *from_thread(void *arg)
{
	(void)arg;
	MARK(41);
	go(self, "5");
	return NULL;
}

static void *sleeper(void *arg)
{
	for (;;)
		pause();
	return arg;
}

int main(int argc, char **argv)
{
	int stage = argc > 1 ? atoi(argv[1]) : 1;
	const char *other = getenv("EXEC_OTHER"), *first = getenv("EXEC_FIRST");
	char *env[] = {"A=1", NULL, NULL};
	pthread_t t;
	char pid[16];

	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	CHECK(n > 0);
	snprintf(pid, sizeof pid, "%d", getpid());
	if (stage > 1)
		CHECK(!strcmp(getenv("EXEC_PID"), pid));
	anon(stage * 7 * PAGE, PROT_READ);
	MARK(stage * 10);
	switch (stage) {
	case 1:
		setenv("EXEC_PID", pid, 1);
		setenv("EXEC_FIRST", self, 1);
		/* failures leave everything as it is */
		CHECK(execl("/nonexistent/program", "x", (char *)NULL) == -1 && errno == ENOENT);
		CHECK(execl("/proc/self/maps", "x", (char *)NULL) == -1 && errno == EACCES);
		MARK(11);
		go(other && *other ? other : self, "2");
		break;
	case 2:
		go(first, "3");
		break;
	case 3: {
		int fd = open("script.sh", O_WRONLY | O_CREAT | O_TRUNC, 0777);
		dprintf(fd, "#! %s 4\n", self);
		close(fd);
		go("./script.sh", "ignored");
		break;
	}
	case 4:
		/* argv: program, "4", script, "ignored" */
		CHECK(argc == 4 && !strcmp(argv[2], "./script.sh") && !strcmp(argv[3], "ignored"));
		for (int i = 0; i < 3; i++)
			CHECK(pthread_create(&t, NULL, sleeper, NULL) == 0);
		CHECK(pthread_create(&t, NULL, from_thread, NULL) == 0);
		for (;;)
			pause();
	case 5: {
		CHECK(syscall(SYS_gettid) == getpid());
		int fd = open(self, O_PATH | O_CLOEXEC);
		char m[600];
		CHECK(fd >= 0);
		snprintf(m, sizeof m, "MARK_DIR=%s", mark_dir);
		if (mark_dir[0])
			env[1] = m;
		char e[32];
		snprintf(e, sizeof e, "EXEC_PID=%s", pid);
		env[0] = e;
		char *av[] = {"", "6", NULL};
		syscall(SYS_execveat, fd, "", av, env, AT_EMPTY_PATH);
		CHECK(!"execveat");
		break;
	}
	case 6:
		CHECK(argv[0][0] == 0 && !getenv("EXEC_FIRST"));
		puts("exec ok");
		return 0;
	}
	return 1;
}
