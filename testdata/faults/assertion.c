/* finding: crash SIGABRT in settle (assertion.c:12), by __assert_fail, called from main */
/* An assertion fails. */
#undef NDEBUG
#include <assert.h>
#include <unistd.h>

static int balance = 100;

static __attribute__((noinline)) void settle(int amount)
{
	balance -= amount;
	assert(balance >= 0);
}

int main(void)
{
	for (int i = 0; i < 5; i++) {
		settle(30);
		usleep(1000);
	}
	return 0;
}
