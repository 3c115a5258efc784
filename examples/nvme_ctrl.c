// SPDX-License-Identifier: GPL-2.0-only
/*
 * An NVMe controller driven from user space. The numbers are those of the NVMe
 * base specification; its names stand in the comments.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nvme_ctrl.h"

/* Registers in BAR 0 */
#define REG_CAP		0x00	/* capabilities, 64 bits */
#define REG_CC		0x14	/* configuration */
#define REG_CSTS	0x1c	/* status */
#define REG_AQA		0x24	/* admin queue attributes: entries */
#define REG_ASQ		0x28	/* admin submission queue, 64 bits */
#define REG_ACQ		0x30	/* admin completion queue, 64 bits */
#define REG_DOORBELLS	0x1000

#define CAP_MQES(cap)	((cap) & 0xffff)	/* entries of a queue - 1 */
#define CAP_TO(cap)	((cap) >> 24 & 0xff)	/* half seconds to ready */
#define CAP_DSTRD(cap)	((cap) >> 32 & 0xf)	/* space between doorbells */
#define CAP_MPSMIN(cap)	((cap) >> 48 & 0xf)	/* smallest page, 4 KiB << */

#define CC_EN		0x00000001
#define CC_MPS_SHIFT	7
#define CC_SHN_NORMAL	0x00004000
#define CC_SHN_MASK	0x0000c000
#define CC_IOSQES	0x00060000	/* commands of 64 bytes */
#define CC_IOCQES	0x00400000	/* completions of 16 bytes */

#define CSTS_RDY	0x1
#define CSTS_CFS	0x2
#define CSTS_SHST_MASK	0xc
#define CSTS_SHST_DONE	0x8

/* Admin commands */
#define ADMIN_DELETE_SQ		0x00
#define ADMIN_CREATE_SQ		0x01
#define ADMIN_DELETE_CQ		0x04
#define ADMIN_CREATE_CQ		0x05
#define ADMIN_IDENTIFY		0x06
#define ADMIN_SET_FEATURES	0x09

#define IDENTIFY_NAMESPACE	0
#define IDENTIFY_CONTROLLER	1
#define IDENTIFY_ACTIVE_LIST	2

#define FEATURE_QUEUES		0x07

#define IO_WRITE		0x01
#define IO_READ			0x02

#define QUEUE_CONTIGUOUS	0x1
#define QUEUE_INTERRUPT		0x2

#define ADMIN_ENTRIES		16
#define IO_QUEUE		1	/* its id */
#define IO_VECTOR		1	/* the admin queue has vector 0 */
#define WAIT_MS			30000

#define fail(err, fmt, ...)						\
	(fprintf(stderr, fmt "\n", ##__VA_ARGS__), -(err))

/*
 * Registers, doorbells and phase bits are accessed once each, in one piece,
 * and never cached: that is what a relaxed atomic does.
 */
static __u32 *reg(struct nvme *ctrl, size_t offset)
{
	return (__u32 *)((char *)ctrl->bar + offset);
}

static __u32 read32(struct nvme *ctrl, size_t offset)
{
	return le32toh(__atomic_load_n(reg(ctrl, offset), __ATOMIC_RELAXED));
}

static __u64 capabilities(struct nvme *ctrl)
{
	return read32(ctrl, REG_CAP) | (__u64)read32(ctrl, REG_CAP + 4) << 32;
}

static void write_doorbell(__u32 *doorbell, __u32 value)
{
	/* What was written to memory before has to be seen first. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(doorbell, htole32(value), __ATOMIC_RELAXED);
}

static void write32(struct nvme *ctrl, size_t offset, __u32 value)
{
	write_doorbell(reg(ctrl, offset), value);
}

static void write64(struct nvme *ctrl, size_t offset, __u64 value)
{
	write32(ctrl, offset, value);
	write32(ctrl, offset + 4, value >> 32);
}

static void *queue_page(struct nvme *ctrl, enum nvme_queue_page i)
{
	return (char *)ctrl->queue_mem + i * sysconf(_SC_PAGESIZE);
}

static void *dma_alloc(size_t len)
{
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

static void queue_init(struct nvme *ctrl, struct nvme_queue *queue,
		       unsigned int id, unsigned int entries)
{
	size_t stride = 4ul << CAP_DSTRD(capabilities(ctrl));

	queue->sq = queue_page(ctrl, id ? NVME_PAGE_IO_SQ : NVME_PAGE_ADMIN_SQ);
	queue->cq = queue_page(ctrl, id ? NVME_PAGE_IO_CQ : NVME_PAGE_ADMIN_CQ);
	memset(queue->cq, 0, ctrl->page_size);
	queue->sq_doorbell = reg(ctrl, REG_DOORBELLS + 2 * id * stride);
	queue->cq_doorbell = reg(ctrl, REG_DOORBELLS + (2 * id + 1) * stride);
	queue->entries = entries;
	queue->tail = 0;
	queue->head = 0;
	queue->phase = 1;
}

static void queue_put(struct nvme_queue *queue, const struct nvme_sqe *sqe)
{
	queue->sq[queue->tail] = *sqe;
	queue->tail = (queue->tail + 1) % queue->entries;
}

/* The next new completion, if there is one. */
static bool queue_get(struct nvme_queue *queue, struct nvme_cqe *cqe)
{
	struct nvme_cqe *next = &queue->cq[queue->head];
	__u16 status = le16toh(__atomic_load_n(&next->status,
						  __ATOMIC_ACQUIRE));

	if ((status & 1) != queue->phase)
		return false;
	*cqe = *next;
	queue->head = (queue->head + 1) % queue->entries;
	if (!queue->head)
		queue->phase = !queue->phase;
	return true;
}

static int check_status(const struct nvme_cqe *cqe)
{
	unsigned int status = le16toh(cqe->status) >> 1;

	if (!(status & 0x7ff))
		return 0;
	return fail(EIO,
		    "The controller failed command %u: status code type %u, code %#x.",
		    le16toh(cqe->cid), status >> 8 & 7, status & 0xff);
}

/*
 * Sleep until the queue's interrupt comes. EINTR: a signal came first. Several
 * interrupts may have come since the last read; the eventfd counts them.
 */
static int queue_sleep(struct nvme *ctrl, struct nvme_queue *queue)
{
	struct pollfd pfd = { .fd = queue->irq, .events = POLLIN };
	__u64 count;
	int rc;

	rc = poll(&pfd, 1, WAIT_MS);
	if (rc < 0)
		return -errno;
	if (!rc)
		return fail(ETIMEDOUT,
			    "No interrupt from %s in %u s; its status register reads %#x.",
			    ctrl->dev.bdf, WAIT_MS / 1000,
			    read32(ctrl, REG_CSTS));
	if (read(queue->irq, &count, sizeof(count)) == sizeof(count))
		queue->interrupts += count;
	return 0;
}

/* Run one admin command, whose data goes to the identify page if anywhere. */
static int admin(struct nvme *ctrl, struct nvme_sqe *sqe)
{
	struct nvme_queue *queue = &ctrl->admin;
	struct nvme_cqe cqe;
	int rc;

	queue_put(queue, sqe);
	write_doorbell(queue->sq_doorbell, queue->tail);
	do {
		rc = queue_sleep(ctrl, queue);
		if (rc && rc != -EINTR)
			return rc;
	} while (!queue_get(queue, &cqe));
	write_doorbell(queue->cq_doorbell, queue->head);
	return check_status(&cqe);
}

static int wait_status(struct nvme *ctrl, __u32 mask, __u32 want)
{
	unsigned int ms;

	for (ms = 0; ms < ctrl->timeout_ms; ms++) {
		__u32 csts = read32(ctrl, REG_CSTS);

		if (csts == ~0u)
			return fail(EIO,
				    "%s does not answer: it was removed, or memory decoding is off.",
				    ctrl->dev.bdf);
		if ((csts & mask) == want)
			return 0;
		if ((csts & CSTS_CFS) && want)
			break;
		usleep(1000);
	}
	return fail(ETIMEDOUT, "%s does not get ready: status %#x.",
		    ctrl->dev.bdf, read32(ctrl, REG_CSTS));
}

/* Reset the controller, and start it with an admin queue. */
static int enable(struct nvme *ctrl)
{
	__u64 cap = capabilities(ctrl);
	unsigned int mps = CAP_MPSMIN(cap);
	int rc;

	ctrl->page_size = 4096ul << mps;
	ctrl->timeout_ms = (CAP_TO(cap) + 1) * 500;
	if (ctrl->page_size > (size_t)sysconf(_SC_PAGESIZE))
		return fail(EOPNOTSUPP,
			    "%s wants pages of %zu KiB, which is more than this machine has.",
			    ctrl->dev.bdf, ctrl->page_size >> 10);

	write32(ctrl, REG_CC, read32(ctrl, REG_CC) & ~CC_EN);
	rc = wait_status(ctrl, CSTS_RDY, 0);
	if (rc)
		return rc;

	queue_init(ctrl, &ctrl->admin, 0, ADMIN_ENTRIES);
	write32(ctrl, REG_AQA, (ADMIN_ENTRIES - 1) << 16 | (ADMIN_ENTRIES - 1));
	write64(ctrl, REG_ASQ, ctrl->queue_pa[NVME_PAGE_ADMIN_SQ]);
	write64(ctrl, REG_ACQ, ctrl->queue_pa[NVME_PAGE_ADMIN_CQ]);
	ctrl->enabled = true;
	write32(ctrl, REG_CC,
		CC_EN | mps << CC_MPS_SHIFT | CC_IOSQES | CC_IOCQES);
	return wait_status(ctrl, CSTS_RDY, CSTS_RDY);
}

/* A fixed-width text of Identify, padded with blanks. */
static void copy_text(char *to, const char *from, size_t len)
{
	while (len && from[len - 1] == ' ')
		len--;
	memcpy(to, from, len);
	to[len] = '\0';
}

static int identify_one(struct nvme *ctrl, __u32 what, __u32 nsid)
{
	struct nvme_sqe sqe = {
		.opcode = ADMIN_IDENTIFY,
		.nsid = htole32(nsid),
		.prp1 = htole64(ctrl->queue_pa[NVME_PAGE_IDENTIFY]),
		.cdw10 = htole32(what),
	};

	return admin(ctrl, &sqe);
}

static int identify(struct nvme *ctrl)
{
	const __u8 *page = queue_page(ctrl, NVME_PAGE_IDENTIFY);
	__u32 format;
	__u64 nsze;
	int rc;

	rc = identify_one(ctrl, IDENTIFY_CONTROLLER, 0);
	if (rc)
		return rc;
	copy_text(ctrl->serial, (const char *)page + 4, 20);
	copy_text(ctrl->model, (const char *)page + 24, 40);
	/* MDTS: a power of two in pages; 0 is no limit, 64 Ki blocks is. */
	ctrl->max_transfer = page[77] ? ctrl->page_size << page[77] : SIZE_MAX;

	rc = identify_one(ctrl, IDENTIFY_ACTIVE_LIST, 0);
	if (rc)
		return rc;
	memcpy(&ctrl->nsid, page, sizeof(ctrl->nsid));
	ctrl->nsid = le32toh(ctrl->nsid);
	if (!ctrl->nsid)
		return fail(ENODEV, "%s has no namespace.", ctrl->dev.bdf);

	rc = identify_one(ctrl, IDENTIFY_NAMESPACE, ctrl->nsid);
	if (rc)
		return rc;
	memcpy(&nsze, page, sizeof(nsze));
	ctrl->blocks = le64toh(nsze);
	/* FLBAS names the LBA format in use. */
	memcpy(&format, page + 128 + 4 * ((page[26] & 0xf) |
					  (page[26] >> 1 & 0x30)),
	       sizeof(format));
	format = le32toh(format);
	ctrl->block_size = 1ul << (format >> 16 & 0xff);
	if (format & 0xffff)
		return fail(EOPNOTSUPP,
			    "Namespace %u has metadata: format it without.",
			    ctrl->nsid);
	if (ctrl->max_transfer > ctrl->block_size * 65536)
		ctrl->max_transfer = ctrl->block_size * 65536;
	return 0;
}

/**
 * nvme_open() - Take a controller, reset it, identify it.
 * @ctrl: filled in
 * @bdf: PCI address, or NULL for the only device in noiommu mode
 * @queue_mem: NVME_QUEUE_PAGES pages for the queues, or NULL to allocate them
 */
int nvme_open(struct nvme *ctrl, const char *bdf, void *queue_mem)
{
	size_t page = sysconf(_SC_PAGESIZE);
	__u64 iova;
	int irqs[2];
	int rc;

	*ctrl = (struct nvme){ .queue_mem = queue_mem };
	rc = noiommu_open(&ctrl->dev, bdf);
	if (rc)
		return rc;
	if (!queue_mem)
		ctrl->queue_mem = dma_alloc(NVME_QUEUE_PAGES * page);
	rc = ctrl->queue_mem ? 0 : fail(ENOMEM, "Out of memory.");
	if (!rc)
		rc = noiommu_map_pages(&ctrl->dev, ctrl->queue_mem,
				       NVME_QUEUE_PAGES * page, page, &iova,
				       ctrl->queue_pa);
	if (!rc)
		rc = noiommu_bus_master(&ctrl->dev, true);
	if (!rc)
		rc = noiommu_map_bar(&ctrl->dev, 0, &ctrl->bar,
				     &ctrl->bar_len);
	if (!rc)
		rc = noiommu_msix(&ctrl->dev, irqs, IO_VECTOR + 1);
	if (!rc) {
		ctrl->admin.irq = irqs[0];
		ctrl->io.irq = irqs[IO_VECTOR];
		rc = enable(ctrl);
	}
	if (!rc)
		rc = identify(ctrl);
	if (rc)
		nvme_close(ctrl);
	return rc;
}

/*
 * A list page holds page_size / 8 addresses; all but the last page's last
 * one, which continues the list on the next page, are of data.
 */
static int alloc_prp_lists(struct nvme *ctrl)
{
	size_t pages = ctrl->max_transfer / ctrl->page_size;
	size_t per_page = ctrl->page_size / sizeof(__u64);
	size_t machine_page = sysconf(_SC_PAGESIZE);
	__u64 iova;
	size_t len;

	ctrl->prp_pages = pages <= 2 ? 1 :
			  (pages - 2 + per_page - 2) / (per_page - 1);
	len = ctrl->depth * ctrl->prp_pages * ctrl->page_size;
	len = (len + machine_page - 1) / machine_page * machine_page;
	ctrl->prp = dma_alloc(len);
	ctrl->prp_pa = calloc(len / ctrl->page_size, sizeof(__u64));
	if (!ctrl->prp || !ctrl->prp_pa)
		return fail(ENOMEM, "Out of memory.");
	return noiommu_map_pages(&ctrl->dev, ctrl->prp, len, ctrl->page_size,
				 &iova, ctrl->prp_pa);
}

/**
 * nvme_start_io() - Create the I/O queue pair.
 * @ctrl: controller
 * @depth: commands in flight; lowered to what the controller can take
 * @transfer: bytes that a command carries; lowered likewise
 */
int nvme_start_io(struct nvme *ctrl, unsigned int depth, size_t transfer)
{
	size_t entries = CAP_MQES(capabilities(ctrl)) + 1;
	struct nvme_sqe queues = {
		.opcode = ADMIN_SET_FEATURES,
		.cdw10 = htole32(FEATURE_QUEUES),
		.cdw11 = 0,	/* one of each kind; the numbers are 0-based */
	};
	struct nvme_sqe create_cq = {
		.opcode = ADMIN_CREATE_CQ,
		.prp1 = htole64(ctrl->queue_pa[NVME_PAGE_IO_CQ]),
		.cdw11 = htole32(IO_VECTOR << 16 | QUEUE_INTERRUPT |
				 QUEUE_CONTIGUOUS),
	};
	struct nvme_sqe create_sq = {
		.opcode = ADMIN_CREATE_SQ,
		.prp1 = htole64(ctrl->queue_pa[NVME_PAGE_IO_SQ]),
		.cdw11 = htole32(IO_QUEUE << 16 | QUEUE_CONTIGUOUS),
	};
	int rc;

	/* One page a queue; then it needs no contiguous memory. */
	if (entries > ctrl->page_size / sizeof(struct nvme_sqe))
		entries = ctrl->page_size / sizeof(struct nvme_sqe);
	if (depth > entries - 1)
		depth = entries - 1;
	ctrl->depth = depth;
	if (transfer < ctrl->max_transfer)
		ctrl->max_transfer = transfer;
	ctrl->max_transfer -= ctrl->max_transfer % ctrl->page_size;

	rc = alloc_prp_lists(ctrl);
	if (rc)
		return rc;

	queue_init(ctrl, &ctrl->io, IO_QUEUE, entries);
	create_cq.cdw10 = htole32((entries - 1) << 16 | IO_QUEUE);
	create_sq.cdw10 = create_cq.cdw10;
	rc = admin(ctrl, &queues);
	if (!rc)
		rc = admin(ctrl, &create_cq);
	if (!rc)
		rc = admin(ctrl, &create_sq);
	ctrl->io_running = !rc;
	return rc;
}

static void stop_io(struct nvme *ctrl)
{
	struct nvme_sqe delete_sq = {
		.opcode = ADMIN_DELETE_SQ,
		.cdw10 = htole32(IO_QUEUE),
	};
	struct nvme_sqe delete_cq = {
		.opcode = ADMIN_DELETE_CQ,
		.cdw10 = htole32(IO_QUEUE),
	};

	ctrl->io_running = false;
	if (!admin(ctrl, &delete_sq))
		admin(ctrl, &delete_cq);
}

/**
 * nvme_close() - Shut the controller down and give it back.
 * @ctrl: controller; commands in flight are cut off
 */
void nvme_close(struct nvme *ctrl)
{
	if (ctrl->io_running)
		stop_io(ctrl);
	if (ctrl->enabled) {
		__u32 cc = read32(ctrl, REG_CC) & ~CC_SHN_MASK;

		write32(ctrl, REG_CC, cc | CC_SHN_NORMAL);
		wait_status(ctrl, CSTS_SHST_MASK, CSTS_SHST_DONE);
		write32(ctrl, REG_CC, cc & ~CC_EN);
		wait_status(ctrl, CSTS_RDY, 0);
		noiommu_bus_master(&ctrl->dev, false);
		ctrl->enabled = false;
	}
	/* A mapped BAR keeps the device open, too. */
	if (ctrl->bar)
		munmap(ctrl->bar, ctrl->bar_len);
	ctrl->bar = NULL;
	noiommu_close(&ctrl->dev);
}

/*
 * Physical region pages: the first two addresses of the data fit into the
 * command, more go to a list, which is chained when it outgrows a page.
 */
static void set_prps(struct nvme *ctrl, struct nvme_sqe *sqe, unsigned int cid,
		     const __u64 *pa, size_t pages)
{
	size_t per_page = ctrl->page_size / sizeof(__u64);
	__u64 *list = ctrl->prp + cid * ctrl->prp_pages * per_page;
	const __u64 *list_pa = ctrl->prp_pa + cid * ctrl->prp_pages;
	size_t i = 1, slot = 0;

	sqe->prp1 = htole64(pa[0]);
	if (pages == 2)
		sqe->prp2 = htole64(pa[1]);
	if (pages <= 2)
		return;

	sqe->prp2 = htole64(*list_pa);
	while (i < pages) {
		if (slot == per_page - 1 && i < pages - 1) {
			list[slot] = htole64(*++list_pa);
			list += per_page;
			slot = 0;
		}
		list[slot++] = htole64(pa[i++]);
	}
}

/**
 * nvme_submit() - Put a read or write into the queue.
 * @ctrl: controller
 * @write: from memory to the namespace, else the other way
 * @cid: command id below the depth, not in flight
 * @offset: in the namespace, in bytes
 * @len: in bytes; a multiple of the block size, at most max_transfer
 * @pa: an address for each page of the data, which starts a page
 */
void nvme_submit(struct nvme *ctrl, bool write, unsigned int cid,
		 __u64 offset, size_t len, const __u64 *pa)
{
	__u64 block = offset / ctrl->block_size;
	struct nvme_sqe sqe = {
		.opcode = write ? IO_WRITE : IO_READ,
		.cid = htole16(cid),
		.nsid = htole32(ctrl->nsid),
		.cdw10 = htole32(block),
		.cdw11 = htole32(block >> 32),
		.cdw12 = htole32(len / ctrl->block_size - 1),
	};

	set_prps(ctrl, &sqe, cid, pa,
		 (len + ctrl->page_size - 1) / ctrl->page_size);
	queue_put(&ctrl->io, &sqe);
}

/**
 * nvme_ring() - Have the controller look at what was submitted.
 * @ctrl: controller
 */
void nvme_ring(struct nvme *ctrl)
{
	write_doorbell(ctrl->io.sq_doorbell, ctrl->io.tail);
}

/**
 * nvme_wait() - Sleep until the I/O queue's interrupt, collect completions.
 * @ctrl: controller
 * @cids: out: up to the depth of command ids
 *
 * Returns how many were completed; 0 when a signal came.
 */
int nvme_wait(struct nvme *ctrl, __u16 *cids)
{
	struct nvme_cqe cqe;
	int rc, done = 0;

	rc = queue_sleep(ctrl, &ctrl->io);
	if (rc)
		return rc == -EINTR ? 0 : rc;

	while (queue_get(&ctrl->io, &cqe)) {
		rc = check_status(&cqe);
		if (rc)
			return rc;
		cids[done++] = le16toh(cqe.cid);
	}
	if (done)
		write_doorbell(ctrl->io.cq_doorbell, ctrl->io.head);
	return done;
}
