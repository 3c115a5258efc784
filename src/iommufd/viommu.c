// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ioctls that need an IOMMU. They return the errno of Linux 7.3 for a
 * noiommu device; nothing is locked, nothing changes.
 */
#include <linux/overflow.h>

#include "iommufd_private.h"

#define IOMMU_INVALIDATE_MAX	BIT(19)
#define IOMMU_VEVENTQ_MAX	BIT(19)

/* The errno for an object that exists but does not support the ioctl. */
static int noiommufd_unsupported(struct noiommufd_ucmd *ucmd, u32 id,
				 enum noiommufd_object_type type)
{
	struct noiommufd_object *obj =
		noiommufd_get_object(ucmd->ictx, id, type);

	if (IS_ERR(obj))
		return PTR_ERR(obj);
	noiommufd_put_object(obj);
	return -EOPNOTSUPP;
}

int noiommufd_get_hw_info(struct noiommufd_ucmd *ucmd)
{
	struct iommu_hw_info *cmd = ucmd->cmd;

	if (cmd->flags & ~IOMMU_HW_INFO_FLAG_INPUT_TYPE ||
	    cmd->__reserved[0] || cmd->__reserved[1] || cmd->__reserved[2])
		return -EOPNOTSUPP;
	return noiommufd_unsupported(ucmd, cmd->dev_id, IOMMUFD_OBJ_DEVICE);
}

int noiommufd_hwpt_set_dirty_tracking(struct noiommufd_ucmd *ucmd)
{
	struct iommu_hwpt_set_dirty_tracking *cmd = ucmd->cmd;

	if (cmd->flags & ~IOMMU_HWPT_DIRTY_TRACKING_ENABLE)
		return -EOPNOTSUPP;
	return noiommufd_unsupported(ucmd, cmd->hwpt_id,
				     IOMMUFD_OBJ_HWPT_PAGING);
}

/* Check the range and the page size of a bitmap. */
static int noiommufd_check_bitmap(struct iommu_hwpt_get_dirty_bitmap *cmd)
{
	u64 last;

	if (check_add_overflow(cmd->iova, cmd->length - 1, &last))
		return -EOVERFLOW;
	if ((cmd->iova | (last + 1)) & (PAGE_SIZE - 1) || !cmd->page_size ||
	    (cmd->iova | (last + 1)) & (cmd->page_size - 1))
		return -EINVAL;
	return 0;
}

int noiommufd_hwpt_get_dirty_bitmap(struct noiommufd_ucmd *ucmd)
{
	struct iommu_hwpt_get_dirty_bitmap *cmd = ucmd->cmd;
	int rc;

	if (cmd->flags & ~IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR ||
	    cmd->__reserved)
		return -EOPNOTSUPP;
	rc = noiommufd_unsupported(ucmd, cmd->hwpt_id, IOMMUFD_OBJ_HWPT_PAGING);
	if (rc != -EOPNOTSUPP)
		return rc;
	return noiommufd_check_bitmap(cmd) ?: -EOPNOTSUPP;
}

int noiommufd_hwpt_invalidate(struct noiommufd_ucmd *ucmd)
{
	struct iommu_hwpt_invalidate *cmd = ucmd->cmd;
	int rc;

	if (cmd->__reserved) {
		rc = -EOPNOTSUPP;
	} else if (cmd->entry_num &&
		   (!cmd->data_uptr || !cmd->entry_len ||
		    cmd->entry_len > PAGE_SIZE ||
		    cmd->entry_num > IOMMU_INVALIDATE_MAX)) {
		rc = -EINVAL;
	} else {
		rc = noiommufd_unsupported(ucmd, cmd->hwpt_id, IOMMUFD_OBJ_ANY);
		/* No object can be invalidated. */
		if (rc == -EOPNOTSUPP)
			rc = -EINVAL;
	}
	/* Reports how many entries were handled, on failure as well. */
	cmd->entry_num = 0;
	return noiommufd_ucmd_respond(ucmd, sizeof(*cmd)) ?: rc;
}

int noiommufd_viommu_alloc_ioctl(struct noiommufd_ucmd *ucmd)
{
	struct iommu_viommu_alloc *cmd = ucmd->cmd;

	if (cmd->flags || !cmd->type)
		return -EOPNOTSUPP;
	return noiommufd_unsupported(ucmd, cmd->dev_id, IOMMUFD_OBJ_DEVICE);
}

int noiommufd_vdevice_alloc_ioctl(struct noiommufd_ucmd *ucmd)
{
	return -ENOENT;
}

int noiommufd_veventq_alloc(struct noiommufd_ucmd *ucmd)
{
	struct iommu_veventq_alloc *cmd = ucmd->cmd;

	if (cmd->flags || cmd->__reserved || !cmd->type)
		return -EOPNOTSUPP;
	if (!cmd->veventq_depth || cmd->veventq_depth > IOMMU_VEVENTQ_MAX)
		return -EINVAL;
	return -ENOENT;
}

int noiommufd_hw_queue_alloc_ioctl(struct noiommufd_ucmd *ucmd)
{
	struct iommu_hw_queue_alloc *cmd = ucmd->cmd;
	u64 last;

	if (cmd->flags || !cmd->type)
		return -EOPNOTSUPP;
	if (!cmd->length)
		return -EINVAL;
	if (check_add_overflow(cmd->nesting_parent_iova, cmd->length - 1,
			       &last))
		return -EOVERFLOW;
	return -ENOENT;
}
