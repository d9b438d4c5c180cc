/* finding: crash CRASH: SIGSEGV jumping to 0x4e4d4c4b4a49 (the text "IJKLMN"), called from main (jump.c:* */
/* A name that is too long runs into a pointer to a function. */
#include <string.h>

struct handler {
	char name[8];
	void (*call)(void);
} handlers[4];

static void ok(void)
{
}

__attribute__((noinline)) static void name(void *to, const char *text)
{
	memcpy(to, text, strlen(text) + 1);
}

int main(void)
{
	for (int i = 0; i < 4; i++)
		handlers[i].call = ok;
	name(handlers[2].name, "ABCDEFGHIJKLMN");
	for (volatile int i = 0; i < 4; i++)
		handlers[i].call();
	return 0;
}
