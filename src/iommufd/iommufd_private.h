/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Contexts, objects and the ioctls on them.
 *
 * An object lives as long as there is a reference to it. Its id can be looked
 * up until it is destroyed, which is refused while it has users: other objects
 * or attached devices. The xa_lock of noiommufd_ctx::objects guards ids and
 * users.
 *
 * Names: a symbol that is not static begins with noiommu, or with swpt_ where
 * it is the page table's: with noiommufd_ where mainline has iommufd_, and with
 * noiommu_ where it has iopt_. So it is unique in a kernel that has both.
 */
#ifndef __NOIOMMUFD_PRIVATE_H
#define __NOIOMMUFD_PRIVATE_H

#include <linux/atomic.h>
#include <linux/capability.h>
#include <linux/noiommufd.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>
#include <noiommufd/iommufd.h>
#include <noiommufd/noiommufd.h>

#include "io_pagetable.h"

struct device;
struct file;
struct noiommufd_hwpt_paging;
struct seq_file;

/**
 * struct noiommufd_ctx - What is behind an open iommufd.
 * @file: the open file; a reference to it is one to the context
 * @refs: the open file, and those who show the context in debugfs: they keep
 *	it in memory, but not open
 * @number: its number in noiommufd_contexts
 * @opener: process that opened it, and its name
 * @usage_lock: serialises walks that count what it takes; outside all others
 * @objects: objects by id
 * @nr_devices: bound devices, each of which may do DMA
 * @vfio_ioas: IOAS that VFIO's type1 ioctls work on, or NULL; guarded by the
 *	xa_lock of @objects, and NULL once that IOAS is destroyed
 * @account_mode: IOPT_PAGES_ACCOUNT_USER or _MM; set before the first object
 * @auto_iova: memory was mapped at an IOVA that the kernel chose
 * @translated: an IOVA was translated, or chosen to be its physical address
 * @granted: who has the file may translate
 * @granter: who granted that last, and its name; no pid: nobody ever did. Guarded
 *	by the xa_lock of @objects, as are writes of @granted
 *
 * @auto_iova and @translated are only ever set, and need no lock.
 */
struct noiommufd_ctx {
	struct file *file;
	refcount_t refs;
	u32 number;
	struct noiommufd_opener opener;
	struct mutex usage_lock;	/* see above */
	struct xarray objects;
	atomic_t nr_devices;
	struct noiommufd_object *vfio_ioas;
	u8 account_mode;
	bool auto_iova;
	bool translated;
	bool granted;
	struct noiommufd_opener granter;
};

/* Remember what a program did; write only the first time. */
static inline void noiommufd_ctx_note(bool *flag)
{
	if (!READ_ONCE(*flag))
		WRITE_ONCE(*flag, true);
}

/*
 * May the current process have physical addresses? The grant comes first: a
 * capability that is missing leaves a line in the audit log. Nothing else is
 * read because of it, so no order is needed: who learns of GRANT or REVOKE from
 * the process that called it sees it.
 */
static inline bool noiommufd_may_translate(const struct noiommufd_ctx *ictx)
{
	return READ_ONCE(ictx->granted) || capable(CAP_SYS_RAWIO);
}

enum noiommufd_object_type {
	IOMMUFD_OBJ_ANY = 0,
	IOMMUFD_OBJ_DEVICE,
	IOMMUFD_OBJ_FAULT,
	IOMMUFD_OBJ_HWPT_PAGING,
	IOMMUFD_OBJ_IOAS,
	IOMMUFD_OBJ_MAX,
};

/**
 * struct noiommufd_object - First member of every object.
 * @refs: references, which keep it in memory; the id has one
 * @users: users, which keep its id
 * @ictx: context it belongs to
 * @id: its id
 * @type: its type
 * @rcu: readers may be looking at it
 */
struct noiommufd_object {
	refcount_t refs;
	unsigned int users;
	struct noiommufd_ctx *ictx;
	u32 id;
	enum noiommufd_object_type type;
	struct rcu_head rcu;
};

/**
 * struct noiommufd_object_ops - How an object ends.
 * @pre_destroy: gives up what others wait for, as soon as the id is gone.
 *	Ioctls in flight may still have references; it must not wait for them.
 * @destroy: frees what is left, with the last reference
 */
struct noiommufd_object_ops {
	void (*pre_destroy)(struct noiommufd_object *obj);
	void (*destroy)(struct noiommufd_object *obj);
};

/* By type; in main.c. */
extern const struct noiommufd_object_ops noiommufd_object_ops[IOMMUFD_OBJ_MAX];

struct noiommufd_object *
noiommufd_object_alloc_bytes(struct noiommufd_ctx *ictx, size_t size,
			     enum noiommufd_object_type type);
void noiommufd_object_finalize(struct noiommufd_object *obj);
void noiommufd_object_abort(struct noiommufd_object *obj);
struct noiommufd_object *noiommufd_get_object(struct noiommufd_ctx *ictx,
					      u32 id,
					      enum noiommufd_object_type type);
void noiommufd_put_object(struct noiommufd_object *obj);
int noiommufd_object_use_locked(struct noiommufd_object *obj);
int noiommufd_object_use(struct noiommufd_object *obj);
void noiommufd_object_unuse(struct noiommufd_object *obj, bool destroy_unused);
int noiommufd_object_remove(struct noiommufd_ctx *ictx, u32 id);

#define noiommufd_object_alloc(_ictx, _ptr, _type)                        \
	container_of(noiommufd_object_alloc_bytes(_ictx, sizeof(*(_ptr)), \
						  _type),                 \
		     typeof(*(_ptr)), obj)

/**
 * struct noiommufd_ucmd - One ioctl in flight.
 * @ictx: context of the file
 * @ubuffer: the struct in user space
 * @user_size: its size as the program gave it
 * @cmd: copy of the struct, at its full size
 */
struct noiommufd_ucmd {
	struct noiommufd_ctx *ictx;
	void __user *ubuffer;
	u32 user_size;
	void *cmd;
};

/* Copy the answer out, as much of it as the program has room for. */
static inline int noiommufd_ucmd_respond(struct noiommufd_ucmd *ucmd,
					 size_t size)
{
	size = min_t(size_t, ucmd->user_size, size);
	return copy_to_user(ucmd->ubuffer, ucmd->cmd, size) ? -EFAULT : 0;
}

/**
 * struct noiommufd_ioas - An IO address space as an object.
 * @obj: object
 * @iopt: what it maps
 * @auto_hwpt: the HWPT that ATTACH made for it, or NULL; guarded by the xa_lock
 *	of noiommufd_ctx::objects, set under iopt.hwpt_mutex
 */
struct noiommufd_ioas {
	struct noiommufd_object obj;
	struct io_pagetable iopt;
	struct noiommufd_hwpt_paging *auto_hwpt;
};

static inline struct noiommufd_ioas *to_ioas(struct noiommufd_object *obj)
{
	return container_of(obj, struct noiommufd_ioas, obj);
}

static inline struct noiommufd_ioas *
noiommufd_ioas_of(struct io_pagetable *iopt)
{
	return container_of(iopt, struct noiommufd_ioas, iopt);
}

static inline struct noiommufd_ioas *
noiommufd_get_ioas(struct noiommufd_ctx *ictx, u32 id)
{
	struct noiommufd_object *obj;

	obj = noiommufd_get_object(ictx, id, IOMMUFD_OBJ_IOAS);
	return IS_ERR(obj) ? ERR_CAST(obj) : to_ioas(obj);
}

static inline void noiommufd_put_ioas(struct noiommufd_ioas *ioas)
{
	noiommufd_put_object(&ioas->obj);
}

void noiommufd_ioas_pre_destroy(struct noiommufd_object *obj);
void noiommufd_ioas_destroy(struct noiommufd_object *obj);
int noiommufd_ioas_alloc_ioctl(struct noiommufd_ucmd *ucmd);
int noiommufd_ioas_iova_ranges(struct noiommufd_ucmd *ucmd);
int noiommufd_ioas_allow_iovas(struct noiommufd_ucmd *ucmd);
int noiommufd_ioas_map(struct noiommufd_ucmd *ucmd);
int noiommufd_ioas_map_file(struct noiommufd_ucmd *ucmd);
int noiommufd_ioas_change_process(struct noiommufd_ucmd *ucmd);
int noiommufd_ioas_copy(struct noiommufd_ucmd *ucmd);
int noiommufd_ioas_unmap(struct noiommufd_ucmd *ucmd);
int noiommufd_ioas_noiommu_get_pa(struct noiommufd_ucmd *ucmd);
int noiommufd_ioas_get_pa_fast(struct noiommufd_ctx *ictx,
			       struct iommu_ioas_noiommu_get_pa __user *arg);
int noiommufd_ioas_get_pa_runs(struct noiommufd_ucmd *ucmd);
int noiommufd_ioas_set_max_pa(struct noiommufd_ucmd *ucmd);
int noiommufd_ioas_batch(struct noiommufd_ucmd *ucmd);
int noiommufd_ioas_option_huge_pages(struct noiommufd_ctx *ictx,
				     struct iommu_option *cmd);
int noiommufd_check_map(const struct iommu_ioas_map_file *cmd);
int noiommufd_map_ioas(struct noiommufd_ioas *ioas,
		       const struct iommu_ioas_map_file *cmd, bool file,
		       noiommu_answer_fn answer, void *arg);
int noiommufd_unmap_ioas(struct noiommufd_ioas *ioas, u64 iova, u64 *length);

/**
 * struct noiommufd_hwpt_paging - An HWPT.
 * @obj: object; its users are the devices attached to it
 * @ioas: IOAS whose memory is pinned for it; the HWPT is a user of it
 * @fault: its fault queue, or NULL; the HWPT is a user of it
 * @auto_domain: made by attaching to an IOAS, destroyed with the last device
 */
struct noiommufd_hwpt_paging {
	struct noiommufd_object obj;
	struct noiommufd_ioas *ioas;
	struct noiommufd_object *fault;
	bool auto_domain;
};

static inline struct noiommufd_hwpt_paging *
to_hwpt_paging(struct noiommufd_object *obj)
{
	return container_of(obj, struct noiommufd_hwpt_paging, obj);
}

struct noiommufd_hwpt_paging *
noiommufd_hwpt_paging_alloc(struct noiommufd_ioas *ioas,
			    struct noiommufd_ucmd *ucmd);
void noiommufd_hwpt_paging_pre_destroy(struct noiommufd_object *obj);
int noiommufd_hwpt_alloc(struct noiommufd_ucmd *ucmd);

/**
 * struct noiommufd_device - A device that is bound to a context.
 * @obj: object; it is a user of itself, so that only unbind destroys it
 * @dev: the device
 * @hwpt: HWPT that it is attached to, or NULL; the driver serialises changes
 */
struct noiommufd_device {
	struct noiommufd_object obj;
	struct device *dev;
	struct noiommufd_hwpt_paging *hwpt;
};

void noiommufd_device_destroy(struct noiommufd_object *obj);

/**
 * struct noiommufd_fault - A fault queue.
 * @obj: object; its users are its file and HWPTs
 */
struct noiommufd_fault {
	struct noiommufd_object obj;
};

int noiommufd_fault_alloc(struct noiommufd_ucmd *ucmd);

int noiommufd_mem_alloc(struct noiommufd_ucmd *ucmd);
void noiommu_mem_info(struct noiommufd_get_info *info);
bool noiommufd_grant_allowed(void);
int noiommufd_grant(struct noiommufd_ucmd *ucmd);
int noiommufd_revoke(struct noiommufd_ucmd *ucmd);
void noiommufd_grant_show(struct seq_file *m, struct noiommufd_ctx *ictx);
int noiommufd_info_add(struct noiommufd_ctx *ictx);
void noiommufd_info_remove(struct noiommufd_ctx *ictx);
void noiommufd_info_put(struct noiommufd_ctx *ictx);
void noiommufd_info_show(struct seq_file *m, struct noiommufd_ctx *ictx);
void noiommufd_info_init(void);
void noiommufd_info_exit(void);

int noiommufd_vfio_ioas(struct noiommufd_ucmd *ucmd);
int noiommufd_vfio_ioctl(struct noiommufd_ctx *ictx, unsigned int cmd,
			 unsigned long arg);

int noiommufd_get_hw_info(struct noiommufd_ucmd *ucmd);
int noiommufd_hwpt_set_dirty_tracking(struct noiommufd_ucmd *ucmd);
int noiommufd_hwpt_get_dirty_bitmap(struct noiommufd_ucmd *ucmd);
int noiommufd_hwpt_invalidate(struct noiommufd_ucmd *ucmd);
int noiommufd_viommu_alloc_ioctl(struct noiommufd_ucmd *ucmd);
int noiommufd_vdevice_alloc_ioctl(struct noiommufd_ucmd *ucmd);
int noiommufd_veventq_alloc(struct noiommufd_ucmd *ucmd);
int noiommufd_hw_queue_alloc_ioctl(struct noiommufd_ucmd *ucmd);

#endif /* __NOIOMMUFD_PRIVATE_H */
