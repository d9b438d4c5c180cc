/* What a program can see of itself, written so that two runs can be compared
 * line by line: it must not be able to tell that it is recorded. TracerPid is
 * left out: that one cannot be hidden. */
#include <dirent.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <termios.h>
#include "mark.h"

extern char **environ;

static void descriptors(void)
{
	for (int fd = 0; fd < 1024; fd++) {
		char link[64], to[PATH_MAX];
		int fl = fcntl(fd, F_GETFD);
		if (fl < 0)
			continue;
		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		ssize_t n = readlink(link, to, sizeof to - 1);
		CHECK(n >= 0);
		to[n] = 0;
		if (strchr(to, '[') && !strchr(to, '/'))
			*strchr(to, '[') = 0; /* pipe:[123] */
		printf("fd %d: %s cloexec=%d flags=%#o tty=%d\n", fd, to, fl & FD_CLOEXEC, fcntl(fd, F_GETFL), isatty(fd));
	}
}

static void signals(void)
{
	for (int s = 1; s < NSIG; s++) {
		struct sigaction sa;
		if (sigaction(s, NULL, &sa) == 0 && (sa.sa_handler != SIG_DFL || sa.sa_flags))
			printf("signal %d: %s %#x\n", s, sa.sa_handler == SIG_IGN ? "ignored" : "handled", sa.sa_flags);
	}
	stack_t ss;
	CHECK(sigaltstack(NULL, &ss) == 0);
	printf("alternate stack: %#x\n", ss.ss_flags);
}

static void status(void)
{
	static const char *const keys[] = {"Name", "Umask", "State", "Uid", "Gid", "Groups", "Kthread", "Threads", "SigPnd",
		"ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
		"Seccomp_filters", "Speculation_Store_Bypass", "SpeculationIndirectBranch", "Cpus_allowed", "Cpus_allowed_list",
		"Mems_allowed_list", "CoreDumping", "THP_enabled", "untag_mask", "VmLck", "VmPin", "HugetlbPages"};
	char line[4096];
	FILE *f = fopen("/proc/self/status", "re");
	CHECK(f);
	while (fgets(line, sizeof line, f))
		for (unsigned i = 0; i < sizeof keys / sizeof *keys; i++)
			if (!strncmp(line, keys[i], strlen(keys[i])) && line[strlen(keys[i])] == ':')
				fputs(line, stdout);
	fclose(f);
}

static void contents(const char *name)
{
	char b[4096];
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, b, sizeof b);
	if (n < 0)
		printf("%s\n", strerrorname_np(errno));
	for (ssize_t i = 0; i < n; i++)
		putchar(b[i] ? b[i] : ' ');
	if (n == 0 || (n > 0 && b[n - 1] != '\n'))
		puts("");
	if (fd >= 0)
		close(fd);
}

static void file(const char *name)
{
	printf("%s: ", name);
	contents(name);
}

static void maps(void)
{
	char line[4096], perms[8], path[4096];
	FILE *f = fopen("/proc/self/maps", "re");
	CHECK(f);
	while (fgets(line, sizeof line, f)) {
		unsigned long a, b, off;
		path[0] = 0;
		CHECK(sscanf(line, "%lx-%lx %7s %lx %*s %*s %4095s", &a, &b, perms, &off, path) >= 4);
		if (!strcmp(path, "[heap]") || !strcmp(path, "[stack]"))
			a = b = 0; /* as large as chance makes them */
		printf("map %s %#lx+%#lx %s\n", perms, off, b - a, path);
	}
	fclose(f);
}

int main(int argc, char **argv)
{
	printf("argc %d:", argc);
	for (int i = 0; i < argc; i++)
		printf(" %s", argv[i]);
	puts("");
	maps();
	for (char **e = environ; *e; e++)
		printf("env %s\n", *e);
	descriptors();
	signals();
	status();
	printf("sid %d pgid %d\n", getsid(0), getpgrp());
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
	printf("tty %s", tty < 0 ? strerrorname_np(errno) : "yes");
	printf(" foreground %d\n", tty < 0 ? -1 : tcgetpgrp(tty) == getpgrp());
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		struct rlimit l;
		if (getrlimit(i, &l) == 0)
			printf("rlimit %d: %lld %lld\n", i, (long long)l.rlim_cur, (long long)l.rlim_max);
	}
	char dir[PATH_MAX], exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
	CHECK(n > 0);
	exe[n] = 0;
	printf("cwd %s\nexe %s\n", getcwd(dir, sizeof dir), exe);
	cpu_set_t cpus;
	CHECK(sched_getaffinity(0, sizeof cpus, &cpus) == 0);
	printf("cpus %d online %ld:", CPU_COUNT(&cpus), sysconf(_SC_NPROCESSORS_ONLN));
	for (int i = 0; i < 64; i++)
		printf("%d", !!CPU_ISSET(i, &cpus));
	puts("");
	mode_t um = umask(0);
	umask(um);
	printf("umask %o nice %d policy %d ioprio %ld\n", um, getpriority(PRIO_PROCESS, 0), sched_getscheduler(0),
	       syscall(SYS_ioprio_get, 1, 0));
	int sub = -1, death = -1, ids;
	prctl(PR_GET_CHILD_SUBREAPER, &sub);
	prctl(PR_GET_PDEATHSIG, &death);
	printf("dumpable %d keepcaps %d no_new_privs %d securebits %d subreaper %d pdeathsig %d timerslack %d thp %d seccomp %d\n",
	       prctl(PR_GET_DUMPABLE), prctl(PR_GET_KEEPCAPS), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_SECUREBITS), sub,
	       death, prctl(PR_GET_TIMERSLACK), prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), prctl(PR_GET_SECCOMP));
	printf("personality %#lx\n", syscall(SYS_personality, 0xffffffff));
	ids = getuid() == geteuid() && getgid() == getegid();
	printf("uid %d gid %d same %d\n", getuid(), getgid(), ids);
	printf("auxv secure %lu flags %#lx pagesz %lu clktck %lu uid %lu hwcap %#lx hwcap2 %#lx phnum %lu execfn %s platform %s\n",
	       getauxval(AT_SECURE), getauxval(AT_FLAGS), getauxval(AT_PAGESZ), getauxval(AT_CLKTCK), getauxval(AT_UID),
	       getauxval(AT_HWCAP), getauxval(AT_HWCAP2), getauxval(AT_PHNUM), (char *)getauxval(AT_EXECFN),
	       (char *)getauxval(AT_PLATFORM));
	file("/proc/self/comm");
	file("/proc/self/cmdline");
	file("/proc/self/environ");
	file("/proc/self/oom_score_adj");
	file("/proc/self/coredump_filter");
	file("/proc/self/loginuid");
	file("/proc/self/cgroup");
	file("/proc/self/setgroups");
	file("/proc/self/attr/current");
	static const char *const ns[] = {"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "user", "uts", "time"};
	for (unsigned i = 0; i < sizeof ns / sizeof *ns; i++) {
		char l[64], to[64];
		snprintf(l, sizeof l, "/proc/self/ns/%s", ns[i]);
		n = readlink(l, to, sizeof to - 1);
		printf("ns %s %.*s\n", ns[i], n < 0 ? 0 : (int)n, to);
	}
	struct itimerspec it;
	timer_t t;
	printf("children %d\n", waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD ? 0 : 1);
	/* the first timer of a program is number 0 */
	CHECK(timer_create(CLOCK_MONOTONIC, &(struct sigevent){.sigev_notify = SIGEV_NONE}, &t) == 0);
	CHECK(timer_gettime(t, &it) == 0);
	/* and its first new descriptor the lowest free one */
	int fd = open("/dev/null", O_RDONLY);
	printf("next fd %d\n", fd);
	struct rusage ru;
	CHECK(getrusage(RUSAGE_CHILDREN, &ru) == 0);
	printf("children's page faults %ld\n", ru.ru_minflt);
	/* do others see it on the processors it may use? */
	CHECK(sched_setaffinity(0, sizeof cpus, &cpus) == 0);
	fflush(stdout);
	/* and what others read of its arguments and its environment */
	char args[64], env[64];
	snprintf(args, sizeof args, "/proc/%d/cmdline", getpid());
	snprintf(env, sizeof env, "/proc/%d/environ", getpid());
	if (fork() == 0) {
		contents(args);
		contents(env);
		fflush(stdout);
		_exit(0);
	}
	CHECK(wait(NULL) > 0);
	MARK(1);
	return 0;
}
