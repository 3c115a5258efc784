/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libnoiommufd: user-space drivers of PCI devices without an IOMMU. It needs a
 * device that is bound to noiommu-vfio-pci, or, from Linux 7.3 on, to vfio-pci in
 * its no-IOMMU mode; which of them it is makes no difference here.
 *
 * - A function that returns a pointer returns NULL on failure, one that returns an
 *   int -1, and sets errno. noiommufd_set_log() has it explained in a sentence.
 * - A NULL handle, or an argument out of its range, is EINVAL.
 * - Threads may use the same handle at the same time, but none while, or after, it
 *   is closed or freed.
 * - After fork() a handle belongs to the parent. In the child every function that
 *   would reach the kernel fails with ESTALE; closing and freeing gives back what
 *   the child inherited and leaves the device and its memory alone.
 * - Sizes, lengths and offsets are in bytes. Registers and config space are
 *   little-endian.
 */
#ifndef LIBNOIOMMUFD_H
#define LIBNOIOMMUFD_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>
#include <noiommufd/noiommufd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A PCI device */
struct noiommufd_device;
/* An IO address space (IOAS): memory that devices share */
struct noiommufd_ioas;
/* Memory in an IOAS: pinned, and its physical addresses known */
struct noiommufd_dma;

/**
 * noiommufd_set_log() - Have failures explained.
 * @log: called with what happened and what to do about it, in a line or several
 *	without a newline at the end, before the function that failed returns; NULL:
 *	explain nothing
 * @data: passed on to @log
 *
 * Call it before other threads use the library. @log runs in the thread that met
 * the failure, and must not call the library.
 */
void noiommufd_set_log(void (*log)(void *data, const char *message), void *data);

/**
 * noiommufd_print() - Print an explanation, for noiommufd_set_log().
 * @file: where to print it, a FILE pointer such as stderr
 * @message: explanation
 */
void noiommufd_print(void *file, const char *message);

/* Devices */

/* Regions of a device, by index */
enum noiommufd_region_index {
	NOIOMMUFD_BAR0,
	NOIOMMUFD_BAR1,
	NOIOMMUFD_BAR2,
	NOIOMMUFD_BAR3,
	NOIOMMUFD_BAR4,
	NOIOMMUFD_BAR5,
	NOIOMMUFD_ROM,
	NOIOMMUFD_CONFIG,
	NOIOMMUFD_REGIONS,
};

/* Kinds of interrupts */
enum noiommufd_irq {
	NOIOMMUFD_INTX,
	NOIOMMUFD_MSI,
	NOIOMMUFD_MSIX,
	NOIOMMUFD_IRQS,
};

/**
 * struct noiommufd_region - A region of a device.
 * @size: bytes; 0: the device has no such region
 * @flags: VFIO_REGION_INFO_FLAG_READ, _WRITE, _MMAP of <linux/vfio.h>
 */
struct noiommufd_region {
	__u64 size;
	__u64 flags;
};

/**
 * struct noiommufd_info - Facts about a device.
 * @address: PCI address, as in "0000:00:05.0"
 * @node: its node, as in "/dev/vfio/devices/noiommu-vfio0"
 * @driver: the kernel's driver, "noiommu-vfio-pci" or "vfio-pci"
 * @vendor: PCI vendor
 * @device: PCI device
 * @subsystem_vendor: PCI subsystem vendor
 * @subsystem_device: PCI subsystem
 * @class_code: base class, subclass and interface, of 8 bits each
 * @numa_node: the NUMA node that it is near to; -1: none
 * @can_reset: noiommufd_reset() can reset it
 * @irqs: how many interrupts of each kind it has. This and what follows is 0
 *	before noiommufd_bind().
 * @regions: its regions
 *
 * More members may follow in later versions.
 */
struct noiommufd_info {
	char address[32];
	char node[64];
	char driver[32];
	__u16 vendor;
	__u16 device;
	__u16 subsystem_vendor;
	__u16 subsystem_device;
	__u32 class_code;
	__s32 numa_node;
	__u32 can_reset;
	__u32 irqs[NOIOMMUFD_IRQS];
	struct noiommufd_region regions[NOIOMMUFD_REGIONS];
};

/**
 * noiommufd_list() - List the devices that can be opened.
 *
 * Return: their PCI addresses, in ascending order, and a NULL after the last; give
 * the array to free(). Or NULL: ENOMEM, or as for opendir().
 */
char **noiommufd_list(void);

/**
 * noiommufd_open() - Take a device and give it an IO address space.
 * @name: PCI address ("0000:00:05.0", "00:05.0"), node, or path in sysfs; NULL:
 *	the only device that there is
 * @ioas: IOAS to share with other devices; NULL: one of its own, which
 *	noiommufd_device_ioas() returns
 *
 * Does noiommufd_open_node(), noiommufd_ioas_alloc(), noiommufd_bind() and
 * noiommufd_attach(), in this order.
 *
 * Return: the device, or NULL and one of their errnos.
 */
struct noiommufd_device *noiommufd_open(const char *name,
					struct noiommufd_ioas *ioas);

/**
 * noiommufd_open_node() - Open the node of a device.
 * @name: as for noiommufd_open()
 *
 * Return: the device, which can do nothing before noiommufd_bind(), or NULL:
 * ENODEV: no such device, or it has no node; ENOTUNIQ: @name is NULL and there are
 * several; EPERM: no CAP_SYS_RAWIO, or not allowed to this container; EACCES: no
 * permission for the node; ENOENT: the node is not in this /dev; ENOMEM.
 */
struct noiommufd_device *noiommufd_open_node(const char *name);

/**
 * noiommufd_set_wc() - Have BARs mapped write-combining until noiommufd_close().
 * @dev: device of noiommufd_open_node(), not bound yet
 * @bars: 1 << NOIOMMUFD_BAR0 to 1 << NOIOMMUFD_BAR5, or'ed; 0: none again
 *
 * The CPU collects and reorders what is written to such a BAR. All of it reaches
 * the device before a noiommufd_write32() to another BAR that comes later.
 * noiommufd_region_read() and noiommufd_region_write() fail for it with EINVAL. See
 * NOIOMMUFD_DEVICE_SET_WC.
 *
 * Return: 0, or -1: EINVAL: bound already, @bars has one that is not prefetchable
 * memory of whole pages or has the MSI-X table, or the driver has no such ioctl;
 * EBUSY: another program has bound the device.
 */
int noiommufd_set_wc(struct noiommufd_device *dev, unsigned int bars);

/**
 * noiommufd_bind() - Have a device join the context of an IOAS.
 * @dev: device, not bound yet
 * @ioas: an IOAS of noiommufd_ioas_alloc()
 *
 * Lasts until noiommufd_close().
 *
 * Return: 0, or -1: EINVAL: @dev is bound, here or through another open file;
 * EBUSY: VFIO's group of the device is open; EBADFD: the IOAS is one of another
 * driver's iommufd; EIO, ENOMEM.
 */
int noiommufd_bind(struct noiommufd_device *dev, struct noiommufd_ioas *ioas);

/**
 * noiommufd_attach() - Give a device an IOAS, in place of the one that it has.
 * @dev: device that is bound
 * @ioas: an IOAS of the context that it is bound to
 *
 * Return: 0, or -1: EINVAL: not bound, or bound to another context; ENOMEM.
 */
int noiommufd_attach(struct noiommufd_device *dev, struct noiommufd_ioas *ioas);

/**
 * noiommufd_detach() - Take a device's IOAS away.
 * @dev: device
 *
 * Nothing keeps the device from memory then, so stop it first. Addresses in that
 * IOAS hold no longer.
 *
 * Return: 0, also if it has none, or -1: EINVAL: not bound.
 */
int noiommufd_detach(struct noiommufd_device *dev);

/**
 * noiommufd_close() - Give a device back.
 * @dev: device, or NULL
 *
 * The kernel turns bus mastering off and resets the device, and unpins its memory
 * only then. The BARs that noiommufd_bar() mapped are gone, and the eventfds of
 * interrupts closed. Does not change errno.
 *
 * As long as another process has the files of noiommufd_save() the kernel does
 * nothing of that: stop the device first.
 */
void noiommufd_close(struct noiommufd_device *dev);

/**
 * noiommufd_info() - What is known about a device.
 * @dev: device
 *
 * Return: facts that last until @dev is closed, or NULL.
 */
const struct noiommufd_info *noiommufd_info(const struct noiommufd_device *dev);

/**
 * noiommufd_device_fd() - The file of a device.
 * @dev: device
 *
 * For ioctls of <linux/vfio.h> that the library lacks. Do not close it.
 *
 * Return: a file descriptor, or -1.
 */
int noiommufd_device_fd(const struct noiommufd_device *dev);

/**
 * noiommufd_device_ioas() - The IOAS that a device is attached to.
 * @dev: device
 *
 * Return: the IOAS, which lasts as long as @dev is attached to it, or NULL:
 * EINVAL: none.
 */
struct noiommufd_ioas *noiommufd_device_ioas(struct noiommufd_device *dev);

/**
 * noiommufd_bar() - Map a BAR.
 * @dev: device that is bound
 * @index: NOIOMMUFD_BAR0 to NOIOMMUFD_BAR5
 *
 * Its size is noiommufd_info()'s. It is mapped once, not for children, and until
 * @dev is closed. While memory decoding is off an access to it is a SIGBUS.
 *
 * Return: its first register, or NULL: EINVAL: not bound, or @index is not that of
 * a BAR; ENODEV: the BAR does not exist or cannot be mapped, because it is one of
 * I/O ports or too small: use noiommufd_region_read(); ENOMEM.
 */
void *noiommufd_bar(struct noiommufd_device *dev, unsigned int index);

/**
 * noiommufd_region_read() - Read from a region: BAR, ROM or config space.
 * @dev: device that is bound
 * @index: enum noiommufd_region_index
 * @offset: where to begin
 * @to: where to store it, as the device has it
 * @length: bytes
 *
 * An aligned access of 1, 2 or 4 bytes is one on the bus.
 *
 * Return: 0, or -1: EINVAL: not bound, no such region, or not all of it inside;
 * EIO: the device or the kernel refuses it, as while memory decoding is off.
 */
int noiommufd_region_read(struct noiommufd_device *dev, unsigned int index,
			  __u64 offset, void *to, size_t length);

/**
 * noiommufd_region_write() - Write to a region.
 * @dev: device that is bound
 * @index: enum noiommufd_region_index
 * @offset: where to begin
 * @from: what to write, as the device has it
 * @length: bytes
 *
 * Return: as noiommufd_region_read().
 */
int noiommufd_region_write(struct noiommufd_device *dev, unsigned int index,
			   __u64 offset, const void *from, size_t length);

/**
 * noiommufd_bus_master() - Let a device access memory, or not.
 * @dev: device that is bound
 * @on: let it
 *
 * A device that is opened may not. Turns memory decoding on as well.
 *
 * Return: 0, or -1: as noiommufd_region_read().
 */
int noiommufd_bus_master(struct noiommufd_device *dev, bool on);

/**
 * noiommufd_reset() - Reset a device.
 * @dev: device that is bound
 *
 * Config space, memory and interrupts stay as they are.
 *
 * Return: 0, or -1: EINVAL: not bound; ENOTTY: it cannot be reset alone, see
 * noiommufd_hot_reset(); EAGAIN, EIO: another reset is under way, or it failed.
 */
int noiommufd_reset(struct noiommufd_device *dev);

/**
 * noiommufd_hot_reset() - Reset a device with all that share its slot or bus.
 * @dev: device that is bound
 *
 * Return: 0, or -1: EINVAL: not bound, or one of the devices is neither of this
 * context nor unused; ENODEV: there is no such reset, as on the root bus; EBUSY.
 */
int noiommufd_hot_reset(struct noiommufd_device *dev);

/**
 * noiommufd_hot_reset_list() - List what noiommufd_hot_reset() resets.
 * @dev: device that is bound
 *
 * Return: PCI addresses, as from noiommufd_list(), or NULL: EINVAL: not bound;
 * ENODEV: there is no such reset; ENOMEM.
 */
char **noiommufd_hot_reset_list(struct noiommufd_device *dev);

/* Registers in a BAR that noiommufd_bar() mapped */

/**
 * noiommufd_read8() - Read a register of 8 bits.
 * @reg: register
 *
 * A read, of any size, is a single access, and comes before all accesses to memory
 * that follow it in this thread, like readl() in the kernel.
 *
 * Return: its value; all bits set if the device does not answer.
 */
__u8 noiommufd_read8(const void *reg);

/**
 * noiommufd_read16() - Read a register of 16 bits.
 * @reg: register, aligned
 *
 * Return: its value.
 */
__u16 noiommufd_read16(const void *reg);

/**
 * noiommufd_read32() - Read a register of 32 bits.
 * @reg: register, aligned
 *
 * Return: its value.
 */
__u32 noiommufd_read32(const void *reg);

/**
 * noiommufd_read64() - Read a register of 64 bits.
 * @reg: register, aligned
 *
 * Some devices want two reads of 32 bits instead.
 *
 * Return: its value.
 */
__u64 noiommufd_read64(const void *reg);

/**
 * noiommufd_write8() - Write a register of 8 bits.
 * @reg: register
 * @value: value
 *
 * A write, of any size, is a single access, and comes after all writes to memory
 * that precede it in this thread, like writel() in the kernel: a doorbell needs no
 * barrier. It may be on its way when the function returns; a read of the device
 * waits for it.
 */
void noiommufd_write8(void *reg, __u8 value);

/**
 * noiommufd_write16() - Write a register of 16 bits.
 * @reg: register, aligned
 * @value: value
 */
void noiommufd_write16(void *reg, __u16 value);

/**
 * noiommufd_write32() - Write a register of 32 bits.
 * @reg: register, aligned
 * @value: value
 */
void noiommufd_write32(void *reg, __u32 value);

/**
 * noiommufd_write64() - Write a register of 64 bits.
 * @reg: register, aligned
 * @value: value
 *
 * Some devices want two writes of 32 bits instead.
 */
void noiommufd_write64(void *reg, __u64 value);

/**
 * noiommufd_dma_rmb() - Read memory in order.
 *
 * Between two reads of memory that the device writes: of the flag that says that
 * there is data, and of the data.
 */
void noiommufd_dma_rmb(void);

/**
 * noiommufd_dma_wmb() - Write memory in order.
 *
 * Between two writes to memory that the device reads: of data, and of the flag
 * that says that there is data. Before a register noiommufd_write32() does it.
 */
void noiommufd_dma_wmb(void);

/* IO address spaces */

/**
 * noiommufd_ioas_alloc() - Make an IO address space.
 * @dev: a device that it is for. Of a device that is bound the context is used,
 *	else a new one of the iommufd that such a device needs.
 *
 * Return: the IOAS; give it to noiommufd_ioas_free(). Or NULL: ENOENT: there is no
 * iommufd in this /dev; EACCES, EPERM: it may not be opened; ENOMEM.
 */
struct noiommufd_ioas *noiommufd_ioas_alloc(struct noiommufd_device *dev);

/**
 * noiommufd_ioas_free() - Give an IOAS of noiommufd_ioas_alloc() back.
 * @ioas: IOAS, or NULL
 *
 * It lasts as long as devices are attached to it, and memory mapped. Does not
 * change errno.
 */
void noiommufd_ioas_free(struct noiommufd_ioas *ioas);

/**
 * noiommufd_ioas_fd() - The iommufd of an IOAS.
 * @ioas: IOAS
 *
 * For ioctls of <linux/iommufd.h> that the library lacks. Do not close it.
 *
 * Return: a file descriptor, or -1.
 */
int noiommufd_ioas_fd(const struct noiommufd_ioas *ioas);

/**
 * noiommufd_ioas_id() - The number of an IOAS in its iommufd.
 * @ioas: IOAS
 *
 * Return: the id, or 0.
 */
__u32 noiommufd_ioas_id(const struct noiommufd_ioas *ioas);

/**
 * noiommufd_grant() - Let whoever has the iommufd have physical addresses.
 * @ioas: an IOAS in it
 *
 * For a broker: a process that gets the files of noiommufd_save() from it needs no
 * CAP_SYS_RAWIO then. Lasts until noiommufd_revoke(), or until all copies of the
 * iommufd are closed.
 *
 * Return: 0, or -1: EPERM: no CAP_SYS_RAWIO, or the kernel is locked down;
 * EOPNOTSUPP: noiommufd was loaded without allow_grant=1; ENOTTY: the iommufd is
 * that of Linux 7.3, or of an older noiommufd.
 */
int noiommufd_grant(struct noiommufd_ioas *ioas);

/**
 * noiommufd_revoke() - Undo noiommufd_grant().
 * @ioas: an IOAS in that iommufd
 *
 * Addresses that a process has been given it keeps. To take the device away, end
 * that process.
 *
 * Return: as noiommufd_grant().
 */
int noiommufd_revoke(struct noiommufd_ioas *ioas);

/**
 * noiommufd_ioas_runs() - Ask the kernel where a range of IOVA is in memory.
 * @ioas: IOAS that a device is attached to
 * @iova: where to begin
 * @length: in: how far to look, not 0; out: how far the answer goes
 * @runs: array
 * @num: its entries, not 0
 *
 * For memory of noiommufd_map() and noiommufd_alloc() this is not needed:
 * noiommufd_pa(), noiommufd_runs() and noiommufd_pages() know its addresses.
 * The answer ends when the array is full, or where nothing is mapped: go on at
 * @iova + @length.
 *
 * Return: entries of @runs that were filled, or -1: EINVAL, EOVERFLOW: the range
 * wraps; EPERM: no CAP_SYS_RAWIO; ENOENT: nothing is mapped at @iova; EOPNOTSUPP:
 * no device is attached.
 */
int noiommufd_ioas_runs(struct noiommufd_ioas *ioas, __u64 iova, __u64 *length,
			struct noiommufd_run *runs, unsigned int num);

/**
 * noiommufd_ioas_pa() - The physical address of a byte of the process.
 * @ioas: IOAS
 * @va: a byte of any memory that is mapped in @ioas
 *
 * For programs that have a pointer, and not the memory that it is in. Takes some
 * forty instructions, no system call and no lock, however much is mapped; but the
 * first call for an IOAS makes an index, and from then on mapping and freeing keep
 * it. Other threads may map and free memory meanwhile. Of memory that is mapped
 * several times the mapping that came last counts. Behind the page of 4 KiB another
 * address may follow.
 *
 * Return: what a device is to be given, or NOIOMMUFD_NO_PA: EINVAL; ENOENT: no memory
 * is mapped there; the first time: ENOMEM, ENOSPC: as for noiommufd_map().
 */
__u64 noiommufd_ioas_pa(struct noiommufd_ioas *ioas, const void *va);

/* Memory */

/* Flags of noiommufd_map() and noiommufd_alloc() */

/* The device only reads the memory, which may be read-only. For noiommufd_map() */
#define NOIOMMUFD_READ_ONLY	(1U << 0)
/* The IOVA of each byte is its physical address. */
#define NOIOMMUFD_IOVA_IS_PA	(1U << 1)
/* The memory is physically contiguous. For noiommufd_alloc() */
#define NOIOMMUFD_CONTIGUOUS	(1U << 2)
/* The memory is on the NUMA node numa_node. For noiommufd_alloc() */
#define NOIOMMUFD_NUMA_NODE	(1U << 3)

/* An address that no memory has */
#define NOIOMMUFD_NO_PA		(~0ULL)

/**
 * noiommufd_map() - Pin memory for DMA, and learn where it is.
 * @ioas: IOAS that a device is attached to
 * @va: the memory, page aligned
 * @size: bytes, a multiple of the page size, not 0
 * @flags: NOIOMMUFD_READ_ONLY, NOIOMMUFD_IOVA_IS_PA, or 0
 *
 * The memory does not move while it is mapped. It may be freed or mapped again
 * elsewhere; the device goes on to see the old pages.
 *
 * Return: the memory; give it to noiommufd_free(). Or NULL: EINVAL, EOVERFLOW: the
 * range wraps; EFAULT: it is not all there, or cannot be written; EEXIST: with
 * NOIOMMUFD_IOVA_IS_PA, it is mapped so already; ENOMEM: above RLIMIT_MEMLOCK, or
 * out of memory; ENOSPC: a page of it is mapped 2047 times already, if there is an
 * index (noiommufd_ioas_pa()); EPERM: no CAP_SYS_RAWIO; EOPNOTSUPP: no device is
 * attached.
 */
struct noiommufd_dma *noiommufd_map(struct noiommufd_ioas *ioas, void *va,
				    size_t size, unsigned int flags);

/**
 * struct noiommufd_alloc_options - What memory noiommufd_alloc() is to find.
 * @size: sizeof(struct noiommufd_alloc_options)
 * @flags: NOIOMMUFD_IOVA_IS_PA, NOIOMMUFD_CONTIGUOUS, NOIOMMUFD_NUMA_NODE
 * @below: no byte may have a physical address from here on, as 1ULL << 32 for a
 *	device that has 32 address bits; 0: any may
 * @numa_node: with NOIOMMUFD_NUMA_NODE, the node
 * @reserved: 0
 */
struct noiommufd_alloc_options {
	__u32 size;
	__u32 flags;
	__u64 below;
	__u32 numa_node;
	__u32 reserved;
};

/**
 * noiommufd_alloc() - Allocate memory for DMA.
 * @ioas: IOAS that a device is attached to
 * @size: bytes, not 0; rounded up to the page size
 * @options: options, or NULL: memory of any kind
 *
 * The memory is zeroed, and does not exist in children. From 2 MiB on it is in
 * huge pages if there are any. Memory that is contiguous or below an address is
 * allocated by the kernel module (NOIOMMUFD_MEM_ALLOC). Linux 7.3's own no-IOMMU
 * mode cannot do that. There it can only be looked for: up to a huge page (2 MiB)
 * contiguous memory is found as long as the kernel has a huge page, above that by
 * luck or in a hugetlb page of 1 GiB.
 *
 * Return: the memory; give it to noiommufd_free(). Or NULL: EINVAL, E2BIG: bad
 * options, or no such node; ENOMEM: none such was found, or as for
 * noiommufd_map().
 */
struct noiommufd_dma *
noiommufd_alloc(struct noiommufd_ioas *ioas, size_t size,
		const struct noiommufd_alloc_options *options);

/**
 * noiommufd_free() - Unmap memory, and free it if noiommufd_alloc() allocated it.
 * @dma: memory, or NULL
 *
 * The device must not access it any more. Does not change errno.
 */
void noiommufd_free(struct noiommufd_dma *dma);

/**
 * noiommufd_va() - The address of memory in this process.
 * @dma: memory
 *
 * Return: its first byte, or NULL.
 */
void *noiommufd_va(const struct noiommufd_dma *dma);

/**
 * noiommufd_size() - The size of memory.
 * @dma: memory
 *
 * Return: bytes, or 0.
 */
size_t noiommufd_size(const struct noiommufd_dma *dma);

/**
 * noiommufd_iova() - The IOVA of memory.
 * @dma: memory
 *
 * Its name in the IOAS. Without NOIOMMUFD_IOVA_IS_PA a device has no use for it.
 *
 * Return: that of its first byte, or NOIOMMUFD_NO_PA.
 */
__u64 noiommufd_iova(const struct noiommufd_dma *dma);

/**
 * noiommufd_pa() - The physical address of a byte of memory.
 * @dma: memory
 * @va: a byte of it
 *
 * Takes some ten instructions, no system call and no lock. Holds as long as the
 * memory is mapped and a device attached.
 *
 * Return: what a device is to be given, or NOIOMMUFD_NO_PA, without an errno: @va
 * is not in @dma.
 */
__u64 noiommufd_pa(const struct noiommufd_dma *dma, const void *va);

/**
 * noiommufd_runs() - The physically contiguous runs of memory, for a gather list.
 * @dma: memory
 * @va: where to begin
 * @length: bytes, not 0
 * @runs: array; may be NULL if @num is 0
 * @num: its entries
 *
 * Makes no system call.
 *
 * Return: how many runs there are, of which the first @num are stored; or -1:
 * EINVAL: not all of it is in @dma.
 */
long noiommufd_runs(const struct noiommufd_dma *dma, const void *va,
		    size_t length, struct noiommufd_run *runs, size_t num);

/**
 * noiommufd_pages() - The physical addresses of the pages of memory, as for PRPs.
 * @dma: memory
 * @va: where to begin
 * @length: bytes, not 0
 * @page_size: of the device, a power of two, at most that of the machine
 * @pa: array; may be NULL if @num is 0
 * @num: its entries
 *
 * The first address is that of @va, wherever in its page that is; the others are
 * page aligned. Makes no system call.
 *
 * Return: how many pages there are, of which the first @num are stored; or -1:
 * EINVAL.
 */
long noiommufd_pages(const struct noiommufd_dma *dma, const void *va,
		     size_t length, size_t page_size, __u64 *pa, size_t num);

/* Handover: the device goes on working while its driver is replaced */

/**
 * noiommufd_alloc_labelled() - Allocate memory that can be handed over.
 * @ioas: IOAS that a device is attached to
 * @label: a name of 1 to 31 letters, digits and "-_.", by which a successor finds it
 * @size: bytes, not 0; rounded up to the page size
 *
 * As noiommufd_alloc(), but the memory is that of a file, which noiommufd_save()
 * lists. It is in huge pages if @size is a multiple of 2 MiB and there are hugetlb
 * pages.
 *
 * Return: the memory; give it to noiommufd_free(). Or NULL: EINVAL; EEXIST: there is
 * such memory in @ioas; or as for noiommufd_map().
 */
struct noiommufd_dma *noiommufd_alloc_labelled(struct noiommufd_ioas *ioas,
					       const char *label, size_t size);

/**
 * noiommufd_labelled() - Find memory by its label.
 * @ioas: IOAS
 * @label: label of noiommufd_alloc_labelled(), in this process or a predecessor
 *
 * Return: the memory, or NULL: EINVAL; ENOENT: there is none.
 */
struct noiommufd_dma *noiommufd_labelled(struct noiommufd_ioas *ioas, const char *label);

/**
 * struct noiommufd_file - A file that outlives the process.
 * @fd: file descriptor
 * @name: its name, which a successor has to be given with it: "state", "iommufd",
 *	"device", "irq" and a number, or "memory." and a label. The file descriptor
 *	store of systemd takes such names.
 */
struct noiommufd_file {
	int fd;
	char name[48];
};

/**
 * noiommufd_save() - Have a successor be able to go on with a device.
 * @dev: device that is attached; of its IOAS no other device
 * @files: array; may be NULL if @num is 0
 * @num: its entries
 *
 * Writes down what a successor needs to know, and lists the files that it needs: give
 * copies of them to a process that outlives this one, by SCM_RIGHTS, in this order.
 * As long as that process has them, the device goes on when this one ends, in
 * whatever way, and its memory stays pinned. The files are the library's: do not close
 * them.
 *
 * Call it again when memory was allocated or freed, or interrupts were turned on or
 * off, before the device uses that; new files come to those that there were, of which
 * the holder has to close those of the same name first. The successor must not be
 * started before this process has ended: EBUSY.
 *
 * Return: how many files there are, of which the first @num are stored; or -1:
 * EINVAL: not attached; EOPNOTSUPP: the IOAS has memory that ends with the process,
 * from noiommufd_map() or noiommufd_alloc(); E2BIG: more than 512 pieces of memory;
 * ENOMEM.
 */
int noiommufd_save(struct noiommufd_device *dev, struct noiommufd_file *files,
		   unsigned int num);

/**
 * noiommufd_resume() - Take over from a process that has ended.
 * @files: the files that its noiommufd_save() listed, in any order; other names are
 *	passed over
 * @num: their number
 *
 * The device is neither reset nor stopped: it has its interrupts, its IOAS and its
 * memory, which noiommufd_labelled() finds, at the same physical addresses, but not
 * the same ones in this process. What interrupts came meanwhile noiommufd_irq_wait()
 * returns. From here on this process is charged for the memory; while that moves, the
 * largest piece counts twice for RLIMIT_MEMLOCK.
 *
 * The library has copies of the files; close those in @files. When this fails nothing
 * has changed, and it can be tried again.
 *
 * Return: the device, or NULL: ENOENT: a file is missing; EBUSY: another process has
 * the device, or this one has; EBADMSG: the description is damaged; EPROTONOSUPPORT:
 * it is one of another version; ENODEV: it is of another device; EBADF: a file is
 * another one than the predecessor's; ENOMEM: above RLIMIT_MEMLOCK, or out of memory;
 * EOPNOTSUPP: as for noiommufd_save(); EPERM: no CAP_SYS_RAWIO.
 */
struct noiommufd_device *noiommufd_resume(const struct noiommufd_file *files,
					  unsigned int num);

/* Interrupts */

/**
 * noiommufd_irq_enable() - Turn interrupts on, an eventfd for each.
 * @dev: device that is bound
 * @kind: kind of interrupt; a device uses one at a time, and the one before is off
 * @count: how many, from the first on; 0: none
 *
 * Return: 0, or -1: EINVAL: not bound, or no such kind; ENOSPC: the device has
 * fewer; or, and interrupts are off then: EMFILE, ENOMEM.
 */
int noiommufd_irq_enable(struct noiommufd_device *dev, enum noiommufd_irq kind,
			 unsigned int count);

/**
 * noiommufd_irq_fd() - The eventfd of an interrupt, for poll() and epoll.
 * @dev: device
 * @vector: interrupt, below the count that is on
 *
 * It does not block. It is closed when interrupts are turned off, or the device
 * is closed.
 *
 * Return: the file descriptor, or -1: EINVAL: that interrupt is not on.
 */
int noiommufd_irq_fd(struct noiommufd_device *dev, unsigned int vector);

/**
 * noiommufd_irq_wait() - Wait for an interrupt.
 * @dev: device
 * @vector: interrupt, below the count that is on
 * @timeout_ms: how long at most, in milliseconds; 0: not at all; -1: for ever
 *
 * Interrupts must not be turned off meanwhile. INTx masks itself when it comes:
 * serve the device, then unmask it.
 *
 * Return: how often it has come since it was last waited for; 0: it has not; or
 * -1: EINVAL: that interrupt is not on; EINTR: a signal came first.
 */
long noiommufd_irq_wait(struct noiommufd_device *dev, unsigned int vector,
			int timeout_ms);

/**
 * noiommufd_irq_mask() - Mask or unmask an interrupt.
 * @dev: device
 * @vector: interrupt, below the count that is on
 * @masked: mask it
 *
 * An INTx that is pending comes when it is unmasked. An MSI or MSI-X may be lost
 * while it is masked, because VFIO can only take its eventfd away: look at the
 * device after unmasking.
 *
 * Return: 0, or -1: EINVAL: that interrupt is not on; ENOMEM.
 */
int noiommufd_irq_mask(struct noiommufd_device *dev, unsigned int vector,
		       bool masked);

#ifdef __cplusplus
}
#endif

#endif /* LIBNOIOMMUFD_H */
