/* The program of the tour in README.md. It keeps every session for ever, and in the end a name
 * that is too long for its field has overwritten the pointer behind it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct user {
	char name[16];
	const char *greeting;
};

static struct user users[3];
static char *last_session;

static void open_session(int id)
{
	last_session = malloc(24 << 10);
	memset(last_session, id, 24 << 10);
}

static char *load_catalogue(size_t size)
{
	char *c = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(c, 'c', size);
	return c;
}

static void rename_user(struct user *u, const char *name)
{
	for (char *to = u->name; (*to++ = *name++);)
		;
}

static void greet(const struct user *u)
{
	for (const char *c = u->greeting; *c; c++)
		putchar(*c);
	putchar('\n');
}

int main(void)
{
	char *catalogue = load_catalogue(8 << 20);
	for (int i = 0; i < 3; i++)
		users[i].greeting = "good morning";
	for (int i = 0; i < 600; i++) {
		open_session(i);
		if (i == 450)
			rename_user(&users[1], "Wolfeschlegelsteinhausen");
		if (i % 50 == 0)
			catalogue[i] = 'C';
		usleep(5000);
	}
	for (int i = 0; i < 3; i++)
		greet(&users[i]);
	return 0;
}
