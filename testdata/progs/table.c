/* build: none */
/* Prints a table that is all zeros, unless somebody has written into it:
 *   memtrace record --exec-script testdata/scripts/table.mt ./table
 */
#include <stdio.h>

int data[32];
static const char greeting[] = "nobody was here"; /* in a read-only mapping */
const char *volatile text = greeting;

int main(void)
{
	for (int i = 0; i < 32; i++)
		printf("%d%c", data[i], i % 8 == 7 ? '\n' : ' ');
	puts(text);
	return 0;
}
