// SPDX-License-Identifier: GPL-2.0-only
/*
 * GET_PCI_HOT_RESET_INFO and PCI_HOT_RESET: who may reset a slot or a bus, who
 * may not, and what a reset leaves behind.
 *
 * It uses two pairs of devices: the functions of a card in a slot that can be
 * reset, and two devices behind a conventional bridge. All four are virtio, whose
 * status register keeps its value until a reset clears it. One test uses a card
 * behind a switch.
 */
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

#include <linux/pci_regs.h>

#include "harness.h"

#define BAR		VFIO_PCI_BAR4_REGION_INDEX
#define STATUS		0x14
#define ACKNOWLEDGE	1

#define FLAG_ID		VFIO_PCI_HOT_RESET_FLAG_DEV_ID
#define FLAG_OWNED	VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED
#define NOT_OWNED	((__u32)VFIO_PCI_DEVID_NOT_OWNED)
#define OWNED		((__u32)VFIO_PCI_DEVID_OWNED)

static const char * const pairs[][2] = {
	{ "0000:02:00.0", "0000:02:00.1" },
	{ "0000:03:01.0", "0000:03:02.0" },
};

struct fn {
	const char *bdf;
	int dev;
	__u32 devid;
	void *bar;
};

struct info {
	struct vfio_pci_hot_reset_info head;
	struct vfio_pci_dependent_device devices[4];
};

static int hot_reset(int dev)
{
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };

	return ioctl(dev, VFIO_DEVICE_PCI_HOT_RESET, &reset);
}

static int get_info(int dev, struct info *info)
{
	*info = (struct info){ .head.argsz = sizeof(*info) };
	return ioctl(dev, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info);
}

/* Bind it to @iommu, and leave a mark that a reset clears. */
static void fn_open(struct fn *fn, const char *bdf, int iommu)
{
	fn->bdf = bdf;
	fn->dev = cdev_open(bdf);
	expect_ok(dev_bind(fn->dev, iommu, &fn->devid));
	need_bus_reset(fn->dev, bdf);
	bus_master(fn->dev, true);
	fn->bar = region_mmap(fn->dev, BAR, PROT_READ | PROT_WRITE);
	mmio_write32(fn->bar, STATUS, ACKNOWLEDGE);
	expect_eq(mmio_read32(fn->bar, STATUS), ACKNOWLEDGE);
}

static void fn_close(struct fn *fn)
{
	struct vfio_region_info info;

	region_info(fn->dev, BAR, &info);
	munmap(fn->bar, info.size);
	close(fn->dev);
}

static __u16 pci_read(int dev, unsigned int at)
{
	struct vfio_region_info info;
	__u16 value;

	region_info(dev, VFIO_PCI_CONFIG_REGION_INDEX, &info);
	expect_eq(pread(dev, &value, 2, info.offset + at), 2);
	return value;
}

static void pci_write(int dev, unsigned int at, __u16 value)
{
	struct vfio_region_info info;

	region_info(dev, VFIO_PCI_CONFIG_REGION_INDEX, &info);
	expect_eq(pwrite(dev, &value, 2, info.offset + at), 2);
}

static unsigned int pci_capability(int dev, __u8 id)
{
	unsigned int at = pci_read(dev, 0x34) & 0xfc;

	while (at && (pci_read(dev, at) & 0xff) != id)
		at = pci_read(dev, at) >> 8 & 0xfc;
	return at;
}

/* The info has this device ("0000:02:00.1") with this id. */
static void expect_entry(const struct vfio_pci_dependent_device *entry,
			 const char *bdf, __u32 devid)
{
	char said[32];

	snprintf(said, sizeof(said), "%04x:%02x:%02x.%x", entry->segment,
		 entry->bus, entry->devfn >> 3, entry->devfn & 7);
	if (strcmp(said, bdf))
		fail("an affected device: expected %s, got %s", bdf, said);
	expect_eq(entry->group_id, devid);
}

static void expect_info(const struct fn *fn, const char * const pair[2],
			__u32 first, __u32 second)
{
	bool owned = first != NOT_OWNED && second != NOT_OWNED;
	struct info info;

	expect_ok(get_info(fn->dev, &info));
	expect_eq(info.head.count, 2);
	expect_entry(&info.devices[0], pair[0], first);
	expect_entry(&info.devices[1], pair[1], second);
	expect_eq(info.head.flags, FLAG_ID | (owned ? FLAG_OWNED : 0));
	expect_eq(info.head.argsz, sizeof(info));
}

static void expect_refused(const struct fn *fn)
{
	expect_errno(hot_reset(fn->dev), EINVAL);
	/* Nothing was reset. */
	expect_eq(mmio_read32(fn->bar, STATUS), ACKNOWLEDGE);
}

static void expect_reset(const struct fn *fn)
{
	expect_ok(hot_reset(fn->dev));
	expect_eq(mmio_read32(fn->bar, STATUS), 0);
	/* The program's settings in config space are restored. */
	expect_eq(pci_read(fn->dev, 4) & 6, 6);
	mmio_write32(fn->bar, STATUS, ACKNOWLEDGE);
}

static void pair_unbind(const char * const pair[2])
{
	int i;

	for (i = 0; i < 2; i++)
		if (driver_has(pair[i]))
			driver_unbind(pair[i]);
}

static void all_bound_to_one_context(const char * const pair[2])
{
	struct fn first, second;
	int iommu = iommu_open();
	__u32 ioas;

	fn_open(&first, pair[0], iommu);
	fn_open(&second, pair[1], iommu);
	expect_info(&first, pair, first.devid, second.devid);
	expect_info(&second, pair, first.devid, second.devid);
	expect_reset(&first);
	expect_eq(mmio_read32(second.bar, STATUS), 0);
	expect_eq(pci_read(second.dev, 4) & 6, 6);

	/* Attached or not makes no difference. */
	ioas = new_ioas(iommu);
	attach(second.dev, ioas);
	expect_ok(ioas_map(iommu, ioas, mem(PAGE), PAGE, 0));
	expect_reset(&second);
	expect_eq(mmio_read32(first.bar, STATUS), 0);
	expect(pa_of(iommu, ioas, 0) != 0);

	/* The context outlives its file. */
	close(iommu);
	mmio_write32(first.bar, STATUS, ACKNOWLEDGE);
	expect_reset(&second);
	expect_eq(mmio_read32(first.bar, STATUS), 0);

	/* Closing one leaves the other alone. */
	mmio_write32(first.bar, STATUS, ACKNOWLEDGE);
	fn_close(&second);
	expect_eq(mmio_read32(first.bar, STATUS), ACKNOWLEDGE);
	expect_eq(pci_read(first.dev, 4) & 6, 6);
	fn_close(&first);
}

TEST(all_bound_to_one_context)
{
	all_bound_to_one_context(pairs[0]);
	all_bound_to_one_context(pairs[1]);
}

static void sibling_bound_to_another(const char * const pair[2])
{
	struct fn first, second;

	fn_open(&first, pair[0], iommu_open());
	fn_open(&second, pair[1], iommu_open());
	/* Both have id 1 in their contexts. */
	expect_eq(first.devid, second.devid);
	expect_info(&first, pair, first.devid, NOT_OWNED);
	expect_info(&second, pair, NOT_OWNED, second.devid);
	expect_refused(&first);
	expect_refused(&second);
	expect_eq(mmio_read32(first.bar, STATUS), ACKNOWLEDGE);
	fn_close(&second);
	fn_close(&first);
}

TEST(sibling_bound_to_another_context)
{
	sibling_bound_to_another(pairs[0]);
	sibling_bound_to_another(pairs[1]);
}

static void sibling_open_nowhere(const char * const pair[2])
{
	int iommu = iommu_open(), waiting;
	struct fn first, second;
	__u32 devid;

	driver_bind(pair[1]);
	fn_open(&first, pair[0], iommu);
	expect_info(&first, pair, first.devid, OWNED);
	expect_reset(&first);

	/* An open file does not have the device before BIND. */
	waiting = cdev_open(pair[1]);
	expect_info(&first, pair, first.devid, OWNED);
	expect_reset(&first);
	expect_ok(dev_bind(waiting, iommu_open(), &devid));
	expect_info(&first, pair, first.devid, NOT_OWNED);
	expect_refused(&first);
	close(waiting);
	expect_reset(&first);

	/* It still works. */
	fn_open(&second, pair[1], iommu);
	expect_info(&first, pair, first.devid, second.devid);
	expect_reset(&second);
	fn_close(&second);
	fn_close(&first);
}

TEST(sibling_open_nowhere)
{
	skip_on_mainline("a device that nobody has open is owned by nobody");
	sibling_open_nowhere(pairs[0]);
	sibling_open_nowhere(pairs[1]);
}

static void sibling_without_driver(const char * const pair[2])
{
	int iommu = iommu_open();
	struct fn first, second;

	pair_unbind(pair);
	fn_open(&first, pair[0], iommu);
	expect_info(&first, pair, first.devid, NOT_OWNED);
	expect_refused(&first);
	/* The first one and the later one */
	fn_open(&second, pair[1], iommu);
	expect_reset(&first);
	fn_close(&second);
	driver_unbind(pair[1]);
	expect_refused(&first);
	fn_close(&first);
}

TEST(sibling_without_a_driver)
{
	sibling_without_driver(pairs[0]);
	sibling_without_driver(pairs[1]);
}

TEST(no_such_reset)
{
	struct vfio_pci_hot_reset one = { .argsz = sizeof(one), .count = 1 };
	int dev = cdev_open(edu());
	struct info info;
	__u32 devid;

	expect_errno(get_info(dev, &info), EINVAL);
	expect_errno(hot_reset(dev), EINVAL);
	expect_ok(dev_bind(dev, iommu_open(), &devid));
	/* On the root bus */
	expect_errno(get_info(dev, &info), ENODEV);
	expect_errno(hot_reset(dev), ENODEV);
	expect_errno(ioctl(dev, VFIO_DEVICE_PCI_HOT_RESET, &one), EINVAL);
}

TEST(info_sizes)
{
	static const __u32 too_small[] = { 0, 1, 8, 11 };
	static const __u32 no_room[] = { 12, 13, 19, 20, 27 };
	static const __u32 enough[] = { 28, 29, 4096, U32_MAX };
	struct fn first, second;
	int iommu = iommu_open();
	struct info info;
	unsigned int i;
	char *end;

	fn_open(&first, pairs[0][0], iommu);
	fn_open(&second, pairs[0][1], iommu);
	for (i = 0; i < ARRAY_SIZE(too_small); i++) {
		info.head.argsz = too_small[i];
		expect_errno(ioctl(first.dev,
				   VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info),
			     EINVAL);
	}
	for (i = 0; i < ARRAY_SIZE(no_room); i++) {
		memset(&info, 0xee, sizeof(info));
		info.head.argsz = no_room[i];
		expect_errno(ioctl(first.dev,
				   VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info),
			     ENOSPC);
		/* Now the count is known. */
		expect_eq(info.head.count, 2);
		expect_eq(info.head.flags, 0);
		expect_eq(info.devices[0].group_id, 0xeeeeeeee);
	}
	for (i = 0; i < ARRAY_SIZE(enough); i++) {
		memset(&info, 0xee, sizeof(info));
		info.head.argsz = enough[i];
		expect_ok(ioctl(first.dev, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
				&info));
		expect_eq(info.head.count, 2);
		expect_eq(info.head.argsz, enough[i]);
		expect_eq(info.devices[2].group_id, 0xeeeeeeee);
	}

	expect_errno(ioctl(first.dev, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, NULL),
		     EFAULT);
	/* Half of the header, and half of the answer, in a hole */
	end = mem(2 * PAGE);
	munmap(end + PAGE, PAGE);
	end += PAGE;
	*(__u32 *)(end - 8) = 28;
	expect_errno(ioctl(first.dev, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
			   end - 8), EFAULT);
	*(__u32 *)(end - 20) = 28;
	expect_errno(ioctl(first.dev, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
			   end - 20), EFAULT);
	*(__u32 *)(end - 12) = 12;
	expect_errno(ioctl(first.dev, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
			   end - 12), ENOSPC);
	fn_close(&second);
	fn_close(&first);
}

/* The array of fds is for groups: EINVAL if it has any. */
TEST(bad_input)
{
	struct {
		struct vfio_pci_hot_reset head;
		__s32 fds[4];
	} reset;
	static const __u32 counts[] = {
		1, 2, 3, 4, 5, 1000, 0x3fffffff, 0x40000000, 0x7fffffff,
		0x80000000, U32_MAX - 1, U32_MAX,
	};
	static const __u32 sizes[] = { 0, 4, 11 };
	struct fn first, second;
	int iommu = iommu_open();
	unsigned int i, j;

	fn_open(&first, pairs[0][0], iommu);
	fn_open(&second, pairs[0][1], iommu);
	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		const __s32 fds[] = {
			-1, 1000, first.dev, second.dev, iommu, 1,
			open("/dev/null", O_RDWR), open("/dev", O_PATH),
			INT32_MIN, INT32_MAX,
		};

		for (j = 0; j < ARRAY_SIZE(fds); j++) {
			reset.head = (struct vfio_pci_hot_reset){
				.argsz = j & 1 ? sizeof(reset) : U32_MAX,
				.count = counts[i],
			};
			reset.fds[0] = fds[j];
			reset.fds[1] = first.dev;
			reset.fds[2] = second.dev;
			reset.fds[3] = fds[j];
			expect_errno(ioctl(first.dev, VFIO_DEVICE_PCI_HOT_RESET,
					   &reset), EINVAL);
		}
		close(fds[6]);
		close(fds[7]);
	}
	for (i = 0; i < 32; i++) {
		reset.head = (struct vfio_pci_hot_reset){
			.argsz = sizeof(reset), .flags = 1U << i,
		};
		expect_errno(ioctl(first.dev, VFIO_DEVICE_PCI_HOT_RESET,
				   &reset), EINVAL);
	}
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		reset.head = (struct vfio_pci_hot_reset){ .argsz = sizes[i] };
		expect_errno(ioctl(first.dev, VFIO_DEVICE_PCI_HOT_RESET,
				   &reset), EINVAL);
	}
	expect_errno(ioctl(first.dev, VFIO_DEVICE_PCI_HOT_RESET, NULL), EFAULT);
	expect_eq(mmio_read32(first.bar, STATUS), ACKNOWLEDGE);
	expect_eq(mmio_read32(second.bar, STATUS), ACKNOWLEDGE);

	reset.head = (struct vfio_pci_hot_reset){ .argsz = U32_MAX };
	expect_ok(ioctl(first.dev, VFIO_DEVICE_PCI_HOT_RESET, &reset));
	expect_eq(mmio_read32(first.bar, STATUS), 0);
	fn_close(&second);
	fn_close(&first);
}

/* A program may have put one to sleep; it is awake afterwards. */
TEST(sleeping_sibling)
{
	int iommu = iommu_open();
	struct fn first, second;
	unsigned int pm;

	fn_open(&first, pairs[0][0], iommu);
	fn_open(&second, pairs[0][1], iommu);
	pm = pci_capability(second.dev, 1);
	if (!pm)
		test_skip("the device has no power management");
	pci_write(second.dev, pm + 4,
		  (pci_read(second.dev, pm + 4) & ~3) | 3);
	expect_eq(pci_read(second.dev, pm + 4) & 3, 3);
	expect_reset(&first);
	expect_eq(pci_read(second.dev, pm + 4) & 3, 0);
	expect_eq(pci_read(second.dev, 4) & 6, 6);
	expect_eq(mmio_read32(second.bar, STATUS), 0);
	fn_close(&second);
	fn_close(&first);
}

/* BARs across resets */

static sigjmp_buf bus_error;

static void on_bus_error(int sig)
{
	(void)sig;
	siglongjmp(bus_error, 1);
}

struct reader {
	struct fn fn;
	unsigned long reads;
	bool stop;
};

static void read_bar(void *arg)
{
	struct reader *reader = arg;
	/* Debian's 6.1 loses track of a mapping that fork() copied. */
	void *bar = region_mmap(reader->fn.dev, BAR, PROT_READ);
	__u32 value;

	signal(SIGBUS, on_bus_error);
	if (sigsetjmp(bus_error, 1))
		fail("a BAR beside hot resets: expected to read it, got SIGBUS");
	while (!flag(&reader->stop)) {
		value = mmio_read32(bar, STATUS);
		if (value > ACKNOWLEDGE)
			fail("a BAR beside hot resets: expected what is there, got 0x%x",
			     value);
		__atomic_add_fetch(&reader->reads, 1, __ATOMIC_RELAXED);
	}
}

/* Wait until it has read once more; if it has failed, the test fails. */
static void wait_for_read(const struct reader *reader, pid_t pid)
{
	const unsigned long before =
		__atomic_load_n(&reader->reads, __ATOMIC_RELAXED);
	siginfo_t gone = { };

	while (__atomic_load_n(&reader->reads, __ATOMIC_RELAXED) == before) {
		expect_ok(waitid(P_PID, pid, &gone, WEXITED | WNOHANG | WNOWAIT));
		if (gone.si_pid)
			join(pid);
		sleep_ms(1);
	}
}

/*
 * EBUSY means that a page fault is in progress, as it is most of the time for a
 * reader on a slow kernel.
 */
static unsigned int reset_many(int dev, unsigned int times)
{
	double end = now() + 10 * slow();
	unsigned int i, done = 0;

	for (i = 0; i < times || (!done && now() < end); i++) {
		if (!hot_reset(dev))
			done++;
		else if (errno != EBUSY && errno != EAGAIN)
			fail("PCI_HOT_RESET beside others: expected success or EBUSY, got %s",
			     strerrorname_np(errno));
	}
	return done;
}

TEST(others_read_the_bar_meanwhile)
{
	struct reader *reader = mem_flags(PAGE, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS);
	int iommu = iommu_open(), i;
	struct fn first;
	pid_t pid;

	for (i = 0; i < 2; i++) {
		fn_open(&first, pairs[i][0], iommu);
		fn_open(&reader->fn, pairs[i][1], iommu);
		reader->stop = false;
		pid = spawn(read_bar, reader);
		wait_for_read(reader, pid);
		expect(reset_many(first.dev, 20) > 0);
		wait_for_read(reader, pid);
		set_flag(&reader->stop);
		join(pid);
		fn_close(&reader->fn);
		fn_close(&first);
	}
}

/*
 * A card that is present but does not answer: the port above it gets another bus
 * number. The kernel waits up to a minute for the end of its reset, which the last
 * close does, and its other function is not available meanwhile. A process that
 * waits for that can be killed. A switch is in between, because the kernel blocks
 * access to config space of the nearest bridge during a reset.
 */
#define PORT		"/sys/bus/pci/devices/0000:00:0d.0/config"

static const char * const behind_switch[] = { "0000:07:00.0", "0000:07:00.1" };

struct closer {
	int iommu;
	bool bound, mute, closing, closed;
};

static void close_slowly(void *arg)
{
	struct closer *closer = arg;
	int dev = cdev_open(behind_switch[0]);
	__u32 devid;

	expect_ok(dev_bind(dev, closer->iommu, &devid));
	set_flag(&closer->bound);
	while (!flag(&closer->mute))
		sleep_ms(1);
	set_flag(&closer->closing);
	close(dev);
	set_flag(&closer->closed);
}

static void wait_flag(const bool *what)
{
	while (!flag(what))
		sleep_ms(1);
}

struct waiter {
	int dev, iommu;
};

static void wait_bind(void *arg)
{
	struct waiter *waiter = arg;
	__u32 devid;

	dev_bind(waiter->dev, waiter->iommu, &devid);
}

static void wait_hot_reset(void *arg)
{
	struct waiter *waiter = arg;

	hot_reset(waiter->dev);
}

static void wait_info(void *arg)
{
	struct waiter *waiter = arg;
	struct info info;

	get_info(waiter->dev, &info);
}

/* Does it wait, and does it end at once when it is killed? */
static bool waits_and_dies(void (*fn)(void *arg), struct waiter *waiter)
{
	double end = now() + slow();
	pid_t pid = spawn(fn, waiter);
	int status;

	sleep_ms(200 * slow());
	expect_eq(waitpid(pid, &status, WNOHANG), 0);
	expect_ok(kill(pid, SIGKILL));
	while (!waitpid(pid, &status, WNOHANG)) {
		if (now() > end)
			return false;
		sleep_ms(1);
	}
	return true;
}

TEST(who_waits_for_a_close_can_be_killed)
{
	static const struct {
		const char *name;
		void (*fn)(void *arg);
		bool bound;
	} calls[] = {
		{ "BIND", wait_bind, false },
		{ "PCI_HOT_RESET", wait_hot_reset, true },
		{ "GET_PCI_HOT_RESET_INFO", wait_info, true },
	};
	struct closer *closer = mem_flags(PAGE, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS);
	int iommu = iommu_open(), port = open(PORT, O_RDWR);
	struct waiter waiter = { .iommu = iommu };
	unsigned long long mark;
	__u8 bus, none = 0xff;
	unsigned int i;
	__u32 devid;
	pid_t pid;
	bool ok;

	skip_on_mainline("nobody who waits there can be killed");
	if (port < 0)
		test_skip("the guest has no " PORT);
	driver_bind(behind_switch[0]);
	expect_eq(pread(port, &bus, 1, PCI_SECONDARY_BUS), 1);
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		*closer = (struct closer){ .iommu = iommu };
		waiter.dev = cdev_open(behind_switch[1]);
		if (calls[i].bound)
			expect_ok(dev_bind(waiter.dev, iommu, &devid));
		pid = spawn(close_slowly, closer);
		wait_flag(&closer->bound);
		mark = kmsg_mark();
		expect_eq(pwrite(port, &none, 1, PCI_SECONDARY_BUS), 1);
		set_flag(&closer->mute);
		wait_flag(&closer->closing);
		sleep_ms(100 * slow());
		/*
		 * From 7.3 on, the kernel does not reset a function that does
		 * not answer. The bus of both is not reset while the other one
		 * is bound.
		 */
		if (calls[i].bound &&
		    kmsg_count(mark, 7, behind_switch[0], "unable to FLR")) {
			wait_flag(&closer->closed);
			ok = true;
		} else {
			ok = waits_and_dies(calls[i].fn, &waiter);
			expect(!flag(&closer->closed));
		}
		expect_eq(pwrite(port, &bus, 1, PCI_SECONDARY_BUS), 1);
		join(pid);
		if (!ok)
			fail("%s: expected it to end when killed, got its end with the close",
			     calls[i].name);
		/* What it had started is undone. */
		if (!calls[i].bound)
			expect_ok(dev_bind(waiter.dev, iommu, &devid));
		expect_ok(hot_reset(waiter.dev));
		close(waiter.dev);
	}
}

/* Everything that can happen at the same time */

struct race {
	struct fn fn[2];
	int iommu;
	__u32 ioas;
};

#define ROUNDS	15

static void race_attach(void *arg)
{
	struct race *race = arg;
	int i;

	for (i = 0; i < 4 * ROUNDS; i++) {
		attach(race->fn[0].dev, race->ioas);
		expect_ok(dev_detach(race->fn[0].dev));
	}
}

static void race_reset(void *arg)
{
	struct race *race = arg;

	reset_many(race->fn[0].dev, ROUNDS);
}

static void race_function_reset(void *arg)
{
	struct race *race = arg;
	int i;

	for (i = 0; i < ROUNDS; i++)
		if (ioctl(race->fn[1].dev, VFIO_DEVICE_RESET) &&
		    errno != EAGAIN)
			fail("RESET beside others: expected success or EAGAIN, got %s",
			     strerrorname_np(errno));
}

static void race_info(void *arg)
{
	struct race *race = arg;
	struct info info;
	int i;

	for (i = 0; i < 4 * ROUNDS; i++) {
		expect_ok(get_info(race->fn[1].dev, &info));
		expect_eq(info.head.flags, FLAG_ID | FLAG_OWNED);
	}
}

static void race_open(void *arg)
{
	struct race *race = arg;
	__u32 devid;
	int i, dev;

	for (i = 0; i < 4 * ROUNDS; i++) {
		dev = cdev_open(race->fn[0].bdf);
		expect_errno(dev_bind(dev, race->iommu, &devid), EINVAL);
		close(dev);
	}
}

TEST(beside_other_calls)
{
	static void (* const fns[])(void *arg) = {
		race_attach, race_reset, race_function_reset, race_info,
		race_open,
	};
	pid_t pids[ARRAY_SIZE(fns)];
	struct race race;
	unsigned int i;

	race.iommu = iommu_open();
	race.ioas = new_ioas(race.iommu);
	fn_open(&race.fn[0], pairs[0][0], race.iommu);
	fn_open(&race.fn[1], pairs[0][1], race.iommu);
	expect_ok(ioas_map(race.iommu, race.ioas, mem(16 * PAGE), 16 * PAGE,
			   0));
	for (i = 0; i < ARRAY_SIZE(fns); i++)
		pids[i] = spawn(fns[i], &race);
	for (i = 0; i < ARRAY_SIZE(fns); i++)
		join(pids[i]);
	expect_reset(&race.fn[0]);
	fn_close(&race.fn[0]);
	fn_close(&race.fn[1]);
}

static void open_and_close(void *arg)
{
	const char *bdf = arg;
	struct fn fn;
	int i;

	for (i = 0; i < 8; i++) {
		fn_open(&fn, bdf, iommu_open());
		fn_close(&fn);
	}
}

/* Owned by no context, then by another one, again and again */
TEST(beside_a_sibling_that_comes_and_goes)
{
	struct fn first;
	int status;
	pid_t pid;

	skip_on_mainline("a device that nobody has open is owned by nobody");
	fn_open(&first, pairs[0][0], iommu_open());
	pid = spawn(open_and_close, (void *)pairs[0][1]);
	while (!waitpid(pid, &status, WNOHANG)) {
		if (!hot_reset(first.dev))
			continue;
		if (errno != EINVAL && errno != EBUSY && errno != EAGAIN)
			fail("PCI_HOT_RESET beside BIND: expected success, EINVAL or EBUSY, got %s",
			     strerrorname_np(errno));
	}
	if (WIFEXITED(status) && WEXITSTATUS(status))
		_exit(WEXITSTATUS(status));
	expect_eq(status, 0);
	mmio_write32(first.bar, STATUS, ACKNOWLEDGE);
	expect_reset(&first);
	fn_close(&first);
}
