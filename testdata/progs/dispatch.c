/* build: none */
/*
 * dispatch.c: calls from outside of the C library arrive as SIGSYS (Syscall User
 * Dispatch), as Windows programs have it under Wine. Whoever makes a call in this
 * program's name from elsewhere has it killed, or told of a call that it did not make.
 */
#include "mark.h"
#include <link.h>
#include <sys/prctl.h>
#include <ucontext.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

enum { STRANGE = 424242, ANSWER = 4711, TIMES = 150 };

static volatile char selector; /* 0: all calls are allowed */
static volatile int caught, wrong;
static uintptr_t from, to; /* the C library's code */

static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	ucontext_t *c = context;
	(void)sig;
	caught++;
	if (info->si_syscall != STRANGE)
		wrong++;
	c->uc_mcontext.gregs[REG_RAX] = ANSWER;
}

static int look(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)size, (void)data;
	for (int i = 0; strstr(info->dlpi_name, "libc.so") && i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		if (h->p_type == PT_LOAD && h->p_flags & PF_X) {
			from = info->dlpi_addr + h->p_vaddr;
			to = from + h->p_memsz;
		}
	}
	return 0;
}

int main(void)
{
	struct sigaction a = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
	CHECK(sigaction(SIGSYS, &a, NULL) == 0);
	dl_iterate_phdr(look, NULL);
	CHECK(to != 0);
	char *m = anon(64 * PAGE, PROT_READ | PROT_WRITE);
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, from, to - from, &selector) < 0)
		SKIP("no Syscall User Dispatch");
	selector = 1;
	int bad = 0;
	for (int i = 0; i < TIMES; i++) {
		bad += rawcall(STRANGE, 0, 0, 0, 0) != ANSWER;
		m[i % 64 * PAGE] = i;
		nap(2);
	}
	char *more = anon(PAGE, PROT_READ | PROT_WRITE);
	more[0] = 1;
	selector = 0;
	printf("bad %d, caught %d, wrong %d\n", bad, caught, wrong);
	return bad || wrong || caught != TIMES;
}
