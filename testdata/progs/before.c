// Ends after half a second, in which its memory changes once.

#include <stdlib.h>
#include <string.h>
#include <time.h>

int main(void)
{
	char *volatile p = calloc(1, 16);
	struct timespec half = {0, 500 * 1000 * 1000};
	// Made of two parts, so that the text is nowhere else.
	strcat(strcpy(p, "the be"), "fore");
	nanosleep(&half, NULL);
	strcat(strcpy(p, "the af"), "ter.");
	return p[4] != 'a';
}
