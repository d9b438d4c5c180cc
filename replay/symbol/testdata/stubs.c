/* Calls functions of other files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	char *s = strdup(argv[0]);
	void *(*get)(size_t) = malloc;
	puts(s);
	free(get(argc));
	return atoi(s);
}
