/* build: none */
/*
 * group.c: how often it gets signals. "all": it sends each signal that it can catch to
 * its process group, twice. "count N SIGNAL FILE": it says in FILE how many of a signal
 * it has got so far, until it has N.
 */
#include "mark.h"

static volatile int got[65];
static void note(int sig) { got[sig]++; }

static int catchable(int sig)
{
	return sig != SIGKILL && sig != SIGSTOP && (sig < 32 || sig >= SIGRTMIN);
}

static int all(void)
{
	for (int round = 1; round <= 2; round++)
		for (int sig = 1; sig <= 64; sig++)
			if (catchable(sig)) {
				CHECK(kill(0, sig) == 0);
				while (got[sig] < round)
					nap(1);
			}
	nap(500); /* what comes twice comes soon */
	for (int sig = 1; sig <= 64; sig++)
		if (catchable(sig))
			printf("%d: %d\n", sig, got[sig]);
	return 5;
}

static int count(int n, int sig, const char *name)
{
	int told = -1;
	while (told < n) {
		if (got[sig] == told) {
			nap(1);
			continue;
		}
		told = got[sig];
		char b[32], tmp[] = "count.tmp";
		int l = sprintf(b, "%d", told), fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC, 0666);
		CHECK(fd >= 0 && write(fd, b, l) == l && close(fd) == 0 && rename(tmp, name) == 0);
	}
	wait_file("go");
	printf("%d\n", got[sig]);
	return 6;
}

int main(int argc, char **argv)
{
	struct sigaction a = {.sa_handler = note};
	for (int sig = 1; sig <= 64; sig++)
		if (catchable(sig))
			CHECK(sigaction(sig, &a, NULL) == 0);
	if (argc > 4)
		return count(atoi(argv[2]), atoi(argv[3]), argv[4]);
	return all();
}
