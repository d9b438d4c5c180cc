/* build: none */
/* A service, and how two versions of it differ: for each request it keeps so many bytes for ever,
 * and waits so many milliseconds.
 *
 *   requests REQUESTS KEPT MILLISECONDS */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *sessions;

static void keep(size_t kept)
{
	char *s = malloc(kept);
	memset(s, 's', kept);
	*(char **)s = sessions;
	sessions = s;
}

static int answer(int in, int out, size_t kept, int wait)
{
	char request[64], *reply = malloc(4096);
	ssize_t n = read(in, request, sizeof request - 1);
	if (n <= 0)
		return -1;
	request[n] = 0;
	n = snprintf(reply, 4096, "answer to %s", request);
	if (kept)
		keep(kept);
	poll(NULL, 0, wait);
	ssize_t written = write(out, reply, n);
	free(reply);
	return written == n ? 0 : -1;
}

int main(int argc, char **argv)
{
	int in[2], out[2];
	char text[128];
	if (argc != 4 || pipe(in) || pipe(out))
		return 2;
	for (int i = 0; i < atoi(argv[1]); i++) {
		int n = snprintf(text, sizeof text, "request %d", i);
		if (write(in[1], text, n) != n || answer(in[0], out[1], atol(argv[2]), atoi(argv[3])) || read(out[0], text, sizeof text) <= 0)
			return 1;
	}
	return 0;
}
