// SPDX-License-Identifier: GPL-2.0-only
/*
 * A driver ends, and a successor goes on with its device: libnoiommufd's save and
 * resume on the edu, where this process is the holder of the files; and
 * examples/handover on an NVMe whose commands take long.
 *
 * Environment: HANDOVERS is how often the example's driver is killed (default 5).
 */
#include <dirent.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../../../lib/description.h"
#include "../../../lib/internal.h"
#include "failing.h"
#include "harness.h"

#define SLOW		"0000:00:07.0"

#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_CMD	0x98
#define EDU_DMA_IRQ	4
#define EDU_BUFFER	0x40000

#define PCI_COMMAND	4
#define PCI_MASTER	4

#define PIECE		(4 * PAGE)
#define BIG		HUGE_PAGE
#define SIZE		(PIECE + BIG)
#define SENT		1024
#define MAX_FILES	32

#define expect_null(call, err)	expect_errno((call) ? 0 : -1, err)

static char said[1024];

static void remember(void *data, const char *message)
{
	snprintf(data, sizeof(said), "%s", message);
}

static void __attribute__((constructor)) log_it(void)
{
	noiommufd_set_log(remember, said);
}

#define expect_said(text) \
	do { \
		if (!strstr(said, text)) \
			fail("expected to read \"%s\", got \"%s\"", text, said); \
	} while (0)

/* The holder, which this process is, and what the drivers share with it */
struct scene {
	int sockets[2];
	struct noiommufd_file files[MAX_FILES];
	int num;
	long long pins;
	bool limited;
	pid_t driver;
	__u64 pa[SIZE / PAGE];
	bool works;
	bool may_end;
};

static struct scene *new_scene(void)
{
	struct scene *s = mem_flags(sizeof(*s), PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS);

	driver_bind(edu());
	expect_ok(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s->sockets));
	s->pins = pins();
	return s;
}

/* A file, with its name */
static void give(int sock, const struct noiommufd_file *file)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { (void *)file->name, sizeof(file->name) };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &file->fd, sizeof(int));
	expect_eq(sendmsg(sock, &message, 0), sizeof(file->name));
}

static bool take(int sock, struct noiommufd_file *file)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { file->name, sizeof(file->name) };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};

	if (recvmsg(sock, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
		return false;
	expect(CMSG_FIRSTHDR(&message));
	memcpy(&file->fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	return true;
}

static void hand_over(struct scene *s, struct noiommufd_device *dev)
{
	struct noiommufd_file files[MAX_FILES];
	int n = noiommufd_save(dev, files, MAX_FILES), i;

	if (n < 0)
		fail("noiommufd_save(): %s", said);
	for (i = 0; i < n; i++)
		give(s->sockets[1], &files[i]);
}

/* Wait until a driver works, and have its files as well, if it gave any. */
static void start(struct scene *s, void (*driver)(void *scene))
{
	s->works = false;
	s->driver = spawn(driver, s);
	while (!flag(&s->works)) {
		siginfo_t ended = { 0 };

		expect_ok(waitid(P_PID, s->driver, &ended, WEXITED | WNOHANG | WNOWAIT));
		if (ended.si_pid) {
			join(s->driver);
			fail("expected a driver that works, got one that has ended");
		}
		sleep_ms(1);
	}
	while (s->num < MAX_FILES && take(s->sockets[0], &s->files[s->num]))
		s->num++;
}

/*
 * Kill it, and wait for the DMA that it began, which takes 0.1 s: a device that is
 * closed before is not reset, because the edu has no reset, and would go on when
 * the next test lets it.
 */
static void end(struct scene *s)
{
	expect_ok(kill(s->driver, SIGKILL));
	expect_eq(waitpid(s->driver, NULL, 0), s->driver);
	sleep_ms(300 * slow());
}

static void let_go(struct scene *s)
{
	while (s->num)
		close(s->files[--s->num].fd);
}

static struct noiommufd_file *held(struct scene *s, const char *name)
{
	int i;

	for (i = 0; i < s->num; i++)
		if (!strcmp(s->files[i].name, name))
			return &s->files[i];
	fail("expected to hold %s", name);
}

static bool may_do_dma(void)
{
	char path[64];
	__u16 command;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", edu());
	fd = expect_ok(open(path, O_RDONLY | O_CLOEXEC));
	expect_eq(pread(fd, &command, 2, PCI_COMMAND), 2);
	close(fd);
	return command & PCI_MASTER;
}

static void begin_dma(struct noiommufd_device *dev, __u64 from, __u64 to, __u64 command)
{
	char *bar = noiommufd_bar(dev, NOIOMMUFD_BAR0);

	expect(bar);
	noiommufd_write64(bar + EDU_DMA_SRC, from);
	noiommufd_write64(bar + EDU_DMA_DST, to);
	noiommufd_write64(bar + EDU_DMA_COUNT, SENT);
	noiommufd_write64(bar + EDU_DMA_CMD, command);
}

static void end_dma(struct noiommufd_device *dev)
{
	char *bar = noiommufd_bar(dev, NOIOMMUFD_BAR0);

	while (noiommufd_read64(bar + EDU_DMA_CMD) & 1)
		sleep_ms(10);
}

static void work(struct scene *s)
{
	set_flag(&s->works);
	while (!flag(&s->may_end))
		pause();
}

static void expect_charge(long long bytes)
{
	expect_eq(vm_pin(), bytes / 1024);
}

/* An edu with two pieces of memory and an interrupt */
static struct noiommufd_device *set_up(struct noiommufd_dma **piece, struct noiommufd_dma **big)
{
	struct noiommufd_device *dev = noiommufd_open(edu(), NULL);
	struct noiommufd_ioas *ioas;

	if (!dev)
		fail("noiommufd_open(): %s", said);
	ioas = noiommufd_device_ioas(dev);
	*piece = noiommufd_alloc_labelled(ioas, "piece", PIECE - 1);
	*big = noiommufd_alloc_labelled(ioas, "big", BIG);
	if (!*piece || !*big)
		fail("noiommufd_alloc_labelled(): %s", said);
	expect_ok(noiommufd_bus_master(dev, true));
	expect_ok(noiommufd_irq_enable(dev, NOIOMMUFD_MSI, 1));
	return dev;
}

static void get_addresses(__u64 *pa, const struct noiommufd_dma *piece,
			  const struct noiommufd_dma *big)
{
	expect_eq(noiommufd_pages(piece, noiommufd_va(piece), PIECE, PAGE, pa,
				  PIECE / PAGE), PIECE / PAGE);
	expect_eq(noiommufd_pages(big, noiommufd_va(big), BIG, PAGE, pa + PIECE / PAGE,
				  BIG / PAGE), BIG / PAGE);
}

/* It has the edu send a part of its memory to another, and does not live to see that. */
static void first_driver(void *arg)
{
	struct noiommufd_dma *piece, *big;
	struct noiommufd_device *dev;
	struct scene *s = arg;

	if (s->limited) {
		drop_cap(CAP_IPC_LOCK);
		set_memlock(SIZE);
	}
	dev = set_up(&piece, &big);
	expect_eq(noiommufd_size(piece), PIECE);
	expect_charge(SIZE);
	mem_fill(noiommufd_va(piece), PIECE, 1);
	mem_fill(noiommufd_va(big), BIG, 2);
	get_addresses(s->pa, piece, big);
	hand_over(s, dev);
	begin_dma(dev, s->pa[0], EDU_BUFFER, 1);
	end_dma(dev);
	begin_dma(dev, EDU_BUFFER, s->pa[1], 3 | EDU_DMA_IRQ);
	work(s);
}

static struct noiommufd_device *resumed(struct scene *s)
{
	struct noiommufd_device *dev = noiommufd_resume(s->files, s->num);
	int i;

	if (!dev)
		fail("noiommufd_resume(): %s", said);
	for (i = 0; i < s->num; i++)
		close(s->files[i].fd);
	return dev;
}

static void expect_pattern(const void *va, size_t size, unsigned int seed)
{
	void *want = mem(size);

	mem_fill(want, size, seed);
	expect(!memcmp(va, want, size));
	munmap(want, size);
}

/* All is as it was, and more. */
static struct noiommufd_device *go_on(struct scene *s)
{
	struct noiommufd_dma *piece, *big;
	struct noiommufd_device *dev;
	__u64 pa[SIZE / PAGE];
	char *va;

	expect_charge(0);
	dev = resumed(s);
	expect_charge(SIZE);
	expect(!strcmp(noiommufd_info(dev)->address, edu()));
	piece = noiommufd_labelled(noiommufd_device_ioas(dev), "piece");
	big = noiommufd_labelled(noiommufd_device_ioas(dev), "big");
	expect(piece && big);
	expect_null(noiommufd_labelled(noiommufd_device_ioas(dev), "other"), ENOENT);
	get_addresses(pa, piece, big);
	expect(!memcmp(pa, s->pa, sizeof(pa)));
	va = noiommufd_va(piece);
	expect_pattern(va, PAGE, 1);
	expect_pattern(noiommufd_va(big), BIG, 2);
	/* What came when nobody was there */
	expect(!memcmp(va + PAGE, va, SENT));
	return dev;
}

static void second_driver(void *arg)
{
	struct scene *s = arg;
	struct noiommufd_device *dev = go_on(s);

	expect_eq(noiommufd_irq_wait(dev, 0, 0), 1);
	/* It still works: another DMA, another interrupt */
	begin_dma(dev, EDU_BUFFER, s->pa[PIECE / PAGE], 3 | EDU_DMA_IRQ);
	expect_eq(noiommufd_irq_wait(dev, 0, 10000), 1);
	expect(!memcmp(noiommufd_va(noiommufd_labelled(noiommufd_device_ioas(dev), "big")),
		       noiommufd_va(noiommufd_labelled(noiommufd_device_ioas(dev), "piece")),
		       SENT));
	mem_fill(noiommufd_va(noiommufd_labelled(noiommufd_device_ioas(dev), "big")), BIG, 2);
	work(s);
}

/* The last one gives all of it back. */
static void third_driver(void *arg)
{
	struct scene *s = arg;
	struct noiommufd_device *dev = go_on(s);
	struct noiommufd_ioas *ioas = noiommufd_device_ioas(dev);

	expect_eq(noiommufd_irq_wait(dev, 0, 0), 0);
	noiommufd_free(noiommufd_labelled(ioas, "piece"));
	expect_null(noiommufd_labelled(ioas, "piece"), ENOENT);
	expect_charge(BIG);
	noiommufd_free(noiommufd_labelled(ioas, "big"));
	expect_charge(0);
	noiommufd_close(dev);
}

TEST(takes_over)
{
	struct scene *s = new_scene();

	start(s, first_driver);
	/* iommufd, device, two pieces of memory, an interrupt, the description */
	expect_eq(s->num, 6);
	end(s);
	expect(may_do_dma());
	expect_eq(pins(), s->pins + SIZE / PAGE);
	start(s, second_driver);
	end(s);
	expect(may_do_dma());
	expect_eq(pins(), s->pins + SIZE / PAGE);
	in_child(third_driver, s);
	/* The holder still has the device. */
	expect(may_do_dma());
	let_go(s);
	expect(!may_do_dma());
	expect_pins(s->pins);
}

/* With the last file the device is closed as ever. */

static void holder(void *arg)
{
	struct scene *s = arg;

	start(s, first_driver);
	end(s);
	set_flag(&s->may_end);
	pause();
}

TEST(holder_dies)
{
	struct scene *s = new_scene();
	pid_t pid = spawn(holder, s);

	while (!flag(&s->may_end))
		sleep_ms(10);
	expect(may_do_dma());
	expect_eq(pins(), s->pins + SIZE / PAGE);
	expect_ok(kill(pid, SIGKILL));
	expect_pins(s->pins);
	expect(!may_do_dma());
}

/* A limit that suffices for one process */

static void over_the_limit(void *arg)
{
	struct scene *s = arg;

	drop_cap(CAP_IPC_LOCK);
	set_memlock(SIZE);
	expect_null(noiommufd_resume(s->files, s->num), ENOMEM);
	expect_said("limit for locked memory");
	expect_charge(0);
	/* The largest piece counts twice for a moment. */
	set_memlock(SIZE + BIG);
	resumed(s);
	expect_charge(SIZE);
}

TEST(limit)
{
	struct scene *s = new_scene();

	s->limited = true;
	start(s, first_driver);
	end(s);
	in_child(over_the_limit, s);
}

/* What is refused, changes nothing. */

static void one_missing(struct scene *s)
{
	struct noiommufd_file files[MAX_FILES];
	int i;

	for (i = 0; i < s->num; i++) {
		memcpy(files, s->files, sizeof(files));
		files[i] = files[s->num - 1];
		expect_null(noiommufd_resume(files, s->num - 1), ENOENT);
		expect_said(s->files[i].name);
	}
}

/* With another file in place of the one that has that name */
static void replaced(struct scene *s, const char *name, int fd, int error, const char *says)
{
	struct noiommufd_file *file = held(s, name);
	int was = file->fd;

	file->fd = fd;
	*said = '\0';
	expect_null(noiommufd_resume(s->files, s->num), error);
	expect_said(says);
	file->fd = was;
}

static int memory_file(size_t size)
{
	int fd = expect_ok(memfd_create("other", MFD_CLOEXEC));

	expect_ok(ftruncate(fd, size));
	return fd;
}

static void other_files(struct scene *s)
{
	struct noiommufd_device *other;
	int null = expect_ok(open("/dev/null", O_RDWR | O_CLOEXEC));

	replaced(s, "memory.piece", memory_file(PIECE), EBADF, "memory.piece");
	replaced(s, "memory.piece", memory_file(2 * PIECE), EBADF, "memory.piece");
	replaced(s, "memory.big", held(s, "memory.piece")->fd, EBADF, "memory.big");
	replaced(s, "irq0", null, EBADF, "irq0");
	replaced(s, "device", null, ENODEV, "is no PCI device");
	replaced(s, "iommufd", iommu_open(), EBADF, "is not the memory");
	replaced(s, "state", null, EBADMSG, "damaged");
	driver_bind(edu_behind_bridge());
	other = noiommufd_open(edu_behind_bridge(), NULL);
	expect(other);
	replaced(s, "device", noiommufd_device_fd(other), ENODEV,
		 "The description is of the device");
	/* Its IOAS has the same number. */
	replaced(s, "iommufd", noiommufd_ioas_fd(noiommufd_device_ioas(other)), EBADF,
		 "is not the memory");
	noiommufd_close(other);
}

/* The description, with bytes changed */
static void changed_state(struct scene *s)
{
	static char state[131072], was[sizeof(state)];
	int fd = held(s, "state")->fd;
	struct description *d = (struct description *)state;

	expect_eq(pread(fd, was, sizeof(was), 0), sizeof(was));
	/* The first one that is written is in the second slot. */
	memcpy(state, was, sizeof(was));
	d = (struct description *)(state + 65536);
	expect_eq(d->nr_memory, 2);
	d->version++;
	expect_eq(pwrite(fd, state, sizeof(state), 0), sizeof(state));
	expect_null(noiommufd_resume(s->files, s->num), EPROTONOSUPPORT);
	expect_said("another version");
	d->version--;
	d->memory[1].iova += PAGE;
	expect_eq(pwrite(fd, state, sizeof(state), 0), sizeof(state));
	expect_null(noiommufd_resume(s->files, s->num), EBADMSG);
	/* A right CRC: other addresses, or another end */
	noiommufd__seal(d);
	expect_eq(pwrite(fd, state, sizeof(state), 0), sizeof(state));
	expect_null(noiommufd_resume(s->files, s->num), EBADF);
	/* The place of other memory, which is larger */
	expect(d->memory[0].size > d->memory[1].size);
	d->memory[1].iova = d->memory[0].iova;
	noiommufd__seal(d);
	expect_eq(pwrite(fd, state, sizeof(state), 0), sizeof(state));
	expect_null(noiommufd_resume(s->files, s->num), EBADF);
	expect_said("memory.piece");
	memcpy(state, was, sizeof(was));
	d->nr_irqs++;
	noiommufd__seal(d);
	expect_eq(pwrite(fd, state, sizeof(state), 0), sizeof(state));
	expect_null(noiommufd_resume(s->files, s->num), ENOENT);
	expect_said("irq1");
	expect_ok(ftruncate(fd, 65536 + 100));
	expect_null(noiommufd_resume(s->files, s->num), EBADMSG);
	expect_eq(pwrite(fd, was, sizeof(was), 0), sizeof(was));
}

static void refused(void *arg)
{
	struct scene *s = arg;

	expect_null(noiommufd_resume(NULL, 1), EINVAL);
	expect_null(noiommufd_resume(s->files, 0), EINVAL);
	one_missing(s);
	other_files(s);
	changed_state(s);
	expect_charge(0);
	expect(may_do_dma());
}

TEST(refuses)
{
	struct scene *s = new_scene();

	start(s, first_driver);
	end(s);
	in_child(refused, s);
	expect_eq(pins(), s->pins + SIZE / PAGE);
	/* Nothing was closed, unmapped or destroyed. */
	start(s, second_driver);
}

static void twice(void *arg)
{
	struct scene *s = arg;
	struct noiommufd_device *dev = noiommufd_resume(s->files, s->num);

	expect(dev);
	expect_null(noiommufd_resume(s->files, s->num), EBUSY);
	expect_said("has this device still");
	work(s);
}

static void second_successor(void *arg)
{
	struct scene *s = arg;

	expect_null(noiommufd_resume(s->files, s->num), EBUSY);
	expect_charge(0);
}

TEST(one_successor_at_a_time)
{
	struct scene *s = new_scene();

	start(s, first_driver);
	in_child(second_successor, s);
	end(s);
	start(s, twice);
	in_child(second_successor, s);
	end(s);
	start(s, second_driver);
}

/* One allocation after the other fails. */

static int open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	expect(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void short_of_memory(void *arg)
{
	int files = open_files(), n;
	struct scene *s = arg;

	for (n = 1; ; n++) {
		struct noiommufd_device *dev;

		until_failure = n;
		dev = noiommufd_resume(s->files, s->num);
		if (dev)
			break;
		expect_eq(errno, ENOMEM);
		expect_eq(open_files(), files);
		expect_charge(0);
	}
	until_failure = 0;
	expect(n > 8);
	/* Copies of the files, and the one that has the lock */
	expect_eq(open_files(), files + s->num + 1);
	expect_charge(SIZE);
}

TEST(out_of_memory)
{
	struct scene *s = new_scene();

	start(s, first_driver);
	end(s);
	in_child(short_of_memory, s);
}

/* Memory that is a process's own */

TEST(anonymous_memory)
{
	struct noiommufd_file files[MAX_FILES];
	struct noiommufd_device *dev;
	struct noiommufd_dma *dma, *piece, *big;
	struct noiommufd_ioas *ioas;

	driver_bind(edu());
	dev = set_up(&piece, &big);
	ioas = noiommufd_device_ioas(dev);
	dma = noiommufd_alloc(ioas, PAGE, NULL);
	expect_errno(noiommufd_save(dev, files, MAX_FILES), EOPNOTSUPP);
	expect_said("use noiommufd_alloc_labelled()");
	noiommufd_free(dma);
	dma = noiommufd_map(ioas, mem(PAGE), PAGE, NOIOMMUFD_IOVA_IS_PA);
	expect(dma);
	expect_errno(noiommufd_save(dev, files, MAX_FILES), EOPNOTSUPP);
	noiommufd_free(dma);
	expect_eq(noiommufd_save(dev, NULL, 0), 6);
	expect_eq(noiommufd_save(dev, files, 1), 6);
	expect(!strcmp(files[0].name, "iommufd"));
	expect_ok(noiommufd_irq_enable(dev, NOIOMMUFD_MSI, 0));
	expect_eq(noiommufd_save(dev, files, MAX_FILES), 5);
	expect(!strcmp(files[4].name, "state"));
	noiommufd_close(dev);
	noiommufd_free(piece);
	noiommufd_free(big);
}

static void child_of_fork(void *arg)
{
	struct noiommufd_dma *dma = arg;
	unsigned char there;

	/* It would share what the device writes. */
	expect_errno(mincore(noiommufd_va(dma), PAGE, &there), ENOMEM);
	/* Neither unmaps nor hangs */
	noiommufd_free(dma);
}

TEST(labels)
{
	static const char * const bad[] = {
		"", "a b", "a:b", "a/b", "a\n", "0123456789012345678901234567890x",
	};
	struct noiommufd_dma *piece, *big;
	struct noiommufd_device *dev;
	struct noiommufd_ioas *ioas;
	long long before = pins();
	size_t i;

	driver_bind(edu());
	dev = set_up(&piece, &big);
	ioas = noiommufd_device_ioas(dev);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		expect_null(noiommufd_alloc_labelled(ioas, bad[i], PAGE), EINVAL);
	expect_null(noiommufd_alloc_labelled(NULL, "a", PAGE), EINVAL);
	expect_null(noiommufd_alloc_labelled(ioas, NULL, PAGE), EINVAL);
	expect_null(noiommufd_alloc_labelled(ioas, "a", 0), EINVAL);
	expect_null(noiommufd_alloc_labelled(ioas, "a", SIZE_MAX), ENOMEM);
	expect_null(noiommufd_alloc_labelled(ioas, "piece", PAGE), EEXIST);
	expect_null(noiommufd_labelled(ioas, NULL), EINVAL);
	expect_null(noiommufd_labelled(NULL, "a"), EINVAL);
	expect_errno(noiommufd_save(NULL, NULL, 0), EINVAL);
	expect_errno(noiommufd_save(dev, NULL, 1), EINVAL);
	in_child(child_of_fork, piece);
	expect(noiommufd_labelled(ioas, "piece") == piece);
	noiommufd_free(piece);
	piece = noiommufd_alloc_labelled(ioas, "0123456789012345678901234567890", PAGE);
	expect(piece);
	expect_ok(noiommufd_detach(dev));
	expect_errno(noiommufd_save(dev, NULL, 0), EINVAL);
	noiommufd_free(piece);
	noiommufd_free(big);
	noiommufd_close(dev);
	expect_pins(before);
}

/* Killed between a description and the file that it names, or while it writes one */

static void does_not_give(void *arg)
{
	struct noiommufd_dma *piece, *big;
	struct scene *s = arg;
	struct noiommufd_device *dev = set_up(&piece, &big);

	hand_over(s, dev);
	expect(noiommufd_alloc_labelled(noiommufd_device_ioas(dev), "late", PAGE));
	expect_eq(noiommufd_save(dev, NULL, 0), 7);
	work(s);
}

static void without_it(void *arg)
{
	struct scene *s = arg;
	struct noiommufd_device *dev = resumed(s);
	struct noiommufd_ioas *ioas = noiommufd_device_ioas(dev);

	expect_null(noiommufd_labelled(ioas, "late"), ENOENT);
	expect(noiommufd_alloc_labelled(ioas, "later", PAGE));
	/* The holder gets the old ones a second time, which does no harm. */
	hand_over(s, dev);
	work(s);
}

static void with_it(void *arg)
{
	struct scene *s = arg;
	struct noiommufd_ioas *ioas = noiommufd_device_ioas(resumed(s));

	expect(noiommufd_labelled(ioas, "later"));
	expect(noiommufd_labelled(ioas, "piece"));
	expect_null(noiommufd_labelled(ioas, "late"), ENOENT);
}

TEST(killed_in_between)
{
	struct scene *s = new_scene();
	char zero[100] = { 0 };

	start(s, does_not_give);
	expect_eq(s->num, 6);
	end(s);
	start(s, without_it);
	end(s);
	/* In the middle of the next description, which goes to the other slot */
	expect_eq(pwrite(held(s, "state")->fd, zero, sizeof(zero), 65536), sizeof(zero));
	in_child(with_it, s);
}

/* examples/handover */

static unsigned long number_after(const char *text, const char *what)
{
	const char *at = strstr(text, what);

	if (!at)
		fail("expected \"%s\" in the output, got \"%s\"", what, text);
	return strtoul(at + strlen(what), NULL, 10);
}

static void run_example(char *output, size_t size, const char *kills)
{
	size_t length = 0;
	int out[2], status;
	ssize_t n;
	pid_t pid;

	expect_ok(pipe(out));
	fflush(NULL);
	pid = expect_ok(fork());
	if (!pid) {
		dup2(out[1], 1);
		dup2(out[1], 2);
		close(out[0]);
		close(out[1]);
		execl("/handover", "handover", "--kills", kills, SLOW, NULL);
		_exit(127);
	}
	close(out[1]);
	while ((n = read(out[0], output + length, size - 1 - length)) > 0)
		length += n;
	output[length] = '\0';
	expect_eq(waitpid(pid, &status, 0), pid);
	if (status)
		fail("examples/handover ended with %#x: %s", status, output);
}

TEST_LIMIT(example, 600)
{
	const char *kills = getenv("HANDOVERS") ?: "5";
	unsigned long n = strtoul(kills, NULL, 10), in_flight, completed, interrupts;
	static char output[65536];
	long long before = pins();

	driver_bind(SLOW);
	run_example(output, sizeof(output), kills);
	expect_eq(number_after(output, "Takeovers   "), n);
	in_flight = number_after(output, "Found       ");
	completed = number_after(output, "in flight, ");
	interrupts = number_after(output, "meanwhile, ");
	printf("# killed %lu times: %lu in flight, %lu completed meanwhile, %lu interrupts\n",
	       n, in_flight, completed, interrupts);
	fflush(stdout);
	/* Otherwise this proves too little. */
	expect(in_flight >= 16 * n && completed >= n && interrupts >= n);
	expect(strstr(output, "every block: all equal"));
	expect_pins(before);
}
