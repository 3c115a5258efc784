// SPDX-License-Identifier: GPL-2.0-only
/*
 * An NVMe controller driven from user space. The numbers are those of the NVMe
 * base specification; its names stand in the comments.
 */
#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* Labels of memory */
#define QUEUES			"nvme-queues"
#define PRP_LISTS		"nvme-prp-lists"

#define fail(err, fmt, ...)						\
	(fprintf(stderr, fmt "\n", ##__VA_ARGS__), -(err))

static __u32 read32(struct nvme *ctrl, size_t offset)
{
	return noiommufd_read32(ctrl->bar + offset);
}

static __u64 read64(struct nvme *ctrl, size_t offset)
{
	return read32(ctrl, offset) | (__u64)read32(ctrl, offset + 4) << 32;
}

static __u64 capabilities(struct nvme *ctrl)
{
	return read64(ctrl, REG_CAP);
}

static void write32(struct nvme *ctrl, size_t offset, __u32 value)
{
	noiommufd_write32(ctrl->bar + offset, value);
}

static void write64(struct nvme *ctrl, size_t offset, __u64 value)
{
	write32(ctrl, offset, value);
	write32(ctrl, offset + 4, value >> 32);
}

static void *queue_page(struct nvme *ctrl, enum nvme_queue_page i)
{
	return (char *)noiommufd_va(ctrl->queues) + i * sysconf(_SC_PAGESIZE);
}

static __u64 queue_pa(struct nvme *ctrl, enum nvme_queue_page i)
{
	return noiommufd_pa(ctrl->queues, queue_page(ctrl, i));
}

static struct nvme_state *state(struct nvme *ctrl)
{
	return queue_page(ctrl, NVME_PAGE_STATE);
}

/* Where a queue is, with what is in it */
static void queue_find(struct nvme *ctrl, struct nvme_queue *queue,
		       unsigned int id, unsigned int entries)
{
	size_t stride = 4ul << CAP_DSTRD(capabilities(ctrl));

	queue->sq = queue_page(ctrl, id ? NVME_PAGE_IO_SQ : NVME_PAGE_ADMIN_SQ);
	queue->cq = queue_page(ctrl, id ? NVME_PAGE_IO_CQ : NVME_PAGE_ADMIN_CQ);
	queue->sq_doorbell = ctrl->bar + REG_DOORBELLS + 2 * id * stride;
	queue->cq_doorbell = queue->sq_doorbell + stride;
	queue->entries = entries;
	queue->place = id ? &state(ctrl)->io : &state(ctrl)->admin;
	queue->vector = id ? IO_VECTOR : 0;
}

static void queue_init(struct nvme *ctrl, struct nvme_queue *queue,
		       unsigned int id, unsigned int entries)
{
	queue_find(ctrl, queue, id, entries);
	memset(queue->cq, 0, ctrl->page_size);
	*queue->place = (struct nvme_place){ 0 };
}

static void queue_put(struct nvme_queue *queue, const struct nvme_sqe *sqe)
{
	__u64 tail = queue->place->tail;

	queue->sq[tail % queue->entries] = *sqe;
	__atomic_store_n(&queue->place->tail, tail + 1, __ATOMIC_RELEASE);
}

static void queue_ring(struct nvme_queue *queue)
{
	__u64 tail = queue->place->tail;

	noiommufd_write32(queue->sq_doorbell, tail % queue->entries);
	__atomic_store_n(&queue->place->rung_tail, tail, __ATOMIC_RELEASE);
}

/* The next new completion, if there is one */
static bool queue_peek(struct nvme_queue *queue, struct nvme_cqe *cqe)
{
	__u64 head = queue->place->head;
	struct nvme_cqe *next = &queue->cq[head % queue->entries];
	__u16 status = le16toh(__atomic_load_n(&next->status,
					       __ATOMIC_RELAXED));

	/* The phase bit of what is new is 1 in the first round, and then changes. */
	if ((status & 1) == (head / queue->entries & 1))
		return false;
	/* The rest of it was written before the phase bit was. */
	noiommufd_dma_rmb();
	*cqe = *next;
	return true;
}

static void queue_next(struct nvme_queue *queue)
{
	__atomic_store_n(&queue->place->head, queue->place->head + 1,
			 __ATOMIC_RELEASE);
}

/* The controller may write where completions have been read. */
static void queue_release(struct nvme_queue *queue)
{
	__u64 head = queue->place->head;

	noiommufd_write32(queue->cq_doorbell, head % queue->entries);
	__atomic_store_n(&queue->place->rung_head, head, __ATOMIC_RELEASE);
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
	long count = noiommufd_irq_wait(ctrl->dev, queue->vector, WAIT_MS);

	if (count < 0)
		return -errno;
	if (!count)
		return fail(ETIMEDOUT,
			    "No interrupt from %s in %u s; its status register reads %#x.",
			    ctrl->bdf, WAIT_MS / 1000,
			    read32(ctrl, REG_CSTS));
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
	queue_ring(queue);
	do {
		rc = queue_sleep(ctrl, queue);
		if (rc && rc != -EINTR)
			return rc;
	} while (!queue_peek(queue, &cqe));
	queue_next(queue);
	queue_release(queue);
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
				    ctrl->bdf);
		if ((csts & mask) == want)
			return 0;
		if ((csts & CSTS_CFS) && want)
			break;
		usleep(1000);
	}
	return fail(ETIMEDOUT, "%s does not get ready: status %#x.",
		    ctrl->bdf, read32(ctrl, REG_CSTS));
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
			    ctrl->bdf, ctrl->page_size >> 10);

	write32(ctrl, REG_CC, read32(ctrl, REG_CC) & ~CC_EN);
	rc = wait_status(ctrl, CSTS_RDY, 0);
	if (rc)
		return rc;

	queue_init(ctrl, &ctrl->admin, 0, ADMIN_ENTRIES);
	write32(ctrl, REG_AQA, (ADMIN_ENTRIES - 1) << 16 | (ADMIN_ENTRIES - 1));
	write64(ctrl, REG_ASQ, queue_pa(ctrl, NVME_PAGE_ADMIN_SQ));
	write64(ctrl, REG_ACQ, queue_pa(ctrl, NVME_PAGE_ADMIN_CQ));
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
		.prp1 = htole64(queue_pa(ctrl, NVME_PAGE_IDENTIFY)),
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
		return fail(ENODEV, "%s has no namespace.", ctrl->bdf);

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

/* Zeroed memory, which can be handed over if that is wanted */
static struct noiommufd_dma *alloc(struct nvme *ctrl, const char *label, size_t size)
{
	return ctrl->labelled ? noiommufd_alloc_labelled(ctrl->ioas, label, size) :
	       noiommufd_alloc(ctrl->ioas, size, NULL);
}

/* The device, memory for its queues, its registers and interrupts */
static int open_device(struct nvme *ctrl, const char *bdf, void *queue_mem)
{
	size_t size = NVME_QUEUE_PAGES * sysconf(_SC_PAGESIZE);

	ctrl->dev = noiommufd_open(bdf, NULL);
	if (!ctrl->dev)
		return -errno;
	ctrl->bdf = noiommufd_info(ctrl->dev)->address;
	ctrl->ioas = noiommufd_device_ioas(ctrl->dev);
	ctrl->queues = queue_mem ?
		       noiommufd_map(ctrl->ioas, queue_mem, size, 0) :
		       alloc(ctrl, QUEUES, size);
	ctrl->bar = noiommufd_bar(ctrl->dev, NOIOMMUFD_BAR0);
	if (!ctrl->queues || !ctrl->bar ||
	    noiommufd_bus_master(ctrl->dev, true) ||
	    noiommufd_irq_enable(ctrl->dev, NOIOMMUFD_MSIX, IO_VECTOR + 1))
		return -errno;
	return 0;
}

static int start(struct nvme *ctrl, const char *bdf, void *queue_mem)
{
	int rc;

	noiommufd_set_log(noiommufd_print, stderr);
	rc = open_device(ctrl, bdf, queue_mem);
	if (!rc)
		rc = enable(ctrl);
	if (!rc)
		rc = identify(ctrl);
	if (rc)
		nvme_close(ctrl);
	return rc;
}

/**
 * nvme_open() - Take a controller, reset it, identify it.
 * @ctrl: filled in
 * @bdf: PCI address, or NULL for the only device in noiommu mode
 * @queue_mem: NVME_QUEUE_PAGES pages for the queues, or NULL to allocate them
 */
int nvme_open(struct nvme *ctrl, const char *bdf, void *queue_mem)
{
	*ctrl = (struct nvme){ 0 };
	return start(ctrl, bdf, queue_mem);
}

/**
 * nvme_open_labelled() - nvme_open(), with memory that can be handed over.
 * @ctrl: filled in
 * @bdf: PCI address, or NULL for the only device in noiommu mode
 */
int nvme_open_labelled(struct nvme *ctrl, const char *bdf)
{
	*ctrl = (struct nvme){ .labelled = true };
	return start(ctrl, bdf, NULL);
}

/* For nvme_take_over() */
static void remember(struct nvme *ctrl)
{
	struct nvme_state *s = state(ctrl);

	s->page_size = ctrl->page_size;
	s->max_transfer = ctrl->max_transfer;
	s->blocks = ctrl->blocks;
	s->block_size = ctrl->block_size;
	s->timeout_ms = ctrl->timeout_ms;
	s->depth = ctrl->depth;
	s->entries = ctrl->io.entries;
	s->nsid = ctrl->nsid;
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
		.prp1 = htole64(queue_pa(ctrl, NVME_PAGE_IO_CQ)),
		.cdw11 = htole32(IO_VECTOR << 16 | QUEUE_INTERRUPT |
				 QUEUE_CONTIGUOUS),
	};
	struct nvme_sqe create_sq = {
		.opcode = ADMIN_CREATE_SQ,
		.prp1 = htole64(queue_pa(ctrl, NVME_PAGE_IO_SQ)),
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

	/* A list of a page for each command, so that none is continued. */
	if (ctrl->max_transfer > ctrl->page_size / sizeof(__u64) * ctrl->page_size)
		ctrl->max_transfer = ctrl->page_size / sizeof(__u64) * ctrl->page_size;
	ctrl->prp = alloc(ctrl, PRP_LISTS, ctrl->depth * ctrl->page_size);
	if (!ctrl->prp)
		return -errno;

	queue_init(ctrl, &ctrl->io, IO_QUEUE, entries);
	create_cq.cdw10 = htole32((entries - 1) << 16 | IO_QUEUE);
	create_sq.cdw10 = create_cq.cdw10;
	rc = admin(ctrl, &queues);
	if (!rc)
		rc = admin(ctrl, &create_cq);
	if (!rc)
		rc = admin(ctrl, &create_sq);
	ctrl->io_running = !rc;
	if (!rc)
		remember(ctrl);
	return rc;
}

/* Is it the controller as it was left, and not one that was reset? */
static int still_runs(struct nvme *ctrl)
{
	__u32 cc = read32(ctrl, REG_CC), csts = read32(ctrl, REG_CSTS);

	if (cc & CC_EN && csts & CSTS_RDY && !(csts & (CSTS_CFS | CSTS_SHST_MASK)) &&
	    read64(ctrl, REG_ASQ) == queue_pa(ctrl, NVME_PAGE_ADMIN_SQ) &&
	    read64(ctrl, REG_ACQ) == queue_pa(ctrl, NVME_PAGE_ADMIN_CQ))
		return 0;
	return fail(EIO, "%s was reset or stopped: configuration %#x, status %#x.",
		    ctrl->bdf, cc, csts);
}

/**
 * nvme_take_over() - Go on with a controller of a driver that has ended.
 * @ctrl: filled in
 * @dev: a device of noiommufd_resume()
 *
 * The predecessor had the controller by nvme_open_labelled() and nvme_start_io().
 * Its commands are in flight, or in the completion queue.
 */
int nvme_take_over(struct nvme *ctrl, struct noiommufd_device *dev)
{
	const struct nvme_state *s;
	int rc;

	*ctrl = (struct nvme){ .dev = dev, .labelled = true };
	ctrl->bdf = noiommufd_info(dev)->address;
	ctrl->ioas = noiommufd_device_ioas(dev);
	ctrl->queues = noiommufd_labelled(ctrl->ioas, QUEUES);
	ctrl->prp = noiommufd_labelled(ctrl->ioas, PRP_LISTS);
	ctrl->bar = noiommufd_bar(dev, NOIOMMUFD_BAR0);
	if (!ctrl->queues || !ctrl->prp || !ctrl->bar)
		return -errno;

	s = state(ctrl);
	ctrl->page_size = s->page_size;
	ctrl->max_transfer = s->max_transfer;
	ctrl->blocks = s->blocks;
	ctrl->block_size = s->block_size;
	ctrl->timeout_ms = s->timeout_ms;
	ctrl->depth = s->depth;
	ctrl->nsid = s->nsid;
	queue_find(ctrl, &ctrl->admin, 0, ADMIN_ENTRIES);
	queue_find(ctrl, &ctrl->io, IO_QUEUE, s->entries);
	rc = still_runs(ctrl);
	if (rc)
		return rc;
	ctrl->enabled = true;
	ctrl->io_running = true;
	/* It may have been killed before it rang. */
	if (s->io.rung_tail != s->io.tail)
		queue_ring(&ctrl->io);
	if (s->io.rung_head != s->io.head)
		queue_release(&ctrl->io);
	return 0;
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
		ctrl->enabled = false;
	}
	noiommufd_close(ctrl->dev);
	noiommufd_free(ctrl->prp);
	noiommufd_free(ctrl->queues);
	*ctrl = (struct nvme){ 0 };
}

/*
 * Physical region pages: the first two addresses of the data fit into the
 * command; if there are more, all but the first are in a list.
 */
static void set_prps(struct nvme *ctrl, struct nvme_sqe *sqe, unsigned int cid,
		     size_t len, struct noiommufd_dma *dma, const void *data)
{
	size_t room = ctrl->page_size / sizeof(__u64);
	__u64 *list = (__u64 *)noiommufd_va(ctrl->prp) + cid * room;
	long pages, i;

	pages = noiommufd_pages(dma, data, len, ctrl->page_size, list, room);
	for (i = 0; i < pages; i++)
		list[i] = htole64(list[i]);
	sqe->prp1 = list[0];
	if (pages == 2)
		sqe->prp2 = list[1];
	if (pages > 2)
		sqe->prp2 = htole64(noiommufd_pa(ctrl->prp, list + 1));
}

/**
 * nvme_submit() - Put a read or write into the queue.
 * @ctrl: controller
 * @write: from memory to the namespace, else the other way
 * @cid: command id below the depth, not in flight
 * @offset: in the namespace, in bytes
 * @len: in bytes; a multiple of the block size, at most max_transfer
 * @dma: memory
 * @data: where in it the data is; starts a page
 */
void nvme_submit(struct nvme *ctrl, bool write, unsigned int cid,
		 __u64 offset, size_t len, struct noiommufd_dma *dma,
		 const void *data)
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

	set_prps(ctrl, &sqe, cid, len, dma, data);
	queue_put(&ctrl->io, &sqe);
}

/**
 * nvme_ring() - Have the controller look at what was submitted.
 * @ctrl: controller
 */
void nvme_ring(struct nvme *ctrl)
{
	queue_ring(&ctrl->io);
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
	int rc, done = 0;

	rc = queue_sleep(ctrl, &ctrl->io);
	if (rc)
		return rc == -EINTR ? 0 : rc;

	while ((rc = nvme_peek(ctrl, &cids[done])) > 0) {
		queue_next(&ctrl->io);
		done++;
	}
	if (done)
		queue_release(&ctrl->io);
	return rc ? rc : done;
}

/**
 * nvme_peek() - Look at the next completion.
 * @ctrl: controller
 * @cid: out: id of the command
 *
 * It stays the next until nvme_next(): so a driver that is killed in between loses
 * none.
 *
 * Returns 1, or 0: there is none now.
 */
int nvme_peek(struct nvme *ctrl, __u16 *cid)
{
	struct nvme_cqe cqe;
	int rc;

	if (!queue_peek(&ctrl->io, &cqe))
		return 0;
	rc = check_status(&cqe);
	*cid = le16toh(cqe.cid);
	return rc ? rc : 1;
}

/**
 * nvme_next() - Be done with that completion.
 * @ctrl: controller
 */
void nvme_next(struct nvme *ctrl)
{
	queue_next(&ctrl->io);
	queue_release(&ctrl->io);
}
