// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device is removed, or has an error, while a program has it: driver unbind,
 * hot-unplug, PCIe errors, and ioctls during these.
 *
 * Removal has to wait for the last file. Meanwhile the program is asked to close
 * the device, it cannot be opened again, and open files keep working.
 */
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include <linux/pci_regs.h>

#include "harness.h"

#define KERN_NOTICE	5

/* The functions of a card in a slot, with advanced error reporting */
#define AER_FIRST	"0000:02:00.0"
#define AER_SECOND	"0000:02:00.1"
#define AER_ID		"first"		/* QEMU's name of the first */
#define AER_PORT	"0000:00:09.0"	/* what they are plugged into */

/* A device in use: DMA from one page to another, and its BAR mapped */
struct user {
	const char *bdf;
	char node[128];
	struct setup s;
	void *bar;
	char *va;
	int asked;			/* the eventfd for REQ */
	long long pins;
	unsigned long long log;
	pid_t remover;
};

static void set_eventfd(int dev, __u32 index, int fd)
{
	struct {
		struct vfio_irq_set head;
		__s32 fd;
	} set = {
		.head = {
			.argsz = sizeof(set), .index = index, .count = 1,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD |
				 VFIO_IRQ_SET_ACTION_TRIGGER,
		},
		.fd = fd,
	};

	expect_ok(ioctl(dev, VFIO_DEVICE_SET_IRQS, &set));
}

static bool signalled(int fd, int ms)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	__u64 value;

	if (poll(&ready, 1, ms) != 1)
		return false;
	expect_eq(read(fd, &value, sizeof(value)), sizeof(value));
	return true;
}

static void user_work(struct user *user, unsigned int seed)
{
	mem_fill(user->va, PAGE, seed);
	edu_read_from(user->bar, pa_of(user->s.iommu, user->s.ioas, 0),
		      EDU_DMA_MAX);
	edu_write_to(user->bar, pa_of(user->s.iommu, user->s.ioas, PAGE),
		     EDU_DMA_MAX);
	expect(!memcmp(user->va, user->va + PAGE, EDU_DMA_MAX));
}

static void user_begin(struct user *user, const char *bdf)
{
	*user = (struct user){ .bdf = bdf, .pins = pins() };
	cdev_path(bdf, user->node, sizeof(user->node));
	user->s.iommu = iommu_open();
	user->s.dev = cdev_open(bdf);
	expect_ok(dev_bind(user->s.dev, user->s.iommu, &user->s.devid));
	user->s.ioas = new_ioas(user->s.iommu);
	attach(user->s.dev, user->s.ioas);
	user->va = mem(4 * PAGE);
	expect_ok(ioas_map(user->s.iommu, user->s.ioas, user->va, 4 * PAGE, 0));
	bus_master(user->s.dev, true);
	user->bar = region_mmap(user->s.dev, VFIO_PCI_BAR0_REGION_INDEX,
				PROT_READ | PROT_WRITE);
	user->asked = expect_ok(eventfd(0, EFD_NONBLOCK));
	set_eventfd(user->s.dev, VFIO_PCI_REQ_IRQ_INDEX, user->asked);
	user_work(user, 1);
	expect(!signalled(user->asked, 0));
	user->log = kmsg_mark();
}

static void user_close(struct user *user)
{
	munmap(user->bar, MIB);
	close(user->s.dev);
	close(user->s.iommu);
}

/* Removal has begun and waits for us; the log says so. */
static void expect_removal_waits(struct user *user, unsigned int files)
{
	char line[64], who[64], name[64];

	if (!signalled(user->asked, 10000))
		fail("REQ: expected it within 10 s of the removal, got nothing");
	expect_errno(open(user->node, O_RDWR), ENOENT);
	expect(!cdev_name(user->bdf, name, sizeof(name)));
	/* Logged after REQ, by another process */
	snprintf(line, sizeof(line), "waits for %u open file", files);
	snprintf(who, sizeof(who), ": removal (pid %d) has one", getpid());
	sleep_ms(100);
	if (on_mainline())
		return;
	expect_eq(kmsg_count(user->log, KERN_NOTICE, user->bdf, line), 1);
	expect_eq(kmsg_count(user->log, KERN_NOTICE, line, who), 1);
}

/* Everything goes on as if nothing had happened. */
static void expect_works_on(struct user *user)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	char *more = mem(PAGE);

	expect_ok(ioctl(user->s.dev, VFIO_DEVICE_GET_INFO, &info));
	expect_ok(ioas_map(user->s.iommu, user->s.ioas, more, PAGE, MIB));
	expect_pas(&user->s, MIB, more, PAGE);
	expect_ok(ioas_unmap(user->s.iommu, user->s.ioas, MIB, PAGE, NULL));
	expect_ok(dev_detach(user->s.dev));
	attach(user->s.dev, user->s.ioas);
	expect_pas(&user->s, 0, user->va, 4 * PAGE);
	user_work(user, 2);
}

/* Start another program, which has none of our files. */
[[gnu::format(printf, 1, 2)]]
static pid_t spawn_command(const char *fmt, ...)
{
	char command[128];
	va_list args;
	pid_t pid;

	va_start(args, fmt);
	vsnprintf(command, sizeof(command), fmt, args);
	va_end(args);
	pid = expect_ok(fork());
	if (!pid) {
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	return pid;
}

static pid_t spawn_unbind(const char *bdf)
{
	return spawn_command("echo %s > /sys/bus/pci/devices/%s/driver/unbind",
			     bdf, bdf);
}

static void expect_waiting(pid_t pid)
{
	expect_eq(waitpid(pid, NULL, WNOHANG), 0);
}

TEST(unbind_while_open_mapped_and_at_work)
{
	double began;
	struct user user;

	user_begin(&user, edu());
	began = now();
	user.remover = spawn_unbind(edu());
	expect_removal_waits(&user, 1);
	expect_works_on(&user);
	/* It is asked again, every ten seconds. */
	while (now() - began < 9) {
		expect(!signalled(user.asked, 0));
		user_work(&user, 3);
	}
	if (!signalled(user.asked, 5000))
		fail("REQ: expected it again after 10 s, got nothing");
	expect_waiting(user.remover);
	expect_pins(user.pins + 4);

	user_close(&user);
	join(user.remover);
	expect_pins(user.pins);
	expect(!driver_has(edu()));
	driver_bind(edu());
	user_begin(&user, edu());
	user_close(&user);
}

/* Removal waits for each of these. */

TEST(unbind_waits_for_an_unbound_file)
{
	int dev = cdev_open(edu()), iommu = iommu_open();
	__u32 devid;
	pid_t pid;

	pid = spawn_unbind(edu());
	sleep_ms(200);
	expect_waiting(pid);
	/* An open file may still be bound. */
	expect_ok(dev_bind(dev, iommu, &devid));
	sleep_ms(50);
	expect_waiting(pid);
	close(dev);
	join(pid);
}

TEST(unbind_waits_for_a_mapping_and_a_duplicate)
{
	struct user user;
	int again;

	user_begin(&user, edu());
	again = cdev_open(edu());
	user.remover = spawn_unbind(edu());
	expect_removal_waits(&user, 2);
	close(again);
	again = expect_ok(dup(user.s.dev));
	close(user.s.dev);
	close(user.s.iommu);
	sleep_ms(50);
	expect_waiting(user.remover);
	close(again);
	/* The mapping remains. */
	sleep_ms(50);
	expect_waiting(user.remover);
	expect_eq(mmio_read32(user.bar, 0), 0x010000ed);
	expect_pins(user.pins + 4);
	munmap(user.bar, MIB);
	join(user.remover);
	expect_pins(user.pins);
}

static void hold(void *arg)
{
	(void)arg;
	for (;;)
		pause();
}

/* The end of the process is a close like any other. */
TEST(unbind_then_killed)
{
	struct user user;
	pid_t pid;

	user_begin(&user, edu());
	pid = spawn(hold, NULL);
	user.remover = spawn_unbind(edu());
	expect_removal_waits(&user, 1);
	user_close(&user);
	sleep_ms(50);
	expect_waiting(user.remover);
	expect_pins(user.pins + 4);
	expect_ok(kill(pid, SIGKILL));
	expect_eq(waitpid(pid, NULL, 0), pid);
	join(user.remover);
	expect_pins(user.pins);
}

/* Which process does unbind wait for? */

struct opener {
	int fd;
	bool opened, drop, dropped;
};

static void open_and_pass_on(void *arg)
{
	struct opener *opener = arg;

	opener->fd = cdev_open(edu());
	set_flag(&opener->opened);
	while (!flag(&opener->drop))
		sleep_ms(1);
	close(opener->fd);
	set_flag(&opener->dropped);
	hold(NULL);
}

/* A file that was opened by another process, which still has it */
static int open_by_another(struct opener *opener, pid_t *pid)
{
	*opener = (struct opener){};
	*pid = spawn(open_and_pass_on, opener);
	while (!flag(&opener->opened))
		sleep_ms(1);
	return expect_ok(syscall(SYS_pidfd_getfd,
				 expect_ok(syscall(SYS_pidfd_open, *pid, 0)),
				 opener->fd, 0));
}

/* The one log line about the last unbind of the device */
static void expect_named(unsigned long long log, unsigned int files, pid_t pid,
			 const char *what)
{
	char line[64], who[64];
	double end = now() + 5 * slow();

	snprintf(line, sizeof(line), "unbind waits for %u open file", files);
	snprintf(who, sizeof(who), "removal (pid %d) %s", pid, what);
	while (!kmsg_count(log, KERN_NOTICE, edu(), line)) {
		if (now() > end)
			fail("the kernel's log: expected \"%s\", got nothing",
			     line);
		sleep_ms(10);
	}
	if (kmsg_count(log, KERN_NOTICE, line, who) != 1)
		fail("the kernel's log: expected \"%s\", got another one", who);
}

TEST(unbind_names_who_has_the_file)
{
	static const char passed_on[] =
		"opened one but no longer has it; to see who does: lsof | grep noiommu-vfio";
	struct opener *opener = mem_flags(PAGE, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS);
	unsigned long long log;
	pid_t pid, remover;
	int fd, own;

	skip_on_mainline("vfio does not say who it is");
	/* The process that opened it */
	fd = open_by_another(opener, &pid);
	log = kmsg_mark();
	remover = spawn_unbind(edu());
	expect_named(log, 1, pid, "has one");
	set_flag(&opener->drop);
	close(fd);
	join(remover);

	/* It lives, but has passed the file on. */
	driver_bind(edu());
	fd = open_by_another(opener, &pid);
	set_flag(&opener->drop);
	while (!flag(&opener->dropped))
		sleep_ms(1);
	log = kmsg_mark();
	remover = spawn_unbind(edu());
	expect_named(log, 1, pid, passed_on);
	close(fd);
	join(remover);

	/* It has ended. */
	driver_bind(edu());
	fd = open_by_another(opener, &pid);
	expect_ok(kill(pid, SIGKILL));
	expect_eq(waitpid(pid, NULL, 0), pid);
	log = kmsg_mark();
	remover = spawn_unbind(edu());
	expect_named(log, 1, pid, passed_on);
	close(fd);
	join(remover);

	/* It has ended, and another one lives. */
	driver_bind(edu());
	fd = open_by_another(opener, &pid);
	expect_ok(kill(pid, SIGKILL));
	expect_eq(waitpid(pid, NULL, 0), pid);
	own = cdev_open(edu());
	log = kmsg_mark();
	remover = spawn_unbind(edu());
	expect_named(log, 2, getpid(), "has one");
	close(fd);
	close(own);
	join(remover);
}

/* The waiting process can be killed, but ends only when the device is free. */
TEST(remover_is_killed)
{
	struct user user;
	int status;

	user_begin(&user, edu());
	user.remover = spawn_unbind(edu());
	expect_removal_waits(&user, 1);
	expect_ok(kill(user.remover, SIGKILL));
	sleep_ms(100);
	expect_waiting(user.remover);
	user_work(&user, 4);
	user_close(&user);
	expect_eq(waitpid(user.remover, &status, 0), user.remover);
	expect(WIFSIGNALED(status));
	expect(!driver_has(edu()));
	expect_pins(user.pins);
}

/* Hot-unplug */

static void wait_for_path(const char *path, bool there)
{
	double end = now() + 20;

	while (!access(path, F_OK) != there) {
		if (now() > end)
			fail("%s: expected it to %s, got nothing in 20 s", path,
			     there ? "come" : "go");
		sleep_ms(20);
	}
}

/*
 * Lockdep reports a cycle of the kernel's locks: vfio resets a slot under its
 * set's lock, and pciehp takes reset_lock for that; pciehp takes the rescan lock
 * under reset_lock; and under the rescan lock vfio removes a device from its set.
 * So on a kernel with lockdep the device is removed through sysfs, without pciehp.
 * If all interrupt handlers are threads (PREEMPT_RT), pciehp wakes the wrong
 * thread after a button was pressed, and nothing happens.
 */
static bool past_pciehp(void)
{
	struct utsname kernel;

	uname(&kernel);
	return !access("/proc/lockdep_stats", F_OK) ||
	       strstr(kernel.version, "PREEMPT_RT");
}

TEST_LIMIT(unplugged_while_open_mapped_and_at_work, 90)
{
	struct user user;
	char path[128];
	double end;

	user_begin(&user, edu_behind_bridge());
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", user.bdf);
	if (past_pciehp())
		user.remover = spawn_command("echo 1 > %s/remove", path);
	else
		expect(qemu("device_del plugged"));
	/* After the attention button was pressed, the user has time to cancel. */
	while (!signalled(user.asked, 0))
		user_work(&user, 5);
	expect_errno(open(user.node, O_RDWR), ENOENT);
	expect_works_on(&user);
	expect_ok(access(path, F_OK));
	expect_pins(user.pins + 4);

	user_close(&user);
	wait_for_path(path, false);
	expect_pins(user.pins);

	/* QEMU keeps it until the power of the slot is off. */
	end = now() + 20;
	if (past_pciehp()) {
		join(user.remover);
		join(spawn_command("echo 1 > /sys/bus/pci/rescan"));
	}
	while (!past_pciehp() &&
	       !qemu("device_add edu,id=plugged,bus=rp,dma_mask=0xffffffffffffffff")) {
		expect(now() < end);
		sleep_ms(200);
	}
	wait_for_path(path, true);
	/* The log lines about the old one do not apply to the new one. */
	expect(!driver_has(user.bdf));
	user_begin(&user, user.bdf);
	user_close(&user);
}

/*
 * Pulled out without a warning: when the power of a slot is turned off, QEMU
 * removes its card at once. The kernel learns of it by the port's interrupt, which
 * is off until slot_listen().
 */
struct slot {
	int config;			/* of the port */
	unsigned int at;		/* its PCI Express capability */
};

static __u16 slot_read(const struct slot *slot, unsigned int reg)
{
	__u16 value;

	expect_eq(pread(slot->config, &value, 2, slot->at + reg), 2);
	return value;
}

static void slot_write(const struct slot *slot, unsigned int reg, __u16 value)
{
	expect_eq(pwrite(slot->config, &value, 2, slot->at + reg), 2);
}

/* A file for its config space, without vfio */
static int config_open(const char *bdf)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", bdf);
	fd = open(path, O_RDWR);
	if (fd < 0)
		test_skip("the guest has no device %s", bdf);
	return fd;
}

static void slot_open(struct slot *slot, const char *port)
{
	__u8 id, next;

	slot->config = config_open(port);
	slot->at = PCI_CAPABILITY_LIST;
	expect_eq(pread(slot->config, &next, 1, slot->at), 1);
	do {
		slot->at = next;
		expect(slot->at);
		expect_eq(pread(slot->config, &id, 1, slot->at), 1);
		expect_eq(pread(slot->config, &next, 1, slot->at + 1), 1);
	} while (id != PCI_CAP_ID_EXP);
}

static void slot_pull(const struct slot *slot)
{
	__u16 control = slot_read(slot, PCI_EXP_SLTCTL) & ~PCI_EXP_SLTCTL_HPIE;

	slot_write(slot, PCI_EXP_SLTCTL, control | PCI_EXP_SLTCTL_PWR_OFF |
		   PCI_EXP_SLTCTL_PWR_IND_OFF);
	slot_write(slot, PCI_EXP_SLTCTL, control);
	expect(!(slot_read(slot, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS));
}

static void slot_listen(const struct slot *slot)
{
	slot_write(slot, PCI_EXP_SLTCTL,
		   slot_read(slot, PCI_EXP_SLTCTL) | PCI_EXP_SLTCTL_HPIE);
}

/* The kernel is told that the card is gone; see past_pciehp(). */
static void slot_report(const struct slot *slot)
{
	if (!past_pciehp()) {
		slot_listen(slot);
		return;
	}
	spawn_command("echo 1 > /sys/bus/pci/devices/" AER_SECOND "/remove; "
		      "echo 1 > /sys/bus/pci/devices/" AER_FIRST "/remove");
}

static void slot_wait(const struct slot *slot, __u16 power)
{
	const __u16 mask = PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_PIC;
	double end = now() + 20;

	while ((slot_read(slot, PCI_EXP_SLTCTL) & mask) != power) {
		expect(now() < end);
		sleep_ms(20);
	}
}

/* What the firmware does for devices that are present at boot */
static void report_errors(const char *bdf)
{
	int fd = config_open(bdf);
	__u16 command;

	expect_eq(pread(fd, &command, 2, PCI_COMMAND), 2);
	command |= PCI_COMMAND_SERR;
	expect_eq(pwrite(fd, &command, 2, PCI_COMMAND), 2);
	close(fd);
}

static void slot_plug_in_again(const struct slot *slot)
{
	/* When this ends, QEMU removes whatever is in the slot. */
	if (!past_pciehp())
		slot_wait(slot, PCI_EXP_SLTCTL_PWR_OFF |
			  PCI_EXP_SLTCTL_PWR_IND_OFF);
	expect(qemu("device_add virtio-rng-pci,bus=multi,addr=0.1,aer=on"));
	expect(qemu("device_add virtio-rng-pci,id=" AER_ID
		    ",bus=multi,addr=0.0,multifunction=on,aer=on"));
	if (past_pciehp()) {
		join(spawn_command("echo 1 > /sys/bus/pci/rescan"));
		slot_write(slot, PCI_EXP_SLTSTA,
			   slot_read(slot, PCI_EXP_SLTSTA));
		slot_listen(slot);
	}
	slot_wait(slot, PCI_EXP_SLTCTL_PWR_IND_ON);
	report_errors(AER_FIRST);
	report_errors(AER_SECOND);
}

/* No ioctl waits for a device that was pulled out. */
static void expect_quick(const char *what, double began)
{
	double took = now() - began;

	if (took > slow())
		fail("%s: expected it to take less than %u s, got %.1f s", what,
		     slow(), took);
}

TEST_LIMIT(pulled_out_while_open, 150)
{
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };
	const __u32 flr = PCI_EXP_DEVCTL_BCR_FLR;
	struct vfio_region_info config;
	struct setup first, second;
	long long before = pins();
	unsigned int control;
	struct slot slot;
	double began;
	int asked;
	char *va;

	skip_on_mainline("vfio-pci resets a device that is gone");
	slot_open(&slot, AER_PORT);
	first.iommu = iommu_open();
	first.dev = cdev_open(AER_FIRST);
	expect_ok(dev_bind(first.dev, first.iommu, &first.devid));
	first.ioas = new_ioas(first.iommu);
	attach(first.dev, first.ioas);
	va = mem(4 * PAGE);
	expect_ok(ioas_map(first.iommu, first.ioas, va, 4 * PAGE, 0));
	bus_master(first.dev, true);
	asked = expect_ok(eventfd(0, EFD_NONBLOCK));
	set_eventfd(first.dev, VFIO_PCI_REQ_IRQ_INDEX, asked);
	second.dev = cdev_open(AER_SECOND);
	expect_ok(dev_bind(second.dev, first.iommu, &second.devid));
	region_info(first.dev, VFIO_PCI_CONFIG_REGION_INDEX, &config);
	control = config_capability(first.dev, PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL;
	expect_pins(before + 4);

	/* The kernel does not know yet. */
	slot_pull(&slot);
	began = now();
	expect_errno(ioctl(first.dev, VFIO_DEVICE_RESET), ENODEV);
	expect_quick("VFIO_DEVICE_RESET", began);
	began = now();
	expect_errno(ioctl(first.dev, VFIO_DEVICE_PCI_HOT_RESET, &reset),
		     ENODEV);
	expect_quick("VFIO_DEVICE_PCI_HOT_RESET", began);
	began = now();
	expect_errno(pwrite(first.dev, &flr, 2, config.offset + control), ENODEV);
	expect_quick("a reset by config space", began);
	began = now();
	close(second.dev);
	expect_quick("close", began);
	second.dev = cdev_open(AER_SECOND);
	began = now();
	expect_errno(dev_bind(second.dev, first.iommu, &second.devid), ENODEV);
	expect_quick("VFIO_DEVICE_BIND_IOMMUFD", began);
	close(second.dev);

	/* Now it knows, and waits for us. */
	slot_report(&slot);
	if (!signalled(asked, 20000))
		fail("REQ: expected it within 20 s, got nothing");
	expect_errno(ioctl(first.dev, VFIO_DEVICE_RESET), ENODEV);
	expect_pins(before + 4);
	began = now();
	close(first.dev);
	close(first.iommu);
	expect_quick("close", began);
	expect_pins(before);
	wait_for_path("/sys/bus/pci/devices/" AER_FIRST, false);
	wait_for_path("/sys/bus/pci/devices/" AER_SECOND, false);
	expect_quick("removal", began);

	slot_plug_in_again(&slot);
	first.dev = cdev_open(AER_FIRST);
	expect_ok(dev_bind(first.dev, iommu_open(), &first.devid));
	expect_ok(ioctl(first.dev, VFIO_DEVICE_RESET));
	close(first.dev);

	/* No process has it open. */
	slot_pull(&slot);
	began = now();
	slot_report(&slot);
	wait_for_path("/sys/bus/pci/devices/" AER_FIRST, false);
	expect_quick("removal", began);
	slot_plug_in_again(&slot);
}

/* Errors */

struct aer {
	int iommu, dev, errors;
	__u32 devid;
};

static void aer_open(struct aer *aer, const char *bdf)
{
	unsigned int control;

	aer->iommu = iommu_open();
	aer->dev = cdev_open(bdf);
	expect_ok(dev_bind(aer->dev, aer->iommu, &aer->devid));
	bus_master(aer->dev, true);
	/* Before Linux 6.0, drivers or the administrator have to do that. */
	control = config_capability(aer->dev, PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL;
	config_write(aer->dev, control, 2,
		     config_read(aer->dev, control, 2) | PCI_EXP_DEVCTL_CERE |
		     PCI_EXP_DEVCTL_NFERE | PCI_EXP_DEVCTL_FERE);
	aer->errors = expect_ok(eventfd(0, EFD_NONBLOCK));
	set_eventfd(aer->dev, VFIO_PCI_ERR_IRQ_INDEX, aer->errors);
}

static void expect_alive(int dev)
{
	struct vfio_region_info info;
	__u32 id;

	region_info(dev, VFIO_PCI_CONFIG_REGION_INDEX, &info);
	expect_eq(pread(dev, &id, sizeof(id), info.offset), sizeof(id));
	/* Red Hat, Inc. Virtio RNG */
	expect_eq(id & 0xffff, 0x1af4);
}

static void inject(const char *error, unsigned long long *log)
{
	double end = now() + 20;

	*log = kmsg_mark();
	expect(qemu("pcie_aer_inject_error " AER_ID " %s", error));
	/* The kernel's log line at the end of error handling */
	while (!kmsg_count(*log, 7, "AER: device recovery", NULL)) {
		if (now() > end)
			fail("AER: expected the kernel to handle %s, got nothing in 20 s",
			     error);
		sleep_ms(20);
	}
	expect_eq(kmsg_count(*log, 7, "AER: device recovery successful", NULL),
		  1);
}

TEST(aer)
{
	unsigned long long log;
	struct aer first, second;

	driver_bind(AER_SECOND);
	aer_open(&first, AER_FIRST);
	/* Completion timeout: not fatal; the second function is not open */
	inject("COMP_TIME", &log);
	expect(signalled(first.errors, 1000));
	expect_alive(first.dev);

	/* Data link protocol error: fatal, the link is reset */
	aer_open(&second, AER_SECOND);
	inject("DLP", &log);
	expect(signalled(first.errors, 1000));
	expect(signalled(second.errors, 1000));
	expect_alive(first.dev);
	expect_alive(second.dev);
	expect(!signalled(first.errors, 0));
	close(second.dev);

	/* The program is not told of a correctable error. */
	log = kmsg_mark();
	expect(qemu("pcie_aer_inject_error " AER_ID " RCVR"));
	expect(!signalled(first.errors, 200));
	expect_alive(first.dev);
	close(first.dev);

	/* No program is there to be told, or to have turned it on */
	if (!kernel_is_before(6, 0))
		inject("COMP_TIME", &log);
	aer_open(&first, AER_FIRST);
	expect_alive(first.dev);
	close(first.dev);
}

/* Ioctls during removal */

struct race {
	int *stop;
	struct setup s;
	const char *bdf;
};

static bool stopped(const struct race *race)
{
	return __atomic_load_n(race->stop, __ATOMIC_ACQUIRE);
}

static void race_map(void *arg)
{
	struct race *race = arg;
	void *va = mem(4 * PAGE);
	const __u64 iova = getpid() * GIB;

	while (!stopped(race)) {
		expect_ok(ioas_map(race->s.iommu, race->s.ioas, va, 4 * PAGE,
				   iova));
		expect_ok(ioas_unmap(race->s.iommu, race->s.ioas, iova,
				     4 * PAGE, NULL));
	}
}

static void race_attach(void *arg)
{
	struct race *race = arg;

	while (!stopped(race)) {
		attach(race->s.dev, race->s.ioas);
		expect_ok(dev_detach(race->s.dev));
	}
}

static void race_device(void *arg)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };
	struct race *race = arg;
	int fd = eventfd(0, 0);
	void *bar;

	while (!stopped(race)) {
		expect_ok(ioctl(race->s.dev, VFIO_DEVICE_GET_INFO, &info));
		bus_master(race->s.dev, true);
		set_eventfd(race->s.dev, VFIO_PCI_MSI_IRQ_INDEX, fd);
		set_eventfd(race->s.dev, VFIO_PCI_REQ_IRQ_INDEX, fd);
		set_eventfd(race->s.dev, VFIO_PCI_REQ_IRQ_INDEX, -1);
		ioctl(race->s.dev, VFIO_DEVICE_RESET);
		expect_errno(ioctl(race->s.dev, VFIO_DEVICE_PCI_HOT_RESET,
				   &reset), ENODEV);
		bar = region_mmap(race->s.dev, VFIO_PCI_BAR0_REGION_INDEX,
				  PROT_READ);
		munmap(bar, MIB);
	}
}

/* Open and close again and again, with any result */
static void race_open(void *arg)
{
	struct race *race = arg;
	char name[64], path[128];
	__u32 devid, ioas;
	int dev, iommu;

	while (!stopped(race)) {
		if (!cdev_name(race->bdf, name, sizeof(name))) {
			sleep_ms(1);
			continue;
		}
		snprintf(path, sizeof(path), "/dev/vfio/devices/%s", name);
		dev = open(path, O_RDWR);
		if (dev < 0) {
			if (errno != ENOENT && errno != ENODEV &&
			    errno != ENXIO)
				fail("open beside unbind: expected ENOENT, ENXIO or ENODEV, got %s",
				     strerrorname_np(errno));
			continue;
		}
		iommu = iommu_open();
		if (!dev_bind(dev, iommu, &devid)) {
			expect_ok(ioas_alloc(iommu, &ioas));
			attach(dev, ioas);
			expect_ok(ioas_map(iommu, ioas, mem(PAGE), PAGE, 0));
		} else if (errno != EINVAL) {
			fail("BIND beside unbind: expected success or EINVAL, got %s",
			     strerrorname_np(errno));
		}
		close(iommu);
		close(dev);
	}
}

static void race_run(struct race *race, void (* const fns[])(void *arg),
		     pid_t *pids, unsigned int n)
{
	unsigned int i;

	race->stop = mem_flags(PAGE, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS);
	for (i = 0; i < n; i++)
		pids[i] = spawn(fns[i], race);
}

TEST(calls_beside_unbind)
{
	static void (* const fns[])(void *arg) = {
		race_map, race_attach, race_device,
	};
	pid_t pids[ARRAY_SIZE(fns)], remover;
	long long before = pins();
	struct race race = {};
	unsigned int i;

	setup_attached(&race.s);
	race_run(&race, fns, pids, ARRAY_SIZE(fns));
	sleep_ms(100);
	remover = spawn_unbind(edu());
	close(race.s.dev);
	close(race.s.iommu);
	sleep_ms(700);
	expect_waiting(remover);
	__atomic_store_n(race.stop, 1, __ATOMIC_RELEASE);
	for (i = 0; i < ARRAY_SIZE(fns); i++)
		join(pids[i]);
	join(remover);
	expect_pins(before);
}

TEST(open_and_bind_beside_unbind)
{
	static void (* const fns[])(void *arg) = { race_open, race_open };
	struct race race = { .bdf = edu() };
	long long before = pins();
	pid_t pids[ARRAY_SIZE(fns)];
	unsigned int i;

	driver_bind(edu());
	race_run(&race, fns, pids, ARRAY_SIZE(fns));
	for (i = 0; i < 10; i++) {
		driver_unbind(edu());
		expect(!driver_has(edu()));
		driver_bind(edu());
		sleep_ms(10);
	}
	__atomic_store_n(race.stop, 1, __ATOMIC_RELEASE);
	for (i = 0; i < ARRAY_SIZE(fns); i++)
		join(pids[i]);
	expect_pins(before);
}
