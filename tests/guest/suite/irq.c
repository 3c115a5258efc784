// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interrupts: those of QEMU's edu (INTx, MSI) and of an NVMe controller (MSI-X, a
 * vector per queue), the error and request interrupts of any device, and eventfds
 * that write to a register.
 */
#include "harness.h"

#define NVME		"0000:00:05.0"

#define INTX		VFIO_PCI_INTX_IRQ_INDEX
#define MSI		VFIO_PCI_MSI_IRQ_INDEX
#define MSIX		VFIO_PCI_MSIX_IRQ_INDEX
#define ERR		VFIO_PCI_ERR_IRQ_INDEX
#define REQ		VFIO_PCI_REQ_IRQ_INDEX

#define PCI_COMMAND	4
#define PCI_MEMORY	2
#define PCI_INTX_OFF	0x400
#define PCI_STATUS	6
#define PCI_STATUS_INTX	0x08

/* Time for an interrupt to arrive, if there is one. */
#define SOON_MS		5000
#define LONG_MS		100

static void *edu_setup(struct setup *s)
{
	setup_attached(s);
	bus_master(s->dev, true);
	return region_mmap(s->dev, VFIO_PCI_BAR0_REGION_INDEX,
			   PROT_READ | PROT_WRITE);
}

static void raise_irq(void *bar)
{
	mmio_write32(bar, EDU_IRQ_RAISE, 1);
}

static void ack_irq(void *bar)
{
	mmio_write32(bar, EDU_IRQ_ACK, 1);
}

static int set_none(int dev, __u32 index, __u32 action)
{
	return irq_set(dev, index, IRQ_NONE | action, 0, 1, NULL, 0);
}

static int set_bool(int dev, __u32 index, __u32 action, __u8 value)
{
	return irq_set(dev, index, IRQ_BOOL | action, 0, 1, &value, 1);
}

static int set_event(int dev, __u32 index, __u32 action, __u32 start, __s32 fd)
{
	return irq_set(dev, index, IRQ_EVENTFD | action, start, 1, &fd,
		       sizeof(fd));
}

static void write_event(int fd)
{
	const __u64 one = 1;

	expect_eq(write(fd, &one, sizeof(one)), sizeof(one));
}

static __u32 irq_count(int dev, __u32 index, __u32 *flags)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = index };

	expect_ok(ioctl(dev, VFIO_DEVICE_GET_IRQ_INFO, &info));
	if (flags)
		*flags = info.flags;
	return info.count;
}

/* INTx */

TEST(intx_masked_by_call)
{
	struct setup s;
	void *bar;
	int fd;

	bar = edu_setup(&s);
	fd = irq_eventfd(s.dev, INTX);
	expect_ok(set_none(s.dev, INTX, IRQ_MASK));
	raise_irq(bar);
	expect_eq(signals(fd, LONG_MS), 0);
	/* It is level-triggered, so it arrives when unmasked. */
	expect_ok(set_none(s.dev, INTX, IRQ_UNMASK));
	expect_eq(signals(fd, SOON_MS), 1);
	ack_irq(bar);

	/* It has masked itself; data of false does nothing. */
	raise_irq(bar);
	expect_ok(set_bool(s.dev, INTX, IRQ_UNMASK, 0));
	expect_eq(signals(fd, LONG_MS), 0);
	expect_ok(set_bool(s.dev, INTX, IRQ_UNMASK, 1));
	expect_eq(signals(fd, SOON_MS), 1);
	ack_irq(bar);
	expect_ok(set_none(s.dev, INTX, IRQ_UNMASK));
	expect_ok(set_bool(s.dev, INTX, IRQ_MASK, 0));
	raise_irq(bar);
	expect_eq(signals(fd, SOON_MS), 1);
	ack_irq(bar);
	expect_ok(set_none(s.dev, INTX, IRQ_UNMASK));
	expect_ok(set_bool(s.dev, INTX, IRQ_MASK, 1));
	raise_irq(bar);
	expect_eq(signals(fd, LONG_MS), 0);
	ack_irq(bar);
	expect_ok(set_none(s.dev, INTX, IRQ_UNMASK));
	expect_eq(signals(fd, LONG_MS), 0);
	expect_errno(set_event(s.dev, INTX, IRQ_MASK, 0, fd), ENOTTY);
}

/* An eventfd unmasks it, like the EOI of a guest: resampling */
TEST(intx_resample)
{
	struct setup s;
	int fd, unmask, other, i;
	void *bar;

	bar = edu_setup(&s);
	fd = irq_eventfd(s.dev, INTX);
	unmask = event_open();
	other = event_open();
	expect_ok(set_event(s.dev, INTX, IRQ_UNMASK, 0, unmask));
	raise_irq(bar);
	expect_eq(signals(fd, SOON_MS), 1);
	for (i = 0; i < 3; i++) {
		/* Still asserted: it fires again at once. */
		expect_eq(signals(fd, 20), 0);
		write_event(unmask);
		expect_eq(signals(fd, SOON_MS), 1);
	}
	ack_irq(bar);
	write_event(unmask);
	expect_eq(signals(fd, LONG_MS), 0);
	raise_irq(bar);
	expect_eq(signals(fd, SOON_MS), 1);

	/* One at a time; -1 removes it. */
	expect_errno(set_event(s.dev, INTX, IRQ_UNMASK, 0, other), EBUSY);
	expect_ok(set_event(s.dev, INTX, IRQ_UNMASK, 0, -1));
	write_event(unmask);
	expect_eq(signals(fd, LONG_MS), 0);
	expect_ok(set_event(s.dev, INTX, IRQ_UNMASK, 0, other));
	write_event(other);
	expect_eq(signals(fd, SOON_MS), 1);
	ack_irq(bar);
	/* Once closed, it has no effect any more. */
	close(other);
	expect_ok(set_none(s.dev, INTX, IRQ_UNMASK));
	raise_irq(bar);
	expect_eq(signals(fd, SOON_MS), 1);
	irq_off(s.dev, INTX);
	ack_irq(bar);
}

/* The program can mask it by the bit in the command register. */
TEST(intx_disabled_in_config_space)
{
	struct setup s;
	__u16 command;
	void *bar;
	int fd;

	bar = edu_setup(&s);
	expect_eq(config_read(s.dev, 0x3d, 1), 1);
	fd = irq_eventfd(s.dev, INTX);
	command = config_read(s.dev, PCI_COMMAND, 2);
	expect_eq(command & PCI_INTX_OFF, 0);
	config_write(s.dev, PCI_COMMAND, 2, command | PCI_INTX_OFF);
	expect_eq(config_read(s.dev, PCI_COMMAND, 2), command | PCI_INTX_OFF);
	raise_irq(bar);
	expect_eq(signals(fd, LONG_MS), 0);
	expect_eq(config_read(s.dev, PCI_STATUS, 2) & PCI_STATUS_INTX,
		  PCI_STATUS_INTX);
	config_write(s.dev, PCI_COMMAND, 2, command);
	expect_eq(signals(fd, SOON_MS), 1);
	ack_irq(bar);
	expect_eq(config_read(s.dev, PCI_STATUS, 2) & PCI_STATUS_INTX, 0);
	/* That bit does not show that it has fired and is masked. */
	expect_eq(config_read(s.dev, PCI_COMMAND, 2), command);
}

TEST(intx_eventfd_replaced)
{
	struct setup s;
	int fd, next;
	void *bar;

	bar = edu_setup(&s);
	fd = irq_eventfd(s.dev, INTX);
	next = event_open();
	expect_ok(set_event(s.dev, INTX, IRQ_TRIGGER, 0, next));
	raise_irq(bar);
	expect_eq(signals(next, SOON_MS), 1);
	expect_eq(signals(fd, 0), 0);
	ack_irq(bar);
	expect_ok(set_none(s.dev, INTX, IRQ_UNMASK));
	/* Loopback does not involve the device, and masks nothing. */
	expect_ok(set_none(s.dev, INTX, IRQ_TRIGGER));
	expect_eq(signals(next, SOON_MS), 1);
	expect_ok(set_bool(s.dev, INTX, IRQ_TRIGGER, 0));
	expect_eq(signals(next, 20), 0);
	expect_ok(set_bool(s.dev, INTX, IRQ_TRIGGER, 1));
	expect_eq(signals(next, SOON_MS), 1);
	raise_irq(bar);
	expect_eq(signals(next, SOON_MS), 1);
	ack_irq(bar);

	/* One type of interrupt at a time */
	expect_errno(set_event(s.dev, MSI, IRQ_TRIGGER, 0, fd), EINVAL);
	expect_errno(irq_set(s.dev, MSI, IRQ_NONE | IRQ_TRIGGER, 0, 0, NULL, 0),
		     EINVAL);
	irq_off(s.dev, INTX);
	expect_ok(set_event(s.dev, MSI, IRQ_TRIGGER, 0, fd));
	raise_irq(bar);
	expect_eq(signals(fd, SOON_MS), 1);
	ack_irq(bar);
	expect_errno(set_event(s.dev, INTX, IRQ_TRIGGER, 0, fd), EINVAL);
	irq_off(s.dev, MSI);
	fd = irq_eventfd(s.dev, INTX);
	raise_irq(bar);
	expect_eq(signals(fd, SOON_MS), 1);
	ack_irq(bar);
}

/* MSI */

TEST(msi_eventfd_replaced)
{
	struct setup s;
	int fd, next;
	void *bar;

	bar = edu_setup(&s);
	fd = irq_eventfd(s.dev, MSI);
	next = event_open();
	expect_ok(set_event(s.dev, MSI, IRQ_TRIGGER, 0, next));
	raise_irq(bar);
	expect_eq(signals(next, SOON_MS), 1);
	expect_eq(signals(fd, 0), 0);
	ack_irq(bar);
	/* Removed: an interrupt is lost, and loopback fails. */
	expect_ok(set_event(s.dev, MSI, IRQ_TRIGGER, 0, -1));
	raise_irq(bar);
	ack_irq(bar);
	expect_ok(set_none(s.dev, MSI, IRQ_TRIGGER));
	expect_eq(signals(next, LONG_MS), 0);
	expect_ok(set_event(s.dev, MSI, IRQ_TRIGGER, 0, fd));
	expect_ok(set_bool(s.dev, MSI, IRQ_TRIGGER, 0));
	expect_eq(signals(fd, 20), 0);
	expect_ok(set_bool(s.dev, MSI, IRQ_TRIGGER, 1));
	expect_eq(signals(fd, SOON_MS), 1);
	raise_irq(bar);
	expect_eq(signals(fd, SOON_MS), 1);
	ack_irq(bar);
	/* The program may close its file, because the device holds the eventfd. */
	close(fd);
	raise_irq(bar);
	ack_irq(bar);
	expect_errno(set_none(s.dev, MSI, IRQ_MASK), ENOTTY);
	expect_errno(set_none(s.dev, MSI, IRQ_UNMASK), ENOTTY);
}

/* What the program enables there is not what the device has. */
TEST(msi_in_config_space)
{
	struct setup s;
	void *bar;
	__u8 at;
	int fd;

	bar = edu_setup(&s);
	at = config_capability(s.dev, 5);
	/* Enabled by the program only: no vector has been set up. */
	config_write(s.dev, at + 4, 4, 0xfee00000);
	config_write(s.dev, at + 2, 2, config_read(s.dev, at + 2, 2) | 1);
	expect_eq(config_read(s.dev, at + 2, 2) & 1, 0);
	raise_irq(bar);
	ack_irq(bar);
	fd = irq_eventfd(s.dev, MSI);
	config_write(s.dev, at + 2, 2, config_read(s.dev, at + 2, 2) | 1);
	expect_eq(config_read(s.dev, at + 2, 2) & 1, 1);
	/* Address and data stay those of the kernel, whatever is written. */
	config_write(s.dev, at + 4, 4, 0xfee00000);
	expect_eq(config_read(s.dev, at + 4, 4), 0xfee00000);
	raise_irq(bar);
	expect_eq(signals(fd, SOON_MS), 1);
	ack_irq(bar);
	config_write(s.dev, at + 2, 2, config_read(s.dev, at + 2, 2) & ~1);
	expect_eq(config_read(s.dev, at + 2, 2) & 1, 0);
	irq_off(s.dev, MSI);
}

/* MSI-X: an NVMe controller, with an admin queue and some I/O queues */

#define QUEUES		4	/* with the admin queue; vector n is queue n's */
#define ENTRIES		16

#define NVME_CC		0x14
#define NVME_CSTS	0x1c
#define NVME_AQA	0x24
#define NVME_ASQ	0x28
#define NVME_ACQ	0x30
#define NVME_DOORBELLS	0x1000

struct nvme {
	struct setup s;
	char *bar;
	char *mem;			/* a page each: SQ 0, CQ 0, SQ 1, ... */
	unsigned int tail[QUEUES];
	unsigned int head[QUEUES];
};

static __u64 queue_pa(const struct nvme *n, unsigned int page)
{
	return pa_of(n->s.iommu, n->s.ioas, page * PAGE);
}

static void nvme_setup(struct nvme *n)
{
	memset(n, 0, sizeof(*n));
	n->s.iommu = iommu_open();
	n->s.dev = cdev_open(NVME);
	expect_ok(dev_bind(n->s.dev, n->s.iommu, &n->s.devid));
	n->s.ioas = new_ioas(n->s.iommu);
	attach(n->s.dev, n->s.ioas);
	bus_master(n->s.dev, true);
	n->bar = region_mmap(n->s.dev, VFIO_PCI_BAR0_REGION_INDEX,
			     PROT_READ | PROT_WRITE);
	n->mem = mem(2 * QUEUES * PAGE);
	expect_ok(ioas_map(n->s.iommu, n->s.ioas, n->mem, 2 * QUEUES * PAGE,
			   0));
}

static void nvme_ready(const struct nvme *n, __u32 want)
{
	double end = now() + 10;

	while ((mmio_read32(n->bar, NVME_CSTS) & 1) != want) {
		if (now() > end)
			fail("NVMe status: expected ready to be %u, got nothing in 10 s",
			     want);
		sleep_ms(1);
	}
}

static void nvme_start(struct nvme *n)
{
	mmio_write32(n->bar, NVME_CC, 0);
	nvme_ready(n, 0);
	memset(n->mem, 0, 2 * QUEUES * PAGE);
	memset(n->tail, 0, sizeof(n->tail));
	memset(n->head, 0, sizeof(n->head));
	mmio_write32(n->bar, NVME_AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
	mmio_write64(n->bar, NVME_ASQ, queue_pa(n, 0));
	mmio_write64(n->bar, NVME_ACQ, queue_pa(n, 1));
	/* Enabled; commands of 64 bytes, completions of 16 */
	mmio_write32(n->bar, NVME_CC, 1 | 6 << 16 | 4 << 20);
	nvme_ready(n, 1);
}

/* Submit a command, whose completion raises the interrupt. */
static void nvme_submit(struct nvme *n, unsigned int queue, __u8 opcode,
			__u64 prp1, __u32 cdw10, __u32 cdw11)
{
	__u32 *sqe = (__u32 *)(n->mem + 2 * queue * PAGE + n->tail[queue] * 64);

	/* At most half a queue, so that no entry is used twice */
	expect(++n->tail[queue] < ENTRIES);
	sqe[0] = opcode;
	sqe[1] = queue ? 1 : 0;
	sqe[6] = prp1;
	sqe[7] = prp1 >> 32;
	sqe[10] = cdw10;
	sqe[11] = cdw11;
	mmio_write32(n->bar, NVME_DOORBELLS + 8 * queue, n->tail[queue]);
}

static void nvme_complete(struct nvme *n, unsigned int queue)
{
	__u16 *cqe = (__u16 *)(n->mem + (2 * queue + 1) * PAGE +
			       n->head[queue] * 16);

	expect_eq(__atomic_load_n(&cqe[7], __ATOMIC_ACQUIRE), 1);
	n->head[queue]++;
	mmio_write32(n->bar, NVME_DOORBELLS + 8 * queue + 4, n->head[queue]);
}

static void nvme_admin(struct nvme *n, int fd, __u8 opcode, __u64 prp1,
		       __u32 cdw10, __u32 cdw11)
{
	nvme_submit(n, 0, opcode, prp1, cdw10, cdw11);
	expect_eq(signals(fd, SOON_MS), 1);
	nvme_complete(n, 0);
}

/* An I/O queue whose completions raise the vector of the same number */
static void nvme_queue(struct nvme *n, int admin_fd, unsigned int queue)
{
	const __u32 cdw10 = (ENTRIES - 1) << 16 | queue;

	nvme_admin(n, admin_fd, 5, queue_pa(n, 2 * queue + 1), cdw10,
		   queue << 16 | 2 | 1);
	nvme_admin(n, admin_fd, 1, queue_pa(n, 2 * queue), cdw10,
		   queue << 16 | 1);
}

/* A flush: no data, and a completion */
static void nvme_flush(struct nvme *n, unsigned int queue)
{
	nvme_submit(n, queue, 0, 0, 0, 0);
}

static void expect_vector(struct nvme *n, const __s32 *fds, unsigned int queue)
{
	unsigned int i;

	nvme_flush(n, queue);
	expect_eq(signals(fds[queue], SOON_MS), 1);
	nvme_complete(n, queue);
	for (i = 0; i < QUEUES; i++)
		expect_eq(signals(fds[i], 0), 0);
}

static void open_events(__s32 *fds)
{
	unsigned int i;

	for (i = 0; i < QUEUES; i++)
		fds[i] = event_open();
}

TEST(msix_vectors)
{
	const __u8 some[QUEUES] = { 1, 0, 1, 0 };
	__s32 fds[QUEUES], swap;
	unsigned int i;
	struct nvme n;

	nvme_setup(&n);
	expect(irq_count(n.s.dev, MSIX, NULL) >= QUEUES);
	open_events(fds);
	expect_ok(irq_set(n.s.dev, MSIX, IRQ_EVENTFD | IRQ_TRIGGER, 0, QUEUES,
			  fds, sizeof(fds)));
	nvme_start(&n);
	for (i = 1; i < QUEUES; i++)
		nvme_queue(&n, fds[0], i);
	/* Each arrives where it is expected, and nowhere else. */
	for (i = 1; i < QUEUES; i++)
		expect_vector(&n, fds, i);
	for (i = QUEUES - 1; i >= 1; i--)
		expect_vector(&n, fds, i);

	/* Loopback: all, some, one by its number */
	expect_ok(irq_set(n.s.dev, MSIX, IRQ_NONE | IRQ_TRIGGER, 0, QUEUES,
			  NULL, 0));
	for (i = 0; i < QUEUES; i++)
		expect_eq(signals(fds[i], SOON_MS), 1);
	expect_ok(irq_set(n.s.dev, MSIX, IRQ_BOOL | IRQ_TRIGGER, 0, QUEUES,
			  some, sizeof(some)));
	for (i = 0; i < QUEUES; i++)
		expect_eq(signals(fds[i], some[i] ? SOON_MS : 0), some[i]);
	expect_ok(irq_set(n.s.dev, MSIX, IRQ_NONE | IRQ_TRIGGER, 2, 1, NULL,
			  0));
	for (i = 0; i < QUEUES; i++)
		expect_eq(signals(fds[i], i == 2 ? SOON_MS : 0), i == 2);

	/* Two vectors change places. */
	expect_ok(set_event(n.s.dev, MSIX, IRQ_TRIGGER, 1, fds[2]));
	expect_ok(set_event(n.s.dev, MSIX, IRQ_TRIGGER, 2, fds[1]));
	nvme_flush(&n, 1);
	expect_eq(signals(fds[2], SOON_MS), 1);
	nvme_complete(&n, 1);
	expect_eq(signals(fds[1], 0), 0);
	expect_ok(set_event(n.s.dev, MSIX, IRQ_TRIGGER, 1, fds[1]));
	expect_ok(set_event(n.s.dev, MSIX, IRQ_TRIGGER, 2, fds[2]));

	/* A removed vector signals nothing, and the others go on. */
	expect_ok(set_event(n.s.dev, MSIX, IRQ_TRIGGER, 2, -1));
	nvme_flush(&n, 2);
	expect_eq(signals(fds[2], LONG_MS), 0);
	nvme_complete(&n, 2);
	expect_vector(&n, fds, 1);
	expect_vector(&n, fds, 3);
	expect_ok(set_event(n.s.dev, MSIX, IRQ_TRIGGER, 2, fds[2]));
	while (signals(fds[2], 20))
		;
	expect_vector(&n, fds, 2);

	/* One eventfd for two vectors */
	swap = fds[1];
	expect_ok(set_event(n.s.dev, MSIX, IRQ_TRIGGER, 3, swap));
	nvme_flush(&n, 3);
	expect_eq(signals(swap, SOON_MS), 1);
	nvme_complete(&n, 3);
	nvme_flush(&n, 1);
	expect_eq(signals(swap, SOON_MS), 1);
	nvme_complete(&n, 1);

	irq_off(n.s.dev, MSIX);
	nvme_flush(&n, 1);
	expect_eq(signals(fds[1], LONG_MS), 0);
}

/*
 * One more vector while others are in use: NORESIZE is clear if the kernel's
 * vfio-pci-core can do that.
 */
TEST(msix_one_more)
{
	__s32 fds[QUEUES];
	unsigned int i;
	struct nvme n;
	__u32 flags;

	nvme_setup(&n);
	irq_count(n.s.dev, MSIX, &flags);
	open_events(fds);
	expect_ok(irq_set(n.s.dev, MSIX, IRQ_EVENTFD | IRQ_TRIGGER, 0, 2, fds,
			  2 * sizeof(*fds)));
	nvme_start(&n);
	nvme_queue(&n, fds[0], 1);
	expect_vector(&n, fds, 1);

	if (flags & VFIO_IRQ_INFO_NORESIZE) {
		expect_errno(set_event(n.s.dev, MSIX, IRQ_TRIGGER, 3, fds[3]),
			     EINVAL);
		expect_errno(irq_set(n.s.dev, MSIX, IRQ_EVENTFD | IRQ_TRIGGER,
				     0, QUEUES, fds, sizeof(fds)), EINVAL);
		expect_vector(&n, fds, 1);
		irq_off(n.s.dev, MSIX);
		expect_ok(irq_set(n.s.dev, MSIX, IRQ_EVENTFD | IRQ_TRIGGER, 0,
				  QUEUES, fds, sizeof(fds)));
	} else {
		/* Not the next one */
		expect_ok(set_event(n.s.dev, MSIX, IRQ_TRIGGER, 3, fds[3]));
		expect_vector(&n, fds, 1);
		expect_ok(set_event(n.s.dev, MSIX, IRQ_TRIGGER, 2, fds[2]));
	}
	for (i = 2; i < QUEUES; i++)
		nvme_queue(&n, fds[0], i);
	for (i = 1; i < QUEUES; i++)
		expect_vector(&n, fds, i);
}

/* They survive a reset of the function; the controller's state does not. */
TEST(msix_after_reset)
{
	__s32 fds[QUEUES];
	unsigned int i;
	struct nvme n;

	nvme_setup(&n);
	open_events(fds);
	expect_ok(irq_set(n.s.dev, MSIX, IRQ_EVENTFD | IRQ_TRIGGER, 0, QUEUES,
			  fds, sizeof(fds)));
	nvme_start(&n);
	nvme_queue(&n, fds[0], 2);
	expect_vector(&n, fds, 2);
	expect_ok(ioctl(n.s.dev, VFIO_DEVICE_RESET));
	expect_eq(mmio_read32(n.bar, NVME_CSTS) & 1, 0);
	while (signals(fds[0], 0) || signals(fds[2], 0))
		;
	nvme_start(&n);
	for (i = 1; i < QUEUES; i++)
		nvme_queue(&n, fds[0], i);
	for (i = 1; i < QUEUES; i++)
		expect_vector(&n, fds, i);
}

/* Interrupts about the device itself */

static void check_single(int dev, __u32 index)
{
	int fd = event_open(), next = event_open();

	expect_eq(irq_count(dev, index, NULL), 1);
	expect_errno(set_none(dev, index, IRQ_TRIGGER), EINVAL);
	expect_ok(set_event(dev, index, IRQ_TRIGGER, 0, fd));
	expect_ok(set_none(dev, index, IRQ_TRIGGER));
	expect_eq(signals(fd, SOON_MS), 1);
	expect_ok(set_bool(dev, index, IRQ_TRIGGER, 0));
	expect_eq(signals(fd, 20), 0);
	expect_ok(set_bool(dev, index, IRQ_TRIGGER, 1));
	expect_eq(signals(fd, SOON_MS), 1);
	expect_ok(set_event(dev, index, IRQ_TRIGGER, 0, next));
	expect_ok(set_none(dev, index, IRQ_TRIGGER));
	expect_eq(signals(next, SOON_MS), 1);
	expect_eq(signals(fd, 0), 0);
	expect_ok(set_event(dev, index, IRQ_TRIGGER, 0, -1));
	expect_errno(set_none(dev, index, IRQ_TRIGGER), EINVAL);
	expect_ok(set_event(dev, index, IRQ_TRIGGER, 0, fd));
	/* None of it */
	expect_ok(irq_set(dev, index, IRQ_NONE | IRQ_TRIGGER, 0, 0, NULL, 0));
	expect_errno(set_none(dev, index, IRQ_TRIGGER), EINVAL);
	expect_errno(set_event(dev, index, IRQ_TRIGGER, 1, fd), EINVAL);
	expect_errno(set_none(dev, index, IRQ_MASK), ENOTTY);
	/* One eventfd for everything does no harm, and goes with the device. */
	expect_ok(set_event(dev, index, IRQ_TRIGGER, 0, fd));
}

TEST(error_and_request)
{
	struct nvme n;

	nvme_setup(&n);
	check_single(n.s.dev, ERR);
	check_single(n.s.dev, REQ);
}

/* An eventfd that writes to a register */

static int ioeventfd(int dev, __u32 size, __u64 offset, __u64 data, __s32 fd)
{
	struct vfio_device_ioeventfd arg = {
		.argsz = sizeof(arg), .flags = size, .offset = offset,
		.data = data, .fd = fd,
	};

	return ioctl(dev, VFIO_DEVICE_IOEVENTFD, &arg);
}

/* Wait a tenth of a second for the register to have that value. */
static bool becomes(void *bar, __u32 want)
{
	double end = now() + 0.1;

	do {
		if (mmio_read32(bar, EDU_LIVE) == want)
			return true;
		sleep_ms(1);
	} while (now() < end);
	return false;
}

TEST(ioeventfd)
{
	struct vfio_region_info info;
	int a, b, c, i, n = 0;
	struct setup s;
	void *bar;

	bar = edu_setup(&s);
	region_info(s.dev, VFIO_PCI_BAR0_REGION_INDEX, &info);
	a = event_open();
	b = event_open();
	c = event_open();
	mmio_write32(bar, EDU_LIVE, 0);
	expect_ok(ioeventfd(s.dev, 4, info.offset + EDU_LIVE, 0x1111, a));
	expect_ok(ioeventfd(s.dev, 4, info.offset + EDU_LIVE, 0x2222, b));
	for (i = 0; i < 3; i++) {
		write_event(a);
		expect(becomes(bar, ~0x1111));
		write_event(b);
		expect(becomes(bar, ~0x2222));
	}
	expect_errno(ioeventfd(s.dev, 4, info.offset + EDU_LIVE, 0x1111, c),
		     EEXIST);
	expect_errno(ioeventfd(s.dev, 4, info.offset + EDU_LIVE, 0x3333, -1),
		     ENODEV);
	expect_ok(ioeventfd(s.dev, 4, info.offset + EDU_LIVE, 0x1111, -1));
	write_event(a);
	expect(!becomes(bar, ~0x1111));

	/* No register is written while memory is off. */
	mmio_write32(bar, EDU_LIVE, 0);
	config_write(s.dev, PCI_COMMAND, 2,
		     config_read(s.dev, PCI_COMMAND, 2) & ~PCI_MEMORY);
	write_event(b);
	sleep_ms(20);
	config_write(s.dev, PCI_COMMAND, 2,
		     config_read(s.dev, PCI_COMMAND, 2) | PCI_MEMORY);
	expect(!becomes(bar, ~0x2222));

	/* Elsewhere */
	expect_errno(ioeventfd(s.dev, 4, info.offset + info.size, 0, c),
		     EINVAL);
	expect_errno(ioeventfd(s.dev, 4, info.offset + info.size - 2, 0, c),
		     EINVAL);
	region_info(s.dev, VFIO_PCI_BAR1_REGION_INDEX, &info);
	expect_errno(ioeventfd(s.dev, 4, info.offset, 0, c), EINVAL);
	region_info(s.dev, VFIO_PCI_ROM_REGION_INDEX, &info);
	expect_errno(ioeventfd(s.dev, 4, info.offset, 0, c), EINVAL);
	region_info(s.dev, VFIO_PCI_CONFIG_REGION_INDEX, &info);
	expect_errno(ioeventfd(s.dev, 4, info.offset, 0, c), EINVAL);

	/* This is the largest number of them. */
	region_info(s.dev, VFIO_PCI_BAR0_REGION_INDEX, &info);
	while (!ioeventfd(s.dev, 1, info.offset + EDU_LIVE, n, c))
		n++;
	expect_eq(errno, ENOSPC);
	expect(n >= 999);
	/* All of them go with the device. */
}

TEST(ioeventfd_beside_the_msix_table)
{
	struct vfio_region_info info;
	struct nvme n;
	__u32 table;
	int fd;

	nvme_setup(&n);
	fd = event_open();
	region_info(n.s.dev, VFIO_PCI_BAR0_REGION_INDEX, &info);
	table = config_read(n.s.dev, config_capability(n.s.dev, 0x11) + 4, 4);
	expect_eq(table & 7, 0);
	expect_errno(ioeventfd(n.s.dev, 4, info.offset + table, 0, fd), EINVAL);
	expect_errno(ioeventfd(n.s.dev, 4, info.offset + table - 2, 0, fd),
		     EINVAL);
	expect_ok(ioeventfd(n.s.dev, 4, info.offset + table - 4, 0, fd));
}
