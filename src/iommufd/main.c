// SPDX-License-Identifier: GPL-2.0-only
/*
 * The iommufd node: open, close, dispatch of ioctls. The handlers take the
 * locks that they need; object.c has the objects.
 */
#define pr_fmt(fmt) "noiommufd: " fmt

#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "iommufd_private.h"

const struct noiommufd_object_ops noiommufd_object_ops[IOMMUFD_OBJ_MAX] = {
	[IOMMUFD_OBJ_DEVICE] = {
		.destroy = noiommufd_device_destroy,
	},
	[IOMMUFD_OBJ_HWPT_PAGING] = {
		.pre_destroy = noiommufd_hwpt_paging_pre_destroy,
	},
	[IOMMUFD_OBJ_IOAS] = {
		.pre_destroy = noiommufd_ioas_pre_destroy,
		.destroy = noiommufd_ioas_destroy,
	},
};

static int noiommufd_destroy(struct noiommufd_ucmd *ucmd)
{
	struct iommu_destroy *cmd = ucmd->cmd;

	return noiommufd_object_remove(ucmd->ictx, cmd->id);
}

static int noiommufd_fops_open(struct inode *inode, struct file *filp)
{
	struct noiommufd_ctx *ictx;
	int rc;

	ictx = kzalloc(sizeof(*ictx), GFP_KERNEL_ACCOUNT);
	if (!ictx)
		return -ENOMEM;
	ictx->file = filp;
	xa_init_flags(&ictx->objects, XA_FLAGS_ALLOC1 | XA_FLAGS_ACCOUNT);
	ictx->account_mode = IOPT_PAGES_ACCOUNT_USER;
	filp->private_data = ictx;
	rc = noiommufd_info_add(ictx);
	if (rc)
		kfree(ictx);
	return rc;
}

static int noiommufd_fops_release(struct inode *inode, struct file *filp)
{
	struct noiommufd_ctx *ictx = filp->private_data;
	struct noiommufd_object *obj;
	unsigned long index;
	bool progress;

	noiommufd_info_remove(ictx);
	/*
	 * Bound devices hold the file, so only address spaces and HWPTs are
	 * left. HWPTs go first: each is a user of its address space.
	 */
	do {
		progress = false;
		xa_for_each(&ictx->objects, index, obj)
			if (!noiommufd_object_remove(ictx, index))
				progress = true;
	} while (progress);
	WARN_ON(!xa_empty(&ictx->objects));
	noiommufd_info_put(ictx);
	return 0;
}

static int noiommufd_option_rlimit_mode(struct noiommufd_ctx *ictx,
					struct iommu_option *cmd)
{
	int rc = 0;

	if (cmd->object_id)
		return -EOPNOTSUPP;

	switch (cmd->op) {
	case IOMMU_OPTION_OP_GET:
		cmd->val64 = ictx->account_mode == IOPT_PAGES_ACCOUNT_MM;
		return 0;
	case IOMMU_OPTION_OP_SET:
		if (!capable(CAP_SYS_RESOURCE))
			return -EPERM;
		xa_lock(&ictx->objects);
		if (!xa_empty(&ictx->objects))
			rc = -EBUSY;
		else if (cmd->val64 > 1)
			rc = -EINVAL;
		else
			ictx->account_mode = cmd->val64 ?
						     IOPT_PAGES_ACCOUNT_MM :
						     IOPT_PAGES_ACCOUNT_USER;
		xa_unlock(&ictx->objects);
		return rc;
	default:
		return -EOPNOTSUPP;
	}
}

static int noiommufd_option(struct noiommufd_ucmd *ucmd)
{
	struct iommu_option *cmd = ucmd->cmd;
	int rc;

	if (cmd->__reserved)
		return -EOPNOTSUPP;

	switch (cmd->option_id) {
	case IOMMU_OPTION_RLIMIT_MODE:
		rc = noiommufd_option_rlimit_mode(ucmd->ictx, cmd);
		break;
	case IOMMU_OPTION_HUGE_PAGES:
		rc = noiommufd_ioas_option_huge_pages(ucmd->ictx, cmd);
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (rc)
		return rc;
	return noiommufd_ucmd_respond(ucmd, sizeof(*cmd));
}

static int noiommufd_get_info(struct noiommufd_ucmd *ucmd)
{
	struct noiommufd_get_info *cmd = ucmd->cmd;

	if (cmd->flags)
		return -EOPNOTSUPP;

	cmd->extensions = NOIOMMUFD_EXT_GET_PA_RUNS |
			  NOIOMMUFD_EXT_IOAS_SET_MAX_PA |
			  NOIOMMUFD_EXT_IOAS_BATCH |
			  NOIOMMUFD_EXT_DEVICE_SET_WC;
	if (noiommufd_grant_allowed())
		cmd->extensions |= NOIOMMUFD_EXT_GRANT;
	noiommu_mem_info(cmd);
	return noiommufd_ucmd_respond(ucmd, sizeof(*cmd));
}

union ucmd_buffer {
	struct iommu_destroy destroy;
	struct iommu_fault_alloc fault;
	struct iommu_hw_info info;
	struct iommu_hw_queue_alloc hw_queue;
	struct iommu_hwpt_alloc hwpt;
	struct iommu_hwpt_get_dirty_bitmap get_dirty_bitmap;
	struct iommu_hwpt_invalidate invalidate;
	struct iommu_hwpt_set_dirty_tracking set_dirty_tracking;
	struct iommu_ioas_alloc alloc;
	struct iommu_ioas_allow_iovas allow_iovas;
	struct iommu_ioas_change_process change_process;
	struct iommu_ioas_copy ioas_copy;
	struct iommu_ioas_iova_ranges iova_ranges;
	struct iommu_ioas_map map;
	struct iommu_ioas_map_file map_file;
	struct iommu_ioas_noiommu_get_pa get_pa;
	struct iommu_ioas_unmap unmap;
	struct iommu_option option;
	struct iommu_vdevice_alloc vdevice;
	struct iommu_veventq_alloc veventq;
	struct iommu_vfio_ioas vfio_ioas;
	struct iommu_viommu_alloc viommu;
	struct noiommufd_get_info get_info;
	struct noiommufd_ioas_batch batch;
	struct noiommufd_grant grant;
	struct noiommufd_ioas_get_pa_runs get_pa_runs;
	struct noiommufd_ioas_set_max_pa set_max_pa;
	struct noiommufd_mem_alloc mem_alloc;
};

/**
 * struct noiommufd_ioctl_op - Table entry for an ioctl.
 * @size: size of its struct
 * @min_size: size of the struct when it was introduced, the least accepted
 * @ioctl_num: its number, with type and direction
 * @execute: handler
 */
struct noiommufd_ioctl_op {
	unsigned int size;
	unsigned int min_size;
	unsigned int ioctl_num;
	int (*execute)(struct noiommufd_ucmd *ucmd);
};

#define IOCTL_OP(_ioctl, _fn, _struct, _last)                     \
	[_IOC_NR(_ioctl) - IOMMUFD_CMD_BASE] = {                  \
		.size = sizeof(_struct) +                         \
			BUILD_BUG_ON_ZERO(sizeof(union ucmd_buffer) < \
					  sizeof(_struct)),       \
		.min_size = offsetofend(_struct, _last),          \
		.ioctl_num = _ioctl,                              \
		.execute = _fn,                                   \
	}

static const struct noiommufd_ioctl_op noiommufd_ioctl_ops[] = {
	IOCTL_OP(IOMMU_DESTROY, noiommufd_destroy, struct iommu_destroy, id),
	IOCTL_OP(IOMMU_FAULT_QUEUE_ALLOC, noiommufd_fault_alloc,
		 struct iommu_fault_alloc, out_fault_fd),
	IOCTL_OP(IOMMU_GET_HW_INFO, noiommufd_get_hw_info, struct iommu_hw_info,
		 __reserved),
	IOCTL_OP(IOMMU_HW_QUEUE_ALLOC, noiommufd_hw_queue_alloc_ioctl,
		 struct iommu_hw_queue_alloc, length),
	IOCTL_OP(IOMMU_HWPT_ALLOC, noiommufd_hwpt_alloc,
		 struct iommu_hwpt_alloc, __reserved),
	IOCTL_OP(IOMMU_HWPT_GET_DIRTY_BITMAP, noiommufd_hwpt_get_dirty_bitmap,
		 struct iommu_hwpt_get_dirty_bitmap, data),
	IOCTL_OP(IOMMU_HWPT_INVALIDATE, noiommufd_hwpt_invalidate,
		 struct iommu_hwpt_invalidate, __reserved),
	IOCTL_OP(IOMMU_HWPT_SET_DIRTY_TRACKING,
		 noiommufd_hwpt_set_dirty_tracking,
		 struct iommu_hwpt_set_dirty_tracking, __reserved),
	IOCTL_OP(IOMMU_IOAS_ALLOC, noiommufd_ioas_alloc_ioctl,
		 struct iommu_ioas_alloc, out_ioas_id),
	IOCTL_OP(IOMMU_IOAS_ALLOW_IOVAS, noiommufd_ioas_allow_iovas,
		 struct iommu_ioas_allow_iovas, allowed_iovas),
	IOCTL_OP(IOMMU_IOAS_CHANGE_PROCESS, noiommufd_ioas_change_process,
		 struct iommu_ioas_change_process, __reserved),
	IOCTL_OP(IOMMU_IOAS_COPY, noiommufd_ioas_copy, struct iommu_ioas_copy,
		 src_iova),
	IOCTL_OP(IOMMU_IOAS_IOVA_RANGES, noiommufd_ioas_iova_ranges,
		 struct iommu_ioas_iova_ranges, out_iova_alignment),
	IOCTL_OP(IOMMU_IOAS_MAP, noiommufd_ioas_map, struct iommu_ioas_map,
		 iova),
	IOCTL_OP(IOMMU_IOAS_MAP_FILE, noiommufd_ioas_map_file,
		 struct iommu_ioas_map_file, iova),
	IOCTL_OP(IOMMU_IOAS_NOIOMMU_GET_PA, noiommufd_ioas_noiommu_get_pa,
		 struct iommu_ioas_noiommu_get_pa, out_phys),
	IOCTL_OP(IOMMU_IOAS_UNMAP, noiommufd_ioas_unmap,
		 struct iommu_ioas_unmap, length),
	IOCTL_OP(IOMMU_OPTION, noiommufd_option, struct iommu_option, val64),
	IOCTL_OP(IOMMU_VDEVICE_ALLOC, noiommufd_vdevice_alloc_ioctl,
		 struct iommu_vdevice_alloc, virt_id),
	IOCTL_OP(IOMMU_VEVENTQ_ALLOC, noiommufd_veventq_alloc,
		 struct iommu_veventq_alloc, out_veventq_fd),
	IOCTL_OP(IOMMU_VFIO_IOAS, noiommufd_vfio_ioas, struct iommu_vfio_ioas,
		 __reserved),
	IOCTL_OP(IOMMU_VIOMMU_ALLOC, noiommufd_viommu_alloc_ioctl,
		 struct iommu_viommu_alloc, out_viommu_id),
};

/* Ioctls of our own, which begin at the same number. */
static const struct noiommufd_ioctl_op noiommufd_extension_ops[] = {
	IOCTL_OP(NOIOMMUFD_IOAS_GET_PA_RUNS, noiommufd_ioas_get_pa_runs,
		 struct noiommufd_ioas_get_pa_runs, runs),
	IOCTL_OP(NOIOMMUFD_GET_INFO, noiommufd_get_info,
		 struct noiommufd_get_info, extensions),
	IOCTL_OP(NOIOMMUFD_IOAS_SET_MAX_PA, noiommufd_ioas_set_max_pa,
		 struct noiommufd_ioas_set_max_pa, max_pa),
	IOCTL_OP(NOIOMMUFD_MEM_ALLOC, noiommufd_mem_alloc,
		 struct noiommufd_mem_alloc, out_fd),
	IOCTL_OP(NOIOMMUFD_IOAS_BATCH, noiommufd_ioas_batch,
		 struct noiommufd_ioas_batch, entries),
	IOCTL_OP(NOIOMMUFD_GRANT, noiommufd_grant, struct noiommufd_grant,
		 flags),
	IOCTL_OP(NOIOMMUFD_REVOKE, noiommufd_revoke, struct noiommufd_grant,
		 flags),
};

/* The entry for an ioctl; it may be that of another ioctl. NULL: none. */
static const struct noiommufd_ioctl_op *noiommufd_find_op(unsigned int cmd)
{
	unsigned int nr = _IOC_NR(cmd) - IOMMUFD_CMD_BASE;

	if (_IOC_TYPE(cmd) == NOIOMMUFD_TYPE &&
	    nr < ARRAY_SIZE(noiommufd_extension_ops) &&
	    noiommufd_extension_ops[nr].ioctl_num == cmd)
		return &noiommufd_extension_ops[nr];
	return nr < ARRAY_SIZE(noiommufd_ioctl_ops) ? &noiommufd_ioctl_ops[nr] :
						      NULL;
}

static long noiommufd_fops_ioctl(struct file *filp, unsigned int cmd,
				 unsigned long arg)
{
	const struct noiommufd_ioctl_op *op;
	struct noiommufd_ucmd ucmd = {};
	union ucmd_buffer buf;
	int rc;

	if (cmd == IOMMU_IOAS_NOIOMMU_GET_PA) {
		rc = noiommufd_ioas_get_pa_fast(filp->private_data,
						(void __user *)arg);
		if (rc != -EAGAIN)
			return rc;
	}

	op = noiommufd_find_op(cmd);
	if (!op)
		return noiommufd_vfio_ioctl(filp->private_data, cmd, arg);

	ucmd.ictx = filp->private_data;
	ucmd.ubuffer = (void __user *)arg;
	rc = get_user(ucmd.user_size, (u32 __user *)ucmd.ubuffer);
	if (rc)
		return rc;

	if (op->ioctl_num != cmd)
		return -ENOTTY;
	if (ucmd.user_size < op->min_size)
		return -EINVAL;

	ucmd.cmd = &buf;
	rc = copy_struct_from_user(ucmd.cmd, op->size, ucmd.ubuffer,
				   ucmd.user_size);
	if (rc)
		return rc;
	return op->execute(&ucmd);
}

/* Without an IOMMU there is nothing to map. The errnos are mainline's. */
static int noiommufd_fops_mmap(struct file *filp, struct vm_area_struct *vma)
{
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	return vma->vm_flags & VM_EXEC ? -EPERM : -ENXIO;
}

/* /proc/PID/fdinfo says what the program has mapped, and who pays for it. */
static void noiommufd_fops_show_fdinfo(struct seq_file *m, struct file *filp)
{
	noiommufd_info_show(m, filp->private_data);
}

static const struct file_operations noiommufd_fops = {
	.owner = THIS_MODULE,
	.open = noiommufd_fops_open,
	.release = noiommufd_fops_release,
	.unlocked_ioctl = noiommufd_fops_ioctl,
	.mmap = noiommufd_fops_mmap,
	.show_fdinfo = noiommufd_fops_show_fdinfo,
};

static struct miscdevice noiommufd_misc_dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = NOIOMMUFD_NODE_NAME,
	.fops = &noiommufd_fops,
	.nodename = NOIOMMUFD_NODE_NAME,
	.mode = 0660,
};

const char noiommufd_node_name[] = NOIOMMUFD_NODE_NAME;
EXPORT_SYMBOL_GPL(noiommufd_node_name);

/*
 * Is this the kernel's own iommufd? It can only be recognised by its path, and
 * printing that is safe against a rename.
 */
static bool noiommufd_is_foreign(struct file *file)
{
	char name[sizeof("iommu") + 1];

	snprintf(name, sizeof(name), "%pD", file);
	return !strcmp(name, "iommu");
}

/**
 * noiommufd_ctx_from_fd() - Take a reference to the context of an iommufd.
 * @fd: file descriptor of the current process
 *
 * Return: the context, to be released with noiommufd_ctx_put(); -EBADF: no such
 * file; -EBADFD: the file is not an iommufd of ours.
 */
struct noiommufd_ctx *noiommufd_ctx_from_fd(int fd)
{
	struct file *file = fget(fd);

	if (!file)
		return ERR_PTR(-EBADF);
	if (file->f_op != &noiommufd_fops) {
		if (noiommufd_is_foreign(file))
			pr_notice_ratelimited("%s[%d]: that is the kernel's own iommufd, open /dev/%s instead\n",
					      current->comm,
					      task_pid_nr(current),
					      noiommufd_node_name);
		fput(file);
		return ERR_PTR(-EBADFD);
	}
	return file->private_data;
}
EXPORT_SYMBOL_GPL(noiommufd_ctx_from_fd);

module_param_named(iova_base, noiommu_iova_base, ullong, 0444);
MODULE_PARM_DESC(iova_base, "First IOVA that the kernel chooses; 4096 in Linux 7.3 (default: above all memory)");

static int __init noiommufd_init(void)
{
	int rc;

	rc = swpt_module_init();
	if (rc)
		return rc;
	rc = misc_register(&noiommufd_misc_dev);
	if (rc) {
		pr_err("cannot register /dev/%s: %d\n", noiommufd_node_name,
		       rc);
		swpt_module_exit();
		return rc;
	}
	noiommufd_info_init();
	pr_info("%s: /dev/%s\n", NOIOMMUFD_VERSION, noiommufd_node_name);
	return 0;
}

static void __exit noiommufd_exit(void)
{
	noiommufd_info_exit();
	misc_deregister(&noiommufd_misc_dev);
	swpt_module_exit();
}

module_init(noiommufd_init);
module_exit(noiommufd_exit);

MODULE_DESCRIPTION("iommufd for devices without an IOMMU");
MODULE_AUTHOR("The noiommufd developers");
MODULE_VERSION(NOIOMMUFD_VERSION);
MODULE_LICENSE("GPL");
