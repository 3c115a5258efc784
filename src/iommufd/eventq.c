// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fault queues. A noiommu device never faults, so a queue is always empty. It
 * can be read, written and polled like an empty one of Linux 7.3. No locking is
 * needed.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/poll.h>

#include "iommufd_private.h"

static ssize_t noiommufd_fault_fops_read(struct file *filp, char __user *buf,
					 size_t count, loff_t *ppos)
{
	return *ppos || count % sizeof(struct iommu_hwpt_pgfault) ? -ESPIPE : 0;
}

static ssize_t noiommufd_fault_fops_write(struct file *filp,
					  const char __user *buf, size_t count,
					  loff_t *ppos)
{
	struct iommu_hwpt_page_response response;

	if (*ppos || count % sizeof(response))
		return -ESPIPE;
	if (!count)
		return 0;
	/* There is no fault that this could answer. */
	return copy_from_user(&response, buf, sizeof(response)) ? -EFAULT :
								  -EINVAL;
}

static __poll_t noiommufd_fault_fops_poll(struct file *filp,
					  struct poll_table_struct *wait)
{
	return EPOLLOUT;
}

static int noiommufd_fault_fops_release(struct inode *inode, struct file *filp)
{
	struct noiommufd_fault *fault = filp->private_data;
	struct noiommufd_ctx *ictx = fault->obj.ictx;

	noiommufd_object_unuse(&fault->obj, false);
	noiommufd_ctx_put(ictx);
	return 0;
}

static const struct file_operations noiommufd_fault_fops = {
	.owner = THIS_MODULE,
	.read = noiommufd_fault_fops_read,
	.write = noiommufd_fault_fops_write,
	.poll = noiommufd_fault_fops_poll,
	.release = noiommufd_fault_fops_release,
};

int noiommufd_fault_alloc(struct noiommufd_ucmd *ucmd)
{
	struct iommu_fault_alloc *cmd = ucmd->cmd;
	struct noiommufd_fault *fault;
	struct file *filp;
	int fd, rc;

	if (cmd->flags)
		return -EOPNOTSUPP;

	fault = noiommufd_object_alloc(ucmd->ictx, fault, IOMMUFD_OBJ_FAULT);
	if (IS_ERR(fault))
		return PTR_ERR(fault);
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		rc = fd;
		goto err_abort;
	}
	cmd->out_fault_id = fault->obj.id;
	cmd->out_fault_fd = fd;
	rc = noiommufd_ucmd_respond(ucmd, sizeof(*cmd));
	if (rc)
		goto err_put_fd;

	filp = anon_inode_getfile("[iommufd-pgfault]", &noiommufd_fault_fops,
				  fault, O_RDWR);
	if (IS_ERR(filp)) {
		rc = PTR_ERR(filp);
		goto err_put_fd;
	}
	/* The file is a user of the queue, and holds the context. */
	get_file(ucmd->ictx->file);
	fault->obj.users = 1;
	refcount_inc(&fault->obj.refs);
	noiommufd_object_finalize(&fault->obj);
	fd_install(fd, filp);
	return 0;

err_put_fd:
	put_unused_fd(fd);
err_abort:
	noiommufd_object_abort(&fault->obj);
	return rc;
}
