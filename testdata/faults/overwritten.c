/* finding: crash SIGSEGV reading 0x4141414141414141 * in greet (overwritten.c:24)*; the pointer is at * (overwritten) and was written after step */
/* A name that is too long for its field overwrites the pointer behind it, which is used
 * long after. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct user {
	char name[16];
	const char *greeting;
};

static struct user users[4];

static __attribute__((noinline)) void rename_user(struct user *u, const char *name)
{
	for (char *p = u->name; (*p = *name); p++, name++)
		;
}

static __attribute__((noinline)) int greet(struct user *u)
{
	int n = 0;
	for (const char *p = u->greeting; *p; p++)
		n += *p;
	return n;
}

int main(void)
{
	for (int i = 0; i < 4; i++) {
		users[i].greeting = "hello";
		rename_user(&users[i], "somebody");
	}
	int sum = 0;
	for (int i = 0; i < 40; i++) {
		if (i == 20)
			rename_user(&users[2], "AAAAAAAAAAAAAAAAAAAAAAAA");
		sum += greet(&users[i % 2]);
		usleep(10000);
	}
	sum += greet(&users[2]);
	printf("%d\n", sum);
	return 0;
}
