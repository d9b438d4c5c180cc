/* build: none */
/*
 * served.c MODE: maps a file of a file system that a child of this process serves (FUSE).
 * Who asks for its pages or its attributes while the child stands still waits for ever.
 * "idle": it waits, with the file mapped. "argument": calls have arguments there.
 * "ends": a child ends with it mapped. "runs": a program of the file system is run.
 */
#include "mark.h"
#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/uio.h>

#define SIZE (32 * PAGE)
#define DIR "mnt"

static int dev;
static char *image; /* what the file holds */
static size_t size = SIZE;

static void answer(uint64_t to, int err, const void *body, size_t n)
{
	struct fuse_out_header h = {.len = sizeof h + n, .error = -err, .unique = to};
	struct iovec v[2] = {{&h, sizeof h}, {(void *)body, n}};
	if (writev(dev, v, 2) < 0 && errno != ENOENT)
		_exit(1);
}

static struct fuse_attr attributes(uint64_t node)
{
	struct fuse_attr a = {.ino = node, .nlink = 1, .blksize = PAGE, .mode = S_IFDIR | 0755};
	if (node != FUSE_ROOT_ID) {
		a.mode = S_IFREG | 0755;
		a.size = size;
	}
	return a;
}

static void serve_one(const struct fuse_in_header *h)
{
	const void *arg = h + 1;
	switch (h->opcode) {
	case FUSE_INIT: {
		struct fuse_init_out o = {.major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = PAGE};
		answer(h->unique, 0, &o, sizeof o);
		break;
	}
	case FUSE_LOOKUP: {
		struct fuse_entry_out o = {.nodeid = 2, .attr = attributes(2)};
		int known = !strcmp(arg, "file");
		answer(h->unique, known ? 0 : ENOENT, &o, known ? sizeof o : 0);
		break;
	}
	case FUSE_GETATTR: {
		struct fuse_attr_out o = {.attr = attributes(h->nodeid)};
		answer(h->unique, 0, &o, sizeof o);
		break;
	}
	case FUSE_OPEN: {
		struct fuse_open_out o = {.fh = 1};
		answer(h->unique, 0, &o, sizeof o);
		break;
	}
	case FUSE_READ: {
		const struct fuse_read_in *r = arg;
		size_t n = r->offset >= size ? 0 : size - r->offset;
		answer(h->unique, 0, image + r->offset, n < r->size ? n : r->size);
		break;
	}
	case FUSE_RELEASE:
	case FUSE_FLUSH:
		answer(h->unique, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		answer(h->unique, ENOSYS, NULL, 0);
	}
}

static void serve(void)
{
	static uint64_t request[1 << 15];
	for (;;) {
		if (read(dev, request, sizeof request) >= 0)
			serve_one((void *)request);
		else if (errno == ENODEV)
			_exit(0);
	}
}

static void load(const char *name)
{
	struct stat st;
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	size = st.st_size;
	image = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	CHECK(image != MAP_FAILED);
	close(fd);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "idle";
	if (!strcmp(mode, "runs"))
		load("/bin/true");
	else {
		image = anon(SIZE, PROT_READ | PROT_WRITE);
		for (size_t i = 0; i < SIZE; i++)
			image[i] = 'a' + i / PAGE % 26;
	}
	CHECK(mkdir(DIR, 0755) == 0);
	dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	char options[100];
	sprintf(options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", dev);
	if (dev < 0 || mount("served", DIR, "fuse", MS_NODEV, options) < 0)
		SKIP("no FUSE");
	pid_t server = fork();
	if (server == 0)
		serve();
	long sum = 0;
	if (!strcmp(mode, "runs")) {
		for (int i = 0; i < 2; i++) {
			pid_t child = fork();
			if (child == 0) {
				execl(DIR "/file", "file", NULL);
				_exit(1);
			}
			reap(child, 0);
		}
	} else {
		int fd = open(DIR "/file", O_RDONLY | O_CLOEXEC), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		CHECK(fd >= 0);
		char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
		CHECK(p != MAP_FAILED);
		if (!strcmp(mode, "ends")) {
			pid_t child = fork();
			if (child == 0) {
				p[3 * PAGE] = 'x';
				_exit(0);
			}
			reap(child, 0);
		}
		for (size_t at = 0; at < SIZE; at += PAGE) {
			if (!strcmp(mode, "argument"))
				CHECK(write(null, p + at, 30) == 30);
			else
				nap(5);
			sum += p[at];
			p[at] = '!';
		}
		munmap(p, SIZE);
		close(fd);
	}
	CHECK(umount2(DIR, MNT_DETACH) == 0);
	reap(server, 0); /* it ends with the last use of what it serves */
	CHECK(rmdir(DIR) == 0);
	printf("%s: sum %ld\n", mode, sum);
	return 0;
}
