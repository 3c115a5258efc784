/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An NVMe controller driven from user space: one admin queue, one I/O queue,
 * an MSI-X vector for each. One thread, no locks.
 *
 * Functions return 0 (or a count) or a negative errno, and say on stderr what went
 * wrong.
 */
#ifndef NVME_CTRL_H
#define NVME_CTRL_H

#include <stdbool.h>
#include <stddef.h>

#include <libnoiommufd.h>

/* Pages that the queues live in, in this order. */
enum nvme_queue_page {
	NVME_PAGE_ADMIN_SQ,
	NVME_PAGE_ADMIN_CQ,
	NVME_PAGE_IO_SQ,
	NVME_PAGE_IO_CQ,
	NVME_PAGE_IDENTIFY,
	NVME_PAGE_STATE,	/* struct nvme_state */
	NVME_QUEUE_PAGES,
};

/* A command as the controller reads it (NVMe base specification, 3.3.3). */
struct nvme_sqe {
	__u8 opcode;
	__u8 flags;
	__u16 cid;
	__u32 nsid;
	__u64 reserved;
	__u64 metadata;
	__u64 prp1;
	__u64 prp2;
	__u32 cdw10;
	__u32 cdw11;
	__u32 cdw12;
	__u32 cdw13;
	__u32 cdw14;
	__u32 cdw15;
};

/* A completion as the controller writes it; bit 0 of @status is the phase. */
struct nvme_cqe {
	__u32 result;
	__u32 reserved;
	__u16 sq_head;
	__u16 sq_id;
	__u16 cid;
	__u16 status;
};

/**
 * struct nvme_place - how far a queue has been used, in entries since it was created
 * @tail: of the submission queue: next entry to fill
 * @head: of the completion queue: next entry to read
 * @rung_tail: the tail that the controller knows
 * @rung_head: the head that it knows
 *
 * Each changes by one store, so a driver may be killed at any time.
 */
struct nvme_place {
	__u64 tail;
	__u64 head;
	__u64 rung_tail;
	__u64 rung_head;
};

/**
 * struct nvme_state - what a driver that takes over has to know
 * @admin: of the admin queue
 * @io: of the I/O queue
 * @page_size: as in struct nvme, and so on
 */
struct nvme_state {
	struct nvme_place admin;
	struct nvme_place io;
	__u64 page_size;
	__u64 max_transfer;
	__u64 blocks;
	__u64 block_size;
	__u32 timeout_ms;
	__u32 depth;
	__u32 entries;
	__u32 nsid;
};

/**
 * struct nvme_queue - a submission queue and its completion queue
 * @sq: submission queue
 * @cq: completion queue
 * @sq_doorbell: tells the controller how far @sq is filled
 * @cq_doorbell: tells the controller how far @cq is read
 * @entries: of each; one of them always stays free
 * @place: how far it has been used
 * @vector: its interrupt
 * @interrupts: taken so far
 */
struct nvme_queue {
	struct nvme_sqe *sq;
	struct nvme_cqe *cq;
	void *sq_doorbell;
	void *cq_doorbell;
	unsigned int entries;
	struct nvme_place *place;
	unsigned int vector;
	unsigned long interrupts;
};

/**
 * struct nvme - a controller with one namespace
 * @dev: the PCI device
 * @ioas: its IO address space
 * @bdf: its address
 * @bar: registers
 * @enabled: the controller runs
 * @io_running: the I/O queue pair is there
 * @labelled: its memory can be handed over
 * @page_size: the controller's memory page, in bytes
 * @timeout_ms: how long it may take to get ready
 * @max_transfer: bytes that one command can carry
 * @depth: commands in flight at most; command ids are below it
 * @admin: admin queue
 * @io: I/O queue
 * @queues: the NVME_QUEUE_PAGES
 * @prp: PRP lists, a page for each command in flight
 * @model: from Identify
 * @serial: from Identify
 * @nsid: the first active namespace
 * @blocks: its size
 * @block_size: in bytes
 */
struct nvme {
	struct noiommufd_device *dev;
	struct noiommufd_ioas *ioas;
	const char *bdf;
	char *bar;
	bool enabled;
	bool io_running;
	bool labelled;
	size_t page_size;
	unsigned int timeout_ms;
	size_t max_transfer;
	unsigned int depth;
	struct nvme_queue admin;
	struct nvme_queue io;
	struct noiommufd_dma *queues;
	struct noiommufd_dma *prp;
	char model[41];
	char serial[21];
	__u32 nsid;
	__u64 blocks;
	size_t block_size;
};

int nvme_open(struct nvme *ctrl, const char *bdf, void *queue_mem);
int nvme_open_labelled(struct nvme *ctrl, const char *bdf);
int nvme_take_over(struct nvme *ctrl, struct noiommufd_device *dev);
int nvme_start_io(struct nvme *ctrl, unsigned int depth, size_t transfer);
void nvme_close(struct nvme *ctrl);

void nvme_submit(struct nvme *ctrl, bool write, unsigned int cid,
		 __u64 offset, size_t len, struct noiommufd_dma *dma,
		 const void *data);
void nvme_ring(struct nvme *ctrl);
int nvme_wait(struct nvme *ctrl, __u16 *cids);
int nvme_peek(struct nvme *ctrl, __u16 *cid);
void nvme_next(struct nvme *ctrl);

#endif /* NVME_CTRL_H */
