/* The program of recorded.mtl: it leaks, shares memory, fails calls and has a child that dies of a signal.
 *
 *   gcc -static -O1 -w -o prog recorded.c
 *   memtrace record -o recorded.mtl --meminfo=25ms --snapshot interval=200ms,exit --data-limit 64 -- ./prog
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static void on(int s) { (void)s; }
static void nap(long ms) { struct timespec t = {0, ms * 1000000}; nanosleep(&t, 0); }
int main(void) {
	signal(SIGUSR1, on);
	open("/nowhere", O_RDONLY);
	open("/nowhere|else", O_RDONLY);
	close(99);
	int id = shmget(IPC_PRIVATE, 8192, IPC_CREAT | 0600);
	char *s = shmat(id, 0, 0);
	shmctl(id, IPC_RMID, 0);
	strcpy(s, "shared");
	int m = memfd_create("buf", 0);
	ftruncate(m, 4096);
	char *q = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, m, 0);
	*q = 1;
	kill(getpid(), SIGUSR1);
	pid_t c = fork();
	if (c == 0) {
		for (int i = 0; i < 10; i++) {
			char *p = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			memset(p, i, 65536);
			munmap(p, 65536);
			nap(20);
		}
		raise(SIGSEGV);
		_exit(1);
	}
	for (int i = 0; i < 40; i++) {
		char *p = malloc(300000);
		memset(p, i, 300000);
		nap(15);
	}
	int st;
	waitpid(c, &st, 0);
	return 3;
}
