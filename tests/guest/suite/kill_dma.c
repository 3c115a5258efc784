// SPDX-License-Identifier: GPL-2.0-only
/*
 * Killing the process in the middle of DMA: what happens to its memory?
 *
 * A process has reads outstanding at an NVMe controller whose backing file is
 * throttled, so that they take seconds, and is killed. From the moment that its
 * pages are unpinned, nothing may be written to them any more: neither to those
 * that another process has mapped, nor to those that went to other owners.
 *
 * Environment: KILLS is the number of kills in again_and_again (default 8).
 *
 * The controller is QEMU's at 00:07.0, "throttling.bps-total=1048576". It maps
 * memory for DMA when it takes a command and writes to it seconds later, even if
 * bus mastering is off by then; a reset completes all commands before it returns.
 * So the test shows whether the reset comes before the unpinning. It does not show
 * what turning bus mastering off does to commands in flight.
 */
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "../../../examples/nvme_ctrl.h"
#include "harness.h"

#define SLOW		"0000:00:07.0"
#define SYSFS		"/sys/bus/pci/devices/" SLOW

/*
 * Commands are executed in order. The first half read into memory that we share,
 * the others into that again or into memory of the victim alone.
 */
#define COMMANDS	62
#define HALF		(COMMANDS / 2)
#define DATA_PAGES	16ULL
#define GROUP_PAGES	(DATA_PAGES + 2)	/* a canary on each side */

#define SHARED_BYTES	(HALF * GROUP_PAGES * PAGE)
#define OWN_WRITTEN	(HALF * DATA_PAGES)
/* Pages freed last are reused first, for page tables and the like: add some. */
#define OWN_PAGES	(OWN_WRITTEN + 32)
/* Queues, PRP lists and data; each page is charged once. */
#define CHARGE \
	((NVME_QUEUE_PAGES + COMMANDS + OWN_PAGES) * PAGE + SHARED_BYTES)

#define PCI_COMMAND	4
#define PCI_MEMORY	2
#define PCI_MASTER	4
#define NVME_CC		0x14
#define CC_EN		1
#define NVME_CSTS	0x1c
#define CSTS_RDY	1

/* What happens to the victim before it is killed */
enum ending {
	KILLED,
	KILLED_DETACHED,		/* from its address space */
	KILLED_WITHOUT_IOMMUFD,		/* which it has closed */
	KILLED_IN_UNBIND,		/* while the driver is being unbound */
	NR_ENDINGS,
};

/* Shared with the victim */
struct stage {
	pid_t victim;
	int submitted;
	int map_more;			/* errno of one page too many */
	double took;			/* when undisturbed */
	__u64 own_pa[OWN_PAGES];
};

struct scene {
	bool own;			/* the device writes to own memory */
	enum ending ending;
	struct stage *stage;
	void *queues;			/* shared: NVME_QUEUE_PAGES */
	unsigned char *data;		/* shared: HALF groups */
	unsigned char *spacers;		/* shared: OWN_PAGES */
	void *before;			/* what data was */
	long long pins;
	double killed;
};

static void *shared_mem(size_t size)
{
	return mem_flags(size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE);
}

static unsigned int completions(const struct scene *s)
{
	const struct nvme_cqe *cq = s->queues + NVME_PAGE_IO_CQ * PAGE;
	unsigned int n = 0;

	while (n < COMMANDS &&
	       __atomic_load_n(&cq[n].status, __ATOMIC_ACQUIRE) & 1)
		n++;
	return n;
}

/* Restore the start; the spacers will lie between other pages now. */
static void scene_rewind(struct scene *s)
{
	s->stage->submitted = 0;
	s->stage->map_more = 0;
	memset(s->queues, 0, NVME_QUEUE_PAGES * PAGE);
	memcpy(s->data, s->before, SHARED_BYTES);
	if (s->spacers)
		munmap(s->spacers, OWN_PAGES * PAGE);
	s->spacers = mem_flags(OWN_PAGES * PAGE, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS);
}

static void scene_init(struct scene *s, bool own)
{
	driver_bind(SLOW);
	*s = (struct scene){
		.own = own,
		.stage = shared_mem(sizeof(struct stage)),
		.queues = shared_mem(NVME_QUEUE_PAGES * PAGE),
		.data = shared_mem(SHARED_BYTES),
		.before = mem(SHARED_BYTES),
		.pins = pins(),
	};
	mem_fill(s->before, SHARED_BYTES, 1);
	scene_rewind(s);
}

/*
 * Memory of the victim alone, with a shared page between any two of its pages in
 * physical memory, because pages are allocated in the order in which they are
 * touched. The spacers are canaries, and keep the freed pages single, so that they
 * are the next to be allocated.
 */
static void *spaced_mem(const struct scene *s)
{
	unsigned char *own = mem_flags(OWN_PAGES * PAGE, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS);
	size_t i;

	madvise(own, OWN_PAGES * PAGE, MADV_NOHUGEPAGE);
	for (i = 0; i < OWN_PAGES; i++) {
		mem_fill(own + i * PAGE, PAGE, i);
		mem_fill(s->spacers + i * PAGE, PAGE, i);
	}
	return own;
}

/* Submit all reads, under a limit that is exact to the page. */
static void submit_all(struct scene *s, struct nvme *ctrl)
{
	struct noiommufd_dma *shared, *private;
	struct stage *stage = s->stage;
	unsigned int i;
	__u64 iova = 0;
	char *own;

	drop_cap(CAP_IPC_LOCK);
	set_memlock(CHARGE);
	own = spaced_mem(s);

	if (nvme_open(ctrl, SLOW, s->queues))
		fail("expected the throttled NVMe controller at " SLOW ", got an error");
	if (strcmp(ctrl->serial, "noiommufd-slow"))
		fail("expected serial noiommufd-slow at " SLOW ", got %s",
		     ctrl->serial);
	if (nvme_start_io(ctrl, COMMANDS, DATA_PAGES * PAGE))
		fail("expected queues, got an error");
	shared = noiommufd_map(ctrl->ioas, s->data, SHARED_BYTES, 0);
	private = noiommufd_map(ctrl->ioas, own, OWN_PAGES * PAGE, 0);
	if (!shared || !private)
		fail("expected %llu bytes of memory, got an error", CHARGE);
	expect_eq(noiommufd_pages(private, own, OWN_PAGES * PAGE, PAGE,
				  stage->own_pa, OWN_PAGES), OWN_PAGES);
	expect_eq(ctrl->depth, COMMANDS);
	expect_eq(ctrl->max_transfer, DATA_PAGES * PAGE);

	if (ioas_map_flags(noiommufd_ioas_fd(ctrl->ioas),
			   noiommufd_ioas_id(ctrl->ioas), MAP_RW, own, PAGE,
			   &iova))
		stage->map_more = errno;

	for (i = 0; i < COMMANDS; i++) {
		bool to_own = i >= HALF && s->own;
		void *to = to_own ? own + i % HALF * DATA_PAGES * PAGE :
			   (char *)s->data + (i % HALF * GROUP_PAGES + 1) * PAGE;

		nvme_submit(ctrl, false, i, i * DATA_PAGES * PAGE,
			    DATA_PAGES * PAGE, to_own ? private : shared, to);
	}
	nvme_ring(ctrl);
}

static void victim(void *arg)
{
	struct scene *s = arg;
	struct nvme ctrl;

	submit_all(s, &ctrl);
	if (s->ending == KILLED_DETACHED)
		expect_ok(dev_detach(noiommufd_device_fd(ctrl.dev)));
	if (s->ending == KILLED_WITHOUT_IOMMUFD)
		close(noiommufd_ioas_fd(ctrl.ioas));
	__atomic_store_n(&s->stage->submitted, COMMANDS, __ATOMIC_RELEASE);
	for (;;)
		pause();
}

/* Start the victim, and wait until the controller works on the commands. */
static void scene_start(struct scene *s)
{
	int status;

	s->stage->victim = spawn(victim, s);
	while (!__atomic_load_n(&s->stage->submitted, __ATOMIC_ACQUIRE) ||
	       !completions(s)) {
		if (waitpid(s->stage->victim, &status, WNOHANG)) {
			if (WIFEXITED(status))
				_exit(WEXITSTATUS(status));
			fail("expected a process to kill, got it dead already");
		}
		sleep_ms(1);
	}
}

static void scene_kill(struct scene *s)
{
	unsigned int done = completions(s);

	expect_ok(kill(s->stage->victim, SIGKILL));
	s->killed = now();
	if (done > COMMANDS / 2)
		fail("expected most commands to be outstanding, got %u of %u completed",
		     done, COMMANDS);
}

/* Pages released so far; not folded, so that reading is quick. */
static long long released(void)
{
	return read_field("/proc/vmstat", "nr_foll_pin_released");
}

static __u16 pci_command(void)
{
	int fd = expect_ok(open(SYSFS "/config", O_RDWR | O_CLOEXEC));
	__u16 command;

	expect_eq(pread(fd, &command, 2, PCI_COMMAND), 2);
	close(fd);
	return command;
}

/*
 * The controller's configuration register, read without the driver of the closed
 * device; -1 while it is open.
 */
static long long controller_config(bool disable)
{
	int config = expect_ok(open(SYSFS "/config", O_RDWR | O_CLOEXEC));
	int fd = expect_ok(open(SYSFS "/resource0", O_RDWR | O_CLOEXEC));
	__u16 was = pci_command(), command = was | PCI_MEMORY;
	long long cc;
	void *bar;

	bar = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (bar == MAP_FAILED) {
		close(config);
		return -1;
	}
	expect_eq(pwrite(config, &command, 2, PCI_COMMAND), 2);
	cc = mmio_read32(bar, NVME_CC);
	if (disable && cc != U32_MAX) {
		mmio_write32(bar, NVME_CC, cc & ~CC_EN);
		while (mmio_read32(bar, NVME_CSTS) & CSTS_RDY)
			sleep_ms(1);
	}
	expect_eq(pwrite(config, &was, 2, PCI_COMMAND), 2);
	munmap(bar, PAGE);
	close(config);
	return cc;
}

/*
 * Run @fn, which kills, in a process of its own. If it finds that the device goes
 * on writing, our memory has to live until that ends.
 */
static void play(void (*fn)(void *scene), bool own)
{
	struct scene s[2];
	siginfo_t info;
	pid_t pid;
	int i;

	for (i = 0; i < 2; i++)
		scene_init(&s[i], own);
	pid = spawn(fn, s);
	expect_ok(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	for (i = 0; i < 2; i++)
		if (s[i].stage->victim)
			kill(s[i].stage->victim, SIGKILL);
	while (controller_config(true) < 0)
		sleep_ms(10);
	join(pid);
}

static void scene_reap(struct scene *s)
{
	int status;

	expect_eq(waitpid(s->stage->victim, &status, 0), s->stage->victim);
	s->stage->victim = 0;
}

static void expect_canaries(const struct scene *s)
{
	void *spacer = mem(PAGE);
	size_t i, at;

	for (i = 0; i < HALF; i++) {
		at = i * GROUP_PAGES * PAGE;
		if (memcmp(s->data + at, s->before + at, PAGE))
			fail("canary before buffer %zu: expected it intact, got it overwritten",
			     i);
		at += (GROUP_PAGES - 1) * PAGE;
		if (memcmp(s->data + at, s->before + at, PAGE))
			fail("canary after buffer %zu: expected it intact, got it overwritten",
			     i);
	}
	for (i = 0; i < OWN_PAGES; i++) {
		mem_fill(spacer, PAGE, i);
		if (memcmp(s->spacers + i * PAGE, spacer, PAGE))
			fail("canary beside page %zu: expected it intact, got it overwritten",
			     i);
	}
}

/* No page is released before the device has been made quiet. */
static void quiet_before_unpin(void *arg)
{
	struct scene *s = arg;
	long long start, cc;

	scene_start(s);
	expect(pins() - s->pins >= (long long)(CHARGE / PAGE));
	expect(pci_command() & PCI_MASTER);

	start = released();
	scene_kill(s);
	while (released() == start) {
		if (now() > s->killed + 30 * slow())
			fail("expected the pages to be released, got nothing in %u s",
			     30 * slow());
	}
	if (pci_command() & PCI_MASTER)
		fail("expected bus mastering off when the first pages are released, got it on");
	scene_reap(s);
	expect_pins(s->pins);

	cc = controller_config(false);
	expect(cc >= 0 && cc != U32_MAX);
	if (cc & CC_EN)
		fail("expected a controller that was reset, got it enabled");
}

TEST(quiet_before_unpin)
{
	play(quiet_before_unpin, false);
}

/* The limit suffices once, and only if no charge is left. */
static void pins_and_charge(void *arg)
{
	struct scene *s = arg;

	scene_start(s);
	expect_eq(s->stage->map_more, ENOMEM);
	scene_kill(s);
	scene_reap(s);
	expect_pins(s->pins);
}

TEST(pins_and_charge_return)
{
	play(pins_and_charge, false);
	play(pins_and_charge, false);
}

static int compare_pa(const void *a, const void *b)
{
	const __u64 x = *(const __u64 *)a, y = *(const __u64 *)b;

	return x < y ? -1 : x > y;
}

/* Memory is reclaimed in blocks. */
#define BLOCK_BYTES	(4 * MIB)
#define BLOCK_PAGES	(BLOCK_BYTES / PAGE)

/* A CPU reuses first what it freed last. */
static void stay_on_one_cpu(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	expect_ok(sched_setaffinity(0, sizeof(one), &one));
}

/* Number of pages of @va (BLOCK_BYTES) that are among the sorted @pa */
static unsigned int count_inherited(const void *va, const __u64 *pa)
{
	int fd = expect_ok(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	static __u64 entries[BLOCK_PAGES];
	unsigned int found = 0;
	size_t i;

	expect_eq(pread(fd, entries, sizeof(entries), (uintptr_t)va / PAGE * 8),
		  sizeof(entries));
	close(fd);
	for (i = 0; i < BLOCK_PAGES; i++) {
		__u64 page = (entries[i] & ((1ULL << 55) - 1)) * PAGE;

		found += !!bsearch(&page, pa, OWN_WRITTEN, sizeof(*pa),
				   compare_pa);
	}
	return found;
}

/* Undisturbed, the commands fill all of their memory, which takes a while. */
static void undisturbed(void *arg)
{
	struct scene *s = arg;
	__u16 cids[COMMANDS];
	unsigned int done = 0;
	struct nvme ctrl;
	double began = 0;
	int n;

	submit_all(s, &ctrl);
	while (done < COMMANDS) {
		n = nvme_wait(&ctrl, cids);
		expect(n >= 0);
		if (!done)
			began = now();
		done += n;
	}
	s->stage->took = now() - began;
	printf("# %u reads of %llu KiB take %.1f s\n", COMMANDS,
	       DATA_PAGES * PAGE / KIB, s->stage->took);
	fflush(stdout);
	nvme_close(&ctrl);
}

static void expect_written(const struct scene *s)
{
	size_t i, page;

	for (i = 0; i < HALF * GROUP_PAGES; i++) {
		page = i % GROUP_PAGES;
		if (page == 0 || page == GROUP_PAGES - 1)
			continue;
		if (!memcmp(s->data + i * PAGE, s->before + i * PAGE, PAGE))
			fail("page %zu: expected the device to write it, got nothing",
			     i);
	}
	expect_canaries(s);
}

/* The victim's memory, from the moment that its pages were unpinned */
struct watch {
	const struct scene *scene;
	void *then;			/* the shared memory */
	unsigned char *blocks[64];	/* its own pages, now ours, and others */
	unsigned int nr, inherited;
};

static void *pattern;

/* Before the memory to be watched is free */
static void watch_init(struct watch *w)
{
	*w = (struct watch){ .then = mem(SHARED_BYTES) };
	pattern = mem(BLOCK_BYTES);
	mem_fill(pattern, BLOCK_BYTES, 2);
}

/* Allocate memory until most of the victim's own pages are ours. */
static void watch_begin(struct watch *w, const struct scene *s)
{
	__u64 *pa = s->stage->own_pa;

	w->scene = s;
	w->nr = 0;
	w->inherited = 0;
	memcpy(w->then, s->data, SHARED_BYTES);

	qsort(pa, OWN_WRITTEN, sizeof(*pa), compare_pa);
	while (w->nr < ARRAY_SIZE(w->blocks) &&
	       w->inherited < OWN_WRITTEN * 9 / 10) {
		w->blocks[w->nr] = mem(BLOCK_BYTES);
		memcpy(w->blocks[w->nr], pattern, BLOCK_BYTES);
		w->inherited += count_inherited(w->blocks[w->nr++], pa);
	}
}

/* Every byte is unchanged. */
static void watch_end(struct watch *w)
{
	const struct scene *s = w->scene;
	unsigned int i;
	size_t at;

	for (at = 0; at < SHARED_BYTES; at += PAGE)
		if (memcmp(s->data + at, w->then + at, PAGE))
			fail("shared page %llu: expected no DMA after the unpinning, got some",
			     at / PAGE);
	expect_canaries(s);
	for (i = 0; i < w->nr; i++) {
		if (memcmp(w->blocks[i], pattern, BLOCK_BYTES))
			fail("memory of the dead, now ours: expected no DMA, got some");
		munmap(w->blocks[i], BLOCK_BYTES);
	}
}

static void wait_for_release(const struct scene *s)
{
	while (pins() != s->pins) {
		if (now() > s->killed + 30 * slow())
			fail("expected the pages to be released, got nothing in %u s",
			     30 * slow());
	}
}

static void memory_stays_intact(void *arg)
{
	struct scene *s = arg;
	struct watch w;
	double until;

	in_child(undisturbed, s);
	expect_written(s);
	scene_rewind(s);

	stay_on_one_cpu();
	watch_init(&w);
	scene_start(s);
	scene_kill(s);
	scene_reap(s);
	wait_for_release(s);
	watch_begin(&w, s);
	printf("# %u of %llu pages of the dead were ours %.1f s after the kill\n",
	       w.inherited, OWN_WRITTEN, now() - s->killed);
	fflush(stdout);

	until = s->killed + 1.5 * s->stage->took;
	while (now() < until)
		sleep_ms(100);
	watch_end(&w);
	/* Otherwise this proves too little. */
	expect(w.inherited >= OWN_WRITTEN / 2);
}

TEST_LIMIT(memory_stays_intact, 120)
{
	play(memory_stays_intact, true);
}

static void unbind(void *arg)
{
	(void)arg;
	driver_unbind(SLOW);
}

/*
 * One victim, from start to end. The next one takes the device at once, which makes
 * it complete what it may still have to do. The first thing that victim checks is
 * the memory of the previous one.
 */
static void live_and_die(struct scene *s, struct watch *before)
{
	pid_t unbinder = 0;
	long long start;
	char name[64];

	driver_bind(SLOW);
	/*
	 * The reads that the reset completed count against the throttle for
	 * seconds; setting it again clears that.
	 */
	expect(qemu("block_set_io_throttle slow 1048576 0 0 0 0 0"));
	scene_start(s);
	if (before->scene)
		watch_end(before);
	expect_eq(s->stage->map_more, ENOMEM);
	expect(pci_command() & PCI_MASTER);

	if (s->ending == KILLED_IN_UNBIND) {
		unbinder = spawn(unbind, NULL);
		while (cdev_name(SLOW, name, sizeof(name)))
			sleep_ms(1);
	}
	/* Detached, or with the context's file closed: still pinned */
	expect(pins() - s->pins >= (long long)(CHARGE / PAGE));
	start = released();
	scene_kill(s);
	while (released() == start)
		if (now() > s->killed + 30 * slow())
			fail("expected the pages to be released, got nothing in %u s",
			     30 * slow());
	if (pci_command() & PCI_MASTER)
		fail("expected bus mastering off when the first pages are released, got it on");
	scene_reap(s);
	wait_for_release(s);
	if (unbinder)
		join(unbinder);
	watch_begin(before, s);
}

static void again_and_again(void *arg)
{
	const char *kills = getenv("KILLS");
	unsigned int i, n = kills ? strtoul(kills, NULL, 10) : 8;
	unsigned long inherited = 0;
	struct scene *scenes = arg;
	struct watch before;
	double began = now();

	stay_on_one_cpu();
	watch_init(&before);
	for (i = 0; i < n; i++) {
		struct scene *s = &scenes[i % 2];

		scene_rewind(s);
		s->ending = i % NR_ENDINGS;
		s->pins = pins();
		live_and_die(s, &before);
		inherited += before.inherited;
	}
	/* The last victim needs a successor as well. */
	scene_rewind(&scenes[i % 2]);
	driver_bind(SLOW);
	scene_start(&scenes[i % 2]);
	watch_end(&before);
	printf("# killed %u times in %.1f s; %llu %% of the pages watched\n", n,
	       now() - began, inherited * 100 / (n * OWN_WRITTEN));
	fflush(stdout);
	expect(inherited >= n * OWN_WRITTEN / 2);
}

TEST_LIMIT(again_and_again, 900)
{
	play(again_and_again, true);
}
