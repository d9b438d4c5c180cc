/* build: none */
/*
 * segment.c: runs 32-bit code in a segment of its own (modify_ldt), as 16- and 32-bit
 * Windows programs do under Wine. "calls": it makes calls there. "spins": it counts.
 */
#include "mark.h"
#include <asm/ldt.h>

static uint8_t *code, *end;

static void put8(uint8_t b) { *end++ = b; }
static void put32(uintptr_t v) { uint32_t w = v; memcpy(end, &w, 4); end += 4; }
static void op(int n, ...)
{
	va_list l;
	va_start(l, n);
	while (n--)
		put8(va_arg(l, int));
	va_end(l);
}

int main(int argc, char **argv)
{
	int calls = argc < 2 || strcmp(argv[1], "spins") != 0;
	uint32_t times = calls ? 3000 : 150000000;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef __x86_64__
	flags |= MAP_32BIT; /* 32-bit code reaches nothing else */
#endif
	code = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, flags, -1, 0);
	CHECK(code != MAP_FAILED);
	struct user_desc d = {.entry_number = 3, .limit = 0xfffff, .seg_32bit = 1, .contents = MODIFY_LDT_CONTENTS_CODE, .limit_in_pages = 1};
	if (syscall(SYS_modify_ldt, 1, &d, sizeof d) != 0)
		SKIP("no modify_ldt");
	uint32_t *data = (uint32_t *)(code + PAGE); /* counter, sum, far pointer, stack pointer */
	uintptr_t counter = (uintptr_t)data, sum = counter + 4, far = counter + 16;
	data[4] = (uintptr_t)code + 2048;
	data[5] = 3 << 3 | 7;

	end = code + 2048;
	op(1, 0xb8), put32(0x2b);               /* mov $__USER_DS, %eax */
	op(2, 0x8e, 0xd8);                      /* mov %eax, %ds */
	op(1, 0xb9), put32(times);              /* mov $times, %ecx */
	uint8_t *loop = end;
	op(2, 0xff, 0x05), put32(counter);      /* incl counter */
	if (calls) {
		op(1, 0xb8), put32(20);         /* mov $20, %eax: getpid */
		op(2, 0xcd, 0x80);              /* int $0x80 */
		op(2, 0x01, 0x05), put32(sum);  /* add %eax, sum */
	}
	op(1, 0x49);                            /* dec %ecx */
	op(2, 0x75, 0), end[-1] = loop - end;   /* jnz loop */
	op(1, 0xcb);                            /* lret */

	end = code;
	uint8_t *at = code;
#ifdef __x86_64__
	uintptr_t saved = counter + 32, stack = (uintptr_t)code + 16 * PAGE;
	op(1, 0x55);                            /* push %rbp */
	op(4, 0x48, 0x89, 0x24, 0x25), put32(saved); /* mov %rsp, saved */
	op(3, 0x48, 0xc7, 0xc4), put32(stack);  /* mov $stack, %rsp */
	op(3, 0xff, 0x1c, 0x25), put32(far);    /* lcall *far */
	op(4, 0x48, 0x8b, 0x24, 0x25), put32(saved); /* mov saved, %rsp */
	op(2, 0x5d, 0xc3);                      /* pop %rbp; ret */
	__asm__ volatile("call *%%rax" : "+a"(at) : : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
		"r13", "r14", "r15", "memory", "cc");
#else
	op(2, 0xff, 0x1d), put32(far);          /* lcall *far */
	op(1, 0xc3);                            /* ret */
	__asm__ volatile("call *%%eax" : "+a"(at) : : "ecx", "edx", "memory", "cc");
#endif
	CHECK(data[0] == times);
	CHECK(!calls || data[1] == times * (uint32_t)getpid());
	printf("%u rounds\n", data[0]);
	return 0;
}
