/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Contexts, objects and the ioctl calls on them.
 *
 * An object lives as long as somebody has a reference to it. Its id can be
 * found until it is destroyed, and that is refused while it has users: other
 * objects, attached devices. Ids and users are guarded by the xa_lock of
 * noiommufd_ctx::objects.
 */
#ifndef __NOIOMMUFD_PRIVATE_H
#define __NOIOMMUFD_PRIVATE_H

#include <linux/atomic.h>
#include <linux/noiommufd.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>
#include <noiommufd/iommufd.h>
#include <noiommufd/noiommufd.h>

#include "io_pagetable.h"

struct device;
struct file;
struct iommufd_hwpt_paging;

/**
 * struct noiommufd_ctx - what is behind an open iommufd
 * @file: the open file; a reference to it is one to the context
 * @objects: objects by id
 * @nr_devices: devices that are bound and may master the bus
 * @change_process: serialises IOMMU_IOAS_CHANGE_PROCESS
 * @vfio_ioas: IOAS that VFIO's type1 calls work on, or NULL; guarded by the
 *	xa_lock of @objects, and NULL once that IOAS is destroyed
 * @account_mode: IOPT_PAGES_ACCOUNT_USER or _MM; set before the first object
 * @auto_iova: memory was mapped at an IOVA of the kernel's choice
 * @translated: an IOVA was translated, or made to be a physical address
 *
 * The last two are only ever set, and need no lock.
 */
struct noiommufd_ctx {
	struct file *file;
	struct xarray objects;
	atomic_t nr_devices;
	struct mutex change_process;	/* taken before io_pagetable's locks */
	struct iommufd_object *vfio_ioas;
	u8 account_mode;
	bool auto_iova;
	bool translated;
};

/* Remember what a program did, without writing for each call. */
static inline void iommufd_ctx_note(bool *flag)
{
	if (!READ_ONCE(*flag))
		WRITE_ONCE(*flag, true);
}

enum iommufd_object_type {
	IOMMUFD_OBJ_ANY = 0,
	IOMMUFD_OBJ_DEVICE,
	IOMMUFD_OBJ_FAULT,
	IOMMUFD_OBJ_HWPT_PAGING,
	IOMMUFD_OBJ_IOAS,
	IOMMUFD_OBJ_MAX,
};

/**
 * struct iommufd_object - first member of every object
 * @refs: keep it in memory; the id has one
 * @users: keep its id
 * @ictx: context it belongs to
 * @id: its id
 * @type: its type
 * @rcu: readers may be looking at it
 */
struct iommufd_object {
	refcount_t refs;
	unsigned int users;
	struct noiommufd_ctx *ictx;
	u32 id;
	enum iommufd_object_type type;
	struct rcu_head rcu;
};

/**
 * struct iommufd_object_ops - how an object ends
 * @pre_destroy: gives up all that others wait for, as soon as the id is gone;
 *	calls that are at it may still have references. Must not wait for them.
 * @destroy: frees what is left, with the last reference
 */
struct iommufd_object_ops {
	void (*pre_destroy)(struct iommufd_object *obj);
	void (*destroy)(struct iommufd_object *obj);
};

/* By type; in main.c. */
extern const struct iommufd_object_ops iommufd_object_ops[IOMMUFD_OBJ_MAX];

struct iommufd_object *_iommufd_object_alloc(struct noiommufd_ctx *ictx,
					     size_t size,
					     enum iommufd_object_type type);
void iommufd_object_finalize(struct iommufd_object *obj);
void iommufd_object_abort(struct iommufd_object *obj);
struct iommufd_object *iommufd_get_object(struct noiommufd_ctx *ictx, u32 id,
					  enum iommufd_object_type type);
void iommufd_put_object(struct iommufd_object *obj);
int __iommufd_object_use(struct iommufd_object *obj);
int iommufd_object_use(struct iommufd_object *obj);
void iommufd_object_unuse(struct iommufd_object *obj, bool destroy_unused);
int iommufd_object_remove(struct noiommufd_ctx *ictx, u32 id);

#define iommufd_object_alloc(_ictx, _ptr, _type)                        \
	container_of(_iommufd_object_alloc(_ictx, sizeof(*(_ptr)), _type), \
		     typeof(*(_ptr)), obj)

/**
 * struct iommufd_ucmd - an ioctl call
 * @ictx: context it came to
 * @ubuffer: where its struct is
 * @user_size: size of that, as the user says
 * @cmd: copy of the struct, at its full size
 */
struct iommufd_ucmd {
	struct noiommufd_ctx *ictx;
	void __user *ubuffer;
	u32 user_size;
	void *cmd;
};

/* Copy the answer out: as much as the user has room for. */
static inline int iommufd_ucmd_respond(struct iommufd_ucmd *ucmd, size_t size)
{
	size = min_t(size_t, ucmd->user_size, size);
	return copy_to_user(ucmd->ubuffer, ucmd->cmd, size) ? -EFAULT : 0;
}

/**
 * struct iommufd_ioas - an IO address space as an object
 * @obj: object
 * @iopt: what it maps
 * @auto_hwpt: the HWPT that attaching it made, or NULL; guarded by the xa_lock of
 *	noiommufd_ctx::objects, set under iopt.hwpt_mutex
 */
struct iommufd_ioas {
	struct iommufd_object obj;
	struct io_pagetable iopt;
	struct iommufd_hwpt_paging *auto_hwpt;
};

static inline struct iommufd_ioas *to_ioas(struct iommufd_object *obj)
{
	return container_of(obj, struct iommufd_ioas, obj);
}

static inline struct iommufd_ioas *iommufd_get_ioas(struct noiommufd_ctx *ictx,
						    u32 id)
{
	struct iommufd_object *obj;

	obj = iommufd_get_object(ictx, id, IOMMUFD_OBJ_IOAS);
	return IS_ERR(obj) ? ERR_CAST(obj) : to_ioas(obj);
}

static inline void iommufd_put_ioas(struct iommufd_ioas *ioas)
{
	iommufd_put_object(&ioas->obj);
}

void iommufd_ioas_pre_destroy(struct iommufd_object *obj);
void iommufd_ioas_destroy(struct iommufd_object *obj);
int iommufd_ioas_alloc_ioctl(struct iommufd_ucmd *ucmd);
int iommufd_ioas_iova_ranges(struct iommufd_ucmd *ucmd);
int iommufd_ioas_allow_iovas(struct iommufd_ucmd *ucmd);
int iommufd_ioas_map(struct iommufd_ucmd *ucmd);
int iommufd_ioas_map_file(struct iommufd_ucmd *ucmd);
int iommufd_ioas_change_process(struct iommufd_ucmd *ucmd);
int iommufd_ioas_copy(struct iommufd_ucmd *ucmd);
int iommufd_ioas_unmap(struct iommufd_ucmd *ucmd);
int iommufd_ioas_noiommu_get_pa(struct iommufd_ucmd *ucmd);
int iommufd_ioas_get_pa_fast(struct noiommufd_ctx *ictx,
			     struct iommu_ioas_noiommu_get_pa __user *arg);
int iommufd_ioas_get_pa_runs(struct iommufd_ucmd *ucmd);
int iommufd_ioas_option_huge_pages(struct noiommufd_ctx *ictx,
				   struct iommu_option *cmd);

/**
 * struct iommufd_hwpt_paging - an HWPT
 * @obj: object; its users are the devices attached to it
 * @ioas: whose memory it has pinned; it is a user of that
 * @fault: its fault queue, which it is a user of, or NULL
 * @auto_domain: made by attaching an IOAS, goes with its last device
 */
struct iommufd_hwpt_paging {
	struct iommufd_object obj;
	struct iommufd_ioas *ioas;
	struct iommufd_object *fault;
	bool auto_domain;
};

static inline struct iommufd_hwpt_paging *
to_hwpt_paging(struct iommufd_object *obj)
{
	return container_of(obj, struct iommufd_hwpt_paging, obj);
}

struct iommufd_hwpt_paging *iommufd_hwpt_paging_alloc(struct iommufd_ioas *ioas,
						      struct iommufd_ucmd *ucmd);
void iommufd_hwpt_paging_pre_destroy(struct iommufd_object *obj);
int iommufd_hwpt_alloc(struct iommufd_ucmd *ucmd);

/**
 * struct noiommufd_device - a device that is bound to a context
 * @obj: object; it has itself as a user, so that only unbind destroys it
 * @dev: the device
 * @hwpt: what it is attached to, or NULL; the driver serialises changes
 */
struct noiommufd_device {
	struct iommufd_object obj;
	struct device *dev;
	struct iommufd_hwpt_paging *hwpt;
};

void iommufd_device_destroy(struct iommufd_object *obj);

/**
 * struct iommufd_fault - a fault queue
 * @obj: object; its users are its file and the HWPTs that name it
 */
struct iommufd_fault {
	struct iommufd_object obj;
};

int iommufd_fault_alloc(struct iommufd_ucmd *ucmd);

int iommufd_vfio_ioas(struct iommufd_ucmd *ucmd);
int iommufd_vfio_ioctl(struct noiommufd_ctx *ictx, unsigned int cmd,
		       unsigned long arg);

int iommufd_get_hw_info(struct iommufd_ucmd *ucmd);
int iommufd_hwpt_set_dirty_tracking(struct iommufd_ucmd *ucmd);
int iommufd_hwpt_get_dirty_bitmap(struct iommufd_ucmd *ucmd);
int iommufd_hwpt_invalidate(struct iommufd_ucmd *ucmd);
int iommufd_viommu_alloc_ioctl(struct iommufd_ucmd *ucmd);
int iommufd_vdevice_alloc_ioctl(struct iommufd_ucmd *ucmd);
int iommufd_veventq_alloc(struct iommufd_ucmd *ucmd);
int iommufd_hw_queue_alloc_ioctl(struct iommufd_ucmd *ucmd);

#endif /* __NOIOMMUFD_PRIVATE_H */
